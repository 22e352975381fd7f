"""Run the parts of the test suite, say how each went and how long it took, and name the slowest.

    python -m tests.suite prerequisites lint unit molecule e2e      # what `make test` runs
    python -m tests.suite molecule --only nginx                     # one scenario

A part's output stays quiet unless it fails; it is kept in .build/logs/<part>.log either way. A lab that was not there before the
end-to-end tests is removed after all of it.

Parts stand apart and run beside each other, the long ones first, so that neither core waits for the last one. The end-to-end tests are one
row, each on what the one before left; a row's turn is by how long all of it takes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

from lab import hosts, lifecycle
from lab.checkout import Checkout

ROOT = Path(__file__).resolve().parent.parent
LOGS = ROOT / ".build" / "logs"
SLOWEST = 10
TAIL_LINES = 120
LANES = 2
# By the seconds that each took beside others; a row by its first part. What is not named takes less than all of these.
LONG_FIRST = (
    "upgrade",
    # Before its turn: on a fresh machine the first part builds the hosts' image and the world, which all others but this one wait for.
    "unit",
    "op_stack",
    "nginx",
    "make lab",
    "certbot",
    "mev_agents",
    "iptables",
    "wireguard",
    "polygon",
    "host_hardening",
    "release",
    "managed_service",
    "integration",
    "nitro",
    "detection",
    "erigon",
)


class Part(NamedTuple):
    """One command of the suite."""

    name: str
    command: list[str]


class Outcome(NamedTuple):
    """How a part ended, and after how many seconds."""

    part: Part
    code: int
    seconds: float
    log: Path


def scenarios() -> list[str]:
    """Every molecule scenario, by its directory."""
    return sorted(path.parent.name for path in (ROOT / "molecule").glob("*/molecule.yml"))


def parts_of(group: str) -> list[Part]:
    """The commands of one group."""
    python = sys.executable
    groups: dict[str, list[Part]] = {
        "prerequisites": [Part("prerequisites", ["lab/prerequisites.sh"])],
        "lint": [
            Part("lint: ansible-lint", ["ansible-lint"]),
            Part("lint: yamllint", ["yamllint", "--strict", "."]),
            Part("lint: ruff", ["ruff", "check", "."]),
            Part("lint: ruff format", ["ruff", "format", "--check", "."]),
            Part("lint: mypy", ["mypy", "."]),
            Part("lint: import-linter", ["lint-imports"]),
            Part(
                "lint: production syntax",
                ["ansible-playbook", "-i", "inventories/production", "site.yml", "--syntax-check"],
            ),
            Part(
                "lint: production preflight",
                ["ansible-playbook", "-i", "inventories/production", "playbooks/preflight.yml"],
            ),
        ],
        "unit": [
            Part("unit", [python, "-m", "pytest", "-q", "tests/unit", "tests/contract"]),
            Part("integration", [python, "-m", "pytest", "-q", "tests/integration"]),
        ],
        "molecule": [Part(f"molecule: {name}", ["molecule", "test", "--scenario-name", name]) for name in scenarios()],
        "e2e": [
            Part("e2e: make lab", ["make", "lab"]),
            Part(
                "e2e: from outside",
                [
                    python,
                    "-m",
                    "pytest",
                    "-q",
                    "tests/e2e/test_edge.py",
                    "tests/e2e/test_engine.py",
                    "tests/e2e/test_verify.py",
                ],
            ),
            Part("e2e: recovery", [python, "-m", "pytest", "-q", "tests/e2e/test_recovery.py"]),
        ],
    }
    return groups[group]


GROUPS = ("prerequisites", "lint", "unit", "molecule", "e2e")


def main(argv: list[str] | None = None) -> int:
    """Run the groups that are named; 0 if every part passed."""
    parser = argparse.ArgumentParser(prog="python -m tests.suite", description=__doc__.split("\n")[0])
    parser.add_argument("groups", nargs="+", choices=GROUPS)
    parser.add_argument("--only", default="", help="only parts whose name contains this")
    options = parser.parse_args(argv)
    LOGS.mkdir(parents=True, exist_ok=True)
    wanted = {
        group: [part for part in parts_of(group) if options.only in part.name]
        for group in GROUPS
        if group in options.groups
    }
    outcomes = _run_all([wanted.pop("prerequisites", [])])
    if all(outcome.code == 0 for outcome in outcomes):
        in_a_row = wanted.pop("e2e", [])
        rows = [[part] for parts in wanted.values() for part in parts] + ([in_a_row] if in_a_row else [])
        lab_was_there = lifecycle.HOST in hosts.known(Checkout.here())
        if in_a_row and not lab_was_there:
            # Its chains and agents would work on beside all that is still to come; the world is the scenarios' as well.
            in_a_row.append(Part("e2e: host removed", [sys.executable, "-m", "lab", "host", "remove", lifecycle.HOST]))
        outcomes += _run_all(sorted(rows, key=_turn))
        if in_a_row and not lab_was_there:
            outcomes += _run_all([[Part("e2e: make lab-down", ["make", "lab-down"])]])
    _summary(outcomes)
    return 0 if outcomes and all(outcome.code == 0 for outcome in outcomes) else 1


def _turn(row: list[Part]) -> int:
    subject = row[0].name.rpartition(": ")[2]
    return LONG_FIRST.index(subject) if subject in LONG_FIRST else len(LONG_FIRST)


def _run_all(rows: Iterable[list[Part]]) -> list[Outcome]:
    with ThreadPoolExecutor(LANES) as pool:
        running = [pool.submit(_run_row, row) for row in rows]
        return [outcome for row in as_completed(running) for outcome in row.result()]


def _run_row(parts: list[Part]) -> list[Outcome]:
    return [_report(_run(part)) for part in parts]


def _run(part: Part) -> Outcome:
    log = LOGS / f"{part.name.replace(': ', '-').replace(' ', '-')}.log"
    begun = time.monotonic()
    with log.open("w") as output:
        done = subprocess.run(
            part.command,
            cwd=ROOT,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    return Outcome(part, done.returncode, time.monotonic() - begun, log)


def _environment() -> dict[str, str]:
    tools = Path(sys.executable).parent
    return {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "ANSIBLE_FORCE_COLOR": "0", "PY_COLORS": "0"}


def _report(outcome: Outcome) -> Outcome:
    word = "ok    " if outcome.code == 0 else "FAILED"
    _say(f"{word} {outcome.seconds:7.1f} s  {outcome.part.name}")
    if outcome.code:
        lines = outcome.log.read_text(errors="replace").splitlines()
        _say("\n".join(f"    {line}" for line in lines[-TAIL_LINES:]))
        _say(f"    ({outcome.part.name} exited with {outcome.code}; all of it: {outcome.log.relative_to(ROOT)})")
    return outcome


def _summary(outcomes: list[Outcome]) -> None:
    slowest = sorted(outcomes, key=lambda outcome: -outcome.seconds)[:SLOWEST]
    _say("\nSlowest parts:")
    for outcome in slowest:
        _say(f"{outcome.seconds:8.1f} s  {outcome.part.name}")
    failed = sum(outcome.code != 0 for outcome in outcomes)
    _say(f"\n{len(outcomes) - failed} passed, {failed} failed")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
