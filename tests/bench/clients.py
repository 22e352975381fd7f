"""What callers at the edge see of an upgrade of a pool of two, and how long a way back takes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.bench.figure import Figure
from tests.load import Load
from tests.plays import Play, play

ROOT = Path(__file__).parents[2]
SCENARIO = "upgrade"
FLEET: dict[str, Any] = {"node_chains": ["ethereum", "optimism"]}
CALLS_A_SECOND = 50.0


def measure() -> Iterator[Figure]:
    """Two hosts with one pool: Erigon to the catalogue's version and back, under a constant load; the hosts are the scenario's own."""
    _molecule("destroy")
    try:
        _molecule("converge")
        with Load(SCENARIO, "ethereum", CALLS_A_SECOND) as load:
            _done(play(SCENARIO, "../../playbooks/upgrade.yml", {**FLEET, "node_upgrade_chains": ["ethereum"]}))
        yield Figure("upgrade_requests", load.sent, "calls", 1)
        yield Figure("upgrade_failed_requests", load.failed, "calls", 1)
        begun = time.monotonic()
        _done(play(SCENARIO, "../../playbooks/rollback.yml", {**FLEET, "rollback_chains": ["ethereum"]}))
        yield Figure("rollback_seconds", time.monotonic() - begun, "s", 1)
    finally:
        _molecule("destroy")


def _done(done: Play) -> None:
    if done.code:
        raise SystemExit(done.output)


def _molecule(step: str) -> None:
    command = [str(Path(sys.executable).with_name("molecule")), step, "--scenario-name", SCENARIO]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=sys.stderr)
