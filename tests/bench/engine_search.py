"""Where the engine's time goes once a block is in: screening cycles, sizing the best, discovery by prices, splitting, and what all of it weighs.

The market of cycles has 1,197 pairs between 19 tokens, and of its cycles of two and three swaps 100,000 are taken. That of discovery has 5,000 pairs
between 1,000 tokens, one cycle of three among them that pays; degenbot is asked of every tenth cycle whether it pays, without how much. rustworkx is given the same weights. The weight is that of the strategy engine
following the lab's seeded chain, V3 pools included.
"""

from __future__ import annotations

import itertools
import math
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from mev.domain import Block, Pool, V2State
from mev.market.state import MarketState
from mev.search.graph import CycleIndex, Cycles
from mev.search.legs import AnyLeg, Leg
from mev.search.negative_cycle import RateGraph
from mev.search.rates import Floats
from mev.search.sizing import screen, size_exact
from mev.search.splitting import split
from mev.trading.execution.transaction import Signer

from lab.checkout import Checkout
from lab.evm import devnode, npm
from tests.bench.engine import DEGENBOT, Peers, install
from tests.bench.figure import Figure
from tests.integration.mev.conftest import Installation, at_rest

ROUNDS = 3
GENESIS = Block(0, bytes(32), bytes(32), 0, 0)
TOKENS, PARALLEL, CYCLES, BEST = 19, 7, 100_000, 100
PEER_PART = 10
GRAPH_TOKENS, GRAPH_POOLS = 1_000, 5_000
ROUTE_POOLS = 1_000
UNIT = 10**18


def measure() -> Iterator[Figure]:
    """Median of three rounds each; by turns with the peer where there is one."""
    yield from measure_cycles()
    yield measure_negative()
    yield measure_route()
    yield measure_rss()


def measure_cycles() -> Iterator[Figure]:
    """Cycles screened a second, and milliseconds for screening all and sizing the best hundred in the contracts' integers."""
    state = _market()
    index = CycleIndex(state.pools().values(), [_token(0)])
    cycles = Cycles(index, np.arange(CYCLES, dtype=np.int32))
    if len(index.cycles) < CYCLES or len(screen(cycles, state)) < BEST:
        raise SystemExit("the market has too few cycles")
    # The peer takes microseconds for each: every tenth.
    part = Cycles(index, np.arange(0, CYCLES, PEER_PART, dtype=np.int32))
    hops = [[step for step in row if step < 2 * len(index.pools)] for row in index.hops[part.positions].tolist()]
    pairs = [state.v2(pool.address) for pool in index.pools]
    install()
    with Peers({"pairs": [[pair.reserve0, pair.reserve1] for pair in pairs], "screen": hops}) as peers:
        theirs = {int(part.positions[place]) for place in peers.answers("screen")}
        if {index.cycles[position] for position in theirs} != set(screen(part, state)):
            raise SystemExit(f"screen_cycles_per_second: {DEGENBOT} finds others, so nothing is compared")
        rounds = [
            (CYCLES / _seconds(lambda: screen(cycles, state)), len(part) / peers.seconds("screen"))
            for _ in range(ROUNDS)
        ]
    mine, other = (statistics.median(each) for each in zip(*rounds, strict=True))
    yield Figure("screen_cycles_per_second", mine, "1/s", ROUNDS, DEGENBOT, other, more_is_better=True)
    sized = _median(lambda: [size_exact(cycle, state) for cycle in screen(cycles, state)[:BEST]])
    yield Figure("top100_of_100k_ms", 1000 * sized, "ms", ROUNDS)


def measure_negative() -> Figure:
    """Milliseconds until a cycle that pays is found, the weights being there."""
    graph, weights = _graph()
    edges = [
        edge
        for place, pool in enumerate(graph.pools)
        for edge in (
            (_number(pool.token0), _number(pool.token1), float(weights[2 * place])),
            (_number(pool.token1), _number(pool.token0), float(weights[2 * place + 1])),
        )
    ]
    install()
    with Peers({"nodes": GRAPH_TOKENS, "negative": edges}) as peers:
        if peers.answers("negative") != [True] or graph.negative_cycle(weights) is None:
            raise SystemExit("negative_cycle_5k_ms: one of both finds nothing, so nothing is compared")
        rounds = [(_seconds(lambda: graph.negative_cycle(weights)), peers.seconds("negative")) for _ in range(ROUNDS)]
    ours, theirs = (1000 * statistics.median(each) for each in zip(*rounds, strict=True))
    return Figure("negative_cycle_5k_ms", ours, "ms", ROUNDS, "rustworkx", theirs)


def measure_route() -> Figure:
    """Milliseconds for splitting one amount over a thousand parallel pairs."""
    draw = random.Random(1)  # noqa: S311
    depths = [10 ** draw.uniform(2, 6) for _ in range(ROUTE_POOLS)]
    legs: list[AnyLeg] = [
        Leg(int(depth * UNIT), int(depth * draw.uniform(0.98, 1.02) * UNIT), 997, 1000) for depth in depths
    ]
    amount = 10**5 * UNIT
    found = split(legs, amount)
    if found.bound - found.amount_out > found.bound // 10**9:
        raise SystemExit(f"route_1000_pools_ms: {found.amount_out} is not the best, which is up to {found.bound}")
    return Figure("route_1000_pools_ms", 1000 * _median(lambda: split(legs, amount)), "ms", ROUNDS)


def measure_rss() -> Figure:
    """Megabytes that the strategy engine holds after it has followed the lab's chain for a few blocks."""
    checkout = Checkout.here()
    with checkout.locked("npm"):
        modules = npm.install(checkout.state / "npm")
    held = []
    with devnode.start(modules) as evm:
        for _ in range(ROUNDS):
            with tempfile.TemporaryDirectory() as directory:
                made = Installation(evm, Path(directory), Signer(b"\x17" * 32), evm.ws, "observe", v3_fees=(500, 3000))
                with made.agent("strategy_engine") as engine:
                    for _ in range(3):
                        evm.trade()
                    at_rest(made)
                    held.append(engine.rss_mb())
    return Figure("rss_mb", statistics.median(held), "MB", ROUNDS)


def _market() -> MarketState:
    draw = random.Random(1)  # noqa: S311
    prices = [10 ** draw.uniform(-2, 2) for _ in range(TOKENS)]
    states: dict[Pool, V2State] = {}
    for one, other in itertools.combinations(range(TOKENS), 2):
        for _ in range(PARALLEL):
            depth = 10 ** draw.uniform(20, 24)
            reserves = int(depth / prices[one]), int(depth / prices[other] * (1 + draw.gauss(0, 0.002)))
            states[_pool(len(states), one, other)] = V2State(*reserves, 0)
    return MarketState(GENESIS, states)


def _graph() -> tuple[RateGraph, Floats]:
    draw = random.Random(1)  # noqa: S311
    # A ring first, so that every token is reached; the first three pools make the cycle that pays.
    ends = [(number, (number + 1) % GRAPH_TOKENS) for number in range(GRAPH_TOKENS)]
    ends += [tuple(draw.sample(range(GRAPH_TOKENS), 2)) for _ in range(GRAPH_POOLS - GRAPH_TOKENS - 1)]  # type: ignore[misc]
    ends.append((2, 0))
    graph = RateGraph([_pool(place, *sorted(pair)) for place, pair in enumerate(ends)])
    fee = -math.log(0.997)
    rates = [draw.gauss(0, 0.0004) for _ in ends]
    for place in (0, 1, len(ends) - 1):
        rates[place] = 0.004 if ends[place][0] < ends[place][1] else -0.004
    return graph, np.asarray([side for rate in rates for side in (fee - rate, fee + rate)])


def _pool(place: int, one: int, other: int) -> Pool:
    return Pool((2**100 + place).to_bytes(20, "big"), "uniswap_v2", _token(one), _token(other), 997, 1000)


def _token(number: int) -> bytes:
    return (number + 1).to_bytes(20, "big")


def _number(token: bytes) -> int:
    return int.from_bytes(token, "big") - 1


def _median(run: Callable[[], object]) -> float:
    return statistics.median(_seconds(run) for _ in range(ROUNDS))


def _seconds(run: Callable[[], object]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun
