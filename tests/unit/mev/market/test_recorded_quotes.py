"""What mainnet's own contracts answered, to the wei: see recorded/README.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mev.market.amm import AmmError
from mev.market.amm.balancer import StablePool, StableRounding, WeightedPool
from mev.market.amm.concentrated import INT128_MAX, INT256_MAX, ConcentratedPool, v4_swap_fee
from mev.market.amm.curve import PRECISION, CurveMetaPool, CurvePool, Version
from mev.market.amm.solidly import SolidlyPool
from mev.market.amm.ticks import Ticks

RECORDED = Path(__file__).parent / "recorded"
BALANCER_VERSIONS = {1: StableRounding.DOWN, 2: StableRounding.UP}


def cases(name: str) -> list[Any]:
    return [
        pytest.param(case["pool"], case["quotes"], id=f"{case['pool'].get('kind', name)}-{case['pool']['address'][:8]}")
        for case in json.loads((RECORDED / f"{name}.json").read_text())
    ]


@pytest.mark.parametrize(("state", "quotes"), cases("concentrated"))
def test_concentrated_pools(state: dict[str, Any], quotes: list[list[Any]]) -> None:
    v4 = state["kind"] == "uniswap_v4"
    pool = ConcentratedPool(
        Ticks({int(tick): net for tick, net in state["ticks"].items()}, state["tick_spacing"]),
        sqrt_price_x96=state["sqrt_price_x96"],
        tick=state["tick"],
        liquidity=state["liquidity"],
        fees=(v4_swap_fee(0, state["fee"]),) * 2,
        largest_amount=INT128_MAX if v4 else INT256_MAX,
    )
    for kind, coin_in, amount, answer in quotes:
        swap = pool.swap_exact_in if kind == "in" else pool.swap_exact_out
        try:
            moved = swap(amount, zero_for_one=coin_in == 0)
        except AmmError:
            assert answer is None
            continue
        # The first quoters say what a swap takes that ends where liquidity does; V4's reverts there.
        whole = amount == (moved.amount_in if kind == "in" else moved.amount_out)
        assert answer == (None if v4 and not whole else moved.amount_out if kind == "in" else moved.amount_in)
        if kind == "in":
            assert pool.amount_out(amount, zero_for_one=coin_in == 0) == moved.amount_out


def test_the_quotes_that_lie_beside_the_checkout() -> None:
    """Their file names no price, and the ticks beside it are another block's: the state of their block is in recorded/."""
    shared = Path(__file__).parents[5] / "shared" / "recorded" / "quotes" / "uniswap_v3_wbtc_weth.quotes.json"
    if not shared.is_file():
        pytest.skip("the recorded quotes (../shared/recorded/quotes) are not beside this checkout")
    [state] = [case["pool"] for case in json.loads((RECORDED / "concentrated.json").read_text())[:1]]
    recorded = json.loads(shared.read_text())
    assert recorded["block_number"] == state["block"]
    quotes = []
    for key, answer in recorded["entries"].items():
        _, function, way, amount = key.split("|")
        kind = "in" if function == "quoteExactInputSingle" else "out"
        quotes.append([kind, 0 if way == "WBTC->WETH" else 1, int(amount), answer["value"]])
    assert len(quotes) == 80
    test_concentrated_pools(state, quotes)


@pytest.mark.parametrize(("state", "quotes"), cases("solidly"))
def test_solidly_pools(state: dict[str, Any], quotes: list[list[Any]]) -> None:
    unit0, unit1 = (10**decimals for decimals in state["decimals"])
    reserve0, reserve1 = state["reserves"]
    pool = SolidlyPool(reserve0, reserve1, unit0, unit1, state["fee"], state["stable"])
    for _, coin_in, amount, answer in quotes:
        assert pool.amount_out(amount, zero_for_one=coin_in == 0) == answer


@pytest.mark.parametrize(("state", "quotes"), cases("balancer"))
def test_balancer_pools(state: dict[str, Any], quotes: list[list[Any]]) -> None:
    left_out = state.get("lp_token")
    kept = [position for position in range(len(state["balances"])) if position != left_out]
    balances = tuple(state["balances"][position] for position in kept)
    scaling = tuple(state["scaling"][position] for position in kept)
    pool: WeightedPool | StablePool
    if state["kind"] == "weighted":
        pool = WeightedPool(balances, tuple(state["weights"]), scaling, state["fee"], state["shortcuts"])
    else:
        rounding = BALANCER_VERSIONS[state["invariant_version"]]
        pool = StablePool(balances, scaling, state["amplification"], state["fee"], rounding)
    assert quotes
    for kind, i, j, amount, answer in quotes:
        if left_out in {i, j}:
            continue
        quote = pool.amount_out if kind == "in" else pool.amount_in
        try:
            assert quote(kept.index(i), kept.index(j), amount) == answer
        except AmmError:
            assert answer is None


def curve_pool(state: dict[str, Any]) -> CurvePool:
    return CurvePool(
        Version.FIRST,
        tuple(state["balances"]),
        tuple(state["rates"]),
        state["amplification"],
        state["fee"],
        state["admin_fee"],
        supply=state["supply"],
    )


@pytest.mark.parametrize(("state", "quotes"), cases("curve"))
def test_curve_pools(state: dict[str, Any], quotes: list[list[Any]]) -> None:
    plain = curve_pool(state.get("base", state))
    meta = None
    if "base" in state:
        rates = (state["redemption_price"] * PRECISION // 10**18, state["base_virtual_price"])
        assert plain.virtual_price() == state["base"]["virtual_price"]
        pool = CurvePool(
            Version.SECOND, tuple(state["balances"]), rates, state["amplification"], state["fee"], state["admin_fee"]
        )
        meta = CurveMetaPool(pool, plain)
    for kind, i, j, amount, answer in quotes:
        if kind == "get_dy":
            assert (meta.pool if meta else plain).get_dy(i, j, amount) == answer
        elif kind == "get_dy_underlying":
            assert meta is not None
            assert meta.get_dy_underlying(i, j, amount) == answer
        elif kind == "calc_token_amount":
            amounts = [amount if position == i else 0 for position in range(len(plain.balances))]
            assert plain.calc_token_amount(amounts) == answer
        else:
            assert plain.remove_liquidity_one_coin(amount, i).amount_out == answer
