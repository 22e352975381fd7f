"""Publish a small program in every form that upstreams use: run on the scenario's host, and for its wheelhouse on the controller.

artefacts.py publish DIRECTORY      archives, packages and checksums below DIRECTORY/<host>, an OCI layout, and pins.json
artefacts.py controller DIRECTORY   a wheelhouse and a plain directory
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import lzma
import platform
import random
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
UPSTREAM = "upstream.test"
MIRROR = f"mirror.test/{UPSTREAM}"
# The mirror lacks this one, so that upstream is asked.
UPSTREAM_ONLY = "1.2.0"
BAD = "2.0.0"
INCOMPLETE = "2.1.0"
SWELLING = "2.2.0"
LARGE = "1.3.0"
LARGE_BYTES = 6 << 20
VERSIONS = ["1.0.0", "1.1.0", UPSTREAM_ONLY, LARGE, "1.4.0", BAD, INCOMPLETE, SWELLING]
PROGRAM = """#!/bin/sh
# {version}
case "$1" in
  serve) {serve} ;;
  ready) echo {version} ;;
esac
"""
Files = dict[str, tuple[bytes, int]]


def program(version: str) -> bytes:
    """The program of a version: the bad one does not come up."""
    serve = "echo 'the database has an unknown format' >&2; exit 1" if version == BAD else "exec sleep infinity"
    return PROGRAM.format(version=version, serve=serve).encode()


def tar(files: Files, links: dict[str, str] | None = None) -> bytes:
    """An uncompressed tar archive; a path that ends in a slash is a directory."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, (content, mode) in files.items():
            member = tarfile.TarInfo(name.rstrip("/"))
            member.mode, member.uid, member.gid, member.uname = mode, 1000, 1000, "builder"
            member.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    return buffer.getvalue()


def compressed(version: str, data: bytes) -> bytes:
    """Every compression once."""
    if version == "1.1.0":
        return lzma.compress(data, preset=0)
    if version == UPSTREAM_ONLY:
        return subprocess.run(["zstd", "-qc"], input=data, check=True, capture_output=True).stdout
    return gzip.compress(data, mtime=0)


def archives(root: Path) -> None:
    """tool-tar, with one list of checksums a version as Erigon has it."""
    for version in VERSIONS:
        top = f"tool-tar_v{version}_linux_{ARCHITECTURE}"
        name = "tool" if version != INCOMPLETE else "tool-of-another-name"
        files: Files = {f"{top}/": (b"", 0o755), f"{top}/{name}": (program(version), 0o6755)}
        files[f"{top}/share/"] = (b"", 0o700)
        files[f"{top}/share/notes"] = (b"notes\n", 0o600)
        if version == LARGE:
            files[f"{top}/share/random"] = (random.Random(1).randbytes(LARGE_BYTES), 0o644)  # noqa: S311 - ballast
        if version == SWELLING:
            files[f"{top}/share/zeros"] = (bytes(4 * LARGE_BYTES), 0o644)
        artefact = f"tool-tar_v{version}_linux_{ARCHITECTURE}.tar"
        content = compressed(version, tar(files))
        sums = f"{'0' * 64}  another.tar\n{hashlib.sha256(content).hexdigest()}  {artefact}\n"
        for host in [UPSTREAM] if version == UPSTREAM_ONLY else [UPSTREAM, MIRROR]:
            directory = root / host / "tool-tar" / f"v{version}"
            directory.mkdir(parents=True)
            (directory / artefact).write_bytes(content)
            (directory / "checksums.txt").write_text(sums)


def package(root: Path) -> None:
    """tool-deb, with a bare checksum beside it as Bor has it, and a maintainer script that must never run."""
    tree = root / "package"
    for name, text, mode in [
        ("DEBIAN/control", f"Package: tool-deb\nVersion: 1.0.0\nArchitecture: {ARCHITECTURE}\nMaintainer: n <n@example.com>\nDescription: x\n", 0o644),
        ("DEBIAN/postinst", "#!/bin/sh\ntouch /maintainer-script-ran\n", 0o755),
        ("usr/bin/tool", program("1.0.0").decode(), 0o755),
    ]:  # fmt: skip
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
        (tree / name).chmod(mode)
    directory = root / MIRROR / "tool-deb" / "v1.0.0"
    directory.mkdir(parents=True)
    file = directory / f"tool-deb-v1.0.0-{ARCHITECTURE}.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", str(tree), str(file)], check=True, capture_output=True)
    shutil.rmtree(tree)
    file.with_name(file.name + ".checksum").write_text(hashlib.sha256(file.read_bytes()).hexdigest() + "\n")


def image(root: Path) -> str:
    """tool-oci as an OCI layout behind an index; its upper layer replaces the program and whites files out. Returns the index' digest."""
    layout = root / "oci"
    (layout / "blobs" / "sha256").mkdir(parents=True)

    def blob(content: bytes) -> tuple[str, int]:
        digest = hashlib.sha256(content).hexdigest()
        (layout / "blobs" / "sha256" / digest).write_bytes(content)
        return f"sha256:{digest}", len(content)

    lower = tar(
        {
            "usr/local/bin/tool-1": (b"an older program", 0o755),
            "home/user/target/machines/0xold/machine": (b"old", 0o644),
            "home/user/target/machines/0xnew/machine": (b"lower", 0o644),
        }
    )
    upper = tar(
        {
            "usr/local/bin/tool-1": (program("1.0.0"), 0o4755),
            "home/user/target/machines/.wh.0xold": (b"", 0o644),
            "home/user/target/machines/0xnew/machine": (b"new", 0o644),
        },
        {"usr/local/bin/tool": "tool-1", "home/user/target/machines/latest": "0xnew"},
    )
    layers = []
    for content in (gzip.compress(lower, mtime=0), compressed(UPSTREAM_ONLY, upper)):
        digest, size = blob(content)
        kind = "tar+zstd" if content[:4] == b"\x28\xb5\x2f\xfd" else "tar+gzip"
        layers.append({"mediaType": f"application/vnd.oci.image.layer.v1.{kind}", "digest": digest, "size": size})
    ids = [f"sha256:{hashlib.sha256(content).hexdigest()}" for content in (lower, upper)]
    digest, size = blob(
        json.dumps(
            {"architecture": ARCHITECTURE, "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": ids}}
        ).encode()
    )
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": size},
        "layers": layers,
    }
    digest, size = blob(json.dumps(manifest).encode())
    entry = {
        "mediaType": manifest["mediaType"],
        "digest": digest,
        "size": size,
        "platform": {"os": "linux", "architecture": ARCHITECTURE},
    }
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry]}
    digest, size = blob(json.dumps(index).encode())
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    top = {"schemaVersion": 2, "manifests": [{"mediaType": index["mediaType"], "digest": digest, "size": size}]}
    (layout / "index.json").write_text(json.dumps(top))
    return digest


def wheelhouse(directory: Path) -> None:
    """tool-venv: one pure wheel with a console script, and requirements with its hash."""
    directory.mkdir(parents=True)
    wheel = directory / "tool_venv-1.0.0-py3-none-any.whl"
    files = {
        "tool_venv/__init__.py": 'def main():\n    print("1.0.0")\n',
        "tool_venv-1.0.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: tool-venv\nVersion: 1.0.0\n",
        "tool_venv-1.0.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "tool_venv-1.0.0.dist-info/entry_points.txt": "[console_scripts]\ntool = tool_venv:main\n",
    }
    files["tool_venv-1.0.0.dist-info/RECORD"] = "".join(f"{name},,\n" for name in files)
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name), text)
    checksum = hashlib.sha256(wheel.read_bytes()).hexdigest()
    (directory / "requirements.txt").write_text(f"tool-venv==1.0.0 --hash=sha256:{checksum}\n")


def plain_directory(directory: Path) -> None:
    """tool-dir: a program and a file beside it."""
    (directory / "bin").mkdir(parents=True)
    (directory / "bin" / "tool").write_bytes(program("1.0.0"))
    (directory / "bin" / "tool").chmod(0o700)
    (directory / "notes").write_text("notes\n")


def main() -> None:
    """Make everything anew."""
    what, root = sys.argv[1], Path(sys.argv[2])
    shutil.rmtree(root, ignore_errors=True)
    if what == "controller":
        wheelhouse(root / "wheelhouse")
        plain_directory(root / "directory")
        return
    archives(root)
    package(root)
    pins = {"tool-oci": {platform.machine(): image(root)}}
    (root / "pins.json").write_text(json.dumps(pins))


if __name__ == "__main__":
    main()
