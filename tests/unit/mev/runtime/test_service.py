"""An agent's life as systemd sees it: a real process, a real notification socket, real signals."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from mev.runtime import service
from mev.runtime.service import notify, watchdog_seconds

PATIENCE_SECONDS = 120


class Systemd:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.settimeout(PATIENCE_SECONDS)

    def hear(self) -> list[str]:
        return self.socket.recv(4096).decode().split("\n")


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    listener = Systemd(f"@mev-test-{os.getpid()}" if request.param == "abstract" else str(tmp_path / "notify"))
    yield listener
    listener.socket.close()


@contextmanager
def agent(systemd: Systemd, body: str, options: str = "", **environment: str) -> Iterator[subprocess.Popen[str]]:
    program = "import asyncio, sys\nfrom mev.runtime.service import serve\nasync def main(service):\n"
    program += textwrap.indent(textwrap.dedent(body).strip(), "    ") + f"\nsys.exit(serve(main{options}))\n"
    variables = {**os.environ, "NOTIFY_SOCKET": systemd.address, "PYTHONPATH": os.pathsep.join(sys.path), **environment}
    with subprocess.Popen([sys.executable, "-c", program], env=variables, stdout=subprocess.PIPE, text=True) as running:
        try:
            yield running
        finally:
            running.kill()


WORK = """
service.ready("6 chains\\nare read")
await service.stopping.wait()
service.status("closing")
print("closed", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ready_then_a_graceful_end(systemd: Systemd, number: signal.Signals) -> None:
    with agent(systemd, WORK) as running:
        assert systemd.hear() == ["READY=1", "STATUS=6 chains are read"]
        running.send_signal(number)
        assert {tuple(systemd.hear()), tuple(systemd.hear())} == {("STOPPING=1",), ("STATUS=closing",)}
        output, _ = running.communicate(timeout=PATIENCE_SECONDS)
        assert (running.returncode, output) == (0, "closed\n")


def test_what_does_not_stop_is_cancelled(systemd: Systemd) -> None:
    stubborn = """
    service.ready("deaf")
    try:
        await asyncio.sleep(3600)
    finally:
        print("cleaned up", flush=True)
    """
    with agent(systemd, stubborn, ", stop_seconds=0.2") as running:
        systemd.hear()
        running.send_signal(signal.SIGTERM)
        output, _ = running.communicate(timeout=PATIENCE_SECONDS)
        assert running.returncode == 0
        assert output.endswith("cleaned up\n")


def test_a_failure_is_logged_and_is_the_exit_code(systemd: Systemd) -> None:
    with agent(systemd, "raise RuntimeError('no market')") as running:
        output, _ = running.communicate(timeout=PATIENCE_SECONDS)
        assert running.returncode == 1
        assert "no market" in output


def test_signs_of_life_come_twice_as_often_as_asked(systemd: Systemd) -> None:
    with agent(systemd, WORK, WATCHDOG_USEC="200000") as running:
        heard = [systemd.hear() for _ in range(6)]
        assert heard.count(["WATCHDOG=1"]) >= 4
        running.send_signal(signal.SIGTERM)
        assert running.wait(timeout=PATIENCE_SECONDS) == 0


def test_an_agent_that_is_not_healthy_gives_no_sign(systemd: Systemd) -> None:
    sick = """
    service.watch(lambda: False)
    service.ready("sick")
    await asyncio.sleep(0.5)
    """
    with agent(systemd, sick, WATCHDOG_USEC="100000") as running:
        running.wait(timeout=PATIENCE_SECONDS)
    systemd.socket.setblocking(False)
    heard = []
    while True:
        try:
            heard.append(systemd.hear())
        except BlockingIOError:
            break
    assert ["READY=1", "STATUS=sick"] in heard
    assert ["WATCHDOG=1"] not in heard


def test_a_manager_that_reads_nothing_holds_nobody_up(
    systemd: Systemd, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    address = "\0" + systemd.address[1:] if systemd.address.startswith("@") else systemd.address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as others:
        others.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                others.sendto(b"STATUS=x", address)
    monkeypatch.setenv("NOTIFY_SOCKET", systemd.address)
    monkeypatch.setattr(service, "NOTIFY_SECONDS", 0.01)
    notify("WATCHDOG=1")
    assert "systemd was not notified" in capsys.readouterr().out
    systemd.hear()
    notify("WATCHDOG=1")
    assert "not notified" not in capsys.readouterr().out


def test_without_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody-listens"))
    notify("READY=1")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_how_often_systemd_wants_to_hear(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: float | None
) -> None:
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert watchdog_seconds() == expected
