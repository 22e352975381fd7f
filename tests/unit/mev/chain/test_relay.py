"""Who is handed trades is a stranger: bounded, left alone while it misbehaves, named without the key in its URL."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
from mev.chain.errors import (
    HostileAnswerError,
    Offence,
    RpcError,
    RpcNotSentError,
    RpcTimeoutError,
    RpcUnavailableError,
)
from mev.chain.health import Breaker, BreakerState
from mev.chain.relay import Relay

from tests.builders import Taker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECRET = "5e5a4e5e5a4e5e5a4e"


@pytest.fixture
def taker() -> Iterator[Taker]:
    made = Taker()
    yield made
    made.close()


def ask(taker: Taker, *methods: str, breaker: Breaker | None = None, seconds: float = 5) -> list[object]:
    """What one relay says to one call after the other, a failure as itself."""

    async def run() -> list[object]:
        relay = Relay("own", f"{taker.url}/{SECRET}", timeout_seconds=seconds, breaker=breaker)
        said: list[object] = []
        for method in methods:
            try:
                said.append(await relay.ask(method, ["0x"]))
            except (RpcError, RpcUnavailableError) as error:
                said.append(error)
        await relay.close()
        return said

    return asyncio.run(run())


def test_a_refusal_is_the_place_s_own_words_without_the_key(taker: Taker) -> None:
    taker.answer = lambda said: json.dumps({**said, "error": {"code": -1, "message": f"{SECRET} is no key"}}).encode()
    (refusal,) = ask(taker, "eth_call")
    assert isinstance(refusal, RpcError)
    assert str(refusal) == "... is no key"
    assert taker.paths == [f"/relay/{SECRET}"]


@pytest.mark.parametrize(
    ("answer", "kind", "offence"),
    [
        (lambda _: b"<html>", RpcUnavailableError, None),
        (lambda said: json.dumps([said, said]).encode(), HostileAnswerError, Offence.WRONG_ID),
        (lambda said: json.dumps({**said, "id": 9}).encode(), HostileAnswerError, Offence.WRONG_ID),
        (lambda _: b"[" * 100_000, RpcUnavailableError, None),
        (lambda _: b"a" * 300_000, HostileAnswerError, Offence.TOO_LARGE),
        (lambda said: json.dumps({"id": said["id"]}).encode(), RpcUnavailableError, None),
    ],
)
def test_rubbish_is_named_and_leaves_it_alone_for_a_while(
    taker: Taker, answer: Callable[[object], bytes], kind: type[Exception], offence: Offence | None
) -> None:
    taker.answer = answer
    breaker = Breaker()
    first, second = ask(taker, "eth_call", "eth_call", breaker=breaker)
    assert isinstance(first, kind)
    assert str(first).startswith("own: ")
    assert getattr(first, "offence", None) is offence
    assert isinstance(second, RpcNotSentError)
    assert "left alone" in str(second)
    assert breaker.state is BreakerState.OPEN
    assert len(taker.paths) == 1


def test_silence_is_bounded_and_may_have_been_heard(taker: Taker) -> None:
    taker.gate.clear()
    (silence,) = ask(taker, "eth_call", seconds=0.3)
    assert type(silence) is RpcTimeoutError


def test_where_nothing_listens_nothing_was_sent(taker: Taker) -> None:
    taker.close()
    (absent,) = ask(taker, "eth_call")
    assert type(absent) is RpcNotSentError


def test_after_its_pause_it_is_asked_again_and_an_answer_ends_it(taker: Taker) -> None:
    seconds = 0.0
    breaker = Breaker(now=lambda: seconds, draw=lambda: 1.0)
    breaker.open("it was away")
    (paused,) = ask(taker, "eth_call", breaker=breaker)
    assert isinstance(paused, RpcNotSentError)
    seconds = 1.0
    (refusal,) = ask(taker, "eth_call", breaker=breaker)
    assert isinstance(refusal, RpcError)
    assert breaker.state is BreakerState.CLOSED
