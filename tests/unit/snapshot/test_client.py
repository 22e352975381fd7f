"""A client's own download fills a directory of its own, however often it is cut, and only what it brought whole takes the place of nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from roles.snapshot.filter_plugins.snapshot import snapshot_plan
from tests.unit.snapshot.conftest import Site, archive, tree

# Counts its runs, notes what it finds, and brings one file more in each.
CLIENT = """#!/bin/sh
set -eu
test "$1" = download
data=${2#--datadir=}
echo "run" >> "$0.runs"
mkdir -p "$data/db" "$data/static_files"
ls "$data/db" | wc -l >> "$0.found"
echo "of $(wc -l < "$0.runs")" > "$data/db/$(wc -l < "$0.runs")"
test "$(ls "$data/db" | wc -l)" -ge "$(cat "$0.needs")" || exit 3
echo headers > "$data/static_files/headers"
"""


@pytest.fixture
def client(tmp_path: Path) -> Path:
    program = tmp_path / "1.5.1" / "client"
    program.parent.mkdir()
    program.write_text(CLIENT)
    program.chmod(0o755)
    program.with_suffix(".needs").write_text("1")
    return program


def bring(site: Site, client: Path, **changes: Any) -> tuple[int, str]:
    command = [str(client), "download", "--datadir={data}"]
    told = {"command": command, "parts": [], "joined": False, "requires": ["db", "static_files"], **changes}
    return site.run(**told)


def runs(client: Path) -> int:
    file = client.with_suffix(".runs")
    return len(file.read_text().splitlines()) if file.exists() else 0


def test_it_comes_whole_and_a_second_run_does_nothing(site: Site, client: Path) -> None:
    status, complaint = bring(site, client)
    assert status == 0, complaint
    assert site.data() == {"db/1": b"of 1\n", "static_files/headers": b"headers\n"}
    record = json.loads(site.record.read_text())
    assert record["command"] == [str(client), "download", "--datadir={data}"]
    assert sorted(path.name for path in site.staging.iterdir()) == ["done.json", "lock"]
    assert bring(site, client)[0] == 0
    assert runs(client) == 1


def test_a_failed_download_is_tried_again_and_goes_on_with_what_is_there(site: Site, client: Path) -> None:
    client.with_suffix(".needs").write_text("3")
    status, complaint = bring(site, client, attempts=3)
    assert status == 0, complaint
    assert client.with_suffix(".found").read_text().split() == ["0", "1", "2"]
    assert sorted(site.data()) == ["db/1", "db/2", "db/3", "static_files/headers"]


def test_one_that_never_ends_well_leaves_no_record_and_the_next_run_goes_on(site: Site, client: Path) -> None:
    client.with_suffix(".needs").write_text("3")
    status, complaint = bring(site, client, attempts=2)
    assert status == 1
    assert "did not end its download in 2 attempts; the last exit status was 3" in complaint
    assert (site.data(), site.record.exists()) == ({}, False)
    assert bring(site, client, attempts=1)[0] == 0
    assert client.with_suffix(".found").read_text().split() == ["0", "1", "2"]


def test_another_version_of_the_client_goes_on_with_it_and_another_download_does_not(
    site: Site, client: Path, tmp_path: Path
) -> None:
    client.with_suffix(".needs").write_text("9")
    assert bring(site, client, attempts=1)[0] == 1
    newer = shutil.copytree(client.parent, tmp_path / "1.5.2") / "client"
    assert bring(site, newer, attempts=1)[0] == 1
    assert newer.with_suffix(".found").read_text().split() == ["0", "1"]
    assert bring(site, newer, attempts=1, command=[str(newer), "download", "--datadir={data}", "--full"])[0] == 1
    assert newer.with_suffix(".found").read_text().split() == ["0", "1", "0"]


def test_a_tree_of_parts_is_none_of_the_client_s(site: Site, client: Path, tmp_path: Path) -> None:
    client.with_suffix(".needs").write_text("9")
    assert bring(site, client, attempts=1)[0] == 1
    site.serve(archive(tree(tmp_path / "source", {"db/other": b"1", "static_files/other": b"1"})))
    assert site.run(kill_before="note_ready", command=[], requires=["db"])[0] == -9
    assert bring(site, client, attempts=1)[0] == 1
    assert client.with_suffix(".found").read_text().split() == ["0", "0"]


@pytest.mark.parametrize("step", ["note_ready", "place", "finish"])
def test_a_run_that_is_killed_is_ended_by_the_next(site: Site, client: Path, step: str) -> None:
    killed = site.run(
        kill_before=step,
        command=[str(client), "download", "--datadir={data}"],
        parts=[],
        joined=False,
        requires=["db", "static_files"],
    )
    assert killed[0] == -9
    assert not site.record.exists()
    assert bring(site, client)[0] == 0
    assert site.record.exists()
    assert "static_files/headers" in site.data()


def test_a_directory_that_holds_data_is_left_as_it_is(site: Site, client: Path) -> None:
    (site.target / "mine").write_bytes(b"years of sync")
    status, complaint = bring(site, client)
    assert status == 1
    assert f"{site.target} holds data and is left as it is" in complaint
    assert site.data() == {"mine": b"years of sync"}
    assert runs(client) == 0


def test_a_download_that_brings_something_else_is_refused_and_nothing_of_it_stays(site: Site, client: Path) -> None:
    status, complaint = bring(site, client, requires=["chaindata"])
    assert status == 1
    assert (
        f"the snapshot has no chaindata, which {site.target} must hold; it begins with: db, static_files." in complaint
    )
    assert (site.data(), site.record.exists()) == ({}, False)
    assert not (site.staging / "unpacked").exists()


def test_what_does_not_fit_is_refused_with_the_sums_before_the_client_starts(site: Site, client: Path) -> None:
    status, complaint = bring(site, client, unpacked_bytes=1 << 60)
    assert status == 1
    assert "of data, of which 0.00 GiB are here" in complaint
    assert runs(client) == 0


def test_the_root_file_system_is_refused_unless_it_is_meant(
    site: Site, client: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path("/") / f".{site.root.parent.name}-on-root"
    monkeypatch.setattr(site, "root", root)
    try:
        site.target.mkdir(parents=True)
    except OSError:
        pytest.skip("the root file system is not ours to write to")
    try:
        if root.stat().st_dev != Path("/").stat().st_dev:
            pytest.skip("this directory is a file system of its own")
        paths = {"target": str(site.target), "staging": str(site.staging)}
        status, complaint = bring(site, client, root_allowed=False, **paths)
        assert status == 1
        assert "is on the root file system" in complaint
        assert runs(client) == 0
    finally:
        shutil.rmtree(root)


SETTINGS = {
    "service": "base-execution",
    "target": "/data/base/execution",
    "staging": "/data/base/.snapshot/base-execution",
    "requires": ["db"],
    "command": ["/opt/c/1/bin/c", "download", "--datadir={data}"],
    "spare_gib": 20,
    "downloads": 4,
    "connections": 4,
    "attempts": 5,
}


def test_an_entry_by_the_client_has_its_command_and_no_parts() -> None:
    told = snapshot_plan({"by_client": True, "unpacked_gib": 10}, SETTINGS)
    assert told["problems"] == []
    assert (told["plan"]["command"], told["plan"]["parts"]) == (SETTINGS["command"], [])


@pytest.mark.parametrize(
    ("entry", "settings", "words"),
    [
        ({"by_client": True, "unpacked_gib": 10}, {"command": []}, "downloads no data itself; allowed: parts."),
        ({"by_client": True, "unpacked_gib": 10, "parts": []}, {}, "has parts beside by_client"),
        ({"by_client": True, "unpacked_gib": 10, "joined": True}, {}, "has joined beside by_client"),
        ({"by_client": "yes", "unpacked_gib": 10}, {}, "by_client is 'yes'; allowed: true or false."),
        ({"by_client": True}, {}, "unpacked_gib is None"),
        ({"unpacked_gib": 10}, {}, "or by_client: true in its place"),
    ],
)
def test_an_entry_that_cannot_be_carried_out_is_said_in_one_sentence(
    entry: dict[str, Any], settings: dict[str, Any], words: str
) -> None:
    [problem] = snapshot_plan(entry, {**SETTINGS, **settings})["problems"]
    assert words in problem


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["client", "{data}"], "has no absolute path of a program"),
        (["/opt/client", "download"], "does not name {data}"),
        ([1], "is no list of words"),
        ([], "parts or command"),
    ],
)
def test_a_plan_that_runs_something_else_is_refused(site: Site, client: Path, command: list[Any], words: str) -> None:
    status, complaint = bring(site, client, command=command)
    assert status == 1
    assert words in complaint
