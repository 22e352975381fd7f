"""A chain's market as one block left it, read from a node: what the engine starts from, and what looks back start from."""

from collections.abc import Iterable
from pathlib import Path

from mev.chain.abi import SYNC
from mev.chain.rpc import Rpc
from mev.domain import Block
from mev.domain.market import Address, Hash
from mev.market.algebra_state import ask_fees
from mev.market.balancer_state import BALANCER_TOPICS
from mev.market.concentrated_state import ALGEBRA_TOPICS, CONCENTRATED_TOPICS, V4_TOPICS
from mev.market.curve_state import CURVE_TOPICS
from mev.market.factory_events import creation_topic
from mev.market.late import factories_of, makers_of
from mev.market.resume import market_at
from mev.market.solidly_state import SOLIDLY_TOPICS
from mev.market.state import MarketState, Watches
from mev.market.v4_state import Watched
from mev.runtime.config import ChainConfig


async def load_market(
    rpc: Rpc, chain: ChainConfig, block: Block, snapshot: Path | None = None, newcomers: Iterable[Address] = ()
) -> MarketState:
    """Return every pool between configured tokens and newcomers as it is after `block`, from a snapshot where one holds; raises DiscoveryError and what the transport raises."""
    tokens = [*(token.address for token in chain.tokens), *newcomers]
    solidly = chain.solidly_factories
    states = await market_at(
        rpc,
        chain.id,
        block,
        tokens,
        chain.v2_factories,
        chain.v3_factories,
        snapshot,
        solidly,
        chain.algebra_factories,
        chain.v4_managers,
        chain.wrapped_native,
        chain.balancer_vaults,
        chain.curve_pools,
    )
    managers: dict[Address, Watches] = {
        each.address: Watched(each, frozenset(tokens), chain.wrapped_native).pool_of for each in chain.v4_managers
    }
    setters: dict[Address, str] = {factory.address: factory.name for factory in solidly}
    market = MarketState(block, states, setters, managers, makers_of(chain, tokens))
    # What was kept in a snapshot has the fee of then.
    await ask_fees(rpc, market, block)
    return market


def market_topics(chain: ChainConfig) -> list[Hash]:
    """Return the events that change what such a market holds."""
    return [
        SYNC,
        *sorted({creation_topic(factory) for factory in factories_of(chain)}),
        *(sorted(CONCENTRATED_TOPICS) if chain.v3_factories or chain.algebra_factories else ()),
        *(sorted(ALGEBRA_TOPICS) if chain.algebra_factories else ()),
        *(sorted(V4_TOPICS) if chain.v4_managers else ()),
        *(sorted(BALANCER_TOPICS) if chain.balancer_vaults else ()),
        *(sorted(CURVE_TOPICS) if chain.curve_pools else ()),
        *(sorted(SOLIDLY_TOPICS) if chain.solidly_factories else ()),
    ]
