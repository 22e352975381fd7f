"""Look on a host for the values of its secrets where none may be; run there as root, from standard input.

It prints what it looked at and where it found what, by the secret's name: never a value.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import re
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

TABLE = Path("/etc/fleet-secrets/secrets.json")
OPEN_TO_ALL = ("/etc", "/var", "/data", "/run")
# Chains' data and packages' lists are larger than any file that somebody would write a secret to.
MOST_BYTES = 64 << 20
LEAST_BYTES = 16
PEM_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----(.*?)-----END", re.DOTALL)


def needles() -> dict[bytes, set[str]]:
    """Give what to look for: each secret's value, or the lines of a key, with the names of the secrets that have it."""
    found: dict[bytes, set[str]] = {}
    for row in json.loads(TABLE.read_bytes())["secrets"]:
        if row["kind"] != "file":
            continue
        value = Path(row["path"]).read_bytes()
        keys = PEM_KEY.findall(value)
        for line in (b"\n".join(keys) if keys else value).replace(b":", b" ").split():
            # The beginning of a key says only which curve it is of, and every key of that kind has it.
            part = line[-48:] if keys else line.removeprefix(b"0x")
            if len(part) >= LEAST_BYTES:
                found.setdefault(part, set()).add(f"{row['name']} {row['item']}".strip())
    return found


def output_of(*command: str) -> bytes:
    """Give what a command prints; some units have no file, which is no failure."""
    printed = subprocess.run(command, capture_output=True, check=False, timeout=120).stdout
    if not printed:
        raise SystemExit(f"{' '.join(command)} prints nothing")
    return printed


def processes() -> Iterator[tuple[str, bytes]]:
    """Give every process' environment and command line."""
    for process in Path("/proc").glob("[0-9]*"):
        for name in ("environ", "cmdline"):
            # It may have ended meanwhile.
            with contextlib.suppress(OSError):
                yield f"process {name}", (process / name).read_bytes()


def units() -> Iterator[tuple[str, bytes]]:
    """Give what anybody may read of units."""
    yield "systemctl show", output_of("systemctl", "show", "--all", "*")
    yield "systemctl cat", output_of("systemctl", "cat", "*")


def journal() -> Iterator[tuple[str, bytes]]:
    """Give the whole journal, all fields."""
    yield "journal", output_of("journalctl", "--no-pager", "--quiet", "--output=export")


def files(top: str, *, all_of_them: bool) -> Iterator[tuple[str, bytes]]:
    """Give files below a directory: those that everybody may read, or all of them."""
    for place, _, names in os.walk(top):
        for name in names:
            path = Path(place, name)
            with contextlib.suppress(OSError):
                known = path.lstat()
                if not stat.S_ISREG(known.st_mode) or known.st_size > MOST_BYTES:
                    continue
                if all_of_them or known.st_mode & stat.S_IROTH:
                    content = path.read_bytes()
                    yield f"file {path}", gzip.decompress(content) if path.suffix == ".gz" else content


def places() -> Iterator[tuple[str, bytes]]:
    """Give everything that is looked at, by where it is."""
    yield from processes()
    yield from units()
    yield from journal()
    # The journal's own files hold the same again, compressed.
    yield from (
        each for each in files("/var/log", all_of_them=True) if not each[0].startswith("file /var/log/journal/")
    )
    for top in OPEN_TO_ALL:
        yield from files(top, all_of_them=False)


def main(decoy: str = "") -> None:
    """Look, for a decoy as well, and print what was found."""
    wanted = needles()
    if decoy:
        wanted[decoy.encode()] = {"decoy"}
    looked: Counter[str] = Counter()
    leaks = set()
    for where, content in places():
        looked[where.partition(" /")[0]] += 1
        lowered = content.lower()
        for needle, names in wanted.items():
            if needle in content or needle.lower() in lowered:
                leaks |= {(where, name) for name in names}
    known = sorted({name for names in wanted.values() for name in names})
    said = {"secrets": known, "looked": looked, "leaks": sorted(leaks)}
    sys.stdout.write(json.dumps(said) + "\n")
