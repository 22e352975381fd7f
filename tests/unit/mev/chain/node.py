"""A node that does as the test says, misbehaviour included, over a real WebSocket, unix socket or HTTP server."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from aiohttp import web
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
        for _ in range(12_000):
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
        answer = await self.reply(message)
        if answer is not None:
            await connection.send(answer)

    async def reply(self, message: bytes) -> bytes | str | None:
        """What a message is answered with; None for nothing."""
        asked = json.loads(message)
        if self.raw is not None and b"eth_chainId" not in message:
            return self.raw(message)
        if isinstance(asked, list):
            # Answers of a batch may come in any order.
            answers = [await self._answer(one) for one in reversed(asked)]
            return json.dumps([one for one in answers if one is not None])
        one = await self._answer(asked)
        return None if one is None else json.dumps(one)

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


class HttpNode(Node):
    """The same over HTTP; `status` is what it answers with, and what it has no answer for it never answers."""

    def __init__(self) -> None:
        super().__init__()
        self.status = 200
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://user:hidden@127.0.0.1:{self._port}/secret-path"

    async def start(self) -> None:
        application = web.Application(client_max_size=2**26)
        application.router.add_post("/secret-path", self._post)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _post(self, request: web.Request) -> web.Response:
        answer = await self.reply(await request.read())
        if answer is None:
            await asyncio.sleep(3600)
        return web.Response(body=answer, status=self.status)


class IpcNode(Node):
    """The same over a unix socket."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._path = directory / "node.ipc"
        self._listener: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []

    @property
    def url(self) -> str:
        return f"ipc://{self._path}"

    async def start(self) -> None:
        self._listener = await asyncio.start_unix_server(self._talk, self._path, limit=2**26)

    async def stop(self) -> None:
        if self._listener is not None:
            self._listener.close()
        await self.drop()

    async def drop(self) -> None:
        for writer in self._writers[:]:
            writer.transport.abort()
        await asyncio.sleep(0)

    async def send(self, message: bytes | str) -> None:
        for writer in self._writers[:]:
            writer.write(message.encode() if isinstance(message, str) else message)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        self.connected += 1
        try:
            while line := await reader.readline():
                answer = await self.reply(line)
                if answer is not None:
                    await self.send(answer)
        except ConnectionError:
            return
        finally:
            self._writers.remove(writer)


@asynccontextmanager
async def running(node: Node | None = None) -> AsyncIterator[Node]:
    node = node or Node()
    await node.start()
    try:
        yield node
    finally:
        await node.stop()
