"""Cycles found by their prices alone, held against every cycle that there is."""

from __future__ import annotations

import itertools
import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from mev.domain import Cycle, Hop, Pool, V2State
from mev.market.state import MarketState
from mev.search.graph import CycleIndex
from mev.search.negative_cycle import RateGraph
from mev.search.rates import Floats
from mev.search.sizing import size_exact
from mev.trading.strategies.atomic_arbitrage import AtomicArbitrage

from tests.unit.mev.search.markets import COIN, DOLLAR, EURO, GENESIS, NATIVE, pool

UNIT = 10**18
TOKENS = [NATIVE, DOLLAR, EURO, COIN]


@st.composite
def markets(draw: st.DrawFn) -> tuple[RateGraph, Floats]:
    """Up to eight pools between four tokens, with rates near one another and a fee each."""
    pairs = draw(st.lists(st.sampled_from(list(itertools.combinations(TOKENS, 2))), min_size=1, max_size=8))
    pools = [pool(number, *pair) for number, pair in enumerate(pairs, start=1)]
    rates = draw(st.lists(st.floats(-0.02, 0.02, allow_subnormal=False), min_size=len(pools), max_size=len(pools)))
    graph = RateGraph(pools)
    return graph, np.asarray([side for rate in rates for side in (0.003 - rate, 0.003 + rate)])


def cycles(graph: RateGraph, longest: int) -> list[tuple[tuple[Hop, ...], bytes]]:
    """Every closed path through different pools, from every token, by trying all."""
    found = []
    for length in range(2, longest + 1):
        for path in itertools.permutations(graph.pools, length):
            for start in {path[0].token0, path[0].token1}:
                held, hops = start, []
                for each in path:
                    if held not in (each.token0, each.token1):
                        break
                    hops.append(Hop(each.address, held == each.token0))
                    held = each.token1 if held == each.token0 else each.token0
                else:
                    if held == start:
                        found.append((tuple(hops), start))
    return found


def total(graph: RateGraph, weights: Floats, hops: tuple[Hop, ...]) -> float:
    place = {each.address: position for position, each in enumerate(graph.pools)}
    return math.fsum(float(weights[2 * place[hop.pool] + (not hop.zero_for_one)]) for hop in hops)


def closed(graph: RateGraph, hops: tuple[Hop, ...]) -> bool:
    by_address = {each.address: each for each in graph.pools}
    ways = [
        (each.token0, each.token1) if hop.zero_for_one else (each.token1, each.token0)
        for hop in hops
        for each in [by_address[hop.pool]]
    ]
    return all(one[1] == other[0] for one, other in itertools.pairwise([*ways, ways[0]]))


@given(markets())
@settings(max_examples=150, deadline=None)
def test_a_negative_cycle_is_found_where_there_is_one(market: tuple[RateGraph, Floats]) -> None:
    graph, weights = market
    found = graph.negative_cycle(weights)
    least = min((total(graph, weights, hops) for hops, _ in cycles(graph, 4)), default=0.0)
    if found is None:
        assert least > -1e-9
    else:
        assert closed(graph, found)
        assert total(graph, weights, found) < 0


@given(markets(), st.sampled_from([2, 3, 4]))
@settings(max_examples=150, deadline=None)
def test_the_best_cycle_of_a_length_is_no_worse_than_any(market: tuple[RateGraph, Floats], longest: int) -> None:
    graph, weights = market
    found = graph.best_cycle(weights, NATIVE, longest)
    if found is not None:
        assert closed(graph, found.hops)
        assert len({hop.pool for hop in found.hops}) == len(found.hops) <= longest
        assert total(graph, weights, found.hops) < 0
    # Of two and three swaps no walk can go through a pool twice and pay: there the best is the best.
    for hops, start in cycles(graph, min(longest, 3)):
        if start == NATIVE and total(graph, weights, hops) < -1e-9:
            assert found is not None
            assert total(graph, weights, found.hops) <= total(graph, weights, hops) + 1e-9


def test_four_swaps_are_found_that_the_index_does_not_have() -> None:
    path = [pool(1, NATIVE, DOLLAR), pool(2, DOLLAR, EURO), pool(3, EURO, COIN), pool(4, COIN, NATIVE)]
    held = {each: V2State(10**6 * UNIT, 10**6 * UNIT, 0) for each in path}
    # The last one gives a tenth more of what the cycle began with.
    last = path[-1]
    richer = (11, 10) if last.token0 == NATIVE else (10, 11)
    held[last] = V2State(richer[0] * 10**5 * UNIT, richer[1] * 10**5 * UNIT, 0)
    state = MarketState(GENESIS, held)
    graph = RateGraph(path)
    assert CycleIndex(path, [NATIVE]).cycles == []
    assert graph.best_cycle(graph.weights(state), NATIVE, 3) is None
    found = graph.best_cycle(graph.weights(state), NATIVE, 4)
    assert found is not None
    assert [hop.pool for hop in found.hops] == [each.address for each in path]
    sized = size_exact(found, state)
    assert sized.amount_out > sized.amount_in > 0
    negative = graph.negative_cycle(graph.weights(state))
    assert negative is not None
    assert size_exact(Cycle(NATIVE, found.hops), state) == sized


def test_the_strategy_takes_four_swaps_where_it_is_told_to() -> None:
    path = [pool(1, NATIVE, DOLLAR), pool(2, DOLLAR, EURO), pool(3, EURO, COIN), pool(4, COIN, NATIVE)]
    held = {each: V2State(10**6 * UNIT, 10**6 * UNIT, 0) for each in path}
    last = path[-1]
    richer = (11, 10) if last.token0 == NATIVE else (10, 11)
    held[last] = V2State(richer[0] * 10**5 * UNIT, richer[1] * 10**5 * UNIT, 0)
    state, index = MarketState(GENESIS, held), CycleIndex(path, [NATIVE])
    assert AtomicArbitrage("base", index, state).opportunities(GENESIS, [last.address], UNIT) == []
    strategy = AtomicArbitrage("base", index, state, RateGraph(path))
    assert strategy.opportunities(GENESIS, [], UNIT) == []
    assert strategy.opportunities(GENESIS, [b"\x09" * 20], UNIT) == []
    (found,) = strategy.opportunities(GENESIS, [last.address], UNIT)
    assert (len(found.cycle.hops), found.amount_in) == (4, UNIT)
    assert found.expected_profit > UNIT // 20
    assert [token for token, _ in found.held] == [NATIVE, DOLLAR, EURO, COIN, NATIVE]
    assert found.held[-1][1] == found.expected_out


def test_pools_that_give_nothing_lead_nowhere() -> None:
    pools = [pool(1, NATIVE, DOLLAR), pool(2, NATIVE, DOLLAR), Pool(b"\x05" * 20, "v", NATIVE, COIN, 1, 1)]
    state = MarketState(GENESIS, {each: V2State(0, 0, 0) for each in pools})
    graph = RateGraph(pools)
    weights = graph.weights(state)
    assert np.isinf(weights).all()
    assert graph.negative_cycle(weights) is None
    assert graph.best_cycle(weights, NATIVE, 4) is None
    assert graph.best_cycle(weights, EURO, 4) is None
    assert RateGraph([]).negative_cycle(np.empty(0)) is None
