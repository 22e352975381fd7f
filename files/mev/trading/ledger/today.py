"""What was used up since a time, on one chain: what risk holds its daily limits against."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence

import msgspec
from sqlalchemy import Connection, Row, select

from mev.domain import EARNINGS, FEES, State, gained
from mev.domain.market import Address
from mev.trading.ledger.records import MISSED, REBIDS
from mev.trading.ledger.tables import entries, estimates, in_flight, opportunities, revisions, submissions, transitions

FATES = (State.INCLUDED, State.REVERTED, State.EXPIRED)


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What one token or one strategy has used up; earned_wei is negative after losses, at_risk_wei what gas may still cost of what has no fate."""

    trades: int = 0
    amount_in_wei: int = 0
    earned_wei: int = 0
    at_risk_wei: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            trades=self.trades + other.trades,
            amount_in_wei=self.amount_in_wei + other.amount_in_wei,
            earned_wei=self.earned_wei + other.earned_wei,
            at_risk_wei=self.at_risk_wei + other.at_risk_wei,
        )


class Today(msgspec.Struct, frozen=True, kw_only=True):
    """A chain's trading since a time; `paths` is by the pools that opportunities went through, whatever their order.

    A bundle that its block passed by is no trade: it is in `missed` alone, and its amount in nothing. `waiting` are trades without a fate,
    whenever they were sent: each may still revert, and their gas cost `at_risk_wei`.
    """

    earned_wei: int = 0
    fees_wei: int = 0
    reverts: int = 0
    missed: int = 0
    waiting: int = 0
    at_risk_wei: int = 0
    paths: Mapping[frozenset[Address], Usage] = {}
    strategies: Mapping[str, Usage] = {}


def read_today(connection: Connection, chain: str, since_ns: int) -> Today:
    """Add up what was submitted, what reverted, what was earned and paid, and what may still be lost."""
    missed = _missed(connection, chain, since_ns)
    submitted = select(opportunities).join(transitions, transitions.c.opportunity == opportunities.c.id)
    sent = connection.execute(
        submitted.add_columns(transitions.c.state).where(
            opportunities.c.chain == chain,
            transitions.c.at_ns >= since_ns,
            transitions.c.state.in_([State.SUBMITTED, State.REVERTED]),
        )
    ).all()
    revised = connection.execute(
        select(revisions.c.previous, revisions.c.state)
        .join(opportunities, opportunities.c.id == revisions.c.opportunity)
        .where(opportunities.c.chain == chain, revisions.c.at_ns >= since_ns)
    ).all()
    booked = connection.execute(
        select(entries, opportunities.c.strategy, opportunities.c.hops)
        .outerjoin(opportunities, opportunities.c.id == entries.c.opportunity)
        .where(entries.c.chain == chain, entries.c.at_ns >= since_ns, entries.c.kind.in_(sorted(EARNINGS)))
    ).all()
    paths: defaultdict[frozenset[Address], Usage] = defaultdict(Usage)
    strategies: defaultdict[str, Usage] = defaultdict(Usage)
    reverts = earned = fees = 0
    for row in sent:
        if row.state == State.REVERTED:
            reverts += 1
            continue
        if row.id in missed:
            continue
        use = Usage(trades=1, amount_in_wei=int(row.amount_in))
        paths[pools_of(row.hops)] += use
        strategies[row.strategy] += use
    for row in revised:
        reverts += (row.state == State.REVERTED) - (row.previous == State.REVERTED)
    for row in booked:
        amount = gained(int(row.amount), row.credit, row.debit)
        earned += amount
        fees -= amount if row.kind in FEES else 0
        if row.strategy is not None:
            paths[pools_of(row.hops)] += Usage(earned_wei=amount)
            strategies[row.strategy] += Usage(earned_wei=amount)
    waiting = _without_fate(connection, chain)
    at_risk = 0
    for row in waiting:
        gas_wei = (row.gas or 0) * max([int(row.gas_price_wei or 0), *_bids(connection, row.transaction)])
        at_risk += gas_wei
        paths[pools_of(row.hops)] += Usage(at_risk_wei=gas_wei)
        strategies[row.strategy] += Usage(at_risk_wei=gas_wei)
    return Today(
        earned_wei=earned,
        fees_wei=fees,
        reverts=max(reverts, 0),
        missed=len(missed),
        waiting=len(waiting),
        at_risk_wei=at_risk,
        paths=dict(paths),
        strategies=dict(strategies),
    )


def read_borrowers(connection: Connection, chain: str) -> frozenset[tuple[Address, Address]]:
    """Whose debt, and in which lending pool, the liquidations without a fate pay: (pool, borrower)."""
    hops = (hop for row in _without_fate(connection, chain) for hop in json.loads(row.hops))
    # A swap has its direction in the borrower's place.
    return frozenset((_bytes(pool), _bytes(second)) for pool, second, *_ in hops if isinstance(second, str))


def read_pools(connection: Connection, chain: str) -> frozenset[Address]:
    """Every contract on the way of trades without a fate."""
    return frozenset(pool for row in _without_fate(connection, chain) for pool in pools_of(row.hops))


def pools_of(hops: str) -> frozenset[Address]:
    """Every contract on the way that `opportunities.hops` says."""
    return frozenset(_bytes(pool) for pool, *_ in json.loads(hops))


def read_failures(connection: Connection, chain: str, count: int) -> int | None:
    """Return when the newest of `count` fates in a row was no inclusion, ns; None where one of them was, or there are fewer.

    Each counts as it was settled first, whatever a reorganisation made of it later; a bundle that was not taken is neither.
    """
    query = (
        select(transitions.c.state, transitions.c.at_ns)
        .join(opportunities, opportunities.c.id == transitions.c.opportunity)
        .where(
            opportunities.c.chain == chain,
            transitions.c.previous == State.SUBMITTED,
            transitions.c.state.in_(FATES),
            transitions.c.reason != MISSED,
        )
        .order_by(transitions.c.seq.desc())
        .limit(count)
    )
    fates = connection.execute(query).all()
    if len(fates) < count or any(fate.state == State.INCLUDED for fate in fates):
        return None
    return int(fates[0].at_ns)


def _without_fate(connection: Connection, chain: str) -> Sequence[Row[tuple[object, ...]]]:
    """Return the opportunities in flight, each with its transaction and what its simulation said of its gas; operators' acts are none."""
    query = (
        select(opportunities, submissions.c.transaction, estimates.c.gas, estimates.c.gas_price_wei)
        .join(submissions, submissions.c.opportunity == opportunities.c.id)
        .join(in_flight, in_flight.c.transaction == submissions.c.transaction)
        .outerjoin(estimates, estimates.c.opportunity == opportunities.c.id)
        .where(in_flight.c.chain == chain)
    )
    return connection.execute(query).all()


def _bids(connection: Connection, transaction: str) -> list[int]:
    """What was offered for a unit of gas each time that a transaction was bid up, wei."""
    query = select(submissions.c.max_fee_wei).where(submissions.c.opportunity == REBIDS + transaction)
    return [int(offered) for offered in connection.execute(query).scalars()]


def _missed(connection: Connection, chain: str, since_ns: int) -> set[str]:
    """Return whose bundle its block passed by, and was not found on the chain after all."""
    query = (
        select(transitions.c.opportunity)
        .join(opportunities, opportunities.c.id == transitions.c.opportunity)
        .where(
            opportunities.c.chain == chain,
            transitions.c.at_ns >= since_ns,
            transitions.c.state == State.EXPIRED,
            transitions.c.previous == State.SUBMITTED,
            transitions.c.reason == MISSED,
        )
    )
    first = set(connection.execute(query).scalars())
    later = connection.execute(
        select(revisions.c.opportunity, revisions.c.reason)
        .where(revisions.c.opportunity.in_(query))
        .order_by(revisions.c.seq)
    )
    fates = {row.opportunity: row.reason for row in later}
    return {each for each in first if fates.get(each, MISSED) == MISSED}


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text[2:])
