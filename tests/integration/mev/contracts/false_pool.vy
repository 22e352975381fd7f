# pragma version 0.4.3
# pragma evm-version cancun
"""
@title What calls itself a V3 pool and misbehaves as told
@dev HONEST gives what it holds of the other token and asks for its input once. TWICE asks again, MORE and LESS ask for one base unit too many or
     too few, ACCOMPLICE has another contract ask, FREE gives and asks for nothing, until somebody calls `ask` later. GREEDY asks and gives nothing.
"""

from ethereum.ercs import IERC20

interface Payer:
    def uniswapV3SwapCallback(amount0: int256, amount1: int256, data: Bytes[1]): nonpayable

interface Other:
    def ask(payer: address, amount0: int256, amount1: int256): nonpayable

HONEST: constant(uint256) = 0
TWICE: constant(uint256) = 1
MORE: constant(uint256) = 2
LESS: constant(uint256) = 3
ACCOMPLICE: constant(uint256) = 4
FREE: constant(uint256) = 5
GREEDY: constant(uint256) = 6

token0: public(address)
token1: public(address)
behaviour: uint256
accomplice: address


@external
def set(token0: address, token1: address, behaviour: uint256, accomplice: address):
    self.token0 = token0
    self.token1 = token1
    self.behaviour = behaviour
    self.accomplice = accomplice


@external
def ask(payer: address, amount0: int256, amount1: int256):
    extcall Payer(payer).uniswapV3SwapCallback(amount0, amount1, b"")


@external
def swap(recipient: address, zero_for_one: bool, amount: int256, limit: uint160, data: Bytes[32]) -> (int256, int256):
    token: address = self.token1 if zero_for_one else self.token0
    given: uint256 = staticcall IERC20(token).balanceOf(self)
    if self.behaviour != GREEDY:
        assert extcall IERC20(token).transfer(recipient, given)
    asked: int256 = amount
    if self.behaviour == MORE:
        asked += 1
    if self.behaviour == LESS:
        asked -= 1
    amount0: int256 = asked if zero_for_one else -convert(given, int256)
    amount1: int256 = -convert(given, int256) if zero_for_one else asked
    if self.behaviour == ACCOMPLICE:
        extcall Other(self.accomplice).ask(msg.sender, amount0, amount1)
    elif self.behaviour != FREE:
        extcall Payer(msg.sender).uniswapV3SwapCallback(amount0, amount1, b"")
    if self.behaviour == TWICE:
        extcall Payer(msg.sender).uniswapV3SwapCallback(amount0, amount1, b"")
    return amount0, amount1
