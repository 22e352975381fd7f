"""The executor's swaps through V3 pools on a real EVM: mixed with V2 pairs, against hostile tokens, and against what only calls itself a pool."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from mev.domain import Pool
from mev.trading import erc20
from mev.trading.execution import contract

from lab.evm.rpc import RpcError
from tests.integration.mev.conftest import CAPITAL_WEI, NATIVE_WEI, Account, compiled, raw, word
from tests.integration.mev.paths import V3Pools, robs_nothing, seeded_v3, through
from tests.integration.mev.test_executor import FEE, HONEST, LIES, HostileMarket, Pools, selector

if TYPE_CHECKING:
    from lab.evm.devnode import DevNode

SWAP = "0xc42079f94a6350d7e6235f29174924f928cc2ac818eb64fed8004e115fbcca67"
CALLBACK = selector("uniswapV3SwapCallback(int256,int256,bytes)")
PRICE_ONE = 2**96
FAR_TICK = 887_220
_, TWICE, MORE, LESS, ACCOMPLICE, FREE, GREEDY = range(7)


def signed(value: int) -> bytes:
    return (value % 2**256).to_bytes(32, "big")


def callback(amount0: int, amount1: int) -> bytes:
    return CALLBACK + signed(amount0) + signed(amount1) + word(96) + word(0)


@pytest.fixture
def concentrated(evm: DevNode) -> V3Pools:
    """The seeded V3 pools by fee and their tokens' symbols."""
    return seeded_v3(evm)


def profitable(owner: Account, executor: bytes, token: bytes, one: Pool, other: Pool) -> tuple[bytes, int]:
    """Calldata for the direction that pays, and what it pays by the chain's own word."""
    for path in ((one, other), (other, one)):
        data = contract.encode_execute(*through(token, *path), NATIVE_WEI // 10, 0, 0)
        try:
            return data, int.from_bytes(owner.call(executor, data), "big")
        except RpcError:
            continue
    raise AssertionError("neither direction pays")


def push(evm: DevNode, owner: Account, wrapped: bytes, fee: int, amount_wei: int) -> None:
    """Sell wrapped native into the seeded WETH/USDC pool of a fee."""
    router = raw(evm.deployment.factory("uniswap_v3").router)
    owner.send(wrapped, erc20.encode_deposit(), amount_wei)
    owner.send(wrapped, selector("approve(address,uint256)") + word(router) + word(amount_wei))
    usdc = raw(evm.deployment.token("USDC").address)
    exact_input = "exactInputSingle((address,address,uint24,address,uint256,uint256,uint256,uint160))"
    words: tuple[int | bytes, ...] = (wrapped, usdc, fee, owner.address, 2**64, amount_wei, 0, 0)
    data = selector(exact_input) + b"".join(word(each) for each in words)
    assert owner.send(router, data)["status"] == "0x1"


@pytest.mark.parametrize("kinds", ["v2 with v3", "v3 with v3"])
def test_a_cycle_through_v3_pays_and_leaves_nothing_behind(
    owner: Account,
    executor: bytes,
    wrapped: bytes,
    pools: Pools,
    concentrated: V3Pools,
    evm: DevNode,
    kinds: str,
) -> None:
    pair = frozenset({"WETH", "USDC"})
    other = concentrated[500, pair] if kinds == "v3 with v3" else pools["uniswap_v2", pair]
    if kinds == "v3 with v3":
        push(evm, owner, wrapped, 500, 40 * NATIVE_WEI)
    data, profit = profitable(owner, executor, wrapped, other, concentrated[3000, pair])
    receipt = owner.send(executor, data)
    assert receipt["status"] == "0x1"
    assert owner.balance(wrapped, executor) - CAPITAL_WEI == profit >= 0
    assert owner.balance(raw(evm.deployment.token("USDC").address), executor) == 0
    swaps = [log for log in receipt["logs"] if log["topics"][0] == SWAP]
    assert len(swaps) == (2 if kinds == "v3 with v3" else 1)


def test_three_hops_of_both_kinds(
    owner: Account,
    executor: bytes,
    wrapped: bytes,
    pools: Pools,
    concentrated: V3Pools,
    evm: DevNode,
) -> None:
    """V3, V2, V3; what was given to the contract before is not passed on."""
    path = (
        concentrated[500, frozenset({"WETH", "USDC"})],
        pools["sushi_v2", frozenset({"USDC", "DAI"})],
        concentrated[3000, frozenset({"WETH", "DAI"})],
    )
    dai, usdc = (raw(evm.deployment.token(symbol).address) for symbol in ("DAI", "USDC"))
    owner.send(dai, selector("mint(uint256)") + word(5))
    owner.send(dai, erc20.encode_transfer(executor, 5))
    # WETH becomes cheap in the pool of 500, the last one on the way.
    push(evm, owner, wrapped, 500, 60 * NATIVE_WEI)
    data = contract.encode_execute(*through(wrapped, *reversed(path)), NATIVE_WEI // 10, 0, 0)
    profit = int.from_bytes(owner.call(executor, data), "big")
    assert profit > 0
    assert owner.send(executor, data)["status"] == "0x1"
    assert owner.balance(wrapped, executor) == CAPITAL_WEI + profit
    assert (owner.balance(dai, executor), owner.balance(usdc, executor)) == (5, 0)


def test_four_hops_through_the_token_itself(
    owner: Account,
    executor: bytes,
    wrapped: bytes,
    pools: Pools,
    concentrated: V3Pools,
    evm: DevNode,
) -> None:
    """Two gaps in one transaction: what the first leaves is what the second begins with."""
    push(evm, owner, wrapped, 500, 60 * NATIVE_WEI)
    pair = frozenset({"WETH", "USDC"})
    cheap = concentrated[500, pair]
    path = (pools["uniswap_v2", pair], cheap, concentrated[3000, pair], cheap)
    cycle, used = through(wrapped, *path)
    data = contract.encode_execute(cycle, used, NATIVE_WEI // 10, 0, 0)
    profit = int.from_bytes(owner.call(executor, data), "big")
    assert profit > 0
    assert owner.send(executor, data)["status"] == "0x1"
    assert owner.balance(wrapped, executor) == CAPITAL_WEI + profit
    assert owner.balance(raw(evm.deployment.token("USDC").address), executor) == 0


def test_below_the_minimum_nothing_happens(
    owner: Account,
    executor: bytes,
    wrapped: bytes,
    pools: Pools,
    concentrated: V3Pools,
) -> None:
    pair = frozenset({"WETH", "USDC"})
    path = (pools["uniswap_v2", pair], concentrated[3000, pair])
    data, profit = profitable(owner, executor, wrapped, *path)
    too_much = data[:36] + word(profit + 1) + data[68:]
    with pytest.raises(RpcError, match="profit"):
        owner.call(executor, too_much)
    assert owner.send(executor, too_much)["status"] == "0x0"
    assert owner.balance(wrapped, executor) == CAPITAL_WEI


def test_nobody_calls_back_without_a_swap(owner: Account, stranger: Account, executor: bytes, wrapped: bytes) -> None:
    for who in (owner, stranger):
        with pytest.raises(RpcError, match="not the pool"):
            who.call(executor, callback(NATIVE_WEI, -1))
        assert who.send(executor, callback(NATIVE_WEI, -1))["status"] == "0x0"
    assert owner.balance(wrapped, executor) == CAPITAL_WEI


class FalseMarket:
    """A false pool that holds plenty of USDC and takes WETH, before a real pair that takes the USDC."""

    def __init__(self, evm: DevNode, owner: Account, wrapped: bytes, pools: Pools) -> None:
        self.owner = owner
        self.address = owner.create(compiled("false_pool"))
        self.accomplice = owner.create(compiled("false_pool"))
        self.usdc = raw(evm.deployment.token("USDC").address)
        self.tokens = sorted((wrapped, self.usdc))
        owner.send(self.usdc, selector("mint(uint256)") + word(10_000 * 10**6))
        owner.send(self.usdc, erc20.encode_transfer(self.address, 10_000 * 10**6))
        pool = Pool(self.address, "false", self.tokens[0], self.tokens[1], 10**6, 10**6, 60)
        cycle, used = through(wrapped, pool, pools["uniswap_v2", frozenset({"WETH", "USDC"})])
        self.data = contract.encode_execute(cycle, used, NATIVE_WEI, 0, 0)

    def behave(self, behaviour: int) -> None:
        data = word(self.tokens[0]) + word(self.tokens[1]) + word(behaviour) + word(self.accomplice)
        done = self.owner.send(self.address, selector("set(address,address,uint256,address)") + data)
        assert done["status"] == "0x1"


@pytest.fixture
def false(evm: DevNode, owner: Account, wrapped: bytes, pools: Pools) -> FalseMarket:
    return FalseMarket(evm, owner, wrapped, pools)


def test_an_honest_false_pool_is_a_pool(owner: Account, executor: bytes, wrapped: bytes, false: FalseMarket) -> None:
    false.behave(HONEST)
    assert owner.send(executor, false.data)["status"] == "0x1"
    assert owner.balance(wrapped, false.address) == NATIVE_WEI
    assert owner.balance(wrapped, executor) > CAPITAL_WEI


@pytest.mark.parametrize(
    ("behaviour", "why"),
    [
        (TWICE, "not the pool"),
        (MORE, "partial"),
        (LESS, "partial"),
        (ACCOMPLICE, "not the pool"),
        # It took its input and gave nothing: the pair refuses to give something for that.
        (GREEDY, "INSUFFICIENT_OUTPUT_AMOUNT"),
    ],
)
def test_a_false_pool_gets_nothing(
    owner: Account, executor: bytes, wrapped: bytes, false: FalseMarket, behaviour: int, why: str
) -> None:
    false.behave(behaviour)
    with pytest.raises(RpcError, match=why):
        owner.call(executor, false.data)
    assert owner.send(executor, false.data)["status"] == "0x0"
    assert owner.balance(wrapped, executor) == CAPITAL_WEI


def test_what_was_not_asked_for_in_time_is_not_paid_later(
    owner: Account, executor: bytes, wrapped: bytes, false: FalseMarket
) -> None:
    false.behave(FREE)
    assert owner.send(executor, false.data)["status"] == "0x1"
    held = owner.balance(wrapped, executor)
    assert held > CAPITAL_WEI
    ask = selector("ask(address,int256,int256)") + word(executor) + signed(NATIVE_WEI) + signed(NATIVE_WEI)
    with pytest.raises(RpcError, match="not the pool"):
        owner.call(false.address, ask)
    assert owner.balance(wrapped, executor) == held


class HostilePool:
    """A hostile token with a V3 pool at half the price of its V2 pair, so that a cycle through both should pay."""

    def __init__(self, evm: DevNode, owner: Account, wrapped: bytes, market: HostileMarket) -> None:
        self.market = market
        factory = raw(evm.deployment.factory("uniswap_v3").address)
        pair = word(wrapped) + word(market.token) + word(3000)
        owner.send(factory, selector("createPool(address,address,uint24)") + pair, gas=6_000_000)
        address = owner.call(factory, selector("getPool(address,address,uint24)") + pair)[12:]
        owner.send(address, selector("initialize(uint160)") + word(PRICE_ONE))
        driver = owner.create(compiled("pool_driver"))
        owner.send(wrapped, erc20.encode_deposit(), 110 * NATIVE_WEI)
        owner.send(wrapped, erc20.encode_transfer(driver, 110 * NATIVE_WEI))
        owner.send(market.token, selector("mint(address,uint256)") + word(driver) + word(110 * NATIVE_WEI))
        ends = signed(-FAR_TICK) + signed(FAR_TICK) + word(100 * NATIVE_WEI)
        done = owner.send(driver, selector("mint_v3(address,int24,int24,uint128)") + word(address) + ends)
        assert done["status"] == "0x1"
        token0, token1 = sorted((wrapped, market.token))
        pool = Pool(address, "uniswap_v3", token0, token1, 997_000, 10**6, 60)
        # The pair of 120 gives most of the hostile token for wrapped native.
        pair_of = market.arbitrage.pools[market.arbitrage.cycle.hops[0].pool]
        self.out = contract.encode_execute(*through(wrapped, pair_of, pool), NATIVE_WEI, 0, 0)
        self.back = contract.encode_execute(*through(wrapped, pool, pair_of), NATIVE_WEI, 0, 0)


@pytest.fixture
def hostile(evm: DevNode, owner: Account, wrapped: bytes) -> HostilePool:
    return HostilePool(evm, owner, wrapped, HostileMarket(evm, owner, wrapped))


def test_an_honest_token_of_the_same_kind_pays(
    owner: Account, executor: bytes, wrapped: bytes, hostile: HostilePool
) -> None:
    profit = int.from_bytes(owner.call(executor, hostile.out), "big")
    assert profit > 0
    assert owner.send(executor, hostile.out)["status"] == "0x1"
    assert owner.balance(wrapped, executor) == CAPITAL_WEI + profit
    assert owner.balance(hostile.market.token, executor) == 0


@pytest.mark.parametrize("behaviour", [LIES, FEE])
def test_a_token_that_keeps_what_it_moves_costs_nothing_but_gas(
    owner: Account, executor: bytes, wrapped: bytes, hostile: HostilePool, behaviour: int
) -> None:
    """What arrives is passed on, and a V3 pool wants all of what it asked for."""
    hostile.market.behave(behaviour)
    assert owner.send(executor, hostile.out)["status"] == "0x0"
    assert owner.balance(wrapped, executor) == CAPITAL_WEI


@pytest.mark.parametrize("attack", ["withdraw", "execute", "callback", "callback of the other side"])
def test_a_re_entrant_token_gets_nothing(
    owner: Account, executor: bytes, wrapped: bytes, hostile: HostilePool, attack: str
) -> None:
    payload = {
        "withdraw": contract.encode_withdraw(wrapped, CAPITAL_WEI),
        "execute": hostile.out,
        "callback": callback(NATIVE_WEI, -1),
        "callback of the other side": callback(-1, NATIVE_WEI),
    }[attack]
    robs_nothing(owner, executor, wrapped, hostile.market, hostile.out, payload)


def test_a_pool_without_enough_liquidity_is_refused_whole(
    owner: Account, executor: bytes, wrapped: bytes, hostile: HostilePool, evm: DevNode
) -> None:
    """Where the price comes to its end before all has gone in, the rest would stay behind: nothing happens instead."""
    factory = raw(evm.deployment.factory("uniswap_v3").address)
    pair = word(wrapped) + word(hostile.market.token) + word(500)
    owner.send(factory, selector("createPool(address,address,uint24)") + pair, gas=6_000_000)
    address = owner.call(factory, selector("getPool(address,address,uint24)") + pair)[12:]
    owner.send(address, selector("initialize(uint160)") + word(PRICE_ONE))
    token0, token1 = sorted((wrapped, hostile.market.token))
    empty = Pool(address, "uniswap_v3", token0, token1, 999_500, 10**6, 10)
    pair_of = next(iter(hostile.market.arbitrage.pools.values()))
    data = contract.encode_execute(*through(wrapped, empty, pair_of), NATIVE_WEI, 0, 0)
    assert owner.send(executor, data)["status"] == "0x0"
    assert owner.balance(wrapped, executor) == CAPITAL_WEI
