"""What most of a chain's nodes say: money is not moved, and nothing is booked, on the word of one where there are several.

Every connected node is asked the same at the same time, one whose first connection is still being made too; more than half of them have to say the same. A node that does not
answer has not said it. One that cannot be connected to is not counted: where only one is left, it is believed, as where only one is configured.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import msgspec
import structlog

from mev.chain.end_point import Answer, Asked, EndPoint
from mev.chain.errors import (
    DisputedError,
    HostileAnswerError,
    Offence,
    RpcError,
    RpcNotSentError,
    RpcUnavailableError,
)
from mev.chain.messages import Json, decode

T = TypeVar("T")

# Once more than half have answered the others are waited for so long.
SLOW_SECONDS = 0.25

log = structlog.get_logger(__name__)


class Everywhere(msgspec.Struct, Generic[T], frozen=True):
    """What each node that answered says, and how many were asked."""

    asked: int
    said: list[tuple[EndPoint, T]]

    def most(self, says: Callable[[T], bool]) -> bool:
        """Whether more than half of the nodes that were asked say so; who is silent does not."""
        return 2 * sum(says(value) for _, value in self.said) > self.asked


async def all_say(
    end_points: Sequence[EndPoint],
    asked: Sequence[Asked],
    read: Callable[[Sequence[Json]], T],
    timeout_seconds: float,
) -> Everywhere[T]:
    """Return what each connected node says, as `read` makes it of its answers; it may raise RpcUnavailableError or RpcError for those that are none.

    Raises what the last one did where none has anything to say.
    """
    running = {asyncio.create_task(each.ask(asked, timeout_seconds)): each for each in voters(end_points)}
    said: list[tuple[EndPoint, T]] = []
    count = len(running)
    failed: RpcUnavailableError | RpcError = RpcNotSentError(
        f"{', '.join(each.node for each in end_points)}: none is connected"
    )
    try:
        while running:
            patience = SLOW_SECONDS if 2 * len(said) > count else None
            done, _ = await asyncio.wait(running, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                break
            for task in done:
                end_point = running.pop(task)
                try:
                    said.append((end_point, read(decoded(asked, task.result()))))
                except RpcNotSentError as failure:
                    count -= 1
                    failed = failure
                except (RpcUnavailableError, RpcError) as failure:
                    failed = failure
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    if not said:
        raise failed
    return Everywhere(count, said)


def voters(end_points: Sequence[EndPoint]) -> list[EndPoint]:
    """Return who is asked: nodes of this chain with a connection, or whose first one is still being made."""
    return [each for each in end_points if each.wrong_chain is None and (each.ready or each.unheard)]


async def most_say(
    end_points: Sequence[EndPoint],
    asked: Sequence[Asked],
    read: Callable[[Sequence[Json]], T],
    contradicts: Callable[[T, T], bool],
    timeout_seconds: float,
) -> T:
    """Return what more than half of the nodes say; raises DisputedError where nothing is said by so many.

    `read` makes of a node's answers what is compared; it may raise RpcUnavailableError for those that are none. Two that `contradicts`
    calls a contradiction cannot both come from honest nodes: each is named in the log and counted, and who is outvoted is left alone for a while.
    """
    running = {asyncio.create_task(each.ask(asked, timeout_seconds)): each for each in voters(end_points)}
    said: list[tuple[EndPoint, T]] = []
    silent: list[str] = []
    count = len(running)
    try:
        while running:
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                end_point = running.pop(task)
                try:
                    said.append((end_point, read(decoded(asked, task.result()))))
                except RpcNotSentError:
                    count -= 1
                except RpcUnavailableError as failure:
                    silent.append(str(failure))
            found = next((value for _, value in said if 2 * sum(value == other for _, other in said) > count), None)
            # Who is slow need not be waited for once its word changes nothing.
            if found is not None and (len(said) > 1 or not running):
                _outvote(said, found, contradicts, asked)
                return found
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    if not said and not silent:
        raise RpcNotSentError(f"{', '.join(each.node for each in end_points)}: none is connected")
    disputed = [
        end_point for end_point, value in said if any(contradicts(value, other) for _, other in said if other != value)
    ]
    for end_point in disputed:
        end_point.breaker.offences[Offence.CONTRADICTED] += 1
    words = [f"{end_point.node} says {value}" for end_point, value in said]
    raise DisputedError(
        f"{asked[0][0]}: no more than half of {count} nodes say the same: {'; '.join([*words, *silent])}"
    )


def decoded(asked: Sequence[Asked], answers: Sequence[Answer]) -> list[Json]:
    """Return what was answered, a refusal as an RpcError in its place; raises MalformedAnswerError."""
    return [
        answer if isinstance(answer, RpcError) else decode(method, answer, object)
        for (method, _), answer in zip(asked, answers, strict=True)
    ]


def _outvote(
    said: Sequence[tuple[EndPoint, T]], found: T, contradicts: Callable[[T, T], bool], asked: Sequence[Asked]
) -> None:
    for end_point, value in said:
        if value == found or not contradicts(value, found):
            continue
        told = f"{end_point.node}: says {value} where most nodes say {found} ({asked[0][0]})"
        log.warning("node contradicts the others", node=end_point.node, reason=told)
        end_point.trip(HostileAnswerError(told, Offence.CONTRADICTED))
