"""Compound V3's arithmetic: values worked out by hand from the contract's formulas."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from mev.market.lending.compound_v3 import (
    FACTOR_SCALE,
    INDEX_SCALE,
    Asset,
    Market,
    borrowed,
    is_for_sale,
    is_liquidatable,
    quote_collateral,
    trigger_price,
)

DOLLAR = 10**8
WAD = 10**18
USDC = Market(
    base_scale=10**6,
    base_price=DOLLAR,
    base_borrow_index=INDEX_SCALE,
    store_front_price_factor=FACTOR_SCALE // 2,
    reserves=0,
    target_reserves=10**12,
)
WETH = Asset(
    asset=b"\xee" * 20,
    scale=WAD,
    price=2000 * DOLLAR,
    liquidate_collateral_factor=FACTOR_SCALE * 90 // 100,
    liquidation_factor=FACTOR_SCALE * 95 // 100,
)
OWED = -15_000 * 10**6


def at(dollars: int) -> Asset:
    return msgspec.structs.replace(WETH, price=dollars)


def test_what_is_owed_grows_with_the_index() -> None:
    grown = msgspec.structs.replace(USDC, base_borrow_index=INDEX_SCALE * 105 // 100)
    assert (borrowed(-100, grown), borrowed(-1, grown), borrowed(0, grown), borrowed(7, grown)) == (105, 1, 0, 0)


def test_liquidatable_is_below_nothing() -> None:
    # 15000 / (10 * 0.9) is 1666.66...: one unit of price on either side.
    assert is_liquidatable(OWED, [(at(166666666666), 10 * WAD)], USDC)
    assert not is_liquidatable(OWED, [(at(166666666667), 10 * WAD)], USDC)
    assert not is_liquidatable(0, [], USDC)
    assert not is_liquidatable(1, [], USDC)
    assert is_liquidatable(OWED, [], USDC)


def test_the_trigger_is_the_last_price_at_which_it_is_absorbed() -> None:
    assert trigger_price(OWED, [(WETH, 10 * WAD)], USDC, WETH.asset) == 166666666666
    assert trigger_price(OWED, [], USDC, WETH.asset) is None
    assert trigger_price(0, [(WETH, 10 * WAD)], USDC, WETH.asset) is None
    worthless = msgspec.structs.replace(WETH, liquidate_collateral_factor=0)
    assert trigger_price(OWED, [(worthless, WAD)], USDC, WETH.asset) is None


def test_collateral_is_sold_at_half_of_the_penalty() -> None:
    # Half of five per cent: 1950 for a token of 2000.
    assert quote_collateral(WETH, 1950 * 10**6, USDC) == WAD
    assert quote_collateral(WETH, 1, USDC) == WAD // 1950 // 10**6


def test_nothing_is_sold_once_the_reserves_are_full() -> None:
    assert is_for_sale(USDC)
    assert not is_for_sale(msgspec.structs.replace(USDC, reserves=10**12))
    assert is_for_sale(msgspec.structs.replace(USDC, reserves=-1, target_reserves=0))


@given(st.integers(1, 10**15), st.integers(1, 10**24), st.integers(1, 10**14))
def test_a_higher_price_never_makes_a_borrower_liquidatable(owed: int, amount: int, price: int) -> None:
    if not is_liquidatable(-owed, [(at(price), amount)], USDC):
        assert not is_liquidatable(-owed, [(at(price + 1), amount)], USDC)
    trigger = trigger_price(-owed, [(at(price), amount)], USDC, WETH.asset)
    if trigger is not None:
        assert is_liquidatable(-owed, [(at(trigger), amount)], USDC)
        assert not is_liquidatable(-owed, [(at(trigger + 1), amount)], USDC)
