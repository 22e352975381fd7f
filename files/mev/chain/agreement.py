"""What most of a chain's nodes say: money is not moved, and nothing is booked, on the word of one where there are several.

Every connected node is asked the same at the same time, one whose first connection is still being made too; more than half of them have to say the same. A node that does not
answer has not said it. One that cannot be connected to is not counted: where only one is left, it is believed, as where only one is configured.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

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

log = structlog.get_logger(__name__)


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
    voters = [each for each in end_points if each.wrong_chain is None and (each.ready or each.unheard)]
    running = {asyncio.create_task(each.ask(asked, timeout_seconds)): each for each in voters}
    said: list[tuple[EndPoint, T]] = []
    silent: list[str] = []
    count = len(voters)
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
