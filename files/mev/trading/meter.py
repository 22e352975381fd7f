"""What the strategy engine counts and measures, in the terms of the ledger; docs/engine.md lists it."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mev.chain.health import BreakerState, NodeHealth
from mev.domain import Block
from mev.runtime.address import checksum
from mev.trading.ledger import Stepped
from mev.trading.reconcile import Difference
from mev.trading.sequenced import FeedMeter
from mev.trading.strategies.router_plan import Unevaluated
from mev.trading.strategies.sandwich import Exposure

# Seconds: a quarter of a millisecond to a block of Ethereum's.
BUCKETS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 12.0)


class Meter(Collector):
    """One engine's figures. Counters and gauges are set where things happen; end points are looked at every few seconds."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self._steps = Counter(
            "mev_opportunity_steps",
            "Steps of opportunities' lives, by the state that they led to and its reason code",
            ("chain", "strategy", "state", "reason"),
            registry=registry,
        )
        self._block_seconds = Histogram(
            "mev_block_seconds",
            "From when a block and its logs are there to when all that it opened is decided and sent",
            ("chain",),
            buckets=BUCKETS,
            registry=registry,
        )
        self._reorganisations = Counter(
            "mev_reorganisations",
            "How often a chain took blocks back that had been applied",
            ("chain",),
            registry=registry,
        )
        self._undone = Counter(
            "mev_blocks_undone", "Blocks that reorganisations took back", ("chain",), registry=registry
        )
        self._ledger_faults = Counter(
            "mev_ledger_faults",
            "How often the ledger could not be written (disk full, server away): nothing is sent until it can",
            ("chain",),
            registry=registry,
        )
        self._head = Gauge("mev_head_block_number", "The last block that was taken in", ("chain",), registry=registry)
        self._head_time = Gauge(
            "mev_head_timestamp_seconds", "That block's own time, seconds since 1970", ("chain",), registry=registry
        )
        self._pools = Gauge("mev_pools", "Pools that are watched", ("chain",), registry=registry)
        self._cycles = Gauge(
            "mev_cycles", "Cycles that are screened when a pool of theirs changes", ("chain",), registry=registry
        )
        self._in_flight = Gauge(
            "mev_in_flight_transactions", "Transactions whose fate is not known", ("chain",), registry=registry
        )
        self._difference = Gauge(
            "mev_ledger_difference_wei",
            "What the chain has more than the ledger, base units of a token (zero: native coin); not 0 is an error",
            ("chain", "account", "token"),
            registry=registry,
        )
        self._swaps = Counter(
            "mev_pending_swaps",
            "Pending calls of routers that swap: exposed, unexposed, or why they were not evaluated",
            ("chain", "outcome"),
            registry=registry,
        )
        self._evaluating = Gauge(
            "mev_pending_evaluation",
            "1 while pending swaps are evaluated, 0 while they are not although the strategy sandwich is on",
            ("chain",),
            registry=registry,
        )
        self._pending_faults = Counter(
            "mev_pending_faults",
            "Faults while pending swaps were evaluated: each is in the log, and it goes on after it",
            ("chain",),
            registry=registry,
        )
        self._lending = {
            name: Gauge(f"mev_lending_{name}", what, ("chain", "market"), registry=registry)
            for name, what in (
                ("market_up", "1 while a lending market's book is known, 0 while it is put aside"),
                ("positions", "Borrowers in it"),
                ("unpriced_assets", "Its assets for which the oracle gave no usable price: who has any is left alone"),
            )
        }
        self._handed = Counter(
            "mev_submissions",
            "Transactions handed to a private submitter: accepted, refused, unanswered, hostile, or not_sent (to nobody else either)",
            ("chain", "submitter", "outcome"),
            registry=registry,
        )
        self._left_alone = Gauge(
            "mev_lending_left_alone",
            "Borrowers below the threshold for whom there is nothing to send, by the reason",
            ("chain", "market", "reason"),
            registry=registry,
        )
        self._given_up = Counter(
            "mev_lending_market_given_up",
            "How often a lending market's book was given up or could not be read: the log says why",
            ("chain", "market"),
            registry=registry,
        )
        self.feed = FeedMeter(registry)
        self._nodes: dict[str, Sequence[NodeHealth]] = {}
        self.registry.register(self)

    def stepped(self, step: Stepped) -> None:
        """Count a step that the ledger has."""
        self._steps.labels(step.chain, step.strategy, step.state, step.reason).inc()

    def asked(self, chain: str, nodes: Sequence[NodeHealth]) -> None:
        """Take how a chain's end points stand."""
        self._nodes[chain] = nodes

    def loaded(self, chain: str, *, pools: int, cycles: int) -> None:
        """Tell what is watched on a chain."""
        self._pools.labels(chain).set(pools)
        # A counter that begins at 0 shows its first fault as a rise.
        self._ledger_faults.labels(chain)
        self._cycles.labels(chain).set(cycles)

    def lending(self, chain: str, market: str, *, positions: int | None, unpriced: int, given_up: int) -> None:
        """Tell how a lending market stands: `positions` is None where its book is not known; `given_up` is since the last time."""
        for name, value in (
            ("market_up", positions is not None),
            ("positions", positions or 0),
            ("unpriced_assets", unpriced),
        ):
            self._lending[name].labels(chain, market).set(float(value))
        self._given_up.labels(chain, market).inc(given_up)

    def left_alone(self, chain: str, market: str, counts: Mapping[str, int]) -> None:
        """Tell how many of a lending market's borrowers are left alone, by the reason."""
        for reason, count in counts.items():
            self._left_alone.labels(chain, market, reason).set(count)

    def block(self, chain: str, block: Block, began: float, in_flight: int) -> None:
        """A block was traded on; `began` is time.perf_counter() of when it was there."""
        self._block_seconds.labels(chain).observe(time.perf_counter() - began)
        self._head.labels(chain).set(block.number)
        self._head_time.labels(chain).set(block.timestamp)
        self._in_flight.labels(chain).set(in_flight)

    def handed(self, chain: str, submitter: str, outcome: str) -> None:
        """A transaction was handed to one of a chain's private submitters."""
        self._handed.labels(chain, submitter, outcome).inc()

    def evaluated(self, chain: str, found: Exposure | Unevaluated) -> None:
        """A pending call of a router was looked at: what it exposes, or why that was not computed."""
        outcome = found if isinstance(found, Unevaluated) else ("exposed" if found.extractable else "unexposed")
        self._swaps.labels(chain, outcome).inc()

    def evaluating(self, chain: str, *, on: bool) -> None:
        """Pending swaps are evaluated from now on, or are not."""
        self._evaluating.labels(chain).set(float(on))
        # A counter that begins at 0 shows its first fault as a rise.
        self._pending_faults.labels(chain)

    def pending_fault(self, chain: str) -> None:
        """Evaluating pending swaps met something that nobody foresaw."""
        self._pending_faults.labels(chain).inc()

    def ledger_fault(self, chain: str) -> None:
        """The ledger could not be written."""
        self._ledger_faults.labels(chain).inc()

    def reorganised(self, chain: str, blocks: int) -> None:
        """So many blocks were taken back."""
        self._reorganisations.labels(chain).inc()
        self._undone.labels(chain).inc(blocks)

    def reconciled(self, differences: Iterable[Difference]) -> None:
        """Chain and ledger were held against each other."""
        for each in differences:
            labels = (each.chain, checksum(each.account), checksum(each.token))
            self._difference.labels(*labels).set(each.difference)

    def collect(self) -> Iterator[Metric]:
        """Tell how the end points stood last: Prometheus' question comes from another thread, so none of them is touched."""
        labels = ("chain", "number", "node")
        up = GaugeMetricFamily("mev_end_point_up", "1 where calls pass to an end point, else 0", labels=labels)
        lag = GaugeMetricFamily("mev_end_point_lag_blocks", "Blocks behind the best head of its chain", labels=labels)
        latency = GaugeMetricFamily(
            "mev_end_point_latency_seconds", "Quantiles of its last 256 answers", labels=(*labels, "quantile")
        )
        calls = CounterMetricFamily("mev_end_point_calls", "Calls that it was asked", labels=labels)
        hedges = CounterMetricFamily(
            "mev_end_point_hedges", "Calls in which it was slow and another was asked too", labels=labels
        )
        offences = CounterMetricFamily(
            "mev_end_point_offences", "Answers that no honest node gives, by kind", labels=(*labels, "offence")
        )
        for chain, nodes in list(self._nodes.items()):
            for number, node in enumerate(nodes):
                where = (chain, str(number), node.node)
                up.add_metric(where, float(node.state is BreakerState.CLOSED))
                lag.add_metric(where, node.lag_blocks)
                for quantile, seconds in (("0.5", node.latency_p50), ("0.95", node.latency_p95)):
                    if seconds is not None:
                        latency.add_metric((*where, quantile), seconds)
                calls.add_metric(where, node.calls)
                hedges.add_metric(where, node.hedges)
                for offence, count in node.offences.items():
                    offences.add_metric((*where, offence), count)
        yield from (up, lag, latency, calls, hedges, offences)
