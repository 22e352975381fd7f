"""What is wanted, as a JSON file gives it."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snapshot.errors import SnapshotError

URL = re.compile(r"https://[^\s/]+/\S+")
SHA256 = re.compile(r"[0-9a-f]{64}")


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
        """The same for the same parts, unpacked the same way."""
        told = [self.joined, self.strip, [part.sha256 for part in self.parts]]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()

    @property
    def downloaded(self) -> Path:
        """Where the parts arrive."""
        return self.staging / "parts"

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
        parts=tuple(_part(number, each) for number, each in enumerate(told["parts"])),
        joined=bool(told["joined"]),
        strip=_number(told["strip"], 0, 16),
        requires=tuple(_inside(each) for each in told["requires"]),
        unpacked=_number(told["unpacked_bytes"], 1),
        spare=_number(told["spare_bytes"], 0),
        replace=bool(told["replace"]),
        root_allowed=bool(told["root_allowed"]),
        downloads=_number(told["downloads"], 1, 16),
        connections=_number(told["connections"], 1, 16),
        attempts=_number(told["attempts"], 1, 100),
    )
    if not plan.parts or not plan.requires:
        raise ValueError("parts and requires hold at least one entry each")
    if plan.target in (plan.staging, *plan.staging.parents):
        raise ValueError("staging lies in the target, which is to be replaced")
    return plan


def _part(number: int, told: dict[str, Any]) -> Part:
    url, digest = str(told["url"]), str(told["sha256"])
    if not URL.fullmatch(url):
        raise ValueError(f"url {url!r} is no HTTPS address")
    if not SHA256.fullmatch(digest):
        raise ValueError(f"sha256 {digest!r} is not 64 hex digits")
    return Part(f"{number:05d}", url, digest, _number(told.get("bytes", 0), 0))


def _absolute(told: str) -> Path:
    path = Path(told)
    if not path.is_absolute() or ".." in path.parts or path == Path("/"):
        raise ValueError(f"{told!r} is no absolute path below /")
    return path


def _inside(told: str) -> str:
    path = Path(told)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ValueError(f"{told!r} is no path inside the snapshot")
    return told


def _number(told: object, least: int, most: int | None = None) -> int:
    if isinstance(told, bool) or not isinstance(told, int) or told < least or (most is not None and told > most):
        raise ValueError(
            f"{told!r} is not a whole number {f'of {least} to {most}' if most is not None else f'from {least}'}"
        )
    return told
