"""Pending transactions: whole or by hash, once each, whatever the node sends."""

import asyncio
from collections.abc import AsyncIterator

from mev.chain.collectors.pending import PendingCollector, PendingTransaction
from mev.chain.rpc import Rpc

from tests.unit.mev.chain.node import CHAIN_ID, Node, RefusalError, running


def wire(number: int, **changes: object) -> dict[str, object]:
    return {
        "hash": "0x" + number.to_bytes(32, "big").hex(),
        "from": "0x" + "aa" * 20,
        "to": "0x" + "bb" * 20,
        "nonce": hex(number),
        "value": "0x5",
        "gas": "0x5208",
        "gasPrice": "0x9",
        "input": "0x0102",
        "type": "0x0",
        **changes,
    }


async def subscribed(node: Node, rpc: Rpc, times: int = 1) -> None:
    """Wait until the client knows its subscription's id: what is told before belongs to nobody."""
    await node.until_subscribed(times)
    for _ in range(12_000):
        if any(end_point._by_id for end_point in rpc._end_points):
            return
        await asyncio.sleep(0.005)
    raise TimeoutError("it has no id")


async def take(events: AsyncIterator[PendingTransaction], count: int) -> list[int]:
    async with asyncio.timeout(60):
        return [(await anext(events)).nonce for _ in range(count)]


def test_whole_transactions_are_told_once_and_nonsense_is_counted() -> None:
    async def story() -> None:
        async with running() as node, Rpc(node.url, chain_id=CHAIN_ID) as rpc:
            collector = PendingCollector(rpc)
            following = asyncio.ensure_future(take(collector.events(), 3))
            await subscribed(node, rpc)
            assert node.calls[-1] == ("eth_subscribe", ["newPendingTransactions", True])
            for item in (
                wire(1),
                7,
                {},
                wire(1),
                wire(2, gas="x"),
                wire(3, to=None),
                None,
                wire(4, gasPrice=None),
                wire(5),
            ):
                await node.notify(item)
            assert await following == [1, 3, 5]
            assert collector.malformed == 5

    asyncio.run(story())


def test_hashes_are_fetched_and_what_is_gone_is_counted() -> None:
    def refuse(*params: object) -> object:
        return RefusalError(-32602, "too many arguments") if len(params) > 1 else "0x1"

    def found(name: str) -> object:
        number = int(name, 16)
        return {2: None, 3: wire(9), 4: wire(4, blockHash="0x" + "00" * 32)}.get(number, wire(number))

    async def story() -> None:
        async with running() as node, Rpc(node.url, chain_id=CHAIN_ID) as rpc:
            node.answers = {"eth_subscribe": refuse, "eth_getTransactionByHash": found}
            collector = PendingCollector(rpc)
            following = asyncio.ensure_future(take(collector.events(), 2))
            await subscribed(node, rpc, 2)
            for number in (1, 2, 1, 3, 4):
                await node.notify("0x" + number.to_bytes(32, "big").hex())
            await node.notify("0x12")
            await node.notify("0x" + (6).to_bytes(32, "big").hex())
            assert await following == [1, 6]
            assert (collector.vanished, collector.malformed) == (2, 2)

    asyncio.run(story())


def test_a_lost_connection_is_outlived() -> None:
    async def story() -> None:
        node = Node()
        async with running(node), Rpc(node.url, chain_id=CHAIN_ID) as rpc:
            following = asyncio.ensure_future(take(PendingCollector(rpc).events(), 2))
            await subscribed(node, rpc)
            await node.notify(wire(1))
            await node.drop()
            await subscribed(node, rpc, 2)
            await node.notify(wire(1))
            await node.notify(wire(2))
            assert await following == [1, 2]

    asyncio.run(story())
