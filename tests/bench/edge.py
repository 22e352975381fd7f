"""The edge with two nodes behind it, on the scenario nginx' host: what it adds to a call, how many it passes, and what callers lose by events.

haproxy and caddy from Debian do the same passing in the same run, with none of the edge's rules, limits, log or figures.
"""

from __future__ import annotations

import json
import statistics
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lab import ca, catalogue, ssh
from lab.checkout import Checkout
from tests.bench.figure import Figure
from tests.bench.scenario import done, molecule, on_host
from tests.plays import play

SCENARIO = "nginx"
CHAIN = "ethereum"
PROGRAMS = Path(__file__).parent
ROUNDS = 3
CALLS_A_SECOND, ADDED_SECONDS, NODES_SECONDS, MOST_SECONDS, KEPT_CALLS = 1000, 6, 4, 5, 2000
# Each caller calls ten times a second.
CALLERS, SOCKETS, AFTER_SECONDS = 50, 20, 6
PEERS = ("haproxy", "caddy")
# Nobody is limited: what is measured is what passes.
OPEN: dict[str, Any] = {"nginx_unlimited_networks": ["0.0.0.0/0"], "nginx_chain_ceilings": []}
LOST_NODE = "neighbour"
PAIR = "/run/bench"


def measure() -> Iterator[Figure]:
    """Everything, on a host that is made for it and goes after it."""
    molecule("destroy", SCENARIO)
    try:
        molecule("converge", SCENARIO)
        done(play(SCENARIO, "edge.yml", OPEN))
        _peers("install")
        yield from _latency()
        yield from _throughput()
        yield from _failover()
        yield from _renewal()
    finally:
        molecule("destroy", SCENARIO)


def _edge() -> str:
    """The edge as the catalogue has it and its host runs it, as JSON: {chain, name, port, pair, socket, nodes}."""

    def configured(name: str) -> dict[str, Any]:
        command = ssh.command(Checkout.here(), SCENARIO, "sudo", "cat", f"/etc/nginx/{name}.json")
        read: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        return read

    pools, certificate = configured("pools"), configured("certificate")
    name = next(chain.host_name for chain in catalogue.chains(Checkout.here()) if chain.name == CHAIN)
    nodes = [node["rpc"].removeprefix("http://") for node in pools["pools"][CHAIN]["nodes"]]
    port = catalogue.edge_port(Checkout.here())
    known = {"chain": CHAIN, "name": name, "port": port, "pair": certificate["pair"], "socket": pools["socket"]}
    return json.dumps({**known, "nodes": nodes})


def _peers(*arguments: str) -> Any:
    return on_host(SCENARIO, PROGRAMS / "edge_peers.py", _edge(), *arguments)


def _rounds(*arguments: str) -> Any:
    return _peers(str(ROUNDS), *arguments)


def _latency() -> Iterator[Figure]:
    """p50 and p99 at a constant rate, of all ways by turns.

    What a proxy adds is measured before programs that answer at once: the lab's nodes vary by more than any proxy adds. A call's whole way to
    one of those nodes and back has its own figures.
    """
    added: list[dict[str, list[float]]] = _rounds("added", str(CALLS_A_SECOND), str(ADDED_SECONDS))
    nodes: list[dict[str, list[float]]] = _rounds("rate", str(CALLS_A_SECOND), str(NODES_SECONDS), "direct", "edge")

    def median(rounds: list[dict[str, list[float]]], way: str, quantile: int) -> float:
        return statistics.median(statistics.quantiles(one[way], n=100)[quantile - 1] for one in rounds)

    for quantile in (50, 99):
        direct = median(nodes, "direct", quantile)
        yield Figure(f"direct_p{quantile}_ms", direct, "ms", ROUNDS)
        yield Figure(f"edge_p{quantile}_ms", median(nodes, "edge", quantile), "ms", ROUNDS, "direct call", direct)
        at_once = median(added, "direct", quantile)
        yield Figure(f"direct_at_once_p{quantile}_ms", at_once, "ms", ROUNDS)
        edge = median(added, "edge", quantile) - at_once
        for peer in PEERS:
            other = median(added, peer, quantile) - at_once
            yield Figure(f"edge_overhead_p{quantile}_ms", edge, "ms", ROUNDS, peer, other)
    kept = [statistics.median(one) for one in _rounds("kept", str(KEPT_CALLS))]
    yield Figure("cache_hit_us", statistics.median(kept) * 1000, "us", ROUNDS)


def _throughput() -> Iterator[Figure]:
    """Calls a second that each proxy passes to the same two nodes, which are what bounds them, and the CPU that a call costs in it."""
    rounds: list[dict[str, dict[str, float]]] = _rounds("most", str(MOST_SECONDS))

    def median(target: str, figure: str) -> float:
        return statistics.median(one[target][figure] for one in rounds)

    for peer in PEERS:
        edge, other = median("edge", "calls_per_second"), median(peer, "calls_per_second")
        yield Figure("edge_requests_per_second", edge, "calls/s", ROUNDS, peer, other, more_is_better=True)
    # The first rounds also fill what is kept for callers to come.
    yield Figure("edge_growth_bytes_per_request", rounds[-1]["edge"]["grown_bytes"], "bytes", 1)
    for peer in PEERS:
        yield Figure("edge_cpu_us_per_request", median("edge", "cpu_us"), "us", ROUNDS, peer, median(peer, "cpu_us"))


def _failover() -> Iterator[Figure]:
    """A node is killed under 500 calls a second, three times."""
    kill = ("systemctl", "kill", "--signal=SIGKILL", f"{LOST_NODE}-erigon")
    rounds = [_event(f"out:{LOST_NODE}", *kill, sockets=0) for _ in range(ROUNDS)]
    yield Figure("failover_requests", sum(one["sent"] for one in rounds), "calls", ROUNDS)
    yield Figure("failover_failed_requests", sum(one["failed"] for one in rounds), "calls", ROUNDS)
    yield Figure("failover_seconds", max(one["seconds"] for one in rounds), "s", ROUNDS)


def _renewal() -> Iterator[Figure]:
    """The edge gets a new pair and then reads its configuration anew, with callers and WebSockets connected.

    A call without a result and a WebSocket that ends are dropped connections. A reload closes connections that idle; a caller who looks before
    the next call opens another, and those are counted by themselves.
    """
    _put_new_pair()
    renewed = _event("none", "edge-certificate", "install", "--certificate", f"{PAIR}.crt", "--key", f"{PAIR}.key")
    reloaded = _event("none", "systemctl", "reload", "nginx")
    for name, seen in (("renewal", renewed), ("reload", reloaded)):
        yield Figure(f"{name}_dropped_connections", seen["failed"] + seen["sockets_lost"], "connections", 1)
        yield Figure(f"{name}_requests", seen["sent"], "calls", 1)
        yield Figure(f"{name}_closed_idle_connections", seen["closed_idle"], "connections", 1)


def _put_new_pair() -> None:
    """Put another certificate of the lab's authority, with another key, on the host."""
    checkout = Checkout.here()
    directory = checkout.state / "ca"
    (directory / "edge.crt").unlink()
    ca.ensure_ca(checkout)
    for ending in ("crt", "key"):
        command = ssh.command(checkout, SCENARIO, "sudo", "sh", "-c", f"umask 077 && cat > {PAIR}.{ending}")
        subprocess.run(command, check=True, input=(directory / f"edge.{ending}").read_bytes())


def _event(event: str, *command: str, sockets: int = SOCKETS) -> dict[str, Any]:
    """What callers see of a command on the edge's host."""
    arguments = (_edge(), event, str(CALLERS), str(sockets), str(AFTER_SECONDS), "--", *command)
    seen: dict[str, Any] = on_host(SCENARIO, PROGRAMS / "edge_clients.py", *arguments)
    return seen
