"""Cycles with Balancer pools: none that pays is missed, none goes through one pool twice, and the amount is the best there is by the pools' own arithmetic."""

from __future__ import annotations

import random
from itertools import combinations
from typing import TYPE_CHECKING

import pytest
from mev.domain import BalancerKey, Block, Pool, V2State
from mev.market.amm import AmmError
from mev.market.amm.balancer import StablePool, StableRounding, WeightedPool
from mev.market.balancer_state import pair_of, places
from mev.market.concentrated_state import Unusable
from mev.market.state import MarketState
from mev.search.graph import CycleIndex
from mev.search.legs import BalancerLeg, amounts, legs_of
from mev.search.negative_cycle import RateGraph
from mev.search.parallel import parallels
from mev.search.rates import RATE, SLOPE, RateTable
from mev.search.sizing import screen, size_exact
from mev.search.splitting import split

if TYPE_CHECKING:
    from mev.market.state import PoolState

NATIVE, OTHER, THIRD = b"\x01" * 20, b"\x02" * 20, b"\x03" * 20
UNIT = 10**18
GENESIS = Block(0, bytes(32), bytes(32), 0, 0)
KEY = BalancerKey(b"\x0f" * 20, b"\x77" * 32, (NATIVE, OTHER, THIRD))
PAIRS = [pair_of("balancer_v2", KEY, i, j) for i, j in combinations(range(3), 2)]
PAIR = Pool(b"\x11" * 20, "uniswap_v2", NATIVE, OTHER, 997, 1000)


def several(draw: random.Random, *, stable: bool) -> WeightedPool | StablePool:
    """A pool of three tokens of different decimals."""
    decimals = [draw.choice([6, 8, 18]) for _ in range(3)]
    whole = 10 ** draw.uniform(2, 6)
    balances = tuple(int(whole * 10**each * draw.uniform(0.5, 1.5)) for each in decimals)
    scaling = tuple(10 ** (36 - each) for each in decimals)
    fee = draw.choice([10**14, 10**15, 3 * 10**15])
    if stable:
        return StablePool(balances, scaling, draw.choice([1000, 50_000, 2_000_000]), fee, StableRounding.DOWN)
    first = draw.choice([20, 50, 60]) * 10**16
    second = draw.choice([10, 20, 30]) * 10**16
    weights = (first, second, 10**18 - first - second)
    return WeightedPool(balances, weights, scaling, fee, shortcuts=True)


def market(draw: random.Random, *, stable: bool, gap: float) -> tuple[MarketState, CycleIndex]:
    """A pair and a Balancer pool whose prices between two tokens are apart by a factor."""
    held = several(draw, stable=stable)
    little = held.balances[0] // 10**4
    price = held.amount_out(0, 1, little) / little
    depth = int(held.balances[0] * draw.uniform(0.1, 3))
    states: dict[Pool, PoolState] = {PAIR: V2State(depth, int(depth * price * gap), 0), **dict.fromkeys(PAIRS, held)}
    return MarketState(GENESIS, states), CycleIndex([PAIR, *PAIRS], [NATIVE])


@pytest.mark.parametrize("stable", [False, True], ids=["weighted", "stable"])
@pytest.mark.parametrize("gap", [1.1, 0.8, 1.02])
def test_the_amount_is_the_best_by_the_pools_own_arithmetic(stable: bool, gap: float) -> None:
    draw = random.Random(f"{stable} {gap}")  # noqa: S311
    for _ in range(6):
        state, index = market(draw, stable=stable, gap=gap)
        cycles = [cycle for cycle in screen(index.all(), state) if PAIR.address in {hop.pool for hop in cycle.hops}]
        sized = {cycle: size_exact(cycle, state) for cycle in cycles}
        best = max(sized.values(), key=lambda each: each.amount_out - each.amount_in)
        cycle = next(each for each, found in sized.items() if found == best)
        legs = legs_of(cycle, state)
        assert amounts(legs, best.amount_in)[-1] == best.amount_out > best.amount_in
        for factor in (0.5, 0.9, 0.99, 1.01, 1.1):
            amount = int(best.amount_in * factor)
            assert amounts(legs, amount)[-1] - amount <= best.amount_out - best.amount_in
        limited = size_exact(cycle, state, best.amount_in // 3)
        assert 0 < limited.amount_in <= best.amount_in // 3


@pytest.mark.parametrize("stable", [False, True], ids=["weighted", "stable"])
def test_no_cycle_goes_through_one_pool_twice_and_within_the_fees_none_pays(stable: bool) -> None:
    draw = random.Random(5)  # noqa: S311
    for _ in range(12):
        state, index = market(draw, stable=stable, gap=1)
        # The pair and the first two tokens of the pool; never the way round within the pool.
        assert {frozenset(hop.pool for hop in cycle.hops) for cycle in index.cycles} == {
            frozenset({PAIR.address, PAIRS[0].address})
        }
        assert screen(index.all(), state) == []
        assert [size_exact(cycle, state).amount_in for cycle in index.all()] == [0, 0]


def test_the_best_walk_of_four_swaps_is_left_out_where_it_goes_through_one_pool_twice() -> None:
    """Prices between three tokens of a pool fit each other, but those of this one are given by hand."""
    held = several(random.Random(1), stable=False)  # noqa: S311
    state = MarketState(GENESIS, {PAIR: V2State(UNIT, UNIT, 0), **dict.fromkeys(PAIRS, held)})
    graph = RateGraph([PAIR, *PAIRS])
    weights = graph.weights(state)
    weights[:] = -1.0
    assert graph.best_cycle(weights, NATIVE, 3, 3) is None
    found = graph.best_cycle(weights, NATIVE, 2, 2)
    assert found is None or len({hop.pool for hop in found.hops}) == 2


@pytest.mark.parametrize("stable", [False, True], ids=["weighted", "stable"])
def test_the_table_has_the_curve_s_price_and_bend(stable: bool) -> None:
    draw = random.Random(3)  # noqa: S311
    for _ in range(40):
        held = several(draw, stable=stable)
        state = MarketState(GENESIS, dict.fromkeys(PAIRS, held))
        table = RateTable(PAIRS).refreshed(state)
        for number, pair in enumerate(PAIRS):
            for way in (True, False):
                i, j = places(pair, zero_for_one=way)
                step = 2 * number + (not way)
                rate, slope = float(table[RATE, step]), float(table[SLOPE, step])
                for part in (10**-4, 10**-3):
                    amount = int(held.balances[i] * part)
                    expected = rate * amount / (1 + slope * amount)
                    # Integers, and powers that are rounded up by a hundred-trillionth: a unit of what goes in and of what comes out.
                    assert held.amount_out(i, j, amount) == pytest.approx(expected, rel=2e-5 + 2 / amount, abs=3)


def test_a_leg_asks_for_enough_and_refuses_what_a_vault_refuses() -> None:
    draw = random.Random(11)  # noqa: S311
    for _ in range(60):
        held = several(draw, stable=draw.random() < 0.5)
        leg = BalancerLeg(held, *draw.sample(range(3), 2))
        wanted = int(held.balances[leg.token_out] * draw.uniform(0.001, 0.02))
        asked = leg.cheapest_in(wanted)
        assert leg.amount_out(asked) >= wanted > leg.amount_out(asked * 999 // 1000)
        assert leg.piece(1) is None
        for amount in (0, -1, 2**112):
            with pytest.raises(AmmError):
                leg.amount_out(amount)
        with pytest.raises(AmmError, match="closed form"):
            split([leg, leg], UNIT)


def test_an_empty_or_unusable_pool_is_passed_over_and_none_is_one_of_several() -> None:
    for stable in (False, True):
        state, index = market(random.Random(1), stable=stable, gap=1.1)  # noqa: S311
        held = state.balancer(PAIRS[0].address)
        assert held is not None
        ways = parallels(state)
        assert [hop.pool for hops in ways.values() for hop in hops] == [PAIR.address] * 2
        for instead in (held._replace(balances=(0, 0, 0)), held._replace(balances=(0, 1, 1)), Unusable("it is paused")):
            empty = MarketState(GENESIS, {**state.states(), **dict.fromkeys(PAIRS, instead)})
            assert screen(index.all(), empty) == []
            assert [size_exact(cycle, empty).amount_in for cycle in index.all()] == [0, 0]
