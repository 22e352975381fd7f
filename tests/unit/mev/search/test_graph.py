"""Every cycle is there, once, in both directions, and is found by any of its pools."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mev.domain import Pool
from mev.search.graph import CycleIndex

from tests.unit.mev.search.markets import COIN, DOLLAR, EURO, NATIVE, pool

TOKENS = [NATIVE, DOLLAR, EURO, COIN]
edges = st.tuples(st.sampled_from(TOKENS), st.sampled_from(TOKENS)).filter(lambda edge: edge[0] != edge[1])
graphs = st.lists(edges, max_size=8).map(lambda found: [pool(number, *edge) for number, edge in enumerate(found, 1)])
starts = st.lists(st.sampled_from(TOKENS), unique=True, max_size=2)


def brute_force(pools: list[Pool], start: bytes, hops: int) -> set[tuple[tuple[bytes, bool], ...]]:
    found = set()
    for path in permutations(pools, hops):
        token, walked = start, []
        for number, one in enumerate(path, 1):
            if token not in {one.token0, one.token1} or (number > 1 and token == start):
                break
            walked.append((one.address, token == one.token0))
            token = one.token1 if token == one.token0 else one.token0
        else:
            if token == start:
                found.add(tuple(walked))
    return found


@given(graphs, starts)
def test_exactly_the_cycles_that_exist(pools: list[Pool], start_tokens: list[bytes]) -> None:
    index = CycleIndex(pools, start_tokens)
    listed = [(cycle.token, tuple((hop.pool, hop.zero_for_one) for hop in cycle.hops)) for cycle in index.cycles]
    expected = {(token, path) for token in start_tokens for hops in (2, 3) for path in brute_force(pools, token, hops)}
    assert len(listed) == len(set(listed))
    assert set(listed) == expected


@given(graphs, st.data())
def test_touched_cycles_are_those_through_the_pools(pools: list[Pool], data: st.DataObject) -> None:
    index = CycleIndex(pools, [NATIVE])
    touched = data.draw(st.sets(st.sampled_from([*(one.address for one in pools), b"\x99" * 20])))
    found = list(index.touched(touched))
    assert found == [cycle for cycle in index.cycles if touched & {hop.pool for hop in cycle.hops}]
    assert list(index.all()) == index.cycles


@given(graphs)
def test_two_hops_are_the_shorter_ones_of_three(pools: list[Pool]) -> None:
    shorter = CycleIndex(pools, TOKENS, max_hops=2).cycles
    assert shorter == [cycle for cycle in CycleIndex(pools, TOKENS).cycles if len(cycle.hops) == 2]


def test_a_part_of_the_cycles_is_cycles_again() -> None:
    cycles = CycleIndex([pool(number, NATIVE, DOLLAR) for number in (1, 2, 3)], [NATIVE]).all()
    assert list(cycles[1:3]) == [cycles[1], cycles[2]]
    assert cycles[-1] == cycles[len(cycles) - 1]


@pytest.mark.parametrize("hops", [1, 4])
def test_only_two_and_three_hops(hops: int) -> None:
    with pytest.raises(ValueError, match="max_hops"):
        CycleIndex([], [], max_hops=hops)
