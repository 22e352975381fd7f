"""How JSON-RPC travels: WebSocket, a unix socket (IPC), or HTTP. Each is one connection that carries whole JSON texts, bounded.

A WebSocket and a unix socket bring answers and notifications in any order, so `send` returns None and `receive` brings
them. HTTP answers each message by itself: `send` returns the answer, and `receive` brings nothing for ever.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote, urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.frames import CloseCode

from mev.chain.errors import HostileAnswerError, Offence, RpcUnavailableError
from mev.chain.messages import reason_of

if TYPE_CHECKING:
    import aiohttp

MAX_DEPTH = 512
PING_SECONDS = 10.0
IPC_READ_BYTES = 256 * 1024
HTTP_READ_BYTES = 64 * 1024
HTTP_CONNECTIONS = 64
HTTP_OK = 200

WS = "ws"
IPC = "ipc"
HTTP = "http"
_TRANSPORTS = {"ws": WS, "wss": WS, "ipc": IPC, "http": HTTP, "https": HTTP}

_TOKEN = re.compile(rb'["\[\]{}]')
_IN_STRING = re.compile(rb'["\\]')


class Wire(Protocol):
    """One open connection."""

    async def send(self, message: bytes) -> bytes | None:
        """Send one JSON text; returns its answer where the transport ties the two together."""

    async def receive(self) -> bytes:
        """Wait for the next JSON text; raises RpcUnavailableError, or OSError, where there will be none."""


def transport_of(url: str) -> str:
    """Return "ws", "ipc" or "http"; raises ValueError for a URL of another scheme."""
    scheme = urlsplit(url).scheme
    if scheme not in _TRANSPORTS:
        raise ValueError(f"{scheme}:// is no transport; allowed: ws, wss, http, https, ipc")
    return _TRANSPORTS[scheme]


def name_of(url: str) -> str:
    """Return what messages call a node: host and port, or the socket's path; never credentials or a query."""
    parts = urlsplit(url)
    if parts.scheme == "ipc":
        return unquote(parts.path)
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)


@asynccontextmanager
async def open_wire(url: str, *, timeout_seconds: float, max_message_bytes: int) -> AsyncIterator[Wire]:
    """Connect; raises OSError or RpcUnavailableError where that fails, HostileAnswerError for what is too large."""
    match transport_of(url):
        case "ipc":
            async with _ipc(url, timeout_seconds, max_message_bytes) as wire:
                yield wire
        case "http":
            async with _http(url, timeout_seconds, max_message_bytes) as wire:
                yield wire
        case _:
            async with _web_socket(url, timeout_seconds, max_message_bytes) as wire:
                yield wire


@asynccontextmanager
async def _web_socket(url: str, timeout_seconds: float, max_message_bytes: int) -> AsyncIterator[Wire]:
    try:
        async with connect(
            url,
            open_timeout=timeout_seconds,
            close_timeout=1,
            ping_interval=PING_SECONDS,
            ping_timeout=PING_SECONDS,
            max_size=max_message_bytes,
            compression=None,
            proxy=None,
        ) as connection:
            yield WebSocketWire(connection)
    except (EOFError, WebSocketException) as error:
        raise RpcUnavailableError(reason_of(error)) from None


class WebSocketWire:
    """JSON texts as a WebSocket's messages."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    async def send(self, message: bytes) -> None:
        """Send one message."""
        try:
            await self._connection.send(message, text=True)
        except WebSocketException as error:
            raise RpcUnavailableError(reason_of(error)) from None

    async def receive(self) -> bytes:
        """Wait for the next message."""
        try:
            return await self._connection.recv(decode=False)
        except ConnectionClosed as error:
            if error.sent is not None and error.sent.code == CloseCode.MESSAGE_TOO_BIG:
                raise HostileAnswerError("it sent a message that is too large", Offence.TOO_LARGE) from None
            if error.sent is not None and error.sent.code == CloseCode.INVALID_DATA:
                raise HostileAnswerError("it sent a message that is no text") from None
            raise RpcUnavailableError(reason_of(error)) from None


@asynccontextmanager
async def _ipc(url: str, timeout_seconds: float, max_message_bytes: int) -> AsyncIterator[Wire]:
    async with asyncio.timeout(timeout_seconds):
        reader, writer = await asyncio.open_unix_connection(unquote(urlsplit(url).path))
    try:
        yield IpcWire(reader, writer, max_message_bytes)
    finally:
        writer.transport.abort()


class IpcWire:
    """JSON texts one after the other on a stream, with or without anything between them."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, max_message_bytes: int) -> None:
        self._reader = reader
        self._writer = writer
        self._splitter = Splitter(max_message_bytes)
        self._whole: list[bytes] = []

    async def send(self, message: bytes) -> None:
        """Send one text."""
        self._writer.write(message + b"\n")
        await self._writer.drain()

    async def receive(self) -> bytes:
        """Wait for the next text."""
        while not self._whole:
            chunk = await self._reader.read(IPC_READ_BYTES)
            if not chunk:
                raise RpcUnavailableError("it closed the connection")
            self._whole = self._splitter.feed(chunk)[::-1]
        return self._whole.pop()


class Splitter:
    """Cuts a stream of JSON objects and arrays into whole ones; each byte is looked at once, whatever the chunks."""

    def __init__(self, max_message_bytes: int) -> None:
        self._max_message_bytes = max_message_bytes
        self._buffer = bytearray()
        self._position = 0
        self._depth = 0
        self._in_string = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take bytes, return the texts that are whole now; raises HostileAnswerError."""
        self._buffer += chunk
        whole: list[bytes] = []
        while self._step(whole):
            pass
        if len(self._buffer) > self._max_message_bytes:
            raise HostileAnswerError("it sent a message that is too large", Offence.TOO_LARGE)
        return whole

    def _step(self, whole: list[bytes]) -> bool:
        found = (_IN_STRING if self._in_string else _TOKEN).search(self._buffer, self._position)
        if found is None:
            self._position = len(self._buffer)
            return False
        token, self._position = found.group(), found.end()
        if token == b"\\":
            if self._position == len(self._buffer):
                # What it escapes is not here yet.
                self._position -= 1
                return False
            self._position += 1
        elif token == b'"':
            self._in_string = not self._in_string
        elif token in b"[{":
            self._depth += 1
            if self._depth > MAX_DEPTH:
                raise HostileAnswerError("it sent a message that is nested too deeply", Offence.TOO_DEEP)
        else:
            self._depth -= 1
        if self._depth <= 0 and not self._in_string:
            if self._position > self._max_message_bytes:
                raise HostileAnswerError("it sent a message that is too large", Offence.TOO_LARGE)
            # Also for a bracket or string that stands alone: the reader of messages says what it is not.
            whole.append(bytes(self._buffer[: self._position]).strip())
            del self._buffer[: self._position]
            self._position = self._depth = 0
        return True


@asynccontextmanager
async def _http(url: str, timeout_seconds: float, max_message_bytes: int) -> AsyncIterator[Wire]:
    # Only those who use it pay for it.
    import aiohttp  # noqa: PLC0415

    timeout = aiohttp.ClientTimeout(total=None, sock_connect=timeout_seconds)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=HTTP_CONNECTIONS), timeout=timeout, trust_env=False
    ) as session:
        yield HttpWire(session, url, max_message_bytes)


class HttpWire:
    """One POST a message, over connections that are kept."""

    def __init__(self, session: "aiohttp.ClientSession", url: str, max_message_bytes: int) -> None:
        self._session = session
        self._url = url
        self._max_message_bytes = max_message_bytes

    async def send(self, message: bytes) -> bytes:
        """Send one message and return what it is answered with."""
        import aiohttp  # noqa: PLC0415

        try:
            async with self._session.post(
                self._url, data=message, headers={"Content-Type": "application/json"}, allow_redirects=False
            ) as answer:
                if answer.status != HTTP_OK:
                    raise RpcUnavailableError(f"it answers with HTTP status {answer.status}")
                received = bytearray()
                async for chunk in answer.content.iter_chunked(HTTP_READ_BYTES):
                    received += chunk
                    if len(received) > self._max_message_bytes:
                        raise HostileAnswerError("it sent a message that is too large", Offence.TOO_LARGE)
                return bytes(received)
        except aiohttp.ClientError as error:
            # Its messages may hold the URL, and with it a key.
            raise RpcUnavailableError(type(error).__name__) from None

    async def receive(self) -> bytes:
        """Wait for ever: nothing comes unasked."""
        await asyncio.Event().wait()
        raise RpcUnavailableError("it closed the connection")
