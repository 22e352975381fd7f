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
from mev.trading.strategies.sandwich import ConcentratedCurve, Curve, Exposure, PairCurve, PathHop, evaluate

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
