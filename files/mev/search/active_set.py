"""How much to put into a path with V3 pools: a walk over the pieces of its curve, not all of them.

A path's output is concave, and on each piece (see mev.search.legs) it is one Moebius map, whose best amount is known in closed form: where
the derivative (A D - B C) / (C x + D)^2 is 1. If that amount is on the piece it is the best of all; otherwise the best one lies beyond the piece's
end on that side. Every third step halves what is left, so that the number of steps is bounded by three times the bits of the limit, whatever
the ticks are.
"""

from collections.abc import Sequence
from math import isqrt
from typing import NamedTuple

from mev.market.amm import AmmError
from mev.search.legs import IDENTITY, AnyLeg, Map

HALVING = 3


class _Aim(NamedTuple):
    """The best amount by the map that holds at an amount, and up to which input that map holds."""

    amount: int
    end: int


def optimum(legs: Sequence[AnyLeg], limit: int) -> int:
    """Return the amount of at most `limit` base units that leaves most, up to rounding; 0 where none leaves a profit."""
    low, high, at = 0, limit, 0
    for turn in range(1, HALVING * (limit.bit_length() + 2)):
        aim = _aim(legs, at)
        if aim is None:
            # More than the path takes.
            high = at - 1
        elif aim.amount < at:
            high = at
        elif aim.amount <= aim.end:
            # It is on this piece.
            return min(aim.amount, high)
        else:
            low = min(max(aim.end, at + 1), high)
        if low >= high:
            break
        if aim is None or turn % HALVING == 0:
            at = (low + high) // 2
        elif aim.amount < at:
            at = max(aim.amount, low)
        else:
            at = low
    return max(min(low, high), 0)


def _aim(legs: Sequence[AnyLeg], amount_in: int) -> _Aim | None:
    """Return None where a pool on the way does not take as much."""
    whole: Map = IDENTITY
    held, end = amount_in, None
    for leg in legs:
        piece = leg.piece(held)
        if piece is None:
            return None
        # One more than the piece's end: what comes in is rounded down.
        reached = whole.reaches(piece.end + 1)
        if reached is not None:
            end = reached if end is None else min(end, reached)
        whole = whole.then(piece.map)
        try:
            held = leg.amount_out(held) if held else 0
        except AmmError:
            # Too little to give anything is nothing; too much has had no piece.
            held = 0
    determinant = whole.a * whole.d - whole.b * whole.c
    amount = (isqrt(determinant) - whole.d) // whole.c if determinant > 0 and whole.c > 0 else 0
    return _Aim(amount, amount_in if end is None else max(end, amount_in))
