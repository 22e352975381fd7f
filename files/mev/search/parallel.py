"""A cycle's swaps split over pools that stand parallel to them, where the rest of an amount earns more there.

Which pools can help is decided by prices: one whose first unit gives more than the last one does where the amount goes now. The amounts of a swap are those of
mev.search.splitting; what the whole path gives is still concave in what is put in, so the amount is found by doubling, and by golden sections
until it is known to a hundredth: what is lost by that is less than a ten-thousandth of what the split gains.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from mev.domain import Cycle, Hop
from mev.domain.market import Address
from mev.market.amm import AmmError
from mev.market.state import MarketState
from mev.search.legs import AnyLeg, amounts, leg_of
from mev.search.mixed import Sized
from mev.search.splitting import split

# As many swaps as the executor takes.
MOST_HOPS = 8
# A pool that takes less than this part of its swap's amount is left out.
LEAST_SHARE = 50
SECTIONS = 10
# While the amount is looked for the price at the margin need not be nearer.
SEARCH_BITS = 16
_NEARER = (381_966, 1_000_000)


class Leg(NamedTuple):
    """One swap: what goes in and what comes out, base units."""

    hop: Hop
    amount_in: int
    amount_out: int


class Spread(NamedTuple):
    """A cycle's swaps, each one or several pools side by side, the one that takes most of it last."""

    steps: tuple[tuple[Leg, ...], ...]

    @property
    def amount_in(self) -> int:
        """What is put in, base units of the cycle's token."""
        return sum(leg.amount_in for leg in self.steps[0])

    @property
    def amount_out(self) -> int:
        """What comes out."""
        return sum(leg.amount_out for leg in self.steps[-1])

    @property
    def profit(self) -> int:
        """What is left, before gas."""
        return self.amount_out - self.amount_in

    @property
    def legs(self) -> tuple[Leg, ...]:
        """Every swap in the executor's order."""
        return tuple(leg for step in self.steps for leg in step)

    @property
    def parts(self) -> tuple[int, ...]:
        """What each swap takes where the next one takes of the same; 0 for all that is left."""
        return tuple(0 if leg is step[-1] else leg.amount_in for step in self.steps for leg in step)


class _Side(NamedTuple):
    """One swap's pools."""

    hops: tuple[Hop, ...]
    legs: tuple[AnyLeg, ...]

    def given(self, amount_in: int) -> int:
        if len(self.legs) == 1:
            return self.legs[0].amount_out(amount_in)
        return split(self.legs, amount_in, SEARCH_BITS).amount_out


Parallel = Mapping[tuple[Address, Address], Sequence[Hop]]


def parallels(state: MarketState) -> Parallel:
    """Return every way from a token to another one, stable pools, Balancer's and Curve's left out: they have no closed form."""
    found: dict[tuple[Address, Address], list[Hop]] = {}
    for pool in state.pools().values():
        if not pool.stable and not pool.several:
            found.setdefault((pool.token0, pool.token1), []).append(Hop(pool.address, zero_for_one=True))
            found.setdefault((pool.token1, pool.token0), []).append(Hop(pool.address, zero_for_one=False))
    return found


def spread(
    cycle: Cycle, state: MarketState, sized: Sized, ways: Parallel, limit: int, cost: Callable[[Hop], int]
) -> Spread | None:
    """Return the cycle spread over parallel pools with at most `limit` put in, where that leaves more; None where it does not.

    `sized` is its best amount without; `cost` says what a further swap takes of the profit, both base units of the cycle's token.
    """
    if sized.amount_in <= 0:
        return None
    try:
        sides = _sides(cycle, state, sized.amount_in, ways)
        if all(len(side.legs) == 1 for side in sides):
            return None
        every = _sized(sides, sized.amount_in, limit)
        tried = [every] if every is not None else []
        further = [] if every is None else [leg for leg in every.legs if leg.hop not in cycle.hops]
        if every is not None and len(further) > 1:
            # Each further pool has its price: the one that takes most, alone.
            most = max(further, key=lambda leg: _share(every, leg))
            alone = _sized([_one(side, most.hop) for side in sides], sized.amount_in, limit)
            tried += [alone] if alone is not None else []
    except AmmError:
        return None

    def left(found: Spread) -> int:
        return found.profit - sum(cost(leg.hop) for leg in found.legs if leg.hop not in cycle.hops)

    best = max(tried, key=left, default=None)
    if best is None or left(best) <= sized.amount_out - sized.amount_in or best.amount_in > limit:
        return None
    return best


def _sides(cycle: Cycle, state: MarketState, amount_in: int, ways: Parallel) -> list[_Side]:
    """Return each swap's own pool first, and after it those whose first unit gives more than its last one does."""
    pools, used = state.pools(), {hop.pool for hop in cycle.hops}
    own = [leg_of(state, hop) for hop in cycle.hops]
    sides, free = [], MOST_HOPS - len(own)
    for hop, leg, held in zip(cycle.hops, own, amounts(own, amount_in), strict=False):
        pool = pools[hop.pool]
        ends = (pool.token0, pool.token1) if hop.zero_for_one else (pool.token1, pool.token0)
        last = _marginal(leg, held)
        others: list[tuple[float, Hop, AnyLeg]] = []
        for other in ways.get(ends, ()) if last else ():
            if other.pool in used:
                continue
            with contextlib.suppress(AmmError):
                beside = leg_of(state, other)
                first = _marginal(beside, 0)
                if first > last:
                    others.append((first, other, beside))
        kept = sorted(others, key=lambda each: each[0], reverse=True)[:free]
        free -= len(kept)
        # No pool is on two sides at once.
        used |= {other.pool for _, other, _ in kept}
        sides.append(_Side((hop, *(each for _, each, _ in kept)), (leg, *(each for _, _, each in kept))))
    return sides


def _marginal(leg: AnyLeg, amount_in: int) -> float:
    """Return what the next unit gives; 0 where the pool takes no more or has no closed form."""
    piece = leg.piece(amount_in)
    if piece is None:
        return 0.0
    a, b, c, d = piece.map
    return (a * d - b * c) / (c * amount_in + d) ** 2


def _one(side: _Side, other: Hop) -> _Side:
    """Return a side with its own pool and, where it is on this side, the other one."""
    kept = [place for place, hop in enumerate(side.hops) if place == 0 or hop == other]
    return _Side(tuple(side.hops[place] for place in kept), tuple(side.legs[place] for place in kept))


def _share(whole: Spread, leg: Leg) -> float:
    return leg.amount_in / sum(each.amount_in for each in next(step for step in whole.steps if leg in step))


def _sized(sides: Sequence[_Side], least: int, limit: int) -> Spread | None:
    """Return the best amount of at least `least`, to a hundredth, and how it is spread."""

    def profit(amount: int) -> int:
        held = amount
        try:
            for side in sides:
                held = side.given(held)
        except AmmError:
            return -amount
        return held - amount

    low, best = least // 2, least
    while 2 * best <= limit and profit(2 * best) > profit(best):
        low, best = best, 2 * best
    high = min(2 * best, limit)
    one, other = (low + (high - low) * _NEARER[0] // _NEARER[1], high - (high - low) * _NEARER[0] // _NEARER[1])
    of_one, of_other = profit(one), profit(other)
    for _ in range(SECTIONS):
        if of_one >= of_other:
            high, other, of_other = other, one, of_one
            one = low + (high - low) * _NEARER[0] // _NEARER[1]
            of_one = profit(one)
        else:
            low, one, of_one = one, other, of_other
            other = high - (high - low) * _NEARER[0] // _NEARER[1]
            of_other = profit(other)
    amount = one if of_one >= of_other else other
    return _laid_out(sides, amount) if amount > 0 else None


def _laid_out(sides: Sequence[_Side], amount_in: int) -> Spread:
    """Return the swaps with what goes through each; pools that take next to nothing are left out."""
    steps, held = [], amount_in
    for side in sides:
        taken = split(side.legs, held).amounts_in if len(side.legs) > 1 else (held,)
        kept = [place for place, part in enumerate(taken) if part * LEAST_SHARE >= held]
        if len(kept) < len(taken):
            legs = tuple(side.legs[place] for place in kept)
            taken = split(legs, held).amounts_in if len(legs) > 1 else (held,)
        filled = [
            Leg(side.hops[place], part, side.legs[place].amount_out(part))
            for place, part in zip(kept, taken, strict=True)
            if part
        ]
        steps.append(tuple(sorted(filled, key=lambda leg: leg.amount_in)))
        held = sum(leg.amount_out for leg in filled)
    return Spread(tuple(steps))
