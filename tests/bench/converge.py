"""How long the lab and its playbooks take, and what an agent weighs.

lab_cold_seconds starts from nothing, so the lab of this checkout and the lab's image are removed first.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench.figure import Figure
from tests.e2e.conftest import Host

ROOT = Path(__file__).resolve().parents[2]
SITE = ["ansible-playbook", "-i", "inventories/lab", "site.yml"]


def measure() -> Iterator[Figure]:
    """Cold, warm, first and second run of site.yml, and the heaviest agent."""
    _run([sys.executable, "-m", "lab", "down"])
    _run([sys.executable, "-m", "lab", "forget-image"])
    yield Figure("lab_cold_seconds", _seconds(["make", "lab"]), "s", 1)

    _run([sys.executable, "-m", "lab", "down"])
    yield Figure("lab_warm_seconds", _seconds(["make", "lab"]), "s", 1)

    _run([sys.executable, "-m", "lab", "down"])
    _run([sys.executable, "-m", "lab", "up"])
    yield Figure("site_first_seconds", _seconds(SITE), "s", 1)
    begun = time.monotonic()
    recap = _run(SITE)
    yield Figure("site_second_seconds", time.monotonic() - begun, "s", 1)
    yield Figure("site_second_changed", sum(int(count) for count in re.findall(r"changed=(\d+)", recap)), "tasks", 1)

    host = Host()
    units = ("strategy_engine", "analytics_engine", "nginx")
    heaviest = max(_rss_mb(host, unit) for unit in units)
    yield Figure("agent_rss_mb", heaviest, "MB", 1)


def _rss_mb(host: Host, unit: str) -> float:
    rows = [line.split() for line in host.run("ps -e -o unit= -o rss=").splitlines()]
    kib = [int(rss) for name, rss in rows if name == f"{unit}.service"]
    if not kib:
        raise SystemExit(f"no process of {unit}.service runs on the lab's host, so its memory cannot be measured")
    return sum(kib) * 1024 / 1e6


def _seconds(command: list[str]) -> float:
    begun = time.monotonic()
    _run(command)
    return time.monotonic() - begun


def _run(command: list[str]) -> str:
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        sys.stderr.write(done.stdout)
        msg = f"{' '.join(command)} failed with exit code {done.returncode}; its output stands above."
        raise SystemExit(msg)
    return done.stdout
