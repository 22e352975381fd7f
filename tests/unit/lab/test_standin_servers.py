"""A stand-in's listeners, asked over loopback as a client, a scanner and a mistaken role would."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from lab.standins.client import token
from lab.standins.client.evm import Evm, Faults
from lab.standins.client.execution import MAX_BODY, Execution
from lab.standins.client.plan import Api, Plan

SECRET = b"s" * 32
Client = TestClient[web.Request, web.Application]


@pytest.fixture
def told(tmp_path: Path) -> Callable[..., None]:
    """What a test tells the stand-in to do wrong; before its first call."""

    def tell(**faults: Any) -> None:
        (tmp_path / "erigon-1.json").write_text(json.dumps(faults))

    return tell


@pytest.fixture
def ask(tmp_path: Path) -> Callable[[Callable[[Client], Awaitable[Any]]], Any]:
    """Run a conversation with a stand-in of Erigon before a chain whose head is block 16."""

    def run(conversation: Callable[[Client], Awaitable[Any]], *, engine: bool = False) -> Any:
        (tmp_path / "jwt").write_text(SECRET.hex())
        api = Api(("127.0.0.1", 1), frozenset({"eth", "net", "engine"}), tmp_path / "jwt" if engine else None)

        async def talk() -> Any:
            async with TestServer(chain()) as behind:
                evm = Evm(str(behind.make_url("/")))
                plan = Plan(program="erigon", chain_id=1, data=tmp_path, apis=(api,))
                stand_in = Execution(plan, evm, Faults("erigon", 1, "1.0", tmp_path), "1.0")
                async with TestClient(TestServer(stand_in.application(api))) as client:
                    try:
                        return await conversation(client)
                    finally:
                        await evm.close()

        return asyncio.run(talk())

    return run


def chain() -> web.Application:
    """As much of a chain as a test of its front needs."""

    async def answer(request: web.Request) -> web.Response:
        call = await request.json()
        results = {"eth_blockNumber": "0x10", "eth_chainId": "0x1"}
        return web.json_response({"jsonrpc": "2.0", "id": call["id"], "result": results.get(call["method"])})

    app = web.Application()
    app.router.add_post("/", answer)
    return app


def call(method: str, identity: Any = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": identity, "method": method, "params": []}


def posted(body: Any) -> Callable[[Client], Awaitable[Any]]:
    async def conversation(client: Client) -> Any:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with client.post("/", data=data) as answer:
            return json.loads(await answer.read())

    return conversation


def test_calls_go_on_to_the_chain(ask: Any) -> None:
    assert ask(posted(call("eth_blockNumber", "a"))) == {"jsonrpc": "2.0", "id": "a", "result": "0x10"}


@pytest.mark.parametrize(
    "method", ["debug_traceCall", "admin_peers", "personal_sign", "evm_mine", "anvil_setBalance", "", "eth"]
)
def test_only_namespaces_that_were_switched_on_answer(ask: Any, method: str) -> None:
    answer = ask(posted(call(method)))
    if method == "eth":
        assert answer["result"] is None
    else:
        assert answer["error"]["code"] == -32601


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"null", b"[]", b"7", b'"eth_chainId"'])
def test_what_is_no_call_gets_an_error(ask: Any, body: bytes) -> None:
    assert ask(posted(body))["error"]["code"] in (-32700, -32600)


def test_a_batch_keeps_its_order_around_junk(ask: Any) -> None:
    answers = ask(posted([call("eth_chainId", 7), None, 3, call("debug_x", 8), call("eth_blockNumber", 9)]))
    assert [answer.get("result") or answer["error"]["code"] for answer in answers] == [
        "0x1",
        -32600,
        -32600,
        -32601,
        "0x10",
    ]
    assert [answer["id"] for answer in answers] == [7, None, None, 8, 9]


def test_a_body_over_the_limit_is_refused(ask: Any) -> None:
    async def conversation(client: Client) -> int:
        async with client.post("/", data=b"[" + b" " * MAX_BODY + b"]") as answer:
            return answer.status

    assert ask(conversation) == 413


def test_the_engine_wants_a_token(ask: Any) -> None:
    async def conversation(client: Client) -> list[int]:
        codes = []
        for headers in ({}, {"Authorization": "Bearer x.y.z"}, {"Authorization": f"Bearer {token.made(SECRET)}"}):
            async with client.post("/", json=call("engine_exchangeCapabilities"), headers=headers) as answer:
                codes.append(answer.status)
        return codes

    assert ask(conversation, engine=True) == [401, 401, 200]


@pytest.mark.parametrize(
    ("faults", "method", "result"),
    [
        ({"chain_id": 5}, "eth_chainId", "0x5"),
        ({"lag_blocks": 6}, "eth_blockNumber", "0xa"),
        ({"stall": True}, "eth_blockNumber", "0x10"),
        ({"lag_blocks": 99}, "eth_blockNumber", "0x0"),
    ],
)
def test_faults_show(ask: Any, told: Any, faults: dict[str, Any], method: str, result: str) -> None:
    told(**faults)
    assert ask(posted(call(method)))["result"] == result


def test_faults_of_another_version_do_not_show(ask: Any, told: Any) -> None:
    told(chain_id=5, only_version="2.0")
    assert ask(posted(call("eth_chainId")))["result"] == "0x1"
    told(chain_id=5, only_version="1.0")
    assert ask(posted(call("eth_chainId")))["result"] == "0x5"


def test_a_corrupt_answer_is_no_json(ask: Any, told: Any) -> None:
    told(corrupt=True)
    with pytest.raises(ValueError, match="Unterminated"):
        ask(posted(call("eth_blockNumber")))
