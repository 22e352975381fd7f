"""A strict local stand-in of Nitro's feed server: it serves what it is given in the documented form, over a real WebSocket."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

POSTER = "0xa4b000000000000000000073657175656e636572"


def batch(*messages: bytes) -> bytes:
    return b"\x03" + b"".join(len(message).to_bytes(8, "big") + message for message in messages)


def feed_message(number: int, l2_message: bytes, kind: int = 3) -> dict[str, object]:
    header = {
        "kind": kind,
        "sender": POSTER,
        "blockNumber": 20_000_000,
        "timestamp": 1_700_000_000,
        "requestId": None,
        "baseFeeL1": None,
    }
    body = {"header": header, "l2Msg": base64.b64encode(l2_message).decode()}
    return {
        "sequenceNumber": number,
        "message": {"message": body, "delayedMessagesRead": 1},
        "blockHash": "0x" + number.to_bytes(32, "big").hex(),
        "signature": None,
    }


class Feed:
    """Sends its backlog from the number that a client asks for, then what is added; refuses clients of another version."""

    def __init__(self) -> None:
        self.chain_id = 42161
        self.backlog: list[dict[str, object]] = []
        self.requested: list[str | None] = []
        self.refused = 0
        self._connections: list[ServerConnection] = []
        self._server: Server | None = None
        self._port = 0

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self._port}/feed"

    async def start(self) -> None:
        self._server = await serve(
            self._serve, "127.0.0.1", self._port, process_request=self._check, process_response=self._say
        )
        self._port = next(iter(self._server.sockets)).getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def add(self, message: dict[str, object], *, tell: bool = True) -> None:
        self.backlog.append(message)
        if tell:
            await self.send(json.dumps({"version": 1, "messages": [message]}))

    async def send(self, frame: bytes | str) -> None:
        for connection in self._connections[:]:
            with suppress(ConnectionClosed):
                await connection.send(frame)

    async def drop(self) -> None:
        for connection in self._connections[:]:
            connection.transport.abort()
        await asyncio.sleep(0)

    async def until_heard(self, times: int = 1) -> None:
        for _ in range(12_000):
            if len(self.requested) >= times and self._connections:
                return
            await asyncio.sleep(0.005)
        raise TimeoutError("nobody listens")

    def _check(self, connection: ServerConnection, request: Request) -> Response | None:
        if request.headers.get("Arbitrum-Feed-Client-Version") != "2":
            self.refused += 1
            return connection.respond(400, "client version missing or unknown\n")
        return None

    def _say(self, _connection: ServerConnection, _request: Request, response: Response) -> None:
        said: Headers = response.headers
        said["Arbitrum-Feed-Server-Version"] = "2"
        said["Arbitrum-Chain-Id"] = str(self.chain_id)

    async def _serve(self, connection: ServerConnection) -> None:
        asked = connection.request.headers.get("Arbitrum-Requested-Sequence-Number") if connection.request else None
        since = int(asked) if asked else 0
        kept = [message for message in self.backlog if int(str(message["sequenceNumber"])) >= since]
        await connection.send(json.dumps({"version": 1, "messages": kept}))
        self._connections.append(connection)
        self.requested.append(asked)
        try:
            await connection.wait_closed()
        finally:
            self._connections.remove(connection)


@asynccontextmanager
async def feeding() -> AsyncIterator[Feed]:
    feed = Feed()
    await feed.start()
    try:
        yield feed
    finally:
        await feed.stop()
