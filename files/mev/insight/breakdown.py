"""Profit and loss by day, chain, strategy and token: what was realised, held against what was expected when it was sent."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import Row, select

from mev.domain import EARNINGS, gained
from mev.insight.analytics import OPERATOR
from mev.runtime.storage import Database
from mev.trading.ledger.ledger import NATIVE
from mev.trading.ledger.tables import entries, estimates, opportunities

DAY_NS = 24 * 3600 * 10**9
SECOND_NS = 10**9
NATIVE_TOKEN = "0x" + NATIVE.hex()

Key = tuple[str, str, str, str]


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """What one UTC day left of one token (the native coin is zero: fees are paid in it), base units.

    `expected` is what the simulations promised of everything that was sent and settled that day.
    """

    day: str
    chain: str
    strategy: str
    token: str
    realised: int
    expected: int

    @property
    def difference(self) -> int:
        """What came of it beyond what was expected; negative is less."""
        return self.realised - self.expected


def by_day(ledger: Database, *, since_ns: int = 0) -> list[Line]:
    """Return a line for each day, chain, strategy and token that something was earned or paid in, newest day first."""
    query = (
        select(entries, opportunities.c.strategy, opportunities.c.token.label("cycle_token"), estimates.c.profit)
        .add_columns(estimates.c.gas, estimates.c.gas_price_wei)
        .outerjoin(opportunities, opportunities.c.id == entries.c.opportunity)
        .outerjoin(estimates, estimates.c.opportunity == entries.c.opportunity)
        .where(entries.c.at_ns >= since_ns, entries.c.kind.in_(sorted(EARNINGS)))
        .order_by(entries.c.seq)
    )
    with ledger.begin() as connection:
        booked = connection.execute(query).all()
    realised: defaultdict[Key, int] = defaultdict(int)
    for row in booked:
        realised[_key(row, row.token)] += gained(int(row.amount), row.credit, row.debit)
    expected = _expected(booked)
    keys = sorted(realised.keys() | expected.keys(), key=lambda key: key[1:])
    keys.sort(key=lambda key: key[0], reverse=True)
    return [
        Line(
            day=key[0],
            chain=key[1],
            strategy=key[2],
            token=key[3],
            realised=realised[key],
            expected=expected.get(key, 0),
        )
        for key in keys
    ]


def _expected(booked: Iterable[Row[Any]]) -> dict[Key, int]:
    """Add up each opportunity's estimate once, on the day of its first entry."""
    seen: set[str] = set()
    expected: defaultdict[Key, int] = defaultdict(int)
    for row in booked:
        if row.profit is None or row.opportunity in seen:
            continue
        seen.add(row.opportunity)
        expected[_key(row, row.cycle_token)] += int(row.profit)
        expected[_key(row, NATIVE_TOKEN)] -= row.gas * int(row.gas_price_wei)
    return dict(expected)


def _key(row: Row[Any], token: str) -> Key:
    day = datetime.fromtimestamp(row.at_ns / SECOND_NS, UTC).date().isoformat()
    return day, row.chain, row.strategy or OPERATOR, token
