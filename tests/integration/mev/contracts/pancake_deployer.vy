# pragma version 0.4.3
# pragma evm-version cancun
"""
@title What makes PancakeSwap V3's pools for their factory: the published package has its interface and not its code
"""

struct Parameters:
    factory: address
    token0: address
    token1: address
    fee: uint24
    spacing: int24

parameters: public(Parameters)
blueprint: immutable(address)


@deploy
def __init__(blueprint_: address):
    blueprint = blueprint_


@external
def deploy(factory: address, token0: address, token1: address, fee: uint24, spacing: int24) -> address:
    self.parameters = Parameters(factory=factory, token0=token0, token1=token1, fee=fee, spacing=spacing)
    return create_from_blueprint(blueprint)
