"""Take the wanted files, and nothing else, out of a tar archive, a Debian package, or an image's layers.

Every destination is computed from the wanted paths, never from a name in the archive, so no archive can write elsewhere. Device nodes,
sockets and set-id bits never reach the disk, and no maintainer script runs.
"""

from __future__ import annotations

import contextlib
import posixpath
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from .errors import ReleaseError
from .store import sane_mode

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
LONGEST_LINK_CHAIN = 40
NAMES_SHOWN = 5


class ArtefactError(ReleaseError):
    """Why an artefact is refused, in words that follow its name and begin with "it"."""


@dataclass(frozen=True)
class Layer:
    """A tar stream: a compressed tar archive, or a Debian package's files."""

    path: Path
    debian_package: bool = False

    @contextlib.contextmanager
    def open(self) -> Iterator[tarfile.TarFile]:
        """The tar stream, read once from front to back; ArtefactError if it is damaged."""
        command = self._reader()
        try:
            if command:
                with _piped(command) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
                    yield tar
            else:
                with tarfile.open(self.path, mode="r|*") as tar:
                    yield tar
        except (tarfile.TarError, EOFError, OSError) as error:
            if isinstance(error, OSError) and error.errno:
                raise
            message = f"it is no readable {'Debian package' if self.debian_package else 'tar archive'} ({error})"
            raise ArtefactError(message) from None

    def _reader(self) -> list[str]:
        if self.debian_package:
            return ["dpkg-deb", "--fsys-tarfile", str(self.path)]
        with self.path.open("rb") as file:
            return ["zstd", "-dcq", str(self.path)] if file.read(4) == ZSTD_MAGIC else []


@dataclass(frozen=True)
class Entry:
    """A path of the merged layers and where its bytes are."""

    kind: str  # file, directory, symlink, other
    layer: int
    position: int
    size: int = 0
    mode: int = 0
    target: str = ""


@dataclass(frozen=True)
class Selection:
    """What is to be written: path below the destination -> entry."""

    entries: dict[str, Entry]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.entries.values())


def select(layers: list[Layer], wanted: dict[str, str]) -> Selection:
    """Find each wanted path (a file or a directory) in the merged layers; ArtefactError naming the first that is missing."""
    index = _index(layers)
    entries: dict[str, Entry] = {}
    for source, destination in wanted.items():
        path = _resolved(index, normal(source))
        entry = index.get(path)
        inside = path + "/" if path else ""
        children = {name.removeprefix(inside): below for name, below in index.items() if name.startswith(inside)}
        if entry is not None and entry.kind == "file":
            entries[normal(destination)] = entry
        elif children:
            for name, below in children.items():
                entries[posixpath.join(normal(destination), name)] = _kept(name, below, source)
        else:
            holds = sorted(name for name, below in index.items() if below.kind == "file")
            shown = ", ".join(holds[:NAMES_SHOWN]) + (
                f" and {len(holds) - NAMES_SHOWN} more" if len(holds) > NAMES_SHOWN else ""
            )
            message = f"it holds no {source}; it holds {shown or 'no file at all'}"
            raise ArtefactError(message)
    return Selection(entries)


def extract(layers: list[Layer], selection: Selection, destination: Path) -> None:
    """Write the selected entries below an empty directory, links last."""
    wanted: dict[int, dict[int, list[str]]] = {}
    for name, entry in selection.entries.items():
        path = destination / name
        (path if entry.kind == "directory" else path.parent).mkdir(mode=0o755, parents=True, exist_ok=True)
        if entry.kind == "file":
            wanted.setdefault(entry.layer, {}).setdefault(entry.position, []).append(name)
    for number, positions in wanted.items():
        with layers[number].open() as tar:
            for position, member in enumerate(tar):
                if position in positions:
                    _write(tar, member, [destination / name for name in positions[position]])
                if position >= max(positions):
                    break
    for name, entry in selection.entries.items():
        if entry.kind == "symlink":
            (destination / name).symlink_to(entry.target)


def normal(name: str) -> str:
    """A path without leading or doubled slashes and without `.`; ArtefactError if it climbs above its root."""
    parts = [part for part in name.split("/") if part not in {"", "."}]
    if ".." in parts:
        message = f"it names the path {name}, which leads out of it"
        raise ArtefactError(message)
    return "/".join(parts)


def _index(layers: list[Layer]) -> dict[str, Entry]:
    index: dict[str, Entry] = {}
    for number, layer in enumerate(layers):
        with layer.open() as tar:
            for position, member in enumerate(tar):
                name = normal(member.name)
                if name:
                    _add(index, name, member, number, position)
    return index


def _add(index: dict[str, Entry], name: str, member: tarfile.TarInfo, number: int, position: int) -> None:
    parent, base = posixpath.split(name)
    if base.startswith(WHITEOUT):
        hidden = posixpath.join(parent, base.removeprefix(WHITEOUT))
        _hide(index, parent if base == OPAQUE else hidden, number, itself=base != OPAQUE)
        return
    if member.isdir():
        if name not in index or index[name].kind != "directory":
            index[name] = Entry("directory", number, position)
        return
    if name in index and index[name].kind == "directory":
        _hide(index, name, number, itself=False)
    if member.isreg():
        index[name] = Entry("file", number, position, member.size, member.mode)
    elif member.issym():
        index[name] = Entry("symlink", number, position, target=member.linkname)
    elif member.islnk():
        # The archive may be hostile: a hard link means a file of this archive or nothing.
        index[name] = index.get(normal(member.linkname), Entry("other", number, position))
    else:
        index[name] = Entry("other", number, position)


def _hide(index: dict[str, Entry], path: str, number: int, *, itself: bool) -> None:
    """Drop what lower layers have below a path, and the path itself where it is whited out."""
    prefix = path + "/" if path else ""
    for name in [name for name in index if name.startswith(prefix) or (itself and name == path)]:
        if index[name].layer < number:
            del index[name]


def _resolved(index: dict[str, Entry], path: str) -> str:
    """Follow symlinks as a process whose root is the archive would."""
    done: list[str] = []
    todo = path.split("/")
    for _ in range(LONGEST_LINK_CHAIN * len(todo)):
        if not todo:
            return "/".join(done)
        part, *todo = todo
        if part in {"", "."}:
            continue
        if part == "..":
            done = done[:-1]
            continue
        entry = index.get("/".join([*done, part]))
        if entry is not None and entry.kind == "symlink":
            if entry.target.startswith("/"):
                done = []
            todo = entry.target.split("/") + todo
        else:
            done.append(part)
    return "/".join(done + todo)


def _kept(name: str, entry: Entry, root: str) -> Entry:
    """An entry of a wanted directory, by its path below that, if it may stand on the host."""
    if entry.kind == "other":
        message = f"it has {name} in {root or 'it'}, which is no file, directory or symlink"
        raise ArtefactError(message)
    if entry.kind == "symlink":
        target = posixpath.normpath(posixpath.join(posixpath.dirname(name), entry.target))
        if entry.target.startswith("/") or target.split("/")[0] == "..":
            message = f"it has the symlink {name} to {entry.target}, which leads out of {root or 'it'}"
            raise ArtefactError(message)
    return entry


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, destinations: list[Path]) -> None:
    stream = tar.extractfile(member)
    if stream is None:
        raise AssertionError(member.name)
    first, *others = destinations
    with first.open("xb") as file:
        shutil.copyfileobj(stream, file, 1 << 20)
    first.chmod(sane_mode(member.mode))
    for other in others:
        shutil.copy2(first, other)


@contextlib.contextmanager
def _piped(command: list[str]) -> Iterator[IO[bytes]]:
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        if process.stdout is None or process.stderr is None:
            raise AssertionError(command)
        try:
            yield process.stdout
        finally:
            process.stdout.close()
            words = process.stderr.read().decode("utf-8", "replace").strip()
    # A reader that stopped early ends it with SIGPIPE; a damaged archive ends it with its own words.
    if process.returncode > 0 and words:
        message = f"it is refused by {command[0]}: {words.splitlines()[-1]}"
        raise ArtefactError(message)
