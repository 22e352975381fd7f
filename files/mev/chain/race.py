"""One question to several nodes: the next one where there is no answer, a second one where the first is slow."""

import asyncio
from collections.abc import Sequence

import structlog

from mev.chain.end_point import Answer, Asked, EndPoint
from mev.chain.errors import RpcError, RpcTimeoutError, RpcUnavailableError

# What changes nothing, however often it is asked. Sending a transaction is not among them, nor is anything that a filter
# or a subscription remembers.
SAFE_METHODS = frozenset(
    {
        "debug_traceCall",
        "eth_blockNumber",
        "eth_call",
        "eth_chainId",
        "eth_createAccessList",
        "eth_estimateGas",
        "eth_feeHistory",
        "eth_gasPrice",
        "eth_getBalance",
        "eth_getBlockByHash",
        "eth_getBlockByNumber",
        "eth_getBlockReceipts",
        "eth_getCode",
        "eth_getLogs",
        "eth_getProof",
        "eth_getStorageAt",
        "eth_getTransactionByHash",
        "eth_getTransactionCount",
        "eth_getTransactionReceipt",
        "eth_maxPriorityFeePerGas",
        "eth_simulateV1",
        "net_version",
    }
)
# EIP-1474: what is asked for is not there, not available, or over this node's limit. Another one may have it.
NODES_OWN_CODES = frozenset({-32001, -32002, -32005})

HEDGE_PERCENT = 95
FIRST_HEDGE_SECONDS = 0.25
SHORTEST_HEDGE_SECONDS = 0.002
HEDGES_A_CALL = 0.1
MOST_HEDGES = 10.0

log = structlog.get_logger(__name__)


class Hedges:
    """How many second questions may be asked: a tenth of the first ones, ten at once. A slow pool is not asked twice as much."""

    def __init__(self) -> None:
        self._left = MOST_HEDGES

    def earn(self) -> None:
        """A call is made."""
        self._left = min(self._left + HEDGES_A_CALL, MOST_HEDGES)

    def take(self) -> bool:
        """Use one up; False where there is none."""
        if self._left < 1:
            return False
        self._left -= 1
        return True


def hedge_seconds(end_point: EndPoint) -> float:
    """Return after which delay a second node is asked: when 95 of 100 of this one's answers were there."""
    seen = end_point.latency.quantile_seconds(HEDGE_PERCENT)
    return FIRST_HEDGE_SECONDS if seen is None else max(seen, SHORTEST_HEDGE_SECONDS)


async def race(
    ranked: Sequence[EndPoint], asked: Sequence[Asked], timeout_seconds: float, hedges: Hedges
) -> tuple[list[Answer], EndPoint]:
    """Return the first answer and whose it is, of nodes asked in order; the others are cancelled.

    Raises the last node's RpcUnavailableError where none has one; a refusal that only says that this node cannot is
    answered where no other node can.
    """
    hedges.earn()
    waiting = list(ranked)
    running: dict[asyncio.Task[list[Answer]], EndPoint] = {}
    refused: tuple[list[Answer], EndPoint] | None = None
    failure: RpcUnavailableError | None = None
    hedge = True

    def start() -> None:
        end_point = waiting.pop(0)
        end_point.calls += 1
        running[asyncio.create_task(end_point.ask(asked, timeout_seconds))] = end_point

    start()
    try:
        async with asyncio.timeout(timeout_seconds + FIRST_HEDGE_SECONDS):
            while running:
                may_hedge = hedge and bool(waiting) and waiting[0].ready
                delay = hedge_seconds(next(iter(running.values()))) if may_hedge else None
                done, _ = await asyncio.wait(running, timeout=delay, return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    # Where there is none left to take, the one that runs is waited for.
                    hedge = False
                    if hedges.take():
                        waiting[0].hedges += 1
                        start()
                    continue
                for task in done:
                    end_point = running.pop(task)
                    try:
                        answers = task.result()
                    except RpcUnavailableError as error:
                        failure = error
                        continue
                    if not any(isinstance(each, RpcError) and each.code in NODES_OWN_CODES for each in answers):
                        return answers, end_point
                    refused = answers, end_point
                if not running and waiting:
                    start()
    except TimeoutError:
        failure = RpcTimeoutError(f"{ranked[0].node}: {asked[0][0]} has no answer after {timeout_seconds:g} s")
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    if refused is not None:
        return refused
    raise failure or RpcUnavailableError(f"{ranked[0].node}: no answer")
