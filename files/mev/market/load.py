"""A chain's market as one block left it, read whole from a node: what the engine starts from, and what looks back start from."""

from mev.chain.abi import SYNC
from mev.chain.rpc import Rpc
from mev.domain import Block
from mev.domain.market import Hash
from mev.market.concentrated_state import CONCENTRATED_TOPICS
from mev.market.discovery import discover
from mev.market.discovery_v3 import discover_concentrated
from mev.market.state import MarketState
from mev.runtime.config import ChainConfig


async def load_market(rpc: Rpc, chain: ChainConfig, block: Block) -> MarketState:
    """Return every configured pool as it is after `block`; raises DiscoveryError and what the transport raises."""
    tokens = [token.address for token in chain.tokens]
    pairs = await discover(rpc, chain.v2_factories, tokens, block)
    pools = await discover_concentrated(rpc, chain.v3_factories, tokens, block)
    return MarketState(block, {**pairs, **pools})


def market_topics(chain: ChainConfig) -> list[Hash]:
    """Return the events that change what such a market holds."""
    return [SYNC, *(sorted(CONCENTRATED_TOPICS) if chain.v3_factories else ())]
