"""Cycles spread over parallel pools: never worse than without, as good as the pools in one would be, and worth what each further pool costs."""

from __future__ import annotations

import random

import pytest
from mev.domain import Block, Cycle, Hop, Pool, V2State
from mev.market.amm.solidly import SolidlyPool
from mev.market.amm.tick_math import sqrt_price_at
from mev.market.concentrated_state import NO_PRICE, made
from mev.market.state import MarketState, PoolState
from mev.search.legs import leg_of
from mev.search.mixed import Sized
from mev.search.parallel import MOST_HOPS, Spread, parallels, spread
from mev.search.sizing import size_exact

NATIVE, TOKEN, OTHER = b"\x01" * 20, b"\x02" * 20, b"\x03" * 20
UNIT = 10**18
GENESIS = Block(0, bytes(32), bytes(32), 0, 0)
MUCH = 10**9 * UNIT


def pair(number: int, one: bytes = NATIVE, other: bytes = TOKEN) -> Pool:
    return Pool(bytes([0x10 + number]) * 20, "uniswap_v2", one, other, 997, 1000)


def market(*reserves: tuple[int, int], more: dict[Pool, PoolState] | None = None) -> MarketState:
    states: dict[Pool, PoolState] = {pair(number): V2State(*held, 0) for number, held in enumerate(reserves)}
    return MarketState(GENESIS, {**states, **(more or {})})


def there_and_back(first: Pool, last: Pool) -> Cycle:
    return Cycle(NATIVE, (Hop(first.address, zero_for_one=True), Hop(last.address, zero_for_one=False)))


def spread_of(state: MarketState, cycle: Cycle, limit: int = MUCH, cost: int = 0) -> tuple[Sized, Spread | None]:
    sized = size_exact(cycle, state, limit)
    return sized, spread(cycle, state, sized, parallels(state), limit, lambda _: cost)


def hold(state: MarketState, cycle: Cycle, found: Spread) -> None:
    """What the executor needs: sums that meet, each swap exact, no pool twice, the rest last."""
    assert len({leg.hop.pool for leg in found.legs}) == len(found.legs) <= MOST_HOPS
    assert len(found.steps) == len(cycle.hops)
    held = found.amount_in
    for step in found.steps:
        assert sum(leg.amount_in for leg in step) == held
        assert max(leg.amount_in for leg in step) == step[-1].amount_in
        for leg in step:
            assert leg_of(state, leg.hop).amount_out(leg.amount_in) == leg.amount_out > 0
        held = sum(leg.amount_out for leg in step)
    assert held == found.amount_out
    assert [bool(part) for part in found.parts] == [leg is not step[-1] for step in found.steps for leg in step]


def test_two_alike_are_as_good_as_one_of_both() -> None:
    state = market((100 * UNIT, 200 * UNIT), (100 * UNIT, 100 * UNIT), (100 * UNIT, 100 * UNIT))
    cycle = there_and_back(pair(0), pair(1))
    sized, found = spread_of(state, cycle)
    assert found is not None
    hold(state, cycle, found)
    whole = market((100 * UNIT, 200 * UNIT), (200 * UNIT, 200 * UNIT))
    best = size_exact(cycle, whole)
    assert sized.amount_out - sized.amount_in < found.profit <= best.amount_out - best.amount_in + 10
    assert found.profit >= (best.amount_out - best.amount_in) * 9999 // 10_000
    assert abs(found.legs[1].amount_in - found.legs[2].amount_in) <= found.legs[1].amount_in // 1000


def test_both_sides_and_a_middle_are_spread() -> None:
    more: dict[Pool, PoolState] = {
        pair(5, TOKEN, OTHER): V2State(300 * UNIT, 300 * UNIT, 0),
        pair(6, TOKEN, OTHER): V2State(100 * UNIT, 100 * UNIT, 0),
        pair(7, NATIVE, OTHER): V2State(300 * UNIT, 300 * UNIT, 0),
    }
    state = market((100 * UNIT, 200 * UNIT), (100 * UNIT, 195 * UNIT), more=more)
    cycle = Cycle(
        NATIVE,
        (
            Hop(pair(0).address, zero_for_one=True),
            Hop(pair(5, TOKEN, OTHER).address, zero_for_one=True),
            Hop(pair(7, NATIVE, OTHER).address, zero_for_one=False),
        ),
    )
    sized, found = spread_of(state, cycle)
    assert found is not None
    hold(state, cycle, found)
    assert [len(step) for step in found.steps] == [2, 2, 1]
    assert found.profit > sized.amount_out - sized.amount_in


@pytest.mark.parametrize("seed", range(12))
def test_it_is_never_worse_and_its_sums_meet(seed: int) -> None:
    draw = random.Random(seed)  # noqa: S311
    concentrated = Pool(b"\x31" * 20, "uniswap_v3", NATIVE, TOKEN, 999_500, 10**6, 60)
    around, liquidity = draw.randint(-2000, 2000), int(10 ** draw.uniform(20, 22))
    held = made(concentrated, {-6000: liquidity, 6000: -liquidity}, sqrt_price_at(around), around, liquidity)
    curve = SolidlyPool(int(10 ** draw.uniform(19, 21)), int(10 ** draw.uniform(19, 21)), UNIT, UNIT, 30, stable=False)
    volatile = Pool(b"\x32" * 20, "aerodrome", NATIVE, TOKEN, 0, 1, stable=False)
    empty, closed = pair(8), Pool(b"\x33" * 20, "uniswap_v3", NATIVE, TOKEN, 999_000, 10**6, 60)
    more: dict[Pool, PoolState] = {concentrated: held, volatile: curve, empty: V2State(0, 0, 0), closed: NO_PRICE}
    state = market(*((int(10 ** draw.uniform(19, 21)), int(10 ** draw.uniform(19, 21))) for _ in range(4)), more=more)
    limit = draw.choice([MUCH, UNIT, 10 * UNIT])
    tried = 0
    for first in state.pools().values():
        for last in state.pools().values():
            if first is last:
                continue
            cycle = there_and_back(first, last)
            sized, found = spread_of(state, cycle, limit)
            if found is not None:
                tried += 1
                hold(state, cycle, found)
                assert found.amount_in <= limit
                assert found.profit > sized.amount_out - sized.amount_in >= 0
    assert tried


def test_each_further_pool_has_to_earn_its_gas() -> None:
    """Of two pools beside, a large one and a small one: for nothing both are used, for little the large one, for much neither."""
    state = market((100 * UNIT, 200 * UNIT), (100 * UNIT, 100 * UNIT), (100 * UNIT, 100 * UNIT), (9 * UNIT, 9 * UNIT))
    cycle = there_and_back(pair(0), pair(1))
    sized, free = spread_of(state, cycle)
    assert free is not None
    assert len(free.legs) == 4
    own = sized.amount_out - sized.amount_in
    _, dear = spread_of(state, cycle, cost=(free.profit - own) * 2 // 3)
    assert dear is not None
    assert [leg.hop.pool for leg in dear.legs if leg.hop.pool == pair(3).address] == []
    hold(state, cycle, dear)
    assert spread_of(state, cycle, cost=free.profit - own)[1] is None


def test_what_is_dearer_to_the_last_unit_is_not_asked() -> None:
    state = market((100 * UNIT, 200 * UNIT), (100 * UNIT, 100 * UNIT), (100 * UNIT, 200 * UNIT - UNIT))
    # The third is no place to sell, and at most as good to buy.
    _, found = spread_of(state, there_and_back(pair(0), pair(1)))
    assert found is not None
    assert {leg.hop.pool: leg.hop.zero_for_one for leg in found.legs}[pair(2).address] is True
    cycle = there_and_back(pair(0), pair(1))
    one = size_exact(cycle, state).amount_in
    leg = leg_of(state, cycle.hops[0])
    price = (leg.amount_out(one + UNIT // 1000) - leg.amount_out(one)) / (UNIT // 1000)
    alone = market((100 * UNIT, 200 * UNIT), (100 * UNIT, 100 * UNIT), (100 * UNIT, int(100 * UNIT * price)))
    assert spread_of(alone, there_and_back(pair(0), pair(1)))[1] is None
    assert spread(there_and_back(pair(1), pair(0)), alone, Sized(0, 0), parallels(alone), MUCH, lambda _: 0) is None
