"""A host's secrets lie where the table says, and what does not is told from what does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests import chain_checks as checks

if TYPE_CHECKING:
    from testinfra.host import Host

SECURITY = "/data/blockchain/nodes/security"
JWT = f"{SECURITY}/jwt_secrets/ethereum.hex"
BUS = f"{SECURITY}/signing_keys/redis_password"


def looked_at(host: Host) -> tuple[int, dict[str, Any], list[str]]:
    done = host.run("fleet-secrets check --json")
    said = json.loads(done.stdout)
    return done.rc, said, [problem for finding in said["findings"] for problem in finding["problems"]]


@contextmanager
def changed(host: Host, change: str, back: str) -> Iterator[None]:
    host.check_output(change)
    try:
        yield
    finally:
        host.check_output(back)


def test_every_secret_of_the_table_is_as_it_has_to_be(host: Host) -> None:
    code, said, problems = looked_at(host)
    assert (code, problems) == (0, [])
    assert {finding["name"] for finding in said["findings"]} == {
        "directory", "jwt", "bus_password", "database_password", "control_token", "edge_certificate", "edge_given_key", "api_keys",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "back", "words"),
    [
        (f"chmod 0644 {JWT}", f"chmod 0640 {JWT}", f"the mode of {JWT} is 0644 and has to be 0640"),
        (f"chown ops {BUS}", f"chown root {BUS}", f"the owner of {BUS} is ops and has to be root"),
        (f"mv {JWT} /root/jwt", f"mv /root/jwt {JWT}", f"{JWT} is not there"),
        (f"chmod 0777 {SECURITY}", f"chmod 0711 {SECURITY}", f"{SECURITY} above it is writable by others (mode 0777)"),
        (
            f"cp {JWT} {JWT}.previous",
            f"rm {JWT}.previous",
            f"{JWT}.previous was left by a rotation that did not end",
        ),
    ],
)
def test_what_is_not_is_said(host: Host, change: str, back: str, words: str) -> None:
    with changed(host, change, back):
        code, _, problems = looked_at(host)
    assert code == 1
    assert words in problems


def test_the_unit_of_the_daily_look_sees_the_same_and_may_write_none(host: Host) -> None:
    host.check_output("systemctl start fleet-secrets.service")
    figures = host.check_output("cat /var/lib/fleet-secrets/fleet_secrets.prom")
    assert 'fleet_secrets_found{state="wrong"} 0' in figures
    with changed(host, f"chmod 0644 {BUS}", f"chmod 0600 {BUS}"):
        assert host.run("systemctl start fleet-secrets.service").rc != 0
    host.check_output("systemctl start fleet-secrets.service")
    checks.is_confined(host, "fleet-secrets")
    assert host.check_output("systemctl is-enabled fleet-secrets.timer") == "enabled"
