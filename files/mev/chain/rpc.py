"""A node's JSON-RPC over one WebSocket: calls matched by id, batches, subscriptions that outlive the connection.

    async with Rpc("ws://127.0.0.1:8546", chain_id=1) as rpc:
        head = quantity(await rpc.call("eth_blockNumber"))
        async with rpc.subscribe("newHeads") as heads:
            async for item in heads: ...   # Gap after each (re)connection, then notifications

The connection is made and made again in the background, with back-off and jitter. While there is none, calls fail at
once and say why; only during an attempt do they wait for its outcome. Nothing is sent twice. The chain id is verified
before anything else is asked on a connection: a node of another chain is never used.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import urlsplit

import msgspec
import structlog
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from mev.chain.errors import MalformedAnswerError, RpcError, RpcTimeoutError, RpcUnavailableError, WrongChainError
from mev.chain.messages import Call, Json, Message, decode, read, reason_of
from mev.chain.wire import quantity

__all__ = [
    "Gap",
    "Json",
    "MalformedAnswerError",
    "Rpc",
    "RpcError",
    "RpcTimeoutError",
    "RpcUnavailableError",
    "Subscription",
    "WrongChainError",
]

T = TypeVar("T")

DEFAULT_TIMEOUT_SECONDS = 10.0
MAX_MESSAGE_BYTES = 32 * 2**20
MAX_CALLS_IN_FLIGHT = 4096
# Nodes refuse batches of more than a hundred (Erigon) or a thousand (Geth) calls.
BATCH_CALLS = 100
# What a node may make us keep: 32 MiB a subscription.
QUEUED_NOTIFICATIONS = 128
MAX_NOTIFICATION_BYTES = 256 * 1024
PING_SECONDS = 10.0
FIRST_RETRY_SECONDS = 0.1
LAST_RETRY_SECONDS = 10.0

log = structlog.get_logger(__name__)


class Gap(msgspec.Struct, frozen=True):
    """Everything before this moment may have been missed: the subscription is new, new again, or was not read in time."""

    reason: str


class Rpc:
    """A node of one chain. `url` may carry credentials: no message of ours ever shows more than its host and port."""

    def __init__(
        self,
        url: str,
        *,
        chain_id: int | None = None,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        """Take a ws:// or wss:// URL; with `chain_id`, a node that answers for another chain is refused."""
        parts = urlsplit(url)
        self._url = url
        self._node = f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
        self._chain_id = chain_id
        self._timeout_seconds = timeout_seconds
        self._max_message_bytes = max_message_bytes
        self._next_id = 0
        self._pending: dict[int, asyncio.Future[msgspec.Raw]] = {}
        self._subscriptions: set[Subscription] = set()
        self._by_id: dict[str, Subscription] = {}
        # Pending during an attempt; then the connection, or why there is none.
        self._link: asyncio.Future[ClientConnection | RpcUnavailableError] | None = None
        self._supervisor: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._link = asyncio.get_running_loop().create_future()
        self._supervisor = asyncio.create_task(self._supervise(), name=f"rpc {self._node}")
        # Whatever ends it, nobody waits for a connection that will not come.
        self._supervisor.add_done_callback(lambda _: self._lose(RpcUnavailableError(f"{self._node}: closed")))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._supervisor is not None:
            self._supervisor.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._supervisor

    @property
    def node(self) -> str:
        """Host and port, for messages."""
        return self._node

    @property
    def connected(self) -> bool:
        """Whether there is a verified connection at this moment."""
        return self._link is not None and self._link.done() and isinstance(self._link.result(), ClientConnection)

    async def call(self, method: str, params: Sequence[object] = (), *, timeout_seconds: float | None = None) -> Json:
        """Ask, and return what the node answered.

        Raises RpcError where it refuses, RpcUnavailableError where there is no usable answer.
        """
        (answer,) = await self._ask([(method, params)], timeout_seconds)
        if isinstance(answer, RpcError):
            raise answer
        return decode(method, answer, object)

    async def call_as(
        self, kind: type[T], method: str, params: Sequence[object] = (), *, timeout_seconds: float | None = None
    ) -> T | None:
        """As `call`, decoded into a type straight from the bytes; None is the node's null."""
        (answer,) = await self._ask([(method, params)], timeout_seconds)
        if isinstance(answer, RpcError):
            raise answer
        return None if bytes(answer) == b"null" else decode(method, answer, kind)

    async def batch(
        self, calls: Iterable[tuple[str, Sequence[object]]], *, timeout_seconds: float | None = None
    ) -> list[Json]:
        """Ask many things in as few messages as nodes allow; answers in the calls' order, a refusal as an RpcError in its place.

        `timeout_seconds` is for each message. Raises RpcUnavailableError where one answer is missing.
        """
        waiting = list(calls)
        answers: list[Json] = []
        for start in range(0, len(waiting), BATCH_CALLS):
            chunk = waiting[start : start + BATCH_CALLS]
            for (method, _), answer in zip(chunk, await self._ask(chunk, timeout_seconds), strict=True):
                answers.append(answer if isinstance(answer, RpcError) else decode(method, answer, object))
        return answers

    def subscribe(self, *params: object) -> "Subscription":
        """Return a subscription (eth_subscribe's parameters), to be entered as a context."""
        return Subscription(self, params)

    async def _ask(
        self, calls: Sequence[tuple[str, Sequence[object]]], timeout_seconds: float | None
    ) -> list[msgspec.Raw | RpcError]:
        bound = self._timeout_seconds if timeout_seconds is None else timeout_seconds
        futures: list[asyncio.Future[msgspec.Raw]] = []
        messages = [Call(self._take_id(), method, params) for method, params in calls]
        try:
            async with asyncio.timeout(bound):
                connection = await self._connection()
                futures = self._register(messages)
                await connection.send(msgspec.json.encode(messages if len(messages) > 1 else messages[0]), text=True)
                await asyncio.wait(futures)
        except TimeoutError:
            raise RpcTimeoutError(f"{self._node}: {calls[0][0]} has no answer after {bound:g} s") from None
        except (OSError, WebSocketException) as error:
            raise RpcUnavailableError(f"{self._node}: {calls[0][0]} could not be sent: {reason_of(error)}") from None
        finally:
            for message in messages:
                self._pending.pop(message.id, None)
            for future in futures:
                future.cancel()
        return [_outcome(future) for future in futures]

    def _take_id(self) -> int:
        self._next_id += 1
        return self._next_id

    def _register(self, messages: Sequence[Call]) -> list[asyncio.Future[msgspec.Raw]]:
        if len(self._pending) + len(messages) > MAX_CALLS_IN_FLIGHT:
            raise RpcUnavailableError(f"{self._node}: {len(self._pending)} calls are in flight already")
        loop = asyncio.get_running_loop()
        for message in messages:
            self._pending[message.id] = loop.create_future()
        return [self._pending[message.id] for message in messages]

    async def _connection(self) -> ClientConnection:
        if self._link is None:
            raise RpcUnavailableError(f"{self._node}: not open: use `async with`")
        link = await asyncio.shield(self._link)
        if isinstance(link, RpcUnavailableError):
            # A new one each time: the stored one would gather every caller's traceback.
            raise type(link)(*link.args)
        return link

    async def _supervise(self) -> None:
        delay = FIRST_RETRY_SECONDS
        while True:
            began = time.monotonic()
            try:
                await self._session()
            except RpcUnavailableError as failure:
                self._lose(failure)
                wrong_chain = isinstance(failure, WrongChainError)
                log.warning("node lost", node=self._node, reason=str(failure))
            # Back-off ends with a connection that lasted, or a node that accepts and drops would be hammered.
            if time.monotonic() - began > LAST_RETRY_SECONDS:
                delay = FIRST_RETRY_SECONDS
            await asyncio.sleep(LAST_RETRY_SECONDS if wrong_chain else delay * random.uniform(0.5, 1))  # noqa: S311
            delay = min(2 * delay, LAST_RETRY_SECONDS)
            self._link = asyncio.get_running_loop().create_future()

    async def _session(self) -> None:
        """Live through one connection; always ends with RpcUnavailableError."""
        try:
            async with connect(
                self._url,
                open_timeout=self._timeout_seconds,
                close_timeout=1,
                ping_interval=PING_SECONDS,
                ping_timeout=PING_SECONDS,
                max_size=self._max_message_bytes,
                compression=None,
                proxy=None,
            ) as connection:
                async with asyncio.timeout(self._timeout_seconds):
                    await self._greet(connection)
                if self._link is not None and not self._link.done():
                    self._link.set_result(connection)
                log.info("node connected", node=self._node)
                while True:
                    self._take(await connection.recv(decode=False))
        except TimeoutError:
            raise RpcTimeoutError(f"{self._node}: no greeting after {self._timeout_seconds:g} s") from None
        except (OSError, EOFError, WebSocketException) as error:
            raise RpcUnavailableError(f"{self._node}: {reason_of(error)}") from None
        except RpcError as refusal:
            raise RpcUnavailableError(f"{self._node}: {refusal}") from None

    async def _greet(self, connection: ClientConnection) -> None:
        if self._chain_id is not None:
            found = quantity(await self._exchange(connection, "eth_chainId", ()))
            if found != self._chain_id:
                raise WrongChainError(f"{self._node} is a node of chain {found}: chain {self._chain_id} is expected")
        done: set[Subscription] = set()
        # One may be opened while another is asked for.
        while waiting := self._subscriptions - done:
            subscription = waiting.pop()
            done.add(subscription)
            try:
                identity = await self._exchange(connection, "eth_subscribe", subscription.params)
            except RpcError as refusal:
                subscription.fail(refusal)
            else:
                self._bind(subscription, identity, "connection is new")

    async def _exchange(self, connection: ClientConnection, method: str, params: Sequence[object]) -> Json:
        """Call before there is a reader: read until the answer is there."""
        message = Call(self._take_id(), method, params)
        (future,) = self._register([message])
        try:
            await connection.send(msgspec.json.encode(message), text=True)
            while not future.done():
                self._take(await connection.recv(decode=False))
            return decode(method, future.result(), object)
        finally:
            self._pending.pop(message.id, None)
            future.cancel()

    def _take(self, received: bytes) -> None:
        try:
            messages = read(received)
        except MalformedAnswerError as error:
            raise MalformedAnswerError(f"{self._node}: {error}") from None
        for message in messages:
            self._dispatch(message)

    def _dispatch(self, message: Message) -> None:
        if message.params is not None:
            subscription = self._by_id.get(message.params.subscription)
            if len(bytes(message.params.result)) > MAX_NOTIFICATION_BYTES:
                raise MalformedAnswerError(f"{self._node}: a notification of more than {MAX_NOTIFICATION_BYTES} bytes")
            if subscription is not None:
                subscription.put(message.params.result)
            return
        refusal = message.refusal()
        if message.id is None:
            # Only what the node could not read has no id: nothing that is in flight will be answered.
            raise MalformedAnswerError(f"{self._node}: {refusal or 'an answer without an id'}")
        # Late answers and answers to nothing are passed over.
        future = self._pending.pop(message.id, None)
        if future is None or future.done():
            return
        if refusal is not None:
            future.set_exception(refusal)
        elif not bytes(message.result):
            future.set_exception(MalformedAnswerError(f"{self._node}: an answer without result or error"))
        else:
            # A copy: the answer must not keep its whole message in memory.
            future.set_result(message.result.copy())

    def _lose(self, failure: RpcUnavailableError) -> None:
        link = asyncio.get_running_loop().create_future()
        link.set_result(failure)
        if self._link is not None and not self._link.done():
            self._link.set_result(failure)
        self._link = link
        self._by_id.clear()
        pending, self._pending = self._pending, {}
        for future in pending.values():
            if not future.done():
                future.set_exception(type(failure)(*failure.args))
        if isinstance(failure, WrongChainError):
            for subscription in self._subscriptions:
                subscription.fail(failure)

    def _bind(self, subscription: "Subscription", identity: Json, reason: str) -> None:
        if not isinstance(identity, str):
            raise MalformedAnswerError(f"{self._node}: eth_subscribe answered with no id")
        self._by_id[identity] = subscription
        subscription.restart(Gap(reason))

    async def open(self, subscription: "Subscription") -> None:
        """Begin a subscription; its context does so."""
        self._subscriptions.add(subscription)
        link = self._link.result() if self._link is not None and self._link.done() else None
        if isinstance(link, WrongChainError):
            subscription.fail(link)
        # Where there is no connection, the next greeting subscribes.
        if isinstance(link, ClientConnection):
            try:
                self._bind(subscription, await self.call("eth_subscribe", subscription.params), "subscription is new")
            except RpcError as refusal:
                subscription.fail(refusal)
            except RpcUnavailableError as failure:
                log.warning("not subscribed yet", node=self._node, reason=str(failure))

    async def close(self, subscription: "Subscription") -> None:
        """End a subscription; its context does so."""
        self._subscriptions.discard(subscription)
        ours = [identity for identity, bound in self._by_id.items() if bound is subscription]
        for identity in ours:
            del self._by_id[identity]
            with contextlib.suppress(RpcError, RpcUnavailableError):
                await self.call("eth_unsubscribe", [identity], timeout_seconds=1)


class Subscription:
    """Notifications of one kind, in order; Gap stands wherever some may be missing, and first of all."""

    def __init__(self, rpc: Rpc, params: Sequence[object]) -> None:
        """Made by Rpc.subscribe."""
        self.params = params
        self._rpc = rpc
        self._items: asyncio.Queue[msgspec.Raw | Gap | Exception] = asyncio.Queue(QUEUED_NOTIFICATIONS)

    async def __aenter__(self) -> Self:
        await self._rpc.open(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._rpc.close(self)

    async def __aiter__(self) -> AsyncIterator[msgspec.Raw | Gap]:
        while True:
            yield await self.next()

    async def next(self) -> msgspec.Raw | Gap:
        """Wait for the next item; raises RpcError where the node refuses to subscribe, WrongChainError as calls do."""
        item = await self._items.get()
        if isinstance(item, Exception):
            raise item
        return item

    async def newest(self) -> msgspec.Raw | Gap:
        """Wait for an item and return the last of those that are there by then; raises as `next` does."""
        item = await self.next()
        while not self._items.empty():
            item = await self.next()
        return item

    def put(self, notification: msgspec.Raw) -> None:
        """Take one notification; where the reader is too slow, everything unread becomes one Gap."""
        if self._items.full():
            self.restart(Gap("notifications were not read in time"))
        else:
            self._items.put_nowait(notification.copy())

    def restart(self, first: Gap | Exception) -> None:
        """Forget what is unread and begin with `first`."""
        while not self._items.empty():
            self._items.get_nowait()
        self._items.put_nowait(first)

    fail = restart


def _outcome(future: "asyncio.Future[msgspec.Raw]") -> msgspec.Raw | RpcError:
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, RpcError):
        return error
    raise error
