# pragma version 0.4.3
# pragma evm-version cancun
"""
@title What calls itself a lending pool and misbehaves as told
@dev HONEST takes the debt and gives what it holds of the collateral. LESS takes one base unit less, GREEDY gives nothing, FREE takes nothing and gives. THIEF
     calls the liquidator with `payload`, counts whether that succeeded, and goes on as HONEST. Whoever asks it to `take` gets it to try later.
"""

from ethereum.ercs import IERC20

HONEST: constant(uint256) = 0
LESS: constant(uint256) = 1
GREEDY: constant(uint256) = 2
FREE: constant(uint256) = 3
THIEF: constant(uint256) = 4

behaviour: uint256
payload: Bytes[2048]
attempts: public(uint256)
successes: public(uint256)


@external
def behave(behaviour_: uint256, payload_: Bytes[2048]):
    self.behaviour = behaviour_
    self.payload = payload_


@external
def take(token: address, holder: address, amount: uint256):
    assert extcall IERC20(token).transferFrom(holder, self, amount)


@external
def liquidationCall(
    collateral: address, debt: address, borrower: address, debt_to_cover: uint256, receive_a_token: bool
):
    if self.behaviour == THIEF:
        self.attempts += 1
        if raw_call(msg.sender, self.payload, revert_on_failure=False):
            self.successes += 1
    amount: uint256 = debt_to_cover
    if self.behaviour == LESS:
        amount -= 1
    if self.behaviour != FREE:
        assert extcall IERC20(debt).transferFrom(msg.sender, self, amount)
    if self.behaviour != GREEDY:
        assert extcall IERC20(collateral).transfer(msg.sender, staticcall IERC20(collateral).balanceOf(self))
