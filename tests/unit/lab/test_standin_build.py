"""What the lab's mirror serves is packed as upstream packs it, provable, and the same each time."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.standins import build


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("built")
    build.build_all(root / "mirror", root / "pins.yml", root / "images")
    return root


def digests(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


def released(kind: str) -> dict[str, dict[str, Any]]:
    return {name: release for name, release in build.releases().items() if release["kind"] == kind}


def place(built: Path, release: dict[str, Any], which: str) -> Path:
    words = {"version": release["version"], "arch": release["arch"][build.MACHINE]}
    url: str = release["source"] if which == "source" else release["verify"]["checksums"]
    return built / "mirror" / url.format(**words).removeprefix("https://")


def test_each_archive_has_upstreams_name_and_agrees_with_its_checksum_file(built: Path) -> None:
    for release in (released("tar") | released("deb")).values():
        archive = place(built, release, "source")
        digest, name = place(built, release, "checksums").read_text().split()
        assert (digest, name) == (hashlib.sha256(archive.read_bytes()).hexdigest(), archive.name)


def test_archives_hold_what_the_catalogue_installs(built: Path, tmp_path: Path) -> None:
    for name, release in released("tar").items():
        (tmp_path / name).mkdir()
        subprocess.run(["tar", "-xf", place(built, release, "source"), "-C", tmp_path / name], check=True)
        words = {"version": release["version"], "arch": release["arch"][build.MACHINE]}
        for inside in release["files"]:
            program = tmp_path / name / inside.format(**words)
            said = subprocess.run(
                [sys.executable, str(program), "--version"], capture_output=True, text=True, check=True
            )
            assert said.stdout == f"{program.name} version {release['version']} (stand-in)\n"


@pytest.mark.skipif(
    shutil.which("dpkg-deb") is None, reason="this machine has no dpkg-deb to read Debian packages with"
)
def test_debian_packages_are_ones_that_dpkg_reads(built: Path, tmp_path: Path) -> None:
    for name, release in released("deb").items():
        package = place(built, release, "source")
        fields = ["dpkg-deb", "--field", str(package), "Package", "Version"]
        said = subprocess.run(fields, capture_output=True, text=True, check=True).stdout
        assert said == f"Package: {name}\nVersion: {release['version']}\n"
        subprocess.run(["dpkg-deb", "--extract", str(package), str(tmp_path / name)], check=True)
        for inside in release["files"]:
            assert (tmp_path / name / inside.lstrip("/")).stat().st_mode & 0o111


def test_image_layouts_name_only_blobs_that_are_there_and_agree(built: Path) -> None:
    pins = yaml.safe_load((built / "pins.yml").read_text())["release_pins"]
    assert set(pins) == set(released("oci"))
    for index in (built / "images").rglob("index.json"):
        (described,) = json.loads(index.read_text())["manifests"]
        blobs = index.parent / "blobs"
        manifest = json.loads(blob(blobs, described))
        config = json.loads(blob(blobs, manifest["config"]))
        (layer,) = manifest["layers"]
        assert config["rootfs"]["diff_ids"] == [
            f"sha256:{hashlib.sha256(gzip.decompress(blob(blobs, layer))).hexdigest()}"
        ]
        pinned = [digest for versions in pins.values() for digest in versions.values()]
        assert {build.MACHINE: described["digest"]} in pinned


def blob(blobs: Path, described: dict[str, Any]) -> bytes:
    algorithm, digest = described["digest"].split(":")
    content: bytes = (blobs / algorithm / digest).read_bytes()
    assert hashlib.new(algorithm, content).hexdigest() == digest
    assert len(content) == described["size"]
    return content


def test_the_same_source_gives_the_same_bytes(built: Path, tmp_path: Path) -> None:
    build.build_all(tmp_path / "mirror", tmp_path / "pins.yml", tmp_path / "images")
    assert digests(tmp_path) == digests(built)


def test_an_unchanged_artefact_is_not_written_again(built: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in built.rglob("*")}
    build.build_all(built / "mirror", built / "pins.yml", built / "images")
    assert {path: path.stat().st_mtime_ns for path in built.rglob("*")} == before


def test_a_tampered_archive_contradicts_its_checksum_file(tmp_path: Path) -> None:
    release = build.releases()["erigon"]
    build.build("erigon", release, tmp_path / "mirror", tmp_path / "images", tampered=True)
    digest = place(tmp_path, release, "checksums").read_text().split()[0]
    assert hashlib.sha256(place(tmp_path, release, "source").read_bytes()).hexdigest() != digest


def test_an_image_cannot_be_tampered_with(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^op-node: an image has no checksum file"):
        build.build("op-node", build.releases()["op-node"], tmp_path, tmp_path, tampered=True)
