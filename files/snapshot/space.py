"""Is there room, and on the right file system."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from snapshot.errors import SnapshotError
from snapshot.plan import Plan

GIB = 1 << 30


def free(path: Path) -> int:
    """Bytes that this account may still write where `path` is."""
    held = os.statvfs(path)
    return held.f_bavail * held.f_frsize


def used(paths: Iterable[Path]) -> int:
    """Bytes that files take on disk; a part that is still being downloaded has holes."""
    total = 0
    for path in paths:
        try:
            total += path.stat().st_blocks * 512
        except FileNotFoundError:
            continue  # its download has just been renamed or given up
    return total


def gib(size: int) -> str:
    """A size in words."""
    return f"{size / GIB:.2f} GiB"


def check_place(plan: Plan) -> None:
    """Refuse a file system that a rename does not stay on, and the system's own."""
    beside = plan.target if plan.target.is_dir() else plan.target.parent
    if plan.staging.stat().st_dev != beside.stat().st_dev:
        raise SnapshotError(
            f"{plan.staging} and {plan.target} are on two file systems, so that nothing could be moved from one to the other at once; "
            "mount the chain's disk at its data path."
        )
    if plan.staging.stat().st_dev == Path("/").stat().st_dev and not plan.root_allowed:
        raise SnapshotError(
            f"{plan.target} is on the root file system, which a snapshot must not fill: is the chain's disk mounted? "
            "Where this is meant, root_allowed in the snapshot's entry says so."
        )


def check_tree_room(plan: Plan) -> None:
    """Refuse a client's own download that does not fit, with the sums; what it has brought before counts as had."""
    here = used(path for path in plan.unpacked_path.rglob("*") if path.is_file())
    needed = max(plan.unpacked - here, 0) + plan.spare
    there = free(plan.staging)
    if needed > there:
        raise SnapshotError(
            f"the file system of {plan.staging} has {gib(there)} free and {gib(needed)} are needed: {gib(plan.unpacked)} of data, of which"
            f" {gib(min(here, plan.unpacked))} are here, {gib(plan.spare)} to spare."
        )


def check_room(plan: Plan, sizes: dict[str, int]) -> None:
    """Refuse what does not fit, with the sums."""
    download = sum(sizes.values())
    here = used(path for path in plan.downloaded.iterdir() if path.is_file())
    needed = max(download - here, 0) + plan.unpacked + plan.spare
    there = free(plan.staging)
    if needed > there:
        raise SnapshotError(
            f"the file system of {plan.staging} has {gib(there)} free and {gib(needed)} are needed: {gib(max(download - here, 0))} to download"
            f" ({gib(download)}, of which {gib(min(here, download))} are here), {gib(plan.unpacked)} unpacked, {gib(plan.spare)} to spare."
        )
