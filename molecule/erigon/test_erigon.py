"""Erigon runs Ethereum, twice, and Sepolia beside each other."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests import chain_checks as checks
from tests.chain_units import ChainUnits
from tests.plays import play

if TYPE_CHECKING:
    from testinfra.host import Host


class TestUnits(ChainUnits):
    CHAINS = ("ethereum", "sepolia")


@pytest.mark.parametrize("unit", ["erigon", "sepolia-erigon", "node-health"])
def test_unit_is_slowed_before_it_is_killed_and_yields_to_the_system(host: Host, unit: str) -> None:
    checks.is_limited(host, unit)


@pytest.mark.parametrize(("unit", "weight"), [("erigon", "200"), ("sepolia-erigon", "50")])
def test_weights_are_the_catalogue_s(host: Host, unit: str, weight: str) -> None:
    known = checks.properties(host, unit)
    assert (known["IOWeight"], known["CPUWeight"]) == (weight, weight)


SECOND = "ethereum-archive-erigon"


def asked(host: Host, address: str) -> dict[str, Any]:
    """What a node answers when it is asked for its chain's id."""
    call = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []})
    answer = host.check_output(
        "curl -s --max-time 5 -H 'Content-Type: application/json' -d %s http://%s", call, address
    )
    return dict(json.loads(answer))


def test_a_second_node_of_a_chain_stands_beside_the_first(host: Host) -> None:
    first, second = (host.check_output("systemctl show -p ExecStart --value %s", unit) for unit in ("erigon", SECOND))
    for unit, line, mode, peers in (("erigon", first, "full", 64), (SECOND, second, "archive", 32)):
        assert host.service(unit).is_running
        assert f"--prune.mode={mode} " in line
        assert f"--maxpeers={peers} " in line
        checks.is_in_step(host, unit)
    assert "--datadir=/data/blockchain/ethereum-archive " in second
    assert asked(host, "127.0.0.1:8545") == asked(host, "127.0.0.7:9545")
    assert host.file("/data/blockchain/ethereum-archive").user == "ethereum-archive"
    secrets = host.check_output("sha256sum /data/blockchain/nodes/security/jwt_secrets/ethereum*.hex").splitlines()
    assert len({line.split()[0] for line in secrets}) == len(secrets) == 2


def test_what_befalls_one_of_two_nodes_does_not_befall_the_other(host: Host) -> None:
    before = host.check_output("systemctl show -p InvocationID --value erigon")
    host.check_output("systemctl kill --signal=SIGKILL %s", SECOND)
    host.check_output("node-health wait --timeout 60 --config /etc/node_health/%s.json", SECOND)
    assert host.check_output("systemctl show -p InvocationID --value erigon") == before
    checks.is_in_step(host, "erigon")


def test_an_option_that_no_client_has_stops_the_play_before_anything_is_touched() -> None:
    done = play("erigon", "converge.yml", {"node_options": {"ethereum-archive": {"erigon_prune": "archive"}}})
    assert done.code != 0
    assert done.changed == 0
    assert "node_options.ethereum-archive in the inventory sets erigon_prune" in done.messages
    assert "the nearest is erigon_prune_mode" in done.messages


# Where a host's size is looked at.
HOST = "../../playbooks/host.yml"
ONE_MORE = {"node_chains": ["ethereum", "sepolia", "base"]}


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        (
            {"catalogue_service_overrides": {"base-execution": {"resources": {"memory_mib": 10_000_000}}}},
            ["memory, MiB:", "base-execution 10000000", "the system 2048", "the host has"],
        ),
        ({"catalogue_chain_overrides": {"base": {"disk_gib": 1_000_000}}}, ["disk on /, GiB:", "base 1000000"]),
        (
            {"catalogue_service_overrides": {"base-execution": {"resources": {"cpus": "4000"}}}},
            ["cpus of base-execution: 4000 is asked for, the host has"],
        ),
    ],
)
def test_a_host_that_is_too_small_is_told_with_the_sums_before_anything_is_installed(
    host: Host, variables: dict[str, Any], words: list[str]
) -> None:
    done = play("erigon", HOST, {**ONE_MORE, **variables})
    assert done.code != 0
    assert done.changed == 0
    message = done.messages.replace("\\n", " ")
    for word in ["too small for what it is to run", *words, "catalogue_resource_exceptions"]:
        assert " ".join(word.split()) in " ".join(message.split()), message
    assert not host.file("/opt/base-reth-node").exists
    assert not host.file("/etc/systemd/system/base-execution.service").exists
    assert not host.user("base").exists


def test_a_shortage_that_the_operator_takes_upon_himself_is_reported() -> None:
    exceptions = [{"host": "erigon", "shortage": "disk", "reason": "a larger disk comes on Monday"}]
    variables = {"catalogue_chain_overrides": {"ethereum": {"disk_gib": 1_000_000}}}
    done = play("erigon", HOST, {**variables, "catalogue_resource_exceptions": exceptions}, "--check")
    assert done.code == 0, done.output
    assert "too little, by the operator's word: a larger disk comes on Monday" in done.messages
