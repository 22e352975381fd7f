"""Aave V3's arithmetic: values worked out by hand from the contracts' formulas, and properties of every position."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mev.market.lending import aave_v3
from mev.market.lending.aave_v3 import Held, Liquidation, Reserve, health_factor, liquidate, most_debt, trigger_price
from mev.market.lending.wad_ray import (
    RAY,
    UINT256_MAX,
    WAD,
    Overflowed,
    compounded_interest,
    linear_interest,
    mul_div_ceil,
    percent_div,
    percent_div_ceil,
    percent_mul,
    ray_mul,
    wad_div,
)

YEAR = 365 * 24 * 3600
DOLLAR = 10**8
WETH = Reserve(
    asset=b"\xee" * 20,
    decimals=18,
    price=2000 * DOLLAR,
    liquidation_threshold=8300,
    liquidation_bonus=10500,
    protocol_fee=1000,
)
USDC = Reserve(
    asset=b"\x05" * 20,
    decimals=6,
    price=DOLLAR,
    liquidation_threshold=7800,
    liquidation_bonus=10450,
    protocol_fee=1000,
)


@pytest.mark.parametrize(
    ("computed", "value"),
    [
        (percent_mul(1, 5000), 1),
        (percent_mul(1, 4999), 0),
        (percent_mul(10**18, 10500), 105 * 10**16),
        (percent_div(105, 10500), 100),
        (percent_div(1, 10500), 1),
        (percent_div(1, 20001), 0),
        (percent_div_ceil(1, 20001), 1),
        (wad_div(1, 3), 333333333333333333),
        (wad_div(2, 3), 666666666666666667),
        (ray_mul(1, RAY // 2), 1),
        (ray_mul(1, RAY // 2 - 1), 0),
        (ray_mul(3 * RAY, 2 * RAY), 6 * RAY),
        (mul_div_ceil(7, 3, 2), 11),
        (mul_div_ceil(6, 3, 2), 9),
        (linear_interest(RAY // 20, YEAR), RAY + RAY // 20),
        (linear_interest(RAY // 20, 1), RAY + 1585489599188229325),
        # e^0.05 by its first four terms: 1 + 0.05 + 0.00125 + 0.0000208333...
        (compounded_interest(RAY // 20, YEAR), 1051270833333333333333333333),
        (compounded_interest(RAY // 20, 0), RAY),
    ],
)
def test_known_values(computed: int, value: int) -> None:
    assert computed == value


def test_what_the_contract_cannot_hold_reverts() -> None:
    with pytest.raises(Overflowed):
        percent_mul(UINT256_MAX, 2)
    with pytest.raises(Overflowed):
        percent_div(1, 0)
    with pytest.raises(Overflowed):
        wad_div(2**200, 1)


def test_balances_round_for_the_protocol() -> None:
    index = RAY + 1
    assert aave_v3.supplied(10**18, index, 0, 0) == 10**18
    assert aave_v3.owed(10**18, index, 0, 0) == 10**18 + 1
    assert aave_v3.supplied(10**18, RAY, RAY // 20, YEAR) == 105 * 10**16
    assert aave_v3.owed(10**18, RAY, RAY // 20, YEAR) == 1051270833333333334


def position(price: int, supplied: int = 10 * WAD, owed: int = 15_000 * 10**6) -> tuple[Held, Held]:
    weth = msgspec.structs.replace(WETH, price=price)
    return Held(reserve=weth, supplied=supplied), Held(reserve=USDC, owed=owed)


def test_health_factor_by_hand() -> None:
    # 10 WETH at 2000 count 16600 of 15000 owed.
    assert health_factor(position(2000 * DOLLAR)) == 1106666666666666666
    assert health_factor(position(2000 * DOLLAR, owed=0)) == UINT256_MAX
    unused = [msgspec.structs.replace(position(2000 * DOLLAR)[0], collateral=False), position(2000 * DOLLAR)[1]]
    assert health_factor(unused) == 0


def test_the_trigger_is_the_last_price_at_which_it_can_be_liquidated() -> None:
    price = trigger_price(position(2000 * DOLLAR), WETH.asset, 10**6 * DOLLAR)
    assert price is not None
    assert health_factor(position(price)) < WAD <= health_factor(position(price + 1))
    # What is owed by 8.3 WETH, which is what ten count.
    assert price == 180722891566
    rising = trigger_price(position(2000 * DOLLAR), USDC.asset, 10**6 * DOLLAR)
    assert rising is not None
    assert rising == 110666667
    assert trigger_price(position(2000 * DOLLAR, owed=0), WETH.asset, 10**6 * DOLLAR) is None
    assert trigger_price(position(2000 * DOLLAR), b"\x99" * 20, 10**6 * DOLLAR) is None


def test_half_of_the_debt_while_the_position_is_nearly_healthy() -> None:
    collateral, debt = position(1800 * DOLLAR)
    assert WAD * 95 // 100 < health_factor([collateral, debt]) < WAD
    assert most_debt([collateral, debt], collateral, debt) == 7_500 * 10**6
    done = liquidate([collateral, debt], collateral, debt, 10**30)
    # 7500 / 1800 = 4.1666..., and five per cent; a tenth of the bonus is the protocol's.
    assert done == Liquidation(debt=7_500 * 10**6, collateral=4354166666666666666, protocol_fee=20833333333333333)
    assert done.collateral + done.protocol_fee == 4374999999999999999


def test_all_of_it_below_that_and_where_little_is_left() -> None:
    collateral, debt = position(1700 * DOLLAR)
    assert health_factor([collateral, debt]) <= WAD * 95 // 100
    assert most_debt([collateral, debt], collateral, debt) == debt.owed
    collateral, debt = position(1800 * DOLLAR, supplied=WAD, owed=1_500 * 10**6)
    assert most_debt([collateral, debt], collateral, debt) == debt.owed


def test_collateral_that_does_not_suffice_bounds_what_is_paid() -> None:
    collateral, debt = position(1000 * DOLLAR)
    done = liquidate([collateral, debt], collateral, debt, 10**30)
    assert done is not None
    # 10000 / 1.05, rounded up against the liquidator.
    assert done.debt == 9523809524
    assert done.collateral + done.protocol_fee == collateral.supplied


def test_nothing_may_be_left_that_nobody_would_liquidate() -> None:
    collateral, debt = position(1700 * DOLLAR)
    assert liquidate([collateral, debt], collateral, debt, debt.owed - 500 * 10**6) is None
    assert liquidate([collateral, debt], collateral, debt, debt.owed - 1000 * 10**6) is not None
    assert liquidate([collateral, debt], collateral, debt, debt.owed) is not None


def test_a_healthy_position_cannot_be_liquidated() -> None:
    collateral, debt = position(2000 * DOLLAR)
    assert liquidate([collateral, debt], collateral, debt, 1) is None


@given(
    st.integers(1, 10**24),
    st.integers(1, 10**14),
    st.integers(1, 10**13),
    st.integers(1, 10**15),
)
def test_no_liquidation_pays_or_takes_more_than_there_is(supplied: int, owed: int, price: int, cover: int) -> None:
    collateral, debt = position(price, supplied, owed)
    done = liquidate([collateral, debt], collateral, debt, cover)
    if done is None:
        return
    assert 0 <= done.debt <= min(cover, most_debt([collateral, debt], collateral, debt)) <= owed
    assert 0 <= done.collateral + done.protocol_fee <= supplied
