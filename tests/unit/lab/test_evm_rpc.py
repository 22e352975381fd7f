"""How a chain of a test's own is spoken to: by several threads, and until a block has what was sent."""

from __future__ import annotations

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from lab.errors import LabError
from lab.evm import devnode
from lab.evm.rpc import Rpc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CALLS = 50
THREADS = 4


class Node:
    """Answers what `answer` says, over HTTP; `asked` has the methods, in their order."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer: Callable[[str, list[Any]], Any] = lambda _, params: params
        node = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Head and body in one piece: of two the second waits for the first one's acknowledgement.
            wbufsize = -1

            def do_POST(self) -> None:
                calls = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                node.asked += [call["method"] for call in calls]
                said = [{"id": call["id"], "result": node.answer(call["method"], call["params"])} for call in calls]
                content = json.dumps(said).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def node() -> Iterator[Node]:
    made = Node()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def rpc(node: Node) -> Iterator[Rpc]:
    made = Rpc(f"http://127.0.0.1:{node.server.server_port}")
    yield made
    made.close()


def test_several_threads_have_each_their_own_answers(rpc: Rpc) -> None:
    def asks(number: int) -> bool:
        return all(rpc.call("echo", number, at) == [number, at] for at in range(CALLS))

    with ThreadPoolExecutor(THREADS) as threads:
        assert all(threads.map(asks, range(THREADS)))


def test_a_block_that_comes_by_itself_is_waited_for_and_none_mined_beside_it(node: Node, rpc: Rpc) -> None:
    def answer(method: str, _: list[Any]) -> Any:
        if method == "anvil_getAutomine":
            return True
        return {"status": "0x1"} if node.asked.count("eth_getTransactionReceipt") > 20 else None

    node.answer = answer
    assert devnode.receipt(rpc, "0x01") == {"status": "0x1"}
    assert "evm_mine" not in node.asked


def test_where_no_block_comes_by_itself_one_is_mined(node: Node, rpc: Rpc) -> None:
    def answer(method: str, _: list[Any]) -> Any:
        if method == "eth_getTransactionReceipt":
            return {"status": "0x1"} if node.asked.count("evm_mine") > 1 else None
        return False

    node.answer = answer
    assert devnode.receipt(rpc, "0x01") == {"status": "0x1"}
    assert node.asked.count("evm_mine") == 2


def test_what_no_block_takes_is_named(node: Node, rpc: Rpc, monkeypatch: pytest.MonkeyPatch) -> None:
    node.answer = lambda method, _: True if method == "anvil_getAutomine" else None
    monkeypatch.setattr(devnode, "_RECEIPT_SECONDS", 0)
    with pytest.raises(LabError, match="has 0x01 in no block after 0 s"):
        devnode.receipt(rpc, "0x01")


def test_a_port_that_is_taken_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    port = devnode.free_port()
    monkeypatch.setattr(devnode, "_PORTS", range(port, port + 1))
    assert devnode.free_port() == port
    with socket.create_server(("127.0.0.1", port)), pytest.raises(LabError, match=f"no port from {port} to {port} "):
        devnode.free_port()
