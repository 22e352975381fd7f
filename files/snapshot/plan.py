"""What is wanted, as a JSON file gives it."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snapshot import forms
from snapshot.errors import SnapshotError


@dataclass(frozen=True)
class Part:
    """One file to download. `size` is in bytes, 0 where the server is asked for it."""

    name: str
    url: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Plan:
    """Where a snapshot comes from, where it goes, and what it must hold. Sizes are in bytes."""

    target: Path
    staging: Path
    # The client's own download, in place of parts: its program, and the words that it is given.
    command: tuple[str, ...]
    parts: tuple[Part, ...]
    joined: bool
    strip: int
    requires: tuple[str, ...]
    unpacked: int
    spare: int
    replace: bool
    root_allowed: bool
    downloads: int
    connections: int
    attempts: int

    @property
    def identity(self) -> str:
        """The same for the same parts, unpacked the same way, and for the same download by whatever version of the client."""
        if self.command:
            told = [Path(self.command[0]).name, *self.command[1:]]
            return hashlib.sha256(json.dumps(told).encode()).hexdigest()
        parts = [self.joined, self.strip, [part.sha256 for part in self.parts]]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    @property
    def downloaded(self) -> Path:
        """Where the parts arrive."""
        return self.staging / "parts"

    @property
    def tree_note(self) -> Path:
        """Whose download a tree is that the client fills: the identity of its plan."""
        return self.staging / "client"

    @property
    def unpacked_path(self) -> Path:
        """Where the tree grows, beside the live directory and on its file system."""
        return self.staging / "unpacked"


def load(path: Path) -> Plan:
    """Read a plan. Raises SnapshotError naming the entry that is wrong."""
    try:
        told = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise SnapshotError(f"{path} cannot be read as JSON: {error}") from error
    try:
        return _plan(told)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SnapshotError(f"{path} is no plan of a snapshot: {type(error).__name__}: {error}") from error


def _plan(told: dict[str, Any]) -> Plan:
    plan = Plan(
        target=_absolute(told["target"]),
        staging=_absolute(told["staging"]),
        command=_command(told["command"]),
        parts=tuple(_part(number, each) for number, each in enumerate(told["parts"])),
        joined=bool(told["joined"]),
        strip=_number(told["strip"], forms.STRIP),
        requires=tuple(_inside(each) for each in told["requires"]),
        unpacked=_number(told["unpacked_bytes"], range(1, sys.maxsize)),
        spare=_number(told["spare_bytes"], range(sys.maxsize)),
        replace=bool(told["replace"]),
        root_allowed=bool(told["root_allowed"]),
        downloads=_number(told["downloads"], forms.DOWNLOADS),
        connections=_number(told["connections"], forms.CONNECTIONS),
        attempts=_number(told["attempts"], forms.ATTEMPTS),
    )
    if bool(plan.parts) == bool(plan.command) or not plan.requires:
        raise ValueError("parts or command, and requires, hold at least one entry each")
    if plan.target in (plan.staging, *plan.staging.parents):
        raise ValueError("staging lies in the target, which is to be replaced")
    return plan


def _part(number: int, told: dict[str, Any]) -> Part:
    url, digest = str(told["url"]), str(told["sha256"])
    if not forms.URL.fullmatch(url):
        raise ValueError(f"url {url!r} is no HTTPS address")
    if not forms.SHA256.fullmatch(digest):
        raise ValueError(f"sha256 {digest!r} is not 64 hex digits")
    return Part(f"{number:05d}", url, digest, _number(told.get("bytes", 0), range(sys.maxsize)))


def _absolute(told: str) -> Path:
    path = Path(told)
    if not path.is_absolute() or ".." in path.parts or path == Path("/"):
        raise ValueError(f"{told!r} is no absolute path below /")
    return path


def _command(told: list[str]) -> tuple[str, ...]:
    if not all(isinstance(word, str) and word for word in told):
        raise ValueError(f"command {told!r} is no list of words")
    if told and not (Path(told[0]).is_absolute() and any(forms.DATA in word for word in told)):
        raise ValueError(f"command {told!r} has no absolute path of a program, or does not name {forms.DATA}")
    return tuple(told)


def _inside(told: str) -> str:
    if not forms.is_inside(told):
        raise ValueError(f"{told!r} is no path inside the snapshot")
    return told


def _number(told: object, allowed: range) -> int:
    if isinstance(told, bool) or not isinstance(told, int) or told not in allowed:
        raise ValueError(f"{told!r} is not a whole number of {allowed.start} to {allowed.stop - 1}")
    return told
