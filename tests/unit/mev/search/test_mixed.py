"""Sizing over pools of any kind: as good as the closed form where there is one, and nothing that is tried is better."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given as having
from hypothesis import settings
from hypothesis import strategies as st
from mev.market.amm import AmmError
from mev.market.amm.concentrated import ConcentratedPool
from mev.market.amm.solidly import SolidlyPool
from mev.market.amm.tick_math import sqrt_price_at
from mev.market.amm.ticks import Ticks
from mev.search.legs import Leg, amounts
from mev.search.mixed import Quote, Sized, given, size_path
from mev.search.sizing import size_legs

UNIT = 10**18
LARGEST = 10**6 * UNIT


def v2(leg: Leg) -> Quote:
    return lambda amount: amounts([leg], amount)[-1]


def concentrated(tick: int, ranges: list[tuple[int, int, int]]) -> ConcentratedPool:
    net: dict[int, int] = {}
    for lower, width, liquidity in ranges:
        net[60 * lower] = net.get(60 * lower, 0) + liquidity
        net[60 * (lower + width)] = net.get(60 * (lower + width), 0) - liquidity
    ticks = Ticks(net, 60)
    return ConcentratedPool(
        ticks, sqrt_price_x96=sqrt_price_at(tick), tick=tick, liquidity=ticks.liquidity_at(tick), fees=(3000, 3000)
    )


legs = st.builds(
    Leg, st.integers(10 * UNIT, 10**6 * UNIT), st.integers(10 * UNIT, 10**6 * UNIT), st.just(997), st.just(1000)
)
ranges = st.lists(
    st.tuples(st.integers(-60, 60), st.integers(1, 80), st.integers(10**15, 10**24)), min_size=1, max_size=6
)


def profit(sized: Sized) -> int:
    return sized.amount_out - sized.amount_in


@having(st.lists(legs, min_size=2, max_size=3))
def test_as_good_as_the_closed_form_for_constant_products(path: list[Leg]) -> None:
    closed = size_legs(path, LARGEST)
    found = size_path([v2(leg) for leg in path], LARGEST)
    assert found.amount_out == (given([v2(leg) for leg in path], found.amount_in) if found.amount_in else 0)
    # Each token is worth at most 10**5 of the next one here, and rounding takes less than one of each.
    assert profit(found) >= profit(closed) - 10**11


@having(ranges, st.integers(-3000, 3000), legs, st.booleans(), st.lists(st.integers(1, LARGEST), max_size=20))
@settings(max_examples=60)
def test_nothing_that_is_tried_is_better(
    held: list[tuple[int, int, int]],
    tick: int,
    leg: Leg,
    way: bool,
    tried: list[int],
) -> None:
    pool = concentrated(tick, held)
    stable = SolidlyPool(10**5 * UNIT, 10**11, UNIT, 10**6, 5, stable=True)
    back = SolidlyPool(10**11, 10**5 * UNIT, 10**6, UNIT, 5, stable=True)
    path: list[Quote] = [
        partial(pool.amount_out, zero_for_one=way),
        partial(stable.amount_out, zero_for_one=True),
        partial(back.amount_out, zero_for_one=True),
        v2(leg),
    ]
    found = size_path(path, LARGEST)
    # A unit of the six-decimal token on the way is 10**12 of the others, at a price of up to 10**5.
    for amount in [*tried, *(found.amount_in * share // 100 for share in (50, 90, 99, 101, 110, 200))]:
        if 0 < amount <= LARGEST:
            assert given(path, amount) - amount <= profit(found) + 10**18


def test_a_price_gap_between_two_kinds_of_pool_is_closed() -> None:
    pool = concentrated(0, [(-100, 200, 10**24)])
    leg = Leg(1000 * UNIT, 1100 * UNIT, 997, 1000)
    path: list[Quote] = [v2(leg), partial(pool.amount_out, zero_for_one=True)]
    found = size_path(path, LARGEST)
    assert profit(found) > UNIT
    for step in (1, 10**6, 10**12, 10**15):
        for amount in (found.amount_in - step, found.amount_in + step):
            assert given(path, amount) - amount <= profit(found) + 4


@pytest.mark.parametrize("largest", [0, -1, 1, 2, 5])
def test_small_limits(largest: int) -> None:
    assert size_path([lambda amount: 3 * amount], largest) == Sized(max(largest, 0), 3 * max(largest, 0))


def test_a_path_that_refuses_everything_leaves_nothing() -> None:
    def refuse(_: int) -> int:
        raise AmmError("K")

    assert size_path([refuse], LARGEST) == Sized(0, 0)
    assert size_path([lambda amount: amount - 1], LARGEST) == Sized(0, 0)
