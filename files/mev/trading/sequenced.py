"""A sequencer's feed beside a chain's nodes: its transactions in the place of a pool's pending ones, and how far ahead of the nodes it is.

What it tells is ordered already, by the sequencer and for good: nobody but the sequencer can come before it. So an exposure that is computed of it says what its sender
left open, and never what could still be taken. The feed is believed in nothing: what is traded on comes from the nodes' blocks.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from mev.chain.collectors.sequencer import FeedGap, SequencerFeed
from mev.chain.errors import WrongChainError
from mev.chain.health import Breaker, BreakerState
from mev.chain.transactions import PendingTransaction
from mev.domain import Block
from mev.domain.market import Hash
from mev.runtime.config import ChainConfig

# Arbitrum makes four blocks a second: those of the last quarter of an hour, of which no node is further behind.
REMEMBERED_BLOCKS = 4096
# A feed of another chain is a wrong configuration, which may be mended where it comes from.
WRONG_CHAIN_SECONDS = 60.0
LEADS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

log = structlog.get_logger(__name__)


class FeedMeter:
    """Figures of all chains' feeds."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.up = Gauge("mev_feed_up", "1 while the sequencer's feed is connected", ("chain",), registry=registry)
        self.messages = Counter("mev_feed_messages", "Messages of the sequencer's feed", ("chain",), registry=registry)
        self.missed = Counter(
            "mev_feed_missed_messages",
            "Messages that the feed left out: the nodes' blocks have them",
            ("chain",),
            registry=registry,
        )
        self.transactions = Counter(
            "mev_feed_transactions",
            "What its messages hold: told, late (older than the chain's allowed lag, as after a connection), undecoded (no signed transaction, or unreadable)",
            ("chain", "outcome"),
            registry=registry,
        )
        self.offences = Gauge(
            "mev_feed_offences", "How often the feed sent what no honest one sends", ("chain",), registry=registry
        )
        self.age = Gauge(
            "mev_feed_age_seconds",
            "This host's clock less the newest message's own time, which is of whole seconds",
            ("chain",),
            registry=registry,
        )
        self.lead = Histogram(
            "mev_feed_lead_seconds",
            "From when the feed told of a block, by its hash, to when a node has it and its logs are here",
            ("chain",),
            buckets=LEADS,
            registry=registry,
        )


class SequencedTransactions:
    """Follows one chain's feed; `events` goes on through lost connections and hostile bytes, for ever."""

    def __init__(
        self,
        chain: str,
        config: ChainConfig,
        meter: FeedMeter,
        *,
        breaker: Breaker | None = None,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`now` is seconds since 1970; raises ValueError where the configuration names no feed."""
        if config.sequencer_feed is None:
            raise ValueError(f"{chain} has no sequencer_feed")
        self._chain = chain
        self._late_seconds = config.allowed_lag_seconds
        self._feed = SequencerFeed(config.sequencer_feed, chain_id=config.id, breaker=breaker)
        self._meter = meter
        self._now = now
        self._sleep = sleep
        self._told: OrderedDict[Hash, float] = OrderedDict()
        breaker = self._feed.breaker
        # A counter that begins at 0 shows its first rise as one.
        for counter in (meter.messages, meter.missed):
            counter.labels(chain)
        for outcome in ("told", "late", "undecoded"):
            meter.transactions.labels(chain, outcome)
        meter.up.labels(chain).set_function(lambda: float(breaker.state is BreakerState.CLOSED))
        meter.offences.labels(chain).set_function(lambda: float(breaker.offences.total()))

    async def run(self) -> None:
        """Follow it for its figures alone."""
        async for _ in self.events():
            pass

    async def events(self) -> AsyncIterator[PendingTransaction]:
        """Tell of transactions in the sequencer's order, each once; those of old messages are counted and not told."""
        while True:
            try:
                async for event in self._feed.events():
                    if isinstance(event, FeedGap):
                        self._meter.missed.labels(self._chain).inc(event.last - event.first + 1)
                        continue
                    age = self._now() - event.timestamp
                    self._heard(event.block_hash, age)
                    late = age > self._late_seconds
                    self._count("undecoded", event.undecoded)
                    self._count("late" if late else "told", len(event.transactions))
                    for transaction in () if late else event.transactions:
                        yield transaction
                    # A frame may hold thousands of messages: trading is not kept waiting for all of them.
                    await asyncio.sleep(0)
            except WrongChainError as wrong:
                self._feed.breaker.open(str(wrong))
                log.warning("feed refused", chain=self._chain, reason=str(wrong))
            await self._sleep(WRONG_CHAIN_SECONDS)

    def block(self, block: Block) -> None:
        """A node has a block, and its logs are here."""
        told = self._told.pop(block.hash, None)
        if told is not None:
            self._meter.lead.labels(self._chain).observe(time.monotonic() - told)

    def _heard(self, block: Hash | None, age: float) -> None:
        self._meter.messages.labels(self._chain).inc()
        self._meter.age.labels(self._chain).set(age)
        if block is not None:
            self._told[block] = time.monotonic()
            if len(self._told) > REMEMBERED_BLOCKS:
                self._told.popitem(last=False)

    def _count(self, outcome: str, count: int) -> None:
        self._meter.transactions.labels(self._chain, outcome).inc(count)
