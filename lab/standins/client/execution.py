"""What an execution client serves: JSON-RPC over HTTP and WebSocket by namespace, the Engine API, Erigon's health and beacon API."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
from aiohttp import web

from lab.standins.client import token
from lab.standins.client.evm import Evm, EvmError, Faults
from lab.standins.client.plan import Api, Plan

MAX_BODY = 5 * 1024 * 1024
PEERS = 25
# What a stand-in answers by itself, in the words of its client.
INVALID_REQUEST = -32600
METHOD_MISSING = -32601
NO_CHAIN = -32000


class Execution:
    """The JSON-RPC side of one stand-in."""

    def __init__(self, plan: Plan, evm: Evm, faults: Faults, version: str) -> None:
        self._plan = plan
        self._evm = evm
        self._faults = faults
        self._version = f"{plan.program}/v{version}/stand-in"
        self._stalled_at: int | None = None

    def application(self, api: Api) -> web.Application:
        """One listener."""
        app = web.Application(client_max_size=MAX_BODY)
        secret = token.secret_in(api.jwt) if api.jwt is not None else None

        async def entry(request: web.Request) -> web.StreamResponse:
            if secret is not None and not token.accepted(secret, request.headers.get("Authorization", "")):
                return web.Response(status=401, text="missing or invalid token")
            if request.headers.get("Upgrade", "").lower() == "websocket":
                return await self._websocket(request, api)
            if request.method == "GET":
                return await self._health(request) if request.path == "/health" else web.Response(text="")
            return web.Response(body=await self.answer(await request.read(), api), content_type="application/json")

        app.router.add_route("*", "/{path:.*}", entry)
        return app

    async def answer(self, body: bytes, api: Api) -> bytes:
        """One HTTP body's answer: a call or a batch."""
        if self._faults.get("corrupt"):
            return b'{"jsonrpc":"2.0","id":1,"result":"0x'
        try:
            calls = json.loads(body)
        except ValueError:
            return _error(None, -32700, "parse error")
        if isinstance(calls, dict):
            return await self._one(calls, body, api)
        if not isinstance(calls, list) or not calls:
            return _error(None, INVALID_REQUEST, "invalid request")
        parts = [await self._one(call, json.dumps(call).encode(), api) for call in calls]
        return b"[" + b",".join(parts) + b"]"

    async def _one(self, call: Any, body: bytes, api: Api) -> bytes:  # noqa: ANN401 - as varied as JSON
        if not isinstance(call, dict):
            return _error(None, INVALID_REQUEST, "invalid request")
        method, identity = str(call.get("method")), call.get("id")
        if method.partition("_")[0] not in api.namespaces:
            return _error(identity, METHOD_MISSING, f"the method {method} does not exist/is not available")
        try:
            own = await self._own(method, call.get("params") or [])
            if own is not None:
                return json.dumps({"jsonrpc": "2.0", "id": identity, "result": own[0]}).encode()
            return await self._evm.raw(body)
        except EvmError as error:
            return _error(identity, NO_CHAIN, str(error))

    async def _own(self, method: str, params: list[Any]) -> tuple[Any] | None:
        """What is not the chain's to answer: the client's name, the engine, the faults. None hands the call on."""
        told = self._faults.get
        if method == "web3_clientVersion":
            return (self._version,)
        if method.startswith("engine_"):
            return ([],) if method == "engine_exchangeCapabilities" else ({"payloadStatus": {"status": "SYNCING"}},)
        if method == "net_peerCount":
            return (hex(PEERS),)
        if method == "eth_chainId" and told("chain_id"):
            return (hex(told("chain_id")),)
        if method == "eth_syncing" and told("syncing"):
            return ({"startingBlock": "0x0", "currentBlock": "0x1", "highestBlock": "0xffffff"},)
        if told("stall") or told("lag_blocks"):
            if method == "eth_blockNumber":
                return (hex(await self._head()),)
            if method == "eth_getBlockByNumber" and params[:1] == ["latest"]:
                return (await self._evm.call(method, hex(await self._head()), *params[1:]),)
        else:
            self._stalled_at = None
        return None

    async def _head(self) -> int:
        head = int(await self._evm.call("eth_blockNumber"), 16)
        if self._faults.get("stall"):
            self._stalled_at = self._stalled_at if self._stalled_at is not None else head
            return self._stalled_at
        return max(0, head - int(self._faults.get("lag_blocks") or 0))

    async def _health(self, request: web.Request) -> web.Response:
        """Answer Erigon's GET /health with its X-ERIGON-HEALTHCHECK headers."""
        if self._plan.program != "erigon":
            return web.Response(status=404)
        found: dict[str, str] = {}
        for check in request.headers.getall("X-ERIGON-HEALTHCHECK", ["synced"]):
            found[check] = "HEALTHY" if await self._holds(check) else "ERROR"
        return web.json_response(found, status=200 if all(value == "HEALTHY" for value in found.values()) else 500)

    async def _holds(self, check: str) -> bool:
        try:
            if check.startswith("max_seconds_behind"):
                block = await self._evm.call("eth_getBlockByNumber", hex(await self._head()), False)
                return time.time() - int(block["timestamp"], 16) <= int(check.removeprefix("max_seconds_behind"))
        except (EvmError, ValueError, TypeError):
            return False
        if check.startswith("min_peer_count"):
            return int(check.removeprefix("min_peer_count") or 0) <= PEERS
        return check == "synced" and not self._faults.get("syncing")

    async def _websocket(self, request: web.Request, api: Api) -> web.StreamResponse:
        """Relay one client; calls pass the same namespaces, notifications come as the chain sends them."""
        ours = web.WebSocketResponse(max_msg_size=MAX_BODY, heartbeat=30)
        await ours.prepare(request)
        try:
            async with self._evm.session.ws_connect(self._evm.url, max_msg_size=0) as theirs:
                await _first_done(self._upwards(ours, theirs, api), _downwards(theirs, ours))
        except (aiohttp.ClientError, TimeoutError, OSError, ConnectionError):
            pass  # the chain went away; the client is told by the close
        await ours.close()
        return ours

    async def _upwards(self, ours: web.WebSocketResponse, theirs: aiohttp.ClientWebSocketResponse, api: Api) -> None:
        async for message in ours:
            if message.type not in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                return
            text = message.data if isinstance(message.data, str) else message.data.decode("utf-8", "replace")
            if "eth" in api.namespaces and _subscribes(text):
                await theirs.send_str(text)
            else:
                await ours.send_bytes(b"") if not text else await ours.send_str(
                    (await self.answer(text.encode(), api)).decode()
                )


def _subscribes(text: str) -> bool:
    """Whether a message is for the chain's own connection, which is where its notifications come from."""
    try:
        call = json.loads(text)
    except ValueError:
        return False
    return isinstance(call, dict) and call.get("method") in ("eth_subscribe", "eth_unsubscribe")


async def _downwards(theirs: aiohttp.ClientWebSocketResponse, ours: web.WebSocketResponse) -> None:
    async for message in theirs:
        if message.type is not aiohttp.WSMsgType.TEXT:
            return
        await ours.send_str(message.data)


async def _first_done(*ways: Awaitable[None]) -> None:
    tasks = [asyncio.ensure_future(way) for way in ways]
    _, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in rest:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def beacon_application(evm: Evm, version: str) -> web.Application:
    """Erigon's embedded beacon API, as much of it as a rollup asks for first."""

    async def slot() -> int:
        return int(await evm.call("eth_blockNumber"), 16)

    async def header(_: web.Request) -> web.Response:
        number = str(await slot())
        return web.json_response({"data": {"canonical": True, "header": {"message": {"slot": number}}}})

    async def syncing(_: web.Request) -> web.Response:
        number = str(await slot())
        return web.json_response(
            {"data": {"head_slot": number, "sync_distance": "0", "is_syncing": False, "is_optimistic": False}}
        )

    async def fixed(request: web.Request) -> web.Response:
        return web.json_response(answers[request.path])

    answers: dict[str, Any] = {
        "/eth/v1/node/version": {"data": {"version": f"Caplin/v{version}/stand-in"}},
        "/eth/v1/beacon/genesis": {"data": {"genesis_time": "1606824023", "genesis_fork_version": "0x00000000"}},
        "/eth/v1/config/spec": {"data": {"SECONDS_PER_SLOT": "12"}},
    }
    routes: dict[str, Callable[[web.Request], Awaitable[web.StreamResponse]]] = dict.fromkeys(answers, fixed)
    routes["/eth/v1/beacon/headers/head"] = header
    routes["/eth/v1/node/syncing"] = syncing
    routes["/eth/v1/node/health"] = _ok
    app = web.Application()
    for path, handler in routes.items():
        app.router.add_get(path, handler)
    return app


async def _ok(_: web.Request) -> web.Response:
    return web.Response()


def _error(identity: object, code: int, message: str) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": identity, "error": {"code": code, "message": message}}).encode()
