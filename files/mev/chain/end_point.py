"""One end point of a chain: a connection that is made again and again, calls matched by id, notifications, and its health.

The connection is made in the background, with back-off and jitter. While there is none, calls fail at once and say why;
only during an attempt do they wait for its outcome. Nothing is sent twice. The chain id is verified before anything
else is asked on a connection, and again and again where `watch_seconds` is set: a node of another chain is never used.
"""

import asyncio
import contextlib
import copy
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import structlog

from mev.chain.errors import (
    HostileAnswerError,
    MalformedAnswerError,
    Offence,
    RpcError,
    RpcNotSentError,
    RpcTimeoutError,
    RpcUnavailableError,
    WrongChainError,
)
from mev.chain.health import FIRST_REASON, Breaker, Heads, Latency, NodeHealth
from mev.chain.messages import Call, Json, Message, decode, read, reason_of
from mev.chain.subscription import MAX_NOTIFICATION_BYTES, Gap, Subscription
from mev.chain.transports import HTTP, Wire, name_of, open_wire, transport_of
from mev.chain.wire import Head, quantity

MAX_CALLS_IN_FLIGHT = 4096

log = structlog.get_logger(__name__)

Asked = tuple[str, Sequence[object]]
Answer = msgspec.Raw | RpcError


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for each end point; `watch_seconds` None looks after none that nobody asks."""

    timeout_seconds: float
    max_message_bytes: int
    quarantine_seconds: float
    watch_seconds: float | None = None


class EndPoint:
    """A node of one chain. `url` may carry credentials: no message of ours ever shows more than its host and port."""

    def __init__(
        self, url: str, chain_id: int | None, bounds: Bounds, heads: Heads, changed: Callable[[], None]
    ) -> None:
        """`changed` is called whenever the end point becomes usable or stops being so, or tells of a head."""
        self.node = name_of(url)
        self.transport = transport_of(url)
        self.breaker = Breaker(quarantine_seconds=bounds.quarantine_seconds)
        self.latency = Latency()
        self.calls = self.hedges = 0
        # Why it is none of ours, as long as it is not.
        self.wrong_chain: WrongChainError | None = None
        self._url = url
        self._chain_id = chain_id
        self._bounds = bounds
        self._heads = heads
        self._changed = changed
        self._next_id = 0
        self._pending: dict[int, asyncio.Future[msgspec.Raw]] = {}
        self._subscriptions: set[Subscription] = set()
        self._by_id: dict[str, Subscription] = {}
        # Pending during an attempt; then the connection, or why there is none.
        self._link: asyncio.Future[Wire | RpcUnavailableError] | None = None
        self._tripped: asyncio.Future[RpcUnavailableError] | None = None
        self._supervisor: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to connect."""
        self._link = asyncio.get_running_loop().create_future()
        self._supervisor = asyncio.create_task(self._supervise(), name=f"rpc {self.node}")
        # Whatever ends it, nobody waits for a connection that will not come.
        self._supervisor.add_done_callback(lambda _: self._lose(RpcNotSentError(f"{self.node}: closed")))

    async def stop(self) -> None:
        """End the connection, and all that waits for it."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._supervisor

    @property
    def ready(self) -> bool:
        """Whether there is a verified connection at this moment."""
        link = self._link
        if link is None or not link.done() or isinstance(link.result(), RpcUnavailableError):
            return False
        return self._tripped is None or not self._tripped.done()

    @property
    def connecting(self) -> bool:
        """Whether an attempt is being made at this moment."""
        return self._link is not None and not self._link.done()

    @property
    def unheard(self) -> bool:
        """Whether its very first connection is still being made: nobody knows yet what it has to say."""
        return self.connecting and self.breaker.reason == FIRST_REASON

    @property
    def tells(self) -> bool:
        """Whether it can be subscribed to."""
        return self.transport != HTTP

    def health(self) -> NodeHealth:
        """How it stands."""
        return NodeHealth(
            node=self.node,
            transport=self.transport,
            state=self.breaker.state,
            reason=self.breaker.reason,
            retry_seconds=self.breaker.wait_seconds,
            head=self._heads.head(self),
            lag_blocks=self._heads.lag(self),
            latency_p50=self.latency.quantile_seconds(50),
            latency_p95=self.latency.quantile_seconds(95),
            error_rate=self.breaker.error_rate,
            calls=self.calls,
            hedges=self.hedges,
            offences={str(offence): count for offence, count in self.breaker.offences.items()},
        )

    async def ask(self, asked: Sequence[Asked], timeout_seconds: float | None = None) -> list[Answer]:
        """Ask in one message; raises RpcUnavailableError, RpcNotSentError among them, where one answer is missing."""
        bound = self._bounds.timeout_seconds if timeout_seconds is None else timeout_seconds
        futures: list[asyncio.Future[msgspec.Raw]] = []
        messages = [Call(self._take_id(), method, params) for method, params in asked]
        began, sent = time.monotonic(), False
        try:
            async with asyncio.timeout(bound):
                wire = await self._connection()
                futures = self._register(messages)
                began, sent = time.monotonic(), True
                answer = await wire.send(msgspec.json.encode(messages if len(messages) > 1 else messages[0]))
                if answer is not None:
                    self._take(answer)
                    self._miss_none(futures)
                await asyncio.wait(futures)
                took = time.monotonic() - began
        except TimeoutError:
            if not sent:
                raise RpcNotSentError(f"{self.node}: no connection after {bound:g} s") from None
            self._judge(answered=False)
            raise RpcTimeoutError(f"{self.node}: {asked[0][0]} has no answer after {bound:g} s") from None
        except HostileAnswerError as error:
            self.trip(error)
            raise
        except RpcNotSentError:
            raise
        except (OSError, RpcUnavailableError) as error:
            self._judge(answered=False)
            named = RpcUnavailableError(f"{self.node}: {asked[0][0]} has no answer: {reason_of(error)}")
            if self.tells and not isinstance(error, MalformedAnswerError):
                # What cannot be written to is no connection any more.
                self.trip(copy.copy(named))
            raise named from None
        finally:
            for message in messages:
                self._pending.pop(message.id, None)
            for future in futures:
                future.cancel()
        answers = [_outcome(future) for future in futures]
        self.latency.see(took)
        self._judge(answered=True)
        return answers

    async def attach(self, subscription: Subscription) -> None:
        """Begin a subscription here, now or with the next connection."""
        self._subscriptions.add(subscription)
        if self.ready:
            try:
                await self._subscribe(subscription, "subscription is new")
            except RpcUnavailableError as failure:
                log.warning("not subscribed yet", node=self.node, reason=str(failure))

    async def detach(self, subscription: Subscription) -> None:
        """End a subscription here."""
        self._subscriptions.discard(subscription)
        ours = [identity for identity, bound in self._by_id.items() if bound is subscription]
        for identity in ours:
            del self._by_id[identity]
            with contextlib.suppress(RpcError, RpcUnavailableError):
                await self.ask([("eth_unsubscribe", [identity])], timeout_seconds=1)

    def hear(self, head: Head) -> None:
        """Take a head that it told of; raises HostileAnswerError, and is left alone, where that cannot be."""
        try:
            self._heads.see(self, quantity(head.number), quantity(head.timestamp))
        except HostileAnswerError as error:
            named = HostileAnswerError(f"{self.node}: {error}", error.offence)
            self.trip(named)
            raise named from None
        self._changed()

    def trip(self, failure: RpcUnavailableError) -> None:
        """End the connection for a reason that was found elsewhere than in what it brings."""
        if self._tripped is not None and not self._tripped.done():
            self._tripped.set_result(failure)

    def _judge(self, *, answered: bool) -> None:
        reason = self.breaker.record(answered=answered)
        if reason is not None:
            self.trip(RpcUnavailableError(f"{self.node}: {reason}"))

    def _take_id(self) -> int:
        self._next_id += 1
        return self._next_id

    def _register(self, messages: Sequence[Call]) -> list[asyncio.Future[msgspec.Raw]]:
        if len(self._pending) + len(messages) > MAX_CALLS_IN_FLIGHT:
            raise RpcNotSentError(f"{self.node}: {len(self._pending)} calls are in flight already")
        loop = asyncio.get_running_loop()
        for message in messages:
            self._pending[message.id] = loop.create_future()
        return [self._pending[message.id] for message in messages]

    async def _connection(self) -> Wire:
        if self._link is None:
            raise RpcNotSentError(f"{self.node}: not open: use `async with`")
        link = await asyncio.shield(self._link)
        if not isinstance(link, RpcUnavailableError) and self._tripped is not None and self._tripped.done():
            link = self._tripped.result()
        if isinstance(link, RpcUnavailableError):
            # A new one each time: the stored one would gather every caller's traceback.
            raise copy.copy(link) if isinstance(link, WrongChainError) else RpcNotSentError(*link.args)
        return link

    async def _supervise(self) -> None:
        while True:
            self.breaker.attempt()
            try:
                await self._session()
            except RpcUnavailableError as failure:
                self._lose(failure)
                log.warning("node lost", node=self.node, reason=str(failure))
            await asyncio.sleep(self.breaker.wait_seconds)
            self._link = asyncio.get_running_loop().create_future()

    async def _session(self) -> None:
        """Live through one connection; always ends with RpcUnavailableError."""
        timeout_seconds = self._bounds.timeout_seconds
        try:
            async with open_wire(
                self._url, timeout_seconds=timeout_seconds, max_message_bytes=self._bounds.max_message_bytes
            ) as wire:
                async with asyncio.timeout(timeout_seconds):
                    await self._greet(wire)
                self._tripped = asyncio.get_running_loop().create_future()
                self.breaker.close()
                if self._link is not None and not self._link.done():
                    self._link.set_result(wire)
                log.info("node connected", node=self.node)
                self._changed()
                await self._live(wire)
        except TimeoutError:
            raise RpcTimeoutError(f"{self.node}: no greeting after {timeout_seconds:g} s") from None
        except HostileAnswerError as error:
            raise HostileAnswerError(_named(self.node, error), error.offence) from None
        except WrongChainError:
            raise
        except (OSError, RpcUnavailableError, RpcError) as error:
            raise RpcUnavailableError(_named(self.node, error)) from None

    async def _live(self, wire: Wire) -> None:
        tripped = self._tripped
        if tripped is None:
            return
        tasks = [asyncio.create_task(self._read(wire)), asyncio.create_task(self._watch())]
        try:
            ends: list[asyncio.Future[Any]] = [*tasks, tripped]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if tripped.done():
                raise tripped.result()
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception):
                raise error

    async def _read(self, wire: Wire) -> None:
        while True:
            self._take(await wire.receive())

    async def _watch(self) -> None:
        """Look at chain and head again and again; what is wrong with them ends the connection."""
        if self._bounds.watch_seconds is None:
            await asyncio.Event().wait()
            return
        while True:
            try:
                asked: list[Asked] = [("eth_chainId", ()), ("eth_getBlockByNumber", ("latest", False))]
                chain_id, latest = await self.ask(asked)
            except (RpcTimeoutError, RpcNotSentError) as failure:
                log.debug("head not seen", node=self.node, reason=str(failure))
            else:
                if not isinstance(chain_id, RpcError):
                    self._hold_chain(decode("eth_chainId", chain_id, object))
                if not isinstance(latest, RpcError) and bytes(latest) != b"null":
                    self.hear(decode("latest", latest, Head))
            await asyncio.sleep(self._bounds.watch_seconds)

    def _hold_chain(self, answer: Json) -> None:
        if self._chain_id is None:
            return
        found = quantity(answer)
        if found != self._chain_id:
            raise WrongChainError(f"{self.node} is a node of chain {found}: chain {self._chain_id} is expected")
        self.wrong_chain = None

    async def _greet(self, wire: Wire) -> None:
        if self._chain_id is not None:
            self._hold_chain(await self._exchange(wire, "eth_chainId", ()))
        elif not self.tells:
            # The one transport that is connected without having sent anything.
            await self._exchange(wire, "eth_chainId", ())
        done: set[Subscription] = set()
        # One may be opened while another is asked for.
        while waiting := self._subscriptions - done:
            subscription = waiting.pop()
            done.add(subscription)
            try:
                identity = await self._exchange(wire, "eth_subscribe", subscription.params)
            except RpcError as refusal:
                self._refused(subscription, refusal)
            else:
                self._bind(subscription, identity, "connection is new")

    async def _exchange(self, wire: Wire, method: str, params: Sequence[object]) -> Json:
        """Call before there is a reader: read until the answer is there."""
        message = Call(self._take_id(), method, params)
        (future,) = self._register([message])
        try:
            answer = await wire.send(msgspec.json.encode(message))
            if answer is not None:
                self._take(answer)
                self._miss_none([future])
            while not future.done():
                self._take(await wire.receive())
            return decode(method, future.result(), object)
        finally:
            self._pending.pop(message.id, None)
            future.cancel()

    def _take(self, received: bytes) -> None:
        for message in read(received):
            self._dispatch(message)

    def _miss_none(self, futures: Sequence["asyncio.Future[msgspec.Raw]"]) -> None:
        if not all(future.done() for future in futures):
            raise HostileAnswerError(f"{self.node}: it answered something else than it was asked", Offence.WRONG_ID)

    def _dispatch(self, message: Message) -> None:
        if message.params is not None:
            subscription = self._by_id.get(message.params.subscription)
            if len(bytes(message.params.result)) > MAX_NOTIFICATION_BYTES:
                raise HostileAnswerError(
                    f"a notification of more than {MAX_NOTIFICATION_BYTES} bytes", Offence.TOO_LARGE
                )
            if subscription is not None:
                self._notify(subscription, message.params.result)
            return
        refusal = message.refusal()
        if message.id is None:
            # Only what the node could not read has no id: nothing that is in flight will be answered.
            raise MalformedAnswerError(f"{refusal or 'an answer without an id'}")
        if not 0 < message.id <= self._next_id:
            raise HostileAnswerError(f"an answer to call {message.id}, which nobody made", Offence.WRONG_ID)
        # Late answers are passed over.
        future = self._pending.pop(message.id, None)
        if future is None or future.done():
            return
        if refusal is not None:
            future.set_exception(refusal)
        elif not bytes(message.result):
            future.set_exception(MalformedAnswerError(f"{self.node}: an answer without result or error"))
        else:
            # A copy: the answer must not keep its whole message in memory.
            future.set_result(message.result.copy())

    def _notify(self, subscription: Subscription, result: msgspec.Raw) -> None:
        if subscription.of_heads:
            # What cannot be read is the reader's to name.
            with contextlib.suppress(MalformedAnswerError):
                try:
                    self.hear(decode("newHeads", result, Head))
                except HostileAnswerError:
                    return
        subscription.put(result)

    def _lose(self, failure: RpcUnavailableError) -> None:
        link = asyncio.get_running_loop().create_future()
        link.set_result(failure)
        if self._link is not None and not self._link.done():
            self._link.set_result(failure)
        self._link = link
        offence = Offence.WRONG_CHAIN if isinstance(failure, WrongChainError) else getattr(failure, "offence", None)
        self.breaker.open(str(failure), offence)
        if isinstance(failure, WrongChainError):
            self.wrong_chain = failure
        self._by_id.clear()
        pending, self._pending = self._pending, {}
        for future in pending.values():
            if not future.done():
                future.set_exception(copy.copy(failure))
        self._changed()

    async def _subscribe(self, subscription: Subscription, reason: str) -> None:
        (answer,) = await self.ask([("eth_subscribe", subscription.params)])
        if isinstance(answer, RpcError):
            self._refused(subscription, answer)
        else:
            self._bind(subscription, decode("eth_subscribe", answer, object), reason)

    def _bind(self, subscription: Subscription, identity: Json, reason: str) -> None:
        if not isinstance(identity, str):
            raise MalformedAnswerError(f"{self.node}: eth_subscribe answered with no id")
        self._by_id[identity] = subscription
        subscription.restart(Gap(reason))

    def _refused(self, subscription: Subscription, refusal: RpcError) -> None:
        self._subscriptions.discard(subscription)
        subscription.refusals[self.node] = refusal
        self._changed()


def _named(node: str, error: Exception) -> str:
    reason = reason_of(error)
    return reason if reason.startswith(f"{node}:") else f"{node}: {reason}"


def _outcome(future: "asyncio.Future[msgspec.Raw]") -> Answer:
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, RpcError):
        return error
    raise error
