"""A node that lies: a relay before a real one that gives other answers than it got."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mev.chain.abi import keccak256
from mev.trading.execution import contract
from mev.trading.execution.receipt import TRANSFER
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve

from tests.integration.mev.conftest import raw, text, word
from tests.integration.mev.test_crash import MESSAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# What is answered instead: of the call's parameters and the honest answer ({"result": …} or {"error": …}); None is silence.
Lie = "Callable[[Any, dict[str, Any]], dict[str, Any] | None]"
GET_RESERVES = "0x0902f1ac"
SYNC = "0x1c411e9a96e071241c2f21f7726b17ae89e3cab4c78be50e062b03a9fffbbad1"


class Relay:
    """What one end point answers: with no `lies`, what its node does, `delay_seconds` later."""

    def __init__(self, node: str, delay_seconds: float = 0) -> None:
        self._node = node
        self._delay_seconds = delay_seconds
        self.url = ""
        self.lies: dict[str, Callable[[Any, dict[str, Any]], dict[str, Any] | None]] = {}
        self.told: Counter[str] = Counter()
        self.sent: list[str] = []
        # With the first transaction that it is sent it goes, and does not come back.
        self.dies_at_send = self.dead = False
        # Transactions are answered with their hash, and no node ever hears of them.
        self.swallows = False

    @contextmanager
    def running(self) -> Iterator[Relay]:
        with serve(self._relay, "127.0.0.1", 0, max_size=MESSAGE_BYTES, compression=None) as server:
            self.url = f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield self

    def _relay(self, engine: ServerConnection) -> None:
        asked: dict[int, tuple[str, Any]] = {}
        if self.dead:
            return
        with connect(self._node, max_size=MESSAGE_BYTES, compression=None) as node:

            def answers() -> None:
                try:
                    for message in node:
                        time.sleep(self._delay_seconds)
                        content = json.loads(message)
                        told = [
                            self._told(asked, each) for each in (content if isinstance(content, list) else [content])
                        ]
                        said = [each for each in told if each is not None]
                        if said:
                            engine.send(json.dumps(said if isinstance(content, list) else said[0]))
                except ConnectionClosed:
                    engine.close()

            threading.Thread(target=answers, daemon=True).start()
            try:
                for message in engine:
                    content = json.loads(message)
                    for each in content if isinstance(content, list) else [content]:
                        asked[each["id"]] = each["method"], each["params"]
                        if each["method"] == "eth_sendRawTransaction":
                            self.sent.append(each["params"][0])
                            self.dead = self.dies_at_send
                    if self.dead:
                        return
                    if self.swallows and isinstance(content, dict) and content["method"] == "eth_sendRawTransaction":
                        taken = {"jsonrpc": "2.0", "id": content["id"], "result": hash_of(content["params"][0])}
                        engine.send(json.dumps(taken))
                        continue
                    node.send(message)
            except ConnectionClosed:
                return

    def _told(self, asked: dict[int, tuple[str, Any]], message: dict[str, Any]) -> dict[str, Any] | None:
        if "id" in message:
            method, params = asked.pop(message["id"])
            said: dict[str, Any] = {key: each for key, each in message.items() if key in {"result", "error"}}
        else:
            method, params = "newHeads", None
            said = {"result": message["params"]["result"]}
        lie = self.lies.get(method)
        if lie is None:
            return message
        told = lie(params, said)
        if told != said:
            self.told[method] += 1
        if told is None:
            return None
        if method == "newHeads":
            return {**message, "params": {**message["params"], "result": told["result"]}}
        return {"jsonrpc": "2.0", "id": message["id"], **told}


def hash_of(transaction: str) -> str:
    return text(keccak256(raw(transaction)))


def wealth(pool: bytes, wrapped: bytes, executor: bytes, profit: int) -> dict[str, Any]:
    """Lies that agree with each other: a pair has twice as much of one token, and each cycle that uses it brings `profit`."""
    calls = (text(contract.EXECUTE), text(contract.EXECUTE_FLASH))
    transfer = {
        "address": text(wrapped),
        "topics": [text(TRANSFER), text(word(pool)), text(word(executor))],
        "data": text(word(profit)),
    }

    def doubled(data: str) -> str:
        return data[:2] + text(word(2 * int(data[2:66], 16)))[2:] + data[66:]

    def logs(_: Any, said: dict[str, Any]) -> dict[str, Any]:
        return {
            "result": [
                {**log, "data": doubled(log["data"])}
                if (log["address"], log["topics"][0]) == (text(pool), SYNC)
                else log
                for log in said["result"]
            ]
        }

    def call(params: Any, said: dict[str, Any]) -> dict[str, Any]:
        if params[0]["to"] == text(pool) and params[0]["data"] == GET_RESERVES:
            return {"result": doubled(said["result"])}
        return {"result": text(word(profit))} if params[0]["data"].startswith(calls) else said

    def simulate(_: Any, __: dict[str, Any]) -> dict[str, Any]:
        done = {"returnData": text(word(profit)), "status": "0x1", "gasUsed": "0x50000", "logs": [transfer]}
        return {"result": [{"calls": [done]}]}

    def estimate(_: Any, __: dict[str, Any]) -> dict[str, Any]:
        return {"result": "0x60000"}

    return {"eth_getLogs": logs, "eth_call": call, "eth_simulateV1": simulate, "eth_estimateGas": estimate}
