"""The versions of one component on a host: which stand complete, which is current, which came before.

Layout below the root: `<component>/<version>/` with a marker that is written last, `<component>/current` and `<component>/previous`
(relative symlinks), `.download/` (interrupted downloads), `.staging/` and `.replaced/` (removed before and after each installation), `.unproven` (the version
that runs but has not been seen healthy, and the one before it).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from .errors import ReleaseError

MARKER = ".release.json"
MIB = 1 << 20


class Unproven(NamedTuple):
    """A version that was switched to and has not been seen healthy yet."""

    version: str
    before: str


class Store:
    """One component's directory."""

    def __init__(self, root: Path, component: str) -> None:
        self.component = component
        self.base = root / component
        self.download = self.base / ".download"
        self.staging = self.base / ".staging"
        self.replaced = self.base / ".replaced"

    def path(self, version: str) -> Path:
        """Where a version stands."""
        return self.base / version

    def marker(self, version: str) -> dict[str, Any]:
        """What is known about a complete version; empty if it is not complete."""
        try:
            marker = json.loads((self.path(version) / MARKER).read_text())
        except (OSError, ValueError):
            return {}
        fits = isinstance(marker, dict) and marker.get("component") == self.component
        return marker if fits and marker.get("version") == version else {}

    def incomplete_because(self, version: str, sha256: str = "", python: str = "") -> str:
        """Why a version must be installed (again); empty if it stands complete.

        `sha256` is the pin, if there is one; `python` is the host's (3.11), which only a virtual environment asks for.
        """
        marker = self.marker(version)
        if not marker:
            return "it is not installed" if not self.path(version).exists() else "its installation was not finished"
        if sha256 and marker.get("sha256") != sha256:
            return f"its sha256 is {marker.get('sha256')} and release_pins says {sha256}"
        if python and marker.get("python") != python:
            return f"it was made for Python {marker.get('python')} and the host has {python}"
        for name, size in marker.get("files", {}).items():
            file = self.path(version) / name
            if not file.is_file() or file.stat().st_size != size:
                return f"{file} is missing or has another size than was installed"
        return ""

    def versions(self) -> list[str]:
        """Complete versions, the newest installation first."""
        if not self.base.is_dir():
            return []
        names = [entry.name for entry in self.base.iterdir() if entry.is_dir() and not entry.is_symlink()]
        markers = {name: self.marker(name) for name in names}
        return sorted(
            (name for name in names if markers[name]), key=lambda name: str(markers[name]["time"]), reverse=True
        )

    def link(self, name: str) -> str:
        """The version that `current` or `previous` leads to; empty if there is none."""
        try:
            return (self.base / name).readlink().name
        except OSError:
            return ""

    def point(self, name: str, version: str) -> None:
        """Make `current` or `previous` lead to a version in one step; an empty version removes the link."""
        link = self.base / name
        if link.exists() and not link.is_symlink():
            message = f"{link} is no symlink, so it was not made by this role; move it away."
            raise ReleaseError(message)
        if self.link(name) == version:
            return  # its age tells services whether they have started since
        if not version:
            link.unlink(missing_ok=True)
        else:
            fresh = self.base / f".{name}.new"
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(version)
            fresh.replace(link)
        sync_directory(self.base)

    def unproven(self) -> Unproven | None:
        """The version that awaits its proof, if any."""
        try:
            data = json.loads((self.base / ".unproven").read_text())
            return Unproven(str(data["version"]), str(data["before"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def set_unproven(self, unproven: Unproven | None) -> None:
        """Remember that a version awaits its proof, or that none does."""
        path = self.base / ".unproven"
        if unproven is None:
            path.unlink(missing_ok=True)
        else:
            write_durably(path, json.dumps(unproven._asdict()) + "\n", 0o644)

    def superfluous(self, keep: int, current: str, previous: str) -> list[str]:
        """Versions beyond the newest `keep`; the current one and the one before never are."""
        held = {current, previous}
        room = max(keep - len([version for version in self.versions() if version in held]), 0)
        others = [version for version in self.versions() if version not in held]
        return others[room:]

    def remove(self, version: str) -> None:
        """Remove a version; its marker goes first, so that a half-removed one never looks complete."""
        (self.path(version) / MARKER).unlink(missing_ok=True)
        shutil.rmtree(self.path(version))

    def check_space(self, needed: int, spare: int, purpose: str) -> None:
        """Refuse with one sentence when the store's file system has not `needed` + `spare` bytes free."""
        place = self.base
        while not place.exists():
            place = place.parent
        free = shutil.disk_usage(place).free
        if free < needed + spare:
            message = (
                f"the file system of {self.base} has {mib(free)} MiB free and {purpose} needs {mib(needed)} MiB beside the "
                f"{mib(spare)} MiB of release_spare_mib; make room there, lower release_keep, or set release_root to a larger file system"
            )
            raise ReleaseError(message)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the component against other plays on this host."""
        self.base.mkdir(mode=0o755, parents=True, exist_ok=True)
        with (self.base / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in {errno.EAGAIN, errno.EACCES}:
                    raise
                message = f"another play is installing {self.component} on this host; run again when it has ended"
                raise ReleaseError(message) from None
            yield


def finish(staged: Path, marker: dict[str, Any]) -> None:
    """Make a staged tree root's, without set-id bits, and write its marker last."""
    for directory, names, files in os.walk(staged):
        for path in [Path(directory), *(Path(directory) / name for name in names + files)]:
            os.chown(path, 0, 0, follow_symlinks=False)
            if not path.is_symlink():
                path.chmod(sane_mode(path.stat().st_mode))
    sizes = marker.pop("files")
    marker["files"] = {name: (staged / name).stat().st_size for name in sizes}
    marker["time"] = now()
    write_durably(staged / MARKER, json.dumps(marker, indent=2) + "\n", 0o644)


def sane_mode(mode: int) -> int:
    """0755 for directories and programs, 0644 for the rest: readable by every service, writable by root, no set-id bits."""
    return 0o755 if stat.S_ISDIR(mode) or mode & 0o111 else 0o644


def record(log: Path, entry: dict[str, Any]) -> None:
    """Append one deployment to the host's log as one JSON line."""
    log.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps({"time": now(), **entry}) + "\n"
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, line.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_durably(path: Path, text: str, mode: int) -> None:
    """Replace a small file so that after a crash either the old or the new one is there, whole."""
    fresh = path.with_name(path.name + ".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(descriptor, mode)
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    fresh.replace(path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Bring a directory's entries to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def now() -> str:
    """UTC, to the microsecond, so that versions sort by it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def mib(count: int) -> int:
    """Bytes as MiB, rounded up."""
    return -(-count // MIB)
