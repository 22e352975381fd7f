"""The engine on pools of Uniswap's forks, by their published contracts: found by their factories' events, kept by their own, traded."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from mev.chain.rpc import Rpc
from mev.market.amm.solidly import SolidlyPool
from mev.market.discovery import DiscoveryError
from mev.market.discovery_v3 import discover_concentrated
from mev.market.resume import resume
from mev.market.snapshot import save
from mev.market.solidly_state import find_solidly, read_solidly
from mev.runtime.config import EvmAddress, SolidlyFactoryConfig, V3FactoryConfig

from tests.integration.mev.amm.forks import PRICE_ONE, Aerodrome, Pancake, give
from tests.integration.mev.amm.test_executor_kinds import DEPTH, FAR_TICK, Shop
from tests.integration.mev.conftest import Account, Installation, at_rest, raw, text, wait_for
from tests.integration.mev.test_v3_live import head_of

if TYPE_CHECKING:
    from pathlib import Path

    from mev.domain import Pool
    from mev.market.state import PoolState

    from lab.evm.devnode import DevNode
    from lab.evm.npm import Modules

FEE, SPACING = 2500, 50
BEFORE_LAST = 70


class Market:
    """A token that nobody configured: bought in a V2 pair for half of what a PancakeSwap V3 pool gives for it."""

    def __init__(self, evm: DevNode, modules: Modules, published: Modules, somebody: Account, wrapped: bytes) -> None:
        self.shop = Shop(somebody, evm, modules, wrapped)
        self.pancake = Pancake(evm, modules, published)
        self.pool = self.pancake.pool(wrapped, self.shop.token, FEE, PRICE_ONE, DEPTH, FAR_TICK, SPACING)
        # Beside it, for the same price: what sells much sells in both.
        self.beside = self.pancake.pool(wrapped, self.shop.token, 500, PRICE_ONE, DEPTH, FAR_TICK, 10)
        self.factory = V3FactoryConfig(name="pancake_v3", address=EvmAddress(raw(self.pancake.factory)), fees=(FEE,))


@pytest.fixture
def market(evm: DevNode, modules: Modules, published: Modules, stranger: Account, wrapped: bytes) -> Market:
    return Market(evm, modules, published, stranger, wrapped)


def test_pancakeswap_s_own_events_keep_what_is_read(
    evm: DevNode, market: Market, wrapped: bytes, tmp_path: Path
) -> None:
    """Swaps across ticks, liquidity in and out; what comes out of the snapshot and the logs since is what the chain says."""
    tokens = [wrapped, market.shop.token]
    bench, driver, made = market.pancake.bench, market.pancake.driver, text(market.pool.address)

    async def story() -> None:
        path = tmp_path / "snapshot"
        async with Rpc(evm.ws, chain_id=evm.chain_id) as rpc:
            block = await head_of(rpc)
            before = await discover_concentrated(rpc, [market.factory], tokens, block)
            assert list(before) == [market.pool]
            save(path, evm.chain_id, block, before)
            bench.send(driver, "mint_v3(address,int24,int24,uint128)", made, -SPACING, 2 * SPACING, DEPTH)
            swap = "swap(address,bytes,bool,int256,uint160)"
            slot0 = bytes.fromhex("3850c7bd")
            bench.send(driver, swap, made, slot0, True, DEPTH, 4295128740)
            bench.send(driver, swap, made, slot0, False, DEPTH // 3, 2**159)
            bench.send(driver, "burn_v3(address,int24,int24,uint128)", made, -SPACING, 2 * SPACING, DEPTH // 2)
            block = await head_of(rpc)
            resumed = await resume(rpc, evm.chain_id, block, path)
            read = await discover_concentrated(rpc, [market.factory], tokens, block)
            [ours], [theirs], [first] = resumed.values(), read.values(), before.values()
            assert (ours.sqrt_price_x96, ours.liquidity, ours.ticks.net) == (  # type: ignore[union-attr]
                theirs.sqrt_price_x96,  # type: ignore[union-attr]
                theirs.liquidity,  # type: ignore[union-attr]
                theirs.ticks.net,  # type: ignore[union-attr]
            )
            assert ours.sqrt_price_x96 != first.sqrt_price_x96  # type: ignore[union-attr]

    asyncio.run(story())


class Curves:
    """Another token: its V2 pair gives two of it for one wrapped native, a volatile Solidly pool half a one, a stable one about one."""

    def __init__(self, evm: DevNode, modules: Modules, published: Modules, somebody: Account, wrapped: bytes) -> None:
        self.shop = Shop(somebody, evm, modules, wrapped)
        self.aerodrome = Aerodrome(evm, modules, published)
        first = wrapped < self.shop.token
        amounts = (DEPTH, DEPTH // 2) if first else (DEPTH // 2, DEPTH)
        self.volatile = self.aerodrome.pool(wrapped, self.shop.token, amounts, stable=False)
        self.stable = self.aerodrome.pool(wrapped, self.shop.token, (DEPTH, DEPTH), stable=True)
        self.factory = SolidlyFactoryConfig(name="aerodrome", address=EvmAddress(raw(self.aerodrome.factory)))


@pytest.fixture
def curves(evm: DevNode, modules: Modules, published: Modules, stranger: Account, wrapped: bytes) -> Curves:
    return Curves(evm, modules, published, stranger, wrapped)


def test_solidly_s_events_and_its_factory_s_keep_what_is_read(
    evm: DevNode, curves: Curves, wrapped: bytes, tmp_path: Path
) -> None:
    """Swaps, gifts, and a fee of the pool's own; a factory that is not configured, and one that is none."""
    tokens = [wrapped, curves.shop.token]
    bench, factories = curves.aerodrome.bench, [curves.factory]

    async def story() -> None:
        path = tmp_path / "snapshot"
        async with Rpc(evm.ws, chain_id=evm.chain_id) as rpc:
            block = await head_of(rpc)
            pools = await find_solidly(rpc, factories, tokens, block)
            assert pools == [curves.volatile, curves.stable]
            before: dict[Pool, PoolState] = {**await read_solidly(rpc, factories, pools, block)}
            assert [held.fee for held in before.values() if isinstance(held, SolidlyPool)] == [30, 5]
            save(path, evm.chain_id, block, before)
            for pool in pools:
                give(bench, evm, wrapped, text(pool.address), DEPTH // 7)
                bench.send(text(pool.address), "sync()")
            bench.send(curves.aerodrome.factory, "setCustomFee(address,uint256)", text(pools[0].address), 100)
            bench.send(curves.aerodrome.factory, "setCustomFee(address,uint256)", text(pools[1].address), 420)
            block = await head_of(rpc)
            resumed = await resume(rpc, evm.chain_id, block, path, factories)
            assert resumed == await read_solidly(rpc, factories, pools, block) != before
            assert [held.fee for held in resumed.values() if isinstance(held, SolidlyPool)] == [100, 0]
            assert await resume(rpc, evm.chain_id, block, path) == {}
            # The common fee changes without an event: what the snapshot says is not believed.
            bench.send(curves.aerodrome.factory, "setCustomFee(address,uint256)", text(pools[0].address), 0)
            block = await head_of(rpc)
            resumed = await resume(rpc, evm.chain_id, block, path, factories)
            assert list(resumed) == [pools[1]]
            wrong = SolidlyFactoryConfig(name="aerodrome", address=EvmAddress(wrapped))
            with pytest.raises(DiscoveryError, match="no Solidly factory"):
                await find_solidly(rpc, [wrong], tokens, block)

    asyncio.run(story())


def test_tokens_that_only_factories_name_are_traded_through_every_kind(
    evm: DevNode, owner: Account, installation: Installation, market: Market, curves: Curves, tmp_path: Path
) -> None:
    # What can still be turned back is not looked at.
    evm.mine(BEFORE_LAST)
    fees = [500, FEE]
    installation.more_v3 = (f'{{ name = "pancake_v3", address = "{market.pancake.factory}", fees = {fees} }}',)
    installation.chain_tables = (
        f'solidly_factories = [{{ name = "aerodrome", address = "{curves.aerodrome.factory}" }}]\n'
        f'[chains.ethereum.discovery]\ndirectory = "{tmp_path / "discovery"}"\n'
    )
    installation.write()
    executor = bytes.fromhex(installation.mev("executor", "address", "--chain", "ethereum")["executor"][2:])

    begun = evm.rpc.call("eth_blockNumber")

    def swaps(pool: Pool) -> set[str]:
        # Nobody else swaps there.
        logs = evm.rpc.call("eth_getLogs", {"address": text(pool.address), "fromBlock": begun})
        return {log["transactionHash"] for log in logs}

    def traded() -> bool:
        return all(map(swaps, (market.pool, market.beside, curves.volatile, curves.stable)))

    with installation.agent("strategy_engine"):
        wait_for("fills through PancakeSwap's pool and Solidly's", traded, meanwhile=evm.mine)
        at_rest(installation)
    assert '"safe":2' in (installation.directory / "strategy_engine.log").read_text()
    assert [owner.balance(shop.token, executor) for shop in (market.shop, curves.shop)] == [0, 0]
    assert installation.mev("reconcile")["agrees"]
    # Sold in both of PancakeSwap's pools at once, and the ledger says how much in which.
    both = swaps(market.pool) & swaps(market.beside)
    assert both
    fills = installation.mev("opportunities", "--state", "included")["opportunities"]
    told = [installation.mev("explain", fill["opportunity"]) for fill in fills if len(fill["pools"]) > 2]
    of_both = [each for each in told if {sent["transaction"] for sent in each["transactions"]} & both]
    one = max(of_both, key=lambda each: int(each["expected_profit_wei"]))
    legs = one["legs"]
    sold = [
        leg
        for leg in legs
        if int(leg["pool"], 16) in {int.from_bytes(pool.address, "big") for pool in (market.pool, market.beside)}
    ]
    assert len(sold) == 2
    others = [leg for leg in legs if leg not in sold]
    assert sum(int(leg["amount_in"]) for leg in sold) == sum(int(leg["amount_out"]) for leg in others)
    assert (
        sum(int(leg["amount_out"]) for leg in sold) - sum(int(leg["amount_in"]) for leg in others)
        == int(one["expected_profit_wei"])
        > 0
    )
    watched = installation.mev("pools")["chains"]["ethereum"]["pools"]
    kinds = {(pool["factory"], pool["kind"], pool["fee_ppm"]) for pool in watched}
    assert {
        ("pancake_v3", "v3", FEE),
        ("pancake_v3", "v3", 500),
        ("aerodrome", "solidly_volatile", 3000),
        ("aerodrome", "solidly_stable", 500),
    } <= kinds
