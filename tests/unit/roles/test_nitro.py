"""An empty Nitro starts only where its snapshot fits, in every sense, and initialises over data only where that is named."""

from __future__ import annotations

from typing import Any

import pytest

from roles.nitro.filter_plugins.nitro import GIB, nitro_first_start_problems, nitro_init_problems

DIRECTORY = "/data/arbitrum/arb1"
TOLD = {
    "directory": DIRECTORY,
    "url": "",
    "latest_base": "",
    "again": "",
    "prune": "",
    "state_scheme": "hash",
    "extra_flags": [],
    "gib": 100,
    "root_allowed": False,
}
DISK = {"mount": "/data", "free_bytes": 60 * GIB, "had_bytes": {"/data/arbitrum": 50 * GIB}}
PATH = {"state_scheme": "path", "url": "https://snapshots.example.com/full-path.tar"}


@pytest.mark.parametrize(
    "told", [{}, PATH, {"again": DIRECTORY}, {"gib": ""}, {"prune": "full"}, {"latest_base": "https://m"}]
)
def test_options_that_fit_each_other_are_taken(told: dict[str, Any]) -> None:
    assert nitro_init_problems({**TOLD, **told}) == []


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"state_scheme": "path"}, "allowed: nitro_init_url, the address of a snapshot of scheme path."),
        ({**PATH, "prune": "full"}, "nitro_init_prune is set with nitro_state_scheme path"),
        ({"url": "https://a/b", "latest_base": "https://a"}, "nitro_init_latest_base is set beside nitro_init_url"),
        ({"again": "/data/arbitrum"}, f"nitro_init_again is '/data/arbitrum'; allowed: {DIRECTORY}, by name"),
        ({"extra_flags": ["--init.force"]}, f"allowed: nitro_init_again: {DIRECTORY}"),
        ({"extra_flags": ["--init.force=true"]}, "nitro_extra_flags has --init.force"),
    ],
)
def test_options_that_do_not_fit_are_said_in_one_sentence(told: dict[str, Any], words: str) -> None:
    [problem] = nitro_init_problems({**TOLD, **told})
    assert words in problem


@pytest.mark.parametrize("found", [[], ["LOCK", "nitro", "nitro/LOCK"]])
def test_an_empty_node_with_room_may_start(found: list[str]) -> None:
    assert nitro_first_start_problems(TOLD, found, DISK) == []


def test_a_node_that_has_its_database_is_asked_for_no_room() -> None:
    full = {"mount": "/", "free_bytes": 0, "had_bytes": {}}
    assert nitro_first_start_problems(TOLD, ["nitro", "nitro/l2chaindata", "nitro/tmp"], full) == []


@pytest.mark.parametrize(
    ("told", "found", "disk", "words"),
    [
        ({}, ["nitro", "nitro/tmp"], {}, f"{DIRECTORY}/nitro/tmp is what a first start left that was cut off"),
        (
            {},
            ["l2chaindata", "arbitrumdata"],
            {},
            f"holds arbitrumdata, l2chaindata, which Nitro looks for in {DIRECTORY}/nitro alone",
        ),
        ({}, [], {"mount": "/"}, "is on the root file system"),
        ({"gib": 111}, [], {}, "has 110.00 GiB for an empty node"),
        ({"gib": "110.5"}, [], {}, "nitro_init_gib says that 110.50 are needed"),
    ],
)
def test_what_stands_in_the_way_of_a_first_start_is_said(
    told: dict[str, Any], found: list[str], disk: dict[str, Any], words: str
) -> None:
    [problem] = nitro_first_start_problems({**TOLD, **told}, found, {**DISK, **disk})
    assert words in problem


def test_the_root_file_system_is_taken_where_it_is_meant() -> None:
    assert nitro_first_start_problems({**TOLD, "root_allowed": True}, [], {**DISK, "mount": "/"}) == []
