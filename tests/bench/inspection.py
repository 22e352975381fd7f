"""How fast recorded blocks are inspected: from a file's decompressed bytes to every swap of V2 and V3 pools and every sandwich.

The only peer, mev-inspect-py, is in no package index and wants a PostgreSQL and a node: it is not run here. Before anything is timed swaps and sandwiches are
held against what it found in these blocks.
"""

from __future__ import annotations

import gzip
import statistics
import sys
import time
from collections.abc import Iterator, Sequence

from mev.chain.traces import decode_recorded
from mev.insight.sandwiches import find_sandwiches
from mev.market.recorded import read_market

from tests.bench.figure import Figure
from tests.recorded import BLOCKS
from tests.unit.mev.insight import test_sandwiches as labelled

ROUNDS = 3
# The ten blocks are done so often in a round: once takes thirty milliseconds.
PASSES = 10


def measure() -> Iterator[Figure]:
    """Transactions that were carried out, a second by the clock and of processor time; median of three rounds."""
    if not BLOCKS.is_dir():
        raise SystemExit(f"{BLOCKS} is not there: the recorded blocks stand beside a checkout")
    contents = [gzip.decompress(path.read_bytes()) for path in sorted(BLOCKS.glob("[0-9]*.json.gz"))]
    if labelled.found_sandwiches() != labelled.labelled_sandwiches():
        raise SystemExit("inspect: other sandwiches are found than are labelled, so nothing is timed")
    labelled.test_every_swap_of_a_recorded_block_is_read_to_the_wei()
    sys.stderr.write("inspect: the peer mev-inspect-py is in no package index, and so not installed here\n")
    rounds = [_round(contents) for _ in range(ROUNDS)]
    by_clock, of_processor = (statistics.median(each) for each in zip(*rounds, strict=True))
    yield Figure("inspect_tx_per_second", by_clock, "1/s", ROUNDS, more_is_better=True)
    yield Figure("inspect_tx_per_processor_second", of_processor, "1/s", ROUNDS, more_is_better=True)


def _round(contents: Sequence[bytes]) -> tuple[float, float]:
    done = 0
    began, used = time.perf_counter(), time.process_time()
    for _ in range(PASSES):
        for content in contents:
            block = decode_recorded(content)
            find_sandwiches(read_market(block).trades)
            done += len(block.transactions)
    return done / (time.perf_counter() - began), done / (time.process_time() - used)
