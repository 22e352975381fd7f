"""A node that does as the test says, misbehaviour included, over a real WebSocket."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

CHAIN_ID = 31337


class RefusalError(Exception):
    """An error that the node answers with."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Node:
    """Answers eth_chainId, eth_subscribe and eth_unsubscribe, and what `answers` has: values, or functions of the parameters."""

    def __init__(self) -> None:
        self.chain_id = CHAIN_ID
        self.answers: dict[str, Any] = {}
        self.calls: list[tuple[str, list[Any]]] = []
        self.connections: list[ServerConnection] = []
        self.connected = 0
        # Takes over a whole message: returns what is sent back, as it is.
        self.raw: Callable[[bytes], bytes | str | None] | None = None
        self._server: Server | None = None
        self._port = 0

    @property
    def url(self) -> str:
        return f"ws://user:hidden@127.0.0.1:{self._port}/secret-path"

    async def start(self) -> None:
        self._server = await serve(self._serve, "127.0.0.1", self._port)
        self._port = next(iter(self._server.sockets)).getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def drop(self) -> None:
        """Cut every connection without a word, as a killed process does."""
        for connection in self.connections[:]:
            connection.transport.abort()
        await asyncio.sleep(0)

    async def notify(self, result: object) -> None:
        parameters = {"subscription": "0x1", "result": result}
        await self.send(json.dumps({"jsonrpc": "2.0", "method": "eth_subscription", "params": parameters}))

    async def send(self, message: bytes | str) -> None:
        for connection in self.connections[:]:
            with suppress(ConnectionClosed):
                await connection.send(message)

    async def until_subscribed(self, times: int = 1) -> None:
        for _ in range(2000):
            if sum(method == "eth_subscribe" for method, _ in self.calls) >= times:
                return
            await asyncio.sleep(0.005)
        raise TimeoutError("nobody subscribes")

    async def _serve(self, connection: ServerConnection) -> None:
        self.connections.append(connection)
        self.connected += 1
        try:
            async for message in connection:
                await self._reply(connection, message.encode() if isinstance(message, str) else message)
        except ConnectionClosed:
            # The client went away, or the test cut it off.
            return
        finally:
            self.connections.remove(connection)

    async def _reply(self, connection: ServerConnection, message: bytes) -> None:
        asked = json.loads(message)
        if self.raw is not None and b"eth_chainId" not in message:
            answer = self.raw(message)
            if answer is not None:
                await connection.send(answer)
            return
        if isinstance(asked, list):
            # Answers of a batch may come in any order.
            answers = [await self._answer(one) for one in reversed(asked)]
            await connection.send(json.dumps([one for one in answers if one is not None]))
        elif (one := await self._answer(asked)) is not None:
            await connection.send(json.dumps(one))

    async def _answer(self, asked: dict[str, Any]) -> dict[str, Any] | None:
        method, params = asked["method"], asked["params"]
        self.calls.append((method, params))
        built_in = {"eth_chainId": hex(self.chain_id), "eth_subscribe": "0x1", "eth_unsubscribe": True}
        answer = {**built_in, **self.answers}.get(method, RefusalError(-32601, f"no method {method}"))
        if callable(answer):
            answer = answer(*params)
        if isinstance(answer, Awaitable):
            answer = await answer
        head = {"jsonrpc": "2.0", "id": asked["id"]}
        if answer is Ellipsis:
            return None
        if isinstance(answer, RefusalError):
            return {**head, "error": {"code": answer.code, "message": str(answer), "data": "0x08c379a0"}}
        return {**head, "result": answer}


@asynccontextmanager
async def running() -> AsyncIterator[Node]:
    node = Node()
    await node.start()
    try:
        yield node
    finally:
        await node.stop()
