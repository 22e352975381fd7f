"""A place that takes signed transactions or bundles over HTTP: a private RPC, a block builder.

It is no node: it is asked nothing that anything depends on, and what it answers is bytes from a stranger, bounded in size and time. A place that
is away or sends what no honest one sends is left alone for a while, longer each time in a row (mev.chain.health.Breaker).
"""

import asyncio
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from mev.chain.errors import (
    HostileAnswerError,
    MalformedAnswerError,
    Offence,
    RpcError,
    RpcNotSentError,
    RpcTimeoutError,
    RpcUnavailableError,
)
from mev.chain.health import Breaker, BreakerState
from mev.chain.messages import Call, Json, decode, read
from mev.chain.transports import HTTP_OK, HTTP_READ_BYTES

if TYPE_CHECKING:
    import aiohttp

# An acceptance is a hash, a refusal one sentence.
MAX_ANSWER_BYTES = 256 * 1024
# Shorter parts of a URL's path ("rpc", "v1") are no keys.
KEY_CHARACTERS = 8

Headers = Callable[[bytes], Mapping[str, str]]


class Relay:
    """One such place. Its URL may hold a key: messages call it by its name alone, also where it repeats the key to us."""

    def __init__(
        self,
        name: str,
        url: str,
        *,
        timeout_seconds: float,
        headers: Headers = lambda _: {},
        breaker: Breaker | None = None,
    ) -> None:
        """`headers` is given each body, and returns what is sent beside it."""
        self.name = name
        self.breaker = breaker or Breaker()
        self._url = url
        self._timeout_seconds = timeout_seconds
        self._headers = headers
        parts = urlsplit(url)
        self._keys = [
            part
            for part in (parts.path, *parts.path.split("/"), parts.query, *parts.query.replace("=", "&").split("&"))
            if len(part) >= KEY_CHARACTERS
        ]
        # Only those who use it pay for it, and before the first trade is handed over.
        importlib.import_module("aiohttp")
        self._session: aiohttp.ClientSession | None = None
        self._next_id = 0

    async def close(self) -> None:
        """Close its connections; another call opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def ask(self, method: str, params: Sequence[object]) -> Json:
        """Ask once, and return what it answered.

        Raises RpcError where it refuses; RpcNotSentError where it is known that nothing has left; RpcUnavailableError, HostileAnswerError among
        them, where it may have taken what it was sent all the same.
        """
        if self.breaker.wait_seconds:
            raise RpcNotSentError(
                f"{self.name}: left alone for {self.breaker.wait_seconds:.1f} s: {self.breaker.reason}"
            )
        if self.breaker.state is BreakerState.OPEN:
            self.breaker.attempt()
        self._next_id += 1
        body = msgspec.json.encode(Call(self._next_id, method, params))
        try:
            async with asyncio.timeout(self._timeout_seconds):
                status, received = await self._post(body)
            answer = self._read(method, status, received, self._next_id)
        except RpcError as refusal:
            self._well()
            raise RpcError(refusal.code, self._hushed(str(refusal))) from None
        except TimeoutError:
            raise self._failed(RpcTimeoutError(f"{self.name}: no answer after {self._timeout_seconds:g} s")) from None
        except HostileAnswerError as error:
            named = HostileAnswerError(f"{self.name}: {self._hushed(str(error))}", error.offence)
            self.breaker.open(str(named), error.offence)
            raise named from None
        except RpcUnavailableError as error:
            raise self._failed(type(error)(f"{self.name}: {self._hushed(str(error))}")) from None
        self._well()
        return answer

    def _well(self) -> None:
        if self.breaker.state is not BreakerState.CLOSED:
            self.breaker.close()
        self.breaker.record(answered=True)

    def _failed(self, failure: RpcUnavailableError) -> RpcUnavailableError:
        reason = self.breaker.record(answered=False)
        if reason is not None or self.breaker.state is not BreakerState.CLOSED:
            self.breaker.open(reason or str(failure))
        return failure

    def _hushed(self, message: str) -> str:
        for key in self._keys:
            message = message.replace(key, "...")
        return message

    def _read(self, method: str, status: int, received: bytes, asked: int) -> Json:
        try:
            messages = read(received)
        except HostileAnswerError:
            if status != HTTP_OK:
                raise RpcUnavailableError(f"it answers with HTTP status {status}") from None
            raise
        if len(messages) != 1 or messages[0].id not in {asked, None}:
            raise HostileAnswerError("it answered something else than it was asked", Offence.WRONG_ID)
        (message,) = messages
        refusal = message.refusal()
        if refusal is not None:
            raise refusal
        if status != HTTP_OK:
            raise RpcUnavailableError(f"it answers with HTTP status {status}")
        if message.id is None or not bytes(message.result):
            raise MalformedAnswerError("an answer without result or error")
        return decode(method, message.result, object)

    async def _post(self, body: bytes) -> tuple[int, bytes]:
        import aiohttp  # noqa: PLC0415

        if self._session is None:
            self._session = aiohttp.ClientSession(trust_env=False)
        headers = {"Content-Type": "application/json", **self._headers(body)}
        try:
            async with self._session.post(self._url, data=body, headers=headers, allow_redirects=False) as answer:
                received = bytearray()
                async for chunk in answer.content.iter_chunked(HTTP_READ_BYTES):
                    received += chunk
                    if len(received) > MAX_ANSWER_BYTES:
                        raise HostileAnswerError("it sent an answer that is too large", Offence.TOO_LARGE)
                return answer.status, bytes(received)
        except aiohttp.ClientConnectorError as error:
            # Its messages may hold the URL.
            raise RpcNotSentError(f"no connection ({type(error).__name__})") from None
        except (aiohttp.ClientError, ValueError, OSError) as error:
            raise RpcUnavailableError(f"no answer ({type(error).__name__})") from None
