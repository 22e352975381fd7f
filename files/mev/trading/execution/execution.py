"""One chain's way out: a transaction is written, then sent, then followed until its fate is known."""

import time
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import structlog

from mev.chain import wire
from mev.chain.rpc import EndPoint, Rpc, RpcError, RpcUnavailableError
from mev.domain import Block, State
from mev.domain.market import Address, Hash
from mev.runtime.config_submitters import SubmitterKind
from mev.trading.execution import receipt as receipts
from mev.trading.execution.accounts import Accounts
from mev.trading.execution.fees import Fees, raised
from mev.trading.execution.receipt import Receipt
from mev.trading.execution.signers import SignerError, Signs
from mev.trading.execution.submitters import Handed
from mev.trading.execution.transaction import Transaction
from mev.trading.execution.undone import BLOCKS_LOOKED_AT, undone
from mev.trading.execution.ways import Outcome, Way
from mev.trading.execution.witnesses import FOLLOW_SECONDS, Witnesses, answer_of, named
from mev.trading.ledger import PUBLIC, Ledger, NonceTakenError, Submission, is_operators, is_rebid
from mev.trading.risk import Reason

# Blocks after the deadline in which a node may still be slow to show a receipt.
GRACE_BLOCKS = 2
# Eight bumps are two and a half times the first offer: a node that takes none of them wants something else than fees.
MOST_REPLACEMENTS = 8
# So many blocks before its deadline a trade that waits is bid up, once a block.
REBID_BLOCKS = 2
# A transfer to oneself; rollups count the parent chain's data as gas, and what is not used is not paid.
CANCEL_GAS = 100_000
# What was given up is looked for among so many nonces that were used last.
NONCES_LOOKED_AT = 64
# Who has seen it may have kept it: it has expired, and is looked for; nobody else can ever bring what was not sent.
REFUSALS = {
    Outcome.REFUSED: (State.EXPIRED, Reason.SUBMITTER_REFUSED),
    Outcome.NOT_SENT: (State.DROPPED, Reason.SUBMITTER_UNAVAILABLE),
}

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


class Execution:
    """Signs, writes, sends and settles the transactions of one signer on one chain.

    What is sent is in the ledger first, to the byte. After a crash each such intent is resolved against the chain: a receipt ends it;
    what the node knows is followed; what it does not know is sent again, the same bytes, while that still makes sense, and after
    that its nonce is taken by a transaction that does nothing. No two transactions share a nonce but on purpose, and then the
    ledger says which replaces which; a nonce that was ever sent is free again only when the chain has used it.

    With a `way` trades leave by it and by nothing else, an operator's acts by the chain's nodes all the same. A bundle can only be in the
    block that it was made for: once that one has passed without it, its nonce is free, and what would take its place does not exist.
    """

    def __init__(
        self,
        chain_id: int,
        rpc: Rpc,
        signer: Signs,
        ledger: Ledger,
        accounts: Accounts,
        *,
        way: Way | None = None,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._chain_id = chain_id
        self._rpc = rpc
        self._witnesses = Witnesses(rpc)
        self._signer = signer
        self._ledger = ledger
        self.accounts = accounts
        self._way = way
        self._now_ns = now_ns
        # What this process knows that a private submitter has; after a crash it is handed over again.
        self._handed: set[Hash] = set()
        self._looked_at: int | None = None

    @property
    def one_block(self) -> bool:
        """Whether a trade is for the next block and no other."""
        return self._way is not None and self._way.kind is SubmitterKind.BUNDLES

    async def submit(self, opportunity: str, call: Call, fees: Fees) -> Submission | None:
        """Sign, write, then send; None where the node refused, which is then written as dropped, or no private submitter took it.

        Raises NonceTakenError, with nothing sent, where another transaction's fate must be known first, and SignerError, with nothing
        written. A node that does not answer leaves the submission in flight.
        """
        nonce = await self._next_nonce(call.deadline_block)
        way = PUBLIC if self._way is None or is_operators(opportunity) else self._way.kind
        submission = await self._sign(opportunity, nonce, call, fees.max_priority_fee_wei, fees.max_fee_wei, way)
        self._ledger.submit(submission)
        refused = await self._send(submission)
        if refused is None:
            return submission
        self._ledger.settle(submission, *refused)
        return None

    async def settle(
        self, head: Block, cap_wei: int, *, operators_only: bool = False, decide: Decide | None = None
    ) -> list[Settled]:
        """Find out, after a block, what became of everything in flight; costs no request when nothing is.

        A transaction that is in no block after its deadline is replaced by one that does nothing, for `cap_wei` a unit of
        gas at most, so that it can neither block the nonces after it nor come true later. Before that, `decide` is asked
        about each trade that blocks have missed.
        """
        if self._way is not None:
            await self._find_given_up()
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
        await self._find_given_up()
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
                log.warning("taken back", **named(submission), booked=wire.encode(transaction))
                again.append(submission)
        return again

    async def follow(
        self, submission: Submission, head: Block, cap_wei: int, *, decide: Decide | None = None
    ) -> Settled | None:
        """Settle one submission, if its fate is known; None while it is not."""
        try:
            fate = await self._fate(submission, head, cap_wei, decide)
        except SignerError as unsigned:
            # What bids for it or takes its nonce is tried again after the next block.
            log.warning("not signed", **named(submission), why=str(unsigned))
            return None
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
        nodes = await self._witnesses.seen(submission, sent)
        for number, candidate in enumerate(sent):
            if nodes.most(lambda seen, number=number: seen.shown[number]):  # type: ignore[misc]
                receipt = await self._witnesses.receipt(candidate)
                return None if receipt is None else _by_receipt(submission, candidate, receipt)
        late = head.number > submission.deadline_block + GRACE_BLOCKS
        if nodes.most(lambda seen: seen.used and not any(seen.shown)):
            # Ours may have it, and its receipt be slow to show.
            lost = late and await self._witnesses.lost(submission, replacements)
            return Settled(submission, State.EXPIRED, Reason.NONCE_USED, None) if lost else None
        # Not on one node's word: what took the nonce instead would cost gas.
        pooled = nodes.most(lambda seen: seen.known)
        if submission.way == SubmitterKind.BUNDLES and newest is submission and not pooled:
            return await self._of_bundle(submission, head)
        # A bundle that a node's pool has is everybody's: a reorganisation brought it there, or who should have kept it.
        trades = newest is submission or is_rebid(newest)
        taken = False
        if newest.way != PUBLIC:
            if (
                newest.hash not in self._handed
                and not pooled
                and (not trades or head.number < submission.deadline_block)
            ):
                taken = await self._hand(newest) is None
        elif not trades or head.number < submission.deadline_block:
            # Not all: whoever has it need not get it again.
            given = [await self._send_again(newest, node) for node, seen in nodes.said if not seen.known]
            taken = any(given) and not nodes.most(lambda seen: seen.known)
        if not nodes.most(lambda seen: not seen.used and not any(seen.shown)):
            log.info(
                "not settled yet",
                **named(submission),
                why="some nodes say that its nonce is used, and some that it is not",
            )
            return None
        cancels = sum(not is_rebid(each) for each in replacements)
        if head.number > submission.deadline_block + GRACE_BLOCKS * (cancels + 1):
            await self._cancel(submission, replacements, head, cap_wei)
        # One block may have been on its way when it was sent, and the next one has to be early enough.
        due = submission.deadline_block - REBID_BLOCKS <= head.number < submission.deadline_block
        due = due and submission.way == (PUBLIC if self._way is None else self._way.kind) and not self.one_block
        # What the node has just taken again has its chance first; what it refuses offers too little, as a rule.
        if decide is not None and due and not taken and trades and not is_operators(submission.opportunity):
            await self._decide(submission, replacements, head, cap_wei, decide)
        return None

    async def _of_bundle(self, submission: Submission, head: Block) -> Settled | None:
        if head.number < submission.deadline_block:
            # Written and not handed over, or not known to have been: a crash came between.
            if submission.hash not in self._handed:
                await self._hand(submission)
            return None
        if not await self._witnesses.passed(submission):
            return None
        self._handed.discard(submission.hash)
        return Settled(submission, State.EXPIRED, Reason.BUNDLE_MISSED, None)

    async def _find_given_up(self) -> None:
        """Put in flight again what has expired and may be on the chain all the same: its nonce is used, and by nothing that is booked.

        A builder can keep a bundle, and a reorganisation can bring another block of its number.
        """
        sender = self.accounts.signer
        used = wire.quantity(await self._rpc.call("eth_getTransactionCount", [wire.encode(sender), "latest"]))
        if used == self._looked_at:
            return
        nonces = range(max(used - NONCES_LOOKED_AT, 0), used)
        found = self._ledger.given_up(self.accounts.chain, sender, nonces)
        # What is in flight for one of these nonces hides what was given up for it until that one has its fate.
        left = bool(found) or any(each.nonce < used for each in self._ledger.in_flight(self.accounts.chain))
        for each in found:
            if await self._witnesses.receipt(each) is None:
                continue
            try:
                self._ledger.reopen(each, Reason.MINED_AFTER_ALL)
            except NonceTakenError as taken:
                log.warning("not reopened yet", **named(each), why=str(taken))
            else:
                log.warning("on the chain after all", **named(each))
        if not left:
            self._looked_at = used

    async def _decide(
        self, submission: Submission, replacements: Sequence[Submission], head: Block, cap_wei: int, decide: Decide
    ) -> None:
        newest = replacements[-1] if replacements else submission
        match await decide(submission, newest, head):
            case Withdraw():
                await self._cancel(submission, replacements, head, cap_wei)
            case Raise(call, fees):
                tip_wei, max_fee_wei = fees.max_priority_fee_wei, fees.max_fee_wei
                rebid = await self._sign(
                    submission.opportunity, submission.nonce, call, tip_wei, max_fee_wei, submission.way
                )
                self._ledger.replace(submission, rebid, rebid=True)
                log.info("raised", **named(rebid, submission), max_fee_wei=str(max_fee_wei), tip_wei=str(tip_wei))
                await self._send(rebid)

    async def _next_nonce(self, deadline_block: int) -> int:
        """The lowest nonce that neither the node nor the ledger knows a transaction for.

        Raises NonceTakenError where it was used by a booked transaction already: a reorganisation that was not looked at yet took
        that one, or the node is behind.
        """
        sender = self._signer.address
        nodes = await self._rpc.everywhere(
            [("eth_getTransactionCount", (wire.encode(sender), "pending"))],
            lambda answers: wire.quantity(answer_of(answers)),
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
        log.info("sent again", **named(submission), nonce=submission.nonce, node=node.node)
        try:
            await self._rpc.tell(node, "eth_sendRawTransaction", [wire.encode(submission.raw)])
        except RpcError as refusal:
            log.warning("refused", **named(submission), node=node.node, why=str(refusal))
            return any(known for _, known in (await self._witnesses.known(submission)).said)
        except RpcUnavailableError as silence:
            log.warning("unanswered", **named(submission), why=str(silence))
        return True

    async def _cancel(
        self, submission: Submission, replacements: Sequence[Submission], head: Block, cap_wei: int
    ) -> None:
        newest = replacements[-1] if replacements else submission
        more = raised(newest.max_priority_fee_wei, newest.max_fee_wei, head.base_fee_wei, cap_wei)
        tip_wei, max_fee_wei = more.max_priority_fee_wei, more.max_fee_wei
        if max_fee_wei > cap_wei or len(replacements) >= MOST_REPLACEMENTS:
            log.warning("stuck", **named(newest, submission), needs_wei=str(max_fee_wei))
            return
        nothing = Call(to=submission.sender, data=b"", gas_limit=CANCEL_GAS, deadline_block=submission.deadline_block)
        # To the nodes, whichever way the trade went: it says nothing of it, and no private submitter that is gone can keep the nonce from coming free.
        replacement = await self._sign(submission.opportunity, submission.nonce, nothing, tip_wei, max_fee_wei)
        self._ledger.replace(submission, replacement)
        await self._send(replacement)

    async def _sign(
        self,
        opportunity: str,
        nonce: int,
        call: Call,
        max_priority_fee_wei: int,
        max_fee_wei: int,
        way: str = PUBLIC,
    ) -> Submission:
        signed = await self._signer.signed(
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
            way=way,
        )

    async def _send(self, submission: Submission) -> tuple[State, Reason] | None:
        """Send it by its way and no other, and return its end where it has one already."""
        if submission.way != PUBLIC:
            return await self._hand(submission)
        return None if await self._send_publicly(submission) else (State.DROPPED, Reason.NODE_REFUSED)

    async def _hand(self, submission: Submission) -> tuple[State, Reason] | None:
        if self._way is None or submission.way != self._way.kind:
            log.warning("not sent: its way is not configured any more", **named(submission), way=submission.way)
            return None
        handed = Handed(raw=submission.raw, hash=submission.hash, last_block=submission.deadline_block)
        outcome = await self._way.hand(handed)
        if outcome is Outcome.ACCEPTED:
            self._handed.add(submission.hash)
        return REFUSALS.get(outcome)

    async def _send_publicly(self, submission: Submission) -> bool:
        """Return False only where the node refused the transaction, and every one, asked again and given it too, neither knows nor takes it."""
        try:
            await self._rpc.call("eth_sendRawTransaction", [wire.encode(submission.raw)])
        except RpcError as refusal:
            log.warning("refused", **named(submission), why=str(refusal))
            nodes = await self._witnesses.known(submission)
            if any(known for _, known in nodes.said) or not self._rpc.several:
                return any(known for _, known in nodes.said)
            # One node's refusal may be its own, or a lie about what it has passed on.
            return any([await self._send_again(submission, node) for node, _ in nodes.said])
        except RpcUnavailableError as silence:
            log.warning("unanswered", **named(submission), why=str(silence))
        return True


def _by_receipt(submission: Submission, candidate: Submission, receipt: Receipt) -> Settled:
    if candidate.hash != submission.hash and not is_rebid(candidate):
        return Settled(submission, State.EXPIRED, Reason.CANCELLED, receipt)
    if receipt.succeeded:
        return Settled(submission, State.INCLUDED, "", receipt)
    return Settled(submission, State.REVERTED, Reason.REVERTED, receipt)
