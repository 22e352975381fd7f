# pragma version 0.4.3
# pragma evm-version cancun
"""
@title What calls itself a Curve pool and misbehaves as told
@dev Gives all that it holds of its second coin. HONEST takes what it is to take, LESS one base unit less, NOTHING nothing, until somebody calls `take` later; MORE
     tries to take one unit more; KEEPS takes and gives nothing. THIEF calls the executor with `payload` meanwhile, and tells how that ended.
"""

from ethereum.ercs import IERC20

HONEST: constant(uint256) = 0
LESS: constant(uint256) = 1
NOTHING: constant(uint256) = 2
MORE: constant(uint256) = 3
KEEPS: constant(uint256) = 4
THIEF: constant(uint256) = 5

coins: public(address[2])
behaviour: public(uint256)
attempts: public(uint256)
successes: public(uint256)
payload: Bytes[2048]


@deploy
def __init__(coin_in: address, coin_out: address):
    self.coins = [coin_in, coin_out]


@external
def behave(behaviour: uint256, payload: Bytes[2048]):
    self.behaviour = behaviour
    self.payload = payload


@external
def take(token: address, holder: address, amount: uint256):
    assert extcall IERC20(token).transferFrom(holder, self, amount)


@external
def exchange(i: int128, j: int128, dx: uint256, min_dy: uint256) -> uint256:
    amount: uint256 = dx
    if self.behaviour == LESS:
        amount -= 1
    if self.behaviour == MORE:
        amount += 1
    if self.behaviour == THIEF:
        self.attempts += 1
        if raw_call(msg.sender, self.payload, revert_on_failure=False):
            self.successes += 1
    if self.behaviour != NOTHING:
        assert extcall IERC20(self.coins[i]).transferFrom(msg.sender, self, amount)
    if self.behaviour == KEEPS:
        return 10**30
    given: uint256 = staticcall IERC20(self.coins[j]).balanceOf(self)
    assert extcall IERC20(self.coins[j]).transfer(msg.sender, given)
    return given
