"""Sizing paths with V3 pools: nothing that is tried leaves more, whatever the ticks are."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st
from mev.domain import Cycle, Hop, Pool, V2State
from mev.market.amm import AmmError
from mev.market.amm.concentrated import ConcentratedPool
from mev.market.amm.tick_math import sqrt_price_at
from mev.market.amm.ticks import Ticks
from mev.market.concentrated_state import NO_PRICE, Unusable
from mev.market.state import MarketState
from mev.search.graph import CycleIndex
from mev.search.legs import AnyLeg, ConcentratedLeg, Leg, amounts
from mev.search.mixed import Sized, size_path
from mev.search.sizing import screen, size_exact, size_legs

from tests.unit.mev.search.markets import DOLLAR, GENESIS, NATIVE, pool

UNIT = 10**18
LARGEST = 10**6 * UNIT
# Every hop and every stop on the way rounds by less than a unit, which is worth at most some tens of the next token's here.
ROUNDING = 10**6


def concentrated(tick: int, ranges: list[tuple[int, int, int]], fee: int = 3000, part: int = 0) -> ConcentratedPool:
    """A pool whose price is `part` thousandths of the way from `tick` to the next one."""
    net: dict[int, int] = {}
    for lower, width, liquidity in ranges:
        net[60 * lower] = net.get(60 * lower, 0) + liquidity
        net[60 * (lower + width)] = net.get(60 * (lower + width), 0) - liquidity
    ticks = Ticks(net, 60)
    price = sqrt_price_at(tick) + (sqrt_price_at(tick + 1) - sqrt_price_at(tick)) * part // 1000
    return ConcentratedPool(ticks, sqrt_price_x96=price, tick=tick, liquidity=ticks.liquidity_at(tick), fees=(fee, fee))


pairs = st.builds(
    Leg, st.integers(10**3 * UNIT, 10**6 * UNIT), st.integers(10**3 * UNIT, 10**6 * UNIT), st.just(997), st.just(1000)
)
ranges = st.lists(
    st.tuples(st.integers(-60, 60), st.integers(1, 80), st.integers(10**18, 10**25)), min_size=1, max_size=6
)
concentrated_legs = st.builds(
    ConcentratedLeg,
    st.builds(concentrated, st.integers(-3000, 3000), ranges, st.sampled_from([100, 3000, 10000]), st.integers(0, 999)),
    st.booleans(),
)
paths = st.lists(st.one_of(pairs, concentrated_legs), min_size=2, max_size=4).filter(
    lambda path: any(isinstance(leg, ConcentratedLeg) for leg in path)
)


def profit(sized: Sized) -> int:
    return sized.amount_out - sized.amount_in


def left(path: list[AnyLeg], amount_in: int) -> int:
    try:
        return amounts(path, amount_in)[-1] - amount_in
    except AmmError:
        return -amount_in


@given(paths, st.lists(st.integers(1, LARGEST), max_size=10), st.sampled_from([LARGEST, UNIT, 10**9]))
@settings(max_examples=100, deadline=None)
def test_nothing_that_is_tried_leaves_more(path: list[AnyLeg], tried: list[int], limit: int) -> None:
    found = size_legs(path, limit)
    assert 0 <= found.amount_in <= limit
    if found.amount_in:
        assert amounts(path, found.amount_in)[-1] == found.amount_out > found.amount_in
    golden = size_path([leg.amount_out for leg in path], limit)
    grid = [limit * part // 64 for part in range(65)]
    near = [found.amount_in * part // 1000 for part in (500, 900, 990, 999, 1001, 1010, 1100, 2000)]
    for amount in (*tried, *grid, *near, golden.amount_in):
        if 0 < amount <= limit:
            assert left(path, amount) <= profit(found) + ROUNDING


@given(concentrated_legs, st.integers(0, LARGEST))
@settings(max_examples=100, deadline=None)
def test_a_piece_is_what_the_pool_gives_there(leg: ConcentratedLeg, amount: int) -> None:
    piece = leg.piece(amount)
    if piece is None:
        assert leg.pool.swap_exact_in(max(amount, 1), zero_for_one=leg.zero_for_one).amount_in <= amount
        return
    assert piece.end > amount
    for there in {amount + 1, (amount + piece.end) // 2, piece.end}:
        try:
            given_out = leg.amount_out(there)
        except AmmError:
            given_out = 0
        a, b, c, d = piece.map
        exact = Fraction(a * there + b, c * there + d)
        assert abs(exact - given_out) <= ROUNDING


@given(concentrated_legs, st.integers(1, LARGEST))
@settings(max_examples=100, deadline=None)
def test_the_cheapest_input_gives_as_much(leg: ConcentratedLeg, amount: int) -> None:
    try:
        out = leg.amount_out(amount)
        cheapest = leg.cheapest_in(out)
    except AmmError:
        return
    assert leg.amount_out(cheapest) >= out
    assert cheapest <= amount + 2


def test_a_price_gap_is_closed_across_ticks() -> None:
    """The pool's liquidity lies in steps of ten ticks' spacing: the best amount goes through several of them."""
    steps = [(-10 * (number + 1), 10, 10**22 * (number + 1)) for number in range(10)]
    deep = concentrated(-1, steps)
    path: list[AnyLeg] = [Leg(10**4 * UNIT, 13 * 10**3 * UNIT, 997, 1000), ConcentratedLeg(deep, zero_for_one=True)]
    found = size_legs(path, LARGEST)
    after = deep.swap_exact_in(amounts(path, found.amount_in)[1], zero_for_one=True)
    assert after.tick < -1100
    assert profit(found) > 10 * UNIT
    for step in (1, 10**6, 10**12, 10**15):
        for amount in (found.amount_in - step, found.amount_in + step):
            assert left(path, amount) <= profit(found) + 4


def market(held: ConcentratedPool | Unusable, reserves: tuple[int, int]) -> tuple[MarketState, CycleIndex]:
    pair = pool(1, NATIVE, DOLLAR)
    made = Pool(b"\x02" * 20, "uniswap_v3", pair.token0, pair.token1, 997_000, 10**6, 60)
    return MarketState(GENESIS, {pair: V2State(*reserves, 0), made: held}), CycleIndex([pair, made], [NATIVE])


@given(ranges, st.integers(-3000, 3000), st.integers(10**3, 10**6), st.integers(10**3, 10**6))
@settings(max_examples=100, deadline=None)
def test_screening_misses_no_cycle_that_pays(held: list[tuple[int, int, int]], tick: int, one: int, other: int) -> None:
    """Also where there is hardly any liquidity at the price, or none, and much behind it."""
    state, index = market(concentrated(tick, held), (one * UNIT, other * UNIT))
    screened = screen(index.all(), state, max_amount_in=LARGEST)
    for cycle in index.cycles:
        if profit(size_exact(cycle, state, LARGEST)) > ROUNDING:
            assert cycle in screened


def test_a_pool_that_is_not_usable_is_no_way() -> None:
    state, index = market(NO_PRICE, (1000 * UNIT, 10 * UNIT))
    assert screen(index.all(), state) == []
    assert [size_exact(cycle, state) for cycle in index.cycles] == [Sized(0, 0)] * len(index.cycles)
    assert index.cycles[0] == Cycle(NATIVE, (Hop(index.pools[0].address, True), Hop(index.pools[1].address, False)))
