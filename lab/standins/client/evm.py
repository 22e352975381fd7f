"""The chain that a stand-in follows: an anvil elsewhere on the lab's network; and the faults that tests ask for."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import aiohttp

CONFIG = Path("/etc/chain-standin/standin.json")
FAULTS = Path("/etc/chain-standin/faults")
TIMEOUT = aiohttp.ClientTimeout(total=20, connect=3)
FAULTS_READ_EVERY_SECONDS = 0.5


class EvmError(Exception):
    """The chain gave no usable answer."""


class Faults:
    """What a test has told this stand-in to do wrong: {"lag_blocks", "stall", "refuse_start", "corrupt", "chain_id", ...}.

    What stands under "only_version" holds for that version alone, so that an upgrade can go wrong and a return can succeed.
    """

    def __init__(self, program: str, chain_id: int, version: str, directory: Path = FAULTS) -> None:
        self._version = version
        self._path = directory / f"{program}-{chain_id}.json"
        self._read_at = 0.0
        self._told: dict[str, Any] = {}

    def get(self, name: str) -> Any:  # noqa: ANN401 - as varied as JSON
        """What was told under a name; None if nothing was."""
        now = time.monotonic()
        if now - self._read_at > FAULTS_READ_EVERY_SECONDS:
            self._read_at = now
            try:
                told = json.loads(self._path.read_text())
            except (OSError, ValueError):
                told = {}
            told = told if isinstance(told, dict) else {}
            self._told = told if told.get("only_version", self._version) == self._version else {}
        return self._told.get(name)


class Evm:
    """One chain's anvil, over kept-alive connections."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._session: aiohttp.ClientSession | None = None

    @property
    def session(self) -> aiohttp.ClientSession:
        """The connections; opened by the first use, inside the event loop."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=TIMEOUT, connector=aiohttp.TCPConnector(limit=64, keepalive_timeout=60)
            )
        return self._session

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def raw(self, body: bytes) -> bytes:
        """Hand a JSON-RPC body on as it is; EvmError where the chain does not answer."""
        try:
            async with self.session.post(self.url, data=body, headers={"Content-Type": "application/json"}) as answer:
                return await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            msg = f"stand-in: the chain at {self.url} does not answer: {error}"
            raise EvmError(msg) from error

    async def call(self, method: str, *params: Any) -> Any:  # noqa: ANN401 - as varied as JSON-RPC
        """One method's result."""
        return result_of(
            await self.raw(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode())
        )


def result_of(body: bytes) -> Any:  # noqa: ANN401 - as varied as JSON-RPC
    """The result in a JSON-RPC answer; EvmError where it holds none."""
    try:
        answer = json.loads(body)
    except ValueError as error:
        msg = "stand-in: the answer is not JSON"
        raise EvmError(msg) from error
    if not isinstance(answer, dict) or "error" in answer or "result" not in answer:
        msg = f"stand-in: {answer}"
        raise EvmError(msg)
    return answer["result"]


def url_of(chain_id: int, config: Path = CONFIG) -> str:
    """Where the lab runs a chain; SystemExit with one sentence where it does not say."""
    try:
        return str(json.loads(config.read_text())["evm"][str(chain_id)])
    except (OSError, ValueError, KeyError) as error:
        msg = f"stand-in: {config} does not name the EVM of chain {chain_id}: {error!r}"
        raise SystemExit(msg) from error
