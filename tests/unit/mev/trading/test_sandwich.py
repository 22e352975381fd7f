"""What a swap exposes is what trying every amount finds, and the advice does what it says."""

from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mev.domain.calls import RouterHop, RouterSwap, Venue
from mev.market.amm import AmmError
from mev.market.amm.concentrated import ConcentratedPool
from mev.market.amm.tick_math import sqrt_price_at
from mev.market.amm.ticks import Ticks
from mev.trading.strategies.sandwich import (
    ConcentratedCurve,
    Curve,
    Exposure,
    HopSwap,
    PairCurve,
    PathHop,
    _attack,
    evaluate,
)

A, B, C = (bytes([number]) * 20 for number in (0xA, 0xB, 0xC))
POOL, OTHER = b"\x01" * 20, b"\x02" * 20
WEI = 10**18


def swap(amount: int, limit: int, *tokens: bytes, exact_out: bool = False) -> RouterSwap:
    hops = tuple(RouterHop(Venue.V2, token, after) for token, after in pairwise(tokens))
    return RouterSwap(hops, amount, limit, exact_out, None)


def pair(reserve0: int, reserve1: int, fee: int = 997) -> PairCurve:
    return PairCurve(reserve0, reserve1, fee, 1000)


def evaluated(path: list[PathHop], swapped: RouterSwap, capital: int = 10**30, cost: int = 0) -> Exposure:
    found = evaluate(path, swapped, capital, cost)
    assert found is not None
    return found


def sandwiched(curve: Curve, amount: int, swapped: RouterSwap, *, zero_for_one: bool = True) -> tuple[int, int] | None:
    """What a sandwich of one hop gains, step by step, and what the swap is left with; None where somebody is refused."""
    try:
        bought, curve = curve.sell(amount, zero_for_one=zero_for_one)
        if swapped.exact_out:
            left, curve = curve.buy(swapped.amount, zero_for_one=zero_for_one)
            refused = left > swapped.limit
        else:
            left, curve = curve.sell(swapped.amount, zero_for_one=zero_for_one)
            refused = left < swapped.limit
        back, _ = curve.sell(bought, zero_for_one=not zero_for_one)
    except AmmError:
        return None
    return None if refused else (back - amount, left)


# What three roundings may take or give, and what the search may be misled by where the gain is flat; base units.
ROUNDING = 16
reserves = st.integers(3000, 10**6)


@settings(max_examples=15)
@example(reserve0=3000, reserve1=3000, amount=70271, percent=21, fee=990, exact_out=False)
@given(reserves, reserves, st.integers(1, 10**5), st.integers(0, 100), st.sampled_from([990, 997, 1000]), st.booleans())
def test_nothing_gains_more_than_what_is_found(
    reserve0: int, reserve1: int, amount: int, percent: int, fee: int, exact_out: bool
) -> None:
    curve = pair(reserve0, reserve1, fee)
    try:
        quoted, left = (curve.buy if exact_out else curve.sell)(amount, zero_for_one=True)
    except AmmError:
        assert evaluate([PathHop(POOL, curve, True)], swap(amount, 0, A, B, exact_out=exact_out), 10**6) is None
        return
    limit = quoted * (100 + percent) // 100 if exact_out else quoted * (100 - percent) // 100
    swapped = swap(amount, limit, A, B, exact_out=exact_out)
    found = evaluated([PathHop(POOL, curve, True)], swapped, 10**6)
    # All small amounts, a thousand up to the capital, and all near to what was found.
    amounts = {*range(1, 300), *range(1, 10**6, 5000), *range(max(1, found.front_in - 200), found.front_in + 200)}
    tried = [sandwiched(curve, each, swapped) for each in amounts]
    best = max((attack[0] for attack in tried if attack is not None), default=0)
    # What is bought and what the swap gets are whole units, each worth what the swap's own price makes of it.
    unit = 1 + left.reserve0 // left.reserve1
    assert found.extractable >= best - ROUNDING * (1 + reserve0 // reserve1) - 2 * unit
    if found.extractable:
        assert sandwiched(curve, found.front_in, swapped) == (found.extractable, found.attacked)


@settings(max_examples=30)
@given(
    st.integers(10**20, 10**24),
    st.integers(10**20, 10**24),
    st.integers(10**16, 10**22),
    st.integers(0, 200_000),
    st.integers(0, 10**17),
)
def test_the_advised_limit_leaves_no_more_than_the_cost(
    reserve0: int, reserve1: int, amount: int, slippage_ppm: int, cost: int
) -> None:
    curve = pair(reserve0, reserve1)
    quoted, _ = curve.sell(amount, zero_for_one=True)
    swapped = swap(amount, quoted * (10**6 - slippage_ppm) // 10**6, A, B)
    # A unit of the other token is worth so many of this one.
    slack = ROUNDING * (1 + reserve0 // reserve1)
    path = [PathHop(POOL, curve, True)]
    found = evaluated(path, swapped, cost=cost)
    assert (found.quoted, found.limit) == (quoted, swapped.limit)
    if found.extractable <= cost:
        assert found.protecting_limit == found.limit
        return
    if found.protecting_limit is None:
        # Even the quote itself leaves something to take.
        assert evaluated(path, swap(amount, quoted, A, B), cost=cost).extractable > cost - slack
        return
    assert found.limit < found.protecting_limit <= quoted
    assert evaluated(path, swap(amount, found.protecting_limit, A, B), cost=cost).extractable <= cost + slack
    # One unit looser, and it pays again.
    assert evaluated(path, swap(amount, found.protecting_limit - 1, A, B), cost=cost).extractable > cost - slack


def searched(path: list[PathHop], swapped: RouterSwap, capital: int) -> tuple[int, int]:
    """The most that the limit allows, by halving, and the greatest gain up to it, by a ternary search: some 300 attacks, step by step."""
    (hop,) = path

    def gain(amount: int) -> int | None:
        done = sandwiched(hop.curve, amount, swapped, zero_for_one=hop.zero_for_one)
        return None if done is None else done[0]

    low = 1
    while low <= capital and gain(low) is None:
        low *= 2
    if low > capital:
        return 0, 0
    high = capital
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if gain(middle) is not None else (low, middle - 1)
    most, low, high = low, 0, low
    while high - low > 4:
        third = (high - low) // 3
        low, high = (
            (low + third, high)
            if (gain(low + third) or -low - third) < (gain(high - third) or third - high)
            else (low, high - third)
        )
    return most, max(0, *(gain(each) or 0 for each in range(max(1, low - 2), min(most, high + 2) + 1)))


@settings(max_examples=60)
@example(
    # What goes in is far finer than what comes out: rounding to the next unit is worth 10^12 of it.
    reserves=(10**27, 3 * 10**14),
    part=0.03,
    slippage=0.01,
    fee=997,
    exact_out=False,
    capital=1.0,
)
@given(
    st.tuples(st.integers(10**15, 10**27), st.integers(10**12, 10**27)),
    st.floats(1e-5, 0.7),
    st.floats(1e-5, 0.9),
    st.sampled_from([990, 997, 1000]),
    st.booleans(),
    st.floats(1e-3, 1e3),
)
def test_closed_form_finds_what_the_search_finds_or_more(
    reserves: tuple[int, int], part: float, slippage: float, fee: int, exact_out: bool, capital: float
) -> None:
    curve = pair(*reserves, fee)
    amount = int(reserves[exact_out] * part)
    try:
        quoted, left = (curve.buy if exact_out else curve.sell)(amount, zero_for_one=True)
    except AmmError:
        return
    limit = int(quoted * (1 + slippage)) if exact_out else int(quoted * (1 - slippage))
    swapped = swap(amount, limit, A, B, exact_out=exact_out)
    path, funds = [PathHop(POOL, curve, True)], int(reserves[0] * capital)
    most, gain = searched(path, swapped, funds)
    found = evaluated(path, swapped, funds)
    sizes = curve.attacked(HopSwap(exact_out=exact_out, amount=amount, bound=max(1, limit)), zero_for_one=True)
    # The search may miss what little there is; what it finds is the end to the wei.
    assert sizes.most(funds) == most or not most
    # A unit of what is bought is worth so much: where rounding falls, the search may have been lucky.
    assert found.extractable >= gain - 3 * (1 + left.reserve0 // left.reserve1)


def concentrated(positions: list[tuple[int, int, int]], fee: int) -> ConcentratedPool:
    net: dict[int, int] = {}
    for lower, upper, liquidity in positions:
        net[60 * lower] = net.get(60 * lower, 0) + liquidity
        net[60 * upper] = net.get(60 * upper, 0) - liquidity
    ticks = Ticks(net, 60)
    return ConcentratedPool(
        ticks, sqrt_price_x96=sqrt_price_at(0), tick=0, liquidity=ticks.liquidity_at(0), fees=(fee, fee)
    )


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(st.integers(-600, -1), st.integers(1, 600), st.integers(10**19, 10**24)), min_size=1, max_size=5
    ),
    st.integers(10**16, 10**23),
    st.floats(1e-4, 0.5),
    st.sampled_from([500, 3000]),
    st.booleans(),
    st.booleans(),
)
@example([(-1, 1, 10**19), (-1, 2, 10**19)], 10**16, 0.5, 500, False, False)
@example([(-120, 1, 674_456_794_829_686_177_792), (-1, 1, 10**22)], 4_685_436_245_258_190_848, 0.1, 3000, False, True)
def test_in_ranges_of_liquidity_a_few_attacks_find_what_hundreds_find(
    positions: list[tuple[int, int, int]], amount: int, slippage: float, fee: int, exact_out: bool, zero_for_one: bool
) -> None:
    curve = ConcentratedCurve(concentrated(positions, fee))
    try:
        quoted, _ = (curve.buy if exact_out else curve.sell)(amount, zero_for_one=zero_for_one)
    except AmmError:
        return
    limit = int(quoted * (1 + slippage)) if exact_out else int(quoted * (1 - slippage))
    swapped = swap(amount, limit, A, B, exact_out=exact_out)
    path = [PathHop(POOL, curve, zero_for_one)]
    found = evaluated(path, swapped, 10**25)
    # Each boundary of a range rounds as a pool's end does, on the way there and on the way back.
    assert found.extractable >= searched(path, swapped, 10**25)[1] - ROUNDING * (1 + len(positions))
    if found.extractable:
        again = sandwiched(curve, found.front_in, swapped, zero_for_one=zero_for_one)
        assert again == (found.extractable, found.attacked)


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.integers(10**18, 10**25), st.integers(10**18, 10**25)), min_size=2, max_size=3),
    st.floats(1e-4, 0.2),
    st.floats(1e-4, 0.5),
    st.booleans(),
)
def test_of_a_path_each_pool_is_attacked_as_far_as_the_end_allows(
    reserves: list[tuple[int, int]], part: float, slippage: float, exact_out: bool
) -> None:
    path = [PathHop(bytes([number]) * 20, pair(*held), True) for number, held in enumerate(reserves, start=1)]
    tokens = [bytes([0x10 + number]) * 20 for number in range(len(path) + 1)]
    whole = swap(int(reserves[-1][1] * part) if exact_out else int(reserves[0][0] * part), 1, *tokens)
    if exact_out:
        whole = RouterSwap(whole.hops, whole.amount, 2**200, True, None)
    free = evaluate(path, whole, 1)
    if free is None:
        return
    limit = int(free.quoted * (1 + slippage)) if exact_out else int(free.quoted * (1 - slippage))
    swapped = RouterSwap(whole.hops, whole.amount, limit, exact_out, None)
    found = evaluated(path, swapped)
    if not found.extractable:
        return
    # Somewhat more, and the swap is refused, or gains no more.
    number = [hop.address for hop in path].index(found.pool)
    unit = 1 + reserves[number][0] // reserves[number][1]
    for more in (found.front_in * 101 // 100 + unit, found.front_in * 2):
        done = _attack(path, number, swapped, more)
        assert done is None or done.gain <= found.extractable
    assert found.attacked <= limit if exact_out else found.attacked >= limit


def test_a_known_sandwich_by_hand() -> None:
    """100 in for at least 85 of 1000/1000: computed with the pair's formula step by step."""
    curve = pair(1000 * WEI, 1000 * WEI)
    swapped = swap(100 * WEI, 85 * WEI, A, B)
    found = evaluated([PathHop(POOL, curve, True)], swapped)
    assert sandwiched(curve, found.front_in, swapped) == (found.extractable, found.attacked)
    # To the wei: a hundred wei more, and the swap is refused.
    assert 85 * WEI <= found.attacked <= 85 * WEI + 100
    assert sandwiched(curve, found.front_in + 100, swapped) is None
    assert found.quoted == 90661089388014913158
    assert found.slippage_ppm == 62442


def test_a_small_swap_is_hidden_by_the_fees() -> None:
    found = evaluated([PathHop(POOL, pair(10**24, 10**24), True)], swap(10**18, 1, A, B))
    assert (found.extractable, found.front_in, found.protecting_limit) == (0, 0, 1)


def test_capital_bounds_what_is_put_in() -> None:
    path = [PathHop(POOL, pair(1000 * WEI, 1000 * WEI), True)]
    whole = evaluated(path, swap(100 * WEI, 50 * WEI, A, B))
    part = evaluated(path, swap(100 * WEI, 50 * WEI, A, B), capital=WEI)
    assert part.front_in <= WEI < whole.front_in
    assert 0 < part.extractable < whole.extractable


def test_of_a_path_the_pool_with_most_to_take_is_named() -> None:
    deep, shallow = pair(10**24, 10**24), pair(1000 * WEI, 1000 * WEI)
    path = [PathHop(POOL, deep, True), PathHop(OTHER, shallow, True)]
    found = evaluated(path, swap(100 * WEI, 80 * WEI, A, B, C))
    assert (found.pool, found.token_in) == (OTHER, B)
    # A path that is refused before anybody came exposes nothing; one that goes through a pool twice is not evaluated.
    assert evaluate(path, swap(100 * WEI, 99 * WEI, A, B, C), 10**30) is None
    assert evaluate([path[0], path[0]._replace(zero_for_one=False)], swap(WEI, 1, A, B, A), 10**30) is None


@pytest.mark.parametrize("exact_out", [False, True])
def test_concentrated_pools_are_evaluated_by_the_same_search(exact_out: bool) -> None:
    ticks = Ticks({-60000: 10**21, 60000: -(10**21)}, 60)
    pool = ConcentratedPool(ticks, sqrt_price_x96=sqrt_price_at(0), tick=0, liquidity=10**21, fees=(3000, 3000))
    curve = ConcentratedCurve(pool)
    quoted = (curve.buy if exact_out else curve.sell)(100 * WEI, zero_for_one=True)[0]
    swapped = swap(100 * WEI, quoted * (105 if exact_out else 95) // 100, A, B, exact_out=exact_out)
    found = evaluated([PathHop(POOL, curve, True)], swapped)
    assert sandwiched(curve, found.front_in, swapped) == (found.extractable, found.attacked)
    assert found.extractable > 0
    tried = [sandwiched(curve, found.front_in * part // 100, swapped) for part in range(1, 200)]
    assert all(attack is None or attack[0] <= found.extractable for attack in tried)
