"""An empty Nitro starts only on a host that its snapshot fits, and where it would find what is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests import chain_checks as checks
from tests.plays import Play, play

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testinfra.host import Host

SERVICE = "arbitrum"
DIRECTORY = "/data/blockchain/arbitrum/arb1"


def converge(**variables: object) -> Play:
    return play("nitro", "converge.yml", {"nitro_init_root_allowed": True, **variables})


@pytest.fixture
def leftover(host: Host) -> Iterator[str]:
    path = f"{DIRECTORY}/nitro/tmp"
    host.check_output(f"mkdir -p {path}")
    yield path
    host.check_output(f"rm -r {DIRECTORY}/nitro")


def test_a_snapshot_that_does_not_fit_is_refused_with_the_sums(host: Host) -> None:
    before = checks.properties(host, SERVICE)["MainPID"]
    done = converge(nitro_init_gib=900000)
    assert done.code != 0
    assert (
        "GiB for an empty node, what is downloaded already counted, and nitro_init_gib says that 900000.00 are needed"
        in done.messages
    )
    assert checks.properties(host, SERVICE)["MainPID"] == before


def test_a_first_start_that_was_cut_off_is_told_from_an_empty_directory(leftover: str) -> None:
    done = converge(nitro_init_gib=0.5)
    assert done.code != 0
    assert f"{leftover} is what a first start left that was cut off while it unpacked" in done.messages


def test_a_scheme_that_no_latest_snapshot_has_is_refused() -> None:
    done = converge(nitro_state_scheme="path")
    assert done.code != 0
    assert "allowed: nitro_init_url, the address of a snapshot of scheme path" in done.messages


def test_a_snapshot_that_fits_changes_nothing_about_a_service_that_is_as_wanted() -> None:
    done = converge(nitro_init_gib=0.5)
    assert (done.code, done.changed) == (0, 0), done.messages
