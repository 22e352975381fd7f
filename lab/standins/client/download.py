"""Bring a node's data as the client's own download would: into a directory, going on where it was cut."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from lab.standins.client.arguments import Arguments, RefusedError
from lab.standins.client.evm import Faults

PIECES = 4
PIECE_BYTES = 1 << 18
SECONDS_A_PIECE = 0.2
FILES = ("db/mdbx.dat", "static_files/headers_0")


def download(arguments: Arguments, faults: Faults) -> int:
    """The exit code. Nothing is fetched: what is written is noise of the right names; told `cut_download`, it ends halfway."""
    for name in ("full", "datadir"):
        if name not in arguments.flags:
            raise RefusedError(f"stand-in: a download without --{name} is not known here", 2)
    part = Path(arguments.text("datadir")) / "download.part"
    part.parent.mkdir(parents=True, exist_ok=True)
    if not arguments.has("resumable"):
        part.unlink(missing_ok=True)
    begun = part.stat().st_size // PIECE_BYTES if part.exists() else 0
    sys.stdout.write(f"stand-in: downloading, {begun} of {PIECES} pieces are here\n")
    with part.open("ab") as stream:
        for piece in range(begun, PIECES):
            if faults.get("cut_download") and piece >= PIECES // 2:
                sys.stderr.write("Error: the connection was cut\n")
                return 1
            stream.write(os.urandom(PIECE_BYTES))
            stream.flush()
            time.sleep(SECONDS_A_PIECE)
    content = part.read_bytes()
    for name in FILES:
        file = part.parent / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content)
    part.unlink()
    return 0
