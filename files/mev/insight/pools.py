"""Which pools the engine would trade through now: read from the chains as its start reads them."""

import asyncio
from collections.abc import Sequence
from decimal import Context, Decimal
from typing import Any

from mev.chain.rpc import Rpc
from mev.domain import Pool
from mev.domain.market import Address
from mev.market.amm.balancer import WeightedPool
from mev.market.amm.curve import FEE_DENOMINATOR as CURVE_DENOMINATOR
from mev.market.amm.log_exp import ONE
from mev.market.amm.price_math import Q96
from mev.market.amm.solidly import SolidlyPool
from mev.market.balancer_state import places
from mev.market.curve_state import coins
from mev.market.load import load_market
from mev.market.newcomers import newcomers_of
from mev.market.state import MarketState
from mev.runtime.address import checksum
from mev.runtime.config import ChainConfig, Config
from mev.search.rates import RATE, RateTable

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
        "kind": _kind(pool, state),
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
    if pool.v4 is not None:
        document["pool_id"] = "0x" + pool.v4.id.hex()
    if pool.balancer is not None:
        document["pool_id"] = "0x" + pool.balancer.id.hex()
    if pool.curve is not None:
        document["pool_id"] = checksum(pool.curve.pool)
    shift = Decimal(10) ** (_decimals(chain, pool.token0) - _decimals(chain, pool.token1))
    if pool.balancer is not None:
        document |= _balancer(pool, state, shift)
    elif pool.curve is not None:
        document |= _curve(pool, state, shift)
    elif pool.solidly:
        document |= _solidly(state.solidly(pool.address), shift)
    elif not pool.concentrated:
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
            "fee_ppm": now.fees[0],
        }
    elif pool.algebra is not None:
        document["fee_ppm"] = None
    if not {pool.token0, pool.token1} <= {token.address for token in chain.tokens}:
        # A token that discovery found: nobody has said its decimals.
        document["price"] = None
    return document


def _kind(pool: Pool, state: MarketState) -> str:
    if pool.balancer is not None:
        held = state.balancer(pool.address)
        return "balancer" if held is None else f"balancer_{'weighted' if isinstance(held, WeightedPool) else 'stable'}"
    if pool.curve is not None:
        return "curve" if pool.curve.base is None else "curve_meta"
    if pool.solidly:
        return "solidly_stable" if pool.stable else "solidly_volatile"
    if pool.algebra is not None:
        return "algebra"
    if pool.v4 is not None:
        return "v4"
    return "v3" if pool.concentrated else "v2"


def _balancer(pool: Pool, state: MarketState, shift: Decimal) -> Document:
    """What differs in the document of two tokens of a Balancer pool: balances, the fee (part of its state), and the price of next to nothing, which floats tell well enough."""
    held = state.balancer(pool.address)
    if held is None:
        return {"fee_ppm": None}
    ends = places(pool, zero_for_one=True)
    return _of_several(pool, state, [held.balances[each] for each in ends], Decimal(held.fee) / ONE, shift)


def _curve(pool: Pool, state: MarketState, shift: Decimal) -> Document:
    """Do the same for two coins of a Curve pool."""
    held = state.curve(pool.address)
    if held is None:
        return {"fee_ppm": None}
    ends = coins(pool, zero_for_one=True)
    fee = Decimal(held.fee) / CURVE_DENOMINATOR
    return _of_several(pool, state, [held.balances[each] for each in ends], fee, shift)


def _of_several(pool: Pool, state: MarketState, balances: Sequence[int], fee: Decimal, shift: Decimal) -> Document:
    document: Document = {
        "reserve0": str(balances[0]),
        "reserve1": str(balances[1]),
        "fee_ppm": int(fee * 10**6),
    }
    rate = float(RateTable([pool]).refreshed(state)[RATE, 0])
    if not rate:
        return document | {"quarantined": "it is empty"}
    return document | {"price": _price(_WORKING.divide(Decimal(rate), 1 - fee), shift)}


def _solidly(held: SolidlyPool | None, shift: Decimal) -> Document:
    """What differs in a Solidly pool's document: its fee is its state's, and a stable one's price is its curve's at its reserves."""
    if held is None:
        return {"fee_ppm": None}
    document: Document = {"reserve0": str(held.reserve0), "reserve1": str(held.reserve1), "fee_ppm": 100 * held.fee}
    if not (held.reserve0 and held.reserve1):
        return document | {"quarantined": "it is empty"}
    price = _WORKING.divide(Decimal(held.reserve1), Decimal(held.reserve0))
    if held.stable:
        x, y = Decimal(held.reserve0) / held.unit0, Decimal(held.reserve1) / held.unit1
        price = _WORKING.multiply(price, _WORKING.divide(3 * x * x + y * y, x * x + 3 * y * y))
    return document | {"price": _price(price, shift)}


def _price(of_units: Decimal, shift: Decimal) -> str:
    return format(_SHOWN.plus(_WORKING.multiply(of_units, shift)), "f")


def _symbol(chain: ChainConfig, token: Address) -> str:
    return next((each.symbol for each in chain.tokens if each.address == token), "?")


def _decimals(chain: ChainConfig, token: Address) -> int:
    return next((each.decimals for each in chain.tokens if each.address == token), 0)
