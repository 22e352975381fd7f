import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from node_health.__main__ import main
from node_health.config import ConfigError, load

from tests.unit.node_health.fake_node import Fake

Write = Callable[..., Path]
FILES = Path(__file__).parents[3] / "files"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"kind": "parity"},
            "kind in {path} is 'parity'; allowed: erigon, reth, geth, bor, nitro, op_node, heimdall, pair.",
        ),
        ({"chain_id": "10"}, "chain_id in {path} is '10'; allowed: a positive whole number."),
        ({"chain_id": True}, "chain_id in {path} is True; allowed: a positive whole number."),
        ({"rpc": "127.0.0.1:8545"}, "rpc in {path} is '127.0.0.1:8545'; allowed: an http or https URL."),
        ({"pool": "x"}, "pool in {path} is 'x'; allowed: a list of http or https URLs."),
        ({"pool": ["x"], "pool_lag_seconds": 5}, "pool in {path} is 'x'; allowed: an http or https URL."),
        ({"pool": ["http://10.0.0.2:8545"]}, "pool_lag_seconds is missing in {path}; required with pool."),
        ({"least_peers": -1}, "least_peers in {path} is -1; allowed: a whole number, 0 to 10000."),
        ({"rpc": "http://[::1"}, "rpc in {path} is 'http://[::1'; allowed: an http or https URL."),
        (
            {"allowed_lag_seconds": -1},
            "allowed_lag_seconds in {path} is -1; allowed: seconds, more than 0 and up to 86400.",
        ),
        ({"colour": 1}, "colour in {path} is not a key; allowed: "),
        ({"rpc": None}, "rpc is missing in {path}; required: "),
        ({"name": "../x"}, "'../x' in {path} is not a name; allowed: "),
    ],
)
def test_a_wrong_configuration_gets_one_sentence(config: Write, changes: dict[str, Any], sentence: str) -> None:
    path = config("node", **changes)
    with pytest.raises(ConfigError) as refusal:
        load(path)
    assert sentence.format(path=path) in str(refusal.value)


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', "9" * 5000])
def test_a_file_that_is_no_object_gets_one_sentence(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    assert main(["check", "--config", str(path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_missing_file_gets_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--config", "/nowhere.json"]) == 2
    assert capsys.readouterr().err == "node-health: /nowhere.json cannot be read: No such file or directory.\n"


def test_check_exits_0_in_step_1_otherwise_3_on_the_wrong_chain(
    fake: Fake, config: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(config())
    fake.on_chain(10, head=5)
    assert main(["check", "--config", path, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["name"], record["state"], record["head"], record["chain_id"]) == ("node", "in_step", 5, 10)
    fake.on_chain(10, age=40)
    assert main(["check", "--config", path]) == 1
    assert re.match("node lagging: head 100, 4[0-9] s old", capsys.readouterr().out)
    fake.on_chain(1)
    assert main(["check", "--config", path]) == 3


def test_wait_tells_starting_from_syncing_and_ends_in_step(
    fake: Fake, config: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = iter([{"currentBlock": "0x1"}, {"currentBlock": "0x2"}, False])
    fake.on_chain(10)
    fake.methods["eth_syncing"] = lambda: next(answers)
    assert main(["wait", "--config", str(config()), "--until", "in_step", "--timeout", "9", "--interval", "0.02"]) == 0
    shown = capsys.readouterr()
    assert shown.err.count("node syncing") == 1
    assert shown.out.startswith("node in_step")


def test_wait_until_answering_is_content_with_a_node_that_syncs(fake: Fake, config: Write) -> None:
    fake.on_chain(10, age=1e6, syncing={})
    assert main(["wait", "--config", str(config()), "--until", "answering", "--timeout", "1"]) == 0


def test_wait_gives_up_in_time_and_says_what_it_saw(config: Write, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["wait", "--config", str(config()), "--timeout", "0.3", "--interval", "0.1"]) == 1
    assert "node starting: " in capsys.readouterr().out


def test_wait_ends_at_once_on_the_wrong_chain(fake: Fake, config: Write) -> None:
    fake.on_chain(1)
    assert main(["wait", "--config", str(config()), "--timeout", "60"]) == 3


def test_a_pair_is_as_good_as_its_worse_member(
    fake: Fake, second: Fake, config: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    config("execution")
    config("consensus", rpc=second.url)
    pair = config(
        "pair", kind="pair", chain_id=None, rpc=None, allowed_lag_seconds=None, members=["execution", "consensus"]
    )
    fake.on_chain(10)
    second.on_chain(10, age=40)
    assert main(["check", "--config", str(pair), "--json"]) == 1
    record = json.loads(capsys.readouterr().out)
    assert (record["state"], [member["state"] for member in record["members"]]) == ("lagging", ["in_step", "lagging"])


@pytest.fixture
def notify_socket(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        link.bind(str(tmp_path / "notify"))
        link.settimeout(120)
        yield link


def start_watch(path: Path, tmp_path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "node_health", "watch", "--config", str(path), "--interval", "0.1"],
        env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify"), "PYTHONPATH": str(FILES)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def receive_until(link: socket.socket, text: str) -> list[str]:
    seen: list[str] = []
    deadline = time.monotonic() + 120
    while not any(text in message for message in seen):
        assert time.monotonic() < deadline, seen
        seen.append(link.recv(65536).decode())
    return seen


def test_watch_is_ready_when_all_answer_and_ends_when_one_stays_away(
    fake: Fake, second: Fake, config: Write, tmp_path: Path, notify_socket: socket.socket
) -> None:
    config("execution")
    config("consensus", rpc=second.url)
    pair = config(
        "pair",
        kind="pair",
        chain_id=None,
        rpc=None,
        allowed_lag_seconds=None,
        members=["execution", "consensus"],
        grace_seconds=0.5,
    )
    fake.on_chain(10)
    with start_watch(pair, tmp_path) as process:
        before = receive_until(notify_socket, "consensus starting")
        assert not any("READY=1" in message for message in before)
        second.on_chain(10, syncing={})
        receive_until(notify_socket, "READY=1")
        receive_until(notify_socket, "STATUS=execution in_step (head 100")
        second.methods.clear()
        receive_until(notify_socket, "away for")
        assert process.wait(120) == 1
        assert process.stderr
        assert "consensus starting" in process.stderr.read()


def test_watch_ends_well_when_told_to_stop(
    fake: Fake, config: Write, tmp_path: Path, notify_socket: socket.socket
) -> None:
    fake.on_chain(10)
    with start_watch(config(), tmp_path) as process:
        receive_until(notify_socket, "READY=1")
        process.send_signal(signal.SIGTERM)
        receive_until(notify_socket, "STOPPING=1")
        assert process.wait(120) == 0
