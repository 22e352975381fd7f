"""What pools do to next to nothing and to a little more, in float64: each swap as g x / (1 + p x), g = n ro / (d ri), p = n / (d ri), fee n/d."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mev.domain import Pool
from mev.market.amm import AmmError
from mev.market.amm.balancer import AMPLIFICATION_PRECISION, StablePool, WeightedPool, held_invariant
from mev.market.amm.concentrated import ConcentratedPool
from mev.market.amm.curve import FEE_DENOMINATOR as CURVE_DENOMINATOR
from mev.market.amm.curve import CurvePool
from mev.market.amm.log_exp import ONE
from mev.market.amm.solidly import FEE_DENOMINATOR, SolidlyPool
from mev.market.amm.ticks import FEE_DENOMINATOR as MILLION
from mev.market.balancer_state import places
from mev.market.curve_state import coins
from mev.market.state import MarketState, PoolState

Floats = NDArray[np.float64]
Q96 = float(2**96)
# g and p: the rows of a table.
RATE, SLOPE = range(2)
# At its balance a stable pool's curve is straight: it counts as a pair of so many times its reserves.
MOST_STRAIGHT = 1000.0


class RateTable:
    """The rate for next to nothing and how it falls, for each step (see mev.search.graph), one column a step; the last column, no hop, changes nothing.

    A pool that holds nothing gives nothing: 0 and 1. A V3 pool counts as the pair that its present range amounts to, a stable one as
    the pair with its price and its curve's bend. States never change, new ones take their place: a pool's columns are computed
    again where its state is another object.
    """

    def __init__(self, pools: Sequence[Pool]) -> None:
        self._pools = pools
        self._known: list[PoolState | None] = [None] * len(pools)
        self._rows: Floats = np.ones((2, 2 * len(pools) + 1))
        self._rows[SLOPE, -1] = 0

    def refreshed(self, state: MarketState, positions: Iterable[int] | None = None) -> Floats:
        """Return the table with the columns of the pools at `positions`, or of all, as they are now; it is good until the next call."""
        rows, known = self._rows, self._known
        for position in range(len(self._pools)) if positions is None else positions:
            pool = self._pools[position]
            held = state.held(pool.address)
            if held is known[position]:
                continue
            known[position] = held
            parts, whole = (pool.fee_numerator, pool.fee_numerator), pool.fee_denominator
            if isinstance(held, SolidlyPool):
                parts, whole = (FEE_DENOMINATOR - held.fee, FEE_DENOMINATOR - held.fee), FEE_DENOMINATOR
            elif isinstance(held, ConcentratedPool):
                # A V4 pool's may differ between the directions.
                parts, whole = (MILLION - held.fees[0], MILLION - held.fees[1]), MILLION
            elif isinstance(held, WeightedPool | StablePool):
                parts, whole = (ONE - held.fee, ONE - held.fee), ONE
            elif isinstance(held, CurvePool):
                parts, whole = (CURVE_DENOMINATOR - held.fee, CURVE_DENOMINATOR - held.fee), CURVE_DENOMINATOR
            for way, (one, other) in enumerate(_virtual(pool, state)):
                slope = parts[way] / (whole * one) if one and other else 0.0
                rows[:, 2 * position + way] = (slope * other, slope) if slope else (0.0, 1.0)
        return rows


def _virtual(pool: Pool, state: MarketState) -> list[tuple[float, float]]:
    """Return what a pool seems to hold of what goes in and of what comes out, from token0 to token1 and back."""
    if pool.balancer is not None:
        several = state.balancer(pool.address)
        if several is None or not all(several.balances):
            return [(1.0, 0.0)] * 2
        ways = [places(pool, zero_for_one=way) for way in (True, False)]
        if isinstance(several, WeightedPool):
            return [_weighted(several, *way) for way in ways]
        return [_along_invariant(_Held.of_balancer(several), *way) for way in ways]
    if pool.curve is not None:
        coined = state.curve(pool.address)
        if coined is None or not all(coined.balances):
            return [(1.0, 0.0)] * 2
        return [_along_invariant(_Held.of_curve(coined), *coins(pool, zero_for_one=way)) for way in (True, False)]
    if pool.solidly:
        curve = state.solidly(pool.address)
        if curve is None or not (curve.reserve0 and curve.reserve1):
            return [(1.0, 0.0)] * 2
        held = [(float(curve.reserve0), float(curve.reserve1)), (float(curve.reserve1), float(curve.reserve0))]
        units = (float(curve.unit0), float(curve.unit1))
        return [_bent(*held[0], *units), _bent(*held[1], *units[::-1])] if curve.stable else held
    if not pool.concentrated:
        reserves = state.v2(pool.address)
        both = float(reserves.reserve0), float(reserves.reserve1)
        return [both, both[::-1]]
    found = state.concentrated(pool.address)
    seen = []
    for zero_for_one in (True, False):
        # Where there is no liquidity at the price, the next range is what a swap meets.
        segment = found.segment(0, zero_for_one=zero_for_one) if found else None
        if segment is None:
            seen.append((1.0, 0.0))
            continue
        price = segment.sqrt_price_x96 / Q96
        reserves0, reserves1 = segment.liquidity / price, segment.liquidity * price
        seen.append((reserves0, reserves1) if zero_for_one else (reserves1, reserves0))
    return seen


def _bent(reserve_in: float, reserve_out: float, unit_in: float, unit_out: float) -> tuple[float, float]:
    """Return the pair that has the price of x^3 y + y^3 x at its reserves, and bends as it does there; straighter than MOST_STRAIGHT is not."""
    x, y = reserve_in / unit_in, reserve_out / unit_out
    price = y * (3 * x * x + y * y) / (x * (x * x + 3 * y * y))
    # Of y as a function of x along the curve: its second derivative.
    bend = 6 * (price * (x * x + y * y) - x * y * (1 + price * price)) / (x * (x * x + 3 * y * y))
    seeming = min(2 * price / bend if bend > 0 else x * MOST_STRAIGHT, x * MOST_STRAIGHT)
    return seeming * unit_in, price * seeming * unit_out


def _weighted(pool: WeightedPool, i: int, j: int) -> tuple[float, float]:
    """Return the pair that has the price of a power of what is left, and bends as it does next to nothing."""
    ratio = pool.weights[i] / pool.weights[j]
    seeming = 2.0 * pool.balances[i] / (1 + ratio)
    return seeming, seeming * ratio * pool.balances[j] / pool.balances[i]


class _Held(NamedTuple):
    """What a stable pool of several tokens holds, in 18 decimals: with `scaling`, in 18 decimals too, of base units; its invariant None where there is none."""

    balances: Sequence[int]
    scaling: Sequence[int]
    leverage: float
    invariant: int | None

    @classmethod
    def of_balancer(cls, pool: StablePool) -> "_Held":
        leverage = pool.amplification * len(pool.balances) / AMPLIFICATION_PRECISION
        return cls(pool.scaled(), pool.scaling, leverage, _or_none(lambda: held_invariant(pool)))

    @classmethod
    def of_curve(cls, pool: CurvePool) -> "_Held":
        leverage = pool.amplification * len(pool.balances) / pool.precision
        return cls(pool.scaled(), pool.rates, leverage, _or_none(lambda: pool.invariant(pool.scaled())))


def _or_none(invariant: Callable[[], int]) -> int | None:
    try:
        return invariant()
    except AmmError:
        return None


def _along_invariant(pool: _Held, i: int, j: int) -> tuple[float, float]:
    """Return the pair that has the price of A n^n S + D = A D n^n + D^(n+1) / (n^n P) at a pool's balances, and bends as it does there; straighter than MOST_STRAIGHT is not."""
    if not pool.invariant or not all(pool.balances):
        return 1.0, 0.0
    invariant, leverage = float(pool.invariant), pool.leverage
    balances = [float(balance) for balance in pool.balances]
    # D^(n+1) / (n^n P)
    rest = invariant
    for balance in balances:
        rest *= invariant / (len(balances) * balance)
    x, y = balances[i], balances[j]
    one, other = leverage + rest / x, leverage + rest / y
    price = one / other
    # What the price falls by as x grows and y shrinks along the curve: `rest` changes with both.
    change = rest * (price / y - 1 / x)
    fall = ((change / y + rest * price / (y * y)) * one - (change / x - rest / (x * x)) * other) / (other * other)
    seeming = min(2 * price / fall if fall > 0 else x * MOST_STRAIGHT, x * MOST_STRAIGHT)
    return seeming * ONE / pool.scaling[i], price * seeming * ONE / pool.scaling[j]
