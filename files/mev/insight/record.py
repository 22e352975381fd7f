"""performance_metrics.db: how each strategy stood on each chain, every time that it changed."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from sqlalchemy import Column, Float, Index, Integer, MetaData, Table, Text, insert

from mev.domain import State
from mev.insight.analytics import Performance
from mev.runtime.storage import BigNumber, Database, Schema

SCHEMA = Schema("performance", Path(__file__).parent / "versions")

metadata = MetaData()

performance = Table(
    "performance",
    metadata,
    Column("seq", BigNumber, primary_key=True),
    Column("at_ns", BigNumber, nullable=False),
    Column("chain", Text, nullable=False),
    Column("strategy", Text, nullable=False),
    *(Column(state.value, Integer, nullable=False, comment="opportunities that stand so") for state in State),
    Column("sent", Integer, nullable=False, comment="opportunities that were ever submitted"),
    Column("success_rate", Float, comment="included of those whose fate is known; NULL where there is none"),
    Column("profit_wei", Text, nullable=False),
    Column("gas_wei", Text, nullable=False),
    Column("net_wei", Text, nullable=False),
    Index("performance_by_name", "chain", "strategy", "at_ns"),
)


class Recorder:
    """Writes what changed since its last call; everything at its first."""

    def __init__(self, database: Database, now_ns: Callable[[], int] = time.time_ns) -> None:
        database.prepare(SCHEMA)
        self._database = database
        self._now_ns = now_ns
        self._last: dict[tuple[str, str], Performance] = {}

    def record(self, current: Sequence[Performance]) -> list[Performance]:
        """Write the changed ones and return them."""
        changed = [each for each in current if self._last.get((each.chain, each.strategy)) != each]
        if changed:
            with self._database.begin() as connection:
                connection.execute(insert(performance), [self._row(each) for each in changed])
        self._last.update({(each.chain, each.strategy): each for each in changed})
        return changed

    def _row(self, each: Performance) -> dict[str, object]:
        return {
            "at_ns": self._now_ns(),
            "chain": each.chain,
            "strategy": each.strategy,
            **each.states,
            "sent": each.submitted,
            "success_rate": each.success_rate,
            "profit_wei": str(each.profit_wei),
            "gas_wei": str(each.gas_wei),
            "net_wei": str(each.net_wei),
        }
