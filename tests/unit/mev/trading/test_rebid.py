"""What was sent to the executor of a release before is left as it is: its calls are not this contract's, and it is nowhere else."""

import asyncio

import pytest
from mev.domain import Block
from mev.trading.execution import contract
from mev.trading.execution.transaction import Signer, Transaction
from mev.trading.ledger import Submission
from mev.trading.rebid import Rebidder

HEAD = Block(7, b"\x07" * 32, b"\x06" * 32, 84, 10**9)
EXECUTOR = b"\x0e" * 20


class Unasked:
    """A simulator that nobody may ask."""

    async def simulate(self, *_: object) -> None:
        raise AssertionError("it is simulated")


@pytest.mark.parametrize("data", [b"\x01\x02\x03\x04" + bytes(128), contract.EXECUTE + bytes(128), b""])
def test_a_call_of_another_executor_is_left_as_it_is(data: bytes) -> None:
    signer = Signer(b"\x17" * 32)
    signed = signer.sign(
        Transaction(
            chain_id=1,
            nonce=3,
            max_priority_fee_wei=1,
            max_fee_wei=10**9,
            gas_limit=500_000,
            to=b"\x0d" * 20,
            value_wei=0,
            data=data,
        )
    )
    sent = Submission(
        opportunity="a",
        chain="ethereum",
        sender=signer.address,
        nonce=3,
        deadline_block=9,
        max_priority_fee_wei=1,
        max_fee_wei=10**9,
        hash=signed.hash,
        raw=signed.raw,
    )
    rebidder = Rebidder(
        Unasked(),  # type: ignore[arg-type]
        EXECUTOR,
        cap_wei=10**12,
        min_profit_wei=0,
        may_raise=lambda: True,
    )
    assert asyncio.run(rebidder.decide(sent, sent, HEAD)) is None
