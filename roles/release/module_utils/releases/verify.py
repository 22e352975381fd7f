"""What a download must hash to, and whether it does."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path, PurePosixPath

from .errors import ReleaseError

HEX = re.compile(r"[0-9a-fA-F]{64}")
LISTED = re.compile(r"^([0-9a-fA-F]{64})[ \t]+\*?(\S.*)$")
BSD = re.compile(r"^SHA256 ?\((.+)\) ?= ?([0-9a-fA-F]{64})$")
NAMES_SHOWN = 5


def sha256_of(path: Path) -> str:
    """A file's SHA-256, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def listed_checksum(text: str, name: str, source: str) -> str:
    """The SHA-256 that upstream's checksum file gives for a file name.

    Formats: `<hex>  <file>` lines (sha256sum), `SHA256 (<file>) = <hex>` lines (BSD), or one bare hex. ReleaseError if the file names
    another file, none, or two different sums for it.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) == 1 and HEX.fullmatch(lines[0]):
        return lines[0].lower()
    pairs = []
    for line in lines:
        if match := LISTED.match(line):
            pairs.append((PurePosixPath(match[2].strip()).name, match[1].lower()))
        elif match := BSD.match(line):
            pairs.append((PurePosixPath(match[1].strip()).name, match[2].lower()))
    found = {checksum for listed, checksum in pairs if listed == name}
    if len(found) == 1:
        return found.pop()
    if found:
        message = f"{source} gives {len(found)} different sha256 sums for {name}"
        raise ReleaseError(message)
    names = ", ".join(sorted({listed for listed, _ in pairs})[:NAMES_SHOWN])
    message = (
        f"{source} gives no sha256 sum for {name}; it {'lists ' + names if names else 'holds no sha256 sum at all'}"
    )
    raise ReleaseError(message)
