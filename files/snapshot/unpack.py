"""From verified parts to a tree beside the live directory, and whether that tree is what it must be."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from snapshot import space
from snapshot.errors import SnapshotError
from snapshot.plan import Plan
from snapshot.programs import wait
from snapshot.progress import Progress

CHUNK_BYTES = 1 << 20
# What a file begins with, and what makes a tar archive of it. Names say too little: parts end in .aa, .part-003 and worse.
DECOMPRESSORS = {
    b"\x28\xb5\x2f\xfd": ["zstd", "--decompress", "--stdout", "--quiet", "--long=31"],
    b"\x1f\x8b": ["gzip", "--decompress", "--stdout", "--quiet"],
    b"\x04\x22\x4d\x18": ["lz4", "--decompress", "--stdout", "--quiet"],
    b"\xfd7zXZ\x00": ["xz", "--decompress", "--stdout", "--quiet"],
}
# Without the owners and modes of the archive: what would run as its owner elsewhere does not here.
TAR = ["tar", "--extract", "--file=-", "--no-same-owner", "--no-same-permissions", "--warning=no-unknown-keyword"]
SHOWN_NAMES = 8


def unpack(plan: Plan) -> None:
    """Make the tree anew from the parts and judge it; on a failure nothing of it stays."""
    tree = plan.unpacked_path
    plan.tree_note.unlink(missing_ok=True)
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(mode=0o700)
    files = [plan.downloaded / part.name for part in plan.parts]
    progress = Progress("unpack", sum(file.stat().st_size for file in files))
    progress.say(f"into {tree}")
    try:
        for archive in [files] if plan.joined else [[file] for file in files]:
            _extract(plan, archive, progress)
            # Before the next archive could write through a link of this one.
            check_harmless(tree)
        check_layout(plan)
    except BaseException:
        shutil.rmtree(tree, ignore_errors=True)
        raise


def _extract(plan: Plan, files: Sequence[Path], progress: Progress) -> None:
    tar = [*TAR, f"--directory={plan.unpacked_path}", f"--strip-components={plan.strip}"]
    with files[0].open("rb") as stream:
        beginning = stream.read(8)
    decompressor = next((command for magic, command in DECOMPRESSORS.items() if beginning.startswith(magic)), None)
    with subprocess.Popen(tar, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as unpacking:
        programs = [("tar", unpacking)]
        into = unpacking.stdin
        if decompressor:
            inner = subprocess.Popen(
                decompressor, stdin=subprocess.PIPE, stdout=unpacking.stdin, stderr=subprocess.PIPE
            )
            programs.insert(0, (decompressor[0], inner))
            _closed(unpacking.stdin)  # tar sees the end when the decompressor ends
            unpacking.stdin = None
            into = inner.stdin
        told: dict[str, bytes] = {}
        threads = [threading.Thread(target=_feed, args=(files, into), daemon=True)]
        threads += [threading.Thread(target=_listen, args=(name, run, told), daemon=True) for name, run in programs]
        for thread in threads:
            thread.start()
        full = wait(plan, [run for _, run in programs], progress)
        for thread in threads:
            thread.join(timeout=10)
    if full:
        raise SnapshotError(
            f"the file system of {plan.staging} fills up while the snapshot is unpacked: it is larger than the {space.gib(plan.unpacked)} of"
            " its entry, or something else writes there."
        )
    for name, run in programs:
        if run.returncode != 0:
            words = told.get(name, b"").decode(errors="replace").strip().splitlines()
            raise SnapshotError(
                f"{files[0].name}: {name} cannot unpack it: {words[0][:300] if words else f'exit status {run.returncode}'}."
            )


def _feed(files: Sequence[Path], into: IO[bytes] | None) -> None:
    assert into is not None  # noqa: S101 - told by the pipe
    try:
        for file in files:
            with file.open("rb") as stream:
                shutil.copyfileobj(stream, into, CHUNK_BYTES)
    except BrokenPipeError:
        pass  # the program has ended; its own words say why
    finally:
        _closed(into)


def _closed(stream: IO[bytes] | None) -> None:
    try:
        if stream is not None:
            stream.close()
    except BrokenPipeError:
        pass  # what was still buffered is not wanted any more


def _listen(name: str, run: subprocess.Popen[bytes], told: dict[str, bytes]) -> None:
    """Keep the first words of what a program complains of, and read the rest so that it never waits for us."""
    assert run.stderr is not None  # noqa: S101 - told by the pipe
    told[name] = run.stderr.read(4096)
    while run.stderr.read(CHUNK_BYTES):
        pass


def check_harmless(tree: Path) -> None:
    """Refuse what leads out of the tree, and what is neither file, directory nor link."""
    for directory, names, files in os.walk(tree):
        for name in [*names, *files]:
            path = Path(directory) / name
            mode = path.lstat().st_mode
            shown = path.relative_to(tree)
            if stat.S_ISLNK(mode):
                if not path.resolve().is_relative_to(tree.resolve()):
                    raise SnapshotError(f"the snapshot holds a link that leads out of it: {shown}.")
            elif not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
                raise SnapshotError(f"the snapshot holds a device, pipe or socket: {shown}.")


def check_layout(plan: Plan) -> None:
    """Refuse a tree that the client would not find its data in: it would start an empty database beside it."""
    for name in plan.requires:
        path = plan.unpacked_path / name
        there = any(path.iterdir()) if path.is_dir() else path.is_file() and path.stat().st_size > 0
        if not there:
            top = sorted(each.name for each in plan.unpacked_path.iterdir())
            shown = ", ".join(top[:SHOWN_NAMES]) + (" …" if len(top) > SHOWN_NAMES else "")
            begins = "it begins" if plan.command else f"with strip {plan.strip} it begins"
            raise SnapshotError(
                f"the snapshot has no {name}, which {plan.target} must hold; {begins} with: {shown or 'nothing'}."
            )
