"""Whatever the chain, the node and the connection do, events fit on each other and lead to the chain's head."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mev.chain.abi import SYNC
from mev.chain.collectors import REMEMBERED_BLOCKS, BlockCollector, Event, NewBlock, Reorg, Reset
from mev.chain.rpc import Rpc, WrongChainError
from mev.chain.wire import encode
from mev.domain import Block

from tests.unit.mev.chain.node import CHAIN_ID, Node, RefusalError, running

POOL = b"\xaa" * 20


class Chain:
    """A chain that can be mined and turned back; each block has one log, which names it."""

    def __init__(self) -> None:
        self.blocks = [Block(100, b"\x01" * 32, bytes(32), 100, 7)]
        self.everything = {self.blocks[0].hash: self.blocks[0]}
        self.made = 0

    @property
    def head(self) -> Block:
        return self.blocks[-1]

    def mine(self, count: int = 1) -> None:
        for _ in range(count):
            self.made += 1
            name = self.made.to_bytes(32, "big")
            self.blocks.append(Block(self.head.number + 1, name, self.head.hash, self.head.timestamp + 1, 7))
            self.everything[name] = self.head

    def turn_back(self, count: int) -> None:
        del self.blocks[max(1, len(self.blocks) - count) :]

    def serve(self, node: Node) -> None:
        node.answers |= {
            "eth_getBlockByNumber": lambda number, _full: self.numbered(number),
            "eth_getBlockByHash": lambda name, _full: header(self.everything[bytes.fromhex(name[2:])]),
            "eth_getLogs": self.logs,
        }

    def numbered(self, number: str) -> object:
        if number == "latest":
            return header(self.head)
        place = int(number, 16) - self.blocks[0].number
        return header(self.blocks[place]) if 0 <= place < len(self.blocks) else None

    def logs(self, wanted: dict[str, Any]) -> object:
        assert wanted["topics"] == [[encode(SYNC)]]
        block = self.everything[bytes.fromhex(wanted["blockHash"][2:])]
        return [
            {
                "address": encode(POOL),
                "topics": [encode(SYNC)],
                "data": encode(block.hash + index.to_bytes(32, "big")),
                "blockHash": encode(block.hash),
                "logIndex": hex(index),
                "transactionHash": encode(bytes(32)),
            }
            for index in (1, 0)
        ]


def header(block: Block) -> dict[str, str]:
    return {
        "number": hex(block.number),
        "hash": encode(block.hash),
        "parentHash": encode(block.parent_hash),
        "timestamp": hex(block.timestamp),
        "baseFeePerGas": hex(block.base_fee_wei),
        "extraData": "0x",
    }


class Follower:
    """Believes the events, and complains where one does not fit."""

    def __init__(self) -> None:
        self.believed: list[Block] = []
        self.events: list[Event] = []
        self.moved = asyncio.Event()

    async def follow(self, collector: BlockCollector) -> None:
        async for event in collector.events():
            self.take(event)
            self.moved.set()

    def take(self, event: Event) -> None:
        self.events.append(event)
        match event:
            case Reset(block):
                self.believed = [block]
            case Reorg(ancestor):
                assert ancestor in self.believed[:-1], "a reorganisation goes back to a block that was told of"
                del self.believed[self.believed.index(ancestor) + 1 :]
            case NewBlock(block, logs, _):
                assert block.parent_hash == self.believed[-1].hash, "a block follows the last one"
                assert [log.index for log in logs] == [0, 1]
                assert all(log.data[:32] == block.hash for log in logs)
                self.believed.append(block)

    async def until(self, head: Block) -> None:
        async with asyncio.timeout(60):
            while not self.believed or self.believed[-1] != head:
                await self.moved.wait()
                self.moved.clear()


@asynccontextmanager
async def following(node: Node, stall_seconds: float = 30) -> AsyncIterator[Follower]:
    follower = Follower()
    async with Rpc(node.url, chain_id=CHAIN_ID) as rpc:
        task = asyncio.create_task(follower.follow(BlockCollector(rpc, [SYNC], stall_seconds=stall_seconds)))
        try:
            yield follower
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def test_blocks_come_one_by_one() -> None:
    async def story() -> None:
        chain = Chain()
        async with running() as node:
            chain.serve(node)
            async with following(node) as follower:
                await follower.until(chain.head)
                for _ in range(3):
                    chain.mine()
                    await node.notify(header(chain.head))
                    await follower.until(chain.head)
            assert [type(event) for event in follower.events] == [Reset, NewBlock, NewBlock, NewBlock]
            # The way of every day asks for nothing but the logs.
            assert [method for method, _ in node.calls].count("eth_getBlockByNumber") == 1

    asyncio.run(story())


def test_a_gap_is_filled() -> None:
    async def story() -> None:
        chain = Chain()
        async with running() as node:
            chain.serve(node)
            async with following(node) as follower:
                await follower.until(chain.head)
                await node.drop()
                chain.mine(5)
                await follower.until(chain.head)
            assert [type(event) for event in follower.events] == [Reset] + 5 * [NewBlock]
            # By their range, not one by one.
            assert "eth_getBlockByHash" not in {method for method, _ in node.calls}

    asyncio.run(story())


def test_of_heads_that_wait_only_the_newest_is_not_behind() -> None:
    async def story() -> None:
        chain = Chain()
        async with running() as node:
            chain.serve(node)
            async with following(node) as follower:
                await follower.until(chain.head)
                heads = []
                for _ in range(5):
                    chain.mine()
                    heads.append(header(chain.head))
                # The first one is being read while the others come in.
                for head in heads:
                    await node.notify(head)
                await follower.until(chain.head)
            told = [event for event in follower.events if isinstance(event, NewBlock)]
            assert [event.block for event in told] == chain.blocks[1:]
            assert not told[-1].behind
            assert any(event.behind for event in told)

    asyncio.run(story())


def test_a_node_that_was_away_for_long_begins_anew() -> None:
    async def story() -> None:
        chain = Chain()
        async with running() as node:
            chain.serve(node)
            async with following(node) as follower:
                await follower.until(chain.head)
                await node.drop()
                chain.mine(REMEMBERED_BLOCKS + 1)
                await follower.until(chain.head)
            assert [type(event) for event in follower.events] == [Reset, Reset]

    asyncio.run(story())


def test_a_reorganisation_goes_back_to_the_common_ancestor() -> None:
    async def story() -> None:
        chain = Chain()
        async with running() as node:
            chain.serve(node)
            async with following(node) as follower:
                await follower.until(chain.head)
                chain.mine(3)
                await node.notify(header(chain.head))
                await follower.until(chain.head)
                ancestor = chain.blocks[-3]
                chain.turn_back(2)
                chain.mine(3)
                await node.notify(header(chain.head))
                await follower.until(chain.head)
            assert Reorg(ancestor) in follower.events
            assert follower.believed == chain.blocks

    asyncio.run(story())


def test_a_subscription_that_falls_silent_is_helped() -> None:
    async def story() -> None:
        chain = Chain()
        async with running() as node:
            chain.serve(node)
            async with following(node, stall_seconds=0.1) as follower:
                await follower.until(chain.head)
                chain.mine(2)
                await follower.until(chain.head)

    asyncio.run(story())


def test_heads_that_cannot_be_read_are_only_hints() -> None:
    async def story() -> None:
        chain = Chain()
        async with running() as node:
            chain.serve(node)
            async with following(node) as follower:
                await follower.until(chain.head)
                for nonsense in (7, {}, {"number": "x"}, {**header(chain.head), "hash": "0x1"}, None):
                    chain.mine()
                    await node.notify(nonsense)
                    await follower.until(chain.head)

    asyncio.run(story())


@pytest.mark.parametrize(
    ("method", "lie"),
    [
        ("eth_getLogs", RefusalError(-32000, "unknown block")),
        ("eth_getLogs", None),
        ("eth_getLogs", [{"address": "0x"}]),
        ("eth_getLogs", {}),
        ("eth_getBlockByHash", None),
        ("eth_getBlockByHash", header(Block(7, b"\x99" * 32, b"\x98" * 32, 0, 0))),
        ("eth_getBlockByNumber", None),
        ("eth_getBlockByNumber", 7),
    ],
)
def test_a_node_that_lies_for_a_while_stops_nothing(method: str, lie: object) -> None:
    async def story() -> None:
        chain = Chain()
        async with running() as node:
            chain.serve(node)
            async with following(node, stall_seconds=0.1) as follower:
                await follower.until(chain.head)
                if method == "eth_getBlockByHash":
                    # A range that is not there leaves the way from child to parent.
                    node.answers["eth_getBlockByNumber"] = lambda number, _full: (
                        header(chain.head) if number == "latest" else None
                    )
                truth = node.answers[method]
                node.answers[method] = lie
                chain.mine(3)
                await node.notify(header(chain.head))
                await asyncio.sleep(0.3)
                assert follower.believed == chain.blocks[:1] or method == "eth_getLogs"
                node.answers[method] = truth
                await follower.until(chain.head)
            assert [type(event) for event in follower.events] == [Reset] + 3 * [NewBlock]

    asyncio.run(story())


def test_another_chain_ends_the_following() -> None:
    async def story() -> None:
        async with running() as node, Rpc(node.url, chain_id=1) as rpc:
            events = BlockCollector(rpc, [SYNC], stall_seconds=30).events()
            with pytest.raises(WrongChainError):
                await anext(events)

    asyncio.run(story())


class Step:
    """What may happen between two heads."""

    MINE, TURN, DROP, HINT_OLD, SHORTEN = range(5)


steps = st.lists(st.tuples(st.integers(0, 4), st.integers(1, 6)), max_size=8)


@given(steps)
@settings(max_examples=25)
def test_any_history_is_followed_to_its_end(history: list[tuple[int, int]]) -> None:
    async def story() -> None:
        chain = Chain()
        async with running() as node:
            chain.serve(node)
            async with following(node, stall_seconds=0.2) as follower:
                await follower.until(chain.head)
                for what, count in history:
                    if what in {Step.TURN, Step.SHORTEN}:
                        chain.turn_back(count)
                    if what == Step.HINT_OLD:
                        await node.notify(header(chain.blocks[max(0, len(chain.blocks) - count)]))
                    if what != Step.SHORTEN:
                        chain.mine(count)
                    if what == Step.DROP:
                        await node.drop()
                    await node.notify(header(chain.head))
                await follower.until(chain.head)
            assert follower.believed == chain.blocks[-len(follower.believed) :]

    asyncio.run(story())
