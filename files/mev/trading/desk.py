"""One chain's trading: its market kept in step with its blocks, and each block taken down the pipeline."""

import asyncio
import time
from collections.abc import Callable

import msgspec
import structlog

from mev.chain.collectors import BlockCollector, Event, NewBlock, Reorg, Reset
from mev.chain.rpc import Rpc, RpcError, RpcUnavailableError
from mev.domain import Block
from mev.domain.market import Address
from mev.market.algebra_state import ask_fees
from mev.market.curve_read import ask_curves
from mev.market.keeper import Keeper
from mev.market.late import read_late
from mev.market.lending.aave_events import TOPICS as LENDING_TOPICS
from mev.market.lending.aave_market import AaveMarket
from mev.market.lending.comet_market import CometMarket
from mev.market.lending.comet_reader import TOPICS as COMET_TOPICS
from mev.market.lending.takings import LeftAlone
from mev.market.load import load_market, market_topics
from mev.market.newcomers import Newcomers
from mev.market.state import MarketState
from mev.runtime.config import AllowanceConfig, Config, StrategyName
from mev.search.graph import CycleIndex
from mev.trading.execution.accounts import accounts_of
from mev.trading.execution.execution import Execution, Settled
from mev.trading.execution.signers import Signs
from mev.trading.execution.undone import undone
from mev.trading.execution.ways import Way
from mev.trading.inventory import Inventory
from mev.trading.ledger import Ledger, Standpoint
from mev.trading.meter import Meter
from mev.trading.pending import PendingExposures
from mev.trading.pipeline import Pipeline, Settings
from mev.trading.reconcile import open_books, reconcile
from mev.trading.risk import Allowance, Limits
from mev.trading.sequenced import SequencedTransactions
from mev.trading.spans import Spans
from mev.trading.strategies.atomic_arbitrage import AtomicArbitrage
from mev.trading.strategies.liquidation import Liquidations
from mev.trading.strategies.plugin import Market, Strategies, Strategy

# Without a head for so many block times the chain is asked whether there is one.
STALL_BLOCKS = 3
SHORTEST_STALL_SECONDS = 3.0
RECONCILE_SECONDS = 60.0
STANDPOINT_SECONDS = 2.0

log = structlog.get_logger(__name__)


class Desk:
    """Follows one chain for ever; `signer` is None where nothing may be sent."""

    def __init__(
        self,
        name: str,
        config: Config,
        rpc: Rpc,
        ledger: Ledger,
        signer: Signs | None,
        *,
        announce: Callable[[Settled], None] = lambda _: None,
        meter: Meter | None = None,
        spans: Spans | None = None,
        way: Way | None = None,
    ) -> None:
        self._announce = announce
        self._meter = meter or Meter()
        self._spans = spans or Spans()
        self._name = name
        self._config = config
        self._chain = config.chains[name]
        self._rpc = rpc
        self._ledger = ledger
        self._execution = None
        if signer is not None:
            accounts = accounts_of(name, self._chain, signer)
            self._execution = Execution(self._chain.id, rpc, signer, ledger, accounts, way=way)
        kept = config.snapshots
        self._keeper = Keeper(kept.directory, name, self._chain.id, 60 * kept.every_minutes) if kept else None
        discovery = self._chain.discovery
        self._newcomers = Newcomers(name, self._chain, discovery) if discovery else None
        self._lending: list[AaveMarket | CometMarket] = []
        if StrategyName.LIQUIDATION in config.strategies:
            self._lending += [AaveMarket(name, rpc, market) for market in self._chain.aave_v3]
            self._lending += [CometMarket(name, rpc, market) for market in self._chain.compound_v3]
        self._inventory = Inventory(self._chain.risk.max_flash_wei, self._chain.risk.max_arbitrage_flash_wei)
        self._feed = (
            SequencedTransactions(name, self._chain, self._meter.feed)
            if self._chain.sequencer_feed is not None
            else None
        )
        self._market: MarketState | None = None
        self._index: CycleIndex | None = None
        self._liquidations: Liquidations | None = None
        self._pipeline: Pipeline | None = None
        # Pools and cycles, as they were told of.
        self._watched = (0, 0)
        # Pools that changed and were not traded on, in an undone block or a block behind: the next block's cycles go through
        # them as well.
        self._turned: frozenset[Address] = frozenset()
        self._reconcile_at = 0.0
        self._stand_at = 0.0
        self._working = asyncio.Lock()

    @property
    def head(self) -> Block | None:
        """The last block that was taken in; None before the state is loaded."""
        return self._market.block if self._market else None

    async def run(self, progress: Callable[[], None]) -> None:
        """Take in events until an error; call `progress` after each. Raises what the transport and discovery raise."""
        stall_seconds = max(STALL_BLOCKS * self._chain.block_seconds, SHORTEST_STALL_SECONDS)
        if self._execution is not None:
            await open_books(self._rpc, self._execution.accounts, self._ledger)
        pending = asyncio.create_task(self._report_pending())
        try:
            topics = [*market_topics(self._chain), *self._lending_topics()]
            async for event in BlockCollector(self._rpc, topics, stall_seconds=stall_seconds).events():
                async with self._working:
                    with self._spans.block(self._name, event):
                        await self._take(event)
                progress()
        finally:
            pending.cancel()
            await asyncio.gather(pending, return_exceptions=True)

    def _lending_topics(self) -> list[bytes]:
        topics: frozenset[bytes] = frozenset()
        for market in self._lending:
            topics |= COMET_TOPICS if market.absorbs else LENDING_TOPICS
        return sorted(topics)

    async def _report_pending(self) -> None:
        """Say what pending swaps expose, where that is asked for, and follow the feed; whatever happens to it, trading goes on."""
        if StrategyName.SANDWICH in self._config.strategies:
            heard = None if self._feed is None else self._feed.events
            await PendingExposures(self._name, self._chain, self._rpc, lambda: self._market, self._meter, heard).run()
        elif self._feed is not None:
            await self._feed.run()

    async def finish(self) -> None:
        """Wait until the event at hand is done with, take no other, and write the market down."""
        await self._working.acquire()
        if self._keeper is not None and self._market is not None:
            await self._keeper.finish(self._market)

    async def _take(self, event: Event) -> None:
        match event:
            case Reset(block):
                await self._load(block)
            case Reorg(ancestor) if self._market is not None:
                self._meter.reorganised(self._name, self._market.block.number - ancestor.number)
                self._turned |= self._market.undo_to(ancestor)
                if self._pipeline is not None:
                    self._pipeline.doubt()
                for lending in self._lending:
                    lending.undo_to(ancestor)
                log.info("reorganised", chain=self._name, ancestor=ancestor.number)
            case NewBlock(block, logs, behind) if self._market is not None:
                with self._spans.part(self._name, "apply"):
                    if self._feed is not None:
                        self._feed.block(block)
                    changed = self._market.apply_block(block, logs)
                    if not behind:
                        changed |= await read_late(self._rpc, self._chain, self._market, block)
                        changed |= await ask_fees(self._rpc, self._market, block)
                        changed |= await ask_curves(self._rpc, self._market, block)
                    self._tell_unusable(changed)
                    for lending in self._lending:
                        await lending.follow(block, logs)
                self._tell_lending()
                touched = changed | self._turned
                # What a block behind shows may be gone already: sending it would pay for a revert.
                self._turned = touched if behind else frozenset()
                if not behind:
                    await self._trade(block, touched)
                    if self._keeper is not None:
                        self._keeper.look(self._market)

    async def _load(self, block: Block) -> None:
        """Read every pool as it is after a block; everything counts as touched by it."""
        snapshot = self._keeper.path if self._keeper else None
        newcomers = await self._newcomers.safe(self._rpc, block) if self._newcomers else []
        self._market = await load_market(self._rpc, self._chain, block, snapshot, newcomers)
        watched = len(self._market.pools())
        arbitrage = AtomicArbitrage.watching(self._name, self._chain, self._market, self._spans, self._inventory)
        self._index = arbitrage.index
        for lending in self._lending:
            await lending.load(block)
        self._tell_lending()
        own: list[Strategy] = [arbitrage] if StrategyName.ATOMIC_ARBITRAGE in self._config.strategies else []
        if self._lending:
            self._liquidations = Liquidations(
                self._name, self._chain.wrapped_native, self._market, self._lending, self._inventory
            )
            own.append(self._liquidations)
        self._pipeline = Pipeline(
            self._settings(),
            self._rpc,
            self._market,
            Strategies(
                Market(chain=self._name, config=self._chain, state=self._market, index=arbitrage.index),
                own,
                self._config.strategy_plugins,
            ),
            self._ledger,
            self._execution,
            announce=self._announce,
            every_block=bool(self._lending),
            inventory=self._inventory,
            spans=self._spans,
        )
        self._pipeline.recover()
        self._watched = (watched, len(self._index.cycles))
        self._meter.loaded(self._name, pools=watched, cycles=self._watched[1])
        log.info("loaded", chain=self._name, block=block.number, pools=watched, cycles=self._watched[1])
        self._tell_unusable(frozenset(self._market.pools()))
        await self._trade(block, frozenset(self._market.pools()))

    def _tell_lending(self) -> None:
        for lending in self._lending:
            self._meter.lending(
                self._name,
                lending.config.name,
                positions=None if lending.book is None else len(lending.book.positions()),
                unpriced=lending.unpriced,
                given_up=lending.given_up,
            )
            lending.given_up = 0

    def _tell_left_alone(self) -> None:
        if self._liquidations is None:
            return
        for lending in self._lending:
            counts = self._liquidations.left_alone(lending.config.pool)
            self._meter.left_alone(
                self._name, lending.config.name, {reason.name.lower(): counts[reason] for reason in LeftAlone}
            )

    def _tell_new(self, block: Block) -> None:
        """Say what is watched where pools have come since that was said."""
        watched = (len(self._market.pools()) if self._market else 0, len(self._index.cycles) if self._index else 0)
        if watched != self._watched:
            self._watched = watched
            self._meter.loaded(self._name, pools=watched[0], cycles=watched[1])
            log.info("more is watched", chain=self._name, block=block.number, pools=watched[0], cycles=watched[1])

    def _tell_unusable(self, changed: frozenset[Address]) -> None:
        for pool, reason in self._market.unusable().items() if self._market else ():
            if pool in changed:
                log.warning("pool not traded on", chain=self._name, pool="0x" + pool.hex(), reason=reason)

    async def _trade(self, block: Block, touched: frozenset[Address]) -> None:
        if self._pipeline is None or self._market is None:
            return
        began = time.perf_counter()
        try:
            await self._pipeline.on_block(block, touched)
        except (RpcError, RpcUnavailableError) as error:
            # The market is as the block left it: with the next one the pipeline looks at these pools again.
            log.warning("block not traded on", chain=self._name, block=block.number, reason=str(error))
            return
        self._tell_left_alone()
        self._tell_new(block)
        self._meter.block(self._name, block, began, len(self._ledger.in_flight(self._name)))
        now = time.monotonic()
        if now >= self._stand_at:
            self._stand_at = now + STANDPOINT_SECONDS
            self._ledger.stand(
                Standpoint(
                    chain=self._name,
                    block_number=block.number,
                    block_timestamp=block.timestamp,
                    pools=len(self._market.pools()),
                    cycles=self._watched[1],
                )
            )
        if self._execution is not None and now >= self._reconcile_at and not self._ledger.in_flight(self._name):
            self._reconcile_at = now + RECONCILE_SECONDS
            await self._reconcile(self._execution)

    async def _reconcile(self, execution: Execution) -> None:
        # What a ledger of a release before did not follow opens its books here, once nothing is in flight.
        await open_books(self._rpc, execution.accounts, self._ledger)
        if self._pipeline is not None and await undone(self._rpc, self._name, self._ledger):
            # A reorganisation that nobody told of, or that was over before its receipts were there: the next block takes it back.
            self._pipeline.doubt()
            return
        differences = await reconcile(self._rpc, execution.accounts, self._ledger)
        self._meter.reconciled(differences)
        for found in differences:
            if found.difference:
                log.warning(
                    "chain and ledger differ",
                    chain=self._name,
                    account="0x" + found.account.hex(),
                    token="0x" + found.token.hex(),
                    on_chain=str(found.on_chain),
                    in_ledger=str(found.in_ledger),
                )

    def _settings(self) -> Settings:
        risk = self._chain.risk
        return Settings(
            chain=self._name,
            chain_id=self._chain.id,
            mode=self._config.mode,
            wrapped_native=self._chain.wrapped_native,
            limits=Limits(
                max_amount_in_wei=risk.max_amount_in_wei,
                min_profit_wei=risk.min_profit_wei,
                max_gas_price_wei=risk.max_gas_price_wei,
                max_daily_loss_wei=risk.max_daily_loss_wei,
                max_in_flight=risk.max_in_flight,
                max_flash_wei=risk.max_flash_wei,
                max_arbitrage_flash_wei=risk.max_arbitrage_flash_wei,
                max_block_age_seconds=self._chain.allowed_lag_seconds,
                deny_tokens=frozenset(risk.deny_tokens),
                max_gas=risk.max_gas,
                max_daily_gas_wei=risk.max_daily_gas_wei,
                max_daily_reverts=risk.max_daily_reverts,
                max_daily_missed=risk.max_daily_missed,
                # By symbol only where a token is of this chain: the common table may name another's.
                tokens={
                    token.address: _allowance(risk.tokens[token.symbol])
                    for token in self._chain.tokens
                    if token.symbol in risk.tokens
                },
                strategies={name: _allowance(allowed) for name, allowed in risk.strategies.items()},
            ),
            kill_switch=risk.kill_switch,
            breaker_failures=risk.breaker_failures,
            breaker_seconds=risk.breaker_seconds,
        )


def _allowance(allowed: AllowanceConfig) -> Allowance:
    return Allowance(**msgspec.structs.asdict(allowed))
