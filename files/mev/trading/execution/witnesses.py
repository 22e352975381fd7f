"""What a chain's connected nodes say became of a transaction: each by itself, or more than half of them."""

from collections.abc import Sequence

import msgspec
import structlog

from mev.chain import wire
from mev.chain.agreement import Everywhere
from mev.chain.rpc import DisputedError, Rpc, RpcError
from mev.trading.execution import receipt as receipts
from mev.trading.execution.receipt import Receipt
from mev.trading.ledger import Submission

# Where a chain has several nodes, who takes longer to say what it knows of a transaction is not heard.
FOLLOW_SECONDS = 2.0

log = structlog.get_logger(__name__)


class Seen(msgspec.Struct, frozen=True):
    """What a node knows of a submission: its nonce is used, a receipt for each that was sent for it, and whether it has the newest of these."""

    used: bool
    shown: tuple[bool, ...]
    known: bool


class Witnesses:
    """One chain's nodes; what they do not agree on is not settled yet."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc

    async def seen(self, submission: Submission, sent: Sequence[Submission]) -> Everywhere[Seen]:
        """Return what each node knows of a submission and of all that was sent for it."""
        # The nonce is read first: used but without a receipt of ours, another transaction took it.
        asked: list[tuple[str, tuple[object, ...]]] = [
            ("eth_getTransactionCount", (wire.encode(submission.sender), "latest"))
        ]
        asked += [("eth_getTransactionReceipt", (wire.encode(each.hash),)) for each in sent]
        asked += [("eth_getTransactionByHash", (wire.encode(sent[-1].hash),))]

        def read(answers: Sequence[object]) -> Seen:
            for answer in answers:
                if isinstance(answer, RpcError):
                    raise answer
            count, *shown, newest = answers
            return Seen(
                used=wire.quantity(count) > submission.nonce,
                shown=tuple(each is not None for each in shown),
                known=newest is not None,
            )

        return await self._rpc.everywhere(asked, read, timeout_seconds=FOLLOW_SECONDS)

    async def receipt(self, submission: Submission) -> Receipt | None:
        """Return the receipt that more than half of the connected nodes show; None where that is none."""

        def read(answers: Sequence[object]) -> Receipt | None:
            (answer,) = answers
            return None if answer is None or isinstance(answer, RpcError) else receipts.parse(answer)

        asked = [("eth_getTransactionReceipt", (wire.encode(submission.hash),))]
        try:
            return await self._rpc.agreed(asked, read, receipts.contradict)
        except DisputedError as disputed:
            log.warning("not settled yet", **named(submission), why=str(disputed))
            return None

    async def lost(self, submission: Submission, replacements: Sequence[Submission]) -> bool:
        """Whether more than half of the connected nodes say that its nonce is used, and by none of ours."""
        asked: list[tuple[str, tuple[object, ...]]] = [
            ("eth_getTransactionCount", (wire.encode(submission.sender), "latest"))
        ]
        asked += [("eth_getTransactionReceipt", (wire.encode(each.hash),)) for each in (submission, *replacements)]

        def read(answers: Sequence[object]) -> bool:
            count, *shown = answers
            return wire.quantity(count) > submission.nonce and all(answer is None for answer in shown)

        # Who is a block behind may say otherwise and be honest.
        try:
            return await self._rpc.agreed(asked, read, lambda _one, _other: False)
        except DisputedError as disputed:
            log.warning("not settled yet", **named(submission), why=str(disputed))
            return False

    async def passed(self, submission: Submission) -> bool:
        """Whether more than half of the connected nodes have the block of a submission's deadline, and its nonce unused."""
        asked: list[tuple[str, tuple[object, ...]]] = [
            ("eth_blockNumber", ()),
            ("eth_getTransactionCount", (wire.encode(submission.sender), "latest")),
            ("eth_getTransactionReceipt", (wire.encode(submission.hash),)),
        ]

        def read(answers: Sequence[object]) -> bool:
            number, count, receipt = answers
            return (
                wire.quantity(number) >= submission.deadline_block
                and wire.quantity(count) <= submission.nonce
                and receipt is None
            )

        try:
            return await self._rpc.agreed(asked, read, lambda _one, _other: False)
        except DisputedError as disputed:
            log.warning("not settled yet", **named(submission), why=str(disputed))
            return False

    async def known(self, submission: Submission) -> Everywhere[bool]:
        """Return which node has a submission, in a block or in its pool."""
        return await self._rpc.everywhere(
            [("eth_getTransactionByHash", (wire.encode(submission.hash),))],
            lambda answers: answer_of(answers) is not None,
            timeout_seconds=FOLLOW_SECONDS,
        )


def answer_of(answers: Sequence[object]) -> object:
    """Return the only answer; raises RpcError where it is a refusal."""
    (answer,) = answers
    if isinstance(answer, RpcError):
        raise answer
    return answer


def named(submission: Submission, original: Submission | None = None) -> dict[str, str]:
    """What its log lines are found by: a replacement is known by the opportunity of what it replaces."""
    return {
        "chain": submission.chain,
        "opportunity": (original or submission).opportunity,
        "transaction": wire.encode(submission.hash),
    }
