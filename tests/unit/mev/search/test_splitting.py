"""Splits over parallel pools, held against every split of small amounts, random splits of large ones, and the dual's own bound."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mev.market.amm import AmmError
from mev.search.legs import AnyLeg, ConcentratedLeg, Leg
from mev.search.splitting import split

from tests.unit.mev.search.test_active_set import concentrated

UNIT = 10**18

pairs = st.builds(
    Leg, st.integers(10**3 * UNIT, 10**6 * UNIT), st.integers(10**3 * UNIT, 10**6 * UNIT), st.just(997), st.just(1000)
)
ranges = st.lists(
    st.tuples(st.integers(-60, 60), st.integers(1, 80), st.integers(10**18, 10**25)), min_size=1, max_size=4
)
concentrated_legs = st.builds(
    ConcentratedLeg,
    st.builds(concentrated, st.integers(-3000, 3000), ranges, st.sampled_from([100, 3000])),
    st.booleans(),
)
small = st.builds(Leg, st.integers(20, 3000), st.integers(20, 3000), st.sampled_from([997, 1000]), st.just(1000))


def out(legs: list[AnyLeg], amounts: tuple[int, ...]) -> int:
    total = 0
    for leg, amount in zip(legs, amounts, strict=True):
        try:
            total += leg.amount_out(amount) if amount else 0
        except AmmError:
            continue
    return total


@given(st.lists(small, min_size=2, max_size=3), st.integers(1, 60))
@settings(max_examples=150, deadline=None)
def test_of_small_amounts_no_split_gives_more_but_for_rounding(legs: list[AnyLeg], amount: int) -> None:
    found = split(legs, amount)
    assert sum(found.amounts_in) == amount
    assert found.amount_out == out(legs, found.amounts_in) <= found.bound
    every = itertools.product(range(amount + 1), repeat=len(legs) - 1)
    best = max(out(legs, (*rest, amount - sum(rest))) for rest in every if sum(rest) <= amount)
    assert best <= found.bound
    # Each pool rounds down by less than one, and so many of them share what one of them alone would not lose.
    assert best <= found.amount_out + len(legs)


@given(
    st.lists(st.one_of(pairs, concentrated_legs), min_size=2, max_size=4),
    st.integers(10**6, 10**4 * UNIT),
    st.lists(st.lists(st.integers(0, 1000), min_size=5, max_size=5), max_size=10),
)
@settings(max_examples=150, deadline=None)
def test_of_large_amounts_nothing_that_is_tried_gives_more(
    legs: list[AnyLeg], amount: int, shares: list[list[int]]
) -> None:
    if not any(isinstance(leg, Leg) for leg in legs):
        # V3 pools alone may not have enough in them.
        legs.append(Leg(10**4 * UNIT, 10**4 * UNIT, 997, 1000))
    found = split(legs, amount)
    assert sum(found.amounts_in) == amount
    assert found.amount_out == out(legs, found.amounts_in)
    # A V3 pool rounds at each of its stops, and its price is a square.
    slack = 10**6 + found.amount_out // 10**9
    assert found.bound - slack <= found.amount_out <= found.bound + slack
    alone = [tuple(amount if place == each else 0 for place in range(len(legs))) for each in range(len(legs))]
    for tried in (*alone, *shares):
        weights = tried[: len(legs)]
        if not sum(weights):
            continue
        some = [amount * weight // sum(weights) for weight in weights]
        some[0] += amount - sum(some)
        assert out(legs, tuple(some)) <= found.amount_out + slack


def test_equal_pools_share_alike() -> None:
    legs: list[AnyLeg] = [Leg(10**6 * UNIT, 10**6 * UNIT, 997, 1000)] * 4
    found = split(legs, 1000 * UNIT)
    assert max(found.amounts_in) - min(found.amounts_in) <= 10**6
    assert found.amount_out > legs[0].amount_out(1000 * UNIT)


def test_what_nobody_takes_is_refused() -> None:
    with pytest.raises(AmmError, match="do not take as much"):
        split([Leg(0, 0, 997, 1000)], 5)
    with pytest.raises(AmmError, match="do not take as much"):
        split([ConcentratedLeg(concentrated(0, [(-1, 2, 10**18)]), zero_for_one=True)], 10**30)
    with pytest.raises(AmmError, match="INSUFFICIENT_INPUT"):
        split([Leg(5, 5, 997, 1000)], 0)
