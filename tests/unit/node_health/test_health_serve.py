"""What is served of every node: JSON for programs, Prometheus' text for monitoring, and it follows the directory."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from node_health.__main__ import main
from node_health.judge import Judge
from node_health.probes import Reading

from lab.evm.devnode import free_port
from tests.unit.node_health.fake_node import Fake

Write = Callable[..., Path]
FILES = Path(__file__).parents[3] / "files"
SECONDS = 120


def until(found: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        value = found()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"{what} did not come within {SECONDS} s")


class Served:
    """The program, serving what lies in one directory."""

    def __init__(self, directory: Path, *options: str) -> None:
        self._port = free_port()
        command = [sys.executable, "-m", "node_health", "serve", "--directory", str(directory), "--interval", "0.05"]
        self.process = subprocess.Popen(
            [*command, *options, "--listen", f"127.0.0.1:{self._port}"], env={**os.environ, "PYTHONPATH": str(FILES)}
        )
        until(lambda: self.get("/health")[0] == 200, "an answer")

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def nodes(self) -> dict[str, dict[str, Any]]:
        return {node["name"]: node for node in json.loads(self.get("/health")[1])["nodes"]}

    def state(self, name: str) -> str:
        return str(self.nodes().get(name, {}).get("state", ""))

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(SECONDS)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    program = Served(tmp_path)
    yield program
    if program.process.poll() is None:
        program.process.kill()
        program.process.wait()


def test_a_node_in_step_is_served_with_its_head_and_as_200(served: Served, config: Write, fake: Fake) -> None:
    fake.on_chain(10, head=7)
    config("one")
    until(lambda: served.state("one") == "in_step", "the state in_step")
    node = served.nodes()["one"]
    assert (node["head"], node["chain_id"]) == (7, 10)
    assert time.time() - node["looked_at"] < SECONDS
    assert served.get("/health/one")[0] == 200


def test_a_node_that_is_not_in_step_answers_503_and_an_unknown_one_404(
    served: Served, config: Write, fake: Fake
) -> None:
    fake.on_chain(1)
    config("one")
    until(lambda: served.state("one") == "wrong_chain", "the state wrong_chain")
    status, text = served.get("/health/one")
    assert (status, json.loads(text)["state"]) == (503, "wrong_chain")
    assert served.get("/health/two") == (404, '{"error": "no such node; allowed: one"}\n')
    assert served.get("/etc/passwd")[0] == 404


def test_a_pair_is_as_its_worst_member(served: Served, config: Write, fake: Fake, second: Fake) -> None:
    fake.on_chain(10)
    second.on_chain(10, age=1e5)
    config("execution")
    config("consensus", rpc=second.url)
    config("both", kind="pair", members=["execution", "consensus"], chain_id=None, rpc=None, allowed_lag_seconds=None)
    until(lambda: served.get("/health/both")[0] == 503, "the pair")
    record = json.loads(served.get("/health/both")[1])
    assert record["state"] == "stuck"
    assert record["detail"].startswith("consensus stuck")


def test_files_that_come_change_go_or_are_broken_are_followed(served: Served, config: Write, fake: Fake) -> None:
    fake.on_chain(10)
    path = config("one")
    until(lambda: served.state("one") == "in_step", "the state in_step")
    config("one", chain_id=11)
    until(lambda: served.state("one") == "wrong_chain", "the state wrong_chain")
    path.write_text("{")
    errors = until(lambda: json.loads(served.get("/health")[1])["errors"], "an error")
    assert errors[0].startswith(f"{path} is not JSON")
    assert "node_health_config_errors 1" in served.get("/metrics")[1]
    path.unlink()
    until(lambda: not json.loads(served.get("/health")[1])["errors"], "no error")
    assert served.nodes() == {}


def test_metrics_hold_each_state_once_and_what_is_known_of_the_head(served: Served, config: Write, fake: Fake) -> None:
    fake.on_chain(10, head=7)
    config("one")
    until(lambda: served.state("one") == "in_step", "the state in_step")
    lines = served.get("/metrics")[1].splitlines()
    states = [line for line in lines if line.startswith('node_health_state{node="one"')]
    assert len(states) == 7
    assert [line for line in states if line.endswith(" 1")] == [
        'node_health_state{node="one",kind="reth",state="in_step"} 1'
    ]
    assert 'node_health_head_block{node="one",kind="reth"} 7' in lines
    assert not [line for line in lines if line.startswith("node_health_sync_seconds_left{")]
    names = {line.split()[2] for line in lines if line.startswith("# TYPE")}
    assert all(line.split("{")[0].split(" ")[0] in names for line in lines if not line.startswith("#"))


def test_a_node_that_hangs_keeps_no_other_waiting(served: Served, config: Write, fake: Fake) -> None:
    fake.on_chain(10)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        config("hangs", rpc=f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_seconds=60)
        config("one")
        until(lambda: served.state("one") == "in_step", "the state in_step")
        assert served.state("hangs") == ""
        looks = served.nodes()["one"]["look_age_seconds"]
        assert 0 <= looks < SECONDS


def test_a_look_takes_no_longer_than_it_may_whatever_the_node_s_file_says(tmp_path: Path, config: Write) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        config("hangs", rpc=f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_seconds=60)
        program = Served(tmp_path, "--timeout", "0.2")
        try:
            until(lambda: program.state("hangs") == "starting", "a state")
        finally:
            program.end()


def test_a_signal_ends_it_cleanly(served: Served) -> None:
    assert served.end() == 0


def test_a_taken_port_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "--directory", str(tmp_path), "--listen", f"127.0.0.1:{port}"]) == 1
    assert capsys.readouterr().out == f"cannot listen on 127.0.0.1:{port}: Address already in use\n"


@pytest.mark.parametrize("listen", ["9110", "localhost:9110", "127.0.0.1:", "127.0.0.1:99999", "::1:9110"])
def test_a_wrong_address_is_refused(tmp_path: Path, listen: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["serve", "--directory", str(tmp_path), "--listen", listen])
    assert "is not an IPv4 address, a colon and a port" in capsys.readouterr().err


def test_the_end_of_a_sync_is_estimated_from_how_fast_the_head_gains_on_the_clock(node: Callable[..., Any]) -> None:
    judge, begun = Judge(node()), 1_800_000_000.0

    def look(after: float, head_time: float) -> float | None:
        return judge.judge(Reading(10, 1, head_time, syncing=True), begun + after).sync_seconds_left

    assert look(0, begun - 10_000) is None
    assert look(5, begun - 9_000) is None
    # 5,000 s of chain in 20 s: 250 a second, of which one is lost to the clock; 5,020 s are left.
    assert look(20, begun - 5_000) == pytest.approx(5_020 / 249, abs=0.1)
    assert look(40, begun - 10_000) is None


def test_a_sync_that_gains_nothing_has_no_estimate(node: Callable[..., Any]) -> None:
    judge, begun = Judge(node()), 1_800_000_000.0
    for after in (0, 20, 40):
        verdict = judge.judge(Reading(10, 1, begun + after - 500, syncing=True), begun + after)
    assert verdict.sync_seconds_left is None
    assert "to go" not in verdict.detail
