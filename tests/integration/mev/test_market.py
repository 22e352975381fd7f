"""State, quotes and events against real contracts on a real chain, also through reorganisations and cut connections."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import pytest
from mev.chain.abi import SYNC, decode_uint, encode_call, selector
from mev.chain.collectors import BlockCollector, NewBlock, Reorg, Reset
from mev.chain.collectors.pending import PendingCollector
from mev.chain.rpc import Gap, Rpc, RpcError, WrongChainError
from mev.chain.wire import Head, data, encode
from mev.market.amm import AmmError, amount_in, amount_out
from mev.market.discovery import DiscoveryError, discover
from mev.market.factory_events import created
from mev.market.state import MarketState
from mev.runtime.config import EvmAddress, FactoryConfig
from mev.search.graph import CycleIndex
from mev.search.legs import Leg, amounts, legs_of
from mev.search.sizing import screen, size_exact

from lab.evm import devnode
from tests.integration.mev.conftest import PATIENCE_SECONDS, raw

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mev.domain import Block, Pool, V2State

    from lab.evm.devnode import DevNode

GET_AMOUNT_OUT = selector("getAmountOut(uint256,uint256,uint256)")
GET_AMOUNT_IN = selector("getAmountIn(uint256,uint256,uint256)")


def factories(evm: DevNode) -> list[FactoryConfig]:
    return [
        FactoryConfig(
            name=made.name,
            address=EvmAddress(raw(made.address)),
            fee_numerator=made.fee_numerator,
            fee_denominator=made.fee_denominator,
        )
        for made in evm.deployment.factories
        if made.version == 2
    ]


def tokens(evm: DevNode) -> list[bytes]:
    return [raw(token.address) for token in evm.deployment.tokens]


async def head_of(rpc: Rpc) -> Block:
    head = await rpc.call_as(Head, "eth_getBlockByNumber", ["latest", False])
    assert head is not None
    return head.block()


async def found(evm: DevNode, rpc: Rpc) -> dict[Pool, V2State]:
    return await discover(rpc, factories(evm), tokens(evm), await head_of(rpc))


def held(states: dict[Pool, V2State]) -> dict[bytes, tuple[int, int]]:
    return {pool.address: (state.reserve0, state.reserve1) for pool, state in states.items()}


class Follower:
    """The market state as the engine keeps it, from events alone."""

    def __init__(self, evm: DevNode, rpc: Rpc) -> None:
        self.evm = evm
        self.rpc = rpc
        self.state: MarketState | None = None
        self.kinds: list[type] = []
        self.moved = asyncio.Event()

    async def follow(self) -> None:
        async for event in BlockCollector(self.rpc, [SYNC], stall_seconds=1).events():
            self.kinds.append(type(event))
            match event:
                case Reset(block):
                    self.state = MarketState(
                        block, await discover(self.rpc, factories(self.evm), tokens(self.evm), block)
                    )
                case Reorg(ancestor) if self.state is not None:
                    self.state.undo_to(ancestor)
                case NewBlock(block, logs, _) if self.state is not None:
                    self.state.apply_block(block, logs)
            self.moved.set()

    async def until_head(self, rpc: Rpc) -> MarketState:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.state is None or self.state.block != await head_of(rpc):
                await self.moved.wait()
                self.moved.clear()
        return self.state

    def reserves(self) -> dict[bytes, tuple[int, int]]:
        assert self.state is not None
        return held({pool: self.state.v2(address) for address, pool in self.state.pools().items()})


@asynccontextmanager
async def following(evm: DevNode, rpc: Rpc) -> AsyncIterator[Follower]:
    follower = Follower(evm, rpc)
    task = asyncio.create_task(follower.follow())
    try:
        yield follower
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def proxy(port: int) -> AsyncIterator[Proxy]:
    through = Proxy(port)
    server = await asyncio.start_server(through.connect, "127.0.0.1", 0)
    through.port = server.sockets[0].getsockname()[1]
    try:
        yield through
    finally:
        server.close()
        through.cut()


class Proxy:
    """A wire between client and node that can be cut."""

    def __init__(self, node_port: int) -> None:
        self.node_port = node_port
        self.port = 0
        self.writers: list[asyncio.StreamWriter] = []
        self.tasks: set[asyncio.Task[None]] = set()

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        node_reader, node_writer = await asyncio.open_connection("127.0.0.1", self.node_port)
        self.writers += [writer, node_writer]
        for source, sink in ((reader, node_writer), (node_reader, writer)):
            task = asyncio.create_task(self._pump(source, sink))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    def cut(self) -> None:
        for writer in self.writers:
            writer.transport.abort()
        self.writers.clear()

    @staticmethod
    async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while chunk := await source.read(65536):
                sink.write(chunk)
                await sink.drain()


def test_discovery_finds_the_seeded_pools_and_what_they_hold(evm: DevNode) -> None:
    async def story() -> None:
        async with Rpc(evm.ws, chain_id=evm.chain_id) as rpc:
            seeded = {
                raw(pool.address): (pool.amount0, pool.amount1) for pool in evm.deployment.pools if pool.version == 2
            }
            states = await found(evm, rpc)
            assert held(states) == seeded
            assert {pool.factory for pool in states} == {made.name for made in factories(evm)}
            assert all(pool.token0 < pool.token1 for pool in states)
            # Where nothing is vouched for, nothing is found.
            assert await discover(rpc, factories(evm), tokens(evm)[:1], await head_of(rpc)) == {}

    asyncio.run(story())


def test_a_factory_s_events_tell_of_every_pool_that_it_made(evm: DevNode) -> None:
    async def story() -> None:
        async with Rpc(evm.ws, chain_id=evm.chain_id) as rpc:
            last = (await head_of(rpc)).number
            told = {
                pool
                for factory in factories(evm)
                async for found_here in created(rpc, factory, 0, last)
                for pool in found_here.pools
            }
            assert told == set(await found(evm, rpc))

    asyncio.run(story())


def test_what_is_no_factory_is_named(evm: DevNode) -> None:
    async def story() -> None:
        weth = EvmAddress(raw(evm.deployment.wrapped_native))
        for address in (weth, EvmAddress(b"\x77" * 20)):
            wrong = FactoryConfig(name="wrong", address=address, fee_numerator=997, fee_denominator=1000)
            async with Rpc(evm.ws, chain_id=evm.chain_id) as rpc:
                with pytest.raises(DiscoveryError, match=f"wrong at {encode(address)} is no V2 factory"):
                    await discover(rpc, [wrong], tokens(evm), await head_of(rpc))

    asyncio.run(story())


def test_quotes_equal_the_contracts_own(evm: DevNode) -> None:
    router = next(made.router for made in evm.deployment.factories if made.version == 2)
    draw = random.Random(7)  # noqa: S311
    cases = [
        (
            draw.getrandbits(draw.randint(1, 112)),
            1 + draw.getrandbits(draw.randint(1, 111)),
            1 + draw.getrandbits(draw.randint(1, 111)),
        )
        for _ in range(300)
    ]

    async def story() -> None:
        async with Rpc(evm.ws, chain_id=evm.chain_id) as rpc:
            for chosen, ours in ((GET_AMOUNT_OUT, amount_out), (GET_AMOUNT_IN, amount_in)):
                theirs = await rpc.batch(
                    ("eth_call", [{"to": router, "data": encode(encode_call(chosen, *case))}, "latest"])
                    for case in cases
                )
                compared = 0
                for case, answer in zip(cases, theirs, strict=True):
                    try:
                        quote = ours(*case, 997, 1000)
                    except AmmError as error:
                        refusal = str(error)
                    else:
                        assert quote == decode_uint(data(answer))
                        compared += 1
                        continue
                    # The library does not look at 112 bits: the pair does.
                    assert refusal == "OVERFLOW" or isinstance(answer, RpcError)
                assert compared > 60

    asyncio.run(story())


def test_state_from_events_is_what_the_chain_holds(evm: DevNode) -> None:
    async def story() -> None:
        async with Rpc(evm.ws, chain_id=evm.chain_id) as rpc, following(evm, rpc) as follower:
            await follower.until_head(rpc)
            for _ in range(12):
                await asyncio.to_thread(evm.trade)
            await follower.until_head(rpc)
            assert follower.kinds[0] is Reset
            assert set(follower.kinds[1:]) == {NewBlock}
            assert follower.reserves() == held(await found(evm, rpc))

    asyncio.run(story())


def test_a_reorganised_chain_is_followed_to_the_wei(evm: DevNode) -> None:
    async def story() -> None:
        async with Rpc(evm.ws, chain_id=evm.chain_id) as rpc, following(evm, rpc) as follower:
            await follower.until_head(rpc)
            for _ in range(2):
                snapshot = evm.rpc.call("evm_snapshot")
                for _ in range(3):
                    await asyncio.to_thread(evm.trade)
                await follower.until_head(rpc)
                before = follower.reserves()
                devnode.revert(evm.rpc, snapshot)
                # Another history: a later time makes other blocks of the same height.
                evm.rpc.call("evm_increaseTime", 5)
                await asyncio.to_thread(evm.trade)
                await asyncio.to_thread(evm.mine, 3)
                await follower.until_head(rpc)
                assert follower.reserves() == held(await found(evm, rpc))
                assert follower.reserves() != before
            assert Reorg in follower.kinds
            assert follower.kinds.count(Reset) == 1

    asyncio.run(story())


def test_a_cut_connection_loses_no_block(evm: DevNode) -> None:
    async def story() -> None:
        port = int(evm.ws.rpartition(":")[2].strip("/"))
        async with (
            Rpc(evm.ws, chain_id=evm.chain_id) as rpc,
            proxy(port) as wire,
            Rpc(f"ws://127.0.0.1:{wire.port}", chain_id=evm.chain_id) as cut_off,
            following(evm, cut_off) as follower,
        ):
            await follower.until_head(rpc)
            for _ in range(3):
                wire.cut()
                for _ in range(3):
                    await asyncio.to_thread(evm.trade)
                await follower.until_head(rpc)
                assert follower.reserves() == held(await found(evm, rpc))
            assert follower.kinds == [Reset] + 9 * [NewBlock]

    asyncio.run(story())


def test_a_change_of_end_point_loses_and_repeats_no_block(evm: DevNode) -> None:
    async def story() -> None:
        port = int(evm.ws.rpartition(":")[2].strip("/"))
        async with (
            Rpc(evm.ws, chain_id=evm.chain_id) as rpc,
            proxy(port) as first,
            proxy(port) as second,
            Rpc(
                [f"ws://127.0.0.1:{first.port}", f"ws://127.0.0.1:{second.port}", evm.http],
                chain_id=evm.chain_id,
                watch_seconds=0.1,
            ) as several,
            following(evm, several) as follower,
        ):
            await follower.until_head(rpc)
            for wire in (first, second, first, second):
                wire.cut()
                for _ in range(2):
                    await asyncio.to_thread(evm.trade)
                await follower.until_head(rpc)
                assert follower.reserves() == held(await found(evm, rpc))
            first.cut()
            second.cut()
            await asyncio.to_thread(evm.trade)
            await follower.until_head(rpc)
            assert follower.kinds == [Reset] + 9 * [NewBlock]
            assert sum(each.calls for each in several.health()) > 0

    asyncio.run(story())


def test_pending_transactions_are_told_before_they_are_mined(evm: DevNode) -> None:
    async def story() -> None:
        async with Rpc(evm.ws, chain_id=evm.chain_id) as rpc:
            collector = PendingCollector(rpc)
            following_pool = asyncio.ensure_future(anext(collector.events()))
            await asyncio.to_thread(evm.rpc.call, "evm_setAutomine", False)
            try:
                bank, sent = evm.deployment.bank, None
                await asyncio.to_thread(evm.rpc.call, "anvil_impersonateAccount", bank)
                async with asyncio.timeout(PATIENCE_SECONDS):
                    # The subscription may come after the first of them.
                    while not following_pool.done():
                        call = {"from": bank, "to": bank, "value": "0x7"}
                        sent = await asyncio.to_thread(evm.rpc.call, "eth_sendTransaction", call)
                        await asyncio.sleep(0.1)
                told = following_pool.result()
                assert (encode(told.sender), told.value_wei, told.to) == (bank.lower(), 7, raw(bank))
                assert sent is not None
            finally:
                await asyncio.to_thread(evm.rpc.call, "evm_setAutomine", True)
                await asyncio.to_thread(evm.mine)

    asyncio.run(story())


def test_a_subscription_survives_a_cut_connection(evm: DevNode) -> None:
    async def story() -> None:
        port = int(evm.ws.rpartition(":")[2].strip("/"))
        async with (
            proxy(port) as wire,
            Rpc(f"ws://127.0.0.1:{wire.port}", chain_id=evm.chain_id) as rpc,
            rpc.subscribe("newHeads") as heads,
        ):
            for _ in range(2):
                async with asyncio.timeout(PATIENCE_SECONDS):
                    assert isinstance(await heads.next(), Gap)
                    await asyncio.to_thread(evm.mine)
                    assert not isinstance(await heads.next(), Gap)
                wire.cut()

    asyncio.run(story())


def test_a_node_of_another_chain_is_refused(evm: DevNode) -> None:
    async def story() -> None:
        async with Rpc(evm.ws, chain_id=evm.chain_id + 1) as rpc:
            with pytest.raises(WrongChainError, match=f"is a node of chain {evm.chain_id}"):
                await rpc.call("eth_blockNumber")

    asyncio.run(story())


def test_sized_cycles_give_what_the_router_says(evm: DevNode) -> None:
    router = next(made.router for made in evm.deployment.factories if made.version == 2)

    async def story() -> None:
        async with Rpc(evm.ws, chain_id=evm.chain_id) as rpc:
            block = await head_of(rpc)
            state = MarketState(block, await discover(rpc, factories(evm), tokens(evm), block))
            index = CycleIndex(state.pools().values(), [raw(evm.deployment.wrapped_native)])
            profitable = screen(index.all(), state)
            assert profitable
            for cycle in profitable:
                sized = size_exact(cycle, state)
                legs = legs_of(cycle, state)
                held_after = amounts(legs, sized.amount_in)
                for leg, paid, expected in zip(legs, held_after, held_after[1:], strict=False):
                    assert isinstance(leg, Leg)
                    call = encode_call(GET_AMOUNT_OUT, paid, leg.reserve_in, leg.reserve_out)
                    answer = await rpc.call("eth_call", [{"to": router, "data": encode(call)}, "latest"])
                    assert decode_uint(data(answer)) == expected
                assert held_after[-1] == sized.amount_out

    asyncio.run(story())
