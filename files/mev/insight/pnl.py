"""Profit and loss of single arbitrages, as the ledger's entries have it."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Row, func, select

from mev.domain import FEES, EntryKind, State, gained
from mev.runtime.storage import Database
from mev.trading.ledger.tables import entries, estimates, opportunities, revisions, transitions
from mev.trading.ledger.today import FATES


class Fill(msgspec.Struct, frozen=True, kw_only=True):
    """An included opportunity; money is wei of the chain's native coin, whose wrapped form `token` is.

    `gas_wei` is all that the signer paid for it, `l1_fee_wei` of that for its data on a rollup's parent chain. `expected_net_wei`
    is what its simulation promised after gas.
    """

    chain: str
    strategy: str
    opportunity: str
    transaction: str
    block_number: int
    at_ns: int
    token: str
    amount_in_wei: int
    profit_wei: int
    gas_wei: int
    l1_fee_wei: int
    bribe_wei: int
    expected_net_wei: int

    @property
    def net_wei(self) -> int:
        """Profit after gas and bribes."""
        return self.profit_wei - self.gas_wei - self.bribe_wei


def fills(ledger: Database, *, count: int, newest_first: bool = True) -> list[Fill]:
    """Return included opportunities, the newest or the oldest `count` of them."""
    steps, later = transitions.c, revisions.alias()
    query = (
        select(steps.opportunity, func.coalesce(revisions.c.at_ns, steps.at_ns).label("at_ns"))
        .outerjoin(revisions, revisions.c.opportunity == steps.opportunity)
        .outerjoin(later, (later.c.opportunity == revisions.c.opportunity) & (later.c.turn > revisions.c.turn))
        .where(
            steps.previous == State.SUBMITTED,
            steps.state.in_(FATES),
            later.c.seq.is_(None),
            func.coalesce(revisions.c.state, steps.state) == State.INCLUDED,
        )
        .order_by(steps.seq.desc() if newest_first else steps.seq)
        .limit(count)
    )
    with ledger.begin() as connection:
        found = connection.execute(query).all()
        names = [row.opportunity for row in found]
        known = {row.id: row for row in connection.execute(select(opportunities).where(opportunities.c.id.in_(names)))}
        promised = {
            row.opportunity: int(row.profit) - row.gas * int(row.gas_price_wei)
            for row in connection.execute(select(estimates).where(estimates.c.opportunity.in_(names)))
        }
        booked = connection.execute(
            select(entries).where(entries.c.opportunity.in_(names)).order_by(entries.c.seq)
        ).all()
    result = []
    for row in found:
        identity = row.opportunity
        own = [entry for entry in booked if entry.opportunity == identity]
        result.append(
            Fill(
                chain=known[identity].chain,
                strategy=known[identity].strategy,
                opportunity=identity,
                transaction=own[-1].transaction,
                block_number=own[-1].block_number,
                at_ns=row.at_ns,
                token=known[identity].token,
                amount_in_wei=int(known[identity].amount_in),
                profit_wei=_sum(own, EntryKind.SWAP_PROFIT),
                gas_wei=-_sum(own, *FEES),
                l1_fee_wei=-_sum(own, EntryKind.L1_FEE),
                bribe_wei=-_sum(own, EntryKind.BRIBE),
                expected_net_wei=promised.get(
                    identity, int(known[identity].expected_out) - int(known[identity].amount_in)
                ),
            )
        )
    return result


def first_fill(ledger: Database) -> Fill | None:
    """Return the first included opportunity ever, if there is one."""
    return next(iter(fills(ledger, count=1, newest_first=False)), None)


def _sum(booked: Sequence[Row[Any]], *kinds: EntryKind) -> int:
    return sum(gained(int(entry.amount), entry.credit, entry.debit) for entry in booked if entry.kind in kinds)
