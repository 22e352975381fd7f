#!/usr/bin/python3 -IB
"""Holds each sender's kept journals to its share of the disk, the oldest going first, and says which host has fallen silent.

systemd's own bound (journalctl's and, from 253, systemd-journal-remote's) is one for all senders, by the times that the senders say: who floods it,
or dates his lines into the future, would have the others' go. Here what counts is whose file it is, and when this host wrote it last. It looks every
second, as systemd-journal-remote takes what comes as fast as the disk does, to its last byte.
"""

from __future__ import annotations

import argparse
import os
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

# systemd-journal-remote appends to remote-ADDRESS.journal; what it has closed has an @, and a ~ where it was cut off.
NAME = re.compile(r"remote-(?P<sender>[0-9A-Fa-f:.]+)(?P<closed>@[^/]+)?\.journal~?")
# systemd's prefix of a line: warning, and notice.
WARNING, NOTICE = "<4>", "<5>"
LOOK_SECONDS = 1
SAY_SECONDS = 60
# Of the file system, left free whatever the shares are.
FREE_PART = 10
# What goes after less than this was not meant to go yet: somebody has sent more than usual.
SOON_SECONDS = 7 * 86400


@dataclass(frozen=True)
class Kept:
    """One file: whose it is, whether it is closed, the bytes that it has on disk, and when it was last written (Unix time)."""

    path: Path
    sender: str
    closed: bool
    size: int
    written: float


def kept(directory: Path) -> list[Kept]:
    """What is kept in a directory; other files are not looked at."""
    found = []
    for path in sorted(directory.iterdir()):
        name = NAME.fullmatch(path.name)
        if name and path.is_file() and not path.is_symlink():
            status = path.stat()
            closed = bool(name["closed"]) or path.name.endswith("~")
            found.append(Kept(path, name["sender"], closed, status.st_blocks * 512, status.st_mtime))
    return found


def surplus(files: Iterable[Kept], share: int) -> dict[str, list[Kept]]:
    """What has to go so that no sender has more than `share` bytes: {sender: its oldest closed files}."""
    of: dict[str, list[Kept]] = {}
    for file in files:
        of.setdefault(file.sender, []).append(file)
    found = {}
    for sender, own in of.items():
        over = sum(file.size for file in own) - share
        going = []
        for file in sorted((file for file in own if file.closed), key=lambda file: file.written):
            if over <= 0:
                break
            going.append(file)
            over -= file.size
        if going:
            found[sender] = going
    return found


def share_of(files: Iterable[Kept], most: int, size: int, free: int) -> int:
    """A sender's share in bytes: `most`, or less where a tenth of the file system, of `size` bytes with `free` of them free, would not stay free."""
    files = list(files)
    room = free + sum(file.size for file in files) - size // FREE_PART
    return max(0, min(most, room // max(1, len({file.sender for file in files}))))


class Silence:
    """Which senders, {address: name}, have not been heard for `seconds`; each is told of once, and again when it speaks."""

    def __init__(self, senders: Mapping[str, str], seconds: int, now: float) -> None:
        """Nobody is silent before `now` and `seconds` more (Unix time)."""
        self.senders, self.seconds = senders, seconds
        self.last = dict.fromkeys(senders, now)
        self.told: set[str] = set()

    def changes(self, files: Iterable[Kept], now: float) -> list[str]:
        """What has changed, a line each."""
        for file in files:
            if file.sender in self.last:
                self.last[file.sender] = max(self.last[file.sender], file.written)
        found = []
        for address, name in self.senders.items():
            quiet = now - self.last[address] > self.seconds
            if quiet and address not in self.told:
                self.told.add(address)
                found.append(f"{WARNING}Nothing has come from {name} ({address}) for {self.seconds // 60} minutes.")
            elif not quiet and address in self.told:
                self.told.remove(address)
                found.append(f"{NOTICE}{name} ({address}) is heard again.")
        return found


def hold(directory: Path, most: int, now: float) -> list[str]:
    """Have what is too much of each sender go, `most` bytes at most; give a line for each sender whose files went."""
    files = kept(directory)
    disk = os.statvfs(directory)
    share = share_of(files, most, disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize)
    lines = []
    for sender, going in surplus(files, share).items():
        for file in going:
            file.path.unlink(missing_ok=True)
        youngest = now - max(file.written for file in going)
        lines.append(
            f"{WARNING if youngest < SOON_SECONDS else NOTICE}{sender} had more than its {share // 2**20} MiB: files of it went "
            f"({len(going)}), the youngest last written to {youngest / 86400:.1f} days ago."
        )
    return lines


def main() -> None:
    """Look every second, until it is stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--share-mib", type=int, required=True, help="MiB on disk that each sender's files may have")
    parser.add_argument("--silent-minutes", type=int, required=True, help="minutes after which a sender is told of")
    parser.add_argument("senders", nargs="*", metavar="NAME=ADDRESS")
    given = parser.parse_args()
    senders = {address: name for name, _, address in (each.rpartition("=") for each in given.senders)}
    silence = Silence(senders, given.silent_minutes * 60, time.time())
    said: dict[str, float] = {}
    while True:
        now = time.time()
        for line in hold(given.directory, given.share_mib * 2**20, now):
            sender = line.split()[0]
            # Who floods has files go every second.
            if now - said.get(sender, 0) > SAY_SECONDS:
                said[sender] = now
                print(line, flush=True)
        for line in silence.changes(kept(given.directory), now):
            print(line, flush=True)
        time.sleep(LOOK_SECONDS)


if __name__ == "__main__":
    main()
