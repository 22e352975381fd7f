"""A fleet of two goes to other versions and back: one host at a time, judged, and never a pool's last node.

The tests follow each other: what one leaves is where the next one starts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import testinfra
from testinfra.host import Host

from lab import ssh
from lab.checkout import Checkout
from tests.load import Load
from tests.plays import Play, kill, play, start

HOSTS = ("upgrade", "upgrade-b")
EARLIER = {"erigon": "3.8.0", "op-reth": "2.4.2", "op-node": "1.19.1"}
# A release of the stand-in's that only the lab has; the catalogue's op-node is the oldest that follows its chain.
NEXT = "1.19.2"
FLEET: dict[str, Any] = {"node_chains": ["ethereum", "optimism"]}
FAULTS = "/etc/chain-standin/faults"
SECRETS = "/data/blockchain/nodes/security/jwt_secrets"
CHAINS = ("ethereum", "optimism")
DRAINED = "/var/lib/nginx/drained"


@pytest.fixture(scope="module")
def fleet() -> dict[str, Host]:
    return {
        name: testinfra.get_host(f"ssh://{name}", ssh_config=str(ssh.config(Checkout.here())), sudo=True)
        for name in HOSTS
    }


def upgrade(*options: str, **variables: object) -> Play:
    return play("upgrade", "../../playbooks/upgrade.yml", {**FLEET, **variables}, *options)


def rollback(*options: str, **variables: object) -> Play:
    return play("upgrade", "../../playbooks/rollback.yml", {**FLEET, **variables}, *options)


def rotate(*options: str, **variables: object) -> Play:
    return play("upgrade", "../../playbooks/rotate_secrets.yml", {**FLEET, **variables}, *options)


def secret(host: Host, chain: str) -> str:
    """A secret's digest: it does not leave the host, not even for a test."""
    return str(host.check_output("sha256sum < %s", f"{SECRETS}/{chain}.hex"))


def versions(host: Host) -> dict[str, str]:
    return {name: host.check_output("readlink /opt/%s/current", name) for name in EARLIER}


def units(host: Host) -> dict[str, str]:
    names = ("erigon", "optimism-execution", "optimism-consensus")
    return {name: host.check_output("systemctl show -p InvocationID --value %s", name) for name in names}


def log(host: Host) -> list[dict[str, str]]:
    return [json.loads(line) for line in host.check_output("cat /var/log/deployments.jsonl").splitlines()]


def in_step(host: Host, service: str) -> bool:
    waited = host.run("node-health wait --timeout 30 --config /etc/node_health/%s.json", service)
    return bool(waited.rc == 0)


@contextmanager
def fault(hosts: list[Host], name: str, told: dict[str, Any]) -> Iterator[None]:
    for host in hosts:
        host.check_output("mkdir -p %s && echo %s > %s", FAULTS, json.dumps(told), f"{FAULTS}/{name}.json")
    try:
        yield
    finally:
        for host in hosts:
            host.check_output("rm %s", f"{FAULTS}/{name}.json")


@contextmanager
def healed(host: Host, name: str) -> Iterator[None]:
    """Takes a fault away in the very moment in which a play puts the old secret back."""
    watch = f"until test -e {SECRETS}/ethereum.hex.previous; do sleep 0.1; done; while test -e {SECRETS}/ethereum.hex.previous; do sleep 0.1; done"
    host.check_output("systemd-run --quiet --unit healer sh -c %s", f"{watch}; echo '{{}}' > {FAULTS}/{name}.json")
    try:
        yield
    finally:
        host.run("systemctl stop healer")


def test_the_fleet_starts_in_earlier_versions(fleet: dict[str, Host]) -> None:
    assert [versions(host) for host in fleet.values()] == [EARLIER, EARLIER]


def test_a_node_knows_its_pool(fleet: dict[str, Host]) -> None:
    told = json.loads(fleet["upgrade"].check_output("cat /etc/node_health/erigon.json"))
    address = json.loads(fleet["upgrade-b"].check_output("cat /etc/node_health/erigon.json"))["rpc"]
    assert told["pool"] == [address]


def test_check_tells_what_would_move_and_moves_nothing(fleet: dict[str, Host]) -> None:
    before = [units(host) for host in fleet.values()]
    done = upgrade("--check")
    assert done.code == 0
    for host in HOSTS:
        assert f"{host} ethereum: erigon 3.8.0 -> 3.8.1" in done.output
        assert f"{host} optimism: op-reth 2.4.2 -> 2.4.3" in done.output
    assert [versions(host) for host in fleet.values()] == [EARLIER, EARLIER]
    assert [units(host) for host in fleet.values()] == before


def test_a_pool_s_last_node_in_step_is_not_touched(fleet: dict[str, Host]) -> None:
    before = [units(host) for host in fleet.values()]
    with fault([fleet["upgrade-b"]], "erigon-1", {"chain_id": 5}):
        done = upgrade(node_upgrade_chains=["ethereum"])
    assert done.code != 0
    assert "Without upgrade no node of ethereum would be in step (upgrade-b: erigon wrong_chain" in done.messages
    assert "ethereum named in node_upgrade_alone" in done.messages
    assert [units(host) for host in fleet.values()] == before


def test_a_bad_value_is_one_sentence_and_nothing_is_touched() -> None:
    done = upgrade(node_upgrade_chains=["etherium"])
    assert done.code != 0
    assert "node_upgrade_chains is ['etherium']" in done.messages
    assert "allowed: chains of ethereum," in done.messages


def test_the_fleet_goes_to_the_catalogue_s_versions_host_by_host(fleet: dict[str, Host]) -> None:
    with Load("upgrade", "ethereum", rate=20) as load:
        assert upgrade().code == 0
    # On a machine that other work keeps busy, both nodes may be too late for a look at once; `make bench SUITE=clients` counts every failure.
    assert load.sent > 0
    assert set(load.failures) <= {"status 503"}
    wanted = {"erigon": "3.8.1", "op-reth": "2.4.3", "op-node": "1.19.1"}
    assert [versions(host) for host in fleet.values()] == [wanted, wanted]
    assert all(in_step(host, service) for host in fleet.values() for service in ("erigon", "optimism"))
    first, second = ([entry["time"] for entry in log(host) if entry["from"]] for host in fleet.values())
    assert max(first) < min(second)


def test_a_second_run_changes_nothing(fleet: dict[str, Host]) -> None:
    before = [units(host) for host in fleet.values()]
    done = upgrade()
    assert (done.code, done.changed) == (0, 0)
    assert [units(host) for host in fleet.values()] == before


def test_check_of_a_rotation_changes_nothing(fleet: dict[str, Host]) -> None:
    before = [secret(host, chain) for host in fleet.values() for chain in CHAINS]
    done = rotate("--check")
    assert done.code == 0
    assert "optimism would be given a new Engine API secret, and restarted" in done.messages
    assert [secret(host, chain) for host in fleet.values() for chain in CHAINS] == before


def test_secrets_rotate_and_pairs_speak_with_the_new_ones(fleet: dict[str, Host]) -> None:
    before = [secret(host, chain) for host in fleet.values() for chain in CHAINS]
    done = rotate("--diff", "-vvv")
    assert done.code == 0, done.messages
    assert not set(before) & {secret(host, chain) for host in fleet.values() for chain in CHAINS}
    for host in fleet.values():
        assert all(in_step(host, service) for service in ("erigon", "optimism"))
        assert host.check_output("ls %s", SECRETS).split() == ["ethereum.hex", "optimism.hex"]
        assert host.check_output("stat -c '%%U %%G %%a' %s", f"{SECRETS}/optimism.hex") == "root optimism 640"
        new = host.check_output("cat %s", f"{SECRETS}/optimism.hex").strip()
        assert new not in done.output
        # The shell puts the secret in: sudo writes the command that it is given to the journal.
        assert host.run(f'journalctl --quiet --grep "$(cat {SECRETS}/optimism.hex)"').stdout == ""
        records = [json.loads(line) for line in host.check_output("cat /var/log/secrets.jsonl").splitlines()]
        assert [(record["chain"], record["result"]) for record in records] == [(chain, "rotated") for chain in CHAINS]


def test_a_rotation_that_fails_gives_the_old_secret_back(fleet: dict[str, Host]) -> None:
    host = fleet["upgrade"]
    before = secret(host, "ethereum")
    with fault([host], "erigon-1", {"refuse_start": "Fatal: it does not like the secret"}), healed(host, "erigon-1"):
        done = rotate(rotate_secrets_chains=["ethereum"], node_upgrade_seconds=10)
    assert done.code != 0
    assert (
        "erigon on upgrade did not come into step with a new Engine API secret and has the old one again"
        in done.messages
    )
    assert secret(host, "ethereum") == before
    assert in_step(host, "erigon")
    assert json.loads(host.check_output("tail -n 1 /var/log/secrets.jsonl"))["result"] == "rolled_back"


def test_a_rotation_that_was_cut_off_is_mended_by_the_next_run_of_the_nodes(fleet: dict[str, Host]) -> None:
    host = fleet["upgrade"]
    before = units(host)
    # As a play leaves it that is killed between the new secret and the restart.
    host.check_output(
        "cd %s && cp -p optimism.hex optimism.hex.previous && openssl rand -out optimism.hex -hex 32", SECRETS
    )
    assert play("upgrade", "../../playbooks/nodes.yml", FLEET).code == 0
    after = units(host)
    assert {name for name, run in after.items() if run != before[name]} == {"optimism-execution", "optimism-consensus"}
    assert in_step(host, "optimism")
    assert rotate(rotate_secrets_chains=["optimism"]).code == 0
    assert host.check_output("ls %s", SECRETS).split() == ["ethereum.hex", "optimism.hex"]


def test_a_rollback_names_what_goes_back() -> None:
    done = rollback()
    assert done.code != 0
    assert "rollback_chains is not set" in done.messages


def test_a_rollback_without_a_version_before_says_so() -> None:
    done = rollback(rollback_chains=["optimism"])
    assert done.code != 0
    assert "upgrade has no version before the current one of op-node" in done.messages


def test_a_rollback_goes_host_by_host_and_is_logged(fleet: dict[str, Host]) -> None:
    assert rollback(rollback_chains=["ethereum"]).code == 0
    assert [versions(host)["erigon"] for host in fleet.values()] == ["3.8.0", "3.8.0"]
    last = log(fleet["upgrade"])[-1]
    assert (last["component"], last["from"], last["to"], last["reason"]) == ("erigon", "3.8.1", "3.8.0", "asked for")


def test_a_client_that_its_chain_has_left_behind_is_no_way_back(fleet: dict[str, Host]) -> None:
    done = rollback(rollback_chains=["optimism"], rollback_versions={"op-node": "1.19.0"})
    assert done.code != 0
    assert "op-node 1.19.0 does not follow optimism any more" in done.messages
    assert versions(fleet["upgrade"])["op-node"] == "1.19.1"


def test_a_pair_of_which_one_fails_goes_back_whole_and_the_next_host_is_not_touched(fleet: dict[str, Host]) -> None:
    assert rollback(rollback_chains=["optimism"], rollback_versions={"op-reth": "2.4.2"}).code == 0
    untouched = units(fleet["upgrade-b"])
    with fault(list(fleet.values()), "op-node-10", {"only_version": NEXT, "refuse_start": "Fatal: no such flag"}):
        done = upgrade(node_upgrade_chains=["optimism"], node_upgrade_versions={"op-node": NEXT})
    assert done.code != 0
    assert f"upgrade optimism: op-reth 2.4.2 -> 2.4.3, op-node 1.19.1 -> {NEXT} failed" in done.messages
    assert "the versions before run again" in done.messages
    assert "Fatal: no such flag" in done.messages
    back = {"erigon": "3.8.0", "op-reth": "2.4.2", "op-node": "1.19.1"}
    assert versions(fleet["upgrade"]) == back
    assert in_step(fleet["upgrade"], "optimism")
    assert units(fleet["upgrade-b"]) == untouched
    reasons = {entry["component"]: entry["reason"] for entry in log(fleet["upgrade"])}
    assert "Fatal: no such flag" in reasons["op-node"]
    assert reasons["op-reth"].startswith("back, because op-node")


def test_a_version_that_does_not_keep_in_step_goes_back(fleet: dict[str, Host]) -> None:
    with fault(list(fleet.values()), "erigon-1", {"only_version": "3.8.1", "syncing": {"currentBlock": "0x1"}}):
        done = upgrade(node_upgrade_chains=["ethereum"], node_upgrade_seconds=10)
    assert done.code != 0
    assert "erigon syncing" in done.messages
    assert [versions(host)["erigon"] for host in fleet.values()] == ["3.8.0", "3.8.0"]
    assert in_step(fleet["upgrade"], "erigon")


def test_without_room_for_a_new_version_nothing_is_touched(fleet: dict[str, Host]) -> None:
    before = [units(host) for host in fleet.values()]
    fleet["upgrade"].check_output("rm -r /opt/erigon/3.8.1")
    done = upgrade(node_upgrade_chains=["ethereum"], release_spare_mib=10**9)
    assert done.code != 0
    assert "the file system of /opt/erigon has " in done.messages
    assert [units(host) for host in fleet.values()] == before
    assert fleet["upgrade"].run(f"find {DRAINED} -type f").stdout == ""


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param(f"test -e {DRAINED}/ethereum/upgrade", id="drained"),
        pytest.param("test -e /opt/erigon/.unproven", id="switched"),
        pytest.param(
            "test -e /opt/erigon/.unproven && test $(systemctl show -p InvocationID --value erigon) != $BEFORE",
            id="restarted",
        ),
    ],
)
def test_an_upgrade_that_was_killed_is_finished_by_the_next(fleet: dict[str, Host], moment: str) -> None:
    host = fleet["upgrade"]
    # The next host's turn comes once, after the first moment; from then on it is where it is to be.
    if versions(host)["erigon"] != "3.8.0":
        assert rollback("--limit=upgrade", rollback_chains=["ethereum"]).code == 0
    wait = f"BEFORE={units(host)['erigon']}; until {moment}; do sleep 0.05; done"
    # Until it is killed it cannot be proven: however late this machine is, the play is not over before.
    with fault([host], "erigon-1", {"only_version": "3.8.1", "syncing": {"currentBlock": "0x1"}}):
        running = start("upgrade", "../../playbooks/upgrade.yml", {**FLEET, "node_upgrade_chains": ["ethereum"]})
        try:
            assert host.run("timeout 200 sh -c %s", wait).rc == 0
        finally:
            kill(running)
    # What the play had asked the host for goes on to its end.
    host.check_output("timeout 120 sh -c %s", "while pgrep -f [B]ECOME-SUCCESS; do sleep 0.2; done")
    assert host.file(f"{DRAINED}/ethereum/upgrade").exists
    again = upgrade(node_upgrade_chains=["ethereum"])
    assert again.code == 0, again.messages
    assert [versions(each)["erigon"] for each in fleet.values()] == ["3.8.1", "3.8.1"]
    assert not host.file(f"{DRAINED}/ethereum/upgrade").exists
    assert not host.file("/opt/erigon/.unproven").exists
    assert all(in_step(each, "erigon") for each in fleet.values())


def test_a_node_that_an_upgrade_left_drained_comes_back_and_its_operator_s_drain_stays(fleet: dict[str, Host]) -> None:
    host = fleet["upgrade"]
    # As a play leaves it that is killed between the proof and the way back into the pool.
    host.check_output("edge-pools drain --by node_upgrade ethereum upgrade")
    host.check_output("edge-pools drain optimism upgrade")
    try:
        done = upgrade(node_upgrade_chains=["ethereum"])
        # The one change is the way back: what the upgrades that were killed had left is finished.
        assert (done.code, done.changed) == (0, 1)
        assert host.run(f"find {DRAINED} -type f").stdout.split() == [f"{DRAINED}/optimism/upgrade"]
    finally:
        host.check_output("edge-pools undrain optimism upgrade")
