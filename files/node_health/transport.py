"""One HTTP exchange with a program that may be slow, verbose or hostile: bounded in time and size, JSON or an error."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

MAX_BODY_BYTES = 1 << 20
MAX_BRACKETS = 500


class ProbeError(Exception):
    """A node could not be understood; the message says what it did.

    `answered` is true where something on the port spoke HTTP, so that a program that is still starting is told from none.
    """

    def __init__(self, message: str, *, answered: bool) -> None:
        super().__init__(message)
        self.answered = answered


@dataclass(frozen=True)
class Budget:
    """The time that one look at a node may take, over all its exchanges."""

    deadline: float

    @classmethod
    def of(cls, seconds: float) -> Budget:
        """Start a budget now."""
        return cls(time.monotonic() + seconds)

    def left(self) -> float:
        """Seconds left; raises ProbeError where there are none."""
        seconds = self.deadline - time.monotonic()
        if seconds <= 0:
            raise ProbeError("no answer in time", answered=False)
        return seconds


def call(url: str, method: str, params: list[object], budget: Budget) -> object:
    """Call a JSON-RPC method and give its result, of whatever type."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    status, answer = _exchange(url, "POST", body, {"Content-Type": "application/json"}, budget)
    data = _decode(answer, status)
    if not isinstance(data, dict):
        raise ProbeError(f"answers {method} with a JSON {type(data).__name__}", answered=True)
    if data.get("error") is not None:
        raise ProbeError(f"answers {method} with the error {_brief(data['error'])}", answered=True)
    if status != http.HTTPStatus.OK or "result" not in data:
        raise ProbeError(f"answers {method} with HTTP status {status} and no result", answered=True)
    return data["result"]


def get(url: str, path: str, budget: Budget, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    """Read a page: its HTTP status and its body."""
    return _exchange(url, "GET", None, headers or {}, budget, path=path)


def get_json(url: str, path: str, budget: Budget) -> object:
    """Read a page of JSON."""
    status, body = get(url, path, budget)
    if status != http.HTTPStatus.OK:
        raise ProbeError(f"answers {path} with HTTP status {status}", answered=True)
    return _decode(body, status)


def _exchange(
    url: str, method: str, body: bytes | None, headers: dict[str, str], budget: Budget, path: str | None = None
) -> tuple[int, bytes]:
    parts = urlsplit(url)
    target = path if path is not None else (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context()
        connection = http.client.HTTPSConnection(
            str(parts.hostname), parts.port, timeout=budget.left(), context=context
        )
    else:
        connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=budget.left())
    try:
        _connect(connection)
        with _cut_off(connection, budget):
            try:
                connection.request(method, target, body, {"Connection": "close", **headers})
                response = connection.getresponse()
                content = response.read(MAX_BODY_BYTES + 1)
            except (OSError, http.client.HTTPException, ValueError) as error:
                budget.left()
                raise ProbeError(f"breaks off its answer: {_reason(error)}", answered=False) from error
        if len(content) > MAX_BODY_BYTES:
            raise ProbeError(f"answers with more than {MAX_BODY_BYTES} bytes", answered=True)
        budget.left()
        return response.status, content
    finally:
        connection.close()


def _connect(connection: http.client.HTTPConnection) -> None:
    try:
        connection.connect()
    except (OSError, UnicodeError) as error:
        raise ProbeError(f"cannot be reached: {_reason(error)}", answered=False) from error


@contextlib.contextmanager
def _cut_off(connection: http.client.HTTPConnection, budget: Budget) -> Iterator[None]:
    """Shut the socket down when the budget ends: a socket's own timeout starts anew with each byte."""
    link = connection.sock

    def shut() -> None:
        with contextlib.suppress(OSError):
            link.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(budget.left(), shut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _decode(body: bytes, status: int) -> object:
    # The parser recurses in C, and the interpreter's own limit is not one to lean on. Counting brackets in strings too
    # only refuses what no node answers.
    if body.count(b"[") + body.count(b"{") > MAX_BRACKETS:
        raise ProbeError(f"answers HTTP status {status} with a structure beyond {MAX_BRACKETS} brackets", answered=True)
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ProbeError(f"answers HTTP status {status} with something that is not JSON", answered=True) from error


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return (str(error) or type(error).__name__).splitlines()[0][:200]


def _brief(error: object) -> str:
    message = error.get("message") if isinstance(error, dict) else error
    return ascii(message)[:200]
