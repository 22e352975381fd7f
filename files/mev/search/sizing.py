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

from mev.domain import Cycle
from mev.market.amm import UINT112_MAX, AmmError
from mev.market.state import MarketState
from mev.search.active_set import optimum
from mev.search.graph import Cycles
from mev.search.legs import AnyLeg, Leg, amounts, legs_of
from mev.search.rates import COST, GAIN, PART, Floats

# Amounts this close to the best one, of the token put in and of the coarsest one on the way, have been tried; base units.
NEIGHBOURS = 3
# How often the best amount may move to a better neighbour: hostile reserves must not hold the engine up.
MOVES = 64
# What float64 may get wrong over three hops: of the threshold, and of the amount put in.
SLACK = 1e-6
# So many cycles at once, that what is computed of them stays in the processor's cache.
CHUNK = 8192
ROUNDING = 64 * float(np.finfo(np.float64).eps)


class Sized(NamedTuple):
    """What to put in and what comes out, base units of the cycle's token; both 0 where no amount leaves a profit."""

    amount_in: int
    amount_out: int


class Moebius(NamedTuple):
    """O(x) = a x / (c x + d): what a chain of hops gives for x, before rounding."""

    a: int
    c: int
    d: int


def screen(cycles: Cycles, state: MarketState, *, max_amount_in: int | None = None, min_profit: int = 1) -> list[Cycle]:
    """Return the cycles that may leave `min_profit` with at most `max_amount_in`, most profitable first.

    Both are base units of the cycle's token. What `size_exact` finds profitable by more than float64 can tell from
    nothing is never missed; some of what is returned may turn out short of the threshold: of cycles with a V3 pool all that may pay at all.
    """
    if not cycles:
        return []
    amount_in, profit = estimate(cycles, state, max_amount_in)
    enough = profit + ROUNDING * amount_in >= min_profit * (1 - SLACK)
    if any(pool.concentrated for pool in cycles.source.pools):
        unsure = np.repeat([pool.concentrated for pool in cycles.source.pools], 2)
        enough |= np.append(unsure, [False])[cycles.source.hops[cycles.positions]].any(axis=1)
    kept = np.flatnonzero((amount_in > 0) & enough)
    return [cycles[position] for position in kept[np.argsort(-profit[kept], kind="stable")].tolist()]


def estimate(cycles: Cycles, state: MarketState, max_amount_in: int | None = None) -> tuple[Floats, Floats]:
    """Return each cycle's best amount in and its profit, base units, as float64; 0 or less where there is none."""
    source = cycles.source
    few = None
    if len(cycles) <= len(source.pools):
        # Many cycles go through every pool; looking through all of them is quicker then than finding out.
        few = [at for at in np.unique(source.hops[cycles.positions] >> 1).tolist() if at < len(source.pools)]
    table = source.rates.refreshed(state, few)
    most = np.inf if max_amount_in is None else max_amount_in
    amount_in, profit = np.empty(len(cycles)), np.empty(len(cycles))
    with np.errstate(divide="ignore", invalid="ignore"):
        for begin in range(0, len(cycles), CHUNK):
            end = min(begin + CHUNK, len(cycles))
            first, *others = source.columns[:, cycles.positions[begin:end]]
            a, c, d = table[GAIN].take(first), table[PART].take(first), table[COST].take(first)
            for step in others:
                cost = table[COST].take(step)
                c = table[PART].take(step) * a + cost * c
                a = table[GAIN].take(step) * a
                d = cost * d
            best = (np.sqrt(a) * np.sqrt(d) - d) / c
            best = np.minimum(np.nan_to_num(best, copy=False, nan=0.0, posinf=0.0), most)
            amount_in[begin:end] = best
            profit[begin:end] = np.nan_to_num(best * (a - d - c * best) / (c * best + d), copy=False)
    return amount_in, profit


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
