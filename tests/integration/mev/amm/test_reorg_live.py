"""Reorganisations up to 64 deep, every kind of pool at once, by their published contracts, Curve's by stand-ins of ours: the engine's market is to the last bit what it was, and then what the chain says."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from itertools import combinations
from typing import TYPE_CHECKING

import pytest
from mev.chain.rpc import Rpc
from mev.domain import BalancerKey, CurveKey, V2State
from mev.market import curve_state
from mev.market.amm.concentrated import ConcentratedPool
from mev.market.balancer_state import pair_of
from mev.market.concentrated_state import Unusable
from mev.market.load import load_market
from mev.runtime.config import load
from mev.runtime.storage import Database
from mev.trading.desk import Desk
from mev.trading.ledger import Ledger
from mev.trading.meter import Meter

from tests.integration.mev.amm.forks import PRICE_ONE, Managed, give
from tests.integration.mev.amm.stable import Stable
from tests.integration.mev.amm.test_algebra_live import HIGHEST, LOWEST, SWAP, FirstPlace, Place
from tests.integration.mev.amm.test_executor_kinds import DEPTH
from tests.integration.mev.amm.test_forks_live import Curves, Market, curves, market
from tests.integration.mev.amm.test_v4_live import FAR, KIND
from tests.integration.mev.amm.vaults import Vault
from tests.integration.mev.conftest import NATIVE_WEI, Account, Installation, raw, text
from tests.integration.mev.test_executor_v3 import push
from tests.integration.mev.test_v3_live import head_of

if TYPE_CHECKING:
    from pathlib import Path

    from mev.market.state import MarketState

    from lab.evm.devnode import DevNode
    from lab.evm.npm import Modules

__all__ = ["curves", "market"]

DEEPEST = 64
PATIENCE_SECONDS = 60
# Long enough for an A to be on its way all the while.
RAMP_SECONDS = 100_000
SLOT0 = bytes.fromhex("3850c7bd")


def seen(state: MarketState) -> dict[bytes, object]:
    """Everything that a pool's quotes depend on."""
    found: dict[bytes, object] = {}
    for pool, held in state.states().items():
        match held:
            case ConcentratedPool():
                found[pool.address] = (
                    held.sqrt_price_x96,
                    held.tick,
                    held.liquidity,
                    dict(held.ticks.net),
                    held.fees,
                )
            case Unusable():
                # What was made since, undone: the chain says nothing of it.
                continue
            case V2State():
                found[pool.address] = (held.reserve0, held.reserve1)
            case _:
                found[pool.address] = held
    return found


def differing(one: dict[bytes, object], other: dict[bytes, object]) -> dict[str, tuple[object, object]]:
    """Those of the pools that are not the same in both, short enough to be read where a test fails."""
    return {text(pool): (one.get(pool), other.get(pool)) for pool in {*one, *other} if one.get(pool) != other.get(pool)}


class World:
    """A pool of each kind beside the seed's, and what moves every one of them."""

    def __init__(
        self,
        market: Market,
        curves: Curves,
        algebra: tuple[Place, FirstPlace],
        managed: Managed,
        vault: Vault,
        modules: Modules,
        owner: Account,
        wrapped: bytes,
    ) -> None:
        self.evm = owner.evm
        self.market, self.curves, self.managed = market, curves, managed
        self.algebra, self.first = algebra
        self.owner, self.wrapped = owner, wrapped
        ends = (wrapped, market.shop.token)
        self.v4 = managed.pool(*ends, KIND.fee, PRICE_ONE, DEPTH, FAR, KIND.tick_spacing, native=True)
        self.vault = vault
        # Balancer's of three tokens, of which each two are a pool of their own.
        self.three = sorted((*ends, curves.shop.token))
        self.balancer = vault.weighted(self.three, [10**18 // 2, 10**18 // 4, 10**18 // 4], 10**15, [DEPTH] * 3)
        key = BalancerKey(raw(vault.vault), self.balancer, tuple(self.three))
        self.pairs = [pair_of("balancer_v2", key, i, j) for i, j in combinations(range(3), 2)]
        # Curve's, of the same three, and one over its LP token.
        self.curve = Stable(self.evm, modules, self.three, [DEPTH] * 3, 100, first=True)
        self.meta = Stable(self.evm, modules, [wrapped, self.curve.address], [DEPTH, DEPTH], 50, base=self.curve)
        plain = CurveKey(self.curve.address, tuple(self.three), signed=True)
        meta = CurveKey(self.meta.address, (wrapped, self.curve.address), self.curve.address)
        self.coined = [curve_state.pair_of("threepool", plain, i, j) for i, j in combinations(range(3), 2)]
        self.coined.append(curve_state.pair_of("metapool", meta, 0, 1))

    def pools(self) -> set[bytes]:
        made = (self.market.pool, self.curves.volatile, self.curves.stable, self.algebra.pool, self.first.pool)
        return {pool.address for pool in (*made, self.v4, *self.pairs, *self.coined)}

    def new(self) -> bytes:
        """Make one more V4 pool."""
        return self.managed.pool(self.wrapped, self.market.shop.token, 500, PRICE_ONE, DEPTH, FAR, 10).address

    def move(self) -> None:
        """Swap across ticks, put liquidity in and take some out, change a fee: in every kind of pool."""
        bench, driver, made = self.market.pancake.bench, self.market.pancake.driver, text(self.market.pool.address)
        bench.send(driver, "mint_v3(address,int24,int24,uint128)", made, -50, 100, DEPTH)
        bench.send(driver, SWAP, made, SLOT0, True, DEPTH, LOWEST)
        bench.send(driver, "burn_v3(address,int24,int24,uint128)", made, -50, 100, DEPTH // 2)
        for pool in (self.curves.volatile, self.curves.stable):
            give(self.curves.aerodrome.bench, self.evm, self.wrapped, text(pool.address), DEPTH // 9)
            self.curves.aerodrome.bench.send(text(pool.address), "sync()")
        fee = ("setCustomFee(address,uint256)", text(self.curves.volatile.address), 70)
        self.curves.aerodrome.bench.send(self.curves.aerodrome.factory, *fee)
        self.algebra.mint(-60, 120, DEPTH)
        self.algebra.swap(DEPTH, zero_for_one=True)
        self.algebra.send("setFee(uint16)", 3000)
        self.first.mint(-60, 120, DEPTH)
        self.first.swap(DEPTH, zero_for_one=True)
        self.managed.provide(self.v4, -60, 120, DEPTH)
        self.managed.swap_in(self.v4, DEPTH, zero_for_one=True)
        self.managed.set_protocol_fee(self.v4, 1000, 250)
        self.managed.provide(self.v4, -60, 120, -DEPTH // 2)
        for one, other in combinations(self.three, 2):
            self.vault.swap(self.balancer, one, other, NATIVE_WEI)
        self.vault.join(self.balancer, self.three, [NATIVE_WEI, 0, 2 * NATIVE_WEI])
        self.vault.exit(self.balancer, self.three, self.vault.shares(self.balancer) // 3)
        self.vault.bench.send(self.vault.pool(self.balancer), "setSwapFeePercentage(uint256)", 2 * 10**15)
        self.curve.exchange(0, 2, NATIVE_WEI)
        self.curve.add(NATIVE_WEI, 0, 2 * NATIVE_WEI)
        self.curve.remove_one(NATIVE_WEI, 1)
        latest = self.evm.rpc.call("eth_getBlockByNumber", "latest", False)
        self.curve.send("ramp_A(uint256,uint256)", 500, int(latest["timestamp"], 16) + RAMP_SECONDS)
        self.meta.exchange(0, 1, NATIVE_WEI)
        self.meta.send("set_fee(uint256,uint256)", 10**6, 10**9)
        push(self.evm, self.owner, self.wrapped, 500, 90 * NATIVE_WEI)
        for _ in range(3):
            self.evm.trade()

    def back(self) -> None:
        """Swap the other way in some of them."""
        driver, made = self.market.pancake.driver, text(self.market.pool.address)
        self.market.pancake.bench.send(driver, SWAP, made, SLOT0, False, DEPTH // 3, HIGHEST)
        self.algebra.swap(DEPTH // 3, zero_for_one=False)
        self.first.swap(DEPTH // 3, zero_for_one=False)
        self.managed.swap_in(self.v4, DEPTH // 3, zero_for_one=False)
        self.vault.swap(self.balancer, self.three[2], self.three[0], NATIVE_WEI)
        self.curve.exchange(2, 1, NATIVE_WEI)
        self.meta.exchange(1, 0, NATIVE_WEI)
        push(self.evm, self.owner, self.wrapped, 3000, 30 * NATIVE_WEI)
        self.evm.trade()

    def number(self) -> int:
        return int(self.evm.rpc.call("eth_blockNumber"), 16)


@pytest.fixture
def world(
    evm: DevNode, modules: Modules, published: Modules, market: Market, curves: Curves, owner: Account, wrapped: bytes
) -> World:
    ends = (wrapped, market.shop.token)
    algebra = Place(evm, modules, published, ends, plugin=False), FirstPlace(evm, modules, published, ends)
    vault = Vault(evm, modules, published)
    made = World(market, curves, algebra, Managed(evm, modules, published), vault, modules, owner, wrapped)
    # What is turned back must not have made the pools.
    evm.mine(2 * DEEPEST)
    return made


@pytest.fixture
def configured(world: World, tmp_path: Path) -> Installation:
    made = Installation(world.evm, tmp_path, world.owner.signer, world.evm.ws, mode="observe", v3_fees=(500, 3000))
    made.more_v3 = (f'{{ name = "pancake_v3", address = "{world.market.pancake.factory}", fees = [500, 2500] }}',)
    made.chain_tables = (
        f'solidly_factories = [{{ name = "aerodrome", address = "{world.curves.aerodrome.factory}" }}]\n'
        f'algebra_factories = [{{ name = "algebra", address = "{world.algebra.algebra.factory}" }}, '
        f'{{ name = "quickswap", address = "{world.first.algebra.factory}" }}]\n'
        f'v4_managers = [{{ name = "uniswap_v4", address = "{world.managed.manager}" }}]\n'
        f'curve_pools = [{{ name = "threepool", address = "{world.curve.at}" }}, {{ name = "metapool", address = "{world.meta.at}" }}]\n'
        f'balancer_vaults = [{{ name = "balancer_v2", address = "{world.vault.vault}", pools = ["{text(world.balancer)}"] }}]\n'
    )
    made.write()
    tokens = "".join(
        f'{{ symbol = "{name}", address = "{text(token)}", decimals = 18 }}, '
        for name, token in (
            ("AAA", world.market.shop.token),
            ("BBB", world.curves.shop.token),
            ("3CRV", world.curve.address),
        )
    )
    made.config.write_text(made.config.read_text().replace("\ntokens = [", f"\ntokens = [{tokens}"))
    return made


def test_a_chain_that_turns_round_up_to_64_blocks_leaves_every_kind_of_pool_exact(
    evm: DevNode, world: World, configured: Installation, tmp_path: Path
) -> None:
    config = load(configured.config)
    meter = Meter()

    async def story() -> None:
        async with Rpc(evm.ws, chain_id=evm.chain_id) as rpc:
            desk = Desk("ethereum", config, rpc, Ledger(Database(tmp_path / "ledger.db")), None, meter=meter)
            moved = asyncio.Event()
            running = asyncio.create_task(desk.run(moved.set))

            async def at_head() -> MarketState:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    while True:
                        head = await head_of(rpc)
                        # A head stands before what no event says of its block has been asked for: fees.
                        async with desk._working:
                            if desk.head == head:
                                assert desk._market is not None
                                return desk._market
                        assert not running.done(), running.exception()
                        with suppress(TimeoutError):
                            await asyncio.wait_for(moved.wait(), 0.2)
                        moved.clear()

            async def read() -> dict[bytes, object]:
                block = await head_of(rpc)
                found = seen(await load_market(rpc, config.chains["ethereum"], block))
                assert await head_of(rpc) == block, "a block came that nobody made"
                return found

            market = await at_head()
            assert world.pools() <= {*market.pools()}
            assert not market.unusable()
            for least in (0, DEEPEST):
                before, first = seen(await at_head()), world.number()
                await asyncio.to_thread(world.move)
                new = await asyncio.to_thread(world.new)
                if least:
                    await asyncio.to_thread(evm.mine, least - (world.number() - first))
                depth = world.number() - first
                assert least <= depth <= DEEPEST
                after = seen(await at_head())
                assert not differing(after, await read())
                assert {pool for pool, held in after.items() if held != before.get(pool)} >= {new, *world.pools()}
                # Empty blocks in their place, and nothing of what was in them.
                await asyncio.to_thread(evm.rpc.call, "anvil_reorg", depth, [])
                await asyncio.to_thread(evm.rpc.call, "anvil_dropAllTransactions")
                await asyncio.to_thread(evm.mine)
                undone = seen(await at_head())
                assert not differing(undone, before)
                assert not differing(undone, await read())
                assert [*market.unusable()] == [new]
                # And it goes on otherwise.
                await asyncio.to_thread(world.back)
                other = seen(await at_head())
                assert not differing(other, await read())
                assert differing(other, before)
            assert desk._market is market, "it was read anew: nothing was undone"
            watched = meter.registry.get_sample_value("mev_pools", {"chain": "ethereum"})
            assert watched == len(market.pools())
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running

    asyncio.run(story())
    assert meter.registry.get_sample_value("mev_reorganisations_total", {"chain": "ethereum"}) == 2
    blocks = meter.registry.get_sample_value("mev_blocks_undone_total", {"chain": "ethereum"})
    assert blocks is not None
    assert blocks > DEEPEST
