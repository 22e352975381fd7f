"""JSON-RPC to a chain's nodes, one or several: the best one is asked, another one where it is slow or away.

    async with Rpc(["ws://127.0.0.1:8546", "ipc:///run/geth.ipc", "https://node.example"], chain_id=1) as rpc:
        head = quantity(await rpc.call("eth_blockNumber"))
        async with rpc.subscribe("newHeads") as heads:
            async for item in heads: ...   # Gap after each (re)connection or change of node, then notifications

Only what is safe to repeat (SAFE_METHODS) is ever asked twice: of the next node where one gives no answer, and of a
second one at the same time where the first takes longer than nearly all of its answers did before (hedged, and bounded
to a tenth of all calls). The loser is cancelled. Whatever else is asked goes to one node, once.

With one node there is no choice, and nothing of this: calls fail at once and say why.
"""

import asyncio
import copy
import time
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Self, TypeVar

import structlog

from mev.chain.agreement import Everywhere, all_say, decoded, most_say
from mev.chain.end_point import Answer, Asked, Bounds, EndPoint
from mev.chain.errors import (
    DisputedError,
    HostileAnswerError,
    MalformedAnswerError,
    Offence,
    RpcError,
    RpcNotSentError,
    RpcTimeoutError,
    RpcUnavailableError,
    WrongChainError,
)
from mev.chain.health import FIRST_QUARANTINE_SECONDS, Heads, NodeHealth
from mev.chain.messages import Json, decode
from mev.chain.race import SAFE_METHODS, Hedges, race
from mev.chain.subscription import MAX_NOTIFICATION_BYTES, Gap, Subscription
from mev.chain.wire import Head

__all__ = [
    "MAX_NOTIFICATION_BYTES",
    "SAFE_METHODS",
    "DisputedError",
    "EndPoint",
    "Gap",
    "HostileAnswerError",
    "Json",
    "MalformedAnswerError",
    "NodeHealth",
    "Offence",
    "Rpc",
    "RpcError",
    "RpcNotSentError",
    "RpcTimeoutError",
    "RpcUnavailableError",
    "Subscription",
    "WrongChainError",
]

T = TypeVar("T")
U = TypeVar("U")

DEFAULT_TIMEOUT_SECONDS = 10.0
MAX_MESSAGE_BYTES = 32 * 2**20
MAX_END_POINTS = 16
# Nodes refuse batches of more than a hundred (Erigon) or a thousand (Geth) calls.
BATCH_CALLS = 100
# How often each of several nodes is asked for its chain and its head.
WATCH_SECONDS = 1.0
# A node that others are ahead of by more is not heard any longer.
SUBSCRIBED_LAG_BLOCKS = 3

log = structlog.get_logger(__name__)


class Rpc:
    """The nodes of one chain. URLs may carry credentials: no message of ours ever shows more than host and port."""

    def __init__(
        self,
        urls: str | Sequence[str],
        *,
        chain_id: int | None = None,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        watch_seconds: float = WATCH_SECONDS,
        quarantine_seconds: float = FIRST_QUARANTINE_SECONDS,
    ) -> None:
        """Take ws://, wss://, http://, https:// and ipc:///path URLs; with `chain_id`, nodes of other chains are refused.

        Of several, each is asked for its chain and head every `watch_seconds`. One that lies is left alone for
        `quarantine_seconds`, longer each time in a row. Raises ValueError for other URLs, for none, and for more than 16.
        """
        urls = [urls] if isinstance(urls, str) else list(urls)
        if not 1 <= len(urls) <= MAX_END_POINTS:
            raise ValueError(f"{len(urls)} end points; allowed: 1 to {MAX_END_POINTS}")
        self._heads = Heads()
        self._timeout_seconds = timeout_seconds
        self._watch_seconds = watch_seconds
        bounds = Bounds(
            timeout_seconds=timeout_seconds,
            max_message_bytes=max_message_bytes,
            quarantine_seconds=quarantine_seconds,
            watch_seconds=watch_seconds if len(urls) > 1 else None,
        )
        self._end_points = [EndPoint(url, chain_id, bounds, self._heads, self._wake) for url in urls]
        self._hedges = Hedges()
        self._homes: dict[Subscription, EndPoint | None] = {}
        self._woken = asyncio.Event()
        self._steward: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        for end_point in self._end_points:
            end_point.start()
        self._steward = asyncio.create_task(self._tend(), name=f"subscriptions {self.node}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._steward is not None:
            self._steward.cancel()
            await asyncio.gather(self._steward, return_exceptions=True)
        await asyncio.gather(*(end_point.stop() for end_point in self._end_points))

    @property
    def node(self) -> str:
        """Host and port of the node, or of the nodes, for messages."""
        return ", ".join(end_point.node for end_point in self._end_points)

    @property
    def several(self) -> bool:
        """Whether more than one node is configured."""
        return len(self._end_points) > 1

    @property
    def connected(self) -> bool:
        """Whether there is a verified connection at this moment."""
        return any(end_point.ready for end_point in self._end_points)

    def health(self) -> list[NodeHealth]:
        """How each end point stands, in the order of the URLs."""
        return [end_point.health() for end_point in self._end_points]

    async def call(self, method: str, params: Sequence[object] = (), *, timeout_seconds: float | None = None) -> Json:
        """Ask, and return what a node answered.

        Raises RpcError where it refuses, RpcUnavailableError where there is no usable answer.
        """
        (answer,), _ = await self._ask([(method, params)], timeout_seconds)
        if isinstance(answer, RpcError):
            raise answer
        return decode(method, answer, object)

    async def call_as(
        self, kind: type[T], method: str, params: Sequence[object] = (), *, timeout_seconds: float | None = None
    ) -> T | None:
        """As `call`, decoded into a type straight from the bytes; None is the node's null."""
        (answer,), _ = await self._ask([(method, params)], timeout_seconds)
        return _typed(kind, method, answer)

    async def batch(self, calls: Iterable[Asked], *, timeout_seconds: float | None = None) -> list[Json]:
        """Ask many things in as few messages as nodes allow; answers in the calls' order, a refusal as an RpcError in its place.

        `timeout_seconds` is for each message. Raises RpcUnavailableError where one answer is missing.
        """
        return await self._batch(object, calls, timeout_seconds)

    async def batch_as(
        self, kind: type[T], calls: Iterable[Asked], *, timeout_seconds: float | None = None
    ) -> list[T | None]:
        """As `batch`, decoded into a type; raises the first RpcError."""
        answers = await self._batch(kind, calls, timeout_seconds)
        for answer in answers:
            if isinstance(answer, RpcError):
                raise answer
        return answers

    async def batch_read(self, kind: type[T], calls: Iterable[Asked], read: Callable[[int, T | None], U]) -> list[U]:
        """As `batch_as`, each answer as `read` makes it of the call's place and the answer.

        Where it raises HostileAnswerError the node that answered is left alone for a while, as for a lie that shows by itself.
        """
        waiting = list(calls)
        found: list[U] = []
        for start in range(0, len(waiting), BATCH_CALLS):
            chunk = waiting[start : start + BATCH_CALLS]
            answers, end_point = await self._ask(chunk, None)
            try:
                for place, ((method, _), answer) in enumerate(zip(chunk, answers, strict=True), start):
                    found.append(read(place, _typed(kind, method, answer)))
            except HostileAnswerError as lie:
                told = f"{end_point.node}: {lie}"
                log.warning("node left alone", node=end_point.node, reason=told)
                end_point.trip(HostileAnswerError(told, lie.offence))
                raise
        return found

    async def agreed(
        self,
        calls: Sequence[Asked],
        read: Callable[[Sequence[Json]], T],
        contradicts: Callable[[T, T], bool] = lambda one, other: one != other,
        *,
        timeout_seconds: float | None = None,
    ) -> T:
        """Return what more than half of the connected nodes answer, as `read` makes it of their answers (mev.chain.agreement).

        Raises DisputedError where they do not say the same, RpcUnavailableError where there is no answer.
        """
        bound = self._timeout_seconds if timeout_seconds is None else timeout_seconds
        if not self.several:
            answers, _ = await self._ask(calls, bound)
            return read(decoded(calls, answers))
        return await most_say(self._end_points, calls, read, contradicts, bound)

    async def everywhere(
        self, calls: Sequence[Asked], read: Callable[[Sequence[Json]], T], *, timeout_seconds: float
    ) -> Everywhere[T]:
        """Return what each connected node says, as `read` makes it of its answers (mev.chain.agreement).

        Raises RpcUnavailableError or RpcError where none has anything to say.
        """
        if not self.several:
            answers, only = await self._ask(calls, None)
            return Everywhere(1, [(only, read(decoded(calls, answers)))])
        return await all_say(self._end_points, calls, read, timeout_seconds)

    async def tell(self, end_point: EndPoint, method: str, params: Sequence[object]) -> Json:
        """Ask one node of those that `everywhere` told of; raises as `call`."""
        end_point.calls += 1
        (answer,) = await end_point.ask([(method, params)], None)
        if isinstance(answer, RpcError):
            raise answer
        return decode(method, answer, object)

    async def latest(self) -> Head:
        """Return the chain's head.

        Raises RpcUnavailableError also where the node that answered is only late: another one was beyond it a moment
        ago. One that was there itself and tells of less has seen its chain turn back, and is believed.
        """
        method, params = "eth_getBlockByNumber", ("latest", False)
        (answer,), end_point = await self._ask([(method, params)], None)
        head = _typed(Head, method, answer)
        if head is None:
            raise RpcUnavailableError(f"{end_point.node}: has no block latest")
        number = head.block().number
        if self._heads.is_late(end_point, number):
            raise RpcUnavailableError(f"{end_point.node}: is at block {number}, others are at {self._heads.best()}")
        end_point.hear(head)
        return head

    def subscribe(self, *params: object) -> Subscription:
        """Return a subscription (eth_subscribe's parameters), to be entered as a context."""
        return Subscription(params, self._open, self._close)

    async def _batch(self, kind: type[T], calls: Iterable[Asked], timeout_seconds: float | None) -> list[Json]:
        waiting = list(calls)
        answers: list[Json] = []
        for start in range(0, len(waiting), BATCH_CALLS):
            chunk = waiting[start : start + BATCH_CALLS]
            found, _ = await self._ask(chunk, timeout_seconds)
            for (method, _), answer in zip(chunk, found, strict=True):
                answers.append(answer if isinstance(answer, RpcError) else _typed(kind, method, answer))
        return answers

    async def _ask(self, asked: Sequence[Asked], timeout_seconds: float | None) -> tuple[list[Answer], EndPoint]:
        bound = self._timeout_seconds if timeout_seconds is None else timeout_seconds
        if len(self._end_points) == 1:
            (only,) = self._end_points
            only.calls += 1
            return await only.ask(asked, bound), only
        ranked = self._ranked()
        if all(method in SAFE_METHODS for method, _ in asked):
            return await race(ranked, asked, bound, self._hedges)
        deadline = time.monotonic() + bound
        for end_point in ranked[:-1]:
            try:
                end_point.calls += 1
                return await end_point.ask(asked, deadline - time.monotonic()), end_point
            except RpcNotSentError as failure:
                log.debug("another node is asked", node=end_point.node, reason=str(failure))
        ranked[-1].calls += 1
        return await ranked[-1].ask(asked, max(0.0, deadline - time.monotonic())), ranked[-1]

    def _ranked(self) -> list[EndPoint]:
        """The nodes in the order in which they are asked: ready before connecting, near the head before late, fast before slow."""

        def rank(end_point: EndPoint) -> tuple[int, int, float]:
            standing = 0 if end_point.ready else 1 if end_point.connecting else 2
            answered = max(1 - end_point.breaker.error_rate, 0.05)
            return standing, self._heads.lag(end_point), end_point.latency.mean_seconds / answered

        ranked = sorted(self._end_points, key=rank)
        # Of another chain: not even where there is nothing else, unless nothing else ever was.
        return [end_point for end_point in ranked if end_point.wrong_chain is None] or ranked

    def _wake(self) -> None:
        self._woken.set()

    async def _open(self, subscription: Subscription) -> None:
        self._homes[subscription] = None
        await self._place(subscription)

    async def _close(self, subscription: Subscription) -> None:
        home = self._homes.pop(subscription, None)
        if home is not None:
            await home.detach(subscription)

    async def _tend(self) -> None:
        """Keep each subscription at a node that is fit for it."""
        polled_at = 0.0
        while True:
            self._woken.clear()
            for subscription in list(self._homes):
                await self._place(subscription)
            if time.monotonic() - polled_at >= self._watch_seconds and self._only_polling():
                polled_at = time.monotonic()
                for subscription in self._homes:
                    if subscription.of_heads:
                        subscription.restart(Gap("no node that can be subscribed to is there: heads are asked for"))
            try:
                async with asyncio.timeout(self._watch_seconds if len(self._end_points) > 1 else None):
                    await self._woken.wait()
            except TimeoutError:
                continue

    def _only_polling(self) -> bool:
        ready = [end_point for end_point in self._end_points if end_point.ready]
        return bool(ready) and not any(end_point.tells for end_point in ready)

    async def _place(self, subscription: Subscription) -> None:
        home = self._homes[subscription]
        wrong = [end_point.wrong_chain for end_point in self._end_points]
        first = wrong[0]
        if first is not None and None not in wrong:
            subscription.fail(copy.copy(first))
            return
        able = [end_point for end_point in self._ranked() if end_point.tells]
        willing = [end_point for end_point in able if end_point.node not in subscription.refusals]
        if not willing:
            if subscription.refusals:
                subscription.fail(next(iter(subscription.refusals.values())))
                # A later wake must not say it again; an open subscription may be tried anew by whoever reads it.
                self._homes.pop(subscription, None)
            return
        best = willing[0]
        if home is best or (home is not None and self._fits(home, subscription, best)):
            return
        if subscription not in self._homes:
            return
        self._homes[subscription] = best
        if home is not None:
            log.info("subscription moves", from_node=home.node, to_node=best.node)
            await home.detach(subscription)
        await best.attach(subscription)

    def _fits(self, home: EndPoint, subscription: Subscription, best: EndPoint) -> bool:
        if home.node in subscription.refusals or home.wrong_chain is not None:
            return False
        if not best.ready:
            return True
        lag = self._heads.lag(home) - self._heads.lag(best)
        return home.ready and lag <= SUBSCRIBED_LAG_BLOCKS


def _typed(kind: type[T], method: str, answer: Answer) -> T | None:
    if isinstance(answer, RpcError):
        raise answer
    return None if bytes(answer) == b"null" else decode(method, answer, kind)
