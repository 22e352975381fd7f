# pragma version 0.4.3
# pragma evm-version cancun
"""
@title What a Solidly pool asks of its factory, and swaps through one
"""

interface Token:
    def transfer(receiver: address, amount: uint256) -> bool: nonpayable

interface Pool:
    def initialize(token0: address, token1: address, stable: bool): nonpayable
    def swap(out0: uint256, out1: uint256, receiver: address, data: Bytes[32]): nonpayable
    def sync(): nonpayable
    def mint(receiver: address) -> uint256: nonpayable
    def getReserves() -> (uint256, uint256, uint256): view
    def getAmountOut(amount: uint256, token: address) -> uint256: view

voter: public(address)
fee: uint256


@external
def initialize(pool: address, token0: address, token1: address, stable: bool, unit0: uint256, unit1: uint256):
    """@notice One whole token of each goes in: a pool without providers cannot charge a fee"""
    extcall Pool(pool).initialize(token0, token1, stable)
    extcall Token(token0).transfer(pool, unit0)
    extcall Token(token1).transfer(pool, unit1)
    extcall Pool(pool).mint(self)


@external
def set_fee(fee: uint256):
    self.fee = fee


@view
@external
def getFee(pool: address, stable: bool) -> uint256:
    return self.fee


@view
@external
def isPaused() -> bool:
    return False


@external
def fill(pool: address, token0: address, token1: address, amount0: uint256, amount1: uint256):
    extcall Token(token0).transfer(pool, amount0)
    extcall Token(token1).transfer(pool, amount1)
    extcall Pool(pool).sync()


@external
def swap(pool: address, token: address, zero_for_one: bool, amount: uint256, out: uint256) -> (uint256, uint256):
    """@return The reserves after `amount` of the token has bought `out` of the other"""
    extcall Token(token).transfer(pool, amount)
    if zero_for_one:
        extcall Pool(pool).swap(0, out, self, b"")
    else:
        extcall Pool(pool).swap(out, 0, self, b"")
    reserve0: uint256 = 0
    reserve1: uint256 = 0
    at: uint256 = 0
    reserve0, reserve1, at = staticcall Pool(pool).getReserves()
    return reserve0, reserve1
