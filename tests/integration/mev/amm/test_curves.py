"""Solidly's, Curve's and Balancer's pools against contracts on a real EVM, over random states.

Solidly and Balancer: the published sources, compiled here (the package with Aerodrome's has ported them to OpenZeppelin 5; the mathematics is
Aerodrome's, as mainnet's answers in tests/unit show). Curve publishes neither bytecode nor sources where they can be had: curve_formula.vy
is a second implementation of the published formulas by us, not Curve's contract; Curve's own answers are in tests/unit.
"""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING

import pytest
from mev.market.amm import AmmError
from mev.market.amm.balancer import StablePool, StableRounding, WeightedPool
from mev.market.amm.curve import CurvePool, Version
from mev.market.amm.log_exp import pow_up
from mev.market.amm.solidly import SolidlyPool

from lab.evm import devnode
from tests.integration.mev.amm.solidity import creation_code

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.evm.npm import Modules
    from tests.integration.mev.amm.conftest import Bench

POOLS = 12
QUOTES = 20
AERODROME = "sphere-mezo-solidity-files/domains/aerodrome/contracts/Pool.sol"
WEIGHTED = "@balancer-labs/v2-pool-weighted/contracts/WeightedPool.sol"
STABLE = "@balancer-labs/v2-pool-stable/contracts/StablePool.sol"
REQUEST = "(uint8,address,address,uint256,bytes32,uint256,address,address,bytes)"
POOL = "(uint256,uint256[],uint256[],uint256,uint256,uint256,uint256,uint256)"
NOBODY = "0x" + 40 * "0"


def or_none(quote: Callable[[], int]) -> int | None:
    try:
        return quote()
    except AmmError:
        return None


@pytest.mark.parametrize("decimals", [(18, 18), (6, 18), (18, 6), (8, 2)])
@pytest.mark.parametrize("stable", [True, False], ids=["stable", "volatile"])
def test_solidly(bench: Bench, published: Modules, decimals: tuple[int, int], stable: bool) -> None:
    draw = random.Random(f"{decimals} {stable}")  # noqa: S311
    tokens = bench.tokens(*decimals)
    factory = bench.vyper("solidly_factory")
    pool = bench.deploy(creation_code(published, "solc-0.8", AERODROME, "Pool"))
    for token in tokens:
        bench.send(token, "transfer(address,uint256)", factory, 2**248)
    units = [10**each for each in decimals]
    signature = "initialize(address,address,address,bool,uint256,uint256)"
    bench.send(factory, signature, pool, *tokens, stable, *units)
    answered = 0
    for _ in range(POOLS):
        snapshot = bench.rpc.call("evm_snapshot")
        fee = draw.choice([0, 1, 5, 30, 100, 300])
        bench.send(factory, "set_fee(uint256)", fee)
        whole = 10 ** draw.uniform(0, 10)
        added = [int(whole * unit * 2 ** draw.uniform(-6, 6)) for unit in units]
        bench.send(factory, "fill(address,address,address,uint256,uint256)", pool, *tokens, *added)
        reserves = [one + more for one, more in zip(units, added, strict=True)]
        ours = SolidlyPool(reserves[0], reserves[1], units[0], units[1], fee, stable)
        asked = []
        for _ in range(QUOTES):
            zero_for_one = draw.random() < 0.5
            held = reserves[0 if zero_for_one else 1]
            asked.append((zero_for_one, draw.choice([0, 1, int(held * 10 ** draw.uniform(-12, 2))])))
        calls = [
            (pool, "getAmountOut(uint256,address)", (amount, tokens[0 if zero_for_one else 1]))
            for zero_for_one, amount in asked
        ]
        quotes = [None if answer is None else answer[0] for answer in bench.ask_each(["uint256"], calls)]
        mine = [or_none(partial(ours.amount_out, a, zero_for_one=z)) for z, a in asked]
        assert mine == quotes, (ours, asked)
        answered += sum(bool(quote) for quote in quotes)
        swaps = [
            (factory, "swap(address,address,bool,uint256,uint256)", (pool, tokens[0 if z else 1], z, a, out or 0))
            for (z, a), out in zip(asked, quotes, strict=True)
        ]
        for (z, a), after in zip(asked, bench.ask_each(["uint256", "uint256"], swaps), strict=True):
            try:
                swapped = ours.swap(a, zero_for_one=z)
            except AmmError:
                assert after is None
            else:
                assert after == swapped.pool[:2]
        devnode.revert(bench.rpc, snapshot)
    assert answered > POOLS * QUOTES // 3


@pytest.mark.parametrize("version", list(Version))
def test_curve(bench: Bench, version: Version) -> None:
    draw = random.Random(version.value)  # noqa: S311
    formula = bench.vyper("curve_formula")
    moves = {
        "exchange": f"exchange({POOL},uint256,uint256,uint256)",
        "add": f"add_liquidity({POOL},uint256[])",
        "remove": f"remove_liquidity_one_coin({POOL},uint256,uint256)",
    }
    calls, pools, asked = [], [], []
    for _ in range(POOLS * QUOTES):
        coins = draw.randint(2, 4)
        decimals = [draw.choice([6, 8, 18]) for _ in range(coins)]
        whole = 10 ** draw.uniform(0, 9)
        pool = CurvePool(
            version,
            tuple(int(whole * 10**each * 2 ** draw.uniform(-4, 4)) for each in decimals),
            tuple(10 ** (36 - each) * draw.randint(100, 130) // 100 for each in decimals),
            draw.randint(1, 5000) * (1 if version is Version.FIRST else 100),
            draw.choice([0, 1_500_000, 4_000_000, 10**8]),
            draw.choice([0, 5 * 10**9, 10**10]),
            draw.choice([0, 2 * 10**10, 20 * 10**10]),
            int(whole * 10**18),
        )
        i, j = draw.sample(range(coins), 2)
        amount = int(pool.balances[i] * 10 ** draw.uniform(-9, 1.5))
        kinds = ["exchange"] if version is Version.NG else list(moves)
        kind = draw.choice(kinds)
        arguments: dict[str, tuple[object, ...]] = {
            "exchange": (i, j, amount),
            "add": ([amount if position == i else 0 for position in range(coins)],),
            "remove": (int(pool.supply * 10 ** draw.uniform(-9, 0)), i),
        }
        pools.append(pool)
        asked.append((kind, arguments[kind]))
        # The formula takes A as it is, without a ramp.
        calls.append((formula, moves[kind], ((version.value, *pool[1:-1]), *arguments[kind])))
    answers = bench.ask_each(["uint256", "uint256[]"], calls)
    for pool, (kind, given), answer in zip(pools, asked, answers, strict=True):
        move = {
            "exchange": pool.exchange,
            "add": pool.add_liquidity,
            "remove": pool.remove_liquidity_one_coin,
        }[kind]
        try:
            swapped = move(*given)  # type: ignore[operator]
        except AmmError:
            assert answer is None, (pool, kind, given)
        else:
            assert answer == (swapped.amount_out, swapped.pool.balances), (pool, kind, given)
    assert sum(answer is not None for answer in answers) > POOLS * QUOTES // 2


@pytest.mark.parametrize("seed", range(4))
def test_balancer_weighted(bench: Bench, published: Modules, seed: int) -> None:
    draw = random.Random(seed)  # noqa: S311
    decimals = draw.choice([(18, 18), (6, 18), (18, 8)])
    tokens = bench.tokens(*decimals)
    weight = draw.choice([5, 20, 50, 80, 99]) * 10**16
    weights = (weight, 10**18 - weight)
    fee = draw.choice([10**12, 3 * 10**15, 10**17])
    code = creation_code(published, "solc-0.7", WEIGHTED, "WeightedPool")
    types = ["address", "string", "string", "address[]", "uint256[]", "address[]", *["uint256"] * 3, "address"]
    vault = bench.vyper("balancer_vault")
    pool = bench.deploy(code, types, [vault, "P", "P", tokens, weights, [NOBODY, NOBODY], fee, 0, 0, NOBODY])
    calls, mine = [], []
    for _ in range(POOLS * QUOTES):
        balances = [int(10 ** (each + draw.uniform(-1, 9))) for each in decimals]
        ours = WeightedPool(
            (balances[0], balances[1]), weights, tuple(10 ** (36 - each) for each in decimals), fee, shortcuts=False
        )
        i = draw.randint(0, 1)
        given_in = draw.random() < 0.5
        amount = int(balances[i if given_in else 1 - i] * 10 ** draw.uniform(-12, -0.4))
        quote = ours.amount_out if given_in else ours.amount_in
        mine.append(or_none(partial(quote, i, 1 - i, amount)))
        request = (0 if given_in else 1, tokens[i], tokens[1 - i], amount, bytes(32), 0, NOBODY, NOBODY, b"")
        calls.append((pool, f"onSwap({REQUEST},uint256,uint256)", (request, balances[i], balances[1 - i])))
    answers = bench.ask_each(["uint256"], calls, sender=vault)
    assert mine == [None if answer is None else answer[0] for answer in answers]
    assert sum(answer is not None for answer in answers) > POOLS * QUOTES // 2


@pytest.mark.parametrize("seed", range(3))
def test_balancer_stable(bench: Bench, published: Modules, seed: int) -> None:
    draw = random.Random(seed)  # noqa: S311
    decimals = [(18, 18), (6, 18), (18, 18, 18)][seed]
    tokens = bench.tokens(*decimals)
    fee, amplification = draw.choice([10**12, 4 * 10**14, 10**17]), draw.choice([1, 50, 5000])
    code = creation_code(published, "solc-0.7", STABLE, "StablePool")
    types = ["address", "string", "string", "address[]", *["uint256"] * 4, "address"]
    vault = bench.vyper("balancer_vault")
    pool = bench.deploy(code, types, [vault, "P", "P", tokens, amplification, fee, 0, 0, NOBODY])
    calls, mine = [], []
    for _ in range(POOLS * QUOTES):
        whole = 10 ** draw.uniform(0, 9)
        balances = [int(whole * 10**each * 2 ** draw.uniform(-5, 5)) for each in decimals]
        ours = StablePool(
            tuple(balances),
            tuple(10 ** (36 - each) for each in decimals),
            1000 * amplification,
            fee,
            StableRounding.UP,
        )
        i, j = draw.sample(range(len(decimals)), 2)
        given_in = draw.random() < 0.5
        amount = int(balances[i if given_in else j] * 10 ** draw.uniform(-12, 0.3))
        quote = ours.amount_out if given_in else ours.amount_in
        mine.append(or_none(partial(quote, i, j, amount)))
        request = (0 if given_in else 1, tokens[i], tokens[j], amount, bytes(32), 0, NOBODY, NOBODY, b"")
        calls.append((pool, f"onSwap({REQUEST},uint256[],uint256,uint256)", (request, balances, i, j)))
    answers = bench.ask_each(["uint256"], calls, sender=vault)
    assert mine == [None if answer is None else answer[0] for answer in answers]
    assert sum(answer is not None for answer in answers) > POOLS * QUOTES // 2


def test_powers_of_newer_balancer_pools_multiply_out() -> None:
    one = 10**18
    assert pow_up(3 * one, one, shortcuts=True) == 3 * one
    assert pow_up(one // 3, 2 * one, shortcuts=True) == 111111111111111111
    assert pow_up(3 * one, 4 * one, shortcuts=True) == 81 * one
    assert pow_up(3 * one, one, shortcuts=False) > 3 * one
