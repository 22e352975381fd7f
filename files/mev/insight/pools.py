"""Which pools the engine would trade through now: read from the chains as its start reads them."""

import asyncio
from collections.abc import Sequence
from decimal import Context, Decimal
from typing import Any

from mev.chain.rpc import Rpc
from mev.domain import Pool
from mev.domain.market import Address
from mev.market.amm.price_math import Q96
from mev.market.load import load_market
from mev.market.newcomers import newcomers_of
from mev.market.state import MarketState
from mev.runtime.address import checksum
from mev.runtime.config import ChainConfig, Config

Document = dict[str, Any]

# For people: mathematics is in integers.
_SHOWN = Context(prec=12)
_WORKING = Context(prec=80)


def pools(config: Config, names: Sequence[str]) -> Document:
    """Return each chain's pools at its head; raises what the transport and discovery raise."""

    async def read(name: str) -> Document:
        chain = config.chains[name]
        async with Rpc(chain.end_points, chain_id=chain.id) as rpc:
            block = (await rpc.latest()).block()
            state = await load_market(rpc, chain, block, newcomers=await newcomers_of(name, rpc, chain, block))
        return {
            "block_number": state.block.number,
            "block_hash": "0x" + state.block.hash.hex(),
            "pools": [pool_document(chain, pool, state) for pool in state.pools().values()],
        }

    async def all_of_them() -> Document:
        read_ones = await asyncio.gather(*(read(name) for name in names))
        return dict(zip(names, read_ones, strict=True))

    return {"chains": asyncio.run(all_of_them())}


def pool_document(chain: ChainConfig, pool: Pool, state: MarketState) -> Document:
    """Write one pool: `price` is token1 for one token0 in whole tokens, `quarantined` why nothing is traded through it."""
    document: Document = {
        "pool": checksum(pool.address),
        "factory": pool.factory,
        "kind": "v3" if pool.concentrated else "v2",
        "token0": checksum(pool.token0),
        "token1": checksum(pool.token1),
        "symbol0": _symbol(chain, pool.token0),
        "symbol1": _symbol(chain, pool.token1),
        "fee_ppm": (pool.fee_denominator - pool.fee_numerator) * 10**6 // pool.fee_denominator,
        "reserve0": None,
        "reserve1": None,
        "sqrt_price_x96": None,
        "tick": None,
        "liquidity": None,
        "price": None,
        "quarantined": state.unusable().get(pool.address),
    }
    shift = Decimal(10) ** (_decimals(chain, pool.token0) - _decimals(chain, pool.token1))
    if not pool.concentrated:
        held = state.v2(pool.address)
        document |= {"reserve0": str(held.reserve0), "reserve1": str(held.reserve1)}
        if held.reserve0 and held.reserve1:
            document["price"] = _price(_WORKING.divide(Decimal(held.reserve1), Decimal(held.reserve0)), shift)
        else:
            document["quarantined"] = "it is empty"
    elif (now := state.concentrated(pool.address)) is not None:
        root = _WORKING.divide(Decimal(now.sqrt_price_x96), Decimal(Q96))
        document |= {
            "sqrt_price_x96": str(now.sqrt_price_x96),
            "tick": now.tick,
            "liquidity": str(now.liquidity),
            "price": _price(_WORKING.multiply(root, root), shift),
        }
    if not {pool.token0, pool.token1} <= {token.address for token in chain.tokens}:
        # A token that discovery found: nobody has said its decimals.
        document["price"] = None
    return document


def _price(of_units: Decimal, shift: Decimal) -> str:
    return format(_SHOWN.plus(_WORKING.multiply(of_units, shift)), "f")


def _symbol(chain: ChainConfig, token: Address) -> str:
    return next((each.symbol for each in chain.tokens if each.address == token), "?")


def _decimals(chain: ChainConfig, token: Address) -> int:
    return next((each.decimals for each in chain.tokens if each.address == token), 0)
