"""P&L, success rate, and opportunities by state and strategy, kept up to date from the ledger's new rows alone."""

from collections import Counter, defaultdict

import msgspec
from sqlalchemy import case, func, select

from mev.domain import FEES, EntryKind, State, gained
from mev.runtime.storage import Database
from mev.trading.ledger.tables import entries, opportunities, revisions, transitions

# The strategy under which an operator's own transactions (deploy, fund) are counted.
OPERATOR = "operator"


class Performance(msgspec.Struct, frozen=True, kw_only=True):
    """One strategy on one chain since the ledger began.

    Money is wei of the chain's native coin (wrapped counts one to one); `states` counts opportunities by where they
    stand now, `reasons` by why they ended; one whose end a reorganisation took back has as many reasons as it had ends.
    """

    chain: str
    strategy: str
    states: dict[str, int]
    reasons: dict[str, int]
    submitted: int
    success_rate: float | None
    profit_wei: int
    gas_wei: int
    bribe_wei: int

    @property
    def net_wei(self) -> int:
        """Profit after gas (a rollup's data included) and bribes."""
        return self.profit_wei - self.gas_wei - self.bribe_wei


class Analytics:
    """Running totals over the ledger; each refresh reads only rows that are newer than the last one's."""

    def __init__(self, ledger: Database) -> None:
        self._ledger = ledger
        self._last_transition = 0
        self._last_revision = 0
        self._last_entry = 0
        self._states: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        self._reached: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        self._reasons: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        self._money: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)

    def refresh(self) -> list[Performance]:
        """Take in what the ledger got since the last call; every strategy of every chain, in order of names."""
        with self._ledger.begin() as connection:
            newest = connection.execute(select(func.max(transitions.c.seq))).scalar_one() or 0
            step = (
                opportunities.c.chain,
                opportunities.c.strategy,
                transitions.c.previous,
                transitions.c.state,
                transitions.c.reason,
            )
            steps = connection.execute(
                select(*step, func.count())
                .join(opportunities, opportunities.c.id == transitions.c.opportunity)
                .where(transitions.c.seq > self._last_transition, transitions.c.seq <= newest)
                .group_by(*step)
            ).all()
            revised = connection.execute(
                select(revisions, opportunities.c.chain, opportunities.c.strategy)
                .join(opportunities, opportunities.c.id == revisions.c.opportunity)
                .where(revisions.c.seq > self._last_revision)
                .order_by(revisions.c.seq)
            ).all()
            strategy = case((opportunities.c.strategy.is_(None), OPERATOR), else_=opportunities.c.strategy)
            booked = connection.execute(
                select(entries, strategy.label("strategy"))
                .outerjoin(opportunities, opportunities.c.id == entries.c.opportunity)
                .where(entries.c.seq > self._last_entry, entries.c.kind != EntryKind.FUNDING)
                .order_by(entries.c.seq)
            ).all()
        for chain, name, previous, state, reason, count in steps:
            key = (chain, name)
            self._states[key][state] += count
            self._reached[key][state] += count
            if previous is not None:
                self._states[key][previous] -= count
            if reason:
                self._reasons[key][reason] += count
        for row in revised:
            key = (row.chain, row.strategy)
            self._states[key][row.previous] -= 1
            self._states[key][row.state] += 1
            if row.reason:
                self._reasons[key][row.reason] += 1
            self._last_revision = row.seq
        for row in booked:
            self._money[row.chain, row.strategy][row.kind] += gained(int(row.amount), row.credit, row.debit)
            self._last_entry = row.seq
        self._last_transition = newest
        return [self._performance(key) for key in sorted(self._states.keys() | self._money.keys())]

    def _performance(self, key: tuple[str, str]) -> Performance:
        submitted = self._reached[key][State.SUBMITTED]
        included = self._states[key][State.INCLUDED]
        settled = submitted - self._states[key][State.SUBMITTED]
        return Performance(
            chain=key[0],
            strategy=key[1],
            states={state.value: self._states[key][state] for state in State},
            reasons=dict(sorted(self._reasons[key].items())),
            submitted=submitted,
            success_rate=included / settled if settled else None,
            profit_wei=self._money[key][EntryKind.SWAP_PROFIT],
            gas_wei=-sum(self._money[key][kind] for kind in FEES),
            bribe_wei=-self._money[key][EntryKind.BRIBE],
        )
