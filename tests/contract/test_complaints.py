"""What operators of such fleets complain of, each with a test of its own name: here, or where ELSEWHERE says."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CATALOGUE = ROOT / "roles" / "catalogue" / "defaults" / "main"
# Seconds that a client needs to write its state, and the signal for it, as upstream says; systemd would give all of them 90 and SIGTERM.
LEAST_SECONDS = {"erigon": 300, "reth": 300, "geth": 300, "bor": 300, "heimdall": 120, "op_node": 120, "nitro": 1800}
BY_SIGINT = {"bor", "nitro"}
ELSEWHERE = {
    "a flag that the client lacks": (
        "tests/contract/test_rendered_units.py",
        "test_command_lines_hold_no_unknown_flag",
    ),
    "a snapshot's hash is wrong": ("molecule/polygon/test_snapshot.py", "test_a_tampered_part_starts_no_client"),
    "a snapshot in the wrong directory": (
        "tests/unit/snapshot/test_snapshot.py",
        "test_a_wrong_layout_is_refused_and_nothing_of_it_stays",
    ),
    "a snapshot fills the root disk": (
        "tests/unit/snapshot/test_snapshot.py",
        "test_the_root_file_system_is_refused_unless_it_is_meant",
    ),
    "a failed download is not retried": (
        "tests/unit/snapshot/test_snapshot.py",
        "test_a_failed_download_is_tried_again",
    ),
    "chain id 1, expected 10": (
        "molecule/nginx/test_nginx.py",
        "test_a_client_on_the_wrong_chain_stops_the_play_before_the_edge",
    ),
    "a new version is not installed": (
        "molecule/upgrade/test_upgrade.py",
        "test_the_fleet_goes_to_the_catalogue_s_versions_host_by_host",
    ),
    "two services on one port": (
        "tests/unit/catalogue/test_catalogue.py",
        "test_two_chains_on_one_private_address_collide_on_the_documented_clash",
    ),
    "a taken port": (
        "molecule/managed_service/test_lifecycle.py",
        "test_a_taken_port_stops_the_play_before_anything_changes",
    ),
}
# Listeners of a chain's own protocols between its nodes.
FOR_PEERS = {"p2p", "torrent", "caplin_discovery", "caplin_p2p", "p2p_discovery", "discovery_v5"}


def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CATALOGUE / "services.yml").read_text())["catalogue_default_services"]
    return found


def tracked() -> list[Path]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip("This is no git checkout, so nobody knows which files are the repository's.")
    return [path for name in done.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def tasks() -> Iterator[tuple[str, str]]:
    """Every line of the plays and roles that does something, with its place."""
    for directory in ("roles", "playbooks"):
        for path in (ROOT / directory).rglob("*"):
            if path.suffix in {".yml", ".j2", ".sh"} and "meta" not in path.parts:
                for number, line in enumerate(path.read_text().splitlines(), 1):
                    if not line.lstrip().startswith("#"):
                        yield f"{path.relative_to(ROOT)}:{number}", line


def places(pattern: str) -> list[str]:
    return [place for place, line in tasks() if re.search(pattern, line)]


def test_systemd_does_not_kill_a_node_after_90_seconds() -> None:
    for name, service in services().items():
        if service["part"] != "pair":
            assert service["stop_seconds"] >= LEAST_SECONDS[service["probe"]], name
            assert service["kill_signal"] == ("SIGINT" if service["probe"] in BY_SIGINT else "SIGTERM"), name


def test_no_admin_or_debug_api_is_on_every_address() -> None:
    for name, service in services().items():
        exposed = {each for each, entry in service["listeners"].items() if entry["exposure"] == "public"}
        assert exposed <= FOR_PEERS, name


def test_no_api_that_commands_a_node_is_on_at_all() -> None:
    namespaces = {
        f"{path.parents[1].name}.{option}": set(value)
        for path in (ROOT / "roles").glob("*/defaults/main.yml")
        for option, value in (yaml.safe_load(path.read_text()) or {}).items()
        if option.endswith("http_api")
    }
    assert len(namespaces) == 4
    for option, names in namespaces.items():
        assert not names & {"admin", "personal", "miner", "engine", "clique"}, option


def test_no_secret_is_committed_to_the_repository() -> None:
    files = tracked()
    assert [path.name for path in files if re.search(r"(^|[._-])jwt.*(hex|secret)$|\.(key|pem|hex)$", path.name)] == []
    marker = "-----BEGIN" + " (RSA |EC |OPENSSH |ENCRYPTED )?PRIVATE KEY"
    assert [path.name for path in files if re.search(marker, path.read_text(errors="replace"))] == []


def test_nothing_formats_a_disk() -> None:
    assert places(r"\bmkfs|\bwipefs\b|\bparted\b|\bsgdisk\b|community\.general\.filesystem|\bmke2fs\b|\bdd of=") == []


def test_nothing_reboots_a_host_in_the_middle_of_a_run() -> None:
    assert places(r"ansible\.builtin\.reboot|systemctl (reboot|kexec|poweroff|halt)|\bshutdown -|/sbin/reboot") == []


def test_nothing_flushes_a_firewall_s_tables() -> None:
    assert places(r"iptables.* (-F|--flush)|nft flush|flush: true|iptables-restore(?!.*--noflush)") == []


@pytest.mark.parametrize("complaint", ELSEWHERE)
def test_the_complaint_has_its_test(complaint: str) -> None:
    file, name = ELSEWHERE[complaint]
    assert f"\ndef {name}(" in (ROOT / file).read_text()


def test_guards_notice_what_they_are_for() -> None:
    assert places(r"ansible\.builtin\.include_role") != []
    assert places(r"systemctl, (start|--no-block)") != []
