"""What the strategy engine's traces are made of; docs/engine.md lists the spans and what they bear.

A block is a trace: what its parts took, and below it each opportunity with the steps of its life in that block. `Spans` is what there is where traces
are off, and does nothing.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import structlog

from mev.chain.collectors import Event, NewBlock, Reset
from mev.domain import LEGAL_NEXT, State
from mev.trading.risk import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mev.domain import Opportunity
    from mev.runtime.otlp import Pipe, Span
    from mev.trading.ledger import Stepped

# Opportunities whose fate is awaited, or may be revised by a reorganisation.
SENT_KEPT = 1024
ABANDONED = "abandoned"


class Spans:
    """No traces."""

    @contextlib.contextmanager
    def block(self, chain: str, event: Event) -> Iterator[None]:  # noqa: ARG002 - what Traced looks at
        """While an event is taken in: a trace, where it is a block that is traded on."""
        yield

    @contextlib.contextmanager
    def part(self, chain: str, name: str) -> Iterator[None]:  # noqa: ARG002
        """While a part of that work is done."""
        yield

    def turn(self, chain: str, name: str, count: int) -> None:
        """The part at hand is done, with so many things found, and another begins, to end where that one would have."""

    def found(self, opportunity: Opportunity) -> None:
        """An opportunity is new, and written."""

    def enter(self, opportunity: str, name: str, **amounts: int) -> None:
        """The next step of an opportunity begins; `amounts` are what the one before came to."""

    def sent(self, opportunity: str) -> None:
        """An opportunity's transaction has been handed to the node: what is left is to hear of its fate."""

    def stepped(self, step: Stepped) -> None:
        """The ledger has a step."""


class _Block:
    """What is being done in a chain's block."""

    def __init__(self, span: Span) -> None:
        self.span = span
        self.part: Span | None = None


class _Opportunity:
    """An opportunity that is being decided on, and then one whose fate is awaited since a time, Unix ns."""

    def __init__(self, span: Span, step: Span, named: dict[str, str | int]) -> None:
        self.span = span
        self.step = step
        self.named = named
        self.since_ns = 0


class Traced(Spans):
    """Traces of one engine's chains. Whole amounts are text: attributes of spans have 64 bits."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._blocks: dict[str, _Block] = {}
        self._open: dict[str, _Opportunity] = {}
        self._sent: dict[str, _Opportunity] = {}

    @contextlib.contextmanager
    def block(self, chain: str, event: Event) -> Iterator[None]:
        """A trace of its own; log lines meanwhile bear its id."""
        # One behind is not traded on: after a pause there may be very many of them.
        if not isinstance(event, Reset | NewBlock) or (isinstance(event, NewBlock) and event.behind):
            yield
            return
        span = self._pipe.start("block", {"mev.chain": chain, "mev.block.number": event.block.number})
        self._blocks[chain] = _Block(span)
        named = {"trace_id": f"{span.get_span_context().trace_id:032x}"} if span.is_recording() else {}
        try:
            with structlog.contextvars.bound_contextvars(**named):
                yield
        finally:
            del self._blocks[chain]
            # The ledger could not be written, or the chain's task is ended.
            for name in [name for name, each in self._open.items() if each.named["mev.chain"] == chain]:
                self._close(self._open.pop(name), ABANDONED, failed=True)
            span.end()

    @contextlib.contextmanager
    def part(self, chain: str, name: str) -> Iterator[None]:
        """A span below the block's."""
        block = self._blocks.get(chain)
        if block is None:
            yield
            return
        block.part = self._part(chain, block, name)
        try:
            yield
        finally:
            block.part.end()
            block.part = None

    def turn(self, chain: str, name: str, count: int) -> None:
        """End the span of one part and begin another's."""
        block = self._blocks.get(chain)
        if block is not None and block.part is not None:
            block.part.set_attribute("mev.count", count)
            block.part.end()
            block.part = self._part(chain, block, name)

    def found(self, opportunity: Opportunity) -> None:
        """A span below the block's, until it is dropped or sent."""
        block = self._blocks.get(opportunity.chain)
        if block is None:
            return
        named: dict[str, str | int] = {
            "mev.chain": opportunity.chain,
            "mev.strategy": opportunity.strategy,
            "mev.opportunity": opportunity.id,
            "mev.block.number": opportunity.block_number,
        }
        amounts = {
            "mev.token": "0x" + opportunity.cycle.token.hex(),
            "mev.amount_in": str(opportunity.amount_in),
            "mev.expected_profit": str(opportunity.expected_profit),
        }
        span = self._pipe.start("opportunity", {**named, **amounts}, parent=block.span)
        self._open[opportunity.id] = _Opportunity(span, self._pipe.start("found", named, parent=span), named)

    def enter(self, opportunity: str, name: str, **amounts: int) -> None:
        """End the span of one step and begin the next one's."""
        decided = self._open.get(opportunity)
        if decided is None:
            return
        for what, amount in amounts.items():
            decided.step.set_attribute(f"mev.{what}", str(amount))
        decided.step.end()
        decided.step = self._pipe.start(name, decided.named, parent=decided.span)

    def sent(self, opportunity: str) -> None:
        """End the opportunity's span; that of its fate comes when it is known, below it."""
        decided = self._open.pop(opportunity, None)
        if decided is None:
            return
        self._close(decided, State.SUBMITTED)
        decided.since_ns = time.time_ns()
        self._sent[opportunity] = decided
        if len(self._sent) > SENT_KEPT:
            del self._sent[next(iter(self._sent))]

    def stepped(self, step: Stepped) -> None:
        """What ends an opportunity ends its spans, whoever said so."""
        final = not LEGAL_NEXT[step.state]
        if step.opportunity in self._open:
            if step.state is State.SUBMITTED:
                # Signed and written.
                self.enter(step.opportunity, "send")
            elif final:
                failed = step.state is not State.DROPPED
                self._close(self._open.pop(step.opportunity), step.state, step.reason, failed=failed)
        elif final:
            self._settled(step)
        elif step.opportunity in self._sent:
            # A reorganisation took its fate back.
            self._sent[step.opportunity].since_ns = time.time_ns()

    def _settled(self, step: Stepped) -> None:
        sent, block = self._sent.get(step.opportunity), self._blocks.get(step.chain)
        if sent is not None:
            links = [block.span] if block else []
            span = self._pipe.start("settle", sent.named, parent=sent.span, links=links, began_ns=sent.since_ns)
        elif block is not None and step.reason != Reason.INTERRUPTED:
            # It was sent before this process began.
            named = {"mev.chain": step.chain, "mev.strategy": step.strategy, "mev.opportunity": step.opportunity}
            span = self._pipe.start("settle", named, parent=block.span)
        else:
            return
        self._pipe.end(span, step.state, step.reason, failed=step.state is not State.INCLUDED)

    def _close(self, opportunity: _Opportunity, outcome: str, reason: str = "", *, failed: bool = False) -> None:
        for span in (opportunity.step, opportunity.span):
            self._pipe.end(span, outcome, reason, failed=failed)

    def _part(self, chain: str, block: _Block, name: str) -> Span:
        return self._pipe.start(name, {"mev.chain": chain}, parent=block.span)


def spans_to(pipe: Pipe | None) -> Spans:
    """Return what makes spans for a pipe, or nothing where there is none."""
    return Spans() if pipe is None else Traced(pipe)
