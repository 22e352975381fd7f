"""Keep an eye on nodes for as long as they answer, and tell systemd what is seen."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass, field

from node_health.config import Node, Pair, nodes_of
from node_health.judge import Judge, State, Verdict

GRACE_SECONDS = 30.0
WRONG_CHAIN_EXIT = 3


def notify(*assignments: str) -> None:
    """Tell the service manager, where there is one; see sd_notify(3)."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        link.connect("\0" + address[1:] if address.startswith("@") else address)
        link.sendall("\n".join(assignments).encode())


@dataclass
class Watch:
    """A watch over a node or a pair; it ends when one of them has been away for longer than the grace time."""

    subject: Node | Pair
    interval: float
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> int:
        """Watch until told to stop (exit 0), until a node is away too long (1) or on the wrong chain (3)."""
        judges = [Judge(node, expected_up=False) for node in nodes_of(self.subject)]
        grace = self.subject.grace_seconds if isinstance(self.subject, Pair) else GRACE_SECONDS
        last_answer = dict.fromkeys((judge.node.name for judge in judges), time.monotonic())
        ready = False
        last_words = ""
        while not self.stop.is_set():
            verdicts = [judge.look(time.time()) for judge in judges]
            now = time.monotonic()
            last_answer.update({verdict.name: now for verdict in verdicts if verdict.answering})
            # Only READY ends systemd's patience with a start; from then on the grace time counts.
            if not ready and all(verdict.answering for verdict in verdicts):
                ready = True
                notify("READY=1")
            notify(f"STATUS={status(verdicts)}", "WATCHDOG=1")
            last_words = say_changes(verdicts, last_words)
            for verdict in verdicts:
                if verdict.state is State.WRONG_CHAIN:
                    return self.fail(str(verdict), WRONG_CHAIN_EXIT)
                away = now - last_answer[verdict.name]
                if ready and away > grace:
                    return self.fail(f"{verdict}; away for {away:.0f} s, {grace:g} s allowed", 1)
            self.stop.wait(self.interval)
        notify("STOPPING=1")
        return 0

    def fail(self, reason: str, code: int) -> int:
        """Say why the watch ends."""
        notify(f"STATUS={reason}")
        sys.stderr.write(f"{self.subject.name}: {reason}\n")
        return code


def status(verdicts: list[Verdict]) -> str:
    """Put all verdicts into the one line that `systemctl status` shows."""
    return " | ".join(f"{verdict.name} {verdict.state} ({verdict.detail})" for verdict in verdicts)


def say_changes(verdicts: list[Verdict], last_words: str) -> str:
    """Write a line where a state differs from the line before; give the words to compare with next time."""
    words = ", ".join(f"{verdict.name} {verdict.state}" for verdict in verdicts)
    if words != last_words:
        sys.stdout.write(f"{status(verdicts)}\n")
        sys.stdout.flush()
    return words


def watch(subject: Node | Pair, interval: float) -> int:
    """Watch until SIGTERM or SIGINT, or until something is wrong; give the exit status."""
    watcher = Watch(subject, interval)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: watcher.stop.set())
    return watcher.run()
