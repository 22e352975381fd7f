"""What holds of every pool, whatever its numbers: more in never gives less, and there and back never pays."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mev.market.amm import AmmError
from mev.market.amm.balancer import StablePool, StableRounding, WeightedPool
from mev.market.amm.concentrated import ConcentratedPool, Moved
from mev.market.amm.curve import CurvePool, Version
from mev.market.amm.log_exp import power
from mev.market.amm.solidly import SolidlyPool
from mev.market.amm.tick_math import (
    MAX_SQRT_PRICE,
    MAX_TICK,
    MIN_SQRT_PRICE,
    MIN_TICK,
    exact_tick_at,
    sqrt_price_at,
    tick_at,
    usable,
)
from mev.market.amm.ticks import Ticks

ONE = 10**18
amounts = st.integers(1, 2**100)


@st.composite
def concentrated(draw: st.DrawFn) -> ConcentratedPool:
    spacing = draw(st.sampled_from([1, 10, 60, 200]))
    least, greatest = usable(spacing)
    net: dict[int, int] = {}
    for _ in range(draw(st.integers(1, 6))):
        lower = draw(st.integers(-3000, 3000)) * spacing
        upper = lower + draw(st.integers(1, 500)) * spacing
        lower, upper = max(lower, least), min(upper, greatest)
        assume(lower < upper)
        liquidity = draw(st.integers(1, 2**90))
        net[lower] = net.get(lower, 0) + liquidity
        net[upper] = net.get(upper, 0) - liquidity
    tick = draw(st.integers(max(-3200 * spacing, MIN_TICK), min(3200 * spacing, MAX_TICK - 1)))
    price = draw(st.integers(sqrt_price_at(tick), sqrt_price_at(tick + 1) - 1))
    ticks = Ticks(net, spacing, words=draw(st.booleans()))
    fee = draw(st.sampled_from([0, 100, 3000, 500_000]))
    return ConcentratedPool(ticks, sqrt_price_x96=price, tick=tick, liquidity=ticks.liquidity_at(tick), fees=(fee, fee))


@given(st.integers(MIN_SQRT_PRICE, MAX_SQRT_PRICE - 1))
def test_a_price_lies_between_its_tick_and_the_next(price: int) -> None:
    tick = tick_at(price)
    assert sqrt_price_at(tick) <= price
    assert price < sqrt_price_at(tick + 1)


@pytest.mark.parametrize("price", [0, MIN_SQRT_PRICE - 1, MAX_SQRT_PRICE, 2**160])
def test_prices_that_no_pool_has(price: int) -> None:
    with pytest.raises(AmmError):
        tick_at(price)


@given(concentrated(), amounts, amounts, st.booleans())
@settings(max_examples=200)
def test_concentrated_more_in_never_gives_less(pool: ConcentratedPool, one: int, other: int, way: bool) -> None:
    outs = [pool.amount_out(amount, zero_for_one=way) for amount in sorted((one, other))]
    assert outs[0] <= outs[1]
    for amount, out in zip(sorted((one, other)), outs, strict=True):
        assert pool.swap_exact_in(amount, zero_for_one=way).amount_out == out


@given(concentrated(), amounts, st.booleans())
@settings(max_examples=200)
def test_concentrated_there_and_back_never_pays(pool: ConcentratedPool, amount: int, way: bool) -> None:
    there = pool.swap_exact_in(amount, zero_for_one=way)
    assume(there.amount_out > 0)
    back = pool.after(there).swap_exact_in(there.amount_out, zero_for_one=not way)
    assert back.amount_out <= there.amount_in


@given(concentrated(), amounts, st.booleans())
@settings(max_examples=200)
def test_concentrated_exact_out_is_what_it_costs(pool: ConcentratedPool, amount: int, way: bool) -> None:
    asked = pool.swap_exact_out(amount, zero_for_one=way)
    assume(asked.amount_out == amount and asked.amount_in > 0)
    assert pool.swap_exact_in(asked.amount_in, zero_for_one=way).amount_out >= amount


@given(concentrated(), amounts, st.booleans())
def test_concentrated_in_two_steps_is_never_better_than_in_one(pool: ConcentratedPool, amount: int, way: bool) -> None:
    first = pool.swap_exact_in(amount, zero_for_one=way)
    assume(first.amount_in == amount)
    second = pool.after(first).swap_exact_in(amount, zero_for_one=way)
    whole: Moved = pool.swap_exact_in(2 * amount, zero_for_one=way)
    assert first.amount_out + second.amount_out <= whole.amount_out + len(pool.ticks.net)


def test_a_pool_that_contradicts_itself_is_refused() -> None:
    ticks = Ticks({-60: 5, 60: -5}, 60)
    price = sqrt_price_at(0)
    for changed in ({"liquidity": 4}, {"tick": 1}, {"fees": (-1, 0)}, {"fees": (0, 10**6 + 1)}):
        state = {"sqrt_price_x96": price, "tick": 0, "liquidity": 5, "fees": (0, 0), **changed}
        with pytest.raises(AmmError):
            ConcentratedPool(ticks, **state)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("net", "spacing"),
    [
        ({0: 1}, 1),
        ({-60: -1, 60: 1}, 60),
        ({-61: 1, 60: -1}, 60),
        ({-887273: 1, 0: -1}, 1),
        ({0: 2**128, 1: -(2**128)}, 1),
        ({}, 0),
    ],
)
def test_ticks_that_no_pool_has(net: dict[int, int], spacing: int) -> None:
    with pytest.raises(AmmError):
        Ticks(net, spacing)


def curves(draw: st.DrawFn) -> tuple[object, tuple[int, int]]:
    decimals = draw(st.sampled_from([(18, 18), (6, 18), (18, 6)]))
    whole = draw(st.integers(1, 10**9))
    balances = tuple(whole * 10**each * draw(st.integers(1, 8)) for each in decimals)
    rates = tuple(10 ** (36 - each) for each in decimals)
    fee = draw(st.sampled_from([10**12, 3 * 10**15]))
    kind = draw(
        st.sampled_from(["solidly stable", "solidly volatile", "curve", "curve ng", "weighted", "stable", "composable"])
    )
    return _made(kind, balances, decimals, rates, fee), (balances[0], balances[1])


def _made(kind: str, balances: tuple[int, ...], decimals: tuple[int, int], rates: tuple[int, ...], fee: int) -> object:
    if kind.startswith("solidly"):
        stable = kind.endswith("stable")
        units = 10 ** decimals[0], 10 ** decimals[1]
        return SolidlyPool(balances[0], balances[1], *units, 5 if stable else 30, stable)
    if kind.startswith("curve"):
        version = Version.NG if kind == "curve ng" else Version.SECOND
        return CurvePool(version, balances, rates, 20_000, 4_000_000, 5 * 10**9, 2 * 10**10)
    if kind == "weighted":
        return WeightedPool(balances, (8 * 10**17, 2 * 10**17), rates, fee, shortcuts=True)
    rounding = StableRounding.UP if kind == "stable" else StableRounding.DOWN
    return StablePool(balances, rates, 50_000, fee, rounding)


def given_out(pool: object, amount: int, way: int) -> int:
    if isinstance(pool, SolidlyPool):
        return pool.amount_out(amount, zero_for_one=way == 0)
    assert isinstance(pool, CurvePool | WeightedPool | StablePool)
    return pool.amount_out(way, 1 - way, amount)


def given_or_nothing(pool: object, amount: int, way: int) -> int:
    """What comes out; nothing where rounding leaves less than nothing, and the contract reverts."""
    try:
        return given_out(pool, amount, way)
    except AmmError:
        return 0


def moved(pool: object, amount: int, out: int, way: int) -> object:
    change = [amount, -out] if way == 0 else [-out, amount]
    if isinstance(pool, SolidlyPool):
        return pool.at(pool.reserve0 + change[0], pool.reserve1 + change[1])
    assert isinstance(pool, CurvePool | WeightedPool | StablePool)
    return pool._replace(balances=(pool.balances[0] + change[0], pool.balances[1] + change[1]))


@given(st.composite(curves)(), st.integers(0, 1), st.lists(st.integers(1, 10**6), min_size=2, max_size=4))
@settings(max_examples=300)
def test_more_in_never_gives_less(drawn: tuple[object, tuple[int, int]], way: int, parts: list[int]) -> None:
    pool, balances = drawn
    # Balancer's powers are exact to 10**-14 only; amounts that differ by more have an order.
    tried = sorted({balances[way] * part // (4 * 10**6) for part in parts} - {0})
    outs = [given_or_nothing(pool, amount, way) for amount in tried]
    assert all(less <= more for less, more in pairwise(outs))


@given(st.composite(curves)(), st.integers(0, 1), st.integers(1, 10**6))
@settings(max_examples=300)
def test_there_and_back_never_pays(drawn: tuple[object, tuple[int, int]], way: int, part: int) -> None:
    pool, balances = drawn
    amount = balances[way] * part // (4 * 10**6)
    assume(amount > 0)
    out = given_or_nothing(pool, amount, way)
    assume(out > 0)
    assert given_or_nothing(moved(pool, amount, out, way), out, 1 - way) <= amount


@given(st.integers(1, 10**24), st.integers(0, 10**20))
def test_powers_are_near_the_real_ones(base: int, exponent: int) -> None:
    try:
        found = power(base, exponent)
    except AmmError:
        return
    expected = float(base / ONE) ** (exponent / ONE) * ONE
    assert abs(found - expected) <= expected * 1e-9 + 2


@pytest.mark.parametrize("pair", [(0, 0), (2, 0), (0, -1)])
def test_coins_that_are_no_pair(pair: tuple[int, int]) -> None:
    for pool in (
        CurvePool(Version.SECOND, (ONE, ONE), (ONE, ONE), 20_000, 0, 0),
        WeightedPool((ONE, ONE), (ONE // 2, ONE // 2), (ONE, ONE), 0, shortcuts=True),
        StablePool((ONE, ONE), (ONE, ONE), 50_000, 0, StableRounding.UP),
    ):
        with pytest.raises(AmmError):
            pool.amount_out(*pair, 5)


@given(st.lists(st.integers(0, 2**256 - 1), min_size=2, max_size=3), st.integers(0, 2**256 - 1), st.integers(0, 10**6))
def test_absurd_balances_are_refused_or_quoted_and_nothing_else(
    balances: list[int], amount: int, leverage: int
) -> None:
    rates = (ONE,) * len(balances)
    pools = [
        *(CurvePool(version, tuple(balances), rates, leverage, 10**6, 10**9, 10**11) for version in Version),
        *(StablePool(tuple(balances), rates, leverage, 10**15, rounding) for rounding in StableRounding),
        WeightedPool(tuple(balances), (ONE // len(balances),) * len(balances), rates, 10**15, shortcuts=False),
        SolidlyPool(balances[0], balances[1], ONE, 10**6, 30, stable=True),
    ]
    for pool in pools:
        try:
            out = given_out(pool, amount, 0)
        except AmmError:
            continue
        assert out <= balances[1]


@settings(max_examples=2000)
@given(
    st.one_of(
        st.integers(MIN_SQRT_PRICE, 2**40),
        st.integers(0, 127).flatmap(lambda bits: st.integers(2**32 << bits, 2**33 << bits)),
    )
)
def test_the_tick_of_a_price_is_the_one_that_the_contract_computes(price: int) -> None:
    if MIN_SQRT_PRICE <= price < MAX_SQRT_PRICE:
        assert tick_at(price) == exact_tick_at(price)


def test_at_a_tick_s_own_price_and_beside_it_the_tick_is_exact() -> None:
    """Where a logarithm in floats would say either of two."""
    for tick in {*range(MIN_TICK, MAX_TICK, 97), *range(MIN_TICK, MIN_TICK + 500), *range(MAX_TICK - 500, MAX_TICK)}:
        price = sqrt_price_at(tick)
        assert tick_at(price) == tick
        if tick > MIN_TICK:
            assert tick_at(price - 1) == tick - 1
        assert tick_at(price + 1) == exact_tick_at(price + 1)
