# pragma version 0.4.3
# pragma evm-version cancun
"""
@title What a Balancer pool's constructor asks of its vault
"""

@external
def registerPool(specialization: uint8) -> bytes32:
    return convert(msg.sender, bytes32)


@external
def registerTokens(pool: bytes32, tokens: DynArray[address, 20], managers: DynArray[address, 20]):
    pass
