"""Two OP-stack pairs follow one Ethereum node, each pair under one unit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests import chain_checks as checks

if TYPE_CHECKING:
    from testinfra.host import Host

UNITS = ["base-execution", "base-consensus", "optimism-execution", "optimism-consensus"]
EXECUTION = ["base-execution", "optimism-execution"]


@pytest.mark.parametrize("unit", UNITS)
def test_unit_runs_as_the_catalogue_says(host: Host, unit: str) -> None:
    checks.runs_as_the_catalogue_says(host, unit)


@pytest.mark.parametrize("unit", UNITS)
def test_listeners_are_bound_and_nothing_wider(host: Host, unit: str) -> None:
    checks.binds_its_listeners_and_nothing_wider(host, unit)


@pytest.mark.parametrize("unit", UNITS)
def test_unit_is_in_step(host: Host, unit: str) -> None:
    checks.is_in_step(host, unit)


@pytest.mark.parametrize("unit", UNITS)
def test_unit_is_confined(host: Host, unit: str) -> None:
    checks.is_confined(host, unit)


@pytest.mark.parametrize("unit", EXECUTION)
def test_node_answers_with_its_chain_s_id(host: Host, unit: str) -> None:
    checks.answers_with_its_chain_id(host, unit)


@pytest.mark.parametrize("chain", ["base", "optimism"])
def test_engine_secret_is_the_host_s_own(host: Host, chain: str) -> None:
    checks.engine_secret_is_the_hosts_own(host, chain)


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
