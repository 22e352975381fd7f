"""The engine on pools of Uniswap's forks, by their published contracts: found by their factories' events, kept by their own, traded."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from mev.chain.rpc import Rpc
from mev.market.discovery_v3 import discover_concentrated
from mev.market.resume import resume
from mev.market.snapshot import save
from mev.runtime.config import EvmAddress, V3FactoryConfig

from tests.integration.mev.amm.forks import PRICE_ONE, Pancake
from tests.integration.mev.amm.test_executor_kinds import DEPTH, FAR_TICK, Shop
from tests.integration.mev.conftest import Account, Installation, at_rest, raw, text, wait_for
from tests.integration.mev.test_v3_live import head_of

if TYPE_CHECKING:
    from pathlib import Path

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
        self.factory = V3FactoryConfig(
            name="pancake_v3", address=EvmAddress(raw(self.pancake.factory)), fees=(500, FEE)
        )


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


def test_a_token_that_only_v3_s_and_v2_s_factories_name_is_traded(
    evm: DevNode, owner: Account, installation: Installation, market: Market, tmp_path: Path
) -> None:
    # What can still be turned back is not looked at.
    evm.mine(BEFORE_LAST)
    fees = list(market.factory.fees)
    installation.more_v3 = (f'{{ name = "pancake_v3", address = "{market.pancake.factory}", fees = {fees} }}',)
    installation.chain_tables = f'[chains.ethereum.discovery]\ndirectory = "{tmp_path / "discovery"}"\n'
    installation.write()
    executor = bytes.fromhex(installation.mev("executor", "address", "--chain", "ethereum")["executor"][2:])

    begun = evm.rpc.call("eth_blockNumber")

    def traded() -> object:
        # Nobody else swaps there.
        return evm.rpc.call("eth_getLogs", {"address": text(market.pool.address), "fromBlock": begun})

    with installation.agent("strategy_engine"):
        wait_for("a fill through PancakeSwap's pool", traded, 60, meanwhile=evm.mine)
        at_rest(installation)
    assert '"safe":1' in (installation.directory / "strategy_engine.log").read_text()
    assert owner.balance(market.shop.token, executor) == 0
    assert installation.mev("reconcile")["agrees"]
    watched = installation.mev("pools")["chains"]["ethereum"]["pools"]
    assert {(pool["kind"], pool["fee_ppm"]) for pool in watched if pool["factory"] == "pancake_v3"} == {("v3", FEE)}
