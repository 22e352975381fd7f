"""A chain's data path, archives, and a server of them over real HTTPS with the faults that a test wants."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.https import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

FILES = Path(__file__).parents[3] / "files"
DATABASE = {"bor/chaindata/000001.sst": os.urandom(300_000), "bor/chaindata/CURRENT": b"000001\n", "bor/nodes/x": b"x"}


@dataclass
class Origin:
    """Files by name, what goes wrong with each, and how often each was asked for."""

    port: int = 0
    files: dict[str, bytes] = field(default_factory=dict)
    cut_after: dict[str, list[int]] = field(default_factory=dict)
    statuses: dict[str, list[int]] = field(default_factory=dict)
    changed: dict[str, int] = field(default_factory=dict)
    without_length: set[str] = field(default_factory=set)
    asked: list[tuple[str, str, str]] = field(default_factory=list)

    def url(self, name: str) -> str:
        return f"https://localhost:{self.port}/{name}"


@pytest.fixture
def origin(certificates: Path) -> Iterator[Origin]:
    told = Origin()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            name = self.path.lstrip("/")
            told.asked.append((self.command, name, self.headers.get("Range", "")))
            if body and told.statuses.get(name):
                self.send_response(told.statuses[name].pop(0))
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            content = told.files[name]
            if body and told.changed.get(name):
                told.changed[name] -= 1
                content = content[:-1] + bytes([content[-1] ^ 1])
            start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            if name in told.without_length:
                self.close_connection = True
                self.send_header("Connection", "close")
            else:
                self.send_header("Content-Length", str(len(content) - start))
            self.send_header("Accept-Ranges", "bytes")
            self.end_headers()
            if body:
                cuts = told.cut_after.get(name)
                sent = content[start:]
                if cuts:
                    sent = sent[: cuts.pop(0)]
                    self.close_connection = True
                self.wfile.write(sent)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
            """The test asks `asked`."""

    with serving(Handler, certificates) as told.port:
        yield told


def tree(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def archive(root: Path, packer: str = "zstd") -> bytes:
    """A tar archive of what is below `root`, packed."""
    packed = subprocess.run(["tar", "--create", f"--directory={root}", "."], check=True, capture_output=True).stdout
    if not packer:
        return packed
    return subprocess.run([packer, "-c"], input=packed, check=True, capture_output=True).stdout


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass
class Site:
    """One chain's data path, the plan, and the program run on it as a host runs it."""

    root: Path
    origin: Origin
    ca: Path
    plan: dict[str, Any]

    @property
    def target(self) -> Path:
        return self.root / "bor" / "data"

    @property
    def staging(self) -> Path:
        return self.root / ".snapshot" / "polygon-bor"

    @property
    def record(self) -> Path:
        return self.staging / "done.json"

    def serve(self, *parts: bytes, joined: bool = False) -> None:
        names = [f"bor.tar.part-{number:03d}" for number in range(len(parts))]
        self.origin.files.update(zip(names, parts, strict=True))
        self.plan["joined"] = joined
        self.plan["parts"] = [
            {"url": self.origin.url(name), "sha256": sha256(part)} for name, part in zip(names, parts, strict=True)
        ]

    def start(self, kill_before: str = "", **changes: Any) -> subprocess.Popen[str]:
        self.plan |= changes
        path = self.root / "plan.json"
        path.write_text(json.dumps(self.plan))
        launcher = (
            "import sys; from snapshot import fetch; fetch.CERTIFICATES = sys.argv.pop(1); "
            + (
                f"from snapshot import place; import os; place.{kill_before} = lambda plan: os.kill(os.getpid(), 9); "
                if kill_before
                else ""
            )
            + "from snapshot.__main__ import main; sys.exit(main())"
        )
        return subprocess.Popen(
            [sys.executable, "-c", launcher, str(self.ca), "--plan", str(path)],
            env={**os.environ, "PYTHONPATH": str(FILES), "SSL_CERT_FILE": str(self.ca)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, kill_before: str = "", **changes: Any) -> tuple[int, str]:
        """Its exit status and what it complains of; `kill_before` names a step of place.py that it does not live to see."""
        running = self.start(kill_before, **changes)
        _, complaint = running.communicate(timeout=120)
        return running.returncode, complaint

    def data(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.target)): path.read_bytes() for path in self.target.rglob("*") if path.is_file()
        }


@pytest.fixture
def site(tmp_path: Path, origin: Origin, certificates: Path) -> Site:
    for program in ("aria2c", "zstd", "lz4"):
        assert shutil.which(program), f"{program} is missing: lab/prerequisites.sh installs it"
    root = tmp_path / "polygon"
    site = Site(root, origin, certificates / "ca.crt", {})
    site.target.mkdir(parents=True)
    site.target.chmod(0o750)
    site.plan = {
        "target": str(site.target),
        "staging": str(site.staging),
        "command": [],
        "strip": 0,
        "requires": ["bor/chaindata"],
        "unpacked_bytes": 1_000_000,
        "spare_bytes": 1_000_000,
        "replace": False,
        "root_allowed": True,
        "downloads": 2,
        "connections": 2,
        "attempts": 3,
    }
    return site


@pytest.fixture
def packed(tmp_path: Path) -> bytes:
    return archive(tree(tmp_path / "source", DATABASE))
