"""What pools and their factories say has happened: one struct an event, its fields in the order of the event's signature.

Amounts are base units; a signed one is the pool's: positive came in. Prices are square roots in Q64.96.
"""

import msgspec

from mev.domain.market import Address, Hash


class Sync(msgspec.Struct, frozen=True):
    """A pair's reserves after whatever it has just done (Uniswap V2, Solidly)."""

    reserve0: int
    reserve1: int


class PairSwap(msgspec.Struct, frozen=True):
    """A swap of a pair (Uniswap V2, Solidly)."""

    sender: Address
    amount0_in: int
    amount1_in: int
    amount0_out: int
    amount1_out: int
    receiver: Address


class PairMint(msgspec.Struct, frozen=True):
    """Liquidity came into a pair."""

    sender: Address
    amount0: int
    amount1: int


class PairBurn(msgspec.Struct, frozen=True):
    """Liquidity left a pair."""

    sender: Address
    amount0: int
    amount1: int
    receiver: Address


class PairFees(msgspec.Struct, frozen=True):
    """What a Solidly pair put aside for its providers."""

    sender: Address
    amount0: int
    amount1: int


class PairCreated(msgspec.Struct, frozen=True):
    """A factory of pairs made one, its `number`-th."""

    token0: Address
    token1: Address
    pool: Address
    number: int


class SolidlyPoolCreated(msgspec.Struct, frozen=True):
    """A Solidly factory made a pool, its `number`-th."""

    token0: Address
    token1: Address
    stable: bool
    pool: Address
    number: int


class CustomFeeSet(msgspec.Struct, frozen=True):
    """A Solidly factory gave one of its pools a fee, ten-thousandths: 0 is the factory's common one again, 420 is none."""

    pool: Address
    fee: int


class PoolInitialized(msgspec.Struct, frozen=True):
    """A concentrated pool has its first price (Uniswap V3, Algebra)."""

    sqrt_price_x96: int
    tick: int


class PoolSwap(msgspec.Struct, frozen=True):
    """A swap of a concentrated pool, and its state afterwards (Uniswap V3, Algebra)."""

    sender: Address
    recipient: Address
    amount0: int
    amount1: int
    sqrt_price_x96: int
    liquidity: int
    tick: int


class PancakePoolSwap(msgspec.Struct, frozen=True):
    """A swap of a PancakeSwap V3 pool: Uniswap's, and what the protocol took of it."""

    sender: Address
    recipient: Address
    amount0: int
    amount1: int
    sqrt_price_x96: int
    liquidity: int
    tick: int
    protocol_fees0: int
    protocol_fees1: int


class PoolMint(msgspec.Struct, frozen=True):
    """Liquidity came into [tick_lower, tick_upper) of a concentrated pool."""

    sender: Address
    owner: Address
    tick_lower: int
    tick_upper: int
    liquidity: int
    amount0: int
    amount1: int


class PoolBurn(msgspec.Struct, frozen=True):
    """Liquidity left [tick_lower, tick_upper) of a concentrated pool; the tokens stay in it until they are collected."""

    owner: Address
    tick_lower: int
    tick_upper: int
    liquidity: int
    amount0: int
    amount1: int


class FeeChanged(msgspec.Struct, frozen=True):
    """An Algebra pool's fee from now on, millionths."""

    fee: int


class FeesChanged(msgspec.Struct, frozen=True):
    """A Camelot V3 pool's fees from now on, millionths, for zero_for_one and for one_for_zero."""

    fee_zero_for_one: int
    fee_one_for_zero: int


class PluginConfigured(msgspec.Struct, frozen=True):
    """Which of its plugin's hooks an Algebra Integral pool calls from now on, as bits."""

    config: int


class AlgebraPoolCreated(msgspec.Struct, frozen=True):
    """An Algebra factory made a pool, the only one of two tokens."""

    token0: Address
    token1: Address
    pool: Address


class PoolCreated(msgspec.Struct, frozen=True):
    """A Uniswap V3 factory made a pool; fee in millionths."""

    token0: Address
    token1: Address
    fee: int
    tick_spacing: int
    pool: Address


class V4Initialized(msgspec.Struct, frozen=True):
    """A Uniswap V4 pool came into being."""

    pool: Hash
    currency0: Address
    currency1: Address
    fee: int
    tick_spacing: int
    hooks: Address
    sqrt_price_x96: int
    tick: int


class V4ProtocolFeeSet(msgspec.Struct, frozen=True):
    """What the protocol takes of swaps in a V4 pool, millionths: the lower 12 bits for zero_for_one, the next 12 for one_for_zero."""

    pool: Hash
    fees: int


class V4LiquidityModified(msgspec.Struct, frozen=True):
    """Liquidity came into, or with a negative delta left, [tick_lower, tick_upper) of a V4 pool."""

    pool: Hash
    sender: Address
    tick_lower: int
    tick_upper: int
    liquidity_delta: int
    salt: Hash


class V4Swap(msgspec.Struct, frozen=True):
    """A swap of a V4 pool and its state afterwards; amounts are the swapper's: negative went in. Fee in millionths."""

    pool: Hash
    sender: Address
    amount0: int
    amount1: int
    sqrt_price_x96: int
    liquidity: int
    tick: int
    fee: int


class CurveExchange(msgspec.Struct, frozen=True):
    """An exchange between two coins of a Curve pool, by their numbers; `underlying` where those are the base pool's coins as well."""

    buyer: Address
    sold: int
    amount_sold: int
    bought: int
    amount_bought: int
    underlying: bool = False


class CurveLiquidity(msgspec.Struct, frozen=True):
    """Liquidity came into a Curve pool (`added`) or left it in all coins."""

    provider: Address
    amounts: tuple[int, ...]
    fees: tuple[int, ...]
    supply: int
    added: bool


class CurveWithdrawal(msgspec.Struct, frozen=True):
    """Liquidity left a Curve pool in one coin; which one, only StableSwap-NG's event says."""

    provider: Address
    tokens: int
    amount: int
    coin: int | None = None


class CurveRampStarted(msgspec.Struct, frozen=True):
    """A Curve pool's A, times its precision, goes from one value to another between two times, Unix seconds."""

    initial: int
    future: int
    initial_time: int
    future_time: int


class CurveRampStopped(msgspec.Struct, frozen=True):
    """A Curve pool's A, times its precision, stays what it is."""

    amplification: int
    time: int


class CurveFeesSet(msgspec.Struct, frozen=True):
    """A Curve pool's fee from now on, and the admin's part of it where that is said too, 10**-10."""

    fee: int
    admin_fee: int | None = None


class BalancerSwap(msgspec.Struct, frozen=True):
    """A swap of a Balancer V2 pool."""

    pool: Hash
    token_in: Address
    token_out: Address
    amount_in: int
    amount_out: int


class BalancerBalanceChanged(msgspec.Struct, frozen=True):
    """Tokens came into a Balancer V2 pool or, negative, left it, by a join or an exit."""

    pool: Hash
    provider: Address
    tokens: tuple[Address, ...]
    deltas: tuple[int, ...]
    protocol_fees: tuple[int, ...]


class BalancerBalanceManaged(msgspec.Struct, frozen=True):
    """A Balancer V2 pool's asset manager took tokens or gave them back, or said what it holds: the pool's balance is both together."""

    pool: Hash
    manager: Address
    token: Address
    cash_delta: int
    managed_delta: int


class BalancerFeeSet(msgspec.Struct, frozen=True):
    """A Balancer V2 pool's fee from now on, 18 decimals."""

    fee: int


class AmplificationUpdateStarted(msgspec.Struct, frozen=True):
    """A Balancer V2 stable pool's amplification, thousandths, goes from one value to another between two times, Unix seconds."""

    start: int
    end: int
    start_time: int
    end_time: int


class AmplificationUpdateStopped(msgspec.Struct, frozen=True):
    """A Balancer V2 stable pool's amplification stays what it is, thousandths."""

    amplification: int


class PausedStateChanged(msgspec.Struct, frozen=True):
    """A Balancer V2 pool, or its vault, was paused or goes on."""

    paused: bool


class UnknownLog(msgspec.Struct, frozen=True):
    """A log of an event that is none of these; empty where it has no topic."""

    topic: Hash


class MalformedLog(msgspec.Struct, frozen=True):
    """A log that bears an event's topic and has not its layout: whoever emitted it is not what it seems."""

    event: str
    reason: str


PoolEvent = (
    Sync
    | PairSwap
    | PairMint
    | PairBurn
    | PairFees
    | PairCreated
    | SolidlyPoolCreated
    | CustomFeeSet
    | PoolInitialized
    | PoolSwap
    | PancakePoolSwap
    | PoolMint
    | PoolBurn
    | FeeChanged
    | FeesChanged
    | PluginConfigured
    | AlgebraPoolCreated
    | PoolCreated
    | V4Initialized
    | V4ProtocolFeeSet
    | V4LiquidityModified
    | V4Swap
    | CurveExchange
    | CurveLiquidity
    | CurveWithdrawal
    | CurveRampStarted
    | CurveRampStopped
    | CurveFeesSet
    | BalancerSwap
    | BalancerBalanceChanged
    | BalancerBalanceManaged
    | BalancerFeeSet
    | AmplificationUpdateStarted
    | AmplificationUpdateStopped
    | PausedStateChanged
)
