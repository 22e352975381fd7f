"""Nodes of the tests' own: real HTTP servers that say what a test wants them to say."""

import json
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Fake(ThreadingHTTPServer):
    """A node that says what a test wants it to say: `methods` by JSON-RPC method, `pages` by path, `raw` byte for byte."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.methods: dict[str, Any] = {}
        self.pages: dict[str, tuple[int, bytes]] = {}
        self.raw: Callable[[Handler], None] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def on_chain(self, chain_id: int, *, head: int = 100, age: float = 0, syncing: Any = False) -> None:
        """Be at a head that is `age` seconds old whenever it is looked at."""
        self.methods = {
            "eth_chainId": hex(chain_id),
            "eth_syncing": syncing,
            "eth_getBlockByNumber": lambda: {"number": hex(head), "timestamp": hex(int(time.time() - age))},
        }

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is part of these tests."""


class Handler(BaseHTTPRequestHandler):
    server: Fake

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.raw:
            self.server.raw(self)
            return
        answer: dict[str, Any] = {"jsonrpc": "2.0", "id": body["id"]}
        result = self.server.methods.get(body["method"], LookupError)
        if result is LookupError:
            answer["error"] = {"code": -32601, "message": "method not found"}
        else:
            answer["result"] = result() if callable(result) else result
        self.reply(200, json.dumps(answer).encode())

    def do_GET(self) -> None:
        if self.server.raw:
            self.server.raw(self)
            return
        page = self.server.pages.get(self.path, (404, b""))
        self.reply(*page)

    def reply(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass
