"""What callers at the edge see of an upgrade of a pool of two, and how long a way back takes."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Self

from lab import catalogue, hosts, ssh
from lab.checkout import Checkout
from lab.evm import chains
from lab.world.world import chain_urls
from tests.bench.figure import Figure
from tests.bench.scenario import done, molecule
from tests.load import Load
from tests.plays import play

SCENARIO = "upgrade"
FLEET: dict[str, Any] = {"node_chains": ["ethereum", "optimism"]}
CALLS_A_SECOND = 50.0


def measure() -> Iterator[Figure]:
    """Two hosts with one pool: Erigon to the catalogue's version and back, under a constant load; the hosts are the scenario's own."""
    molecule("destroy", SCENARIO)
    try:
        molecule("converge", SCENARIO)
        with Load(SCENARIO, "ethereum", CALLS_A_SECOND) as load:
            done(play(SCENARIO, "../../playbooks/upgrade.yml", {**FLEET, "node_upgrade_chains": ["ethereum"]}))
        yield Figure("upgrade_requests", load.sent, "calls", 1)
        yield Figure("upgrade_failed_requests", load.failed, "calls", 1)
        begun = time.monotonic()
        done(play(SCENARIO, "../../playbooks/rollback.yml", {**FLEET, "rollback_chains": ["ethereum"]}))
        yield Figure("rollback_seconds", time.monotonic() - begun, "s", 1)
        with Arrivals(SCENARIO, "optimism") as arrivals:
            done(play(SCENARIO, "../../playbooks/rotate_secrets.yml", {**FLEET, "rotate_secrets_chains": ["optimism"]}))
        yield Figure("jwt_rotation_missed_blocks", arrivals.missed, "blocks", 1)
    finally:
        molecule("destroy", SCENARIO)


# Runs on the host, as only it and its neighbours reach a node: the node's head, a line each time that it is another one.
HEADS = """
import itertools, json, sys, time, urllib.request
body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "eth_blockNumber", "params": []}).encode()
ask = urllib.request.Request(sys.argv[1], body, {"Content-Type": "application/json"})
seen = None
while True:
    time.sleep(0.05)
    try:
        with urllib.request.urlopen(ask, timeout=1) as answer:
            head = int(json.load(answer)["result"], 16)
    except (OSError, ValueError, KeyError):
        continue
    if head != seen:
        seen = head
        print(head, flush=True)
"""


class Arrivals:
    """When each block is on a chain, and when a node first has it, both looked at twenty times a second.

    A block counts as missed that the node has not got within one block's time of the chain's having it: by then the next one is due. A node
    that comes back and has them all has missed those that its callers had to do without.
    """

    def __init__(self, host: str, chain: str) -> None:
        checkout = Checkout.here()
        services = catalogue.defaults(checkout, "services")["catalogue_default_services"]
        port = services[f"{chain}-execution"]["listeners"]["rpc"]["port"]
        node = f"http://{hosts.known(checkout)[host].address}:{port}"
        self._chain = chain
        self._block_seconds = chains.get(chain).block_seconds
        self._watchers = (
            [sys.executable, "-c", HEADS, chain_urls(checkout)[chain]],
            ssh.command(checkout, host, "python3", "-c", HEADS, node),
        )
        self._seen: tuple[dict[int, float], dict[int, float]] = ({}, {})
        self._running: list[tuple[subprocess.Popen[str], threading.Thread]] = []

    @property
    def missed(self) -> int:
        """Blocks of the chain that the node had too late; SystemExit if one of the two was never seen."""
        made, had = self._seen
        for seen, what in ((made, "chain"), (had, "node")):
            if not seen:
                msg = f"no block of {self._chain}'s {what} was seen, so none can be called missed or in time"
                raise SystemExit(msg)
        # The first one may have been there before the looking began, the last one may have come just before it ended.
        judged = range(max(min(made), min(had)) + 1, max(made))
        return sum(had.get(number, math.inf) - made[number] > self._block_seconds for number in judged)

    def __enter__(self) -> Self:
        for command, seen in zip(self._watchers, self._seen, strict=True):
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
            thread = threading.Thread(target=_note, args=(process.stdout, seen))
            thread.start()
            self._running.append((process, thread))
        time.sleep(2 * self._block_seconds)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        time.sleep(2 * self._block_seconds)
        for process, thread in self._running:
            process.terminate()
            process.wait()
            thread.join()


def _note(heads: Iterable[str], seen: dict[int, float]) -> None:
    last: int | None = None
    for line in heads:
        at, head = time.monotonic(), int(line)
        # What was made between two looks is there by the second one.
        for number in range(head if last is None else last + 1, head + 1):
            seen.setdefault(number, at)
        last = head
