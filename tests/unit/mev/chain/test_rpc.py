"""The client against a node that answers, misbehaves, goes away and comes back."""

import asyncio
import json
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mev.chain.health import FIRST_RETRY_SECONDS
from mev.chain.rpc import (
    BATCH_CALLS,
    MAX_NOTIFICATION_BYTES,
    Gap,
    MalformedAnswerError,
    Rpc,
    RpcError,
    RpcTimeoutError,
    RpcUnavailableError,
    Subscription,
    WrongChainError,
)
from mev.chain.wire import Head

from tests.unit.mev.chain.node import CHAIN_ID, RefusalError, running


async def item_of(subscription: Subscription) -> object:
    async with asyncio.timeout(60):
        item = await subscription.next()
    return item if isinstance(item, Gap) else msgspec.json.decode(item)


async def reconnected(rpc: Rpc) -> None:
    for _ in range(12_000):
        if rpc.connected:
            return
        await asyncio.sleep(0.005)
    raise TimeoutError("no connection comes back")


def test_answers_find_their_calls() -> None:
    async def story() -> None:
        async with running() as node, Rpc(node.url, chain_id=CHAIN_ID) as rpc:

            async def slowly(number: int) -> int:
                await asyncio.sleep(0.05 if number == 0 else 0)
                return number

            node.answers = {"echo": slowly}
            assert await asyncio.gather(*(rpc.call("echo", [number]) for number in range(20))) == list(range(20))

    asyncio.run(story())


def test_batches_keep_their_order_and_their_refusals() -> None:
    async def story() -> None:
        async with running() as node, Rpc(node.url, chain_id=CHAIN_ID) as rpc:
            node.answers = {"double": lambda number: 2 * number, "no": RefusalError(3, "execution reverted")}
            count = 2 * BATCH_CALLS + 7
            calls: list[tuple[str, list[object]]] = [("double", [number]) for number in range(count)]
            calls[5] = ("no", [])
            answers = await rpc.batch(calls)
            assert isinstance(answers[5], RpcError)
            assert answers[:5] + answers[6:] == [2 * number for number in range(count) if number != 5]
            assert await rpc.batch([]) == []
            assert await rpc.batch([("double", [4])]) == [8]

    asyncio.run(story())


def test_a_refusal_carries_what_the_node_said() -> None:
    async def story() -> None:
        async with running() as node, Rpc(node.url, chain_id=CHAIN_ID) as rpc:
            node.answers = {"no": RefusalError(3, "execution reverted")}
            with pytest.raises(RpcError, match="execution reverted") as caught:
                await rpc.call("no")
            assert (caught.value.code, caught.value.data) == (3, "0x08c379a0")

    asyncio.run(story())


def test_null_is_an_answer() -> None:
    async def story() -> None:
        async with running() as node, Rpc(node.url) as rpc:
            node.answers = {"nothing": None, "head": {"number": 1}}
            assert await rpc.call("nothing") is None
            assert await rpc.call_as(Head, "nothing") is None
            with pytest.raises(MalformedAnswerError):
                await rpc.call_as(Head, "head")

    asyncio.run(story())


def test_a_late_answer_is_a_timeout_and_harms_nobody() -> None:
    async def story() -> None:
        async with running() as node, Rpc(node.url) as rpc:
            node.answers = {"never": ..., "soon": 1}
            with pytest.raises(RpcTimeoutError, match=r"never has no answer after 0\.1 s"):
                await rpc.call("never", timeout_seconds=0.1)
            await node.send('{"jsonrpc":"2.0","id":1,"result":"late"}')
            assert await rpc.call("soon") == 1

    asyncio.run(story())


def test_a_caller_that_gives_up_leaves_the_others_alone() -> None:
    async def story() -> None:
        async with running() as node, Rpc(node.url) as rpc:
            node.answers = {"never": ..., "soon": 1}
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await rpc.call("never")
            assert await rpc.call("soon") == 1

    asyncio.run(story())


def test_another_chain_is_refused() -> None:
    async def story() -> None:
        async with running() as node, Rpc(node.url, chain_id=1) as rpc:
            with pytest.raises(WrongChainError, match=f"chain {CHAIN_ID}: chain 1 is expected"):
                await rpc.call("eth_blockNumber")
            assert [method for method, _ in node.calls] == ["eth_chainId"]
            async with rpc.subscribe("newHeads") as heads:
                with pytest.raises(WrongChainError):
                    await item_of(heads)

    asyncio.run(story())


def test_no_node_is_said_at_once_and_without_the_url() -> None:
    async def story() -> None:
        async with running() as node:
            await node.stop()
            async with Rpc(node.url) as rpc:
                # Of a timeout it would say that there was no answer.
                with pytest.raises(RpcUnavailableError, match=r"127\.0\.0\.1:\d+: .*[Cc]onnect") as caught:
                    await rpc.call("eth_blockNumber", timeout_seconds=3600)
                assert "hidden" not in str(caught.value)
                assert "secret-path" not in str(caught.value)

    asyncio.run(story())


def test_a_lost_connection_fails_what_is_in_flight_and_comes_back() -> None:
    async def story() -> None:
        async with running() as node, Rpc(node.url, chain_id=CHAIN_ID) as rpc:
            node.answers = {"never": ..., "soon": 1}
            waiting = asyncio.create_task(rpc.call("never"))
            assert await rpc.call("soon") == 1
            await node.drop()
            with pytest.raises(RpcUnavailableError):
                await waiting
            await reconnected(rpc)
            assert await rpc.call("soon") == 1
            assert [method for method, _ in node.calls].count("never") == 1

    asyncio.run(story())


def test_a_subscription_survives_the_connection() -> None:
    async def story() -> None:
        async with running() as node, Rpc(node.url, chain_id=CHAIN_ID) as rpc, rpc.subscribe("newHeads") as heads:
            assert isinstance(await item_of(heads), Gap)
            await node.notify({"number": "0x1"})
            assert await item_of(heads) == {"number": "0x1"}
            await node.stop()
            await asyncio.sleep(0.05)
            await node.start()
            assert isinstance(await item_of(heads), Gap)
            await node.notify({"number": "0x9"})
            assert await item_of(heads) == {"number": "0x9"}
        assert ("eth_unsubscribe", ["0x1"]) in node.calls

    asyncio.run(story())


def test_a_subscription_may_begin_before_the_node() -> None:
    async def story() -> None:
        async with running() as node:
            await node.stop()
            async with Rpc(node.url, chain_id=CHAIN_ID) as rpc, rpc.subscribe("newHeads") as heads:
                await asyncio.sleep(0.1)
                await node.start()
                assert isinstance(await item_of(heads), Gap)

    asyncio.run(story())


def test_a_reader_that_is_too_slow_is_told_so() -> None:
    async def story() -> None:
        async with running() as node, Rpc(node.url) as rpc, rpc.subscribe("newHeads") as heads:
            assert isinstance(await item_of(heads), Gap)
            for number in range(3000):
                await node.notify(number)
            await rpc.call("eth_chainId")
            item = await item_of(heads)
            assert isinstance(item, Gap)
            assert "in time" in item.reason

    asyncio.run(story())


def test_a_refused_subscription_is_an_error() -> None:
    async def story() -> None:
        async with running() as node:
            node.answers = {"eth_subscribe": RefusalError(-32000, "notifications not supported")}
            async with Rpc(node.url) as rpc, rpc.subscribe("newHeads") as heads:
                with pytest.raises(RpcError, match="not supported"):
                    await item_of(heads)

    asyncio.run(story())


def test_a_message_that_is_too_large_ends_the_connection() -> None:
    async def story() -> None:
        async with running() as node, Rpc(node.url, max_message_bytes=10_000) as rpc:
            node.answers = {"large": "x" * 20_000, "soon": 1}
            with pytest.raises(RpcUnavailableError):
                await rpc.call("large")
            await reconnected(rpc)
            assert await rpc.call("soon") == 1

    asyncio.run(story())


def test_a_notification_that_is_too_large_ends_the_connection() -> None:
    async def story() -> None:
        async with running() as node, Rpc(node.url) as rpc, rpc.subscribe("newHeads") as heads:
            assert isinstance(await item_of(heads), Gap)
            await node.notify("x" * (MAX_NOTIFICATION_BYTES + 1))
            assert isinstance(await item_of(heads), Gap)
            assert node.connected == 2

    asyncio.run(story())


NOT_JSON_RPC: list[bytes | str] = [
    b"",
    b"\xff\xfe",
    "no json",
    "[" * 50_000,
    "null",
    "7",
    '"text"',
    "[7]",
    '{"id": "mine", "result": 1}',
    '{"id": 1.5, "result": 1}',
    '{"jsonrpc": "2.0", "error": {"code": -32700, "message": "parse error"}, "id": null}',
    '{"method": "eth_subscription", "params": 7}',
    '{"method": "eth_subscription", "params": {"subscription": 7, "result": 1}}',
]


@pytest.mark.parametrize("answer", NOT_JSON_RPC)
def test_what_is_no_json_rpc_ends_the_connection(answer: bytes | str) -> None:
    async def story() -> None:
        async with running() as node, Rpc(node.url, quarantine_seconds=0.02) as rpc:
            node.answers = {"soon": 1}
            node.raw = lambda _: answer
            with pytest.raises(RpcUnavailableError):
                await rpc.call("soon")
            node.raw = None
            await reconnected(rpc)
            assert await rpc.call("soon") == 1

    asyncio.run(story())


def bent(answer: dict[str, Any]) -> Any:
    def reply(message: bytes) -> str:
        return json.dumps({"id": json.loads(message)["id"], **answer})

    return reply


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        ({}, MalformedAnswerError, "without result"),
        ({"error": 7}, RpcError, "cannot be read"),
        ({"error": {"code": "x"}}, RpcError, "cannot be read"),
        ({"error": {"code": 1, "message": "m" * 10_000}}, RpcError, "^m{400}$"),
    ],
)
def test_a_bent_answer_fails_its_own_call(answer: dict[str, Any], kind: type[Exception], said: str) -> None:
    async def story() -> None:
        async with running() as node, Rpc(node.url) as rpc:
            node.answers = {"soon": 1}
            node.raw = bent(answer)
            with pytest.raises(kind, match=said):
                await rpc.call("soon")
            node.raw = None
            assert await rpc.call("soon") == 1
            assert node.connected == 1

    asyncio.run(story())


@given(
    st.lists(
        st.one_of(st.binary(max_size=60), st.text(max_size=60), st.sampled_from(NOT_JSON_RPC)), min_size=1, max_size=5
    )
)
@settings(max_examples=25)
def test_hostile_bytes_raise_nothing_but_our_own(messages: list[bytes | str]) -> None:
    async def story() -> None:
        async with (
            running() as node,
            Rpc(node.url, quarantine_seconds=0.02) as rpc,
            rpc.subscribe("newHeads"),
        ):
            await node.until_subscribed()
            for message in messages:
                await node.send(message)
            try:
                await rpc.call("eth_chainId")
            except RpcUnavailableError:
                await reconnected(rpc)
                assert await rpc.call("eth_chainId") == hex(CHAIN_ID)

    asyncio.run(story())


def test_nothing_is_asked_of_a_closed_client() -> None:
    async def story() -> None:
        async with running() as node:
            rpc = Rpc(node.url)
            with pytest.raises(RpcUnavailableError, match="not open"):
                await rpc.call("eth_chainId")
            async with rpc:
                await rpc.call("eth_chainId")
            with pytest.raises(RpcUnavailableError, match="closed"):
                await rpc.call("eth_chainId")
            assert not rpc.connected

    asyncio.run(story())


def test_a_node_that_accepts_and_drops_is_not_hammered() -> None:
    async def story() -> None:
        async with running() as node:
            loop, came = asyncio.get_running_loop(), list[float]()
            fifth = asyncio.Event()

            def drop() -> object:
                came.append(loop.time())
                if len(came) == 5:
                    fifth.set()
                return loop.create_task(node.drop())

            node.answers = {"eth_chainId": drop}
            async with Rpc(node.url, chain_id=CHAIN_ID):
                await fifth.wait()
            # Ever later: half of each pause is certain, the rest is drawn.
            least = [FIRST_RETRY_SECONDS * 2**turn / 2 for turn in range(3)]
            assert all(
                after - before >= pause for (before, after), pause in zip(pairwise(came[1:]), least, strict=True)
            )

    asyncio.run(story())
