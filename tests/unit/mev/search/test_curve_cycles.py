"""Cycles with Curve pools: none that pays is missed, none goes through one pool twice, and the amount is the best there is by the pools' own arithmetic."""

from __future__ import annotations

import random
from itertools import combinations
from typing import TYPE_CHECKING

import pytest
from mev.domain import Block, CurveKey, Pool, V2State
from mev.market.amm import AmmError
from mev.market.amm.curve import CurvePool, Version
from mev.market.concentrated_state import Unusable
from mev.market.curve_state import Unread, coins, pair_of
from mev.market.state import MarketState
from mev.search.graph import CycleIndex
from mev.search.legs import CurveLeg, amounts, legs_of
from mev.search.parallel import parallels
from mev.search.rates import RATE, SLOPE, RateTable
from mev.search.sizing import screen, size_exact
from mev.search.splitting import split

if TYPE_CHECKING:
    from mev.market.state import PoolState

NATIVE, OTHER, THIRD = b"\x01" * 20, b"\x02" * 20, b"\x03" * 20
UNIT = 10**18
GENESIS = Block(0, bytes(32), bytes(32), 0, 0)
# Not in their addresses' order: the pool's own is another one.
KEY = CurveKey(b"\x77" * 20, (THIRD, NATIVE, OTHER))
PAIRS = [pair_of("threepool", KEY, i, j) for i, j in combinations(range(3), 2)]
[BOTH] = [pair for pair in PAIRS if {pair.token0, pair.token1} == {NATIVE, OTHER}]
PAIR = Pool(b"\x11" * 20, "uniswap_v2", NATIVE, OTHER, 997, 1000)
FIRST, SECOND = Version.FIRST, Version.SECOND


def several(draw: random.Random, version: Version) -> CurvePool:
    """A pool of three coins of different decimals."""
    decimals = [draw.choice([6, 8, 18]) for _ in range(3)]
    whole = 10 ** draw.uniform(2, 6)
    balances = tuple(int(whole * 10**each * draw.uniform(0.5, 1.5)) for each in decimals)
    rates = tuple(10 ** (36 - each) for each in decimals)
    leverage = draw.choice([1, 50, 2000]) * (1 if version is FIRST else 100)
    return CurvePool(version, balances, rates, leverage, draw.choice([10**6, 10**7, 3 * 10**7]), 5 * 10**9)


def market(draw: random.Random, version: Version, gap: float) -> tuple[MarketState, CycleIndex]:
    """A pair and a Curve pool whose prices between two tokens are apart by a factor."""
    held = several(draw, version)
    little = held.balances[1] // 10**4
    price = held.amount_out(1, 2, little) / little
    depth = int(held.balances[1] * draw.uniform(0.1, 3))
    states: dict[Pool, PoolState] = {PAIR: V2State(depth, int(depth * price * gap), 0), **dict.fromkeys(PAIRS, held)}
    return MarketState(GENESIS, states), CycleIndex([PAIR, *PAIRS], [NATIVE])


@pytest.mark.parametrize("version", [FIRST, SECOND])
@pytest.mark.parametrize("gap", [1.1, 0.8, 1.02])
def test_the_amount_is_the_best_by_the_pools_own_arithmetic(version: Version, gap: float) -> None:
    draw = random.Random(f"{version} {gap}")  # noqa: S311
    for _ in range(4):
        state, index = market(draw, version, gap)
        sized = {cycle: size_exact(cycle, state) for cycle in screen(index.all(), state)}
        cycle, best = max(sized.items(), key=lambda each: each[1].amount_out - each[1].amount_in)
        legs = legs_of(cycle, state)
        assert amounts(legs, best.amount_in)[-1] == best.amount_out > best.amount_in
        for factor in (0.5, 0.9, 0.99, 1.01, 1.1):
            amount = int(best.amount_in * factor)
            assert amounts(legs, amount)[-1] - amount <= best.amount_out - best.amount_in
        assert 0 < size_exact(cycle, state, best.amount_in // 3).amount_in <= best.amount_in // 3


@pytest.mark.parametrize("version", [FIRST, SECOND])
def test_no_cycle_goes_through_one_pool_twice_and_within_the_fees_none_pays(version: Version) -> None:
    draw = random.Random(5)  # noqa: S311
    for _ in range(8):
        state, index = market(draw, version, 1)
        assert {frozenset(hop.pool for hop in cycle.hops) for cycle in index.cycles} == {
            frozenset({PAIR.address, BOTH.address})
        }
        assert screen(index.all(), state) == []
        assert [size_exact(cycle, state).amount_in for cycle in index.all()] == [0, 0]


@pytest.mark.parametrize("version", [FIRST, SECOND])
def test_the_table_has_the_curve_s_price_and_bend(version: Version) -> None:
    draw = random.Random(3)  # noqa: S311
    for _ in range(30):
        held = several(draw, version)
        state = MarketState(GENESIS, dict.fromkeys(PAIRS, held))
        table = RateTable(PAIRS).refreshed(state)
        for number, pair in enumerate(PAIRS):
            for way in (True, False):
                i, j = coins(pair, zero_for_one=way)
                step = 2 * number + (not way)
                rate, slope = float(table[RATE, step]), float(table[SLOPE, step])
                for part in (10**-4, 10**-3):
                    amount = int(held.balances[i] * part)
                    expected = rate * amount / (1 + slope * amount)
                    assert held.amount_out(i, j, amount) == pytest.approx(expected, rel=2e-5 + 2 / amount, abs=3)


def test_a_leg_asks_for_the_least_and_refuses_what_a_pool_refuses() -> None:
    draw = random.Random(11)  # noqa: S311
    for _ in range(30):
        held = several(draw, draw.choice([FIRST, SECOND]))
        leg = CurveLeg(held, *draw.sample(range(3), 2))
        wanted = int(held.balances[leg.coin_out] * draw.uniform(0.001, 0.02))
        asked = leg.cheapest_in(wanted)
        assert leg.amount_out(asked) >= wanted > held.amount_out(leg.coin_in, leg.coin_out, asked - 1)
        assert leg.piece(1) is None
        for amount in (0, -1, 2**256):
            with pytest.raises(AmmError):
                leg.amount_out(amount)
        for amount in (0, held.balances[leg.coin_out]):
            with pytest.raises(AmmError, match="hold as much"):
                leg.cheapest_in(amount)
        with pytest.raises(AmmError, match="closed form"):
            split([leg, leg], UNIT)


def test_an_empty_or_unusable_pool_is_passed_over_and_none_is_one_of_several() -> None:
    for version in (FIRST, SECOND):
        state, index = market(random.Random(1), version, 1.1)  # noqa: S311
        held = state.curve(BOTH.address)
        assert held is not None
        assert [hop.pool for hops in parallels(state).values() for hop in hops] == [PAIR.address] * 2
        for instead in (
            held._replace(balances=(0, 0, 0)),
            held._replace(balances=(0, 1, 1)),
            Unusable("it gives something else"),
            Unread("nobody asked it", held),
        ):
            empty = MarketState(GENESIS, {**state.states(), **dict.fromkeys(PAIRS, instead)})
            assert screen(index.all(), empty) == []
            assert [size_exact(cycle, empty).amount_in for cycle in index.all()] == [0, 0]
