"""What traces cost the engine: a block with an opportunity that is traded, in the ledger on this disk, with spans and without them, by turns.

The collector is another process, which takes the protocol at its word; what it refuses or does not have is no figure. What is measured is processor time of the engine's
process, the thread that sends the spans with it: the disk's waits would drown it.
"""

from __future__ import annotations

import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mev.chain.collectors import NewBlock
from mev.domain import Block, State
from mev.runtime import tracing
from mev.runtime.config import TracesConfig
from mev.runtime.config_shared import CollectorUrl
from mev.runtime.storage import Database
from mev.trading.ledger import Ledger
from mev.trading.spans import Spans, spans_to
from prometheus_client import CollectorRegistry

from tests.bench.engine_trading import opportunity, submission
from tests.bench.figure import Figure
from tests.collector import Collector

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

CHAIN = "ethereum"
ROUNDS = 5
# Their spans are fewer than the queue holds.
BLOCKS = 250
SPANS_A_BLOCK = 12


def measure() -> Iterator[Figure]:
    """Processor microseconds a block; median of the rounds, traced and untraced by turns."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_collect, args=(theirs,), daemon=True)
    process.start()
    try:
        url = ours.recv()
        _round(None)
        rounds = [(_round(url), _round(None)) for _ in range(ROUNDS)]
        ours.send(None)
        refused, received = ours.recv()
    finally:
        process.kill()
        process.join()
    if refused or received != ROUNDS * BLOCKS * SPANS_A_BLOCK:
        raise SystemExit(f"traces: the collector has {received} spans and refused {refused}")
    traced, plain = (1_000_000 / BLOCKS * statistics.median(each) for each in zip(*rounds, strict=True))
    yield Figure("traced_block_processor_us", traced, "us", ROUNDS, "without traces", plain)


def _round(url: str | None) -> float:
    pipe = None
    if url is not None:
        pipe = tracing.connect(TracesConfig(endpoint=CollectorUrl(url)), "strategy_engine", CollectorRegistry())
    spans = Spans() if pipe is None else spans_to(pipe)
    with tempfile.TemporaryDirectory() as directory:
        database = Database(Path(directory) / "ledger.db")
        ledger = Ledger(database, stepped=spans.stepped)
        began = time.process_time()
        for number in range(1, BLOCKS + 1):
            _block(ledger, spans, number)
        if pipe is not None:
            pipe.close()
        used = time.process_time() - began
        database.close()
    return used


def _block(ledger: Ledger, spans: Spans, number: int) -> None:
    """As the desk and the pipeline do it, without what they ask of the node."""
    found, sent = opportunity(number), submission(number)
    block = NewBlock(Block(number, number.to_bytes(32, "big"), bytes(32), number, 7), (), behind=False)
    with spans.block(CHAIN, block):
        for part in ("apply", "follow"):
            with spans.part(CHAIN, part):
                pass
        with spans.part(CHAIN, "screen"):
            spans.turn(CHAIN, "size", 1)
        ledger.detect(found)
        spans.found(found)
        ledger.move(found.id, State.SCREENED)
        spans.enter(found.id, "simulate")
        ledger.simulated(found.id, 10**15, 200_000, 10**9)
        spans.enter(found.id, "risk", profit=10**15, gas=200_000)
        ledger.move(found.id, State.APPROVED)
        spans.enter(found.id, "sign")
        ledger.submit(sent)
        spans.sent(found.id)
        ledger.settle(sent, State.INCLUDED)


def _collect(asked: Connection) -> None:
    collector = Collector()
    asked.send(collector.url)
    asked.recv()
    asked.send((collector.refused, len(collector.spans)))
