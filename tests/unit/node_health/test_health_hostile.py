"""Whatever a node sends, the judge answers with a state, in bounded time and memory."""

import contextlib
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from node_health.config import Kind, Node
from node_health.judge import ANSWERING, Judge, State

from tests.unit.node_health.fake_node import Fake, Handler

Make = Callable[..., Node]

JUNK: list[Any] = [
    None,
    True,
    7,
    -1,
    1.5,
    10**400,
    "",
    "0x",
    "0x" + "f" * 5000,
    "10",
    "0xzz",
    [],
    {},
    {"number": {}},
    {"number": "0x1"},
    {"number": "0x1", "timestamp": "0x" + "f" * 16},
    {"number": "0x1", "timestamp": None},
]


@pytest.mark.parametrize("method", ["eth_chainId", "eth_syncing", "eth_getBlockByNumber"])
@pytest.mark.parametrize("junk", JUNK, ids=lambda junk: repr(junk)[:30])
def test_a_wrong_type_never_counts_as_in_step_and_never_crashes(fake: Fake, node: Make, method: str, junk: Any) -> None:
    fake.on_chain(10, age=1000)
    fake.methods[method] = junk
    assert Judge(node()).look(time.time()).state is not State.IN_STEP


@pytest.mark.parametrize("junk", JUNK, ids=lambda junk: repr(junk)[:30])
def test_op_node_junk_never_crashes(fake: Fake, node: Make, junk: Any) -> None:
    fake.methods = {"optimism_syncStatus": {"unsafe_l2": junk}, "optimism_rollupConfig": junk}
    assert Judge(node(Kind.OP_NODE)).look(time.time()).state not in ANSWERING


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(body=st.binary(max_size=300))
def test_any_bytes_for_a_page_are_no_crash(fake: Fake, node: Make, body: bytes) -> None:
    fake.pages["/status"] = (200, body)
    assert Judge(node(Kind.HEIMDALL)).look(time.time()).state not in ANSWERING


def endless(handler: Handler) -> None:
    handler.send_response(200)
    handler.end_headers()
    with contextlib.suppress(OSError):
        while True:
            handler.wfile.write(b" " * 65536)


def dripping(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    with contextlib.suppress(OSError):
        while True:
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.1)


def dripping_headers(handler: Handler) -> None:
    with contextlib.suppress(OSError):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            handler.wfile.write(b"X: y\r\n")
            handler.wfile.flush()
            time.sleep(0.1)


def silent(handler: Handler) -> None:
    # Until the other side has enough of it.
    with contextlib.suppress(OSError):
        handler.rfile.read()


def not_http(handler: Handler) -> None:
    handler.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")


def deep(handler: Handler) -> None:
    handler.reply(200, b"[" * 200_000)


def huge_number(handler: Handler) -> None:
    handler.reply(200, b'{"result": ' + b"9" * 100_000 + b"}")


def hang_up(handler: Handler) -> None:
    handler.connection.close()


@pytest.mark.parametrize(
    "raw",
    [endless, dripping, dripping_headers, silent, not_http, deep, huge_number, hang_up],
    ids=lambda raw: raw.__name__,
)
@pytest.mark.parametrize("kind", [Kind.RETH, Kind.HEIMDALL])
def test_a_hostile_server_costs_no_more_than_its_timeout(
    fake: Fake, node: Make, raw: Callable[[Handler], None], kind: Kind
) -> None:
    fake.raw = raw
    # What drips, floods or is silent never ends by itself: that there is a verdict is what is shown.
    verdict = Judge(node(kind, timeout_seconds=0.5)).look(time.time())
    assert verdict.state in {State.DOWN, State.STARTING}
    assert len(verdict.detail) < 500
    assert verdict.detail.isprintable()
