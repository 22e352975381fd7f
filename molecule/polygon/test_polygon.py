"""Heimdall and Bor run Polygon."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests import chain_checks as checks

if TYPE_CHECKING:
    from testinfra.host import Host

UNITS = ["polygon-heimdall", "polygon-bor"]
EXECUTION = ["polygon-bor"]


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


@pytest.mark.parametrize("chain", ["polygon"])
def test_engine_secret_is_the_host_s_own(host: Host, chain: str) -> None:
    checks.engine_secret_is_the_hosts_own(host, chain)
