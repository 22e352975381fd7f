"""Swaps in Balancer V2's pools by the executor, in the published vault and in a false one; and what opens there, found, filled and booked by the engine."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from mev.chain.abi import checksum
from mev.chain.rpc import Rpc
from mev.domain import BalancerKey, Flash
from mev.market.amm.balancer import StablePool, WeightedPool
from mev.market.balancer_state import pair_of, places, read_balancer
from mev.runtime.config import BalancerVaultConfig, EvmAddress, PoolId
from mev.search.legs import BalancerLeg
from mev.trading import erc20
from mev.trading.execution import contract

from lab.evm.rpc import RpcError
from tests.integration.mev.amm.forks import give, on
from tests.integration.mev.amm.test_executor_kinds import DEPTH, Shop
from tests.integration.mev.amm.vaults import Vault
from tests.integration.mev.conftest import (
    CAPITAL_WEI,
    NATIVE_WEI,
    Account,
    Installation,
    at_rest,
    compiled,
    raw,
    text,
    wait_for,
    word,
)
from tests.integration.mev.paths import robs_nothing, through
from tests.integration.mev.test_executor import FEE, LIES, HostileMarket, amount_out, selector
from tests.integration.mev.test_v3_live import head_of

if TYPE_CHECKING:
    from mev.domain import Pool

    from lab.evm.devnode import DevNode
    from lab.evm.npm import Modules

HALVES = [10**18 // 2, 10**18 // 4, 10**18 // 4]
FEE_WEI = 10**15


class Place:
    """A token that a V2 pair sells for half a wrapped native; a weighted pool of it, the wrapped native and a third token, and a composable stable pool of the first two, both at a price of one."""

    def __init__(self, evm: DevNode, modules: Modules, published: Modules, somebody: Account, wrapped: bytes) -> None:
        self.evm, self.wrapped = evm, wrapped
        self.shop = Shop(somebody, evm, modules, wrapped)
        self.vault = Vault(evm, modules, published)
        third = raw(self.vault.bench.token())
        self.three = sorted((wrapped, self.shop.token, third))
        self.two = sorted((wrapped, self.shop.token))
        amounts = [2 * DEPTH, DEPTH, DEPTH]
        self.weighted = self.vault.weighted(self.three, HALVES, FEE_WEI, amounts)
        self.stable = self.vault.composable(self.two, 20, FEE_WEI, [DEPTH, DEPTH])

    @property
    def config(self) -> BalancerVaultConfig:
        pools = (PoolId(self.weighted), PoolId(self.stable))
        return BalancerVaultConfig(name="balancer_v2", address=EvmAddress(raw(self.vault.vault)), pools=pools)

    def legs(self) -> dict[bytes, tuple[Pool, BalancerLeg, BalancerLeg]]:
        """What both pools give now: by id, wrapped native for the token, and back."""

        async def read() -> dict[bytes, tuple[Pool, BalancerLeg, BalancerLeg]]:
            async with Rpc(self.evm.ws, chain_id=self.evm.chain_id) as rpc:
                found = await read_balancer(rpc, [self.config], self.two, await head_of(rpc))
            legs = {}
            for pool, held in found.items():
                assert pool.balancer is not None
                assert isinstance(held, WeightedPool | StablePool)
                into = pool.token0 == self.wrapped
                legs[pool.balancer.id] = (
                    pool,
                    BalancerLeg(held, *places(pool, zero_for_one=into)),
                    BalancerLeg(held, *places(pool, zero_for_one=not into)),
                )
            return legs

        return asyncio.run(read())


@pytest.fixture
def place(evm: DevNode, modules: Modules, published: Modules, stranger: Account, wrapped: bytes) -> Place:
    return Place(evm, modules, published, stranger, wrapped)


@pytest.mark.parametrize("order", ["last", "first", "between", "alone"])
def test_the_executor_gets_what_our_mathematics_says_and_leaves_nothing(
    owner: Account, executor: bytes, wrapped: bytes, place: Place, order: str
) -> None:
    """Bought in the cheap pair or in a Balancer pool, sold in one or in a pair, which the vault pays."""
    legs = place.legs()
    (weighted, *_), (stable, *_) = legs[place.weighted], legs[place.stable]
    shop = place.shop
    dear = shop.pair("sushi_v2", DEPTH, DEPTH // 4)
    if order == "alone":
        place.vault.afford(shop.token, DEPTH)
        place.vault.swap(place.weighted, shop.token, wrapped, DEPTH // 5)
    path = {
        "last": (shop.cheap, stable),
        "first": (weighted, dear),
        # Sold, bought again, sold.
        "between": (shop.cheap, weighted, stable, dear),
        "alone": (weighted, stable),
    }[order]
    cycle, used = shop.cycle(wrapped, *path)
    amount = NATIVE_WEI // 10
    legs = place.legs()
    for hop in cycle.hops:
        pool = used[hop.pool]
        if pool.balancer is not None:
            into = pool.token0 == wrapped
            _, buying, selling = legs[pool.balancer.id]
            amount = (buying if hop.zero_for_one == into else selling).amount_out(amount)
        else:
            amount = amount_out(owner, pool, amount, zero_for_one=hop.zero_for_one)
    data = contract.encode_execute(cycle, used, NATIVE_WEI // 10, 0, 0)
    assert int.from_bytes(owner.call(executor, data), "big") == amount - NATIVE_WEI // 10 > 0
    # What was there before is not passed on with it.
    owner.send(shop.token, selector("mint(uint256)") + word(7))
    owner.send(shop.token, erc20.encode_transfer(executor, 7))
    assert owner.send(executor, data)["status"] == "0x1"
    assert owner.balance(wrapped, executor) == CAPITAL_WEI + amount - NATIVE_WEI // 10
    assert owner.balance(shop.token, executor) == 7
    for token in place.two:
        left = owner.call(token, selector("allowance(address,address)") + word(executor) + word(raw(place.vault.vault)))
        assert int.from_bytes(left, "big") == 0


def test_without_capital_behind_a_pair_that_is_paid_last_or_lends(owner: Account, wrapped: bytes, place: Place) -> None:
    empty = contract.address(owner.address)
    owner.send(contract.CREATE2_DEPLOYER, contract.encode_deployment(owner.address))
    pool, *_ = place.legs()[place.stable]
    cycle, used = place.shop.cycle(wrapped, place.shop.cheap, pool)
    last = contract.encode_execute(cycle, used, NATIVE_WEI, 0, 0, flash=Flash(pool=place.shop.cheap.address))
    profit = int.from_bytes(owner.call(empty, last), "big")
    assert owner.send(empty, last)["status"] == "0x1"
    assert owner.balance(wrapped, empty) == profit > 0
    lender = place.shop.pair("sushi_v2", DEPTH, DEPTH // 4)
    weighted, *_ = place.legs()[place.weighted]
    cycle, used = place.shop.cycle(wrapped, place.shop.cheap, weighted)
    loan = Flash(pool=lender.address, lent=NATIVE_WEI)
    owed = -(-NATIVE_WEI * 1000 // 997)
    data = contract.encode_execute(cycle, {**used, lender.address: lender}, owed, 0, 0, flash=loan)
    more = int.from_bytes(owner.call(empty, data), "big")
    assert owner.send(empty, data)["status"] == "0x1"
    assert owner.balance(wrapped, empty) == profit + more > profit
    assert owner.balance(place.shop.token, empty) == 0


HONEST, LESS, NOTHING, MORE = range(4)


@pytest.mark.parametrize("behaviour", [HONEST, LESS, NOTHING, MORE])
@pytest.mark.parametrize("first", [False, True], ids=["last", "first"])
def test_a_vault_that_takes_something_else_gets_nothing(
    evm: DevNode,
    modules: Modules,
    owner: Account,
    stranger: Account,
    executor: bytes,
    wrapped: bytes,
    behaviour: int,
    first: bool,
) -> None:
    shop = Shop(stranger, evm, modules, wrapped)
    vault = owner.create(compiled("false_vault"))
    key = BalancerKey(vault, b"\x05" * 32, tuple(sorted((wrapped, shop.token))))
    pool = pair_of("balancer_v2", key, 0, 1)
    give(on(evm, modules), evm, shop.token if first else wrapped, text(vault), 5 * NATIVE_WEI)
    dear = shop.pair("sushi_v2", DEPTH, DEPTH // 4)
    cycle, used = shop.cycle(wrapped, *((pool, dear) if first else (shop.cheap, pool)))
    data = contract.encode_execute(cycle, used, NATIVE_WEI, 0, 0)
    owner.send(vault, selector("behave(uint256)") + word(behaviour))
    if behaviour == HONEST:
        assert owner.send(executor, data)["status"] == "0x1"
        assert owner.balance(wrapped, executor) > CAPITAL_WEI
        return
    with pytest.raises(RpcError):
        owner.call(executor, data)
    assert owner.send(executor, data)["status"] == "0x0"
    taken = selector("take(address,address,uint256)") + word(wrapped) + word(executor) + word(1)
    assert stranger.send(vault, taken)["status"] == "0x0"
    assert owner.balance(wrapped, executor) == CAPITAL_WEI


class Hostile:
    """A hostile token with a Balancer pool at half the price of its V2 pair."""

    def __init__(self, evm: DevNode, modules: Modules, published: Modules, owner: Account, wrapped: bytes) -> None:
        self.market = HostileMarket(evm, owner, wrapped)
        vault = Vault(evm, modules, published)
        tokens = sorted((wrapped, self.market.token))
        mint = selector("mint(address,uint256)") + word(raw(vault.bench.account)) + word(10 * DEPTH)
        owner.send(self.market.token, mint)
        made = vault.weighted(tokens, [10**18 // 2] * 2, FEE_WEI, [DEPTH, DEPTH])
        key = BalancerKey(raw(vault.vault), made, tuple(tokens))
        pair = self.market.arbitrage.pools[self.market.arbitrage.cycle.hops[0].pool]
        cycle, used = through(wrapped, pair, pair_of("balancer_v2", key, 0, 1))
        self.out = contract.encode_execute(cycle, used, NATIVE_WEI, 0, 0)


@pytest.mark.parametrize("behaviour", [LIES, FEE, "withdraw", "execute"])
def test_a_hostile_token_costs_nothing_but_gas(
    evm: DevNode,
    modules: Modules,
    published: Modules,
    owner: Account,
    executor: bytes,
    wrapped: bytes,
    behaviour: int | str,
) -> None:
    hostile = Hostile(evm, modules, published, owner, wrapped)
    profit = int.from_bytes(owner.call(executor, hostile.out), "big")
    assert profit > 0
    if isinstance(behaviour, int):
        hostile.market.behave(behaviour)
        # The vault believes what it moves: of a token that keeps some of it the vault has too little, not the executor.
        assert owner.send(executor, hostile.out)["status"] == ("0x1" if behaviour == FEE else "0x0")
        left = owner.balance(wrapped, executor) - CAPITAL_WEI
        assert (0 < left < profit) if behaviour == FEE else left == 0
        assert owner.balance(hostile.market.token, executor) == 0
        return
    payload = contract.encode_withdraw(wrapped, CAPITAL_WEI) if behaviour == "withdraw" else hostile.out
    robs_nothing(owner, executor, wrapped, hostile.market, hostile.out, payload)


def test_what_opens_in_balancer_s_pools_is_found_in_its_block_and_booked(
    evm: DevNode,
    modules: Modules,
    published: Modules,
    owner: Account,
    stranger: Account,
    wrapped: bytes,
    installation: Installation,
) -> None:
    """A weighted pool of three tokens, of which one is nobody's, and a composable stable one, from mev.toml to the books."""
    place = Place(evm, modules, published, stranger, wrapped)
    token = f'{{ symbol = "NEW", address = "{text(place.shop.token)}", decimals = 18 }}'
    ids = ", ".join(f'"{text(each)}"' for each in (place.weighted, place.stable))
    installation.chain_tables = (
        f'balancer_vaults = [{{ name = "balancer_v2", address = "{place.vault.vault}", pools = [{ids}] }}]\n'
    )
    installation.write()
    installation.config.write_text(installation.config.read_text().replace("\ntokens = [", f"\ntokens = [{token}, "))
    executor = bytes.fromhex(installation.mev("executor", "address", "--chain", "ethereum")["executor"][2:])
    pools = {identity: pool for identity, (pool, *_) in place.legs().items()}
    place.vault.afford(place.shop.token, DEPTH)
    place.vault.afford(wrapped, DEPTH)

    def blocks(identity: bytes) -> set[int]:
        """In which blocks the executor swapped in a pool."""
        wanted = {"address": place.vault.vault, "fromBlock": "earliest"}
        logs = evm.rpc.call("eth_getLogs", {**wanted, "topics": [None, text(identity)]})
        sent = {log["transactionHash"] for log in logs}
        receipts = [evm.rpc.call("eth_getTransactionReceipt", each) for each in sent]
        return {int(each["blockNumber"], 16) for each in receipts if each["to"] == text(executor)}

    with installation.agent("strategy_engine"):
        wait_for("a swap in each pool", lambda: all(map(blocks, pools)), meanwhile=evm.mine)
        at_rest(installation)
        opened = []
        for identity in pools:
            opened.append(int(evm.rpc.call("eth_blockNumber"), 16) + 1)
            place.vault.swap(identity, place.shop.token, wrapped, DEPTH // 5)
            wait_for("a swap after somebody's", lambda each=identity: max(blocks(each)) > opened[-1])  # type: ignore[misc]
            at_rest(installation)
    fills = installation.mev("opportunities", "--state", "included")["opportunities"]
    for identity, number in zip(pools, opened, strict=True):
        # Found in the swap's own block, and taken in the one after it.
        assert number + 1 in blocks(identity)
        assert number in [fill["block_number"] for fill in fills if checksum(pools[identity].address) in fill["pools"]]
    assert owner.balance(place.shop.token, executor) == 0
    earned = installation.mev("pnl")["chains"]["ethereum"]
    assert owner.balance(wrapped, executor) == CAPITAL_WEI + int(earned["profit_wei"])
    assert installation.mev("reconcile")["agrees"]
    listed = installation.mev("pools")["chains"]["ethereum"]["pools"]
    watched = {pool["pool_id"]: pool for pool in listed if pool["factory"] == "balancer_v2"}
    # The third token is not configured: one pair is all that is traded of three.
    assert {identity: pool["kind"] for identity, pool in watched.items()} == {
        text(place.weighted): "balancer_weighted",
        text(place.stable): "balancer_stable",
    }
    assert {(pool["fee_ppm"], pool["quarantined"]) for pool in watched.values()} == {(1000, None)}
    told = installation.mev("explain", next(fill["opportunity"] for fill in fills if fill["block_number"] == opened[0]))
    assert checksum(pools[place.weighted].address) in [leg["pool"] for leg in told["legs"]]
    looked = installation.mev("replay", f"{opened[0] - 1}-{opened[0] + 1}")["blocks"]
    # Blocks that are past show the same one.
    assert looked[1]["best"]["opportunity"] in [fill["opportunity"] for fill in fills]
