"""What was used up since a time, on one chain: what risk holds its daily limits against."""

import json
from collections import defaultdict
from collections.abc import Mapping

import msgspec
from sqlalchemy import Connection, select

from mev.domain import EARNINGS, FEES, State, gained
from mev.domain.market import Address
from mev.trading.ledger.records import MISSED
from mev.trading.ledger.tables import entries, opportunities, revisions, transitions

FATES = (State.INCLUDED, State.REVERTED, State.EXPIRED)


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What one token or one strategy has used up; earned_wei is negative after losses."""

    trades: int = 0
    amount_in_wei: int = 0
    earned_wei: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            trades=self.trades + other.trades,
            amount_in_wei=self.amount_in_wei + other.amount_in_wei,
            earned_wei=self.earned_wei + other.earned_wei,
        )


class Today(msgspec.Struct, frozen=True, kw_only=True):
    """A chain's trading since a time; `paths` is by the pools that opportunities went through, whatever their order."""

    earned_wei: int = 0
    fees_wei: int = 0
    reverts: int = 0
    paths: Mapping[frozenset[Address], Usage] = {}
    strategies: Mapping[str, Usage] = {}


def read_today(connection: Connection, chain: str, since_ns: int) -> Today:
    """Add up what was submitted, what reverted, and what was earned and paid."""
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
    return Today(
        earned_wei=earned, fees_wei=fees, reverts=max(reverts, 0), paths=dict(paths), strategies=dict(strategies)
    )


def pools_of(hops: str) -> frozenset[Address]:
    """Every contract on the way that `opportunities.hops` says."""
    return frozenset(bytes.fromhex(pool[2:]) for pool, *_ in json.loads(hops))


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
