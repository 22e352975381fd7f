"""Bring one version to its place, whole and verified, or leave nothing of it."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from . import archive, fetch, oci, venv, verify
from .errors import ReleaseError
from .store import MIB, Store, finish, sync_directory

CONTROLLER = "the controller"
EVERYTHING = {"": ""}
# Wheels unpack to about three times their size, and bytecode comes beside them.
VENV_PER_WHEELS = 4
FULL = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True)
class Wanted:
    """A version, where it is had, and how it is proved."""

    component: str
    version: str
    kind: str
    files: dict[str, str]
    urls: list[str] = field(default_factory=list)
    checksum_urls: list[str] = field(default_factory=list)
    sha256: str = ""
    repositories: list[str] = field(default_factory=list)
    architecture: str = ""
    transferred: str = ""
    spare_mib: int = 0

    @property
    def name(self) -> str:
        """For sentences."""
        return f"{self.component} {self.version}"


def stage(store: Store, wanted: Wanted, network: fetch.Network) -> dict[str, Any]:
    """Install the version beside the others and return its marker; on any failure nothing of it stays but an interrupted download."""
    if wanted.transferred and not Path(wanted.transferred).is_file():
        message = f"{wanted.transferred}, the archive from the controller, is not on the host"
        raise ReleaseError(message)
    for rest in (store.staging, store.replaced):
        shutil.rmtree(rest, ignore_errors=True)
    store.staging.mkdir(mode=0o700)
    try:
        marker = _KINDS[wanted.kind](store, wanted, network)
    except OSError as error:
        if error.errno not in FULL:
            raise
        shutil.rmtree(store.download, ignore_errors=True)
        message = f"the file system of {store.base} filled up; make room there or set release_root to a larger one"
        raise ReleaseError(message) from None
    finally:
        for rest in (store.staging, store.replaced):
            shutil.rmtree(rest, ignore_errors=True)
    return marker


def _from_archive(store: Store, wanted: Wanted, network: fetch.Network) -> dict[str, Any]:
    expected, authority = _expected(wanted, network)
    file = store.download / Path(wanted.urls[0]).name
    store.download.mkdir(mode=0o700, exist_ok=True)
    for name in store.download.iterdir():
        if name.name not in {file.name, file.name + ".json"}:
            name.unlink()  # of a version that is no longer wanted
    fetched, got = _download(store, wanted, network, file, expected)
    if got != expected:
        fetch.forget(file)
        message = f"the file from {fetched.source} was tampered with or damaged: expected sha256 {expected} ({authority}), got {got}"
        raise ReleaseError(message)
    try:
        layers = [archive.Layer(file, debian_package=wanted.kind == "deb")]
        staged = _unpacked(store, wanted, layers, wanted.files, fetched.source)
    finally:
        shutil.rmtree(store.download, ignore_errors=True)
    return _placed(store, wanted, staged, _marker(wanted, expected, fetched.source, authority))


def _expected(wanted: Wanted, network: fetch.Network) -> tuple[str, str]:
    """The sha256 that the artefact must have, and who says so."""
    if wanted.sha256:
        return wanted.sha256, "release_pins"
    if not wanted.checksum_urls:
        message = "nothing says what its sha256 must be: set release_pins or verify.checksums"
        raise ReleaseError(message)
    text, source = fetch.fetch_text(wanted.checksum_urls, network)
    return verify.listed_checksum(text, Path(wanted.urls[0]).name, source), source


def _download(
    store: Store, wanted: Wanted, network: fetch.Network, file: Path, expected: str
) -> tuple[fetch.Fetched, str]:
    check_space = partial(store.check_space, spare=wanted.spare_mib * MIB, purpose="the download")
    fetched = fetch.fetch(wanted.urls, file, network, check_space)
    got = verify.sha256_of(file)
    if got != expected and fetched.resumed:
        # The part from an earlier run may be of a file that has been published again since.
        fetch.forget(file)
        fetched = fetch.fetch(wanted.urls, file, network, check_space)
        got = verify.sha256_of(file)
    return fetched, got


def _from_image(store: Store, wanted: Wanted, network: fetch.Network) -> dict[str, Any]:
    check_space = partial(store.check_space, spare=wanted.spare_mib * MIB, purpose="the image")
    digest = f"sha256:{wanted.sha256}"
    image = oci.fetch_image(wanted.repositories, digest, wanted.architecture, store.staging, network, check_space)
    staged = _unpacked(store, wanted, image.layers, wanted.files, image.source)
    return _placed(store, wanted, staged, _marker(wanted, wanted.sha256, image.source, "release_pins"))


def _from_directory(store: Store, wanted: Wanted, _network: fetch.Network) -> dict[str, Any]:
    staged = _transferred(store, wanted, wanted.files or EVERYTHING)
    return _placed(store, wanted, staged, _marker(wanted, _tree_sha256(staged), CONTROLLER, CONTROLLER))


def _from_wheelhouse(store: Store, wanted: Wanted, _network: fetch.Network) -> dict[str, Any]:
    wheelhouse = _transferred(store, wanted, EVERYTHING)
    wheels = sum(path.stat().st_size for path in wheelhouse.iterdir())
    store.check_space(VENV_PER_WHEELS * wheels, wanted.spare_mib * MIB, "the virtual environment")
    final = store.path(wanted.version)
    aside = _moved_aside(store, final)
    try:
        venv.build(wheelhouse, final)
        venv.link(final, wanted.component, wanted.files)
        checksum = verify.sha256_of(wheelhouse / venv.REQUIREMENTS)
        marker = {
            **_marker(wanted, checksum, CONTROLLER, "hashes in " + venv.REQUIREMENTS),
            "python": venv.python_version(),
        }
        finish(final, {**marker, "files": ["pyvenv.cfg"]})
    except BaseException:
        shutil.rmtree(final, ignore_errors=True)
        if aside is not None:
            aside.rename(final)
        raise
    return marker


_KINDS: dict[str, Callable[[Store, Wanted, fetch.Network], dict[str, Any]]] = {
    "tar": _from_archive,
    "deb": _from_archive,
    "oci": _from_image,
    "directory": _from_directory,
    "wheelhouse": _from_wheelhouse,
}


def _transferred(store: Store, wanted: Wanted, files: dict[str, str]) -> Path:
    return _unpacked(store, wanted, [archive.Layer(Path(wanted.transferred))], files, CONTROLLER)


def _unpacked(store: Store, wanted: Wanted, layers: list[archive.Layer], files: dict[str, str], source: str) -> Path:
    staged = store.staging / "tree"
    try:
        selection = archive.select(layers, files)
        store.check_space(selection.size, wanted.spare_mib * MIB, "the unpacked release")
        archive.extract(layers, selection, staged)
    except archive.ArtefactError as error:
        message = f"the artefact from {source} cannot be used: {error}"
        raise ReleaseError(message) from None
    return staged


def _placed(store: Store, wanted: Wanted, staged: Path, marker: dict[str, Any]) -> dict[str, Any]:
    """Rename the staged tree into place; a tree that stands there already goes in the same moment."""
    programs = [str(path.relative_to(staged)) for path in sorted((staged / "bin").glob("*")) if path.is_file()]
    finish(staged, {**marker, "files": programs})
    final = store.path(wanted.version)
    aside = _moved_aside(store, final)
    try:
        staged.rename(final)
    except OSError:
        if aside is not None:
            aside.rename(final)
        raise
    sync_directory(store.base)
    return marker


def _moved_aside(store: Store, final: Path) -> Path | None:
    if not final.exists():
        return None
    store.replaced.mkdir(mode=0o700)
    return final.rename(store.replaced / final.name)


def _marker(wanted: Wanted, checksum: str, source: str, verified_by: str) -> dict[str, Any]:
    return {
        "component": wanted.component,
        "version": wanted.version,
        "kind": wanted.kind,
        "sha256": checksum,
        "source": source,
        "verified_by": verified_by,
    }


def _tree_sha256(root: Path) -> str:
    """One checksum of a tree: every file's path, kind and content."""
    digest = hashlib.sha256()
    for directory, names, files in os.walk(root):
        names.sort()
        for name in sorted(files + [name for name in names if (Path(directory) / name).is_symlink()]):
            path = Path(directory) / name
            content = str(path.readlink()) if path.is_symlink() else verify.sha256_of(path)
            digest.update(f"{path.relative_to(root)}\0{content}\n".encode())
    return digest.hexdigest()
