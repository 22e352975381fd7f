"""Base's client brings its data itself, before it first runs: cut off it goes on, and into data that is there it never goes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests import chain_checks as checks
from tests.plays import Play, play
from tests.waiting import journal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testinfra.host import Host

SERVICE = "base-execution"
UNIT = f"{SERVICE}-snapshot"
DATA = "/data/blockchain/base"
FAULTS = "/etc/chain-standin/faults/base-reth-node-8453.json"
ENTRY = {"by_client": True, "unpacked_gib": 0.01, "root_allowed": True}


def nodes(entry: dict[str, Any], *options: str, **variables: object) -> Play:
    told = {
        "node_chains": ["ethereum", "base", "optimism"],
        "node_snapshots": {SERVICE: entry},
        "snapshot_spare_gib": 1,
        **variables,
    }
    return play("op_stack", "../../playbooks/nodes.yml", told, *options)


@pytest.fixture(scope="module", autouse=True)
def restored(host: Host) -> Iterator[None]:
    yield
    host.run(f"rm -f {FAULTS}; systemctl start base.service")


def held(host: Host) -> str:
    return str(host.check_output(f"ls {DATA}/execution"))


def test_a_directory_that_holds_data_is_left_as_it_is(host: Host) -> None:
    before = held(host)
    done = nodes(ENTRY)
    assert done.code != 0
    assert f"{DATA}/execution on op_stack holds data and is left as it is" in done.messages
    assert (held(host), host.service(SERVICE).is_running) == (before, True)


def test_a_history_for_which_no_download_is_known_is_refused() -> None:
    done = nodes(ENTRY, op_stack_history="archive")
    assert done.code != 0
    assert (
        f"node_snapshots.{SERVICE}.by_client is set, and the client, as it is set up here, downloads no data itself"
        in done.messages
    )


def test_a_download_that_is_cut_starts_no_client(host: Host) -> None:
    # Named beside the pair: its unit has stopped, and `systemctl stop` of it ended, while the members still write.
    host.check_output(f"systemctl stop base.service {SERVICE}.service && find {DATA}/execution -mindepth 1 -delete")
    host.check_output(f"mkdir -p $(dirname {FAULTS}) && echo '{{\"cut_download\": true}}' > {FAULTS}")
    done = nodes(ENTRY, snapshot_attempts=2)
    assert done.code != 0
    assert "did not end its download in 2 attempts; the last exit status was 1" in done.messages
    assert not host.service(SERVICE).is_running
    assert held(host) == ""
    assert host.file(f"{DATA}/.snapshot/{SERVICE}/unpacked/download.part").size > 0
    assert not host.file(f"{DATA}/.snapshot/{SERVICE}/done.json").exists


def test_check_mode_says_it_and_brings_nothing(host: Host) -> None:
    done = nodes(ENTRY, "--check", "--diff")
    assert done.code == 0, done.messages
    assert held(host) == ""


def test_the_next_run_goes_on_with_it_and_the_client_runs_on_what_it_brought(host: Host) -> None:
    host.check_output(f"rm {FAULTS}")
    done = nodes(ENTRY)
    assert done.code == 0, done.messages
    assert "2 of 4 pieces are here" in journal(host, f"--unit {UNIT}")
    checks.is_in_step(host, SERVICE)
    database = host.file(f"{DATA}/execution/db/mdbx.dat")
    assert (database.size, database.user) == (1 << 20, "base")
    record = json.loads(host.file(f"{DATA}/.snapshot/{SERVICE}/done.json").content_string)
    assert record["command"][1:] == ["download", "--full", "--datadir={data}", "--chain=base", "--resumable"]
    assert not host.file(f"{DATA}/.snapshot/{SERVICE}/unpacked").exists


def test_a_second_run_changes_nothing() -> None:
    done = nodes(ENTRY)
    assert (done.code, done.changed) == (0, 0), done.messages


def test_the_unit_is_confined(host: Host) -> None:
    checks.is_confined(host, UNIT)
