"""What callers see while the certificates of two edges are rotated by the play, and whether that stops at the first host that fails."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import testinfra

from lab import ssh
from lab.checkout import Checkout
from tests.bench.figure import Figure
from tests.bench.scenario import done, hosts
from tests.certificates import clients, served, shown, status_at_authority
from tests.plays import Play, play

if TYPE_CHECKING:
    from testinfra.host import Host

# Its hosts and their variables are in molecule/certificates.
SCENARIO = "certificates"
HOSTS = ("certificates", "certificates-b")


def measure() -> Iterator[Figure]:
    """Two hosts of the benchmark's own, a caller and a WebSocket at each."""
    hosts("remove", *HOSTS)
    try:
        hosts("create", *HOSTS)
        done(play(SCENARIO, "converge.yml", {}, timeout_seconds=1800))
        config = str(ssh.config(Checkout.here()))
        yield from _rotated([testinfra.get_host(f"ssh://{name}", ssh_config=config, sudo=True) for name in HOSTS])
    finally:
        hosts("remove", *HOSTS)


def _rotated(edges: list[Host]) -> Iterator[Figure]:
    _stops_at_the_first_that_fails(edges)
    before = [shown(edge)["serial"] for edge in edges]
    begun = time.monotonic()
    with ExitStack() as stack:
        saw = [stack.enter_context(clients(edge)) for edge in edges]
        done(_rotate())
    seconds = time.monotonic() - begun
    for edge, former in zip(edges, before, strict=True):
        told = (served(edge), status_at_authority(edge, former))
        if told != (shown(edge)["serial"], "Revoked") or told[0] == former:
            raise SystemExit(f"a certificate is not rotated: {former} before, {told} after")
    steps = [_steps(edge) for edge in edges]
    if steps[0][-1]["at"] > steps[1][0]["at"]:
        raise SystemExit(f"the second host was rotated before the first was done: {steps}")
    callers = [told for one in saw for told in one.values()]
    if not all(told["answers"] for told in callers):
        raise SystemExit(f"a caller had no answer: {callers}")
    dropped = sum(len(told["problems"]) + told["connections"] - 1 for told in callers)
    yield Figure("fleet_rotation_answers", sum(told["answers"] for told in callers), "answers", 1)
    yield Figure("fleet_rotation_dropped_connections", dropped, "connections", 1)
    yield Figure("fleet_rotation_seconds", seconds, "s", 1)


def _stops_at_the_first_that_fails(edges: list[Host]) -> None:
    before = [shown(edge)["serial"] for edge in edges]
    edges[0].check_output("systemctl kill --signal=STOP nginx")
    try:
        failed = _rotate()
    finally:
        edges[0].check_output("systemctl kill --signal=CONT nginx")
    after = [shown(edge)["serial"] for edge in edges]
    valid = [status_at_authority(edge, serial) for edge, serial in zip(edges, before, strict=True)]
    if not failed.code or after != before or valid != ["Valid", "Valid"]:
        raise SystemExit(f"a rotation whose first host fails touched something: {failed.output}")
    sys.stderr.write("the play stopped at the first host that failed\n")
    # What was issued is served, as the next renewal would.
    edges[0].check_output("systemctl start certbot")


def _rotate() -> Play:
    return play(SCENARIO, "../../playbooks/rotate_certificates.yml", {}, timeout_seconds=600)


def _steps(edge: Host) -> list[dict[str, Any]]:
    """What the last rotation of a host has written down."""
    lines = edge.check_output("tail -n 2 /var/log/certbot/certificates.jsonl").splitlines()
    steps: list[dict[str, Any]] = [json.loads(line) for line in lines]
    if [step["action"] for step in steps] != ["rotated", "revoked"]:
        raise SystemExit(f"no rotation was written down: {steps}")
    return steps
