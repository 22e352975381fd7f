"""What following a lending market of 100,000 borrowers takes: a block whose prices move a little, one whose price falls by a tenth, and memory.

Whom the heap finds is held against everybody's health factor, computed one by one, before a figure is given.
"""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from mev.domain import Block
from mev.market.lending.aave_book import AaveBook, Position
from mev.market.lending.aave_v3 import health_factor
from mev.market.lending.wad_ray import WAD
from mev.market.lending.watch import Watch

from tests.bench.figure import Figure
from tests.unit.mev.market.lending_books import ASSETS, DECIMALS, PRICES, book, child, listings, owing
from tests.unit.mev.search.markets import GENESIS, NATIVE

BORROWERS = 100_000
# Blocks of either kind; those whose positions change are as many as fit into a busy one.
BLOCKS = 25
CHANGED = 50
SECONDS = 12


def measure() -> Iterator[Figure]:
    """Milliseconds a block and megabytes."""
    draw = random.Random(1)  # noqa: S311
    gc.collect()
    before = _rss_mb()
    held, watch = book(dict(_borrower(draw, number) for number in range(BORROWERS))), Watch()
    began = time.perf_counter()
    watch.liquidatable(held, (), anew=True)
    start_seconds = time.perf_counter() - began
    block, prices = GENESIS, dict(PRICES)
    calm = []
    for _ in range(BLOCKS):
        prices = {asset: price + int(price * draw.gauss(0, 0.0003)) for asset, price in prices.items()}
        block, milliseconds, _ = _next(held, watch, block, prices, draw)
        calm.append(milliseconds)
    gc.collect()
    weight = _rss_mb() - before
    block, fallen, found = _next(held, watch, block, {**prices, NATIVE: prices[NATIVE] * 9 // 10}, draw)
    below = sorted(user for user in held.positions() if _health(held, user) < WAD)
    if found != below or not found:
        raise SystemExit(f"lending: {len(found)} borrowers are found, and {len(below)} are below the threshold")
    yield Figure("lending_100k_block_ms", statistics.median(calm), "ms", BLOCKS)
    yield Figure("lending_100k_fall_ms", fallen, "ms", 1)
    yield Figure("lending_100k_start_ms", 1000 * start_seconds, "ms", 1)
    yield Figure("lending_100k_rss_mb", weight, "MB", 1)


def _next(
    held: AaveBook, watch: Watch, parent: Block, prices: dict[bytes, int], draw: random.Random
) -> tuple[Block, float, list[bytes]]:
    """Apply a block with these prices and some new positions, and ask who can be liquidated."""
    block = child(parent, SECONDS)
    changed = dict(_borrower(draw, draw.randrange(BORROWERS)) for _ in range(CHANGED))
    said = listings(prices)
    began = time.perf_counter()
    users = held.apply(block, said, {}, changed)
    found = watch.liquidatable(held, users, anew=False)
    return block, 1000 * (time.perf_counter() - began), found


def _borrower(draw: random.Random, number: int) -> tuple[bytes, Position]:
    """Somebody with a debt of a hundred dollars to a million, and a health factor of 1.02 to 3, most near the lower end."""
    collateral, debt = draw.sample(ASSETS, 2)
    dollars = 10 ** draw.uniform(2, 6)
    health = 1.02 + draw.expovariate(3)
    supplied = int(dollars * min(health, 3) / 0.8 * 10 ** DECIMALS[collateral] * 10**8 / PRICES[collateral])
    owed = int(dollars * 10 ** DECIMALS[debt] * 10**8 / PRICES[debt])
    return number.to_bytes(20, "big"), owing(collateral, supplied, debt, owed)


def _health(held: AaveBook, user: bytes) -> int:
    position = held.position(user, held.block.timestamp)
    return WAD if position is None else health_factor(position)


def _rss_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1000
