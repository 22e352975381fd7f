"""One look at a node: which chain it is on, where its head stands, and whether it says that it is syncing."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from node_health.config import Kind, Node
from node_health.transport import Budget, ProbeError, call, get, get_json

MAX_QUANTITY = 2**64 - 1
# A neighbour has so long to answer; clocks differ by so much.
POOL_SECONDS = 1.0
POOL_AHEAD_SECONDS = 2.0
CONSENSUS = frozenset({Kind.OP_NODE, Kind.HEIMDALL})


@dataclass(frozen=True)
class Reading:
    """What a node said of itself.

    `chain_id` is None where the program has no way to say it; `head_time` is Unix time in seconds; `complaint` holds what
    the node's own health check, its pool or its peers have against it.
    """

    chain_id: int | None
    head: int
    head_time: float
    syncing: bool
    complaint: str = ""


def look(node: Node) -> Reading:
    """Ask a node once; ProbeError says what kept it from answering."""
    budget = Budget.of(node.timeout_seconds)
    reading = PROBES[node.kind](node, budget)
    if node.kind in CONSENSUS or reading.syncing or reading.complaint or reading.chain_id != node.chain_id:
        return reading
    return replace(reading, complaint=_too_few_peers(node, budget) or _behind_pool(node, reading))


def _too_few_peers(node: Node, budget: Budget) -> str:
    if not node.least_peers:
        return ""
    peers = _quantity(call(node.rpc, "net_peerCount", [], budget), "net_peerCount")
    return f"{peers} peers, at least {node.least_peers} wanted" if peers < node.least_peers else ""


def _behind_pool(node: Node, reading: Reading) -> str:
    """Compare heads' times, after the node's own was read.

    A neighbour that lies, or one that follows another fork, can say at most that its head is of now: it has nothing on a node whose own
    head is younger than `pool_lag_seconds`. A neighbour that does not answer says nothing.
    """
    if not node.pool:
        return ""
    with ThreadPoolExecutor(max_workers=len(node.pool)) as threads:
        heads = dict(zip(node.pool, threads.map(partial(_head_time, node), node.pool), strict=True))
    known = {url: seconds for url, seconds in heads.items() if seconds is not None}
    if not known:
        return ""
    newest = max(known, key=known.__getitem__)
    behind = known[newest] - reading.head_time
    if behind <= node.pool_lag_seconds:
        return ""
    return f"{behind:.0f} s behind {newest}, {node.pool_lag_seconds:g} s allowed"


def _head_time(node: Node, url: str) -> float | None:
    """Give the time of a neighbour's head; None where it has none, is on another chain, or claims one to come."""
    budget = Budget.of(min(POOL_SECONDS, node.timeout_seconds))
    try:
        reading = _evm(replace(node, rpc=url), budget)
    except ProbeError:
        return None
    usable = reading.chain_id == node.chain_id and reading.head_time <= time.time() + POOL_AHEAD_SECONDS
    return reading.head_time if usable else None


def _evm(node: Node, budget: Budget) -> Reading:
    """Ask an execution client by its JSON-RPC; `eth_syncing` is false or an object."""
    chain_id = _quantity(call(node.rpc, "eth_chainId", [], budget), "eth_chainId")
    syncing = call(node.rpc, "eth_syncing", [], budget)
    if syncing is not False and not isinstance(syncing, dict):
        raise ProbeError(f"answers eth_syncing with {_show(syncing)}", answered=True)
    block = call(node.rpc, "eth_getBlockByNumber", ["latest", False], budget)
    if not isinstance(block, dict):
        raise ProbeError("has no head block yet", answered=True)
    return Reading(
        chain_id=chain_id,
        head=_quantity(block.get("number"), "the head's number"),
        head_time=float(_quantity(block.get("timestamp"), "the head's timestamp")),
        syncing=syncing is not False,
    )


def _erigon(node: Node, budget: Budget) -> Reading:
    """Ask Erigon, whose own health check has a say; a build without that page is not held against it."""
    reading = _evm(node, budget)
    status, _ = get(
        node.rpc,
        "/health",
        budget,
        {"X-ERIGON-HEALTHCHECK": f"max_seconds_behind{node.allowed_lag_seconds:.0f}"},
    )
    complaint = "its own health check objects" if status in {500, 503} else ""
    return Reading(reading.chain_id, reading.head, reading.head_time, reading.syncing, complaint)


def _op_node(node: Node, budget: Budget) -> Reading:
    """Ask a rollup's consensus client; before its execution client has caught up it names no unsafe head."""
    status = call(node.rpc, "optimism_syncStatus", [], budget)
    unsafe = status.get("unsafe_l2") if isinstance(status, dict) else None
    if not isinstance(unsafe, dict):
        raise ProbeError(f"answers optimism_syncStatus with {_show(status)}", answered=True)
    head = _whole(unsafe.get("number"), "the unsafe head's number")
    return Reading(
        chain_id=_rollup_chain_id(node, budget),
        head=head,
        head_time=float(_whole(unsafe.get("timestamp"), "the unsafe head's timestamp")),
        syncing=head == 0,
    )


def _rollup_chain_id(node: Node, budget: Budget) -> int | None:
    try:
        config = call(node.rpc, "optimism_rollupConfig", [], budget)
    except ProbeError as error:
        if error.answered:
            return None  # not every consensus client has the method
        raise
    chain_id = config.get("l2_chain_id") if isinstance(config, dict) else None
    return None if chain_id is None else _whole(chain_id, "the rollup's chain id")


def _heimdall(node: Node, budget: Budget) -> Reading:
    """Ask Heimdall; its network's name ends in the chain id, as in heimdallv2-137."""
    page = get_json(node.rpc, "/status", budget)
    status = page.get("result", page) if isinstance(page, dict) else None
    info = status.get("sync_info") if isinstance(status, dict) else None
    if not isinstance(status, dict) or not isinstance(info, dict) or not isinstance(info.get("catching_up"), bool):
        raise ProbeError("answers /status without sync_info.catching_up", answered=True)
    node_info = status.get("node_info")
    network = node_info.get("network") if isinstance(node_info, dict) else None
    chain = re.search(r"-([0-9]{1,19})$", network) if isinstance(network, str) else None
    return Reading(
        chain_id=int(chain[1]) if chain else None,
        head=_whole(info.get("latest_block_height"), "latest_block_height"),
        head_time=_time(info.get("latest_block_time")),
        syncing=info["catching_up"],
    )


PROBES: dict[Kind, Callable[[Node, Budget], Reading]] = {
    Kind.ERIGON: _erigon,
    Kind.RETH: _evm,
    Kind.GETH: _evm,
    Kind.BOR: _evm,
    Kind.NITRO: _evm,
    Kind.OP_NODE: _op_node,
    Kind.HEIMDALL: _heimdall,
}


def _quantity(value: object, what: str) -> int:
    """Read a JSON-RPC quantity, hexadecimal with 0x, of at most 64 bits."""
    if isinstance(value, str) and re.fullmatch(r"0x[0-9a-fA-F]{1,16}", value):
        return int(value, 16)
    raise ProbeError(f"gives {what} as {_show(value)}", answered=True)


def _whole(value: object, what: str) -> int:
    """Read a whole number of at most 64 bits, plain or as a decimal string."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,19}", value):
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_QUANTITY:
        return value
    raise ProbeError(f"gives {what} as {_show(value)}", answered=True)


def _time(value: object) -> float:
    """Read an RFC 3339 time; its fraction may have nine digits, of which six count."""
    match = (
        re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z", value) if isinstance(value, str) else None
    )
    if match is None:
        raise ProbeError(f"gives latest_block_time as {_show(value)}", answered=True)
    try:
        seconds = datetime.fromisoformat(f"{match[1]}+00:00").timestamp()
    except (ValueError, OverflowError) as error:
        raise ProbeError(f"gives latest_block_time as {_show(value)}", answered=True) from error
    return seconds + float(f"0.{match[2] or 0}")


def _show(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > MAX_QUANTITY.bit_length():
        return "a number beyond 64 bits"
    return ascii(value)[:80]
