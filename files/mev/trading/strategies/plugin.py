"""Strategies from elsewhere: what one is given, what it has to return, and what holds when it is wrong.

    strategy_plugins = ["my_strategies.stale_pairs:make"]     # in mev.toml: MODULE:FUNCTION, importable by the agents' Python

FUNCTION takes a Market and returns a Strategy; docs/strategies.md has a whole one. What it returns goes the way of every opportunity: simulated
on the node, held against the limits, written in the ledger. It is the operator's own code and runs in the engine: nothing confines it.
"""

import importlib
from collections.abc import Callable, Collection, Sequence
from functools import cache
from typing import Protocol

import msgspec
import structlog

from mev.domain import Block, Opportunity
from mev.domain.market import Address
from mev.market.state import MarketState
from mev.runtime.config import ChainConfig, ConfigError
from mev.search.graph import CycleIndex

log = structlog.get_logger(__name__)


class Strategy(Protocol):
    """Turns what a block changed into sized opportunities, and does nothing else; asked between blocks, so it must not wait."""

    def opportunities(self, block: Block, touched: Collection[Address], capital: int) -> Sequence[Opportunity]:
        """Return what a block opened, best first.

        `touched` are the pools whose state changed; no amount_in may exceed `capital`, base units of the chain's wrapped native coin. An
        opportunity's id must be the same whenever it is found again in the same block, and another one in every other block.
        """


class Market(msgspec.Struct, frozen=True, kw_only=True):
    """What a strategy is given when a chain's market has been read: `state` follows the chain by itself, and is not to be changed."""

    chain: str
    config: ChainConfig
    state: MarketState
    index: CycleIndex


Factory = Callable[[Market], Strategy]


@cache
def load_plugin(reference: str) -> Factory:
    """Import a plug-in's function; raises ConfigError where it is not there."""
    module, _, name = reference.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"strategy_plugins: {reference} cannot be imported: {error}; allowed: MODULE:FUNCTION that the agents' Python finds"
        ) from None
    if not callable(found):
        raise ConfigError(f"strategy_plugins: {reference} is no function; allowed: MODULE:FUNCTION")
    made: Factory = found
    return made


class Strategies:
    """The engine's own strategies and the plug-ins', as one."""

    def __init__(self, market: Market, own: Sequence[Strategy], plugins: Sequence[str] = ()) -> None:
        """Make the plug-ins' strategies; raises ConfigError where one cannot be imported. `own` are those that are switched on."""
        self._market = market
        self._own = own
        self._plugins: dict[str, Strategy] = {}
        for reference in plugins:
            factory = load_plugin(reference)
            try:
                self._plugins[reference] = factory(market)
            except Exception:
                # Whatever it is, it is the plug-in's, and the chain's trading goes on without it.
                log.exception("strategy left out", chain=market.chain, strategy=reference)

    def opportunities(self, block: Block, touched: Collection[Address], capital: int) -> list[Opportunity]:
        """Return what all of them find, best first; a plug-in that fails finds nothing in this block, and is named in the log."""
        new = self._market.index.grow(self._market.state.pools(), block.timestamp)
        touched = frozenset(touched).union(pool.address for pool in new) if new else touched
        found = [each for own in self._own for each in own.opportunities(block, touched, capital)]
        for reference, plugin in self._plugins.items():
            try:
                returned = list(plugin.opportunities(block, touched, capital))
                found += [each for each in returned if self._is_sound(reference, each, block, capital)]
            except Exception:
                log.exception("strategy failed", chain=self._market.chain, strategy=reference, block=block.number)
        return sorted(found, key=lambda opportunity: opportunity.expected_profit, reverse=True)

    def _is_sound(self, reference: str, found: Opportunity, block: Block, capital: int) -> bool:
        """Hold a plug-in to what the pipeline takes for granted."""
        pools = self._market.state.pools()
        wrong = next(
            (
                what
                for what, is_so in (
                    ("it is of another chain", found.chain != self._market.chain),
                    ("it is of another block", (found.block_number, found.block_hash) != (block.number, block.hash)),
                    (
                        "its token is not the wrapped native coin",
                        found.cycle.token != self._market.config.wrapped_native,
                    ),
                    (
                        "it goes through a pool that is not watched",
                        any(hop.pool not in pools for hop in found.cycle.hops),
                    ),
                    ("it has no hops", not found.cycle.hops),
                    ("its parts are not as many as its hops", len(found.parts) not in {0, len(found.cycle.hops)}),
                    ("it is a liquidation", found.seizure is not None),
                    ("it is on credit", found.flash is not None),
                    ("its amount is not between 1 and the capital", not 0 < found.amount_in <= capital),
                )
                if is_so
            ),
            None,
        )
        if wrong is not None:
            log.error(
                "opportunity left out",
                chain=self._market.chain,
                strategy=reference,
                opportunity=found.id,
                reason=wrong,
            )
        return wrong is None
