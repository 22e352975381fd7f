"""What analytics knows, as Prometheus sees it; docs/engine.md lists it."""

import time
from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mev.insight.analytics import Performance

LABELS = ("chain", "strategy")
MONEY = ("profit_wei", "gas_wei", "bribe_wei", "net_wei")


class PerformanceMetrics(Collector):
    """The last look at the ledger."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._performances: Sequence[Performance] = ()
        self._looked_at: float | None = None
        self.registry.register(self)

    def see(self, performances: Sequence[Performance]) -> None:
        """Take what analytics has found."""
        self._performances, self._looked_at = performances, time.time()

    def collect(self) -> Iterator[Metric]:
        """Give what was found last; money is wei of the chain's native coin, since the ledger began."""
        states = GaugeMetricFamily(
            "mev_opportunities", "Opportunities by the state that they are in", labels=(*LABELS, "state")
        )
        reasons = CounterMetricFamily(
            "mev_opportunities_ended", "Opportunities that ended with a reason code", labels=(*LABELS, "reason")
        )
        submitted = CounterMetricFamily("mev_opportunities_submitted", "Opportunities that were sent", labels=LABELS)
        success = GaugeMetricFamily(
            "mev_success_ratio", "Included of those sent whose fate is known, 0 to 1", labels=LABELS
        )
        money = {
            key: GaugeMetricFamily(
                f"mev_{key}", f"{key.removesuffix('_wei').capitalize()} by the ledger", labels=LABELS
            )
            for key in MONEY
        }
        for each in self._performances:
            where = (each.chain, each.strategy)
            for state, count in each.states.items():
                states.add_metric((*where, state), count)
            for reason, count in each.reasons.items():
                reasons.add_metric((*where, reason), count)
            submitted.add_metric(where, each.submitted)
            if each.success_rate is not None:
                success.add_metric(where, each.success_rate)
            for key, family in money.items():
                family.add_metric(where, getattr(each, key))
        yield from (states, reasons, submitted, success, *money.values())
        if self._looked_at is not None:
            yield GaugeMetricFamily(
                "mev_ledger_read_timestamp_seconds",
                "When the ledger was read last, seconds since 1970",
                value=self._looked_at,
            )
