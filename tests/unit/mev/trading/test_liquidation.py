"""The best liquidation is what trying amounts finds: slippage, costs and the pool's own rules weighed against the bonus."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from mev.market.lending.aave_v3 import Held, liquidate, most_debt
from mev.market.lending.wad_ray import WAD
from mev.trading.strategies.liquidation import best_liquidation
from mev.trading.strategies.sandwich import PairCurve, PathHop

from tests.unit.mev.market.test_aave_v3 import DOLLAR, USDC, WETH, position

POOL = b"\x01" * 20


def paths(weth: int, usdc: int) -> dict[tuple[bytes, bytes], list[PathHop]]:
    """A pair of WETH (token0) and USDC with such reserves."""
    return {(WETH.asset, USDC.asset): [PathHop(POOL, PairCurve(weth, usdc, 997, 1000), zero_for_one=True)]}


DEEP = paths(10**6 * WAD, 1800 * 10**6 * 10**6)


def test_a_deep_market_takes_all_that_is_allowed() -> None:
    held = position(1800 * DOLLAR)
    found = best_liquidation(held, DEEP)
    assert found is not None
    assert found.liquidation == liquidate(held, *held, 10**30)
    sold, _ = DEEP[WETH.asset, USDC.asset][0].curve.sell(found.liquidation.collateral, zero_for_one=True)
    assert (found.proceeds, found.profit) == (sold, sold - found.liquidation.debt)
    assert (found.debt_asset, found.collateral_asset) == (USDC.asset, WETH.asset)


def test_costs_count() -> None:
    held = position(1800 * DOLLAR)
    free = best_liquidation(held, DEEP)
    assert free is not None
    paid = best_liquidation(held, DEEP, lambda _: free.profit - 1)
    assert paid is not None
    assert paid.profit == 1
    assert best_liquidation(held, DEEP, lambda _: free.profit) is None


def test_what_cannot_be_sold_or_is_healthy_is_left_alone() -> None:
    assert best_liquidation(position(1800 * DOLLAR), {}) is None
    assert best_liquidation(position(2000 * DOLLAR), DEEP) is None
    # A pool that pays a tenth of the oracle's price.
    assert best_liquidation(position(1800 * DOLLAR), paths(10**6 * WAD, 180 * 10**6 * 10**6)) is None


def test_the_same_asset_needs_no_path() -> None:
    usdc = msgspec.structs.replace(USDC, liquidation_threshold=7000)
    held = [Held(reserve=usdc, supplied=1000 * 10**6, owed=800 * 10**6)]
    found = best_liquidation(held, {})
    assert found is not None
    assert found.proceeds == found.liquidation.collateral


@settings(max_examples=20)
@given(st.integers(10**18, 10**23), st.integers(1500, 1805), st.integers(0, 10**8))
def test_no_amount_leaves_more(weth: int, dollars: int, cost: int) -> None:
    held = position(dollars * DOLLAR)
    market = paths(weth, weth * dollars // 10**12)
    found = best_liquidation(held, market, lambda _: cost)
    curve = market[WETH.asset, USDC.asset][0].curve
    most = most_debt(held, *held)
    best = 0
    for part in range(1, 401):
        done = liquidate(held, *held, most * part // 400)
        if done is not None and done.collateral:
            best = max(best, curve.sell(done.collateral, zero_for_one=True)[0] - done.debt - cost)
    assert (found.profit if found else 0) >= best - 2
