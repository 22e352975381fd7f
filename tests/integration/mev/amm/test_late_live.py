"""Pools of every kind that are made while the engine runs, by their published factories: followed from their block on, turned back with it, and traded."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from mev.chain.rpc import Rpc
from mev.market.load import load_market
from mev.runtime.config import load
from mev.runtime.storage import Database
from mev.trading.desk import Desk
from mev.trading.ledger import Ledger

from tests.integration.mev.amm.forks import PRICE_ONE, Aerodrome, Algebra, First, Pancake
from tests.integration.mev.amm.test_executor_kinds import DEPTH, FAR_TICK, Shop
from tests.integration.mev.amm.test_reorg_live import seen
from tests.integration.mev.conftest import Account, Installation, text
from tests.integration.mev.test_v3_live import head_of

if TYPE_CHECKING:
    from pathlib import Path

    from mev.domain import Block, Opportunity, Pool
    from mev.market.state import MarketState

    from lab.evm.devnode import DevNode
    from lab.evm.npm import Modules

PATIENCE_SECONDS = 60


class Makers:
    """A token with one V2 pair, and factories that have made no pool of it yet."""

    def __init__(self, evm: DevNode, modules: Modules, published: Modules, somebody: Account, wrapped: bytes) -> None:
        self.evm = evm
        self.shop = Shop(somebody, evm, modules, wrapped)
        self.ends = (wrapped, self.shop.token)
        self.aerodrome = Aerodrome(evm, modules, published)
        self.pancake = Pancake(evm, modules, published)
        self.plugged = Algebra(evm, modules, published, plugin=True)
        self.first = First(evm, modules, published)

    def make(self) -> list[Pool]:
        """Have each of them make one, with liquidity, and swap where a fee follows from that."""
        return [
            self.shop.pair("sushi_v2", DEPTH, DEPTH),
            self.pancake.pool(*self.ends, 2500, PRICE_ONE, DEPTH, FAR_TICK, 50),
            *(self.aerodrome.pool(*self.ends, (DEPTH, DEPTH), stable=stable) for stable in (False, True)),
            self.plugged.pool(*self.ends, 0, PRICE_ONE, DEPTH, FAR_TICK),
            self.first.pool(*self.ends, None, PRICE_ONE, DEPTH, FAR_TICK),
        ]

    def number(self) -> int:
        return int(self.evm.rpc.call("eth_blockNumber"), 16)


class Heard(Ledger):
    """A ledger that keeps at hand what is found."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.found: list[Opportunity] = []

    def detect(self, opportunity: Opportunity) -> bool:
        self.found.append(opportunity)
        return super().detect(opportunity)


@pytest.fixture
def makers(evm: DevNode, modules: Modules, published: Modules, stranger: Account, wrapped: bytes) -> Makers:
    return Makers(evm, modules, published, stranger, wrapped)


@pytest.fixture
def configured(makers: Makers, owner: Account, tmp_path: Path) -> Installation:
    made = Installation(makers.evm, tmp_path, owner.signer, makers.evm.ws, mode="observe")
    made.more_v3 = (f'{{ name = "pancake_v3", address = "{makers.pancake.factory}", fees = [2500] }}',)
    made.chain_tables = (
        f'solidly_factories = [{{ name = "aerodrome", address = "{makers.aerodrome.factory}" }}]\n'
        f'algebra_factories = [{{ name = "algebra", address = "{makers.plugged.factory}" }}, '
        f'{{ name = "quickswap", address = "{makers.first.factory}" }}]\n'
    )
    made.write()
    token = f'{{ symbol = "AAA", address = "{text(makers.shop.token)}", decimals = 18 }}, '
    made.config.write_text(made.config.read_text().replace("\ntokens = [", f"\ntokens = [{token}"))
    return made


def test_pools_of_every_kind_that_come_are_followed_from_their_block_on_and_go_back_with_it(
    evm: DevNode, makers: Makers, configured: Installation, tmp_path: Path
) -> None:
    """What is held is what a start would read, also where their blocks are turned back and they are made again; cycles through each are found."""
    config = load(configured.config)
    ledger = Heard(Database(tmp_path / "ledger.db"))

    async def story() -> set[bytes]:
        async with Rpc(evm.ws, chain_id=evm.chain_id) as rpc:
            desk = Desk("ethereum", config, rpc, ledger, None)
            # The last block that was done with.
            done: list[Block | None] = [None]

            def progress() -> None:
                done[0] = desk.head

            running = asyncio.create_task(desk.run(progress))

            async def at_head() -> MarketState:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    while done[0] != await head_of(rpc):
                        assert not running.done(), running.exception()
                        await asyncio.sleep(0.05)
                assert desk._market is not None
                return desk._market

            async def read() -> dict[bytes, object]:
                return seen(await load_market(rpc, config.chains["ethereum"], await head_of(rpc)))

            def held(market: MarketState, new: set[bytes]) -> dict[bytes, object]:
                """What is held of pools that there are: what was turned back is known still, and is empty."""
                return {pool: what for pool, what in seen(market).items() if pool not in new}

            market = await at_head()
            before, first = seen(market), makers.number()
            made = await asyncio.to_thread(makers.make)
            new = {pool.address for pool in made}
            # A block in which nothing happens to them: those that were not read for a block behind are read now.
            await asyncio.to_thread(evm.mine)
            assert seen(await at_head()) == await read()
            assert new <= {*market.pools()}
            assert not market.unusable()
            assert {*market.asked_for_fees} == {made[-1].address, made[-2].address}
            assert {pool for pool in made if market.pools()[pool.address].algebra is pool.algebra} == {*made}
            # All of it turned back.
            await asyncio.to_thread(evm.rpc.call, "anvil_reorg", makers.number() - first, [])
            await asyncio.to_thread(evm.rpc.call, "anvil_dropAllTransactions")
            await asyncio.to_thread(evm.mine)
            assert held(await at_head(), new) == before == await read()
            assert new - {made[0].address} == {*market.unusable()}
            assert (market.v2(made[0].address).reserve0, market.v2(made[0].address).reserve1) == (0, 0)
            # And made again, now in other blocks.
            await asyncio.to_thread(evm.mine, 3)
            again = await asyncio.to_thread(makers.make)
            assert {pool.address for pool in again} == new
            await asyncio.to_thread(evm.mine)
            assert seen(await at_head()) == await read()
            assert not market.unusable()
            # Cycles are enumerated anew once a minute.
            await asyncio.to_thread(evm.rpc.call, "evm_increaseTime", 61)
            await asyncio.to_thread(evm.mine)
            await at_head()
            assert desk._market is market, "it was read anew: nothing was followed"
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
        return new

    new = asyncio.run(story())
    assert new <= {hop.pool for each in ledger.found for hop in each.cycle.hops}
