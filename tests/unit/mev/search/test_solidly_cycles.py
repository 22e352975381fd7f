"""Cycles with Solidly pools: none that pays is missed, and the amount is the best there is by the pools' own arithmetic."""

from __future__ import annotations

import random

import pytest
from mev.domain import Block, Pool, V2State
from mev.market.amm import AmmError
from mev.market.amm.solidly import SolidlyPool
from mev.market.state import MarketState
from mev.search.graph import CycleIndex
from mev.search.legs import Leg, SolidlyLeg, amounts, legs_of
from mev.search.rates import RATE, SLOPE, RateTable
from mev.search.sizing import screen, size_exact
from mev.search.splitting import split

NATIVE, OTHER = b"\x01" * 20, b"\x02" * 20
UNIT = 10**18
GENESIS = Block(0, bytes(32), bytes(32), 0, 0)


def market(draw: random.Random, *, stable: bool, gap: float) -> tuple[MarketState, CycleIndex]:
    """A pair and a Solidly pool of 6 and 18 decimals, whose prices are apart by a factor."""
    units = draw.choice([(UNIT, UNIT), (10**6, UNIT), (UNIT, 10**6)])
    whole = 10 ** draw.uniform(2, 6)
    held = tuple(int(whole * unit * draw.uniform(0.5, 1.5)) for unit in units)
    curve = SolidlyPool(held[0], held[1], *units, draw.choice([1, 5, 30]), stable)
    # What the curve gives for a ten-thousandth of what it holds is its price, but for its fee.
    little = held[0] // 10**4
    price = curve.amount_out(little, zero_for_one=True) / little
    depth = int(held[0] * draw.uniform(0.1, 3))
    pair = Pool(b"\x11" * 20, "uniswap_v2", NATIVE, OTHER, 997, 1000)
    solidly = Pool(b"\x12" * 20, "aerodrome", NATIVE, OTHER, 0, 1, stable=stable)
    state = MarketState(GENESIS, {pair: V2State(depth, int(depth * price * gap), 0), solidly: curve})
    return state, CycleIndex([pair, solidly], [NATIVE])


@pytest.mark.parametrize("stable", [False, True], ids=["volatile", "stable"])
@pytest.mark.parametrize("gap", [1.1, 0.8, 1.02])
def test_the_amount_is_the_best_by_the_pools_own_arithmetic(stable: bool, gap: float) -> None:
    draw = random.Random(f"{stable} {gap}")  # noqa: S311
    for _ in range(6):
        state, index = market(draw, stable=stable, gap=gap)
        [cycle] = screen(index.all(), state)
        sized = size_exact(cycle, state)
        legs = legs_of(cycle, state)
        assert amounts(legs, sized.amount_in)[-1] == sized.amount_out > sized.amount_in
        for factor in (0.5, 0.9, 0.99, 1.01, 1.1, 2):
            amount = int(sized.amount_in * factor)
            assert amounts(legs, amount)[-1] - amount <= sized.amount_out - sized.amount_in
        capital = sized.amount_in // 3
        limited = size_exact(cycle, state, capital)
        assert 0 < limited.amount_in <= capital
        assert limited.amount_out - limited.amount_in < sized.amount_out - sized.amount_in


@pytest.mark.parametrize("stable", [False, True], ids=["volatile", "stable"])
def test_within_the_fees_nothing_pays(stable: bool) -> None:
    draw = random.Random(7)  # noqa: S311
    for _ in range(20):
        state, index = market(draw, stable=stable, gap=1.0005)
        assert [size_exact(cycle, state).amount_in for cycle in index.all()] == [0, 0]
        assert screen(index.all(), state) == []


@pytest.mark.parametrize("stable", [False, True], ids=["volatile", "stable"])
def test_the_table_has_the_curve_s_price_and_bend(stable: bool) -> None:
    draw = random.Random(3)  # noqa: S311
    for _ in range(50):
        state, index = market(draw, stable=stable, gap=1)
        table = RateTable(index.pools).refreshed(state)
        [curve] = [held for held in state.states().values() if isinstance(held, SolidlyPool)]
        for step, zero_for_one in ((2, True), (3, False)):
            held = curve.reserve0 if zero_for_one else curve.reserve1
            rate, slope = float(table[RATE, step]), float(table[SLOPE, step])
            for part in (10**-4, 10**-3):
                amount = int(held * part)
                expected = rate * amount / (1 + slope * amount)
                # Integers: a unit of what goes in and of what comes out.
                assert curve.amount_out(amount, zero_for_one=zero_for_one) == pytest.approx(
                    expected, rel=1e-5 + 2 / amount, abs=2
                )


def test_a_leg_s_cheapest_input_is_the_least() -> None:
    draw = random.Random(11)  # noqa: S311
    for _ in range(40):
        stable = draw.random() < 0.5
        state, _ = market(draw, stable=stable, gap=1)
        [curve] = [held for held in state.states().values() if isinstance(held, SolidlyPool)]
        leg = SolidlyLeg(curve, zero_for_one=draw.random() < 0.5)
        held = curve.reserve1 if leg.zero_for_one else curve.reserve0
        wanted = int(held * draw.uniform(0.001, 0.9))
        least = leg.cheapest_in(wanted)
        assert curve.amount_out(least, zero_for_one=leg.zero_for_one) >= wanted
        assert curve.amount_out(least - 1, zero_for_one=leg.zero_for_one) < wanted
        with pytest.raises(AmmError):
            leg.cheapest_in(held)


def test_an_empty_or_unusable_pool_is_passed_over() -> None:
    state, index = market(random.Random(1), stable=True, gap=1.1)  # noqa: S311
    [pool] = [pool for pool in index.pools if pool.solidly]
    empty = MarketState(GENESIS, {**state.states(), pool: SolidlyPool(0, 0, UNIT, UNIT, 5, True)})
    assert screen(index.all(), empty) == []
    assert [size_exact(cycle, empty).amount_in for cycle in index.all()] == [0, 0]


def test_a_volatile_pool_takes_its_part_of_a_split() -> None:
    pair = Leg(100 * UNIT, 100 * UNIT, 997, 1000)
    curve = SolidlyPool(100 * UNIT, 100 * UNIT, UNIT, UNIT, 30, stable=False)
    found = split([pair, SolidlyLeg(curve, zero_for_one=True)], 10 * UNIT)
    assert sum(found.amounts_in) == 10 * UNIT
    assert abs(found.amounts_in[0] - found.amounts_in[1]) < UNIT // 10**6
    assert found.amount_out <= found.bound
    with pytest.raises(AmmError, match="closed form"):
        split([pair, SolidlyLeg(curve._replace(stable=True), zero_for_one=True)], UNIT)
