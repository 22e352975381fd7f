"""How much to put into a path of any pools: V2 and V3 mixed, stable ones too.

What a path gives is concave in what is put in, but for the pools' rounding. The best amount is closed in on by golden sections over the integers,
each tried with the pools' own exact quotes, and then looked for among its neighbours. Source: Kiefer, Sequential minimax search for a maximum
(1953), on integers.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from mev.market.amm import AmmError

# What a pool gives for an amount in base units; an AmmError where it refuses.
Quote = Callable[[int], int]

# Amounts this close to the best one, of the token put in and of the coarsest one on the way, have been tried; base units.
NEIGHBOURS = 3
# How often the best amount may move to a better neighbour: hostile reserves must not hold the engine up.
MOVES = 64
# For so many rounds the golden sections' own amounts are near enough to where they should be.
AFRESH = 8
# Between amounts this close, base units, they are not.
NARROW = 4096
# 1 / golden ratio squared, as a fraction of integers.
_NEARER = (381_966, 1_000_000)


class Sized(NamedTuple):
    """What to put in and what comes out, base units of the cycle's token; both 0 where no amount leaves a profit."""

    amount_in: int
    amount_out: int


def size_path(quotes: Sequence[Quote], max_amount_in: int) -> Sized:
    """Return the amount of at most `max_amount_in` base units that leaves most, and what it gives; (0, 0) where none leaves a profit.

    No amount within NEIGHBOURS of it leaves more, and none at all by more than what rounding takes on the way, carried to the path's end.
    It asks each pool two to three times a bit of `max_amount_in`, counted over random pools.
    """
    if max_amount_in < 1:
        return Sized(0, 0)
    best = _closed_in(quotes, max_amount_in)
    for _ in range(MOVES):
        around = range(max(best.amount_in - NEIGHBOURS, 1), min(best.amount_in + NEIGHBOURS, max_amount_in) + 1)
        better = max((Sized(amount, given(quotes, amount)) for amount in around), key=_profit)
        if _profit(better) <= _profit(best):
            break
        best = better
    return best if _profit(best) > 0 else Sized(0, 0)


def given(quotes: Sequence[Quote], amount_in: int) -> int:
    """Return what comes out of the path; 0 where a pool on it refuses."""
    held = amount_in
    try:
        for quote in quotes:
            held = quote(held)
    except AmmError:
        return 0
    return held


def _closed_in(quotes: Sequence[Quote], largest: int) -> Sized:
    def tried(amount: int) -> Sized:
        return Sized(amount, given(quotes, amount))

    low, high = 1, largest
    best = max(tried(low), tried(high), key=_profit)
    one = two = None
    step = 0
    while high - low > NEIGHBOURS:
        inward = max((high - low) * _NEARER[0] // _NEARER[1], 1)
        # One of the two amounts is one of the last round's; afresh from time to time, before rounding has moved them.
        if step % AFRESH == 0 or high - low < NARROW:
            one = two = None
        one = one or tried(low + inward)
        two = two or tried(high - inward)
        best = max(best, one, two, key=_profit)
        # Where a pool refuses both, it is for too much: the smaller amounts are left.
        if _profit(one) >= _profit(two):
            high, one, two = two.amount_in, None, one
        else:
            low, one, two = one.amount_in, two, None
        step += 1
    return best


def _profit(sized: Sized) -> int:
    return sized.amount_out - sized.amount_in
