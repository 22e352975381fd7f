"""Two OP-stack pairs follow one Ethereum node, each pair under one unit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests import chain_checks as checks
from tests.chain_units import ChainUnits
from tests.plays import Play, play

if TYPE_CHECKING:
    from testinfra.host import Host

DATA = "/data/blockchain/optimism"
SECRET = "/data/blockchain/nodes/security/jwt_secrets/optimism.hex"  # noqa: S105 - its place


class TestUnits(ChainUnits):
    CHAINS = ("base", "optimism")


@pytest.mark.parametrize("pair", ["base", "optimism"])
def test_one_unit_stands_for_the_pair(host: Host, pair: str) -> None:
    members = [f"{pair}-execution", f"{pair}-consensus"]
    before = [checks.properties(host, member)["MainPID"] for member in members]
    assert checks.properties(host, pair)["ActiveState"] == "active"
    host.check_output("systemctl restart %s.service", pair)
    after = [checks.properties(host, member) for member in members]
    assert all(
        now["ActiveState"] == "active" and now["MainPID"] != then for now, then in zip(after, before, strict=True)
    )
    status = host.check_output("systemctl status %s.service", pair)
    assert all(member in status for member in members)


@pytest.mark.parametrize("pair", ["base", "optimism"])
def test_the_consensus_client_stops_first_and_starts_last(host: Host, pair: str) -> None:
    host.check_output("systemctl restart %s.service", pair)
    execution, consensus = (checks.properties(host, f"{pair}-{part}") for part in ("execution", "consensus"))
    stopped, started = "InactiveEnterTimestampMonotonic", "ExecMainStartTimestampMonotonic"
    assert int(consensus[stopped]) < int(execution[stopped]) < int(execution[started]) < int(consensus[started])


def nodes(
    *options: str, execution: str = "op-reth", chains: tuple[str, ...] = ("ethereum", "base", "optimism")
) -> Play:
    overrides = {"optimism": {"components": {"execution": execution}}}
    return play(
        "op_stack",
        "../../playbooks/nodes.yml",
        {"node_chains": chains, "catalogue_chain_overrides": overrides},
        *options,
    )


def remove(*options: str, **variables: object) -> Play:
    return play("op_stack", "../../playbooks/remove.yml", {"node_chains": ["ethereum", "base"], **variables}, *options)


def program(host: Host, unit: str) -> str:
    """The arguments that a unit's program runs with."""
    pid = checks.properties(host, unit)["MainPID"]
    return str(host.check_output("tr '\\0' ' ' < /proc/%s/cmdline", pid))


def test_a_pair_moves_to_op_geth_and_back_to_op_reth(host: Host) -> None:
    secret, other = (
        host.check_output("sha256sum %s", SECRET),
        checks.properties(host, "base-execution")["InvocationID"],
    )
    host.check_output("echo kept > %s/execution/kept", DATA)
    for client, kind in (("op-geth", "geth"), ("op-reth", "reth")):
        would = nodes("--check", execution=client)
        assert would.code == 0, would.messages
        assert would.changed > 0
        done = nodes(execution=client)
        assert done.code == 0, done.messages
        assert f"/{client}" in program(host, "optimism-execution")
        assert f"--l2.enginekind={kind}" in program(host, "optimism-consensus")
        for unit in ("optimism-execution", "optimism-consensus"):
            checks.is_in_step(host, unit)
        checks.answers_with_its_chain_id(host, "optimism-execution")
        assert nodes(execution=client).changed == 0
    assert host.check_output("sha256sum %s", SECRET) == secret
    assert host.file(f"{DATA}/execution/kept").exists
    assert checks.properties(host, "base-execution")["InvocationID"] == other


def test_a_chain_that_is_wanted_is_not_removed(host: Host) -> None:
    done = remove(node_chains=["ethereum", "optimism"], remove_chains=["optimism"])
    assert done.code != 0
    assert "'optimism' is in node_chains of op_stack" in done.messages
    assert checks.properties(host, "optimism-execution")["ActiveState"] == "active"


def test_a_chain_is_removed_and_its_data_kept(host: Host) -> None:
    base = checks.properties(host, "base-execution")["InvocationID"]
    would = remove("--check", remove_chains=["optimism"])
    assert (would.code, would.changed > 0) == (0, True)
    assert checks.properties(host, "optimism-execution")["ActiveState"] == "active"
    assert remove(remove_chains=["optimism"]).code == 0
    left = host.run("ls /etc/systemd/system /etc/default /etc/node_health | grep optimism").stdout
    assert left == ""
    assert host.run("pgrep -u optimism").stdout == ""
    assert host.file(f"{DATA}/execution/kept").exists
    assert host.file(SECRET).exists
    assert remove(remove_chains=["optimism"]).changed == 0
    assert checks.properties(host, "base-execution")["InvocationID"] == base
    checks.is_in_step(host, "base-execution")


def test_a_chain_that_was_removed_comes_back_with_its_data(host: Host) -> None:
    secret = host.check_output("sha256sum %s", SECRET)
    assert nodes().code == 0
    checks.is_in_step(host, "optimism-execution")
    assert host.file(f"{DATA}/execution/kept").exists
    assert host.check_output("sha256sum %s", SECRET) == secret


def test_data_is_deleted_by_name_and_nothing_else(host: Host) -> None:
    others = host.check_output("find /data/blockchain -not -path '%s*' -type d | sort", DATA)
    named = {"remove_chains": ["optimism"], "remove_data": ["optimism"]}
    assert remove("--check", **named).code == 0
    assert host.file(f"{DATA}/execution/kept").exists
    assert remove(**named).code == 0
    assert host.run(f"find {DATA} -mindepth 1").stdout == ""
    assert not host.file(SECRET).exists
    assert host.check_output("find /data/blockchain -not -path '%s*' -type d | sort", DATA) == others
    assert remove(**named).changed == 0
    assert nodes().code == 0
    checks.is_in_step(host, "optimism-execution")
