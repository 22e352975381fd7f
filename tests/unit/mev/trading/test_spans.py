"""A block is a trace: what its parts took, and below it each opportunity's life, in the ledger's words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
from mev.chain.collectors import NewBlock, Reorg, Reset
from mev.domain import Block, Opportunity, State
from mev.runtime.otlp import Pipe
from mev.runtime.storage import Database
from mev.trading import spans as module
from mev.trading.ledger import Ledger, Stepped
from mev.trading.spans import Spans, Traced, spans_to
from prometheus_client import CollectorRegistry

from tests.collector import Collector, Received
from tests.unit.mev.collecting import collector, pipe_to
from tests.unit.mev.trading.conftest import submission

__all__ = ["collector"]

CHAIN = "ethereum"
# More than 64 bits hold.
MUCH = 10**30


@pytest.fixture
def pipe(collector: Collector) -> Pipe:
    return pipe_to(collector.url, CollectorRegistry())


@pytest.fixture
def spans(pipe: Pipe) -> Spans:
    return spans_to(pipe)


@pytest.fixture
def ledger(tmp_path: Path, spans: Spans) -> Iterator[Ledger]:
    database = Database(tmp_path / "ledger.db")
    yield Ledger(database, stepped=spans.stepped)
    database.close()


def new(number: int, *, behind: bool = False) -> NewBlock:
    return NewBlock(Block(number, bytes([number]) * 32, bytes([number - 1]) * 32, 1700000000, 7), (), behind)


def detect(ledger: Ledger, spans: Spans, found: Opportunity) -> None:
    """As the pipeline does it."""
    assert ledger.detect(found)
    spans.found(found)
    ledger.move(found.id, State.SCREENED)


def one(collector: Collector, name: str) -> Received:
    assert collector.refused == []
    (span,) = collector.named(name)
    return span


def test_a_block_with_one_opportunity_nests_and_bears_the_ids(
    collector: Collector, pipe: Pipe, spans: Spans, ledger: Ledger, opportunity: Callable[..., Opportunity]
) -> None:
    with spans.block(CHAIN, new(7)):
        with spans.part(CHAIN, "apply"):
            pass
        with spans.part(CHAIN, "screen"):
            spans.turn(CHAIN, "size", 3)
        detect(ledger, spans, opportunity("a", amount_in=MUCH, expected_out=MUCH + 5))
        spans.enter("a", "simulate")
        ledger.simulated("a", MUCH, 21000, 7)
        spans.enter("a", "risk", profit=MUCH, gas=21000)
        ledger.move("a", State.APPROVED)
        spans.enter("a", "sign")
        ledger.submit(submission("a"))
        spans.sent("a")
    with spans.block(CHAIN, new(8)):
        ledger.settle(submission("a"), State.INCLUDED)
    pipe.close()

    first, second = collector.named("block")
    found = one(collector, "opportunity")
    assert (first.parent, second.parent, first.trace == second.trace) == ("", "", False)
    assert first.attributes == {"mev.chain": CHAIN, "mev.block.number": 7}
    assert collector.below(first) == ["apply", "screen", "size", "opportunity"]
    assert one(collector, "screen").attributes["mev.count"] == 3
    assert collector.below(found) == ["found", "simulate", "risk", "sign", "send", "settle"]
    named = {
        "mev.chain": CHAIN,
        "mev.strategy": "atomic_arbitrage",
        "mev.opportunity": "a",
        "mev.block.number": 7,
    }
    for name in ("found", "simulate", "risk", "sign", "send", "settle"):
        assert named.items() <= one(collector, name).attributes.items()
    assert found.attributes == {
        **named,
        "mev.token": "0x" + 20 * "ee",
        "mev.amount_in": str(MUCH),
        "mev.expected_profit": "5",
        "mev.outcome": "submitted",
    }
    # What a step came to is on the step that found it out.
    assert one(collector, "simulate").attributes["mev.profit"] == str(MUCH)
    settled = one(collector, "settle")
    assert (settled.attributes["mev.outcome"], settled.failed, settled.links) == ("included", False, [second.id])
    assert settled.began_ns >= found.ended_ns
    for span in collector.spans:
        if span.parent == found.id and span is not settled:
            assert found.began_ns <= span.began_ns <= span.ended_ns <= found.ended_ns
    raw = b"".join(collector.bodies)
    assert submission("a").raw not in raw
    assert submission("a").raw.hex().encode() not in raw


@pytest.mark.parametrize(
    ("state", "reason", "failed"), [(State.DROPPED, "not_best", False), (State.EXPIRED, "interrupted", True)]
)
def test_what_ends_at_once_says_why(
    collector: Collector,
    pipe: Pipe,
    spans: Spans,
    ledger: Ledger,
    opportunity: Callable[..., Opportunity],
    state: State,
    reason: str,
    failed: bool,
) -> None:
    with spans.block(CHAIN, Reset(new(7).block)):
        detect(ledger, spans, opportunity("a"))
        ledger.move("a", state, reason)
    pipe.close()
    for name in ("found", "opportunity"):
        ended = one(collector, name)
        assert (ended.attributes["mev.outcome"], ended.attributes["mev.reason"], ended.failed) == (
            state,
            reason,
            failed,
        )
    assert collector.named("settle") == []


def test_what_a_fault_leaves_open_ends_with_its_block(
    collector: Collector, pipe: Pipe, spans: Spans, ledger: Ledger, opportunity: Callable[..., Opportunity]
) -> None:
    def fault() -> None:
        with spans.block(CHAIN, new(7)), spans.part(CHAIN, "screen"):
            detect(ledger, spans, opportunity("a"))
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fault()
    # It is nobody's any more.
    spans.enter("a", "simulate")
    pipe.close()
    assert {span.name for span in collector.spans} == {"block", "screen", "opportunity", "found"}
    assert (one(collector, "opportunity").attributes["mev.outcome"], one(collector, "opportunity").failed) == (
        "abandoned",
        True,
    )


def test_a_fate_that_a_reorganisation_took_back_is_told_again(
    collector: Collector, pipe: Pipe, spans: Spans, ledger: Ledger, opportunity: Callable[..., Opportunity]
) -> None:
    with spans.block(CHAIN, new(7)):
        detect(ledger, spans, opportunity("a"))
        ledger.simulated("a", 1, 1, 1)
        ledger.move("a", State.APPROVED)
        ledger.submit(submission("a"))
        spans.sent("a")
    for reason in ("", "reverted"):
        with spans.block(CHAIN, new(8)):
            spans.stepped(step(State.REVERTED if reason else State.INCLUDED, reason))
            spans.stepped(step(State.SUBMITTED, "reorganised"))
    pipe.close()
    settled = collector.named("settle")
    assert [(span.attributes["mev.outcome"], span.failed) for span in settled] == [
        ("included", False),
        ("reverted", True),
    ]
    assert {span.parent for span in settled} == {one(collector, "opportunity").id}
    assert settled[1].began_ns >= settled[0].ended_ns


def step(state: State, reason: str, opportunity: str = "a") -> Stepped:
    return Stepped(CHAIN, "atomic_arbitrage", state, reason, opportunity)


def test_what_was_sent_before_this_process_began_is_told_in_the_block_at_hand(
    collector: Collector, pipe: Pipe, spans: Spans
) -> None:
    with spans.block(CHAIN, new(8)):
        spans.stepped(step(State.INCLUDED, "", "before"))
        spans.stepped(step(State.EXPIRED, "interrupted", "never sent"))
    pipe.close()
    settled = one(collector, "settle")
    assert (settled.parent, settled.attributes["mev.opportunity"]) == (one(collector, "block").id, "before")


def test_blocks_behind_and_reorganisations_are_no_traces(collector: Collector, pipe: Pipe, spans: Spans) -> None:
    for event in (new(7, behind=True), Reorg(new(6).block)):
        with spans.block(CHAIN, event), spans.part(CHAIN, "apply"):
            spans.turn(CHAIN, "size", 1)
    pipe.close()
    assert collector.spans == []


def test_what_is_awaited_is_bounded(
    pipe: Pipe,
    spans: Spans,
    ledger: Ledger,
    opportunity: Callable[..., Opportunity],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "SENT_KEPT", 2)
    with spans.block(CHAIN, new(7)):
        for name in "abc":
            detect(ledger, spans, opportunity(name))
            spans.sent(name)
    assert isinstance(spans, Traced)
    assert set(spans._sent) == {"b", "c"}
    pipe.close()


def test_log_lines_of_a_block_bear_its_trace(collector: Collector, pipe: Pipe, spans: Spans) -> None:
    with spans.block(CHAIN, new(7)):
        inside = structlog.contextvars.get_contextvars()
    pipe.close()
    assert inside == {"trace_id": one(collector, "block").trace}
    assert structlog.contextvars.get_contextvars() == {}
    # Without traces there is nothing to bear.
    with Spans().block(CHAIN, new(7)):
        assert structlog.contextvars.get_contextvars() == {}
