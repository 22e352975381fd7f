"""JSON-RPC over a unix socket and over HTTP is what it is over a WebSocket; the stream is cut where texts end."""

import asyncio
import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mev.chain.rpc import Gap, HostileAnswerError, Offence, Rpc, RpcError, RpcUnavailableError
from mev.chain.transports import MAX_DEPTH, Splitter, name_of, transport_of

from tests.unit.mev.chain.node import CHAIN_ID, HttpNode, IpcNode, Node, RefusalError, running

KINDS = ["ipc", "http"]


def node_of(kind: str, directory: Path) -> Node:
    return IpcNode(directory) if kind == "ipc" else HttpNode()


async def ready(rpc: Rpc) -> None:
    for _ in range(12_000):
        if rpc.connected:
            return
        await asyncio.sleep(0.005)
    raise TimeoutError("no connection comes back")


@pytest.mark.parametrize("kind", KINDS)
def test_calls_and_batches_are_answered(kind: str, tmp_path: Path) -> None:
    async def story() -> None:
        async with running(node_of(kind, tmp_path)) as node, Rpc(node.url, chain_id=CHAIN_ID) as rpc:
            node.answers = {"double": lambda number: 2 * number, "no": RefusalError(3, "execution reverted")}
            assert await asyncio.gather(*(rpc.call("double", [n]) for n in range(20))) == [2 * n for n in range(20)]
            answers = await rpc.batch([("double", [1]), ("no", []), ("double", [3])])
            assert (answers[0], answers[2]) == (2, 6)
            assert isinstance(answers[1], RpcError)
            assert rpc.health()[0].transport == kind

    asyncio.run(story())


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_json_rpc_is_named_and_the_node_left_alone(kind: str, tmp_path: Path) -> None:
    hostile = {
        b'{"id": 2, "result": ' + b"[" * 150_000: Offence.TOO_DEEP,
        b'{"id": 999999, "result": 1}': Offence.WRONG_ID,
        b'"' + b"x" * 300_000 + b'"': Offence.TOO_LARGE,
        b'{"nothing": 1, "id": "x"}': Offence.NOT_JSON_RPC,
    }

    async def story() -> None:
        async with (
            running(node_of(kind, tmp_path)) as node,
            Rpc(node.url, chain_id=CHAIN_ID, max_message_bytes=200_000, quarantine_seconds=0.05) as rpc,
        ):
            node.answers = {"soon": 1}
            for count, (answer, offence) in enumerate(hostile.items(), start=1):
                node.raw = lambda _, answer=answer: answer
                with pytest.raises(RpcUnavailableError):
                    await rpc.call("soon")
                node.raw = None
                await ready(rpc)
                assert await rpc.call("soon") == 1
                assert rpc.health()[0].offences[offence] == 1
                assert sum(rpc.health()[0].offences.values()) == count

    asyncio.run(story())


@pytest.mark.parametrize("kind", KINDS)
def test_a_node_that_goes_away_comes_back(kind: str, tmp_path: Path) -> None:
    async def story() -> None:
        async with running(node_of(kind, tmp_path)) as node, Rpc(node.url, chain_id=CHAIN_ID) as rpc:
            node.answers = {"soon": 1}
            assert await rpc.call("soon") == 1
            await node.stop()
            with pytest.raises(RpcUnavailableError) as caught:
                await rpc.call("soon")
            assert "hidden" not in str(caught.value)
            assert "secret-path" not in str(caught.value)
            await node.start()
            await ready(rpc)
            assert await rpc.call("soon") == 1

    asyncio.run(story())


def test_http_that_refuses_costs_its_call_and_opens_the_breaker_when_it_goes_on() -> None:
    async def story() -> None:
        node = HttpNode()
        async with running(node), Rpc(node.url, chain_id=CHAIN_ID) as rpc:
            node.answers = {"soon": 1}
            await rpc.call("soon")
            node.status = 503
            reasons = set()
            for _ in range(8):
                with pytest.raises(RpcUnavailableError) as caught:
                    await rpc.call("soon")
                reasons.add(str(caught.value))
                await asyncio.sleep(0.01)
            assert any("HTTP status 503" in reason for reason in reasons)
            assert any("of its last" in reason for reason in reasons)
            node.status = 200
            await ready(rpc)
            assert await rpc.call("soon") == 1

    asyncio.run(story())


def test_a_unix_socket_carries_notifications(tmp_path: Path) -> None:
    async def story() -> None:
        async with (
            running(IpcNode(tmp_path)) as node,
            Rpc(node.url, chain_id=CHAIN_ID) as rpc,
            rpc.subscribe("newHeads") as heads,
        ):
            async with asyncio.timeout(60):
                assert isinstance(await heads.next(), Gap)
                await node.notify({"number": "0x1"})
                item = await heads.next()
            assert not isinstance(item, Gap)
            assert msgspec.json.decode(item) == {"number": "0x1"}

    asyncio.run(story())


json_values = st.recursive(
    st.none() | st.integers() | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(
    st.lists(st.one_of(st.dictionaries(st.text('{}[]"\\ab'), json_values), st.lists(json_values)), max_size=5),
    st.sampled_from(["", "\n", " \r\n"]),
    st.sampled_from([None, 1]),
    st.integers(1, 40),
)
@settings(max_examples=40)
def test_any_stream_is_cut_where_texts_end(texts: list[object], between: str, indent: int | None, size: int) -> None:
    stream = between.join(json.dumps(text, indent=indent, ensure_ascii=False) for text in texts).encode()
    splitter, found = Splitter(2**20), []
    for start in range(0, len(stream), size):
        found += splitter.feed(stream[start : start + size])
    assert [json.loads(text) for text in found] == texts


def test_a_stream_is_bounded() -> None:
    with pytest.raises(HostileAnswerError, match="too large"):
        Splitter(100).feed(b'{"x": "' + 200 * b"y")
    with pytest.raises(HostileAnswerError, match="too deeply"):
        Splitter(2**20).feed(b"[" * (MAX_DEPTH + 1))


def test_urls_are_named_without_what_is_secret_in_them() -> None:
    assert name_of("wss://user:key@node.example:443/secret?key=1") == "node.example:443"
    assert name_of("https://node.example/secret") == "node.example"
    assert name_of("ipc:///run/a%20b.ipc") == "/run/a b.ipc"
    with pytest.raises(ValueError, match="allowed: ws, wss, http, https, ipc"):
        transport_of("ftp://x")
