"""What a consensus client serves: op-node's and base-consensus's RPC, Heimdall's status and REST."""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import UTC, datetime
from typing import Any

import aiohttp
from aiohttp import web

from lab.standins.client import token
from lab.standins.client.evm import Evm, EvmError, Faults, result_of
from lab.standins.client.plan import Plan

log = logging.getLogger(__name__)
POLL_SECONDS = 1.0


class WrongParentError(Exception):
    """The parent chain is another one than the client follows."""


class OpNode:
    """A rollup's consensus client: it has a head only while its execution client answers over the Engine API."""

    def __init__(self, plan: Plan, faults: Faults, version: str) -> None:
        self._plan = plan
        self._faults = faults
        self._version = version
        self._parent = Evm(plan.parent)
        self._engine = Evm(plan.engine.replace("ws://", "http://"))
        self._secret = token.secret_in(plan.jwt) if plan.jwt is not None else b""
        self._head: dict[str, Any] | None = None

    async def follow(self) -> None:
        """Check the parent's chain id, then follow the execution client; raises WrongParentError."""
        await self._meet_parent()
        said = ""
        while True:
            try:
                await self._ask_engine("engine_exchangeCapabilities", [])
                self._head = await self._ask_engine("eth_getBlockByNumber", "latest", False)
                said = ""
            except EvmError as error:
                self._head = None
                if str(error) != said:
                    said = str(error)
                    log.warning("the engine does not answer: %s", said)
            await asyncio.sleep(POLL_SECONDS)

    async def _meet_parent(self) -> None:
        while True:
            try:
                found = int(await self._parent.call("eth_chainId"), 16)
            except EvmError as error:
                log.warning("waiting for L1: %s", error)
                await asyncio.sleep(POLL_SECONDS)
                continue
            if found != self._plan.parent_id:
                msg = f"failed to verify L1 RPC: chain id {found}, expected {self._plan.parent_id}"
                raise WrongParentError(msg)
            return

    async def _ask_engine(self, method: str, *params: Any) -> Any:  # noqa: ANN401 - as varied as JSON-RPC
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        headers = {"Authorization": f"Bearer {token.made(self._secret)}"}
        try:
            async with self._engine.session.post(self._engine.url, json=body, headers=headers) as answer:
                if answer.status != 200:
                    msg = f"{self._plan.engine} answers {answer.status}"
                    raise EvmError(msg)
                return result_of(await answer.read())
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            msg = f"{self._plan.engine}: {error}"
            raise EvmError(msg) from error

    def application(self) -> web.Application:
        """The client's own RPC."""
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_post("/", self._rpc)
        return app

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text=self._version, status=200 if self._head else 500)

    async def _rpc(self, request: web.Request) -> web.Response:
        try:
            call = json.loads(await request.read())
            method, identity = call["method"], call.get("id")
        except (ValueError, KeyError, TypeError):
            return web.json_response(
                {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "invalid request"}}
            )
        results: dict[str, Any] = {
            "optimism_version": f"v{self._version}-stand-in",
            "optimism_rollupConfig": {
                "l1_chain_id": self._plan.parent_id,
                "l2_chain_id": self._faults.get("chain_id") or self._plan.chain_id,
            },
            "optimism_syncStatus": self._status(),
            "opp2p_self": {"peerID": "stand-in"},
            "opp2p_peerStats": {"connected": 8},
        }
        if method not in results:
            error = {"code": -32601, "message": f"the method {method} does not exist/is not available"}
            return web.json_response({"jsonrpc": "2.0", "id": identity, "error": error})
        return web.json_response({"jsonrpc": "2.0", "id": identity, "result": results[method]})

    def _status(self) -> dict[str, Any]:
        head = self._head or {"number": "0x0", "hash": "0x" + "00" * 32, "timestamp": "0x0"}
        number, stamp = int(head["number"], 16), int(head["timestamp"], 16)
        unsafe = {"hash": head["hash"], "number": number, "timestamp": stamp}
        return {
            "unsafe_l2": unsafe,
            "safe_l2": {**unsafe, "number": max(0, number - 10)},
            "finalized_l2": {**unsafe, "number": max(0, number - 60)},
        }


def heimdall_rpc(plan: Plan, evm: Evm, faults: Faults) -> web.Application:
    """Heimdall's CometBFT status; its height is the stand-in's chain's."""

    async def status(_: web.Request) -> web.Response:
        try:
            block = await evm.call("eth_getBlockByNumber", "latest", False)
        except EvmError as error:
            return web.json_response({"error": str(error)}, status=503)
        at = datetime.fromtimestamp(int(block["timestamp"], 16), UTC).strftime("%Y-%m-%dT%H:%M:%S.000000000Z")
        info = {
            "latest_block_height": str(int(block["number"], 16)),
            "latest_block_time": at,
            "catching_up": bool(faults.get("syncing")),
        }
        network = f"heimdallv2-{faults.get('chain_id') or plan.chain_id}"
        return web.json_response(
            {"jsonrpc": "2.0", "id": -1, "result": {"node_info": {"network": network}, "sync_info": info}}
        )

    app = web.Application()
    app.router.add_get("/status", status)
    return app


def heimdall_rest(version: str) -> web.Application:
    """Heimdall's REST server, as far as Bor looks at it."""

    async def info(_: web.Request) -> web.Response:
        return web.json_response({"application_version": {"app_name": "heimdalld", "version": f"{version}-stand-in"}})

    app = web.Application()
    app.router.add_get("/cosmos/base/tendermint/v1beta1/node_info", info)
    return app
