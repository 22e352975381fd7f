"""What reorganisations take back: entries are reversed, never changed, and a fate is revised in a row of its own.

An entry's turn says which: 0 booked, 1 the same amounts back, 2 booked again, and so on. All entries of one transaction that have
one turn are written together.
"""

from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection, Row, func, insert, select

from mev.domain import State
from mev.domain.market import Address, Hash
from mev.trading.ledger.records import PUBLIC, REBIDS, REPLACES
from mev.trading.ledger.tables import entries, in_flight, revisions, submissions, transitions


class Booked(msgspec.Struct, frozen=True):
    """A transaction that entries stand for, and the block that it was booked in; an old entry does not know the hash."""

    transaction: Hash
    block_number: int
    block_hash: Hash | None


def read_booked(connection: Connection, chain: str, after_block: int, opening: str) -> list[Booked]:
    """Return what is booked in a chain's blocks after one, and not taken back, oldest first."""
    query = (
        select(entries.c.transaction, entries.c.block_number, entries.c.block_hash, entries.c.turn)
        .where(entries.c.chain == chain, entries.c.block_number > after_block, entries.c.transaction != opening)
        .order_by(entries.c.seq)
    )
    newest = {row.transaction: row for row in connection.execute(query)}
    return [
        Booked(_bytes(name), row.block_number, None if row.block_hash is None else _bytes(row.block_hash))
        for name, row in newest.items()
        if not _is_reversal(row.turn)
    ]


def next_turn(connection: Connection, chain: str, transaction: str) -> int:
    """Return the turn that entries of a transaction are booked in: another one than before only where those were taken back."""
    newest = _newest_turn(connection, chain, transaction)
    return newest + 1 if _is_reversal(newest) else newest


def reverse(connection: Connection, chain: str, transaction: str, at_ns: int) -> bool:
    """Book a transaction's entries the other way round; False where there is nothing to take back."""
    turn = _newest_turn(connection, chain, transaction)
    if _is_reversal(turn):
        return False
    query = (
        select(entries)
        .where(entries.c.chain == chain, entries.c.transaction == transaction, entries.c.turn == turn)
        .order_by(entries.c.seq)
    )
    booked = [row._asdict() for row in connection.execute(query)]
    for row in booked:
        del row["seq"]
        row |= {"credit": row["debit"], "debit": row["credit"], "turn": turn + 1, "at_ns": at_ns}
    if booked:
        connection.execute(insert(entries), booked)
    return bool(booked)


def original(connection: Connection, transaction: str) -> Row[tuple[object, ...]] | None:
    """Return the submission that a transaction is, or takes the place of."""
    row = _sent(connection, transaction)
    if row is not None and row.opportunity.startswith((REPLACES, REBIDS)):
        return _sent(connection, row.opportunity.rpartition(":")[2])
    return row


def revised(connection: Connection, opportunity: str) -> State | None:
    """Return the fate that an opportunity has since a reorganisation; None where there was none."""
    query = select(revisions.c.state).where(revisions.c.opportunity == opportunity).order_by(revisions.c.seq.desc())
    found = connection.execute(query.limit(1)).scalar_one_or_none()
    return None if found is None else State(found)


def revise(connection: Connection, transaction: str, opportunity: str, state: State, reason: str, at_ns: int) -> None:
    """Write another fate of an opportunity, or that it has none again."""
    turns = connection.execute(
        select(func.count()).select_from(revisions).where(revisions.c.transaction == transaction)
    ).scalar_one()
    previous = revised(connection, opportunity) or _first_fate(connection, opportunity)
    connection.execute(
        insert(revisions).values(
            transaction=transaction,
            turn=turns + 1,
            opportunity=opportunity,
            previous=previous,
            state=state,
            reason=reason,
            at_ns=at_ns,
        )
    )


def read_spent_nonce(connection: Connection, chain: str, sender: Address, after_block: int) -> int | None:
    """Return the highest nonce that a sender's booked transactions in blocks after one have used."""
    query = (
        select(func.max(submissions.c.nonce))
        .join(entries, entries.c.transaction == submissions.c.transaction)
        .where(
            entries.c.chain == chain,
            entries.c.block_number > after_block,
            submissions.c.chain == chain,
            submissions.c.sender == "0x" + sender.hex(),
        )
    )
    found: int | None = connection.execute(query).scalar_one()
    return found


def read_given_up(connection: Connection, chain: str, sender: Address, nonces: range) -> list[Row[tuple[object, ...]]]:
    """Return opportunities' submissions that left by another way than the public one, are settled, and whose nonces nothing stands booked for."""
    sent = (submissions.c.chain == chain, submissions.c.sender == "0x" + sender.hex())
    within = (submissions.c.nonce >= nonces.start, submissions.c.nonce < nonces.stop)
    turns = (
        select(submissions.c.nonce, func.max(entries.c.turn).label("turn"))
        .join(entries, entries.c.transaction == submissions.c.transaction)
        .where(*sent, *within)
        .group_by(submissions.c.nonce, submissions.c.transaction)
    )
    booked = {row.nonce for row in connection.execute(turns) if not _is_reversal(row.turn)}
    waiting = select(in_flight.c.nonce).where(in_flight.c.chain == chain, in_flight.c.sender == "0x" + sender.hex())
    taken = booked | set(connection.execute(waiting).scalars())
    query = (
        select(submissions)
        .where(*sent, *within, submissions.c.way != PUBLIC, ~submissions.c.opportunity.startswith("operator:"))
        .order_by(submissions.c.seq)
    )
    return [row for row in connection.execute(query) if row.nonce not in taken]


def _first_fate(connection: Connection, opportunity: str) -> str:
    query = select(transitions.c.state).where(
        transitions.c.opportunity == opportunity, transitions.c.previous == State.SUBMITTED
    )
    state: str = connection.execute(query).scalar_one()
    return state


def _newest_turn(connection: Connection, chain: str, transaction: str) -> int:
    query = select(func.max(entries.c.turn)).where(entries.c.chain == chain, entries.c.transaction == transaction)
    return connection.execute(query).scalar_one() or 0


def _is_reversal(turn: int) -> bool:
    return turn % 2 == 1


def _sent(connection: Connection, transaction: str) -> Row[tuple[object, ...]] | None:
    found: Sequence[Row[tuple[object, ...]]] = connection.execute(
        select(submissions).where(submissions.c.transaction == transaction)
    ).all()
    return found[0] if found else None


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text[2:])
