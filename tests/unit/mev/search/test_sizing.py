"""Sizing: composition is hop by hop, nothing near is better, and screening misses nothing that counts."""

from fractions import Fraction
from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st
from mev.domain import Pool
from mev.market.amm import UINT112_MAX, AmmError
from mev.search.graph import CycleIndex
from mev.search.legs import Leg, amounts, legs_of
from mev.search.mixed import NEIGHBOURS, Sized
from mev.search.sizing import compose, screen, size_exact, size_legs

from tests.unit.mev.search.markets import COIN, DOLLAR, EURO, NATIVE, market, pool

fees = st.sampled_from([(997, 1000), (9975, 10000), (998, 1000), (1, 1)])


@st.composite
def any_legs(draw: st.DrawFn, largest: int = UINT112_MAX, smallest: int = 1) -> list[Leg]:
    reserve = st.integers(smallest, largest)
    return [Leg(draw(reserve), draw(reserve), *draw(fees)) for _ in range(draw(st.integers(2, 3)))]


@st.composite
def near_parity(draw: st.DrawFn) -> list[Leg]:
    """Draw real-looking cycles: prices that nearly cancel out, tokens of 6, 8 and 18 decimals in between."""
    units = [10**18, *(draw(st.sampled_from([10**6, 10**8, 10**18])) for _ in range(draw(st.integers(1, 2))))]
    legs = []
    for unit_in, unit_out in zip(units, [*units[1:], units[0]], strict=True):
        depth = draw(st.integers(10, 10**7))
        skew = draw(st.integers(-30_000, 30_000))
        legs.append(Leg(depth * unit_in, depth * unit_out * (10**6 + skew) // 10**6, *draw(fees)))
    return legs


def given_for(legs: list[Leg], amount_in: int) -> int:
    try:
        return amounts(legs, amount_in)[-1]
    except AmmError:
        return 0


def profit(sized: Sized) -> int:
    return sized.amount_out - sized.amount_in


def rounding_worth(legs: list[Leg]) -> Fraction:
    """Return what one unit of each token on the way is worth at the end, at most: its price where nothing is sold yet."""
    worth, price = Fraction(0), Fraction(1)
    for leg in reversed(legs):
        worth += price
        price *= Fraction(leg.fee_numerator * leg.reserve_out, leg.fee_denominator * leg.reserve_in)
    return worth


@given(any_legs(), st.integers(1, UINT112_MAX))
def test_composition_is_hop_by_hop_without_the_rounding(legs: list[Leg], amount_in: int) -> None:
    whole = compose(legs)
    exact = Fraction(amount_in)
    for leg in legs:
        part = leg.fee_numerator * exact
        exact = part * leg.reserve_out / (leg.fee_denominator * leg.reserve_in + part)
    assert Fraction(whole.a * amount_in, whole.c * amount_in + whole.d) == exact
    assert given_for(legs, amount_in) <= exact


@given(st.one_of(near_parity(), any_legs(), any_legs(largest=10**6)))
@example([Leg(10**24, 10**12, 997, 1000), Leg(10**12, 11 * 10**23, 997, 1000)])
@settings(max_examples=300)
def test_no_neighbour_is_better(legs: list[Leg]) -> None:
    sized = size_legs(legs)
    assert profit(sized) >= 0
    assert (sized == (0, 0)) or sized.amount_out == given_for(legs, sized.amount_in)
    for offset in range(-NEIGHBOURS, NEIGHBOURS + 1):
        amount_in = sized.amount_in + offset
        if amount_in > 0:
            assert given_for(legs, amount_in) - amount_in <= profit(sized)


@given(st.one_of(near_parity(), any_legs(), any_legs(largest=10**6)), st.integers(1, 10**30) | st.none())
@settings(max_examples=300)
def test_no_point_of_a_grid_is_better_by_more_than_rounding(legs: list[Leg], limit: int | None) -> None:
    sized = size_legs(legs, limit)
    assert sized.amount_in <= (UINT112_MAX if limit is None else limit)
    whole = compose(legs)
    spread = max(2 * sized.amount_in, 4 * (whole.d // whole.c), 1000)
    grid = {max(1, spread * step // 200) for step in range(201)}
    allowed = profit(sized) + rounding_worth(legs)
    for amount_in in grid:
        if limit is None or amount_in <= limit:
            assert given_for(legs, amount_in) - amount_in <= allowed


@given(any_legs(largest=400))
@settings(max_examples=200)
def test_small_pools_against_every_amount_there_is(legs: list[Leg]) -> None:
    best = max(given_for(legs, amount_in) - amount_in for amount_in in range(1, 2000))
    sized = size_legs(legs)
    assert profit(sized) <= max(best, 0) <= profit(sized) + rounding_worth(legs)


def test_a_real_looking_arbitrage() -> None:
    # 1 % apart, 1000 and 2000 ether deep, 3000 dollars of 6 decimals each.
    legs = [Leg(1000 * 10**18, 3_030_000 * 10**6, 997, 1000), Leg(6_000_000 * 10**6, 2000 * 10**18, 997, 1000)]
    sized = size_legs(legs)
    assert 1.2e18 < sized.amount_in < 1.4e18
    assert 2.5e15 < profit(sized) < 2.8e15


def test_the_capital_bounds_what_is_put_in() -> None:
    legs = [Leg(1000 * 10**18, 3_030_000 * 10**6, 997, 1000), Leg(6_000_000 * 10**6, 2000 * 10**18, 997, 1000)]
    sized = size_legs(legs, 10**17)
    assert 10**17 - 10**12 < sized.amount_in <= 10**17
    assert profit(sized) > 0
    assert size_legs(legs, 0) == (0, 0)


def test_empty_pools_leave_nothing() -> None:
    assert size_legs([Leg(0, 10, 997, 1000), Leg(10, 10, 997, 1000)]) == (0, 0)
    assert size_legs([Leg(10, 10, 997, 1000), Leg(10, 0, 997, 1000)]) == (0, 0)


def test_112_bits_bound_what_is_put_in() -> None:
    full = Leg(UINT112_MAX - 5, UINT112_MAX, 1, 1)
    sized = size_legs([full, Leg(10, 10**9, 1, 1)])
    assert sized.amount_in <= 5
    assert profit(sized) > 0
    assert size_legs([Leg(UINT112_MAX, UINT112_MAX, 1, 1), Leg(10, 10**9, 1, 1)]) == (0, 0)
    behind = size_legs([Leg(10**6, 10**9, 1, 1), Leg(UINT112_MAX - 5, UINT112_MAX, 1, 1)])
    assert behind.amount_out <= 6


PAIRS = [(NATIVE, DOLLAR), (NATIVE, DOLLAR), (NATIVE, EURO), (EURO, DOLLAR), (NATIVE, COIN), (COIN, DOLLAR)]
UNITS = {NATIVE: 10**18, DOLLAR: 10**6, EURO: 10**8, COIN: 10**18}


@st.composite
def markets(draw: st.DrawFn) -> tuple[list[Pool], list[tuple[int, int]]]:
    pools = [pool(number, *pair, draw(fees)) for number, pair in enumerate(PAIRS, 1)]
    reserves = []
    for one in pools:
        if draw(st.integers(0, 9)) == 0:
            reserves.append((draw(st.integers(0, UINT112_MAX)), draw(st.integers(0, UINT112_MAX))))
        else:
            depth, skew = draw(st.integers(10, 10**7)), draw(st.integers(-20_000, 20_000))
            reserves.append((depth * UNITS[one.token0], depth * UNITS[one.token1] * (10**6 + skew) // 10**6))
    return pools, reserves


@given(markets(), st.integers(1, 10**18), st.integers(1, 10**24) | st.none())
@settings(max_examples=300)
def test_screening_misses_nothing_that_is_there(
    made: tuple[list[Pool], list[tuple[int, int]]], min_profit: int, limit: int | None
) -> None:
    state = market(*made)
    cycles = CycleIndex(made[0], [NATIVE]).all()
    kept = screen(cycles, state, max_amount_in=limit, min_profit=min_profit)
    for cycle in cycles:
        sized = size_exact(cycle, state, limit)
        # Floats cannot tell a gain from nothing below this share of what is put in.
        if profit(sized) >= max(min_profit, sized.amount_in // 10**12, 1):
            assert cycle in kept


@given(markets())
@settings(max_examples=100)
def test_screening_puts_the_best_first(made: tuple[list[Pool], list[tuple[int, int]]]) -> None:
    state = market(*made)
    for better, worse in pairwise(screen(CycleIndex(made[0], [NATIVE]).all(), state)):
        # The estimate is what exact mathematics would give if nothing were rounded down.
        bound = profit(size_exact(better, state)) + rounding_worth(
            [leg for leg in legs_of(better, state) if isinstance(leg, Leg)]
        )
        assert bound * (1 + Fraction(1, 10**6)) + 1 >= profit(size_exact(worse, state))


def test_nothing_touched_is_nothing_screened() -> None:
    pools = [pool(1, NATIVE, DOLLAR)]
    assert screen(CycleIndex(pools, [NATIVE]).touched([]), market(pools, [(1, 1)])) == []
