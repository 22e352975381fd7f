"""The engine's own speed, each figure beside the peer that does the same work: what is there so far, quotes and decoders.

Peers run in a virtual environment of the suite's own (requirements/bench-engine.txt), in one process (tests/bench/peers.py) that is asked by
turns with ours. Before anything is timed, both sides' answers to the whole work are compared.
"""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import msgspec
from eth_abi.abi import encode
from mev.chain.abi import selector
from mev.chain.abi.logs import decode_log
from mev.chain.abi.routers import decode_call
from mev.chain.wire import WireLog
from mev.chain.wire import encode as hexed
from mev.domain.calls import RouterCall
from mev.domain.events import PairSwap, PoolSwap, Sync
from mev.market.amm import amount_out
from mev.market.amm.concentrated import ConcentratedPool
from mev.market.amm.ticks import Ticks

from tests.bench.figure import Figure
from tests.environments import environment

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".build" / "bench-engine"
RECORDED = ROOT / "tests" / "unit" / "mev" / "market" / "recorded" / "concentrated.json"
ROUNDS = 3
QUOTES = 20_000
LOGS = 9_000
CALLS = 3_000
DEGENBOT = "degenbot 0.3.0"
ETH_ABI = "eth_abi"

SYNC_TOPIC = "1c411e9a96e071241c2f21f7726b17ae89e3cab4c78be50e062b03a9fffbbad1"
PAIR_SWAP_TOPIC = "d78ad95fa46c994b6551d0da85fc275fe613ce37657fb8d5e3d130840159d822"
POOL_SWAP_TOPIC = "c42079f94a6350d7e6235f29174924f928cc2ac818eb64fed8004e115fbcca67"
V2_SWAP = "swapExactTokensForTokens(uint256,uint256,address[],address,uint256)"
V3_SWAP = "exactInputSingle((address,address,uint24,address,uint256,uint256,uint256,uint160))"
EXECUTE = "execute(bytes,bytes[],uint256)"


def measure() -> Iterator[Figure]:
    """Quotes, logs and calls a second; median of three rounds, ours and the peer's by turns."""
    install()
    work = _work()
    with Peers(work) as peers:
        pairs, pool, wire, calls = work["v2"], _pool(work), work["logs"].encode(), _bytes(work["calls"])
        ours: dict[str, tuple[str, str, Callable[[], list[Any]]]] = {
            "v2": (
                "v2_quotes_per_second",
                DEGENBOT,
                lambda: [amount_out(amount, one, other, 997, 1000) for amount, one, other in pairs],
            ),
            "v3": (
                "v3_quotes_per_second",
                DEGENBOT,
                lambda: [pool.amount_out(amount, zero_for_one=way) for way, amount in work["v3"]],
            ),
            "logs": ("logs_per_second", "json + eth_abi", lambda: _logs(wire)),
            "calls": ("calldata_decodes_per_second", ETH_ABI, lambda: [decode_call(call) for call in calls]),
        }
        for kind, (name, peer, run) in ours.items():
            answers = run()
            if _plain(kind, answers) != peers.answers(kind):
                raise SystemExit(f"{name}: the peer {peer} answers otherwise, so nothing is compared")
            rounds = [(len(answers) / _seconds(run), len(answers) / peers.seconds(kind)) for _ in range(ROUNDS)]
            mine, theirs = (statistics.median(each) for each in zip(*rounds, strict=True))
            yield Figure(name, mine, "1/s", ROUNDS, peer, theirs, more_is_better=True)


class Peers:
    """The peers' process: takes the work once, then does a kind of it as often as it is told."""

    def __init__(self, work: dict[str, Any]) -> None:
        self._process = subprocess.Popen(
            [VENV / "bin" / "python", "-P", ROOT / "tests" / "bench" / "peers.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._ask(work)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # web3 has the process take no notice of SIGTERM while its loop stands still; it has nothing to lose.
        self._process.kill()
        self._process.wait()

    def answers(self, kind: str) -> Any:
        """What the peer answers."""
        return self._ask({"answers": kind})

    def seconds(self, kind: str) -> float:
        """How long the peer takes for all of it."""
        return float(self._ask({"seconds": kind}))

    def _ask(self, question: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the peers' process ended; what it said stands above")
        return json.loads(line)


def _logs(wire: bytes) -> list[Any]:
    found = msgspec.json.decode(wire, type=list[WireLog])
    return [decode_log(*log.content()) for log in found]


def _plain(kind: str, answers: list[Any]) -> list[Any]:
    """Put our answers into the peer's form: numbers alone."""
    if kind == "logs":
        return [_numbers(event) for event in answers]
    if kind == "calls":
        return [_amounts(call) for call in answers]
    return answers


def _numbers(event: object) -> list[int]:
    match event:
        case Sync(one, other):
            return [one, other]
        case PairSwap() | PoolSwap():
            return [value for value in msgspec.structs.astuple(event) if isinstance(value, int)]
    raise SystemExit(f"{event} is not what was to be decoded")


def _amounts(call: object) -> list[int]:
    if not isinstance(call, RouterCall):
        raise SystemExit(f"{call} is not what was to be decoded")
    return [number for swap in call.swaps for number in (swap.amount, swap.limit, swap.deadline or 0)]


def _seconds(run: Callable[[], object]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def _pool(work: dict[str, Any]) -> ConcentratedPool:
    state = work["pool"]
    return ConcentratedPool(
        Ticks({int(tick): net for tick, net in state["ticks"].items()}, state["tick_spacing"]),
        sqrt_price_x96=state["sqrt_price_x96"],
        tick=state["tick"],
        liquidity=state["liquidity"],
        fees=(state["fee"], state["fee"]),
    )


def _bytes(calls: list[str]) -> list[bytes]:
    return [bytes.fromhex(call) for call in calls]


def _work() -> dict[str, Any]:
    draw = random.Random(1)  # noqa: S311
    pool = json.loads(RECORDED.read_text())[0]["pool"]
    return {
        "v2": [[int(2 ** draw.uniform(*bits)) for bits in ((10, 80), (50, 100), (50, 100))] for _ in range(QUOTES)],
        "pool": pool,
        # From dust to what moves the price by a few per cent.
        "v3": [
            (way, int(10 ** draw.uniform(*((2, 10) if way else (12, 21)))))
            for way in (draw.random() < 0.5 for _ in range(QUOTES))
        ],
        "logs": json.dumps([_log(draw, number) for number in range(LOGS)]),
        "calls": [_call(draw, number).hex() for number in range(CALLS)],
    }


def _log(draw: random.Random, number: int) -> dict[str, Any]:
    address = [bytes(12) + draw.randbytes(20) for _ in range(2)]
    amounts = [draw.getrandbits(100) for _ in range(5)]
    topics: list[bytes]
    if number % 3 == 0:
        topics, body = [bytes.fromhex(SYNC_TOPIC)], encode(["uint256"] * 2, amounts[:2])
    elif number % 3 == 1:
        topics, body = [bytes.fromhex(PAIR_SWAP_TOPIC), *address], encode(["uint256"] * 4, amounts[:4])
    else:
        values = [amounts[0], -amounts[1], amounts[2], amounts[3], -draw.randrange(800_000)]
        topics = [bytes.fromhex(POOL_SWAP_TOPIC), *address]
        body = encode(["int256", "int256", "uint160", "uint128", "int24"], values)
    return {
        "address": hexed(draw.randbytes(20)),
        "topics": [hexed(topic) for topic in topics],
        "data": hexed(body),
        "blockHash": hexed(draw.randbytes(32)),
        "blockNumber": hex(number),
        "transactionHash": hexed(draw.randbytes(32)),
        "transactionIndex": hex(number),
        "logIndex": hex(number),
        "removed": False,
    }


def _call(draw: random.Random, number: int) -> bytes:
    tokens = [draw.randbytes(20) for _ in range(3)]
    amounts = draw.getrandbits(90), draw.getrandbits(90)
    if number % 3 == 0:
        types = ["uint256", "uint256", "address[]", "address", "uint256"]
        return selector(V2_SWAP) + encode(types, [*amounts, tokens, tokens[0], number])
    if number % 3 == 1:
        types = ["(address,address,uint24,address,uint256,uint256,uint256,uint160)"]
        return selector(V3_SWAP) + encode(types, [(*tokens[:2], 500, tokens[2], number, *amounts, 0)])
    path = tokens[0] + (500).to_bytes(3, "big") + tokens[1]
    swap = encode(["address", "uint256", "uint256", "bytes", "bool"], [tokens[2], *amounts, path, True])
    return selector(EXECUTE) + encode(["bytes", "bytes[]", "uint256"], [b"\x00", [swap], number])


def install() -> None:
    """Make the peers' environment what its lock says."""
    environment("bench-engine")
