"""Reads and writes of the ledger; each public method is one database transaction."""

import time
from collections.abc import Callable, Iterable

import msgspec
from sqlalchemy import Connection, Row, delete, func, insert, select
from sqlalchemy.exc import IntegrityError

from mev.domain import LEGAL_NEXT, Account, Entry, Opportunity, State
from mev.domain.market import Address, Hash
from mev.runtime.storage import Database, Location, upsert
from mev.trading.ledger.records import (
    IllegalTransitionError,
    NonceTakenError,
    Standpoint,
    Stepped,
    Submission,
    is_operators,
    replaces,
)
from mev.trading.ledger.reorganised import (
    Booked,
    next_turn,
    original,
    read_booked,
    read_given_up,
    read_spent_nonce,
    reverse,
    revise,
    revised,
)
from mev.trading.ledger.tables import (
    SCHEMA,
    chains,
    entries,
    estimates,
    in_flight,
    opportunities,
    submissions,
    transitions,
)
from mev.trading.ledger.today import Today, read_borrowers, read_failures, read_pools, read_today

NATIVE: Address = bytes(20)
OPENING: Hash = bytes(32)
RECOVERY_ROWS = 100_000


def read_ledger(location: Location) -> Database:
    """Open the ledger as a reader: its engine makes it, and may write meanwhile.

    Raises NoDatabaseError where there is none of this version yet, StorageError where it cannot be read.
    """
    database = Database(location, read_only=True)
    try:
        database.prepare(SCHEMA)
    except BaseException:
        database.close()
        raise
    return database


class Ledger:
    """The one writer of opportunities, transitions, submissions and entries."""

    def __init__(
        self,
        database: Database,
        now_ns: Callable[[], int] = time.time_ns,
        *,
        stepped: Callable[[Stepped], None] = lambda _: None,
    ) -> None:
        """`stepped` is told of each step of an opportunity's life once it is written."""
        database.prepare(SCHEMA)
        self._database = database
        self._now_ns = now_ns
        self._stepped = stepped
        # The chain and strategy of opportunities that are not at their end.
        self._open: dict[str, tuple[str, str]] = {}

    def detect(self, opportunity: Opportunity) -> bool:
        """Write a new opportunity as detected; False, and nothing written, where it is known already."""
        row = {
            "id": opportunity.id,
            "chain": opportunity.chain,
            "strategy": opportunity.strategy,
            "token": _hex(opportunity.cycle.token),
            "hops": msgspec.json.encode(_steps(opportunity)).decode(),
            "block_number": opportunity.block_number,
            "block_hash": _hex(opportunity.block_hash),
            "amount_in": str(opportunity.amount_in),
            "expected_out": str(opportunity.expected_out),
            "held": msgspec.json.encode([[_hex(token), str(amount)] for token, amount in opportunity.held]).decode(),
        }
        with self._database.begin() as connection:
            write = upsert(connection, opportunities).values(row).on_conflict_do_nothing()
            if connection.execute(write.returning(opportunities.c.seq)).scalar_one_or_none() is None:
                return False
            connection.execute(
                insert(transitions).values(opportunity=opportunity.id, state=State.DETECTED, at_ns=self._now_ns())
            )
        self._open[opportunity.id] = (opportunity.chain, opportunity.strategy)
        self._tell(opportunity.id, State.DETECTED)
        return True

    def move(self, opportunity: str, state: State, reason: str = "") -> None:
        """Take the next step of an opportunity's life; raises IllegalTransitionError where it is none."""
        with self._database.begin() as connection:
            self._step(connection, opportunity, state, reason)
        self._tell(opportunity, state, reason)

    def simulated(self, opportunity: str, profit: int, gas: int, gas_price_wei: int) -> None:
        """Write what the simulation returned: profit before gas in base units, gas in units at a price in wei."""
        with self._database.begin() as connection:
            connection.execute(
                insert(estimates).values(
                    opportunity=opportunity, profit=str(profit), gas=gas, gas_price_wei=str(gas_price_wei)
                )
            )
            self._step(connection, opportunity, State.SIMULATED, "")
        self._tell(opportunity, State.SIMULATED)

    def submit(self, submission: Submission) -> None:
        """Write what is about to be sent; nothing may be sent that is not written.

        Raises NonceTakenError where the nonce is in flight already, so that two processes never spend one nonce.
        """
        with self._database.begin() as connection:
            if not is_operators(submission.opportunity):
                self._step(connection, submission.opportunity, State.SUBMITTED, "")
            self._write(connection, submission)
            self._take_nonce(connection, submission)
        if not is_operators(submission.opportunity):
            self._tell(submission.opportunity, State.SUBMITTED)

    def replace(self, original: Submission, replacement: Submission, *, rebid: bool = False) -> None:
        """Write what is about to be sent in place of a submission, with its nonce; the original stays in flight.

        A `rebid` does the same for a higher fee, anything else nothing at all.
        """
        if (original.chain, original.sender, original.nonce) != (
            replacement.chain,
            replacement.sender,
            replacement.nonce,
        ):
            raise ValueError(f"0x{replacement.hash.hex()} replaces another nonce than 0x{original.hash.hex()}")
        with self._database.begin() as connection:
            nothing, same = replaces(_hex(original.hash))
            self._write(connection, msgspec.structs.replace(replacement, opportunity=same if rebid else nothing))

    def replacements(self, original: Submission) -> list[Submission]:
        """Everything that was sent in place of a submission, oldest first."""
        query = (
            select(submissions)
            .where(submissions.c.opportunity.in_(replaces(_hex(original.hash))))
            .order_by(submissions.c.seq)
        )
        with self._database.begin() as connection:
            return [_submission(row) for row in connection.execute(query)]

    def settle(self, submission: Submission, state: State, reason: str = "", booked: Iterable[Entry] = ()) -> None:
        """Write a submission's fate and what it moved, and free its nonce.

        Where a reorganisation took an earlier fate back, this one revises it.
        """
        with self._database.begin() as connection:
            if not is_operators(submission.opportunity):
                if revised(connection, submission.opportunity) is State.SUBMITTED:
                    name = _hex(submission.hash)
                    revise(connection, name, submission.opportunity, state, reason, self._now_ns())
                else:
                    self._step(connection, submission.opportunity, state, reason)
            self._book(connection, booked)
            connection.execute(delete(in_flight).where(in_flight.c.transaction == _hex(submission.hash)))
        if not is_operators(submission.opportunity):
            self._tell(submission.opportunity, state, reason)

    def take_back(self, chain: str, transaction: Hash, reason: str) -> Submission | None:
        """Reverse what is booked for a transaction whose block a reorganisation took: its submission is in flight again.

        Returns that submission; None where the books do not have the transaction, or have it reversed. Raises NonceTakenError,
        with nothing written, where its nonce is in flight for another one.
        """
        with self._database.begin() as connection:
            row = original(connection, _hex(transaction))
            if row is None or not reverse(connection, chain, _hex(transaction), self._now_ns()):
                return None
            submission = _submission(row)
            if not is_operators(submission.opportunity):
                name = _hex(submission.hash)
                revise(connection, name, submission.opportunity, State.SUBMITTED, reason, self._now_ns())
            self._take_nonce(connection, submission)
        if not is_operators(submission.opportunity):
            self._tell(submission.opportunity, State.SUBMITTED, reason)
        return submission

    def given_up(self, chain: str, sender: Address, nonces: range) -> list[Submission]:
        """Return what left by no public way, has expired, and used one of these nonces if anything of ours did, oldest first."""
        with self._database.begin() as connection:
            return [
                _submission(row)
                for row in read_given_up(connection, chain, sender, nonces)
                if (revised(connection, row.opportunity) or _state(connection, row.opportunity)) is State.EXPIRED
            ]

    def reopen(self, submission: Submission, reason: str) -> None:
        """Put an expired submission in flight again, which is on the chain all the same.

        Raises NonceTakenError, with nothing written, where its nonce is in flight for another one.
        """
        with self._database.begin() as connection:
            name = _hex(submission.hash)
            revise(connection, name, submission.opportunity, State.SUBMITTED, reason, self._now_ns())
            self._take_nonce(connection, submission)
        self._tell(submission.opportunity, State.SUBMITTED, reason)

    def book(self, booked: Iterable[Entry]) -> None:
        """Write entries that belong to no submission of ours, as an opening balance."""
        with self._database.begin() as connection:
            self._book(connection, booked)

    def in_flight(self, chain: str) -> list[Submission]:
        """Every submission of a chain whose fate is not known, oldest first."""
        query = (
            select(submissions)
            .join(in_flight, in_flight.c.transaction == submissions.c.transaction)
            .where(in_flight.c.chain == chain)
            .order_by(submissions.c.seq)
        )
        with self._database.begin() as connection:
            return [_submission(row) for row in connection.execute(query)]

    def pools_in_flight(self, chain: str) -> frozenset[Address]:
        """Every contract on the way of a trade whose fate is not known; an operator's act has none."""
        with self._database.begin() as connection:
            return read_pools(connection, chain)

    def borrowers_in_flight(self, chain: str) -> frozenset[tuple[Address, Address]]:
        """Whose debt in which lending pool a liquidation pays whose fate is not known, as (pool, borrower)."""
        with self._database.begin() as connection:
            return read_borrowers(connection, chain)

    def state(self, opportunity: str) -> State | None:
        """Where an opportunity stands; None where it is not known."""
        with self._database.begin() as connection:
            return revised(connection, opportunity) or _state(connection, opportunity)

    def unfinished(self, chain: str) -> list[str]:
        """Opportunities of a chain that are neither final nor submitted: what a crash or an error interrupted.

        Looks at the newest RECOVERY_ROWS steps only: each block's opportunities are decided before the next block's.
        """
        newest = select(func.max(transitions.c.seq)).scalar_subquery()
        after = transitions.alias()
        query = (
            select(transitions.c.opportunity)
            .join(opportunities, opportunities.c.id == transitions.c.opportunity)
            .outerjoin(
                after,
                (after.c.opportunity == transitions.c.opportunity) & (after.c.previous == transitions.c.state),
            )
            .where(
                transitions.c.seq > newest - RECOVERY_ROWS,
                opportunities.c.chain == chain,
                transitions.c.state.in_([State.DETECTED, State.SCREENED, State.SIMULATED, State.APPROVED]),
                after.c.seq.is_(None),
            )
        )
        with self._database.begin() as connection:
            return list(connection.execute(query).scalars())

    def balance(self, chain: str, account: Account, token: Address) -> int:
        """What the entries say that an account holds of a token (the native coin is zero), base units."""
        query = select(entries.c.amount, entries.c.debit).where(
            entries.c.chain == chain,
            entries.c.token == _hex(token),
            (entries.c.debit == account) | (entries.c.credit == account),
        )
        with self._database.begin() as connection:
            return sum(
                int(row.amount) if row.debit == account else -int(row.amount) for row in connection.execute(query)
            )

    def booked_after(self, chain: str, block_number: int) -> list[Booked]:
        """Return what is booked in a chain's blocks after `block_number`, and not taken back, oldest first."""
        with self._database.begin() as connection:
            return read_booked(connection, chain, block_number, _hex(OPENING))

    def spent_nonce(self, chain: str, sender: Address, block_number: int) -> int | None:
        """Return the highest nonce that booked transactions of a sender in blocks after `block_number` have used."""
        with self._database.begin() as connection:
            return read_spent_nonce(connection, chain, sender, block_number)

    def opened(self, chain: str) -> set[tuple[Account, Address]]:
        """Of which accounts and tokens of a chain the opening balance is booked."""
        query = select(entries.c.debit, entries.c.token).where(
            entries.c.chain == chain, entries.c.transaction == _hex(OPENING)
        )
        with self._database.begin() as connection:
            return {(Account(row.debit), _bytes(row.token)) for row in connection.execute(query)}

    def today(self, chain: str, since_ns: int) -> Today:
        """What was used up and earned on a chain since a time, wei of its native coin (wrapped counts one to one)."""
        with self._database.begin() as connection:
            return read_today(connection, chain, since_ns)

    def failing_since(self, chain: str, count: int) -> int | None:
        """When the last of `count` failures in a row was, ns: reverted or expired; None where there were not so many."""
        with self._database.begin() as connection:
            return read_failures(connection, chain, count)

    def stand(self, standpoint: Standpoint) -> None:
        """Write how far the engine is on a chain, over what it was."""
        row = {**msgspec.structs.asdict(standpoint), "at_ns": self._now_ns()}
        with self._database.begin() as connection:
            connection.execute(
                upsert(connection, chains).values(row).on_conflict_do_update(index_elements=[chains.c.chain], set_=row)
            )

    def standpoints(self) -> dict[str, Standpoint]:
        """Return how far the engine is, by chain."""
        with self._database.begin() as connection:
            rows = connection.execute(select(chains)).all()
        return {row.chain: Standpoint(**row._asdict()) for row in rows}

    def _step(self, connection: Connection, opportunity: str, state: State, reason: str) -> None:
        previous = _state(connection, opportunity)
        if previous is None or state not in LEGAL_NEXT[previous]:
            raise IllegalTransitionError(
                f"opportunity {opportunity} is {previous or 'unknown'}: it cannot become {state}"
            )
        connection.execute(
            insert(transitions).values(
                opportunity=opportunity, previous=previous, state=state, reason=reason, at_ns=self._now_ns()
            )
        )

    def _tell(self, opportunity: str, state: State, reason: str = "") -> None:
        known = self._open.get(opportunity)
        if known is None:
            # Detected before this process began.
            query = select(opportunities.c.chain, opportunities.c.strategy).where(opportunities.c.id == opportunity)
            with self._database.begin() as connection:
                row = connection.execute(query).one()
            known = self._open[opportunity] = (row.chain, row.strategy)
        if not LEGAL_NEXT[state]:
            del self._open[opportunity]
        self._stepped(Stepped(*known, state, str(reason), opportunity))

    def _take_nonce(self, connection: Connection, submission: Submission) -> None:
        try:
            connection.execute(
                insert(in_flight).values(
                    chain=submission.chain,
                    sender=_hex(submission.sender),
                    nonce=submission.nonce,
                    transaction=_hex(submission.hash),
                )
            )
        except IntegrityError:
            raise NonceTakenError(
                f"{submission.chain}: nonce {submission.nonce} of 0x{submission.sender.hex()} is in flight"
            ) from None

    def _write(self, connection: Connection, submission: Submission) -> None:
        connection.execute(
            insert(submissions).values(
                transaction=_hex(submission.hash),
                opportunity=submission.opportunity,
                chain=submission.chain,
                sender=_hex(submission.sender),
                nonce=submission.nonce,
                deadline_block=submission.deadline_block,
                max_priority_fee_wei=str(submission.max_priority_fee_wei),
                max_fee_wei=str(submission.max_fee_wei),
                raw=_hex(submission.raw),
                at_ns=self._now_ns(),
                way=submission.way,
            )
        )

    def _book(self, connection: Connection, booked: Iterable[Entry]) -> None:
        turns: dict[tuple[str, str], int] = {}
        for entry in booked:
            of = entry.chain, _hex(entry.transaction)
            if of not in turns:
                turns[of] = next_turn(connection, *of)
            connection.execute(
                upsert(connection, entries)
                .values(
                    chain=entry.chain,
                    opportunity=entry.opportunity,
                    kind=entry.kind,
                    token=_hex(entry.token),
                    amount=str(entry.amount),
                    credit=entry.credit,
                    debit=entry.debit,
                    transaction=_hex(entry.transaction),
                    block_number=entry.block_number,
                    at_ns=entry.at_ns,
                    block_hash=None if entry.block_hash is None else _hex(entry.block_hash),
                    turn=turns[of],
                )
                .on_conflict_do_nothing()
            )


def _state(connection: Connection, opportunity: str) -> State | None:
    # The last step is the newest row: steps are only ever appended, each to the one before.
    query = (
        select(transitions.c.state)
        .where(transitions.c.opportunity == opportunity)
        .order_by(transitions.c.seq.desc())
        .limit(1)
    )
    found = connection.execute(query).scalar_one_or_none()
    return None if found is None else State(found)


def _submission(row: Row[tuple[object, ...]]) -> Submission:
    return Submission(
        opportunity=row.opportunity,
        chain=row.chain,
        sender=_bytes(row.sender),
        nonce=row.nonce,
        deadline_block=row.deadline_block,
        max_priority_fee_wei=int(row.max_priority_fee_wei),
        max_fee_wei=int(row.max_fee_wei),
        hash=_bytes(row.transaction),
        raw=_bytes(row.raw),
        way=row.way,
    )


def _hex(content: bytes) -> str:
    return "0x" + content.hex()


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text[2:])


def _steps(opportunity: Opportunity) -> list[tuple[str | bool, ...]]:
    steps: list[tuple[str | bool, ...]] = [(_hex(hop.pool), hop.zero_for_one) for hop in opportunity.cycle.hops]
    seizure, flash = opportunity.seizure, opportunity.flash
    if seizure is not None:
        steps.insert(seizure.after, (_hex(seizure.pool), _hex(seizure.borrower)))
    if flash is not None and flash.lent:
        # Both its tokens are one: it has no direction.
        steps.insert(0, (_hex(flash.pool), False))
    if flash is not None:
        steps[0] = (*steps[0], "flash")
    return steps
