"""The executor's swaps through pools that are no Uniswap's, and its splits, against published contracts on a real EVM."""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING

import pytest
from mev.domain import Cycle, Flash, Hop, Pool
from mev.market.amm.solidly import SolidlyPool
from mev.trading import erc20
from mev.trading.execution import contract
from mev.trading.strategies.atomic_arbitrage import further_gas

from lab.evm.rpc import RpcError
from tests.integration.mev.amm.forks import PRICE_ONE, Aerodrome, Algebra, First, Managed, Pancake, give, on
from tests.integration.mev.conftest import CAPITAL_WEI, NATIVE_WEI, Account, raw, text, word
from tests.integration.mev.paths import through
from tests.integration.mev.test_executor import amount_out, selector
from tests.integration.mev.test_executor_v3 import callback

if TYPE_CHECKING:
    from lab.evm.devnode import DevNode
    from lab.evm.npm import Modules

DEPTH = 100 * NATIVE_WEI
FAR_TICK = 886_800


class Shop:
    """A new token whose price is one wrapped native here and half of that there, so that a cycle through both kinds pays."""

    def __init__(self, owner: Account, evm: DevNode, modules: Modules, wrapped: bytes) -> None:
        self.owner = owner
        self.evm, self.modules, self.wrapped = evm, modules, wrapped
        self.token = raw(on(evm, modules).token())
        # Twice as much of the token as of wrapped native: it is bought here.
        self.cheap = self.pair("uniswap_v2", DEPTH, 2 * DEPTH)

    def pair(self, exchange: str, native: int, tokens: int) -> Pool:
        """Make a V2 pair of the token."""
        factory, bench = raw(self.evm.deployment.factory(exchange).address), on(self.evm, self.modules)
        ends = word(self.wrapped) + word(self.token)
        self.owner.send(factory, selector("createPair(address,address)") + ends, gas=6_000_000)
        made = self.owner.call(factory, selector("getPair(address,address)") + ends)[12:]
        give(bench, self.evm, self.wrapped, text(made), native)
        give(bench, self.evm, self.token, text(made), tokens)
        bench.send(text(made), "mint(address)", bench.account)
        token0, token1 = sorted((self.wrapped, self.token))
        return Pool(made, exchange, token0, token1, 997, 1000)

    cycle = staticmethod(through)


@pytest.fixture
def shop(owner: Account, evm: DevNode, modules: Modules, wrapped: bytes) -> Shop:
    return Shop(owner, evm, modules, wrapped)


@pytest.mark.parametrize("first", [False, True], ids=["last", "first"])
@pytest.mark.parametrize("stable", [False, True], ids=["volatile", "stable"])
def test_a_solidly_pool_gives_what_our_mathematics_says(
    evm: DevNode,
    modules: Modules,
    published: Modules,
    owner: Account,
    executor: bytes,
    wrapped: bytes,
    shop: Shop,
    stable: bool,
    first: bool,
) -> None:
    made = Aerodrome(evm, modules, published).pool(wrapped, shop.token, (DEPTH, DEPTH), stable=stable)
    path = (made, shop.cheap) if first else (shop.cheap, made)
    cycle, used = shop.cycle(wrapped, *path)
    pool = SolidlyPool(DEPTH, DEPTH, 10**18, 10**18, 5 if stable else 30, stable)
    amount = NATIVE_WEI
    for hop in cycle.hops:
        if hop.pool == made.address:
            amount = pool.swap(amount, zero_for_one=hop.zero_for_one).amount_out
        else:
            amount = amount_out(owner, shop.cheap, amount, zero_for_one=hop.zero_for_one)
    data = contract.encode_execute(cycle, used, NATIVE_WEI, 0, 0)
    if first:
        # Bought where it is dear: it does not pay, and nothing happens.
        assert amount < NATIVE_WEI
        with pytest.raises(RpcError, match="profit"):
            owner.call(executor, data)
        return
    assert int.from_bytes(owner.call(executor, data), "big") == amount - NATIVE_WEI > 0
    assert owner.send(executor, data)["status"] == "0x1"
    assert owner.balance(wrapped, executor) == CAPITAL_WEI + amount - NATIVE_WEI
    assert owner.balance(shop.token, executor) == 0


@pytest.mark.parametrize("kind", ["pancake", "algebra", "algebra before integral"])
def test_pools_that_call_back_by_another_name(
    evm: DevNode,
    modules: Modules,
    published: Modules,
    owner: Account,
    executor: bytes,
    wrapped: bytes,
    shop: Shop,
    kind: str,
) -> None:
    if kind == "pancake":
        pancake = Pancake(evm, modules, published)
        made = pancake.pool(wrapped, shop.token, 2500, PRICE_ONE, DEPTH, FAR_TICK, 50)
    elif kind == "algebra before integral":
        made = First(evm, modules, published).pool(wrapped, shop.token, None, PRICE_ONE, DEPTH, FAR_TICK)
    else:
        made = Algebra(evm, modules, published).pool(wrapped, shop.token, 500, PRICE_ONE, DEPTH, FAR_TICK)
    data = contract.encode_execute(*shop.cycle(wrapped, shop.cheap, made), NATIVE_WEI, 0, 0)
    profit = int.from_bytes(owner.call(executor, data), "big")
    assert profit > 0
    assert owner.send(executor, data)["status"] == "0x1"
    assert owner.balance(wrapped, executor) == CAPITAL_WEI + profit
    assert owner.balance(shop.token, executor) == 0


def test_a_pancakeswap_pool_lends_and_gives_first(
    evm: DevNode, modules: Modules, published: Modules, owner: Account, wrapped: bytes, shop: Shop
) -> None:
    """An executor that holds nothing: on a loan for the pool's fee, and with the pool's own swap paid last."""
    empty = contract.address(owner.address)
    owner.send(contract.CREATE2_DEPLOYER, contract.encode_deployment(owner.address))
    lender = Pancake(evm, modules, published).pool(wrapped, shop.token, 2500, PRICE_ONE, DEPTH, FAR_TICK, 50)
    dear = shop.pair("sushi_v2", DEPTH, DEPTH // 4)
    cycle, used = shop.cycle(wrapped, shop.cheap, dear)
    owed = NATIVE_WEI + NATIVE_WEI * 2500 // 10**6
    loan = Flash(pool=lender.address, lent=NATIVE_WEI)
    data = contract.encode_execute(cycle, {**used, lender.address: lender}, owed, 0, 0, flash=loan)
    bought = amount_out(owner, shop.cheap, NATIVE_WEI, zero_for_one=shop.cheap.token0 == wrapped)
    profit = amount_out(owner, dear, bought, zero_for_one=dear.token0 == shop.token) - owed
    assert owner.send(empty, data)["status"] == "0x1"
    assert owner.balance(wrapped, empty) == profit > 0
    cycle, used = shop.cycle(wrapped, lender, dear)
    data = contract.encode_execute(cycle, used, NATIVE_WEI, 0, 0, flash=Flash(pool=lender.address))
    more = int.from_bytes(owner.call(empty, data), "big")
    assert owner.send(empty, data)["status"] == "0x1"
    assert owner.balance(wrapped, empty) == profit + more > profit
    assert owner.balance(shop.token, empty) == 0
    alone = selector("pancakeV3FlashCallback(uint256,uint256,bytes)") + word(0) + word(0) + word(96) + word(0)
    with pytest.raises(RpcError, match="not the pool"):
        owner.call(empty, alone)


@pytest.mark.parametrize("name", ["pancakeV3SwapCallback", "algebraSwapCallback"])
def test_nobody_calls_back_by_another_name_either(owner: Account, executor: bytes, wrapped: bytes, name: str) -> None:
    data = selector(f"{name}(int256,int256,bytes)") + callback(NATIVE_WEI, -1)[4:]
    with pytest.raises(RpcError, match="not the pool"):
        owner.call(executor, data)
    assert owner.balance(wrapped, executor) == CAPITAL_WEI


class Split:
    """The token is sold in two parallel pools, a pair and a PancakeSwap V3 one, and bought in two as well where asked for."""

    def __init__(self, shop: Shop, wrapped: bytes, evm: DevNode, modules: Modules, published: Modules) -> None:
        volatile = Aerodrome(evm, modules, published).pool(wrapped, shop.token, (DEPTH, DEPTH), stable=False)
        pancake = Pancake(evm, modules, published)
        concentrated = pancake.pool(wrapped, shop.token, 2500, PRICE_ONE, DEPTH, FAR_TICK, 50)
        self.shop, self.wrapped, self.path = shop, wrapped, (shop.cheap, volatile, concentrated)

    def data(self, amount: int, parts: tuple[int, int, int], order: tuple[int, int, int] = (0, 1, 2)) -> bytes:
        pools = [self.path[place] for place in order]
        token0 = [pool.token0 == self.wrapped for pool in pools]
        # Bought in the first, sold in the other two.
        hops = (Hop(pools[0].address, token0[0]), *(Hop(pool.address, not token0[0]) for pool in pools[1:]))
        used = {pool.address: pool for pool in pools}
        return contract.encode_execute(Cycle(self.wrapped, hops), used, amount, 0, 0, parts=parts)


@pytest.fixture
def split(shop: Shop, wrapped: bytes, evm: DevNode, modules: Modules, published: Modules) -> Split:
    return Split(shop, wrapped, evm, modules, published)


def test_a_split_pays_more_than_either_pool_alone_and_leaves_nothing(
    owner: Account, executor: bytes, wrapped: bytes, shop: Shop, split: Split
) -> None:
    amount = 10 * NATIVE_WEI
    bought = amount_out(owner, shop.cheap, amount, zero_for_one=shop.cheap.token0 == wrapped)

    def profit(data: bytes) -> int:
        return int.from_bytes(owner.call(executor, data), "big")

    alone = [
        profit(contract.encode_execute(*shop.cycle(wrapped, shop.cheap, other), amount, 0, 0))
        for other in split.path[1:]
    ]
    for order in ((0, 1, 2), (0, 2, 1)):
        assert profit(split.data(amount, (0, bought // 2, 0), order)) > max(alone)
    data = split.data(amount, (0, bought // 2, 0))
    expected = profit(data)
    # What was there before is not passed on with it.
    owner.send(shop.token, selector("mint(uint256)") + word(7))
    owner.send(shop.token, erc20.encode_transfer(executor, 7))
    assert owner.send(executor, data)["status"] == "0x1"
    assert owner.balance(wrapped, executor) == CAPITAL_WEI + expected
    assert owner.balance(shop.token, executor) == 7


def test_a_further_pool_takes_no_more_gas_than_the_engine_counts_for_it(
    evm: DevNode,
    modules: Modules,
    published: Modules,
    owner: Account,
    executor: bytes,
    wrapped: bytes,
    shop: Shop,
    split: Split,
) -> None:
    amount = 10 * NATIVE_WEI
    plugged = Algebra(evm, modules, published, plugin=True)
    managed = Managed(evm, modules, published)
    half = amount_out(owner, shop.cheap, amount, zero_for_one=shop.cheap.token0 == wrapped) // 2
    others = (
        *split.path[1:],
        shop.pair("sushi_v2", DEPTH, DEPTH),
        plugged.pool(wrapped, shop.token, 0, PRICE_ONE, DEPTH, FAR_TICK),
        managed.pool(wrapped, shop.token, 3000, PRICE_ONE, DEPTH, 887_220, 60),
        First(evm, modules, published).pool(wrapped, shop.token, None, PRICE_ONE, DEPTH, FAR_TICK),
    )
    # The first time that a pair writes down how long its price held costs what no later one does: that is over.
    evm.rpc.call("evm_increaseTime", 60)
    for pool in (shop.cheap, *others):
        if not pool.concentrated:
            owner.send(pool.address, selector("sync()"))

    def gas(*sold: Pool) -> int:
        way = shop.cheap.token0 == wrapped
        hops = (Hop(shop.cheap.address, way), *(Hop(pool.address, not way) for pool in sold))
        used = {pool.address: pool for pool in (shop.cheap, *sold)}
        parts = (0, *([half] if len(sold) > 1 else []), 0)
        data = contract.encode_execute(Cycle(wrapped, hops), used, amount, 0, 0, parts=parts)
        call = {"from": text(owner.address), "to": text(executor), "data": text(data)}
        # Not sent: a chain that is set back may take in again what it had.
        [block] = evm.rpc.call("eth_simulateV1", {"blockStateCalls": [{"calls": [call]}]}, "latest")
        [done] = block["calls"]
        assert done["status"] == "0x1"
        return int(done["gasUsed"], 16)

    for own, further in permutations(others, 2):
        took = gas(own, further) - gas(own)
        assert 0 < took <= further_gas(further), (own, further)


def test_a_split_at_the_beginning(owner: Account, executor: bytes, wrapped: bytes, shop: Shop, split: Split) -> None:
    """Bought in a pair and in a V3 pool, the rest of the amount; sold in one pair, which is paid what both gave."""
    cheap, volatile, concentrated = split.path
    way = cheap.token0 == wrapped
    hops = (Hop(cheap.address, way), Hop(concentrated.address, way), Hop(volatile.address, not way))
    used = {pool.address: pool for pool in split.path}
    amount = 2 * NATIVE_WEI
    data = contract.encode_execute(Cycle(wrapped, hops), used, amount, 0, 0, parts=(amount - 10**15, 0, 0))
    expected = int.from_bytes(owner.call(executor, data), "big")
    assert expected > 0
    assert owner.send(executor, data)["status"] == "0x1"
    assert owner.balance(wrapped, executor) == CAPITAL_WEI + expected
    assert owner.balance(shop.token, executor) == 0


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        # More than there is.
        ((0, 10**30, 0), ""),
        # The last one's rest would stay behind.
        ((0, 1, 1), "rest"),
        # Tokens of a split are one.
        ((NATIVE_WEI // 2, 0, 0), "split"),
    ],
)
def test_a_split_that_does_not_add_up_is_refused_whole(
    owner: Account, executor: bytes, wrapped: bytes, split: Split, parts: tuple[int, int, int], why: str
) -> None:
    data = split.data(NATIVE_WEI, parts)
    with pytest.raises(RpcError, match=why or None):
        owner.call(executor, data)
    assert owner.send(executor, data)["status"] == "0x0"
    assert owner.balance(wrapped, executor) == CAPITAL_WEI
