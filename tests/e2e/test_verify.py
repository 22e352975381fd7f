"""What the fleet says of itself: `playbooks/verify.yml` of what is installed, node-health of how the nodes are."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.e2e.conftest import CHAINS, HOST_SERVICES, ROOT, SERVICES, Host, wait_for


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
    later = {"chain": "base", "network": "base", "fork": "Later", "at": "2020-01-01T00:00:00Z", "source": "a test"}
    forks = [{**later, "minimum": {"base-consensus": "9.0.0"}}]
    done = verify(tmp_path / "forks.json", json.dumps({"catalogue_extra_forks": forks}))
    assert done.returncode != 0
    assert "base-consensus 1.5.1 does not follow base any more: Later" in done.stdout.replace("\n        ", " ")
    assert [row["state"] for row in json.loads((tmp_path / "forks.json").read_text())].count("refused") == 1


def test_a_fork_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    done = verify(tmp_path / "forks.json", json.dumps({"catalogue_extra_forks": [{"chain": "base", "fork": "Later"}]}))
    assert done.returncode != 0
    assert "Fork 'Later' of 'base' lacks network, at, source" in done.stdout
    assert not (tmp_path / "forks.json").exists()


HEALTH = f"http://127.0.0.1:{HOST_SERVICES['node-health']['listeners']['http']['port']}"


def seen(mev1: Host) -> dict[str, Any]:
    page = f'import urllib.request; print(urllib.request.urlopen("{HEALTH}/health", timeout=5).read().decode())'
    found: dict[str, Any] = json.loads(mev1.python(page))
    return found


def test_every_node_and_pair_is_served_as_in_step(mev1: Host) -> None:
    wait_for("every node in step", lambda: {node["state"] for node in seen(mev1)["nodes"]} == {"in_step"})
    page = seen(mev1)
    names = [record["name"] for record in [*page["nodes"], *page["pairs"]]]
    assert sorted(names) == sorted(SERVICES)
    assert page["errors"] == []


def test_the_head_that_is_served_is_the_chain_s(mev1: Host, rpc: Callable[..., Any]) -> None:
    before = {chain: int(rpc(chain, "eth_blockNumber"), 16) for chain in CHAINS}
    wait_for(
        "heads at least that high",
        lambda: all(
            node["head"] >= before[SERVICES[node["name"]]["chain"]]
            for node in seen(mev1)["nodes"]
            if SERVICES[node["name"]]["part"] == "execution"
        ),
    )


def test_health_is_not_to_be_had_from_outside(mev1: Host) -> None:
    listening = mev1.run("ss -Hltn")
    [line] = [line for line in listening.splitlines() if f":{HEALTH.rpartition(':')[2]} " in line]
    assert line.split()[3].startswith("127.0.0.1:")
