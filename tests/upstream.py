"""What upstream is to a test: files and images over real HTTPS, and a key that signs them."""

from __future__ import annotations

import http.server
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.https import serving


@dataclass
class Upstream:
    """Files by path with their headers, an address, and the token that a path wants of its callers."""

    base: str
    files: dict[str, bytes] = field(default_factory=dict)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)


@contextmanager
def publishing(certificates: Path) -> Iterator[Upstream]:
    """An upstream on localhost; `certificates` is the fixture of that name."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            body, status, headers = told.files.get(path, b""), 200 if path in told.files else 404, {}
            wanted = told.tokens.get(path)
            if wanted and self.headers.get("Authorization") != f"Bearer {wanted}":
                challenge = f'Bearer realm="{told.base}/token",service="registry",scope="repository:any:pull"'
                body, status, headers = b"", 401, {"WWW-Authenticate": challenge}
            self.send_response(status)
            for name, value in {**told.headers.get(path, {}), **headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
            """Nobody reads it."""

    told = Upstream("")
    with serving(Handler, certificates) as port:
        told.base = f"https://localhost:{port}"
        yield told


class Key:
    """An OpenPGP key of its own, made by gpg itself."""

    def __init__(self, home: Path, name: str) -> None:
        home.mkdir(mode=0o700)
        self.gpg = ["gpg", "--homedir", str(home), "--batch", "--passphrase", "", "--pinentry-mode", "loopback"]
        self._run("--quick-generate-key", f"{name}@example.com", "ed25519", "sign", "never")
        self.file = home / "public.asc"
        self.file.write_bytes(self._run("--armor", "--export"))
        listed = self._run("--with-colons", "--list-keys").decode()
        self.fingerprint = next(line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr:"))

    def sign(self, data: bytes) -> bytes:
        """The detached signature, armoured."""
        return self._run("--armor", "--detach-sign", "--output", "-", told=data)

    def _run(self, *arguments: str, told: bytes = b"") -> bytes:
        return subprocess.run([*self.gpg, *arguments], input=told, capture_output=True, check=True).stdout
