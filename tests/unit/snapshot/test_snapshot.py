"""A snapshot is brought whole and verified, or nothing of it is in the client's way. aria2c, tar and TLS are real."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import stat
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from roles.snapshot.filter_plugins.snapshot import snapshot_plan, snapshot_problems
from tests.unit.snapshot.conftest import DATABASE, Site, archive, tree


def split(content: bytes, pieces: int) -> list[bytes]:
    size = len(content) // pieces + 1
    return [content[start : start + size] for start in range(0, len(content), size)]


def hostile(*members: tarfile.TarInfo) -> bytes:
    """An archive that has the right layout, and then these."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as packing:
        for name, content in DATABASE.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            packing.addfile(info, io.BytesIO(content))
        for member in members:
            packing.addfile(member, io.BytesIO(b"x" * member.size))
    return stream.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, mode
    return info


@pytest.mark.parametrize("packer", ["", "zstd", "gzip", "lz4", "xz"])
def test_it_comes_whole_and_the_record_says_from_where(site: Site, tmp_path: Path, packer: str) -> None:
    site.serve(archive(tree(tmp_path / "source", DATABASE), packer))
    assert site.run() == (0, "")
    assert site.data() == DATABASE
    assert json.loads(site.record.read_text())["parts"] == [
        {"url": part["url"], "sha256": part["sha256"]} for part in site.plan["parts"]
    ]
    assert stat.S_IMODE(site.target.stat().st_mode) == 0o750
    assert sorted(path.name for path in site.staging.iterdir()) == ["done.json", "lock"]


def test_a_second_run_asks_nobody_and_changes_nothing(site: Site, packed: bytes) -> None:
    site.serve(packed)
    assert site.run()[0] == 0
    (site.target / "LOCK").write_text("a client runs")
    record = site.record.stat().st_mtime_ns
    site.origin.asked.clear()
    assert site.run() == (0, "")
    assert site.origin.asked == []
    assert site.record.stat().st_mtime_ns == record


def test_pieces_of_one_archive_are_joined(site: Site, packed: bytes) -> None:
    site.serve(*split(packed, 5), joined=True)
    assert site.run() == (0, "")
    assert site.data() == DATABASE


def test_several_archives_fill_one_directory(site: Site, tmp_path: Path) -> None:
    one, other = dict(list(DATABASE.items())[:1]), dict(list(DATABASE.items())[1:])
    site.serve(archive(tree(tmp_path / "a", one)), archive(tree(tmp_path / "b", other), "gzip"))
    assert site.run() == (0, "")
    assert site.data() == DATABASE


def test_leading_directories_are_left_out(site: Site, tmp_path: Path) -> None:
    tree(tmp_path / "source" / "mainnet", DATABASE)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as packing:
        packing.add(tmp_path / "source" / "mainnet", "mainnet")
    site.serve(stream.getvalue())
    status, complaint = site.run()
    assert status == 1
    assert "has no bor/chaindata" in complaint
    assert "with strip 0 it begins with: mainnet." in complaint
    assert site.run(strip=1) == (0, "")
    assert site.data() == DATABASE


def test_a_wrong_layout_is_refused_and_nothing_of_it_stays(site: Site, tmp_path: Path) -> None:
    site.serve(archive(tree(tmp_path / "source", {"geth/chaindata/1": b"1"})))
    status, complaint = site.run()
    assert status == 1
    assert "the snapshot has no bor/chaindata" in complaint
    assert site.data() == {}
    assert not site.record.exists()
    assert not (site.staging / "unpacked").exists()


def test_a_directory_that_holds_data_is_left_as_it_is(site: Site, packed: bytes) -> None:
    site.serve(packed)
    (site.target / "mine").write_bytes(b"years of sync")
    status, complaint = site.run()
    assert status == 1
    assert f"{site.target} holds data and is left as it is" in complaint
    assert site.data() == {"mine": b"years of sync"}
    assert site.origin.asked == []


def test_a_directory_that_is_named_is_replaced_once_the_snapshot_is_whole(site: Site, packed: bytes) -> None:
    site.serve(packed)
    (site.target / "mine").write_bytes(b"old")
    site.origin.statuses["bor.tar.part-000"] = [404] * 40
    assert site.run(replace=True, attempts=1)[0] == 1
    assert site.data() == {"mine": b"old"}
    site.origin.statuses.clear()
    assert site.run() == (0, "")
    assert site.data() == DATABASE
    assert sorted(path.name for path in site.staging.iterdir()) == ["done.json", "lock"]


def test_a_cut_connection_goes_on_where_it_was_cut(site: Site, packed: bytes) -> None:
    site.serve(packed)
    site.origin.cut_after["bor.tar.part-000"] = [100_000, 100_000]
    assert site.run() == (0, "")
    assert site.data() == DATABASE
    assert any(asked.startswith("bytes=100000-") for _, _, asked in site.origin.asked)


def test_a_failed_download_is_tried_again(site: Site, packed: bytes) -> None:
    site.serve(*split(packed, 3), joined=True)
    site.origin.statuses["bor.tar.part-001"] = [404]
    assert site.run() == (0, "")
    assert site.data() == DATABASE


def test_a_damaged_part_alone_is_fetched_again(site: Site, packed: bytes) -> None:
    site.serve(*split(packed, 3), joined=True)
    site.origin.changed["bor.tar.part-001"] = 1
    assert site.run() == (0, "")
    got = [name for method, name, _ in site.origin.asked if method == "GET"]
    assert got.count("bor.tar.part-001") == 2
    assert got.count("bor.tar.part-000") == got.count("bor.tar.part-002") == 1


def test_a_tampered_part_never_gets_as_far_as_being_unpacked(site: Site, packed: bytes) -> None:
    site.serve(packed)
    site.origin.changed["bor.tar.part-000"] = 99
    status, complaint = site.run()
    assert status == 1
    assert "1 of 1 parts could not be had in 3 attempts" in complaint
    assert f"instead of {site.plan['parts'][0]['sha256']}" in complaint
    assert not (site.staging / "unpacked").exists()
    assert site.data() == {}


def test_a_size_that_is_not_told_is_asked_for(site: Site, packed: bytes) -> None:
    site.serve(packed)
    site.origin.without_length.add("bor.tar.part-000")
    status, complaint = site.run()
    assert status == 1
    assert "does not tell its size; give it as bytes in the snapshot's entry" in complaint
    site.plan["parts"][0]["bytes"] = len(packed)
    assert site.run() == (0, "")


def test_a_server_that_sends_more_than_it_said_is_cut_off(site: Site, packed: bytes) -> None:
    site.serve(packed)
    site.origin.files["bor.tar.part-000"] = packed + os.urandom(1_000_000)
    site.plan["parts"][0]["bytes"] = len(packed)
    status, complaint = site.run(attempts=1)
    assert status == 1
    assert "sends more than" in complaint or "is not whole" in complaint
    assert site.data() == {}


def test_what_does_not_fit_is_refused_with_the_sums_before_anything_is_downloaded(site: Site, packed: bytes) -> None:
    site.serve(packed)
    status, complaint = site.run(unpacked_bytes=1 << 60)
    assert status == 1
    assert "free and" in complaint
    assert "GiB unpacked" in complaint
    assert [method for method, _, _ in site.origin.asked] == ["HEAD"]


def test_the_root_file_system_is_refused_unless_it_is_meant(site: Site, packed: bytes) -> None:
    site.serve(packed)
    if site.root.stat().st_dev != Path("/").stat().st_dev:
        pytest.skip("temporary files are on a file system of their own here")
    status, complaint = site.run(root_allowed=False)
    assert status == 1
    assert "is on the root file system" in complaint
    assert "is the chain's disk mounted?" in complaint


def test_a_target_on_another_file_system_is_refused(site: Site, packed: bytes) -> None:
    shared = Path("/dev/shm")  # noqa: S108 - a file system that is surely another one
    if shared.stat().st_dev == site.root.stat().st_dev:
        pytest.skip("shared memory is on the same file system here")
    site.serve(packed)
    target = shared / f"snapshot-{os.getpid()}"
    target.mkdir()
    try:
        status, complaint = site.run(target=str(target))
    finally:
        target.rmdir()
    assert status == 1
    assert "are on two file systems" in complaint


@pytest.mark.parametrize(
    ("evil", "words"),
    [
        (member("bor/link", tarfile.SYMTYPE, "/etc"), "a link that leads out of it: bor/link"),
        (member("bor/link", tarfile.SYMTYPE, "../../../x"), "a link that leads out of it: bor/link"),
        (member("bor/pipe", tarfile.FIFOTYPE), "a device, pipe or socket: bor/pipe"),
        (member("../outside"), "tar cannot unpack it"),
        (member("bor/hard", tarfile.LNKTYPE, "/etc/hostname"), "tar cannot unpack it"),
    ],
)
def test_an_archive_that_reaches_out_of_its_tree_is_refused(site: Site, evil: tarfile.TarInfo, words: str) -> None:
    site.serve(hostile(evil))
    status, complaint = site.run()
    assert status == 1
    assert words in complaint
    assert site.data() == {}
    assert not (site.staging / "unpacked").exists()
    assert not (site.staging / "outside").exists()


def test_a_program_that_would_run_as_its_owner_does_so_no_more(site: Site) -> None:
    site.serve(hostile(member("bor/suid", mode=0o4755)))
    assert site.run() == (0, "")
    assert stat.S_IMODE((site.target / "bor/suid").stat().st_mode) & (stat.S_ISUID | stat.S_ISGID) == 0


def test_an_archive_that_is_cut_short_is_refused(site: Site, packed: bytes) -> None:
    site.serve(packed[:-1000])
    status, complaint = site.run()
    assert status == 1
    assert "cannot unpack it" in complaint
    assert site.data() == {}


def wait_for(path: Path) -> None:
    for _ in range(12_000):
        if path.exists():
            return
        time.sleep(0.01)
    raise AssertionError(f"{path} did not come")


@pytest.mark.parametrize("phase", ["parts/00000", "parts/00000.ok", "unpacked"])
def test_a_run_that_is_killed_is_ended_by_the_next(site: Site, tmp_path: Path, phase: str) -> None:
    many = {**DATABASE, **{f"bor/chaindata/{number:06d}.sst": os.urandom(4000) for number in range(2000)}}
    site.serve(archive(tree(tmp_path / "many", many)))
    # Where it is seen too late it has ended itself, before anything of it is taken away.
    running = site.start("note_ready", unpacked_bytes=20_000_000)
    wait_for(site.staging / phase)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    assert site.run() == (0, "")
    assert site.data() == many
    assert site.record.exists()


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("step", ["note_ready", "place", "finish"])
def test_a_run_that_is_killed_around_the_move_is_ended_by_the_next(
    site: Site, packed: bytes, step: str, replace: bool
) -> None:
    site.serve(packed)
    if replace:
        (site.target / "mine").write_bytes(b"old")
    assert site.run(step, replace=replace) == (-signal.SIGKILL, "")
    assert not site.record.exists()
    asked = len(site.origin.asked)
    assert site.run() == (0, "")
    assert site.data() == DATABASE
    assert site.record.exists()
    downloads = [method for method, _, _ in site.origin.asked[asked:] if method == "GET"]
    assert downloads == []
    assert sorted(path.name for path in site.staging.iterdir()) == ["done.json", "lock"]


def test_a_record_of_a_tree_that_is_gone_speaks_for_no_other(site: Site, packed: bytes) -> None:
    site.serve(packed)
    assert site.run("place") == (-signal.SIGKILL, "")
    ready = site.staging / "ready.json"
    told = json.loads(ready.read_text())
    shutil.rmtree(site.staging / "unpacked")
    # An empty directory that has the inode of the tree which is gone.
    ready.write_text(json.dumps({**told, "inode": site.target.stat().st_ino}))
    assert site.run("note_ready") == (-signal.SIGKILL, "")
    assert not ready.exists()
    assert site.run() == (0, "")
    assert site.data() == DATABASE


def test_a_new_plan_uses_nothing_of_the_parts_before(site: Site, packed: bytes) -> None:
    site.serve(b"x" * len(packed))
    assert site.run(attempts=1)[0] == 1
    site.serve(packed)
    assert site.run() == (0, "")
    assert site.data() == DATABASE


def test_two_runs_do_not_work_in_one_place(site: Site, packed: bytes) -> None:
    site.serve(packed)
    site.origin.statuses["bor.tar.part-000"] = [404] * 99
    first = site.start(attempts=2)
    wait_for(site.staging / "parts")
    assert "another run works in" in site.run()[1]
    first.kill()
    first.communicate()


SETTINGS: dict[str, Any] = {
    "service": "polygon-bor",
    "target": "/data/polygon/bor/data",
    "staging": "/data/polygon/.snapshot/polygon-bor",
    "requires": ["bor/chaindata"],
    "spare_gib": 20,
    "downloads": 4,
    "connections": 4,
    "attempts": 5,
}
PART = {"url": "https://snapshots.example.com/bor.tar.zst", "sha256": "0" * 64}
ENTRY: dict[str, Any] = {"parts": [PART], "unpacked_gib": 1.5}


def test_an_entry_becomes_a_plan_in_bytes() -> None:
    told = snapshot_plan(ENTRY, SETTINGS)
    assert told["problems"] == []
    assert told["plan"]["unpacked_bytes"] == 3 << 29
    assert told["plan"]["requires"] == ["bor/chaindata"]
    assert told["plan"]["replace"] is False


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"parts": []}, "node_snapshots.polygon-bor.parts is []"),
        ({"parts": [{**PART, "url": "http://x/y"}]}, "parts[0].url is 'http://x/y'; allowed: an HTTPS address"),
        ({"parts": [{**PART, "url": "https://x/y\n  out=/etc/passwd"}]}, "allowed: an HTTPS address"),
        ({"parts": [{**PART, "sha256": "A" * 64}]}, "allowed: 64 hex digits"),
        ({"parts": [{**PART, "bytes": 0}]}, "parts[0].bytes is 0"),
        ({"parts": [{**PART, "md5": "x"}]}, "allowed: {url, sha256, bytes}"),
        ({"unpacked_gib": 0}, "unpacked_gib is 0"),
        ({"strip": -1}, "strip is -1"),
        ({"joined": "no"}, "joined is 'no'; allowed: true or false"),
        ({"replace": "/data/polygon"}, "replace is '/data/polygon'; allowed: /data/polygon/bor/data, by name"),
        ({"requires": ["../x"]}, "requires is ['../x']"),
        ({"url": "https://x/y"}, "node_snapshots.polygon-bor has url; allowed: "),
    ],
)
def test_an_entry_that_cannot_be_carried_out_is_one_sentence(change: dict[str, Any], words: str) -> None:
    told = snapshot_plan({**ENTRY, **change}, SETTINGS)
    assert len(told["problems"]) == 1
    assert words in told["problems"][0]
    assert told["plan"] == {}


def test_the_preflight_knows_the_host_s_services() -> None:
    services = {
        "polygon-bor": {"chain": "polygon", "part": "execution"},
        "base": {"chain": "base", "part": "pair"},
        "base-execution": {"chain": "base", "part": "execution"},
    }
    assert snapshot_problems({"polygon-bor": ENTRY}, services, ["polygon"]) == []
    assert snapshot_problems({"base": ENTRY}, services, ["base"]) == [
        "node_snapshots has base; allowed: services of the host's chains (base-execution)."
    ]
    assert len(snapshot_problems({"base-execution": ENTRY}, services, ["polygon"])) == 1
    assert len(snapshot_problems({"polygon-bor": None}, services, ["polygon"])) == 1
    assert len(snapshot_problems(["polygon-bor"], services, ["polygon"])) == 1
