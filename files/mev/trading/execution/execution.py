"""One chain's way out: a transaction is written, then sent, then followed until its fate is known."""

import time
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import structlog

from mev.chain import wire
from mev.chain.agreement import Everywhere
from mev.chain.rpc import DisputedError, EndPoint, Rpc, RpcError, RpcUnavailableError
from mev.domain import Block, State
from mev.domain.market import Address
from mev.trading.execution import receipt as receipts
from mev.trading.execution.accounts import Accounts
from mev.trading.execution.fees import Fees, raised
from mev.trading.execution.receipt import Receipt
from mev.trading.execution.transaction import Signer, Transaction
from mev.trading.execution.undone import BLOCKS_LOOKED_AT, undone
from mev.trading.ledger import Ledger, NonceTakenError, Submission, is_operators, is_rebid
from mev.trading.risk import Reason

# Blocks after the deadline in which a node may still be slow to show a receipt.
GRACE_BLOCKS = 2
# Eight bumps are two and a half times the first offer: a node that takes none of them wants something else than fees.
MOST_REPLACEMENTS = 8
# So many blocks before its deadline a trade that waits is bid up, once a block.
REBID_BLOCKS = 2
# Where a chain has several nodes, who takes longer to say what it knows of a transaction is not heard.
FOLLOW_SECONDS = 2.0
# A transfer to oneself; rollups count the parent chain's data as gas, and what is not used is not paid.
CANCEL_GAS = 100_000

log = structlog.get_logger(__name__)


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """What a transaction does, and until which block it may."""

    to: Address
    data: bytes
    value_wei: int = 0
    gas_limit: int
    deadline_block: int


class Settled(msgspec.Struct, frozen=True):
    """A submission whose fate is known; `receipt` is that of the transaction which took the nonce, if one of ours did."""

    submission: Submission
    state: State
    reason: str
    receipt: Receipt | None


class Raise(msgspec.Struct, frozen=True):
    """The same trade is sent again with the same nonce, for higher fees."""

    call: Call
    fees: Fees


class Withdraw(msgspec.Struct, frozen=True):
    """The trade is not worth its fees any more: its nonce is taken by a transaction that does nothing."""


Decision = Raise | Withdraw
# Asked about an opportunity's submission, what was sent for it last, and the head that missed it; None leaves it be.
Decide = Callable[[Submission, Submission, Block], Awaitable[Decision | None]]


class _Seen(msgspec.Struct, frozen=True):
    """What a node knows of a submission: its nonce is used, a receipt for each that was sent for it, and whether it has the newest of these."""

    used: bool
    shown: tuple[bool, ...]
    known: bool


class Execution:
    """Signs, writes, sends and settles the transactions of one signer on one chain.

    What is sent is in the ledger first, to the byte. After a crash each such intent is resolved against the chain: a receipt ends it;
    what the node knows is followed; what it does not know is sent again, the same bytes, while that still makes sense, and after
    that its nonce is taken by a transaction that does nothing. No two transactions share a nonce but on purpose, and then the
    ledger says which replaces which; a nonce that was ever sent is free again only when the chain has used it.
    """

    def __init__(
        self,
        chain_id: int,
        rpc: Rpc,
        signer: Signer,
        ledger: Ledger,
        accounts: Accounts,
        *,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._chain_id = chain_id
        self._rpc = rpc
        self._signer = signer
        self._ledger = ledger
        self.accounts = accounts
        self._now_ns = now_ns

    async def submit(self, opportunity: str, call: Call, fees: Fees) -> Submission | None:
        """Sign, write, then send; None where the node refused, which is then written as dropped.

        Raises NonceTakenError, with nothing sent, where another transaction's fate must be known first. A node that
        does not answer leaves the submission in flight.
        """
        nonce = await self._next_nonce(call.deadline_block)
        submission = self._sign(opportunity, nonce, call, fees.max_priority_fee_wei, fees.max_fee_wei)
        self._ledger.submit(submission)
        if await self._send(submission):
            return submission
        self._ledger.settle(submission, State.DROPPED, Reason.NODE_REFUSED)
        return None

    async def settle(
        self, head: Block, cap_wei: int, *, operators_only: bool = False, decide: Decide | None = None
    ) -> list[Settled]:
        """Find out, after a block, what became of everything in flight; costs no request when nothing is.

        A transaction that is in no block after its deadline is replaced by one that does nothing, for `cap_wei` a unit of
        gas at most, so that it can neither block the nonces after it nor come true later. Before that, `decide` is asked
        about each trade that blocks have missed.
        """
        followed = [
            await self.follow(submission, head, cap_wei, decide=decide)
            for submission in self._ledger.in_flight(self.accounts.chain)
            if is_operators(submission.opportunity) or not operators_only
        ]
        return [settled for settled in followed if settled is not None]

    async def take_back(self) -> list[Submission]:
        """Reverse what is booked and not in its block any more; each is in flight again, to be settled as any other.

        Raises what the transport raises; what was taken back by then stands.
        """
        again = []
        for transaction in await undone(self._rpc, self.accounts.chain, self._ledger):
            try:
                submission = self._ledger.take_back(self.accounts.chain, transaction, Reason.REORGANISED)
            except NonceTakenError as taken:
                # It is looked at again when the other one has its fate.
                log.warning(
                    "not taken back", chain=self.accounts.chain, transaction=wire.encode(transaction), why=str(taken)
                )
                continue
            if submission is not None:
                log.warning("taken back", **_named(submission), booked=wire.encode(transaction))
                again.append(submission)
        return again

    async def follow(
        self, submission: Submission, head: Block, cap_wei: int, *, decide: Decide | None = None
    ) -> Settled | None:
        """Settle one submission, if its fate is known; None while it is not."""
        fate = await self._fate(submission, head, cap_wei, decide)
        if fate is None:
            return None
        booked = []
        if fate.receipt:
            operators = is_operators(submission.opportunity)
            booked = receipts.entries(
                fate.receipt, self.accounts, submission.opportunity, self._now_ns(), operators=operators
            )
        self._ledger.settle(submission, fate.state, fate.reason, booked)
        return fate

    async def _fate(self, submission: Submission, head: Block, cap_wei: int, decide: Decide | None) -> Settled | None:
        replacements = self._ledger.replacements(submission)
        sent = (submission, *replacements)
        newest = sent[-1]
        # One node may have kept to itself what it was given, or keep a receipt back: each is asked.
        nodes = await self._seen(submission, sent)
        for number, candidate in enumerate(sent):
            if nodes.most(lambda seen, number=number: seen.shown[number]):  # type: ignore[misc]
                receipt = await self._receipt(candidate)
                return None if receipt is None else _by_receipt(submission, candidate, receipt)
        late = head.number > submission.deadline_block + GRACE_BLOCKS
        if nodes.most(lambda seen: seen.used and not any(seen.shown)):
            # Ours may have it, and its receipt be slow to show.
            lost = late and await self._lost(submission, replacements)
            return Settled(submission, State.EXPIRED, Reason.NONCE_USED, None) if lost else None
        trades = newest is submission or is_rebid(newest)
        taken = False
        if not trades or head.number < submission.deadline_block:
            # Not all: whoever has it need not get it again.
            given = [await self._send_again(newest, node) for node, seen in nodes.said if not seen.known]
            taken = any(given) and not nodes.most(lambda seen: seen.known)
        if not nodes.most(lambda seen: not seen.used and not any(seen.shown)):
            log.info(
                "not settled yet",
                **_named(submission),
                why="some nodes say that its nonce is used, and some that it is not",
            )
            return None
        cancels = sum(not is_rebid(each) for each in replacements)
        if head.number > submission.deadline_block + GRACE_BLOCKS * (cancels + 1):
            await self._cancel(submission, replacements, head, cap_wei)
        # One block may have been on its way when it was sent, and the next one has to be early enough.
        due = submission.deadline_block - REBID_BLOCKS <= head.number < submission.deadline_block
        # What the node has just taken again has its chance first; what it refuses offers too little, as a rule.
        if decide is not None and due and not taken and trades and not is_operators(submission.opportunity):
            await self._decide(submission, replacements, head, cap_wei, decide)
        return None

    async def _seen(self, submission: Submission, sent: Sequence[Submission]) -> Everywhere[_Seen]:
        # The nonce is read first: used but without a receipt of ours, another transaction took it.
        asked: list[tuple[str, tuple[object, ...]]] = [
            ("eth_getTransactionCount", (wire.encode(submission.sender), "latest"))
        ]
        asked += [("eth_getTransactionReceipt", (wire.encode(each.hash),)) for each in sent]
        asked += [("eth_getTransactionByHash", (wire.encode(sent[-1].hash),))]

        def read(answers: Sequence[object]) -> _Seen:
            for answer in answers:
                if isinstance(answer, RpcError):
                    raise answer
            count, *shown, newest = answers
            return _Seen(
                used=wire.quantity(count) > submission.nonce,
                shown=tuple(each is not None for each in shown),
                known=newest is not None,
            )

        return await self._rpc.everywhere(asked, read, timeout_seconds=FOLLOW_SECONDS)

    async def _receipt(self, submission: Submission) -> Receipt | None:
        """Return the receipt that more than half of the connected nodes show; None where that is none."""

        def read(answers: Sequence[object]) -> Receipt | None:
            (answer,) = answers
            return None if answer is None or isinstance(answer, RpcError) else receipts.parse(answer)

        asked = [("eth_getTransactionReceipt", (wire.encode(submission.hash),))]
        try:
            return await self._rpc.agreed(asked, read, receipts.contradict)
        except DisputedError as disputed:
            log.warning("not settled yet", **_named(submission), why=str(disputed))
            return None

    async def _lost(self, submission: Submission, replacements: Sequence[Submission]) -> bool:
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
            log.warning("not settled yet", **_named(submission), why=str(disputed))
            return False

    async def _decide(
        self, submission: Submission, replacements: Sequence[Submission], head: Block, cap_wei: int, decide: Decide
    ) -> None:
        newest = replacements[-1] if replacements else submission
        match await decide(submission, newest, head):
            case Withdraw():
                await self._cancel(submission, replacements, head, cap_wei)
            case Raise(call, fees):
                tip_wei, max_fee_wei = fees.max_priority_fee_wei, fees.max_fee_wei
                rebid = self._sign(submission.opportunity, submission.nonce, call, tip_wei, max_fee_wei)
                self._ledger.replace(submission, rebid, rebid=True)
                log.info("raised", **_named(rebid, submission), max_fee_wei=str(max_fee_wei), tip_wei=str(tip_wei))
                await self._send(rebid)

    async def _next_nonce(self, deadline_block: int) -> int:
        """The lowest nonce that neither the node nor the ledger knows a transaction for.

        Raises NonceTakenError where it was used by a booked transaction already: a reorganisation that was not looked at yet took
        that one, or the node is behind.
        """
        sender = self._signer.address
        nodes = await self._rpc.everywhere(
            [("eth_getTransactionCount", (wire.encode(sender), "pending"))],
            lambda answers: wire.quantity(_answer(answers)),
            timeout_seconds=FOLLOW_SECONDS,
        )
        # What more than half of them have reached: one that knows of transactions that nobody has would leave a gap which is never filled.
        counts = sorted((count for _, count in nodes.said), reverse=True)
        nonce = counts[len(counts) // 2]
        # The node may not have what was written before a crash, or what went to a private relay.
        taken = {each.nonce for each in self._ledger.in_flight(self.accounts.chain) if each.sender == sender}
        while nonce in taken:
            nonce += 1
        spent = self._ledger.spent_nonce(self.accounts.chain, sender, deadline_block - BLOCKS_LOOKED_AT)
        if spent is not None and nonce <= spent:
            raise NonceTakenError(
                f"{self.accounts.chain}: nonce {nonce} of {wire.encode(sender)} is booked as used, and the node calls it free"
            )
        return nonce

    async def _send_again(self, submission: Submission, node: EndPoint) -> bool:
        """Give a node what it does not know; whether it takes it, or does not say."""
        log.info("sent again", **_named(submission), nonce=submission.nonce, node=node.node)
        try:
            await self._rpc.tell(node, "eth_sendRawTransaction", [wire.encode(submission.raw)])
        except RpcError as refusal:
            log.warning("refused", **_named(submission), node=node.node, why=str(refusal))
            return any(known for _, known in (await self._known(submission)).said)
        except RpcUnavailableError as silence:
            log.warning("unanswered", **_named(submission), why=str(silence))
        return True

    async def _known(self, submission: Submission) -> Everywhere[bool]:
        return await self._rpc.everywhere(
            [("eth_getTransactionByHash", (wire.encode(submission.hash),))],
            lambda answers: _answer(answers) is not None,
            timeout_seconds=FOLLOW_SECONDS,
        )

    async def _cancel(
        self, submission: Submission, replacements: Sequence[Submission], head: Block, cap_wei: int
    ) -> None:
        newest = replacements[-1] if replacements else submission
        more = raised(newest.max_priority_fee_wei, newest.max_fee_wei, head.base_fee_wei, cap_wei)
        tip_wei, max_fee_wei = more.max_priority_fee_wei, more.max_fee_wei
        if max_fee_wei > cap_wei or len(replacements) >= MOST_REPLACEMENTS:
            log.warning("stuck", **_named(newest, submission), needs_wei=str(max_fee_wei))
            return
        nothing = Call(to=submission.sender, data=b"", gas_limit=CANCEL_GAS, deadline_block=submission.deadline_block)
        replacement = self._sign(submission.opportunity, submission.nonce, nothing, tip_wei, max_fee_wei)
        self._ledger.replace(submission, replacement)
        await self._send(replacement)

    def _sign(
        self, opportunity: str, nonce: int, call: Call, max_priority_fee_wei: int, max_fee_wei: int
    ) -> Submission:
        signed = self._signer.sign(
            Transaction(
                chain_id=self._chain_id,
                nonce=nonce,
                max_priority_fee_wei=max_priority_fee_wei,
                max_fee_wei=max_fee_wei,
                gas_limit=call.gas_limit,
                to=call.to,
                value_wei=call.value_wei,
                data=call.data,
            )
        )
        return Submission(
            opportunity=opportunity,
            chain=self.accounts.chain,
            sender=self._signer.address,
            nonce=nonce,
            deadline_block=call.deadline_block,
            max_priority_fee_wei=max_priority_fee_wei,
            max_fee_wei=max_fee_wei,
            hash=signed.hash,
            raw=signed.raw,
        )

    async def _send(self, submission: Submission) -> bool:
        """Return False only where the node refused the transaction, and every one, asked again and given it too, neither knows nor takes it."""
        try:
            await self._rpc.call("eth_sendRawTransaction", [wire.encode(submission.raw)])
        except RpcError as refusal:
            log.warning("refused", **_named(submission), why=str(refusal))
            nodes = await self._known(submission)
            if any(known for _, known in nodes.said) or not self._rpc.several:
                return any(known for _, known in nodes.said)
            # One node's refusal may be its own, or a lie about what it has passed on.
            return any([await self._send_again(submission, node) for node, _ in nodes.said])
        except RpcUnavailableError as silence:
            log.warning("unanswered", **_named(submission), why=str(silence))
        return True


def _answer(answers: Sequence[object]) -> object:
    (answer,) = answers
    if isinstance(answer, RpcError):
        raise answer
    return answer


def _named(submission: Submission, original: Submission | None = None) -> dict[str, str]:
    """What its log lines are found by: a replacement is known by the opportunity of what it replaces."""
    return {
        "chain": submission.chain,
        "opportunity": (original or submission).opportunity,
        "transaction": wire.encode(submission.hash),
    }


def _by_receipt(submission: Submission, candidate: Submission, receipt: Receipt) -> Settled:
    if candidate.hash != submission.hash and not is_rebid(candidate):
        return Settled(submission, State.EXPIRED, Reason.CANCELLED, receipt)
    if receipt.succeeded:
        return Settled(submission, State.INCLUDED, "", receipt)
    return Settled(submission, State.REVERTED, Reason.REVERTED, receipt)
