"""The engine's way to its chain and its start: JSON-RPC latency on loopback, and loading a million pools from disk.

RPC: eth_getBlockByNumber of anvil over one WebSocket, ours beside web3, each in a process of its own, by turns.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mev.chain.rpc import Rpc
from mev.chain.wire import Head
from mev.domain import Block, Pool, V2State
from mev.market.snapshot import load, save

from lab.checkout import Checkout
from lab.evm import chains, devnode, npm
from tests.bench.engine import Peers, install
from tests.bench.figure import Figure

ROUNDS = 3
CALLS = 2000
POOLS = 1_000_000
TOKENS = 400_000
# What the peers' lock has, because degenbot's version takes no newer one.
WEB3 = "web3 7.16.0"
METHOD, PARAMS = "eth_getBlockByNumber", ("latest", False)


def measure() -> Iterator[Figure]:
    """Median of three rounds each."""
    yield from measure_rpc()
    yield measure_snapshot()


def measure_rpc() -> Iterator[Figure]:
    """p50 and p99 of a call, milliseconds."""
    checkout = Checkout.here()
    with checkout.locked("npm"):
        modules = npm.install(checkout.state / "npm")
    chain = chains.get("ethereum")
    with devnode.bare(modules, chain) as (rpc, _):
        ws = rpc.url.replace("http", "ws", 1)
        install()
        with Peers({"rpc": ws, "asked": CALLS}) as peers:
            ours, theirs = asyncio.run(_rounds(ws, chain.id, peers))
    for percent in (50, 99):
        yield Figure(f"rpc_p{percent}_ms", _median(ours, percent), "ms", ROUNDS, WEB3, _median(theirs, percent))


def measure_snapshot() -> Figure:
    """Seconds from a file of a million V2 pools to pools and reserves that the engine can use."""
    took = []
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "snapshot"
        block = Block(1, b"\x01" * 32, bytes(32), 0, 0)
        save(path, 1, block, _pools())
        for _ in range(ROUNDS):
            gc.collect()
            began = time.perf_counter()
            _, states = load(path, 1)
            took.append(time.perf_counter() - began)
            if len(states) != POOLS:
                raise SystemExit(f"{len(states)} pools were loaded, not {POOLS}")
            del states
    return Figure("snapshot_load_million_pools_seconds", statistics.median(took), "s", ROUNDS)


def _pools() -> dict[Pool, V2State]:
    tokens = [number.to_bytes(20, "big") for number in range(TOKENS)]
    return {
        Pool(
            (2**100 + number).to_bytes(20, "big"),
            "uniswap_v2",
            tokens[number % TOKENS],
            tokens[(7 * number + 1) % TOKENS],
            997,
            1000,
        ): V2State(10**18 + number, 10**24 + number, number)
        for number in range(POOLS)
    }


async def _rounds(ws: str, chain_id: int, peers: Peers) -> tuple[list[list[float]], list[list[float]]]:
    ours: list[list[float]] = []
    theirs: list[list[float]] = []
    async with Rpc(ws, chain_id=chain_id) as rpc:
        for _ in range(ROUNDS):
            ours.append([await _timed(lambda: rpc.call_as(Head, METHOD, PARAMS)) for _ in range(CALLS)])
            *took, block = await asyncio.to_thread(peers.answers, "rpc")
            head = await rpc.call_as(Head, METHOD, PARAMS)
            if head is None or block != head.hash:
                raise SystemExit("rpc_p50_ms: web3 got another block, so nothing is compared")
            theirs.append(took)
    return ours, theirs


async def _timed(call: Any) -> float:
    began = time.perf_counter()
    await call()
    return (time.perf_counter() - began) * 1000


def _median(rounds: list[list[float]], percent: int) -> float:
    return statistics.median(statistics.quantiles(each, n=100)[percent - 1] for each in rounds)


if __name__ == "__main__":
    for figure in measure():
        sys.stdout.write(figure.json() + "\n")
