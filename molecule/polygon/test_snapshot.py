"""Bor's data comes from a snapshot on the lab's mirror, into an empty directory or into one that is named, and into no other."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from lab.checkout import Checkout
from tests import chain_checks as checks
from tests.plays import Play, play

if TYPE_CHECKING:
    from testinfra.host import Host

SERVICE = "polygon-bor"
UNIT = f"{SERVICE}-snapshot"
PIECES = 3


@pytest.fixture(scope="module")
def entry() -> dict[str, Any]:
    """A snapshot on the mirror, in pieces; what an inventory says of it."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as packing:
        for name, size in (("CURRENT", 16), ("000001.sst", 3_000_000)):
            info = tarfile.TarInfo(f"mainnet/bor/chaindata/{name}")
            info.size = size
            packing.addfile(info, io.BytesIO(os.urandom(size)))
    packed = stream.getvalue()
    directory = Checkout.here().state / "mirror" / "snapshots.example.com"
    directory.mkdir(exist_ok=True)
    parts = []
    size = len(packed) // PIECES + 1
    for number in range(PIECES):
        piece = packed[number * size : (number + 1) * size]
        (directory / f"bor.tar.gz.part-{number}").write_bytes(piece)
        parts.append(
            {
                "url": f"https://mirror.lab/snapshots.example.com/bor.tar.gz.part-{number}",
                "sha256": hashlib.sha256(piece).hexdigest(),
            }
        )
    return {"parts": parts, "joined": True, "strip": 1, "unpacked_gib": 0.01, "root_allowed": True}


@pytest.fixture(scope="module")
def data(host: Host) -> str:
    """Bor's data directory."""
    return f"{host.check_output(f'systemctl show --property=WorkingDirectory --value {SERVICE}')}/bor/data"


def converge(entry: object, *options: str) -> Play:
    return play("polygon", "converge.yml", {"node_snapshots": {SERVICE: entry}, "snapshot_spare_gib": 1}, *options)


def stop_and_empty(host: Host, data: str) -> None:
    host.check_output(f"systemctl stop {SERVICE}.service && find {data} -mindepth 1 -delete")


def test_data_that_is_not_named_is_left_as_it_is(host: Host, data: str, entry: dict[str, Any]) -> None:
    done = converge(entry)
    assert done.code != 0
    assert f"{data} on polygon holds data and is left as it is" in done.messages
    assert host.service(SERVICE).is_running
    assert not host.file(f"/etc/systemd/system/{UNIT}.service").exists


def test_data_is_not_replaced_under_a_client_that_runs(host: Host, data: str, entry: dict[str, Any]) -> None:
    done = converge({**entry, "replace": data})
    assert done.code != 0
    assert f"systemctl stop {SERVICE}.service" in done.messages
    assert host.service(SERVICE).is_running


def test_a_tampered_part_starts_no_client(host: Host, data: str, entry: dict[str, Any]) -> None:
    stop_and_empty(host, data)
    broken = {**entry, "parts": [*entry["parts"][:-1], {**entry["parts"][-1], "sha256": "0" * 64}]}
    done = converge(broken, "--extra-vars", "snapshot_attempts=1")
    assert done.code != 0
    assert "has no snapshot and was not started" in done.messages
    assert f"instead of {'0' * 64}" in done.messages
    assert not host.service(SERVICE).is_running
    assert host.check_output(f"ls {data}") == ""


def test_a_service_that_takes_none_is_refused() -> None:
    done = play("polygon", "converge.yml", {"node_snapshots": {"erigon": {}}})
    assert done.code != 0
    assert "node_snapshots.erigon is set, and erigon takes no snapshot from here" in done.messages


def test_check_mode_says_it_and_brings_nothing(host: Host, data: str, entry: dict[str, Any]) -> None:
    done = converge(entry, "--check", "--diff")
    assert done.code == 0, done.messages
    assert done.changed > 0
    assert host.check_output(f"ls {data}") == ""


def test_an_empty_directory_is_filled_and_the_client_runs_on_it(host: Host, data: str, entry: dict[str, Any]) -> None:
    done = converge(entry)
    assert done.code == 0, done.messages
    checks.is_in_step(host, SERVICE)
    held = host.file(f"{data}/bor/chaindata/000001.sst")
    assert (held.size, held.user) == (3_000_000, "polygon")
    assert host.file(data).mode == 0o750
    record = host.file(f"{data.removesuffix('/bor/data')}/.snapshot/{SERVICE}/done.json")
    assert json.loads(record.content_string)["target"] == data


def test_a_second_run_changes_nothing(entry: dict[str, Any]) -> None:
    done = converge(entry)
    assert (done.code, done.changed) == (0, 0), done.messages


def test_the_unit_is_confined(host: Host) -> None:
    checks.is_confined(host, UNIT)


def test_data_that_is_named_is_replaced(host: Host, data: str, entry: dict[str, Any]) -> None:
    host.check_output(f"systemctl stop {SERVICE}.service && touch {data}/old")
    again = {**entry, "replace": data}
    host.check_output(f"rm {data.removesuffix('/bor/data')}/.snapshot/{SERVICE}/done.json")
    done = converge(again)
    assert done.code == 0, done.messages
    assert not host.file(f"{data}/old").exists
    checks.is_in_step(host, SERVICE)
    assert converge(again).changed == 0
