"""Move the tree to its place in one step, and put on record that it is there."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from snapshot.errors import SnapshotError
from snapshot.plan import Plan

AT_FDCWD = -100
RENAME_EXCHANGE = 2
TARGET_MODE = 0o750


def marker(plan: Plan) -> Path:
    """The record that the snapshot is in its place; written last."""
    return plan.staging / "done.json"


def is_done(plan: Plan) -> bool:
    """Whether a snapshot was brought here and is still here; another one is wanted only where it may replace this one."""
    told = _read(marker(plan))
    return bool(told) and _holds_data(plan.target) and (not plan.replace or told.get("identity") == plan.identity)


def check_target(plan: Plan) -> None:
    """Refuse a directory that holds data, unless it is named."""
    if plan.target.is_symlink() or (plan.target.exists() and not plan.target.is_dir()):
        raise SnapshotError(f"{plan.target} is no directory.")
    if _holds_data(plan.target) and not plan.replace:
        raise SnapshotError(
            f"{plan.target} holds data and is left as it is; allowed: an empty directory, or replace: {plan.target} in the snapshot's entry."
        )


def is_ready(plan: Plan) -> bool:
    """Whether an earlier run ended with a judged tree that only has to be moved."""
    return _is_tree(plan, plan.unpacked_path)


def is_placed(plan: Plan) -> bool:
    """Whether an earlier run ended between the move and its record."""
    return _is_tree(plan, plan.target)


def forget_ready(plan: Plan) -> None:
    """A tree is to be made anew: what is on record of one before must not speak for it, nor for a directory that has its inode now."""
    _ready(plan).unlink(missing_ok=True)


def note_ready(plan: Plan) -> None:
    """The tree is judged: put it on disk, and on record by its inode, which a move keeps."""
    _sync(plan.unpacked_path, "syncfs")
    plan.unpacked_path.chmod(stat.S_IMODE(plan.target.stat().st_mode) if plan.target.exists() else TARGET_MODE)
    _write(_ready(plan), {"identity": plan.identity, "inode": plan.unpacked_path.stat().st_ino})


def place(plan: Plan) -> None:
    """Move the tree to its place; what it replaces takes its place in the same moment."""
    if _holds_data(plan.target):
        check_target(plan)
        _exchange(plan.unpacked_path, plan.target)
    else:
        plan.unpacked_path.rename(plan.target)
    for directory in (plan.staging, plan.target.parent):
        _sync(directory)


def finish(plan: Plan) -> None:
    """Write the record, then remove what is no longer needed."""
    _write(
        marker(plan),
        {
            "identity": plan.identity,
            "target": str(plan.target),
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": list(plan.command),
            "parts": [{"url": part.url, "sha256": part.sha256} for part in plan.parts],
        },
    )
    _ready(plan).unlink(missing_ok=True)
    plan.tree_note.unlink(missing_ok=True)
    for rest in (plan.unpacked_path, plan.downloaded):
        shutil.rmtree(rest, ignore_errors=True)


def _ready(plan: Plan) -> Path:
    return plan.staging / "ready.json"


def _is_tree(plan: Plan, path: Path) -> bool:
    told = _read(_ready(plan))
    return told.get("identity") == plan.identity and _holds_data(path) and path.stat().st_ino == told.get("inode")


def _holds_data(path: Path) -> bool:
    return path.is_dir() and any(path.iterdir())


def _exchange(one: Path, other: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) != 0:
        raise SnapshotError(f"{one} and {other} cannot change places at once: {os.strerror(ctypes.get_errno())}.")


def _read(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _write(path: Path, content: dict[str, Any]) -> None:
    """In one step, and on disk before anything goes on."""
    beside = path.with_suffix(".new")
    with beside.open("w") as stream:
        json.dump(content, stream, indent=2)
        stream.write("\n")
        stream.flush()
        os.fsync(stream.fileno())
    beside.replace(path)
    _sync(path.parent)


def _sync(directory: Path, call: str = "fsync") -> None:
    """Wait until a directory's names are on disk; with `syncfs`, all that its file system has been told."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if getattr(ctypes.CDLL(None, use_errno=True), call)(handle) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(directory))
    finally:
        os.close(handle)
