"""Judges that no one here wrote look at the hardened host, and at one socket too many."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from lab import hosts
from lab.checkout import Checkout
from tests.plays import Play, play

if TYPE_CHECKING:
    from pathlib import Path

    from testinfra.host import Host

SCENARIO = "host_hardening"
STRANGER = "stranger.service"
# Measured on this host with the firewall and detection.
FLOOR = 85
MEASURED_WITH = "0.1.82-1"
CIS_PERCENT = 78
WAIVER = {"judge": "lynis", "name": "FIRE-4512", "reason": "the firewall is another scenario's", "date": "2026-11-25"}


@pytest.fixture(scope="module")
def packages(host: Host) -> set[str]:
    return installed(host)


@pytest.fixture(scope="module")
def audited(host: Host, packages: set[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Play, Path]:
    assert packages
    # A second run of the tests finds what the first one left.
    assert host.run("host-integrity accept 'what other tests did'").rc == 0
    directory = tmp_path_factory.mktemp("audit")
    program = "import socket, time; s = socket.create_server(('127.0.0.1', 9999)); time.sleep(900)"
    started = host.run(f'systemd-run --quiet --collect --unit={STRANGER} /usr/bin/python3 -c "{program}"')
    assert started.rc == 0, started.stderr
    try:
        variables = {
            "host_audit_report_directory": str(directory),
            "host_audit_lynis_floor": FLOOR,
            "host_audit_waivers": [WAIVER],
            "host_audit_nice": 0,
            # Whichever the suite has today: a new one is no fault of this host's.
            "host_audit_cis_content": "",
            "host_audit_scan_addresses": addresses(host),
            "host_audit_scan_ports": "1-1024,8000-10000,30303",
            "node_chains": [],
        }
        return play(SCENARIO, "audit.yml", variables, timeout_seconds=900), directory
    finally:
        host.run(f"systemctl stop {STRANGER}")


@pytest.fixture(scope="module")
def report(audited: tuple[Play, Path]) -> dict[str, Any]:
    written = audited[1] / "audit.json"
    assert written.exists(), audited[0].messages
    found: dict[str, Any] = json.loads(written.read_text())["hosts"][SCENARIO]
    return found


def addresses(host: Host) -> list[str]:
    """The host's IPv4 address, and its IPv6 one on the bridge between it and this machine."""
    four = hosts.known(Checkout.here())[SCENARIO].address
    route = subprocess.run(["ip", "-o", "route", "get", four], capture_output=True, text=True, check=True).stdout
    six = host.check_output("ip -6 -o address show dev eth0 scope link").split()[3].partition("/")[0]
    return [four, f"{six}%{route.split()[route.split().index('dev') + 1]}"]


def installed(host: Host) -> set[str]:
    return set(host.run("dpkg-query --show --showformat '${Package}\\n'").stdout.split())


def test_a_socket_outside_the_catalogue_is_all_that_is_held_against_the_host(
    audited: tuple[Play, Path], report: dict[str, Any]
) -> None:
    failed = [(row["judge"], row["name"]) for row in report["findings"] if row["state"] == "failed"]
    assert failed == [("listeners", "tcp 127.0.0.1:9999")], report["findings"]
    assert audited[0].code != 0
    assert (
        "listeners tcp 127.0.0.1:9999: python3 listens, and the catalogue has no such listener" in audited[0].messages
    )


def test_lynis_index_is_what_was_measured(report: dict[str, Any]) -> None:
    print(f"lynis: {report['lynis']['index']}")
    assert report["lynis"]["index"] >= FLOOR


def test_openscap_has_judged_by_the_benchmark_for_this_debian(report: dict[str, Any]) -> None:
    found = report["cis"]
    print(f"CIS: {found['passed']} of {found['judged']}, {found['percent']} % ({found['content']})")
    assert found["profile"] == "cis_level1_server"
    assert found["content"].startswith("0.1.")
    # Where most rules do not apply, a bare host passes nine in ten.
    assert found["judged"] > 250
    assert found["percent"] > CIS_PERCENT
    if found["content"] == MEASURED_WITH:
        assert [row["id"] for row in found["failed"] if "reason" not in row] == []


def test_ssh_audit_finds_nothing_but_what_its_debian_is_too_old_for(report: dict[str, Any]) -> None:
    rows = [row for row in report["findings"] if row["judge"] == "ssh-audit"]
    assert all(row["state"] == "waived" and row["text"].startswith("warn: ") for row in rows)


def test_units_and_controls_hold(report: dict[str, Any]) -> None:
    assert set(report["units"]) == {
        "node-health.service",
        "fleet-firewall-metrics.service",
        "fail2ban.service",
        "login-alerts.service",
    }
    assert {row["state"] for row in report["controls"]} == {"held", "elsewhere"}


def test_the_page_is_there_for_people_too(audited: tuple[Play, Path]) -> None:
    text = (audited[1] / "audit.md").read_text()
    assert "Held against the last deployment's record at 20" in text
    assert "1 finding is not waived." in text
    assert "| ssh_keys_only | held |" in text


def test_the_judges_are_gone(host: Host, packages: set[str], report: dict[str, Any]) -> None:
    assert report
    assert installed(host) == packages
