# pragma version 0.4.3
# pragma evm-version cancun
"""
@title A price feed whose answer is set: what an Aave oracle asks an asset's price of
@dev With `broken` it reverts.
"""

event AnswerUpdated:
    current: indexed(int256)
    round_id: indexed(uint256)
    updated_at: uint256

answer: int256
broken: bool


@deploy
def __init__(answer_: int256):
    self.answer = answer_


@external
def set(answer_: int256):
    self.answer = answer_
    log AnswerUpdated(current=answer_, round_id=0, updated_at=block.timestamp)


@external
def break_off():
    self.broken = True


@external
@view
def latestAnswer() -> int256:
    assert not self.broken, "no answer"
    return self.answer
