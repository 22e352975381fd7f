"""Pools that are made while a chain is followed: which of their factories' are watched, and what of them is read.

A V2 pair begins empty and a V3 pool without a price: their own events say all that comes after. What a Solidly pool's tokens and fee are, and who says an Algebra
pool's fee, no event says: such a pool is read whole after the block in which it was made, or began. So is one whose plugin may say its fee from now on, and one whose fee is
its factory's common one again.
"""

from collections.abc import Iterable
from typing import NamedTuple

import structlog

from mev.chain.errors import MalformedAnswerError, RpcError, RpcUnavailableError
from mev.chain.rpc import Rpc
from mev.chain.wire import Log
from mev.domain import Block, Pool
from mev.domain.market import Address
from mev.market.algebra_state import Named, read_algebra
from mev.market.amm.ticks import MAX_TICK_SPACING
from mev.market.concentrated_state import FEE_DENOMINATOR
from mev.market.factory_events import creation_topic, pool_made
from mev.market.solidly_state import read_solidly
from mev.market.state import Makes, MarketState, PoolState
from mev.runtime.config import (
    AlgebraFactoryConfig,
    ChainConfig,
    FactoryConfig,
    SolidlyFactoryConfig,
    V3FactoryConfig,
)

# Anyone may make pools, and the block waits for them: the others are read after the next one.
MOST_A_BLOCK = 4
Factory = FactoryConfig | V3FactoryConfig | SolidlyFactoryConfig | AlgebraFactoryConfig

log = structlog.get_logger(__name__)


class Maker(NamedTuple):
    """Which of a factory's new pools are watched: those between two of the tokens, of V3's with one of its fees, where a start would find them."""

    factory: Factory
    tokens: frozenset[Address]

    def pool_of(self, said: Log) -> Pool | None:
        """Return the pool that a log of the factory says it has made, None where it is not watched; raises AbiError where the log is malformed."""
        if said.topics[:1] != (creation_topic(self.factory),):
            return None
        pool = pool_made(self.factory, said.topics, said.data)
        if pool is None or not {pool.token0, pool.token1} <= self.tokens:
            return None
        if isinstance(self.factory, V3FactoryConfig):
            watched = FEE_DENOMINATOR - pool.fee_numerator in self.factory.fees
            return pool if watched and 0 < pool.tick_spacing <= MAX_TICK_SPACING else None
        return pool


def factories_of(chain: ChainConfig) -> tuple[Factory, ...]:
    """Return a chain's factories of every kind; V4's managers are none."""
    return (*chain.v2_factories, *chain.v3_factories, *chain.solidly_factories, *chain.algebra_factories)


def makers_of(chain: ChainConfig, tokens: Iterable[Address]) -> dict[Address, Makes]:
    """Return what tells the watched ones among a chain's factories' new pools, by factory."""
    watched = frozenset(tokens)
    return {factory.address: Maker(factory, watched).pool_of for factory in factories_of(chain)}


async def read_late(rpc: Rpc, chain: ChainConfig, market: MarketState, block: Block) -> frozenset[Address]:
    """Read the pools that are due as they are after `block`, the market's own, a few at a time, and return those that were taken in.

    What does not answer as a pool does is logged, and asked again a few times; where the node does not answer it is logged, and the next block asks.
    """
    due = market.due()[:MOST_A_BLOCK]
    if not due:
        return frozenset()
    integral = [
        Named(pool.address, pool.factory, (pool.token0, pool.token1)) for pool in due if pool.algebra is not None
    ]
    try:
        read: dict[Pool, PoolState] = {**await read_algebra(rpc, integral, block)}
        read.update(await read_solidly(rpc, chain.solidly_factories, [pool for pool in due if pool.solidly], block))
    except (RpcError, RpcUnavailableError, MalformedAnswerError) as error:
        log.warning("new pools not read", block=block.number, pools=len(due), reason=str(error))
        return frozenset()
    for pool, state in read.items():
        market.take_in(pool, state)
    market.tried(pool.address for pool in due)
    return frozenset(pool.address for pool in read)
