"""Algebra's pools by their published contracts, Integral's and the first version's: read whole, kept by their events, asked for the fees that no event says in time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from mev.chain.abi import checksum
from mev.chain.rpc import Rpc
from mev.chain.wire import WireLog, encode
from mev.market.algebra_state import ask_fees, find_algebra, read_algebra
from mev.market.amm.concentrated import ConcentratedPool
from mev.market.concentrated_state import ALGEBRA_TOPICS, CONCENTRATED_TOPICS, NEW_PLUGIN
from mev.market.curve_read import ask_curves
from mev.market.discovery import DiscoveryError
from mev.market.resume import resume
from mev.market.snapshot import save
from mev.market.state import MarketState
from mev.runtime.config import AlgebraFactoryConfig, EvmAddress

from tests.integration.mev.amm.forks import PRICE_ONE, Algebra, First
from tests.integration.mev.amm.test_executor_kinds import DEPTH, FAR_TICK, Shop
from tests.integration.mev.conftest import Account, Installation, at_rest, raw, text, wait_for
from tests.integration.mev.test_v3_live import head_of

if TYPE_CHECKING:
    from pathlib import Path

    from mev.domain import Block, Pool
    from mev.market.concentrated_state import Concentrated

    from lab.evm.devnode import DevNode
    from lab.evm.npm import Modules

SWAP = "swap(address,bytes,bool,int256,uint160)"
LOWEST, HIGHEST = 4295128740, 2**159
HOOK = 1
BEFORE_LAST = 70


class Place:
    """A factory, a pool of it, and what is said to it."""

    def __init__(
        self, evm: DevNode, modules: Modules, published: Modules, pair: tuple[bytes, bytes], *, plugin: bool
    ) -> None:
        self.algebra = Algebra(evm, modules, published, plugin=plugin)
        self.pool = self.algebra.pool(*pair, 500, PRICE_ONE, DEPTH, FAR_TICK)
        self.config = AlgebraFactoryConfig(name="algebra", address=EvmAddress(raw(self.algebra.factory)))

    def send(self, signature: str, *arguments: object) -> None:
        self.algebra.bench.send(text(self.pool.address), signature, *arguments)

    def swap(self, amount: int, *, zero_for_one: bool) -> None:
        arguments = (self.algebra.state, zero_for_one, amount, LOWEST if zero_for_one else HIGHEST)
        self.algebra.bench.send(self.algebra.driver, SWAP, text(self.pool.address), *arguments)

    def mint(self, lower: int, upper: int, liquidity: int) -> None:
        self.algebra.mint(text(self.pool.address), lower, upper, liquidity)


class FirstPlace(Place):
    """The same of Algebra's first version, whose fee moves."""

    def __init__(self, evm: DevNode, modules: Modules, published: Modules, pair: tuple[bytes, bytes]) -> None:
        self.algebra = First(evm, modules, published)  # type: ignore[assignment]
        self.pool = self.algebra.pool(*pair, None, PRICE_ONE, DEPTH, FAR_TICK)  # type: ignore[arg-type]
        self.config = AlgebraFactoryConfig(name="algebra", address=EvmAddress(raw(self.algebra.factory)))


def as_it_is(held: Concentrated) -> tuple[object, ...]:
    assert isinstance(held, ConcentratedPool)
    return held.sqrt_price_x96, held.tick, held.liquidity, held.fees, held.ticks.net, held.largest_amount


async def read(rpc: Rpc, place: Place, tokens: list[bytes], block: Block) -> dict[Pool, Concentrated]:
    return await read_algebra(rpc, await find_algebra(rpc, [place.config], tokens, block), block)


async def follow(
    rpc: Rpc, state: MarketState, block: Block, events: frozenset[bytes] = CONCENTRATED_TOPICS | ALGEBRA_TOPICS
) -> frozenset[bytes]:
    """Take in all blocks up to one, as the engine does."""
    touched: frozenset[bytes] = frozenset()
    topics = [encode(topic) for topic in events]
    for number in range(state.block.number + 1, block.number + 1):
        head = await rpc.call_as(dict, "eth_getBlockByNumber", [hex(number), False])
        assert head is not None
        wanted = {"blockHash": head["hash"], "topics": [topics]}
        logs = await rpc.call_as(list[WireLog], "eth_getLogs", [wanted])
        when = int(head["timestamp"], 16)
        now = state.block.__class__(number, bytes.fromhex(head["hash"][2:]), state.block.hash, when, 0)
        touched |= state.apply_block(now, [each.log(now) for each in logs or ()])
        touched |= await ask_fees(rpc, state, now)
        touched |= await ask_curves(rpc, state, now)
    return touched


def test_algebra_s_own_events_keep_what_is_read_and_go_back(
    evm: DevNode, modules: Modules, published: Modules, stranger: Account, wrapped: bytes, tmp_path: Path
) -> None:
    """Swaps across ticks, liquidity in and out, another fee; from the snapshot and the logs, and block by block, what the chain says; undone to the last bit."""
    shop = Shop(stranger, evm, modules, wrapped)
    place = Place(evm, modules, published, (wrapped, shop.token), plugin=False)
    tokens = [wrapped, shop.token]

    async def story() -> None:
        path = tmp_path / "snapshot"
        async with Rpc(evm.ws, chain_id=evm.chain_id) as rpc:
            first = await head_of(rpc)
            before = await read(rpc, place, tokens, first)
            assert list(before) == [place.pool]
            save(path, evm.chain_id, first, before)
            market = MarketState(first, before)
            assert market.asked_for_fees == ()
            place.mint(-60, 120, DEPTH)
            place.mint(-600, -120, DEPTH // 3)
            place.swap(DEPTH, zero_for_one=True)
            place.send("setFee(uint16)", 3000)
            place.swap(DEPTH // 3, zero_for_one=False)
            burn = "burn_algebra(address,int24,int24,uint128)"
            place.algebra.bench.send(place.algebra.driver, burn, text(place.pool.address), -60, 120, DEPTH // 2)
            block = await head_of(rpc)
            [there] = (await read(rpc, place, tokens, block)).values()
            [resumed] = (await resume(rpc, evm.chain_id, block, path)).values()
            assert await follow(rpc, market, block) == {place.pool.address}
            followed = market.held(place.pool.address)
            assert as_it_is(there) == as_it_is(resumed) == as_it_is(followed)  # type: ignore[arg-type]
            assert isinstance(there, ConcentratedPool)
            assert there.fees == (3000, 3000)
            assert market.undo_to(first) == {place.pool.address}
            assert as_it_is(market.held(place.pool.address)) == as_it_is(before[place.pool])  # type: ignore[arg-type]
            # A plugin that may take a fee of its own from now on: what is known of it holds no longer.
            place.send("setPlugin(address)", text(shop.token))
            place.send("setPluginConfig(uint8)", HOOK)
            await follow(rpc, market, await head_of(rpc))
            assert market.held(place.pool.address) == NEW_PLUGIN
            wrong = AlgebraFactoryConfig(name="algebra", address=EvmAddress(wrapped))
            with pytest.raises(DiscoveryError, match="no Algebra factory"):
                await find_algebra(rpc, [wrong], tokens, first)

    asyncio.run(story())


def test_a_first_version_s_events_keep_what_is_read_and_go_back(
    evm: DevNode, modules: Modules, published: Modules, stranger: Account, wrapped: bytes, tmp_path: Path
) -> None:
    """QuickSwap V3's own bytecode: its fee too is what its last event said, before anybody is asked for the next one."""
    shop = Shop(stranger, evm, modules, wrapped)
    place = FirstPlace(evm, modules, published, (wrapped, shop.token))
    tokens = [wrapped, shop.token]

    async def story() -> None:
        path = tmp_path / "snapshot"
        async with Rpc(evm.ws, chain_id=evm.chain_id) as rpc:
            first = await head_of(rpc)
            before = await read(rpc, place, tokens, first)
            assert list(before) == [place.pool]
            save(path, evm.chain_id, first, before)
            market = MarketState(first, before)
            place.mint(-60, 120, DEPTH)
            place.mint(-600, -120, DEPTH // 3)
            for turn in range(4):
                evm.rpc.call("evm_increaseTime", 1800)
                place.swap(DEPTH // (1 + turn), zero_for_one=turn % 2 == 0)
            burn = "burn_v3(address,int24,int24,uint128)"
            place.algebra.bench.send(place.algebra.driver, burn, text(place.pool.address), -60, 120, DEPTH // 2)
            block = await head_of(rpc)
            [there] = (await read(rpc, place, tokens, block)).values()
            [resumed] = (await resume(rpc, evm.chain_id, block, path)).values()
            assert await follow(rpc, market, block) == {place.pool.address}
            followed = market.concentrated(place.pool.address)
            assert isinstance(there, ConcentratedPool)
            assert followed is not None
            assert there.fees != before[place.pool].fees  # type: ignore[union-attr]
            said = followed.at(followed.sqrt_price_x96, followed.tick, followed.liquidity, there.fees)
            assert as_it_is(there) == as_it_is(resumed) == as_it_is(said)  # type: ignore[arg-type]
            assert market.undo_to(first) == {place.pool.address}
            assert as_it_is(market.held(place.pool.address)) == as_it_is(before[place.pool])  # type: ignore[arg-type]

    asyncio.run(story())


def test_a_first_version_s_next_fee_is_foreseen(
    evm: DevNode, modules: Modules, published: Modules, stranger: Account, wrapped: bytes
) -> None:
    """What its storage says it would take is what the next swap, a second later, takes, but for what was swapped in the last block."""
    shop = Shop(stranger, evm, modules, wrapped)
    place = FirstPlace(evm, modules, published, (wrapped, shop.token))

    async def story() -> None:
        async with Rpc(evm.ws, chain_id=evm.chain_id) as rpc:
            first = await head_of(rpc)
            market = MarketState(first, await read(rpc, place, [wrapped, shop.token], first))
            assert market.asked_for_fees == (place.pool.address,)
            taken = set()
            for turn, part in enumerate((40, 3, 40, 5, 200, 2, 9, 30)):
                evm.rpc.call("evm_increaseTime", 3600)
                evm.mine()
                block = await head_of(rpc)
                await follow(rpc, market, block)
                held = market.concentrated(place.pool.address)
                assert held is not None
                way = turn % 2 == 0
                evm.rpc.call("evm_setNextBlockTimestamp", block.timestamp + 1)
                place.swap(DEPTH // part, zero_for_one=way)
                moved = held.after(held.swap_exact_in(DEPTH // part, zero_for_one=way))
                [now] = (await read(rpc, place, [wrapped, shop.token], await head_of(rpc))).values()
                assert as_it_is(now) == as_it_is(moved)
                taken.add(held.fees)
            assert len(taken) > 2

    asyncio.run(story())


def test_a_plugin_is_asked_for_its_fee_after_each_block(
    evm: DevNode, modules: Modules, published: Modules, stranger: Account, wrapped: bytes
) -> None:
    """Prices that move much raise the fee; what our mathematics makes of what the plugin says is what the next swap gives."""
    shop = Shop(stranger, evm, modules, wrapped)
    place = Place(evm, modules, published, (wrapped, shop.token), plugin=True)
    tokens = [wrapped, shop.token]

    async def story() -> None:
        async with Rpc(evm.ws, chain_id=evm.chain_id) as rpc:
            first = await head_of(rpc)
            market = MarketState(first, await read(rpc, place, tokens, first))
            assert market.asked_for_fees == (place.pool.address,)
            seen = set()
            for turn, part in enumerate((40, 3, 40, 200, 1)):
                evm.rpc.call("evm_increaseTime", 3600)
                place.swap(DEPTH // part, zero_for_one=turn % 2 == 0)
                await follow(rpc, market, await head_of(rpc))
                held = market.concentrated(place.pool.address)
                assert held is not None
                seen.add(held.fees)
                for way in (True, False):
                    limit = LOWEST if way else HIGHEST
                    arguments = (text(place.pool.address), place.algebra.state, way, 10**18, limit)
                    amounts = place.algebra.bench.ask(["int256", "int256"], place.algebra.driver, SWAP, *arguments)
                    assert -min(amounts) == held.swap_exact_in(10**18, zero_for_one=way).amount_out
            assert len(seen) > 1
            fees = market.concentrated(place.pool.address)
            assert market.undo_to(first) == {place.pool.address}
            assert market.concentrated(place.pool.address) != fees

    asyncio.run(story())


def test_a_plugin_that_does_not_answer_stops_no_other_s(
    evm: DevNode, modules: Modules, published: Modules, stranger: Account, wrapped: bytes
) -> None:
    shop = Shop(stranger, evm, modules, wrapped)
    place = Place(evm, modules, published, (wrapped, shop.token), plugin=True)
    another = raw(place.algebra.bench.token())
    second = place.algebra.pool(wrapped, another, 0, PRICE_ONE, DEPTH, FAR_TICK)

    async def story() -> None:
        async with Rpc(evm.ws, chain_id=evm.chain_id) as rpc:
            first = await head_of(rpc)
            market = MarketState(first, await read(rpc, place, [wrapped, shop.token, another], first))
            # What is none, and then is to say the fee.
            place.send("setPlugin(address)", text(shop.token))
            place.send("setPluginConfig(uint8)", 128)
            await follow(rpc, market, await head_of(rpc))
            before = market.concentrated(place.pool.address)
            limit = (place.algebra.state, True, DEPTH // 3, LOWEST)
            evm.rpc.call("evm_increaseTime", 3600)
            place.algebra.bench.send(place.algebra.driver, SWAP, text(second.address), *limit)
            evm.rpc.call("evm_increaseTime", 3600)
            evm.mine()
            assert await follow(rpc, market, await head_of(rpc)) == {second.address}
            there = market.concentrated(second.address)
            assert there is not None
            assert there.fees != (100, 100)
            assert market.concentrated(place.pool.address) is before

    asyncio.run(story())


@pytest.mark.parametrize("kind", ["plugin", "before integral"])
def test_what_opens_between_an_algebra_pool_and_a_pair_is_found_in_its_block_and_booked(
    evm: DevNode,
    modules: Modules,
    published: Modules,
    owner: Account,
    stranger: Account,
    installation: Installation,
    wrapped: bytes,
    tmp_path: Path,
    kind: str,
) -> None:
    """A token that only factories name, half as dear in its V2 pair as in a pool whose plugin or past says the fee; later somebody buys much of it there."""
    shop = Shop(stranger, evm, modules, wrapped)
    ends = (wrapped, shop.token)
    place = (
        Place(evm, modules, published, ends, plugin=True)
        if kind == "plugin"
        else FirstPlace(evm, modules, published, ends)
    )
    # What can still be turned back is not looked at.
    evm.mine(BEFORE_LAST)
    installation.chain_tables = (
        f'algebra_factories = [{{ name = "algebra", address = "{place.algebra.factory}" }}]\n'
        f'[chains.ethereum.discovery]\ndirectory = "{tmp_path / "discovery"}"\n'
    )
    installation.write()
    executor = bytes.fromhex(installation.mev("executor", "address", "--chain", "ethereum")["executor"][2:])

    def swaps() -> list[int]:
        logs = evm.rpc.call("eth_getLogs", {"address": text(place.pool.address), "fromBlock": "earliest"})
        mine = [log for log in logs if "0x" + executor.rjust(32, b"\0").hex() in log["topics"][1:2]]
        return [int(log["blockNumber"], 16) for log in mine]

    with installation.agent("strategy_engine"):
        wait_for("a swap through the pool", swaps)
        at_rest(installation)
        before = int(evm.rpc.call("eth_blockNumber"), 16)
        place.swap(DEPTH // 3, zero_for_one=place.pool.token0 == wrapped)
        wait_for("a swap after somebody's", lambda: max(swaps()) > before)
        at_rest(installation)
    # Found in the swap's own block, which was the next one, and taken in the one after it.
    assert before + 2 in swaps()
    fills = installation.mev("opportunities", "--state", "included")["opportunities"]
    assert before + 1 in [fill["block_number"] for fill in fills if checksum(place.pool.address) in fill["pools"]]
    assert owner.balance(shop.token, executor) == 0
    assert installation.mev("reconcile")["agrees"]
    [watched] = [
        pool for pool in installation.mev("pools")["chains"]["ethereum"]["pools"] if pool["factory"] == "algebra"
    ]
    assert (watched["kind"], watched["quarantined"]) == ("algebra", None)
    assert watched["fee_ppm"] > 0
    looked = installation.mev("replay", f"{before}-{before + 2}")["blocks"]
    # Blocks that are past show the same one.
    assert looked[1]["best"]["opportunity"] in [fill["opportunity"] for fill in fills]
    held = installation.mev("backtest", f"{before}-{before + 2}", "--gas", "400000")["blocks"]
    assert int(held[1]["expected_profit_wei"]) >= int(looked[1]["best"]["expected_profit_wei"]) > 0
