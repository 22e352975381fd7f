"""Serve files over HTTPS as a mirror and as upstream, with the faults that faults.json asks for; on the scenario's host.

origin.py ROOT CERTIFICATE KEY

Files stand in ROOT/<host>/<path>. ROOT/faults.json maps "<host>/<path>" to {"cut_after": bytes a connection}, {"status": code},
{"tampered": true} or {"no_length": true}. Every answer is one line of ROOT/requests.jsonl.
"""

from __future__ import annotations

import hashlib
import http.server
import json
import ssl
import sys
from pathlib import Path
from typing import Any

ROOT = Path(sys.argv[1])


class Origin(http.server.BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Serve a file, whole or from a byte on."""
        name = f"{self.headers['Host'].split(':')[0]}{self.path}"
        fault = self.fault(name)
        file = ROOT / name
        if "status" in fault or not file.is_file():
            self.answer(name, fault.get("status", 404), b"", {})
            return
        content = file.read_bytes()
        if fault.get("tampered"):
            content = content[:-1] + bytes([content[-1] ^ 1])
        tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        if start and self.headers.get("If-Range", tag) == tag:
            headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}", "ETag": tag}
            self.answer(name, 206, content[start:], headers, fault)
        else:
            self.answer(name, 200, content, {"ETag": tag}, fault)

    def answer(
        self, name: str, status: int, body: bytes, headers: dict[str, str], fault: dict[str, Any] | None = None
    ) -> None:
        """Send and note one answer."""
        fault = fault or {}
        self.send_response(status)
        for header, value in headers.items():
            self.send_header(header, value)
        if fault.get("no_length"):
            self.close_connection = True
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        sent = body[: fault["cut_after"]] if "cut_after" in fault else body
        with (ROOT / "requests.jsonl").open("a") as log:
            entry = {"file": name, "status": status, "range": self.headers.get("Range", ""), "bytes": len(sent)}
            log.write(json.dumps(entry) + "\n")
        self.wfile.write(sent)
        if len(sent) < len(body):
            self.close_connection = True

    def fault(self, name: str) -> dict[str, Any]:
        """What goes wrong with a file just now."""
        faults: dict[str, dict[str, Any]] = json.loads((ROOT / "faults.json").read_text())
        return faults.get(name, {})

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Keep the journal quiet; requests.jsonl has it."""


def main() -> None:
    """Serve until stopped."""
    (ROOT / "faults.json").write_text("{}")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 443), Origin)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2], sys.argv[3])
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
