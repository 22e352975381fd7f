"""What outside judges say of a hardened host with its firewall and its detection, and how long a lockout lasts."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

from lab import hosts
from lab.checkout import Checkout
from tests.bench import flood, rotation
from tests.bench.figure import Figure
from tests.plays import kill, play, start

ROOT = Path(__file__).parents[2]
SCENARIO = "host_hardening"
SSH_PORT = 22
# Nobody's network: rules for it alone lock the controller out.
ELSEWHERE = {"iptables_admin_networks": ["192.0.2.0/24"], "iptables_check_own_access": False}


def measure() -> Iterator[Figure]:
    """The scenario's host as its playbooks leave it, and a fleet of two that is flooded and whose every secret is rotated."""
    # The fleet takes as long to come up as the host does to be judged, and no figure of either is a matter of load.
    with rotation.fleet() as is_up:
        yield from _judged()
        is_up()
        yield from flood.measure()
        yield from rotation.measure()


def _judged() -> Iterator[Figure]:
    _molecule("destroy")
    try:
        _molecule("converge")
        found = _audit()
        findings, units = found["findings"], list(found["units"].values())
        yield Figure("lynis_index", found["lynis"]["index"], "points", 1, more_is_better=True)
        failures = [row for row in findings if row["judge"] == "ssh-audit" and row["text"].startswith("fail")]
        yield Figure("ssh_audit_failures", len(failures), "findings", 1)
        yield Figure("units_worst_exposure", max(units), "of 10", len(units))
        yield Figure("units_mean_exposure", fmean(units), "of 10", len(units))
        strange = [row for row in findings if row["judge"] in ("listeners", "nmap")]
        yield Figure("open_ports_outside_catalogue", len(strange), "ports", 1)
        yield Figure("lockout_revert_seconds", _lockout(), "s", 1)
    finally:
        _molecule("destroy")


def _audit() -> dict[str, Any]:
    """The host's part of the audit's report; that it holds findings is no failure of the measurement."""
    with tempfile.TemporaryDirectory() as directory:
        variables = {"host_audit_report_directory": directory, "host_audit_nice": 0, "node_chains": []}
        done = play(SCENARIO, "audit.yml", variables, timeout_seconds=1200)
        report = Path(directory, "audit.json")
        if not report.exists():
            raise RuntimeError(done.output[-3000:])
        found: dict[str, Any] = json.loads(report.read_text())["hosts"][SCENARIO]
    return found


def _lockout() -> float:
    """Seconds for which the host lets no new SSH connection in, when it is given rules that lock the controller out."""
    address = str(hosts.known(Checkout.here())[SCENARIO].address)
    process = start(SCENARIO, "firewall.yml", ELSEWHERE)
    try:
        _wait(address, let_in=False)
        begun = time.monotonic()
        _wait(address, let_in=True)
        ended = time.monotonic()
        process.communicate(timeout=180)
    except BaseException:
        kill(process)
        raise
    return ended - begun


def _wait(address: str, *, let_in: bool) -> None:
    deadline = time.monotonic() + 180
    while _is_let_in(address) is not let_in:
        if time.monotonic() > deadline:
            raise RuntimeError("the lockout did not end" if let_in else "the rules that lock out did not come in")


def _is_let_in(address: str) -> bool:
    try:
        with socket.create_connection((address, SSH_PORT), 0.5):
            time.sleep(0.2)
            return True
    except OSError:
        return False


def _molecule(step: str) -> None:
    command = [str(Path(sys.executable).with_name("molecule")), step, "--scenario-name", SCENARIO]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=sys.stderr)
