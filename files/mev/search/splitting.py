"""One amount over many pools between the same two tokens: how much through each, so that most comes out.

The dual of the problem has one variable, the price at the margin: at a price each pool, asked by itself, says what it would take, in closed form for a
pair, by a swap up to that price for a V3 pool. The price at which they take the amount together is found by halving; what its rounding leaves over goes
to the pools that give most for it. The dual's value is a bound that no split can pass, so how good a split is is known with it.

Source: Diamandis, Resnick, Chitra, Angeris, An efficient algorithm for optimal routing through constant function market makers (2023), for one
pair of tokens; the repair is ours.
"""

from collections.abc import Sequence
from math import isqrt
from typing import NamedTuple

from mev.market.amm import UINT112_MAX, AmmError
from mev.market.amm.concentrated import INT256_MAX
from mev.market.amm.solidly import FEE_DENOMINATOR as SOLIDLY_DENOMINATOR
from mev.market.amm.tick_math import MAX_SQRT_PRICE, MIN_SQRT_PRICE
from mev.market.amm.ticks import FEE_DENOMINATOR
from mev.search.legs import AnyLeg, BalancerLeg, ConcentratedLeg, CurveLeg, Leg

Q96 = 96
# A price is a fraction of this: out for in, at the margin.
PRICE_BITS = 128
MOST_BITS = 256
# Between prices this near to each other a pool takes less than a billionth of a billionth more of what it holds.
PRECISION_BITS = 64
# How many pools are looked at for what rounding left over.
REPAIRED = 8


class Split(NamedTuple):
    """What goes into each leg, in their order, what comes out in all, and what no split of the amount can give more than."""

    amounts_in: tuple[int, ...]
    amount_out: int
    bound: int


def split(legs: Sequence[AnyLeg], amount_in: int, precision_bits: int = PRECISION_BITS) -> Split:
    """Split `amount_in` base units over pools between the same two tokens, in the same direction.

    With fewer bits the price is not as near and the search shorter; what that loses goes with the square of the price's error.
    Raises AmmError where no pool takes any of it, all together do not take as much, or one is a stable one.
    """
    if amount_in <= 0:
        raise AmmError("INSUFFICIENT_INPUT_AMOUNT")
    low, high = _priced(legs, amount_in, precision_bits)
    most, least = ([_taken(leg, price) for leg in legs] for price in (low, high))
    amounts = _repaired(legs, least, most, amount_in)
    out = sum(_given(leg, amount) for leg, amount in zip(legs, amounts, strict=True))
    # max over x of out(x) - price x, each pool by itself, and the amount at that price.
    spare = sum(
        max(_given(leg, taken) * (1 << PRICE_BITS) - low * taken, 0) for leg, taken in zip(legs, most, strict=True)
    )
    # Each pool's own rounding, and that of what it takes, is less than a unit and one at the price.
    rounding = len(legs) * (1 + (low >> PRICE_BITS) + 1)
    return Split(tuple(amounts), out, (spare + low * amount_in >> PRICE_BITS) + rounding)


def _priced(legs: Sequence[AnyLeg], amount_in: int, precision_bits: int) -> tuple[int, int]:
    """Return a price at which the pools take at least the amount together, and one a little higher at which they take less."""
    high = min(_dearest(legs), 1 << MOST_BITS)
    low = high >> 1
    while low and sum(_taken(leg, low) for leg in legs) < amount_in:
        low, high = low >> 1, low
    if not low:
        raise AmmError("the pools together do not take as much")
    while high - low > max(low >> precision_bits, 1):
        price = (low + high) // 2
        if sum(_taken(leg, price) for leg in legs) >= amount_in:
            low = price
        else:
            high = price
    return low, high


def _dearest(legs: Sequence[AnyLeg]) -> int:
    """Return a price that is higher than what any pool gives for its first unit, so that none takes anything at it."""
    pieces = [piece.map for leg in legs if (piece := leg.piece(0)) is not None]
    return max(((a * d - b * c << PRICE_BITS) // (d * d) for a, b, c, d in pieces), default=0) + 2


def _taken(leg: AnyLeg, price: int) -> int:
    """Return how much a pool takes until the next unit gives less than `price`."""
    if isinstance(leg, ConcentratedLeg):
        return _concentrated_takes(leg, price)
    if isinstance(leg, Leg):
        return _pair_takes(leg, price)
    if isinstance(leg, BalancerLeg | CurveLeg) or leg.pool.stable:
        raise AmmError("neither a stable pool nor one of Balancer's or Curve's has a closed form")
    reserves = (leg.pool.reserve0, leg.pool.reserve1)
    inward = reserves if leg.zero_for_one else reserves[::-1]
    return _pair_takes(Leg(*inward, SOLIDLY_DENOMINATOR - leg.pool.fee, SOLIDLY_DENOMINATOR), price)


def _pair_takes(leg: Leg, price: int) -> int:
    reserve_in, reserve_out, part, whole = leg
    if not (reserve_in and reserve_out and price):
        return 0 if not (reserve_in and reserve_out) else UINT112_MAX - reserve_in
    # At its own price and above it takes nothing; most halving is there.
    if part * reserve_out << PRICE_BITS <= price * whole * reserve_in:
        return 0
    # n d ri ro / (d ri + n x)^2 = price
    root = isqrt((part * whole * reserve_in * reserve_out << PRICE_BITS) // price)
    return min(max((root - whole * reserve_in) // part, 0), UINT112_MAX - reserve_in)


def _concentrated_takes(leg: ConcentratedLeg, price: int) -> int:
    pool = leg.pool
    part = FEE_DENOMINATOR - pool.fees[0 if leg.zero_for_one else 1]
    if not part:
        return 0
    # The pool's own price at which part / 10^6 of it is the price asked for; sqrt in Q96 of a Q128 fraction.
    if leg.zero_for_one:
        limit = isqrt((price * FEE_DENOMINATOR << 2 * Q96 - PRICE_BITS) // part)
        limit = max(limit, MIN_SQRT_PRICE + 1)
        if limit >= pool.sqrt_price_x96:
            return 0
    else:
        limit = isqrt((part << 2 * Q96 + PRICE_BITS) // (price * FEE_DENOMINATOR)) if price else MAX_SQRT_PRICE
        limit = min(limit, MAX_SQRT_PRICE - 1)
        if limit <= pool.sqrt_price_x96:
            return 0
    return pool.swap_exact_in(INT256_MAX, zero_for_one=leg.zero_for_one, sqrt_price_limit_x96=limit).amount_in


def _repaired(legs: Sequence[AnyLeg], least: Sequence[int], most: Sequence[int], amount_in: int) -> list[int]:
    """Return amounts that add up to `amount_in`, between what is taken a little above the price and at it."""
    amounts = list(least)
    left = amount_in - sum(amounts)
    room = sorted(range(len(legs)), key=lambda place: most[place] - least[place], reverse=True)
    for place in room:
        more = min(most[place] - least[place], left)
        amounts[place] += more
        left -= more
    return _without_waste(legs, amounts)


def _without_waste(legs: Sequence[AnyLeg], amounts: list[int]) -> list[int]:
    """Move what gives nothing where it is to where it gives most."""
    wasted = 0
    for place, amount in enumerate(amounts):
        if amount and not _given(legs[place], amount):
            wasted += amount
            amounts[place] = 0
    if wasted:
        largest = sorted(range(len(legs)), key=lambda place: amounts[place], reverse=True)[:REPAIRED]
        best = max(
            largest,
            key=lambda place: _given(legs[place], amounts[place] + wasted) - _given(legs[place], amounts[place]),
        )
        amounts[best] += wasted
    return amounts


def _given(leg: AnyLeg, amount: int) -> int:
    try:
        return leg.amount_out(amount) if amount else 0
    except AmmError:
        return 0
