"""A V3 pool, or PancakeSwap V3's, followed by its events: Initialize, Swap, Mint and Burn, in their order, exactly as the contract writes its state."""

import msgspec

from mev.chain.abi import AbiError, event_topic
from mev.chain.abi.logs import decode_log
from mev.chain.wire import Log
from mev.domain import Pool
from mev.domain.events import MalformedLog, PancakePoolSwap, PoolBurn, PoolInitialized, PoolMint, PoolSwap
from mev.market.amm import AmmError
from mev.market.amm.concentrated import ConcentratedPool
from mev.market.amm.ticks import Ticks

# What a V3 pool tells of its price and its liquidity; Flash and Collect change neither.
CONCENTRATED_TOPICS = frozenset(
    event_topic(signature)
    for signature in (
        "Initialize(uint160,int24)",
        "Swap(address,address,int256,int256,uint160,uint128,int24)",
        # PancakeSwap V3's, which says what the protocol took as well.
        "Swap(address,address,int256,int256,uint160,uint128,int24,uint128,uint128)",
        "Mint(address,address,int24,int24,uint128,uint256,uint256)",
        "Burn(address,int24,int24,uint128,uint256,uint256)",
    )
)
FEE_DENOMINATOR = 10**6


class Unusable(msgspec.Struct, frozen=True):
    """A pool through which nothing is traded, and why: it has no price yet, or its events contradict what it was known to hold."""

    reason: str


NO_PRICE = Unusable("it is not initialised")
Concentrated = ConcentratedPool | Unusable


def made(pool: Pool, net: dict[int, int], sqrt_price_x96: int, tick: int, liquidity: int) -> ConcentratedPool:
    """Return a pool with its liquidity net by tick; raises AmmError where no pool can be like that."""
    fee = FEE_DENOMINATOR - pool.fee_numerator
    return ConcentratedPool(
        Ticks(net, pool.tick_spacing), sqrt_price_x96=sqrt_price_x96, tick=tick, liquidity=liquidity, fees=(fee, fee)
    )


def follow(pool: Pool, state: Concentrated, log: Log) -> Concentrated:
    """Return a pool's state after one of its own logs; raises AbiError where the log is malformed.

    What contradicts the state makes the pool Unusable: nothing is traded on a guess.
    """
    event = decode_log(log.topics, log.data)
    if isinstance(event, MalformedLog):
        raise AbiError(f"{event.event}: {event.reason}")
    try:
        match state, event:
            case Unusable(), PoolInitialized() if state == NO_PRICE:
                return made(pool, {}, event.sqrt_price_x96, event.tick, 0)
            case ConcentratedPool(), PoolSwap() | PancakePoolSwap():
                return state.at(event.sqrt_price_x96, event.tick, event.liquidity)
            case ConcentratedPool(), PoolMint() | PoolBurn() if event.liquidity:
                delta = event.liquidity if isinstance(event, PoolMint) else -event.liquidity
                return state.with_liquidity(event.tick_lower, event.tick_upper, delta)
            case ConcentratedPool(), PoolInitialized():
                return Unusable("it was initialised twice")
    except AmmError as contradiction:
        return Unusable(str(contradiction))
    return state


def same(one: Concentrated, other: Concentrated) -> bool:
    """Whether two states give the same for everything that can be put in."""
    if isinstance(one, Unusable) or isinstance(other, Unusable):
        return one is other or one == other
    if (one.sqrt_price_x96, one.tick, one.liquidity) != (other.sqrt_price_x96, other.tick, other.liquidity):
        return False
    return one.ticks is other.ticks or one.ticks.net == other.ticks.net
