"""How much to put into a cycle of V2 pairs and V3 pools.

A constant-product hop gives y = n ro x / (d ri + n x), its fee being n/d. Composed, hops keep the form
O(x) = (A x + B) / (C x + D), here with B = 0. The profit O(x) - x is concave, greatest at x* = (sqrt(A D) - D) / C,
and never more than (sqrt(A) - sqrt(D))^2 / C. Screening computes this in float64 for many cycles at once; `size_exact`
decides in the integers of the contracts, whose divisions round down at each hop.

A V3 pool is such a hop as long as the price stays in one range of constant liquidity. Screening takes the range where it is: whether any
amount pays is then right, since that is decided by prices and fees alone, and how much is an estimate. Sizing walks on (mev.search.active_set).

Source: Moebius composition of constant-product hops, after Angeris et al., arXiv 1911.03380.
"""

import contextlib
from collections.abc import Iterator, Sequence
from math import isqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mev.domain import Cycle
from mev.market.amm import UINT112_MAX, AmmError
from mev.market.state import MarketState
from mev.search.active_set import optimum
from mev.search.graph import Cycles, Indices
from mev.search.legs import AnyLeg, BalancerLeg, CurveLeg, Leg, SolidlyLeg, amounts, legs_of
from mev.search.mixed import MOVES, NEIGHBOURS, Sized, size_path
from mev.search.rates import RATE, SLOPE, Floats

# What float64 may get wrong over three hops: of the threshold, and of the amount put in.
SLACK = 1e-6
# So many cycles at once, that what is computed of them stays in the processor's cache.
CHUNK = 8192
ROUNDING = 64 * float(np.finfo(np.float64).eps)


class Moebius(NamedTuple):
    """O(x) = a x / (c x + d): what a chain of hops gives for x, before rounding."""

    a: int
    c: int
    d: int


def screen(cycles: Cycles, state: MarketState, *, max_amount_in: int | None = None, min_profit: int = 1) -> list[Cycle]:
    """Return the cycles that may leave `min_profit` with at most `max_amount_in`, most profitable first.

    Both are base units of the cycle's token. What `size_exact` finds profitable by more than float64 can tell from
    nothing is never missed; some of what is returned may turn out short of the threshold: of cycles with a V3 or a stable pool all that may pay at all.
    """
    least, unsure = min_profit * (1 - SLACK), cycles.source.estimated
    kept, profits = [], []
    for positions, steps, amount_in, profit in _estimates(cycles, state, max_amount_in):
        enough = profit + ROUNDING * amount_in >= least
        if unsure is not None:
            enough |= unsure[steps].any(axis=0)
        enough &= amount_in > 0
        found = np.flatnonzero(enough)
        kept.append(positions[found])
        profits.append(profit[found])
    if not kept:
        return []
    order = np.argsort(-np.concatenate(profits), kind="stable")
    return [cycles.source.cycles[position] for position in np.concatenate(kept)[order].tolist()]


class _Estimated(NamedTuple):
    """Some cycles' positions and steps, their best amounts in and their profits, base units as float64; amount 0 where there is none."""

    positions: Indices
    steps: NDArray[np.intp]
    amount_in: Floats
    profit: Floats


def _estimates(cycles: Cycles, state: MarketState, max_amount_in: int | None) -> Iterator[_Estimated]:
    """Estimate as many cycles at a time as fit into the processor's cache; each answer is good until the next one."""
    source = cycles.source
    few = None
    if len(cycles) <= len(source.pools):
        # Many cycles go through every pool; looking through all of them is quicker then than finding out.
        few = [at for at in np.unique(source.hops[cycles.positions] >> 1).tolist() if at < len(source.pools)]
    table = source.rates.refreshed(state, few)
    # Positions are sorted and without repetition, so the first and the last say whether they are all in a row.
    row = len(cycles) and int(cycles.positions[-1]) - int(cycles.positions[0]) + 1 == len(cycles)
    scratch = np.empty((4, min(CHUNK, len(cycles))))
    for begin in range(0, len(cycles), CHUNK):
        positions = cycles.positions[begin : begin + CHUNK]
        steps = source.columns[:, positions[0] : positions[-1] + 1] if row else source.columns.take(positions, axis=1)
        amount_in, profit = _best(steps, table, max_amount_in, scratch[:, : len(positions)])
        yield _Estimated(positions, steps, amount_in, profit)


def _best(steps: NDArray[np.intp], table: Floats, most: int | None, scratch: Floats) -> tuple[Floats, Floats]:
    """Return best amounts and their profits, in rows of `scratch`; every step is in the table, so that none has to be checked (mode)."""
    rate, slope = table[RATE], table[SLOPE]
    whole, fall, one, amount_in = scratch
    first, *others = steps
    rate.take(first, out=whole, mode="clip")
    slope.take(first, out=fall, mode="clip")
    for step in others:
        # g x / (1 + p x), then the next: g' g x / (1 + (p + p' g) x).
        slope.take(step, out=one, mode="clip")
        one *= whole
        fall += one
        rate.take(step, out=one, mode="clip")
        whole *= one
    # The best amount is (sqrt(g) - 1) / p.
    np.sqrt(whole, out=whole)
    np.subtract(whole, 1, out=one)
    np.divide(one, fall, out=amount_in)
    np.maximum(amount_in, 0, out=amount_in)
    if most is None:
        one *= amount_in
        return amount_in, one
    np.minimum(amount_in, most, out=amount_in)
    # x (g - 1 - p x) / (1 + p x)
    whole += 1
    whole *= one
    fall *= amount_in
    whole -= fall
    fall += 1
    whole /= fall
    whole *= amount_in
    return amount_in, whole


def size_exact(cycle: Cycle, state: MarketState, max_amount_in: int | None = None) -> Sized:
    """Return the amount that leaves most, of at most `max_amount_in` base units, with the contracts' own rounding.

    No amount within NEIGHBOURS of it leaves more, and none at all leaves more than it by what rounding takes, which is
    less than a unit of each token on the way.
    """
    try:
        legs = legs_of(cycle, state)
    except AmmError:
        return Sized(0, 0)
    return size_legs(legs, max_amount_in)


def size_legs(legs: Sequence[AnyLeg], max_amount_in: int | None = None) -> Sized:
    """Do as `size_exact`, for pools given as they are."""
    pairs = [leg for leg in legs if isinstance(leg, Leg)]
    if not all(leg.reserve_in and leg.reserve_out for leg in pairs):
        return Sized(0, 0)
    if any(
        isinstance(leg, BalancerLeg | CurveLeg) or (isinstance(leg, SolidlyLeg) and leg.pool.stable) for leg in legs
    ):
        # Its curve has no pieces: closed in on by its own quotes.
        return size_path([leg.amount_out for leg in legs], UINT112_MAX if max_amount_in is None else max_amount_in)
    if len(pairs) == len(legs):
        limit, near = _best_of_pairs(pairs, max_amount_in)
    else:
        limit = UINT112_MAX if max_amount_in is None else min(max_amount_in, UINT112_MAX)
        near = optimum(legs, limit)
    if near < 1:
        return Sized(0, 0)
    best = _tightened(legs, near)
    for _ in range(MOVES):
        better = max(
            (_tightened(legs, amount) for amount in _around(legs, best.amount_in) if 0 < amount <= limit), key=_profit
        )
        if _profit(better) <= _profit(best):
            break
        best = better
    return best if _profit(best) > 0 else Sized(0, 0)


def compose(legs: Sequence[Leg]) -> Moebius:
    """Return the map of all hops together, in integers."""
    a, c, d = 1, 0, 1
    for leg in legs:
        cost = leg.fee_denominator * leg.reserve_in
        a, c, d = leg.fee_numerator * leg.reserve_out * a, leg.fee_numerator * a + cost * c, cost * d
    return Moebius(a, c, d)


def _best_of_pairs(legs: Sequence[Leg], max_amount_in: int | None) -> tuple[int, int]:
    """Return the most that may be put in, and the best amount of it before rounding; 0 where no amount pays."""
    limit = _largest_in(legs) if max_amount_in is None else min(max_amount_in, _largest_in(legs))
    whole = compose(legs)
    if whole.a <= whole.d or limit < 1:
        return limit, 0
    return limit, min(max((isqrt(whole.a * whole.d) - whole.d) // whole.c, 1), limit)


def _largest_in(legs: Sequence[Leg]) -> int:
    """Return the most that can be put in before a reserve on the way passes 112 bits; it may be 0 or less."""
    largest = UINT112_MAX
    for leg in reversed(legs):
        # More than `largest` must not come out of this hop: one less than the cheapest input for more than that.
        from_next = leg.cheapest_in(largest + 1) - 1 if largest + 1 < leg.reserve_out else UINT112_MAX
        largest = min(from_next, UINT112_MAX - leg.reserve_in)
    return largest


def _tightened(legs: Sequence[AnyLeg], amount_in: int) -> Sized:
    """Return the smallest input that gives as much as `amount_in` does; where a pair would revert, nothing comes out."""
    held = _amounts_or_nothing(legs, amount_in)
    if not held:
        return Sized(amount_in, 0)
    try:
        least = _cheapest(legs, held[-1])
    except AmmError:
        return Sized(amount_in, held[-1])
    if all(isinstance(leg, Leg) for leg in legs):
        return Sized(least, held[-1])
    # A V3 pool's way back may ask for a little more than its way there.
    given = _amounts_or_nothing(legs, least) if least < amount_in else []
    return Sized(least, given[-1]) if given and given[-1] >= held[-1] else Sized(amount_in, held[-1])


def _amounts_or_nothing(legs: Sequence[AnyLeg], amount_in: int) -> list[int]:
    try:
        return amounts(legs, amount_in)
    except AmmError:
        return []


def _cheapest(legs: Sequence[AnyLeg], amount_out: int) -> int:
    for leg in reversed(legs):
        amount_out = leg.cheapest_in(amount_out)
    return amount_out


def _around(legs: Sequence[AnyLeg], amount_in: int) -> Iterator[int]:
    """Yield inputs near `amount_in`, and those for which the coarsest amount on the way is near what it is.

    Where a token in between is coarse (6 decimals between two of 18), its next unit is many base units of input away.
    """
    for offset in range(-NEIGHBOURS, NEIGHBOURS + 1):
        yield amount_in + offset
    held = _amounts_or_nothing(legs, amount_in) or [amount_in]
    hops = held.index(min(held))
    if hops:
        for offset in range(-NEIGHBOURS, NEIGHBOURS + 1):
            with contextlib.suppress(AmmError):
                yield _cheapest(legs[:hops], held[hops] + offset)


def _profit(sized: Sized) -> int:
    return sized.amount_out - sized.amount_in
