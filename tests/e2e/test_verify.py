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


def fits(report: Path, *settings: str) -> subprocess.CompletedProcess[str]:
    return verify(report.with_name("forks.json"), f"catalogue_fit_report={report}", *settings)


def test_the_host_has_what_its_services_need(tmp_path: Path) -> None:
    done = fits(tmp_path / "fit.json")
    assert done.returncode == 0, done.stdout
    rows = {row["resource"]: row for row in json.loads((tmp_path / "fit.json").read_text())}
    assert {row["state"] for row in rows.values()} == {"fits"}
    memory = rows["memory"]["parts"]
    agents = {"nginx", "node-health", "strategy_engine", "analytics_engine"}
    assert set(memory) == {*SERVICES, *agents, "the system"}
    assert rows["memory"]["needed"] == sum(need for need, _ in memory.values())
    assert set(rows["disk"]["parts"]) == set(CHAINS)
    assert "MiB" in done.stdout


def test_every_service_has_limits_below_its_hosts_memory(mev1: Host) -> None:
    memory = int(mev1.run("grep MemTotal: /proc/meminfo").split()[1]) * 1024
    most = 0
    for unit in [*SERVICES, "nginx", "node-health", "strategy_engine", "analytics_engine"]:
        shown = mev1.run(f"systemctl show {unit}.service -p MemoryHigh -p MemoryMax")
        known = {name: int(size) for name, size in (line.split("=") for line in shown.split())}
        assert 0 < known["MemoryHigh"] < known["MemoryMax"], unit
        most += known["MemoryMax"]
    assert most < memory


def test_a_host_that_has_become_too_small_ends_it_red_with_the_sums(tmp_path: Path) -> None:
    huge = {"catalogue_service_overrides": {"erigon": {"resources": {"memory_mib": 10_000_000}}}}
    done = fits(tmp_path / "fit.json", json.dumps(huge))
    assert done.returncode != 0
    words = " ".join(done.stdout.split())
    assert "mev1 is too small for what it is to run" in words
    assert "erigon 10000000" in words
    [short] = [row for row in json.loads((tmp_path / "fit.json").read_text()) if row["state"] == "short"]
    assert (short["resource"], short["host"]) == ("memory", "mev1")


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
