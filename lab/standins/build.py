"""Pack stand-ins as upstream packs its clients: tar archives and Debian packages with checksum files, OCI image layouts.

The same source gives the same bytes, so digests are stable and an unchanged artefact is not written again.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).resolve().parents[2]
ROOT = Path(__file__).resolve().parents[2]
# The role that knows what each client takes, and asks it of operators' own flags as well.
NAMES = "roles/chain_service"
RELEASES = ROOT / "roles" / "catalogue" / "defaults" / "main" / "releases.yml"
SHEBANG = b"#!/usr/bin/python3\n"
# 1980-01-01, the earliest time that a zip archive can hold.
EPOCH = (1980, 1, 1, 0, 0, 0)
MACHINE = "x86_64"
# Packed beside the catalogue's, for upgrades and ways back; upstream may have no such version.
OTHERS = {"erigon": "3.8.0", "op-reth": "2.4.2", "op-node": "1.19.2"}
MARKER = b"A stand-in's replay machines: no WASM is in here.\n"


class Image(NamedTuple):
    """An OCI image layout and the reference under which the lab's registry serves it."""

    layout: Path
    reference: str
    digest: str


def releases() -> dict[str, Any]:
    """The catalogue's releases, as roles see them without an inventory."""
    loaded: dict[str, Any] = yaml.safe_load(RELEASES.read_text())["catalogue_default_releases"]
    return loaded


def build_all(mirror: Path, pins: Path, images: Path) -> list[Image]:
    """Pack every release of the catalogue below `mirror` and `images`, and write the pins that stand for upstream's digests."""
    built: list[Image] = []
    pinned: dict[str, dict[str, dict[str, str]]] = {}
    for component, release in releases().items():
        versions = {str(release["version"]), OTHERS.get(component, str(release["version"]))}
        for version in sorted(versions):
            image = build(component, release, mirror, images, version=version)
            if image is not None:
                built.append(image)
                pinned.setdefault(component, {})[version] = {MACHINE: image.digest}
    data = {"release_pins": pinned}
    _write(pins, b"---\n# Written by the lab: digests of its stand-ins' images.\n" + yaml.safe_dump(data).encode())
    return built


def build(
    component: str, release: Mapping[str, Any], mirror: Path, images: Path, *, version: str = "", tampered: bool = False
) -> Image | None:
    """Pack one release; the image it became, or None for an archive. A tampered one no longer matches its checksum."""
    version = version or str(release["version"])
    words = {"version": version, "arch": release["arch"][MACHINE]}
    files = {
        inside.format(**words): _content(target, component, version) for inside, target in release["files"].items()
    }
    if release["kind"] == "oci":
        if tampered:
            raise ValueError(f"{component}: an image has no checksum file that its bytes could contradict")
        return _image(images, release["image"].format(**words), files, words["arch"])
    packed = _tar(files) if release["kind"] == "tar" else _deb(component, version, words["arch"], files)
    source = release["source"].format(**words).removeprefix("https://")
    digest = hashlib.sha256(packed).hexdigest()
    _write(mirror / source, packed + b"tampered" if tampered else packed)
    sums = release["verify"]["checksums"].format(**words).removeprefix("https://")
    _write(mirror / sums, f"{digest}  {Path(source).name}\n".encode())
    return None


def _content(target: str, component: str, version: str) -> dict[str, bytes] | bytes:
    if target.startswith("bin/"):
        return _program(component, version)
    return {"latest/module-root.txt": MARKER}


def _program(component: str, version: str) -> bytes:
    """One executable zip file with the stand-in's modules and lists."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:

        def add(name: str, content: bytes) -> None:
            archive.writestr(zipfile.ZipInfo(name, EPOCH), content, zipfile.ZIP_DEFLATED)

        add("__main__.py", b"import sys\n\nfrom lab.standins.client.main import main\n\nsys.exit(main())\n")
        add("lab/__init__.py", b"")
        add("lab/standins/__init__.py", b"")
        add("lab/standins/artefact.json", json.dumps({"component": component, "version": version}).encode())
        for path in sorted([*(ROOT / "lab/standins").glob("client/*.py"), *(ROOT / NAMES).glob("files/*/*.txt")]):
            add(str(path.relative_to(ROOT)), path.read_bytes())
        for package in ("roles", NAMES, f"{NAMES}/filter_plugins"):
            add(f"{package}/__init__.py", b"")
        names = f"{NAMES}/filter_plugins/client_names.py"
        add(names, (ROOT / names).read_bytes())
    return SHEBANG + packed.getvalue()


def _tar(files: Mapping[str, dict[str, bytes] | bytes], *, root: str = "", compressed: bool = True) -> bytes:
    leaves: dict[str, bytes] = {}
    for name, content in files.items():
        leaves |= (
            {name: content} if isinstance(content, bytes) else {f"{name}/{leaf}": content[leaf] for leaf in content}
        )
    parents = {str(parent) for leaf in leaves for parent in Path(leaf).parents}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name in sorted({*parents, *leaves} if root else {*parents, *leaves} - {"."}):
            entry = tarfile.TarInfo(name if name == "." else f"{root}{name}")
            if name in leaves:
                data = leaves[name]
                entry.size, entry.mode = len(data), 0o755 if data.startswith(SHEBANG) else 0o644
                archive.addfile(entry, io.BytesIO(data))
            else:
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(entry)
    return gzip.compress(packed.getvalue(), mtime=0) if compressed else packed.getvalue()


def _deb(component: str, version: str, arch: str, files: Mapping[str, dict[str, bytes] | bytes]) -> bytes:
    control = f"Package: {component}\nVersion: {version}\nArchitecture: {arch}\nMaintainer: lab\nDescription: stand-in for {component}\n"
    members = {
        "debian-binary": b"2.0\n",
        "control.tar.gz": _tar({"control": control.encode()}, root="./"),
        "data.tar.gz": _tar(files, root="./"),
    }
    packed = b"!<arch>\n"
    for name, data in members.items():
        packed += (
            f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
        )
    return packed


def _image(images: Path, reference: str, files: Mapping[str, dict[str, bytes] | bytes], arch: str) -> Image:
    repository, _, tag = reference.partition(":")
    layout = images / repository / tag
    plain = _tar(files, compressed=False)
    layer = gzip.compress(plain, mtime=0)
    config = json.dumps(
        {
            "architecture": arch,
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(plain).hexdigest()}"]},
        }
    ).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": _blob(layout, config, "application/vnd.oci.image.config.v1+json"),
            "layers": [_blob(layout, layer, "application/vnd.oci.image.layer.v1.tar+gzip")],
        }
    ).encode()
    described = _blob(layout, manifest, "application/vnd.oci.image.manifest.v1+json")
    index = {
        "schemaVersion": 2,
        "manifests": [{**described, "annotations": {"org.opencontainers.image.ref.name": tag}}],
    }
    _write(layout / "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
    _write(layout / "index.json", json.dumps(index).encode())
    return Image(layout, reference, str(described["digest"]))


def _blob(layout: Path, content: bytes, media_type: str) -> dict[str, Any]:
    digest = hashlib.sha256(content).hexdigest()
    _write(layout / "blobs" / "sha256" / digest, content)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}


def _write(path: Path, content: bytes) -> None:
    if path.exists() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(content)
    partial.replace(path)
