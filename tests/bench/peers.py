"""What the engine is measured against, run by `tests.bench.engine` in the peers' own environment: a line of JSON in, a line out.

The first line is the work; then {"answers": KIND} asks what the peer makes of it, {"seconds": KIND} how long that takes.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import rustworkx
import web3  # type: ignore[import-not-found, unused-ignore]
from degenbot.arbitrage.types import UniswapPoolSwapVector
from degenbot.arbitrage.uniswap_lp_cycle import UniswapLpCycle
from degenbot.exceptions import RateOfExchangeBelowMinimum
from degenbot.uniswap.types import (
    UniswapV2PoolState,
    UniswapV3BitmapAtWord,
    UniswapV3LiquidityAtTick,
    UniswapV3PoolState,
)
from degenbot.uniswap.v2_functions import constant_product_calc_exact_in
from degenbot.uniswap.v2_liquidity_pool import UniswapV2Pool
from degenbot.uniswap.v3_liquidity_pool import UniswapV3Pool
from eth_abi.abi import decode

Work = Callable[[], list[Any]]
MIN_PRICE, MAX_PRICE = 4295128740, 1461446703485210103287273052203988822378723970341
TYPES = {
    "1c411e9a": ["uint112", "uint112"],
    "d78ad95f": ["uint256", "uint256", "uint256", "uint256"],
    "c42079f9": ["int256", "int256", "uint160", "uint128", "int24"],
    "38ed1739": ["uint256", "uint256", "address[]", "address", "uint256"],
    "414bf389": ["(address,address,uint24,address,uint256,uint256,uint256,uint160)"],
    "3593564c": ["bytes", "bytes[]", "uint256"],
}
V3_EXACT_IN = ["address", "uint256", "uint256", "bytes", "bool"]


def v2(work: dict[str, Any]) -> Work:
    fee = Fraction(3, 1000)
    return lambda: [constant_product_calc_exact_in(*quote, fee) for quote in work["v2"]]


def v3(work: dict[str, Any]) -> Work:
    state = work["pool"]
    ticks = {int(tick): net for tick, net in state["ticks"].items()}
    bitmap: dict[int, int] = dict.fromkeys(range(-58, 58), 0)
    for tick in ticks:
        word, bit = divmod(tick // state["tick_spacing"], 256)
        bitmap[word] |= 1 << bit
    # The pool reads a chain when it is made; its calculation needs no more than this.
    pool = object.__new__(UniswapV3Pool)
    pool.sparse_liquidity_map = False
    pool.tick_spacing = state["tick_spacing"]
    pool.fee = state["fee"]
    now = UniswapV3PoolState(
        pool="0x" + 40 * "0",
        liquidity=state["liquidity"],
        sqrt_price_x96=state["sqrt_price_x96"],
        tick=state["tick"],
        tick_bitmap={word: UniswapV3BitmapAtWord(bitmap=bits) for word, bits in bitmap.items()},
        tick_data={
            tick: UniswapV3LiquidityAtTick(liquidity_net=net, liquidity_gross=abs(net)) for tick, net in ticks.items()
        },
    )

    def quote(way: bool, amount: int) -> int:
        moved = pool._calculate_swap(way, amount, MIN_PRICE if way else MAX_PRICE, now)
        return -int(moved[1] if way else moved[0])

    return lambda: [quote(*each) for each in work["v3"]]


def logs(work: dict[str, Any]) -> Work:
    def one(log: dict[str, Any]) -> list[int]:
        for topic in log["topics"][1:]:
            decode(["address"], bytes.fromhex(topic[2:]))
        return list(decode(TYPES[log["topics"][0][2:10]], bytes.fromhex(log["data"][2:])))

    return lambda: [one(log) for log in json.loads(work["logs"])]


def calls(work: dict[str, Any]) -> Work:
    given = [bytes.fromhex(call) for call in work["calls"]]

    def one(call: bytes) -> list[int]:
        values = decode(TYPES[call[:4].hex()], call[4:])
        if len(values) == 5:
            return [values[0], values[1], values[4]]
        if len(values) == 1:
            return [values[0][5], values[0][6], values[0][4]]
        _, amount, limit, _, _ = decode(V3_EXACT_IN, values[1][0])
        return [amount, limit, values[2]]

    return lambda: [one(call) for call in given]


def negative(work: dict[str, Any]) -> Work:
    graph = rustworkx.PyDiGraph()
    graph.add_nodes_from(range(work["nodes"]))
    graph.add_edges_from([(begin, end, weight) for begin, end, weight in work["negative"]])

    def found() -> list[bool]:
        try:
            return [len(rustworkx.find_negative_cycle(graph, float)) > 0]
        except ValueError:
            return [False]

    return found


def screen(work: dict[str, Any]) -> Work:
    """Which cycles' rate for next to nothing is more than one: degenbot's own check before it calculates any amount."""
    fee = Fraction(3, 1000)
    pools = []
    for number, (reserve0, reserve1) in enumerate(work["pairs"]):
        # A pool reads a chain when it is made; the check needs no more than this.
        pool = object.__new__(UniswapV2Pool)
        pool.address, pool.fee_token0, pool.fee_token1 = f"0x{number:040x}", fee, fee
        pool._state = UniswapV2PoolState(pool=pool.address, reserves_token0=reserve0, reserves_token1=reserve1)
        pools.append(pool)
    cycles = []
    for steps in work["screen"]:
        cycle = object.__new__(UniswapLpCycle)
        cycle.swap_pools = tuple(pools[step >> 1] for step in steps)
        cycle._swap_vectors = tuple(UniswapPoolSwapVector(None, None, zero_for_one=not step & 1) for step in steps)
        cycles.append(cycle)

    def pays(cycle: UniswapLpCycle) -> bool:
        try:
            cycle._pre_calculation_check({})
        except RateOfExchangeBelowMinimum:
            return False
        return True

    return lambda: [position for position, cycle in enumerate(cycles) if pays(cycle)]


def rpc(work: dict[str, Any]) -> Work:
    """Milliseconds of each call that web3 makes over one WebSocket; the block's hash comes last."""
    loop = asyncio.new_event_loop()
    client = loop.run_until_complete(connected(work["rpc"]))

    async def asked() -> list[Any]:
        took: list[Any] = []
        for _ in range(work["asked"]):
            began = time.perf_counter()
            block = await client.eth.get_block("latest")
            took.append((time.perf_counter() - began) * 1000)
        return [*took, block["hash"].to_0x_hex()]

    return lambda: loop.run_until_complete(asked())


async def connected(ws: str) -> web3.AsyncWeb3:
    return await web3.AsyncWeb3(web3.WebSocketProvider(ws))


def main() -> None:
    work = json.loads(sys.stdin.readline())
    makers = {"v2": v2, "v3": v3, "logs": logs, "calls": calls, "negative": negative, "screen": screen, "rpc": rpc}
    kinds = {kind: make(work) for kind, make in makers.items() if kind in work}
    print("null", flush=True)
    for line in sys.stdin:
        [(question, kind)] = json.loads(line).items()
        begun = time.perf_counter()
        answers = kinds[kind]()
        seconds = time.perf_counter() - begun
        print(json.dumps(answers if question == "answers" else seconds), flush=True)


if __name__ == "__main__":
    main()
