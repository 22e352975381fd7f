"""A V3 pool, PancakeSwap V3's, Algebra's or V4's, followed by its events: Initialize, Swap, Mint and Burn, in their order, exactly as the contract writes its state.

An Algebra pool's fee is part of its state: Fee says it. What its plugin, or a pool before Integral, would take in the next block, no event says (see mev.market.algebra_state).
"""

import msgspec

from mev.chain.abi import V4_INITIALIZED, AbiError, event_topic
from mev.chain.abi.logs import decode_log
from mev.chain.wire import Log
from mev.domain import Algebra, Pool
from mev.domain.events import (
    FeeChanged,
    MalformedLog,
    PancakePoolSwap,
    PluginConfigured,
    PoolBurn,
    PoolInitialized,
    PoolMint,
    PoolSwap,
    V4Initialized,
    V4LiquidityModified,
    V4ProtocolFeeSet,
    V4Swap,
)
from mev.market.amm import AmmError
from mev.market.amm.concentrated import INT128_MAX, INT256_MAX, UINT128_MAX, ConcentratedPool, v4_swap_fee
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
# What only an Algebra pool tells.
ALGEBRA_TOPICS = frozenset(event_topic(signature) for signature in ("Fee(uint16)", "PluginConfig(uint8)"))
# What a V4 PoolManager tells of its pools, by their ids.
V4_TOPICS = frozenset(
    {
        V4_INITIALIZED,
        event_topic("Swap(bytes32,address,int128,int128,uint160,uint128,int24,uint24)"),
        event_topic("ModifyLiquidity(bytes32,address,int24,int24,int256,bytes32)"),
        event_topic("ProtocolFeeUpdated(bytes32,uint24)"),
    }
)
FEE_DENOMINATOR = 10**6
V4_FEE_BITS = 12
# Of an Algebra Integral pool's hooks those that may change what a swap costs: one before it, and a fee that the plugin says.
FEE_HOOKS = 1 | 128


class Unusable(msgspec.Struct, frozen=True):
    """A pool through which nothing is traded, and why: it has no price yet, or its events contradict what it was known to hold."""

    reason: str


NO_PRICE = Unusable("it is not initialised")
NO_FEE_YET = Unusable("it was initialised after it was read: its fee and its plugin are not known")
NEW_PLUGIN = Unusable("its plugin may say its fee from now on: it has to be read anew")
Concentrated = ConcentratedPool | Unusable


def made(
    pool: Pool,
    net: dict[int, int],
    sqrt_price_x96: int,
    tick: int,
    liquidity: int,
    fees: tuple[int, int] | None = None,
) -> ConcentratedPool:
    """Return a pool with its liquidity net by tick, of Algebra's and V4's with the fees given; raises AmmError where no pool can be like that."""
    fee = FEE_DENOMINATOR - pool.fee_numerator
    integral = pool.algebra is not None and pool.algebra is not Algebra.BEFORE_INTEGRAL
    largest = INT256_MAX if pool.v4 is None else INT128_MAX
    return ConcentratedPool(
        Ticks(net, pool.tick_spacing, words=not integral),
        sqrt_price_x96=sqrt_price_x96,
        tick=tick,
        liquidity=liquidity,
        fees=(fee, fee) if fees is None else fees,
        largest_amount=UINT128_MAX if integral else largest,
    )


def v4_fees(pool: Pool, protocol: int) -> tuple[int, int]:
    """Return what swaps in a V4 pool cost in both directions, millionths; raises AmmError where the protocol's part is none."""
    own = FEE_DENOMINATOR - pool.fee_numerator
    parts = (protocol & (1 << V4_FEE_BITS) - 1, protocol >> V4_FEE_BITS)
    return v4_swap_fee(parts[0], own), v4_swap_fee(parts[1], own)


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
                if pool.algebra is not None:
                    return NO_FEE_YET
                return made(pool, {}, event.sqrt_price_x96, event.tick, 0)
            case Unusable(), V4Initialized() if state == NO_PRICE:
                # The protocol takes nothing of a pool before it is told to.
                return made(pool, {}, event.sqrt_price_x96, event.tick, 0, v4_fees(pool, 0))
            case ConcentratedPool(), PoolSwap() | PancakePoolSwap():
                return state.at(event.sqrt_price_x96, event.tick, event.liquidity)
            case ConcentratedPool(), PoolMint() | PoolBurn() if event.liquidity:
                delta = event.liquidity if isinstance(event, PoolMint) else -event.liquidity
                return state.with_liquidity(event.tick_lower, event.tick_upper, delta)
            case ConcentratedPool(), PoolInitialized() | V4Initialized():
                return Unusable("it was initialised twice")
            case ConcentratedPool(), _:
                return _of_its_own_kind(pool, state, event)
    except AmmError as contradiction:
        return Unusable(str(contradiction))
    return state


def _of_its_own_kind(pool: Pool, state: ConcentratedPool, event: object) -> Concentrated:
    """Return a pool's state after an event that only Algebra's or V4's have; raises AmmError as `made`."""
    match event:
        case FeeChanged() if pool.algebra is not None:
            return state.at(state.sqrt_price_x96, state.tick, state.liquidity, (event.fee, event.fee))
        case PluginConfigured() if pool.algebra is Algebra.OWN and event.config & FEE_HOOKS:
            return NEW_PLUGIN
        case V4Swap():
            return state.at(event.sqrt_price_x96, event.tick, event.liquidity)
        case V4LiquidityModified() if event.liquidity_delta:
            return state.with_liquidity(event.tick_lower, event.tick_upper, event.liquidity_delta)
        case V4ProtocolFeeSet():
            return state.at(state.sqrt_price_x96, state.tick, state.liquidity, v4_fees(pool, event.fees))
    return state


def same(one: Concentrated, other: Concentrated) -> bool:
    """Whether two states give the same for everything that can be put in."""
    if isinstance(one, Unusable) or isinstance(other, Unusable):
        return one is other or one == other
    of_one, of_other = ((each.sqrt_price_x96, each.tick, each.liquidity, each.fees) for each in (one, other))
    if of_one != of_other:
        return False
    return one.ticks is other.ticks or one.ticks.net == other.ticks.net
