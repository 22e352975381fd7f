"""Erigon runs Ethereum and Sepolia beside each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests import chain_checks as checks
from tests.plays import play

if TYPE_CHECKING:
    from testinfra.host import Host

UNITS = ["erigon", "sepolia-erigon"]
EXECUTION = ["erigon", "sepolia-erigon"]


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


@pytest.mark.parametrize("chain", ["ethereum", "sepolia"])
def test_engine_secret_is_the_host_s_own(host: Host, chain: str) -> None:
    checks.engine_secret_is_the_hosts_own(host, chain)


@pytest.mark.parametrize("unit", [*UNITS, "node-health"])
def test_unit_is_slowed_before_it_is_killed_and_yields_to_the_system(host: Host, unit: str) -> None:
    checks.is_limited(host, unit)


@pytest.mark.parametrize(("unit", "weight"), [("erigon", "200"), ("sepolia-erigon", "50")])
def test_weights_are_the_catalogue_s(host: Host, unit: str, weight: str) -> None:
    known = checks.properties(host, unit)
    assert (known["IOWeight"], known["CPUWeight"]) == (weight, weight)


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
    done = play("erigon", "converge.yml", {**ONE_MORE, **variables})
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
    done = play("erigon", "converge.yml", {**variables, "catalogue_resource_exceptions": exceptions}, "--check")
    assert done.code == 0, done.output
    assert "too little, by the operator's word: a larger disk comes on Monday" in done.messages
