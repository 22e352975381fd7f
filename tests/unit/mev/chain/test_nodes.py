"""Several nodes of one chain: the best is asked, the slow are hedged, the late and the lying cost nothing."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mev.chain.abi import SYNC
from mev.chain.collectors import BlockCollector, NewBlock, Reorg, Reset
from mev.chain.health import BreakerState
from mev.chain.rpc import DisputedError, Offence, Rpc, RpcError, RpcNotSentError, RpcUnavailableError, WrongChainError
from mev.domain import Block
from structlog.testing import capture_logs

from tests.unit.mev.chain.node import CHAIN_ID, HttpNode, Node, RefusalError, running
from tests.unit.mev.chain.test_collectors import Chain, Follower, header

WATCH_SECONDS = 0.05


async def until(condition: Callable[[], object]) -> None:
    for _ in range(12_000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise TimeoutError("it does not come true")


def asked(node: Node, method: str) -> int:
    return sum(called == method for called, _ in node.calls)


def at_head(node: Node, number: int, timestamp: int | None = None) -> None:
    when = int(time.time()) if timestamp is None else timestamp
    node.answers["eth_getBlockByNumber"] = header(Block(number, number.to_bytes(32, "big"), bytes(32), when, 7))


@asynccontextmanager
async def pool(*nodes: Node, chain_id: int = CHAIN_ID, **options: Any) -> AsyncIterator[Rpc]:
    async with AsyncExitStack() as stack:
        for node in nodes:
            await stack.enter_async_context(running(node))
        given_options = {"watch_seconds": WATCH_SECONDS, "quarantine_seconds": 0.1, "timeout_seconds": 5, **options}
        yield await stack.enter_async_context(Rpc([node.url for node in nodes], chain_id=chain_id, **given_options))


def test_a_node_that_is_away_costs_no_safe_call() -> None:
    async def story() -> None:
        first, second = Node(), Node()
        for node in (first, second):
            at_head(node, 1)
            node.answers["eth_blockNumber"] = "0x1"
        async with pool(first, second) as rpc:
            assert await rpc.call("eth_blockNumber") == "0x1"
            for node in (first, second):
                await node.stop()
                for _ in range(20):
                    assert await rpc.call("eth_blockNumber") == "0x1"
                await node.start()
                await until(lambda: all(each.state is BreakerState.CLOSED for each in rpc.health()))
            await first.stop()
            await second.stop()
            with pytest.raises(RpcUnavailableError):
                await rpc.call("eth_blockNumber")

    asyncio.run(story())


def test_what_is_not_safe_to_repeat_goes_to_one_node_once() -> None:
    async def story() -> None:
        first, second = Node(), Node()
        for node in (first, second):
            at_head(node, 1)
            node.answers["eth_sendRawTransaction"] = ...
        async with pool(first, second) as rpc:
            with pytest.raises(RpcUnavailableError):
                await rpc.call("eth_sendRawTransaction", ["0x00"], timeout_seconds=0.5)
            with pytest.raises(RpcUnavailableError):
                await rpc.batch([("eth_blockNumber", []), ("eth_sendRawTransaction", ["0x01"])], timeout_seconds=0.5)
            assert asked(first, "eth_sendRawTransaction") + asked(second, "eth_sendRawTransaction") == 2

    asyncio.run(story())


def test_what_was_never_sent_may_go_to_another_node() -> None:
    async def story() -> None:
        first, second = Node(), Node()
        at_head(second, 1)
        second.answers["eth_sendRawTransaction"] = "0xaa"
        async with running(first), pool(second) as _:
            url = first.url
            await first.stop()
            async with Rpc([url, second.url], chain_id=CHAIN_ID, watch_seconds=WATCH_SECONDS) as rpc:
                assert await rpc.call("eth_sendRawTransaction", ["0x00"]) == "0xaa"
            async with Rpc(url, chain_id=CHAIN_ID) as rpc:
                with pytest.raises(RpcNotSentError):
                    await rpc.call("eth_sendRawTransaction", ["0x00"])

    asyncio.run(story())


def test_a_slow_answer_is_asked_of_a_second_node_and_the_loser_is_cancelled() -> None:
    async def story() -> None:
        first, second = Node(), Node()
        slow, silent = False, 0

        def balance(*_: object) -> object:
            nonlocal silent
            if not slow:
                return "0x1"
            # Whoever is asked first has no answer.
            silent += 1
            return ... if silent == 1 else "0x2"

        for node in (first, second):
            at_head(node, 1)
            node.answers["eth_getBalance"] = balance
        async with pool(first, second) as rpc:
            for _ in range(40):
                await rpc.call("eth_getBalance", ["0x", "latest"])
            slow = True
            assert await rpc.call("eth_getBalance", ["0x", "latest"]) == "0x2"
            # What the watch asks is all that may be open.
            await until(lambda: all(len(end_point._pending) <= 2 for end_point in rpc._end_points))
            assert sum(each.hedges for each in rpc.health()) >= 1
            # Refusals are answers, and a slow pool is not asked twice as much for ever.
            for node in (first, second):
                node.answers["eth_getBalance"] = ...
            before = asked(first, "eth_getBalance") + asked(second, "eth_getBalance")
            for _ in range(20):
                with pytest.raises(RpcUnavailableError):
                    await rpc.call("eth_getBalance", ["0x", "latest"], timeout_seconds=0.02)
            assert asked(first, "eth_getBalance") + asked(second, "eth_getBalance") - before <= 20 + 12

    asyncio.run(story())


def test_a_node_that_cannot_is_passed_over_and_one_that_refuses_is_heard() -> None:
    async def story() -> None:
        first, second = Node(), Node()
        for node in (first, second):
            at_head(node, 1)
            node.answers["eth_call"] = RefusalError(3, "execution reverted")
            node.answers["eth_getCode"] = RefusalError(-32005, "limit exceeded")
        async with pool(first, second) as rpc:
            with pytest.raises(RpcError, match="execution reverted"):
                await rpc.call("eth_call", [])
            assert asked(first, "eth_call") + asked(second, "eth_call") == 1
            with pytest.raises(RpcError, match="limit exceeded"):
                await rpc.call("eth_getCode", [])
            second.answers["eth_getCode"] = "0x60"
            assert await rpc.call("eth_getCode", []) == "0x60"

    asyncio.run(story())


def test_the_node_at_the_head_is_asked() -> None:
    async def story() -> None:
        late, near = Node(), Node()
        at_head(late, 90)
        at_head(near, 100)
        for name, node in (("late", late), ("near", near)):
            node.answers["eth_call"] = name
        async with pool(late, near) as rpc:
            await until(lambda: [each.lag_blocks for each in rpc.health()] == [10, 0])
            assert [await rpc.call("eth_call", []) for _ in range(10)] == 10 * ["near"]
            at_head(late, 120)
            await until(lambda: [each.lag_blocks for each in rpc.health()] == [0, 20])
            assert [await rpc.call("eth_call", []) for _ in range(10)] == 10 * ["late"]

    asyncio.run(story())


def test_a_head_that_jumps_is_quarantined_and_never_told() -> None:
    async def story() -> None:
        honest, liar = Node(), Node()
        at_head(honest, 100)
        at_head(liar, 100)
        async with pool(liar, honest) as rpc:
            await until(lambda: [each.head for each in rpc.health()] == [100, 100])
            at_head(liar, 10**9)
            await until(lambda: rpc.health()[0].offences.get(Offence.HEAD_JUMP, 0) >= 1)
            assert "jumps to 1000000000" in rpc.health()[0].reason or rpc.health()[0].state is not BreakerState.OPEN
            for _ in range(10):
                assert int((await rpc.latest()).number, 16) == 100
            at_head(liar, 101)
            await until(lambda: rpc.health()[0].state is BreakerState.CLOSED and rpc.health()[0].head == 101)

    asyncio.run(story())


def test_a_node_of_another_chain_is_left_out_also_when_it_changes_later() -> None:
    async def story() -> None:
        wrong, right = Node(), HttpNode()
        wrong.chain_id = 1
        for node in (wrong, right):
            at_head(node, 1)
            node.answers["eth_blockNumber"] = hex(node.chain_id)
        async with pool(wrong, right) as rpc:
            for _ in range(20):
                assert await rpc.call("eth_blockNumber") == hex(CHAIN_ID)
            await until(lambda: rpc.health()[0].offences.get(Offence.WRONG_CHAIN))
            right.chain_id = 2
            await until(lambda: rpc.health()[1].offences.get(Offence.WRONG_CHAIN))
            with pytest.raises(WrongChainError):
                await rpc.call("eth_blockNumber")

    asyncio.run(story())


def test_a_wrong_id_is_named_and_another_node_answers() -> None:
    async def story() -> None:
        liar, honest = Node(), Node()
        for node in (liar, honest):
            at_head(node, 1)
            node.answers["eth_blockNumber"] = "0x1"
        async with pool(liar, honest) as rpc:
            at_head(liar, 2)
            await until(lambda: [each.head for each in rpc.health()] == [2, 1])
            liar.raw = lambda _: '{"id": 123456789, "result": "0x9"}'
            for _ in range(5):
                assert await rpc.call("eth_blockNumber") == "0x1"
            await until(lambda: rpc.health()[0].offences.get(Offence.WRONG_ID))

    asyncio.run(story())


@asynccontextmanager
async def followed(rpc: Rpc) -> AsyncIterator[Follower]:
    follower = Follower()
    task = asyncio.create_task(follower.follow(BlockCollector(rpc, [SYNC], stall_seconds=0.2)))
    try:
        yield follower
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def test_a_change_of_node_loses_and_repeats_no_block() -> None:
    async def story() -> None:
        chain = Chain()
        nodes = [Node(), Node(), Node()]
        for node in nodes:
            chain.serve(node)
        async with pool(*nodes) as rpc, followed(rpc) as follower:
            await follower.until(chain.head)
            for turn in range(6):
                node = nodes[turn % 3]
                await node.stop()
                chain.mine(3)
                for each in nodes:
                    await each.notify(header(chain.head))
                await follower.until(chain.head)
                await node.start()
            assert [type(event) for event in follower.events] == [Reset] + 18 * [NewBlock]
            assert follower.believed == chain.blocks

    asyncio.run(story())


def test_a_late_node_that_takes_over_turns_nothing_back() -> None:
    async def story() -> None:
        chain = Chain()
        late, near = Node(), Node()
        for node in (late, near):
            chain.serve(node)
        behind = chain.head
        # It knows every block by its hash but says that the first one is the head.
        late.answers["eth_getBlockByNumber"] = lambda *_: header(behind)
        async with pool(late, near) as rpc, followed(rpc) as follower:
            await follower.until(chain.head)
            chain.mine(5)
            await near.notify(header(chain.head))
            await follower.until(chain.head)
            await near.stop()
            await asyncio.sleep(1)
            assert follower.believed == chain.blocks
            chain.mine(2)
            chain.serve(late)
            await follower.until(chain.head)
            assert [type(event) for event in follower.events] == [Reset] + 7 * [NewBlock]

    asyncio.run(story())


def test_without_a_node_that_tells_heads_are_asked_for() -> None:
    async def story() -> None:
        chain = Chain()
        told, polled = Node(), HttpNode()
        for node in (told, polled):
            chain.serve(node)
        async with pool(told, polled) as rpc, followed(rpc) as follower:
            await follower.until(chain.head)
            await told.stop()
            for _ in range(3):
                chain.mine()
                await follower.until(chain.head)
            assert Reorg not in {type(event) for event in follower.events}

    asyncio.run(story())


def test_a_subscription_that_one_node_refuses_goes_to_another() -> None:
    async def story() -> None:
        first, second = Node(), Node()
        at_head(first, 1)
        at_head(second, 1)
        first.answers["eth_subscribe"] = RefusalError(-32000, "notifications not supported")
        async with pool(first, second) as rpc, rpc.subscribe("newPendingTransactions") as pending:
            async with asyncio.timeout(60):
                await second.until_subscribed()
                await pending.next()
            second.answers["eth_subscribe"] = RefusalError(-32000, "not here either")
            await second.drop()

            async def read_on() -> None:
                async with asyncio.timeout(60):
                    while True:
                        await pending.next()

            with pytest.raises(RpcError, match=r"not supported|not here"):
                await read_on()

    asyncio.run(story())


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1), st.integers(1, 5)), max_size=8))
@settings(max_examples=15)
def test_any_history_over_two_nodes_is_followed_to_its_end(history: list[tuple[int, int, int]]) -> None:
    async def story() -> None:
        chain = Chain()
        nodes = [Node(), Node()]
        for node in nodes:
            chain.serve(node)
        async with pool(*nodes) as rpc, followed(rpc) as follower:
            await follower.until(chain.head)
            for what, which, count in history:
                match what:
                    case 0:
                        await nodes[which].drop()
                    case 1:
                        await nodes[which].stop()
                        await nodes[which].start()
                    case 2:
                        chain.turn_back(count)
                chain.mine(count)
                await nodes[which].notify(header(chain.head))
            await follower.until(chain.head)
        assert follower.believed == chain.blocks[-len(follower.believed) :]

    asyncio.run(story())


def number_of(answers: Sequence[Any]) -> str:
    return str(answers[0])


def test_what_most_nodes_say_holds_and_who_contradicts_them_is_left_alone() -> None:
    async def story() -> None:
        nodes = [Node(), Node(), Node()]
        for node, balance in zip(nodes, ("0x1", "0x2", "0x1"), strict=True):
            at_head(node, 1)
            node.answers["eth_getBalance"] = balance
        async with pool(*nodes, quarantine_seconds=5) as rpc:
            await until(lambda: all(each.state is BreakerState.CLOSED for each in rpc.health()))
            # Two that agree are enough, whether the third was heard or not.
            for _ in range(20):
                assert await rpc.agreed([("eth_getBalance", ("0x", "latest"))], number_of) == "0x1"
            await until(lambda: rpc.health()[1].offences == {"contradicted": 1})
            assert [each.state for each in rpc.health()].count(BreakerState.CLOSED) == 2

    asyncio.run(story())


def test_nodes_of_which_none_is_the_majority_are_named_and_counted() -> None:
    async def story() -> None:
        first, second = Node(), Node()
        for node, balance in ((first, "0x1"), (second, "0x2")):
            at_head(node, 1)
            node.answers["eth_getBalance"] = balance
        asked = [("eth_getBalance", ("0x", "latest"))]
        # Also right after the start, when the second one's connection is still being made.
        async with pool(first, second) as rpc:
            with pytest.raises(DisputedError, match=r"2 nodes say the same: .* says 0x[12]; .* says 0x[12]"):
                await rpc.agreed(asked, number_of)
            assert [each.offences for each in rpc.health()] == [{"contradicted": 1}] * 2
            # An answer that is none is no agreement either.
            second.answers["eth_getBalance"] = ...
            with pytest.raises(DisputedError, match=r"says 0x1; .* has no answer"):
                await rpc.agreed(asked, number_of, timeout_seconds=1)
            # Who is known to be away is not asked.
            await second.stop()
            await until(lambda: rpc.health()[1].state is not BreakerState.CLOSED)
            assert await rpc.agreed(asked, number_of) == "0x1"
            await first.stop()
            await until(lambda: not rpc.connected)
            with pytest.raises(RpcNotSentError):
                await rpc.agreed(asked, number_of)

    asyncio.run(story())


def twice(logs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [*logs, logs[0]]


def another_block_s(logs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**logs[0], "blockHash": "0x" + 32 * "99"}, *logs[1:]]


def removed(logs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**logs[0], "removed": True}, *logs[1:]]


@pytest.mark.parametrize("bent", [twice, another_block_s, removed])
def test_who_tells_of_logs_that_cannot_be_is_named_counted_and_left_alone(
    bent: Callable[[list[dict[str, Any]]], list[dict[str, Any]]],
) -> None:
    """For ever; the chain is followed through the other one, which tells of each block twice."""

    async def story() -> None:
        chain, liar, honest = Chain(), Node(), Node()
        for node in (liar, honest):
            chain.serve(node)
        logs = liar.answers["eth_getLogs"]

        async def late(wanted: dict[str, Any]) -> object:
            await asyncio.sleep(0.02)
            return logs(wanted)

        liar.answers["eth_getLogs"] = lambda wanted: bent(logs(wanted))
        honest.answers["eth_getLogs"] = late
        follower = Follower()
        with capture_logs() as said:
            async with pool(liar, honest, quarantine_seconds=60) as rpc:
                task = asyncio.create_task(follower.follow(BlockCollector(rpc, [SYNC], stall_seconds=0.1)))
                await follower.until(chain.head)
                # Who is asked is who was faster so far: sooner or later the liar.
                while chain.made < 6 or not rpc.health()[0].offences:
                    chain.mine()
                    for node in (liar, honest, honest):
                        await node.notify(header(chain.head))
                    await follower.until(chain.head)
                health = {each.node: each for each in rpc.health()}
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        assert [type(event) for event in follower.events] == [Reset] + chain.made * [NewBlock], (
            "no block is told of twice"
        )
        first, second = (health[node.url.split("@")[1].split("/")[0]] for node in (liar, honest))
        assert (first.offences, second.offences) == ({Offence.FALSE_LOGS: 1}, {})
        assert first.state is BreakerState.OPEN
        assert [each["node"] for each in said if each["event"] == "node left alone"] == [first.node]

    asyncio.run(asyncio.wait_for(story(), 120))
