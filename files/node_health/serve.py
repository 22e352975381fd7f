"""Look at every node of a host without end and say what is seen: JSON for programs, Prometheus' text format for monitoring."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from node_health import __version__
from node_health.config import ConfigError, Node, Pair, load
from node_health.judge import Judge, State, Verdict, worst
from node_health.watch import notify

REQUEST_SECONDS = 5.0
JSON = "application/json"
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True)
class Look:
    """A verdict, when it was reached (Unix time in seconds), how long the look took (seconds), and which look it was."""

    verdict: Verdict
    at: float
    seconds: float
    number: int


class Looker(threading.Thread):
    """Looks at one node until told to stop; each node has a thread, so that one that hangs keeps no other waiting."""

    def __init__(self, node: Node, interval: float, timeout: float) -> None:
        """Look every `interval` seconds; a look takes `timeout` seconds at most, or the node's own timeout where that is shorter."""
        super().__init__(name=node.name, daemon=True)
        self.node = replace(node, timeout_seconds=min(timeout, node.timeout_seconds))
        self.stop = threading.Event()
        self.last: Look | None = None
        self._interval = interval

    def run(self) -> None:
        """Look, remember, say what has changed."""
        judge = Judge(self.node, expected_up=False)
        number = 0
        while not self.stop.is_set():
            begun, clock = time.time(), time.monotonic()
            verdict = judge.look(begun)
            number += 1
            before = self.last.verdict.state if self.last else None
            self.last = Look(verdict, begun, time.monotonic() - clock, number)
            if verdict.state is not before:
                _say(str(verdict))
            self.stop.wait(self._interval)


@dataclass
class Board:
    """What is known of the nodes whose configuration lies in `directory`; follows the files as they come, change and go."""

    directory: Path
    interval: float
    timeout: float
    errors: dict[Path, str] = field(default_factory=dict)
    _seen: dict[Path, tuple[int, int]] = field(default_factory=dict)
    _pairs: dict[Path, Pair] = field(default_factory=dict)
    _lookers: dict[Path, Looker] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def refresh(self) -> None:
        """Take up what has changed in the directory."""
        found = {}
        for path in sorted(self.directory.glob("*.json")):
            try:
                facts = path.stat()
            except OSError:
                continue  # gone since it was listed
            found[path] = (facts.st_mtime_ns, facts.st_size)
        changed = [path for path in {*found, *self._seen} if found.get(path) != self._seen.get(path)]
        with self._lock:
            for path in changed:
                self._forget(path)
                if path in found:
                    self._take_up(path)
        self._seen = found

    def looks(self) -> list[Look]:
        """The last look at each node that has been looked at, by name."""
        with self._lock:
            looks = [looker.last for looker in self._lookers.values() if looker.last]
        return sorted(looks, key=lambda look: look.verdict.name)

    def pairs(self) -> dict[str, Verdict]:
        """What stands for each pair whose members have all been looked at."""
        verdicts = {look.verdict.name: look.verdict for look in self.looks()}
        with self._lock:
            pairs = list(self._pairs.values())
        return {
            pair.name: worst([verdicts[node.name] for node in pair.members])
            for pair in pairs
            if all(node.name in verdicts for node in pair.members)
        }

    def complete(self) -> bool:
        """Whether every node has been looked at."""
        with self._lock:
            return all(looker.last for looker in self._lookers.values())

    def close(self) -> None:
        """Stop looking."""
        with self._lock:
            for looker in self._lookers.values():
                looker.stop.set()

    def _forget(self, path: Path) -> None:
        self.errors.pop(path, None)
        self._pairs.pop(path, None)
        looker = self._lookers.pop(path, None)
        if looker:
            looker.stop.set()

    def _take_up(self, path: Path) -> None:
        try:
            subject = load(path)
        except ConfigError as error:
            self.errors[path] = str(error)
            _say(str(error))
            return
        if isinstance(subject, Pair):
            self._pairs[path] = subject
        else:
            self._lookers[path] = Looker(subject, self.interval, self.timeout)
            self._lookers[path].start()


def report(board: Board) -> dict[str, Any]:
    """Everything that is known, for programs: {nodes, pairs, errors}; times are Unix seconds.

    `look_age_seconds` is for readers whose clock differs: how long ago the look began that the rest of the record is from.
    """
    now = time.time()
    nodes = [
        {
            **asdict(look.verdict),
            "looked_at": round(look.at, 3),
            "look_seconds": round(look.seconds, 4),
            "look_age_seconds": round(max(0.0, now - look.at), 3),
        }
        for look in board.looks()
    ]
    pairs = [
        {"name": name, "kind": "pair", "state": verdict.state, "detail": str(verdict)}
        for name, verdict in sorted(board.pairs().items())
    ]
    return {"nodes": nodes, "pairs": pairs, "errors": sorted(board.errors.values())}


def metrics(board: Board) -> str:
    """Return everything that is known in Prometheus' text format."""
    looks = board.looks()
    lines: list[str] = []

    def metric(name: str, kind: str, text: str, samples: Iterator[tuple[str, float | int | None]]) -> None:
        lines.extend((f"# HELP {name} {text}", f"# TYPE {name} {kind}"))
        lines.extend(
            f"{name}{{{labels}}} {value}" if labels else f"{name} {value}"
            for labels, value in samples
            if value is not None
        )

    def each(value: str) -> Iterator[tuple[str, float | int | None]]:
        return ((_node(look.verdict), getattr(look.verdict, value)) for look in looks)

    states = [(_node(look.verdict), look.verdict.state) for look in looks]
    states += [(f'node="{name}",kind="pair"', verdict.state) for name, verdict in sorted(board.pairs().items())]
    metric(
        "node_health_state",
        "gauge",
        "1 for the state that the node or pair is in, 0 for the others.",
        ((f'{labels},state="{state}"', int(state is there)) for labels, there in states for state in State),
    )
    metric("node_health_head_block", "gauge", "Number of the newest block that the node has.", each("head"))
    metric("node_health_head_age_seconds", "gauge", "Age of that block.", each("head_age_seconds"))
    metric(
        "node_health_sync_seconds_left",
        "gauge",
        "Estimated time until a syncing node is in step, from how fast its head's time moves.",
        each("sync_seconds_left"),
    )
    metric(
        "node_health_looks_total",
        "counter",
        "Looks at the node.",
        ((_node(look.verdict), look.number) for look in looks),
    )
    metric(
        "node_health_look_seconds",
        "gauge",
        "How long the last look took.",
        ((_node(look.verdict), round(look.seconds, 4)) for look in looks),
    )
    metric(
        "node_health_last_look_timestamp_seconds",
        "gauge",
        "When the node was last looked at.",
        ((_node(look.verdict), round(look.at, 3)) for look in looks),
    )
    metric("node_health_config_errors", "gauge", "Files that cannot be used.", iter([("", len(board.errors))]))
    return "\n".join(lines) + "\n"


def handler(board: Board) -> type[BaseHTTPRequestHandler]:
    """Make what answers a request: /metrics, /health, and /health/NAME (200 in step, 503 otherwise)."""

    class Handler(BaseHTTPRequestHandler):
        timeout = REQUEST_SECONDS
        server_version = f"node-health/{__version__}"
        sys_version = ""

        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            if path == "/metrics":
                self._answer(HTTPStatus.OK, PROMETHEUS, metrics(board))
            elif path == "/health":
                self._answer(HTTPStatus.OK, JSON, json.dumps(report(board)) + "\n")
            elif path.startswith("/health/"):
                self._one(path.removeprefix("/health/"))
            else:
                self._refuse("allowed: /metrics, /health, /health/NAME")

        def _one(self, name: str) -> None:
            known = report(board)
            records = {record["name"]: record for record in [*known["pairs"], *known["nodes"]]}
            if name not in records:
                self._refuse(f"no such node; allowed: {', '.join(sorted(records))}")
                return
            good = records[name]["state"] is State.IN_STEP
            status = HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE
            self._answer(status, JSON, json.dumps(records[name]) + "\n")

        def _refuse(self, sentence: str) -> None:
            self._answer(HTTPStatus.NOT_FOUND, JSON, json.dumps({"error": sentence}) + "\n")

        def _answer(self, status: HTTPStatus, kind: str, text: str) -> None:
            content = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing of each request."""

    return Handler


def serve(directory: Path, address: tuple[str, int], interval: float, timeout: float) -> int:
    """Look and answer until SIGTERM or SIGINT; give the exit status."""
    board, stop = Board(directory, interval, timeout), threading.Event()
    try:
        server = ThreadingHTTPServer(address, handler(board))
    except OSError as error:
        _say(f"cannot listen on {address[0]}:{address[1]}: {error.strerror}")
        return 1
    server.daemon_threads = True
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    threading.Thread(target=server.serve_forever, daemon=True).start()
    ready = False
    while not stop.is_set():
        board.refresh()
        if not ready and board.complete():
            ready = True
            notify("READY=1")
        notify("WATCHDOG=1", f"STATUS={_status(board)}")
        stop.wait(min(interval, 1.0) if ready else 0.05)
    notify("STOPPING=1")
    server.shutdown()
    server.server_close()
    board.close()
    return 0


def _status(board: Board) -> str:
    words = [f"{look.verdict.name} {look.verdict.state}" for look in board.looks()]
    return ", ".join(words) or "no node is configured"


def _node(verdict: Verdict) -> str:
    # Names and kinds are letters, digits, '-', '_' and '.': nothing in them needs to be escaped.
    return f'node="{verdict.name}",kind="{verdict.kind}"'


def _say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()
