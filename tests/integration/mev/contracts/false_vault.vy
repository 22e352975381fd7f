# pragma version 0.4.3
# pragma evm-version cancun
"""
@title What calls itself a Balancer vault and misbehaves as told
@dev Gives all that it holds of the token that is asked for. HONEST takes what it is to take, LESS one base unit less, NOTHING nothing, until somebody
     calls `take` later; MORE tries to take one unit more.
"""

from ethereum.ercs import IERC20

struct SingleSwap:
    pool_id: bytes32
    kind: uint8
    asset_in: address
    asset_out: address
    amount: uint256
    user_data: Bytes[1]

struct Funds:
    sender: address
    from_internal_balance: bool
    recipient: address
    to_internal_balance: bool

HONEST: constant(uint256) = 0
LESS: constant(uint256) = 1
NOTHING: constant(uint256) = 2
MORE: constant(uint256) = 3

behaviour: public(uint256)


@external
def behave(behaviour: uint256):
    self.behaviour = behaviour


@external
def take(token: address, holder: address, amount: uint256):
    assert extcall IERC20(token).transferFrom(holder, self, amount)


@external
def swap(single: SingleSwap, funds: Funds, limit: uint256, deadline: uint256) -> uint256:
    amount: uint256 = single.amount
    if self.behaviour == LESS:
        amount -= 1
    if self.behaviour == MORE:
        amount += 1
    if self.behaviour != NOTHING:
        assert extcall IERC20(single.asset_in).transferFrom(funds.sender, self, amount)
    given: uint256 = staticcall IERC20(single.asset_out).balanceOf(self)
    assert extcall IERC20(single.asset_out).transfer(funds.recipient, given)
    return given
