"""Whose kept lines go when the disk's share is used up, and which host is told of as silent."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests.plugins import load_plugin

WATCH = load_plugin("central_log", "files", "central_log_watch")
OPTIONS = load_plugin("central_log", "filter_plugins", "central_log")
MIB = 2**20
QUIET, LOUD = "10.66.0.1", "10.66.0.3"


def file(directory: Path, name: str, mib: int, days_old: float) -> Path:
    path = directory / name
    path.write_bytes(b"x" * (mib * MIB))
    written = time.time() - days_old * 86400
    os.utime(path, (written, written))
    return path


def gone(directory: Path, share_mib: int = 4) -> list[str]:
    lines: list[str] = WATCH.hold(directory, share_mib * MIB, time.time())
    return lines


def test_who_sends_too_much_loses_his_own_oldest_lines_and_nobody_else_s(tmp_path: Path) -> None:
    old = file(tmp_path, f"remote-{QUIET}@aa-1-0005.journal", 2, 300)
    first = file(tmp_path, f"remote-{LOUD}@ff-1-ffff.journal", 2, 2)
    cut = file(tmp_path, f"remote-{LOUD}@0001-bb.journal~", 2, 1)
    last = file(tmp_path, f"remote-{LOUD}@aa-1-0001.journal", 2, 0.5)
    live = file(tmp_path, f"remote-{LOUD}.journal", 1, 0)
    said = gone(tmp_path)
    # By this host's clock, not by the names, which are made of the times that the sender says.
    assert [path.exists() for path in (old, first, cut, last, live)] == [True, False, False, True, True]
    assert said == [
        f"<4>{LOUD} had more than its 4 MiB: files of it went (2), the youngest last written to 1.0 days ago."
    ]
    assert gone(tmp_path) == []


def test_what_goes_in_its_time_is_no_warning_and_what_is_written_to_stays(tmp_path: Path) -> None:
    file(tmp_path, f"remote-{LOUD}@aa-1-0001.journal", 1, 100)
    live = file(tmp_path, f"remote-{LOUD}.journal", 5, 0)
    strange = file(tmp_path, "system@aa-1-0001.journal", 6, 200)
    (tmp_path / "remote-10.66.0.9@aa-1-0001.journal").symlink_to(strange)
    (line,) = gone(tmp_path)
    assert line.startswith("<5>")
    assert (live.exists(), strange.exists()) == (True, True)


@pytest.mark.parametrize(
    ("size", "free", "share"),
    [
        (1000, 900, 100),
        # A tenth of the disk is nobody's, and both have the same of what is left.
        (1000, 180, 60),
        (1000, 10, 0),
    ],
)
def test_a_disk_that_is_smaller_than_what_was_meant_is_not_filled(size: int, free: int, share: int) -> None:
    files = [WATCH.Kept(Path("x"), sender, True, 20, 0.0) for sender in (QUIET, LOUD)]
    assert WATCH.share_of(files, 100, size, free) == share


def test_a_host_that_falls_silent_is_told_of_once_and_when_it_speaks_again() -> None:
    start = 1e9
    watch = WATCH.Silence({QUIET: "node1", LOUD: "node2"}, 1800, start)

    def changes(minutes: float, **written: float) -> list[str]:
        at = {"quiet": QUIET, "loud": LOUD}
        files = [WATCH.Kept(Path("x"), at[who], False, 1, start + each * 60) for who, each in written.items()]
        lines: list[str] = watch.changes(files, start + minutes * 60)
        return lines

    assert changes(29) == []
    assert changes(31, loud=20) == [f"<4>Nothing has come from node1 ({QUIET}) for 30 minutes."]
    assert changes(32, loud=32) == []
    assert changes(40, loud=39, quiet=40) == [f"<5>node1 ({QUIET}) is heard again."]
    assert changes(80, loud=79, quiet=45) == [f"<4>Nothing has come from node1 ({QUIET}) for 30 minutes."]


def problems(**given: Any) -> list[str]:
    options = {"state": "present", "most_gib": 20, "silent_minutes": 30, "keepers": ["log1"]}
    found: list[str] = OPTIONS.problems({**options, "members": ["node1", "node2", "log1"], **given}, "node1")
    return found


def test_what_can_be_carried_out_is_no_problem() -> None:
    assert problems() == []
    # As `--extra-vars name=value` has it.
    assert problems(most_gib="1", silent_minutes="10", state="absent") == []


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            {"keepers": ["log1", "node1"]},
            "The group logs holds log1, node1 in the inventory; allowed: one host.",
        ),
        (
            {"members": ["node1"]},
            "Host 'log1' is in the group logs and not in vpn in the inventory; allowed: a host of both, as logs go by the VPN alone.",
        ),
        ({"state": "gone"}, "central_log_state is 'gone' on host 'node1'; allowed: present, absent."),
        (
            {"most_gib": 0},
            "central_log_most_gib is 0 on host 'node1'; allowed: a whole number from 1 to 10000.",
        ),
        (
            {"most_gib": True},
            "central_log_most_gib is True on host 'node1'; allowed: a whole number from 1 to 10000.",
        ),
        (
            {"silent_minutes": 5.5},
            "central_log_silent_minutes is 5.5 on host 'node1'; allowed: a whole number from 10 to 1440.",
        ),
        (
            {"most_gib": 1, "members": ["a", "b", "c", "log1"]},
            "central_log_most_gib is 1 on host 'node1', less than 512 MiB for each of 3 hosts that send; allowed: 2 or more.",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(given: dict[str, Any], sentence: str) -> None:
    assert problems(**given) == [sentence]
