"""`playbooks/verify.yml` says what is installed on the fleet, and changes nothing there."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.e2e.conftest import CHAINS, ROOT, Host


def verify(report: Path, *settings: str) -> subprocess.CompletedProcess[str]:
    command = [
        "ansible-playbook",
        "-i",
        "inventories/lab",
        "playbooks/verify.yml",
        "-e",
        f"catalogue_fork_report={report}",
    ]
    extra = [word for setting in settings for word in ("-e", setting)]
    return subprocess.run([*command, *extra], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


def test_every_installed_client_follows_its_chain(tmp_path: Path) -> None:
    done = verify(tmp_path / "forks.json")
    assert done.returncode == 0, done.stdout
    rows = json.loads((tmp_path / "forks.json").read_text())
    assert {row["chain"] for row in rows} == set(CHAINS) - {"ethereum"}
    assert {row["state"] for row in rows} == {"ready"}
    assert "activation (UTC)" in done.stdout


def test_the_versions_are_those_on_the_host(tmp_path: Path, mev1: Host) -> None:
    verify(tmp_path / "forks.json")
    for row in json.loads((tmp_path / "forks.json").read_text()):
        assert mev1.run(f"readlink /opt/{row['component']}/current") == row["version"]


def test_a_client_that_its_chain_has_left_behind_ends_it_red(tmp_path: Path) -> None:
    later = {"chain": "base", "network": "base", "fork": "Later", "at": "2026-11-06T00:00:00Z", "source": "a test"}
    forks = [{**later, "minimum": {"base-consensus": "9.0.0"}}]
    done = verify(tmp_path / "forks.json", json.dumps({"catalogue_extra_forks": forks}))
    assert done.returncode != 0
    assert "base-consensus 1.5.1 does not follow base any more: Later" in done.stdout.replace("\n        ", " ")
    assert [row["state"] for row in json.loads((tmp_path / "forks.json").read_text())].count("refused") == 1
