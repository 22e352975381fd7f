"""A secret is replaced one consumer at a time, or the old value is back with all who saw the new; what was done is on record, no value is."""

from __future__ import annotations

import getpass
import grp
import io
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.plugins import load_plugin

fleet_secrets = load_plugin("secrets", "files", "fleet_secrets")

OLD, NEW = "old-password-of-the-bus", "new-password-of-the-bus"
AGENTS = ["analytics_engine", "strategy_engine"]
ME = {"owner": getpass.getuser(), "group": grp.getgrgid(os.getegid()).gr_name}


class Systemd:
    """Units as `systemctl` shows them: which run, and with which value of the secret each has started."""

    def __init__(self, secret: Path) -> None:
        self.secret = secret
        self.running = dict.fromkeys(AGENTS, OLD)
        self.refuses: dict[str, set[str]] = {}
        self.leaves: dict[str, set[str]] = {}
        self.restarts: list[str] = []
        self.looks = 0

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        unit = words[-1].removesuffix(".service")
        value = self.secret.read_text()
        code, output = 0, ""
        if words[0] == "is-active":
            code = 0 if unit in self.running else 3
        elif words[0] == "restart":
            self.restarts.append(unit)
            self.running[unit] = value
            code = int(value in self.refuses.get(unit, set()))
        elif words[0] == "show":
            self.looks += 1
            comes_and_goes = value in self.leaves.get(unit, set())
            output = f"ActiveState=active\nInvocationID={len(self.restarts)}{self.looks if comes_and_goes else ''}\n"
        return subprocess.CompletedProcess(words, code, output, "")


class Bench:
    """A secret on this machine with two consumers, and the program told of it."""

    def __init__(self, top: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capsys = monkeypatch, capsys
        self.secret, self.aside, self.log = top / "redis_password", top / "bus_password.previous", top / "secrets.jsonl"
        self.secret.write_text(OLD)
        os.utime(self.secret, (1_000_000, 1_000_000))
        self.systemd = Systemd(self.secret)
        self.proof = top / "proof"
        self.proves(well=True)
        row = {
            "name": "bus_password", "item": "", "title": "", "path": str(self.secret), "kind": "file", "form": "line", "mode": "0600",
            "beside": [], "trusts": [], "replace": True, "consumers": AGENTS, "days": 180, **ME,
            "proof": {"command": [str(self.proof)], "check": "bus"},
        }  # fmt: skip
        config = top / "config" / "secrets.json"
        config.parent.mkdir()
        config.write_text(
            json.dumps({"top": str(top), "aside": str(top), "log": str(self.log), "directories": [], "secrets": [row]})
        )
        monkeypatch.setattr(fleet_secrets, "CONFIG", config)
        monkeypatch.setattr(fleet_secrets, "SETTLE_SECONDS", 0)
        monkeypatch.setattr(fleet_secrets, "systemctl", self.systemd)
        # The way back leaves signals alone from then on, as a program that ends may.
        self.handlers = {each: signal.getsignal(each) for each in fleet_secrets.SIGNALS}

    def proves(self, *, well: bool, check: str = "bus") -> None:
        said = {
            "findings": [{"check": "ledger", "well": False, "seen": ""}, {"check": check, "well": well, "seen": ""}]
        }
        self.proof.write_text(f"#!/bin/sh\necho '{json.dumps(said)}'\n")
        self.proof.chmod(0o700)

    def run(self, *words: str, value: str = NEW) -> tuple[int, str]:
        self.monkeypatch.setattr(sys, "argv", ["fleet-secrets", *words])
        self.monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(value.encode()), read=lambda _: value))
        try:
            code = fleet_secrets.main()
        finally:
            for each, handler in self.handlers.items():
                signal.signal(each, handler)
        output = self.capsys.readouterr()
        said = output.out + output.err
        record = self.log.read_text() if self.log.exists() else ""
        assert OLD not in said + record
        assert NEW not in said + record
        return code, said

    @property
    def record(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Bench:
    return Bench(tmp_path, monkeypatch, capsys)


def is_back(bench: Bench) -> bool:
    return (bench.secret.read_text(), bench.secret.stat().st_mtime, bench.aside.exists()) == (OLD, 1_000_000, False)


def test_consumers_take_the_new_value_one_after_the_other(bench: Bench) -> None:
    code, said = bench.run("replace", "bus_password", "--by", "alice")
    assert (code, json.loads(said)) == (0, {"changed": True, "restarts": AGENTS})
    assert bench.systemd.restarts == AGENTS
    assert bench.systemd.running == dict.fromkeys(AGENTS, NEW)
    assert not bench.aside.exists()
    assert stat.S_IMODE(bench.secret.stat().st_mode) == 0o600
    (line,) = bench.record
    assert (line["secret"], line["result"], line["reason"]) == ("bus_password", "rotated", "")
    assert line["by"].startswith("alice as ")


def test_the_same_value_again_touches_nobody(bench: Bench) -> None:
    assert bench.run("replace", "bus_password", value=OLD) == (0, '{"changed": false, "restarts": []}\n')
    assert (bench.systemd.restarts, bench.record) == ([], [])


def test_a_dry_run_says_who_would_restart_and_does_nothing(bench: Bench) -> None:
    code, said = bench.run("replace", "bus_password", "--dry-run")
    assert (code, json.loads(said)["restarts"]) == (0, AGENTS)
    assert is_back(bench)
    assert (bench.systemd.restarts, bench.record) == ([], [])


@pytest.mark.parametrize(("well", "check"), [(False, "bus"), (True, "something else")])
def test_what_the_other_side_does_not_take_reaches_no_consumer(bench: Bench, well: bool, check: str) -> None:
    bench.proves(well=well, check=check)
    code, said = bench.run("replace", "bus_password")
    assert code == fleet_secrets.BACK
    assert "bus_password has its old value again" in said
    assert is_back(bench)
    assert bench.systemd.restarts == []
    assert bench.record[0]["result"] == "rolled_back"


@pytest.mark.parametrize(
    ("fault", "words"),
    [("refuses", "strategy_engine did not start"), ("leaves", "strategy_engine started and did not stay")],
)
def test_a_consumer_that_does_not_come_back_takes_all_of_them_back(bench: Bench, fault: str, words: str) -> None:
    getattr(bench.systemd, fault)["strategy_engine"] = {NEW}
    code, said = bench.run("replace", "bus_password")
    assert code == fleet_secrets.BACK
    assert words in said
    assert is_back(bench)
    assert bench.systemd.running == dict.fromkeys(AGENTS, OLD)
    assert [line["result"] for line in bench.record] == ["rolled_back"]


def test_the_first_that_does_not_come_back_spares_the_others(bench: Bench) -> None:
    bench.systemd.refuses["analytics_engine"] = {NEW}
    assert bench.run("replace", "bus_password")[0] == fleet_secrets.BACK
    assert "strategy_engine" not in bench.systemd.restarts


def test_a_consumer_that_takes_neither_is_said_and_the_value_before_is_kept(bench: Bench) -> None:
    bench.systemd.refuses["strategy_engine"] = {NEW, OLD}
    code, said = bench.run("replace", "bus_password")
    assert code == fleet_secrets.STUCK
    assert "the old value is back, and strategy_engine did not start with it" in said
    assert bench.secret.read_text() == bench.aside.read_text() == OLD
    assert bench.record[0]["result"] == "stuck"
    assert "undo bus_password" in bench.run("replace", "bus_password")[1]


def test_what_an_operator_has_stopped_stays_stopped(bench: Bench) -> None:
    del bench.systemd.running["strategy_engine"]
    assert json.loads(bench.run("replace", "bus_password")[1])["restarts"] == ["analytics_engine"]


def test_an_interruption_is_a_reason_to_go_back(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(unit: str) -> None:
        bench.systemd.restarts.append(unit)
        if len(bench.systemd.restarts) == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(fleet_secrets, "restart", interrupted)
    code, said = bench.run("replace", "bus_password")
    assert code == fleet_secrets.BACK
    assert "it was interrupted (SIGTERM)" in said
    assert is_back(bench)


def test_what_was_cut_off_is_undone(bench: Bench) -> None:
    bench.aside.write_text(OLD)
    bench.secret.write_text(NEW)
    assert bench.run("undo", "bus_password")[0] == 0
    assert bench.secret.read_text() == OLD
    assert bench.systemd.running == dict.fromkeys(AGENTS, OLD)
    assert bench.record[0]["result"] == "undone"
    assert bench.run("undo", "bus_password")[0] == fleet_secrets.WRONG


@pytest.mark.parametrize("value", ["short", "two\nlines of it", "", "x" * (1 << 16)])
def test_a_value_without_its_form_is_refused(bench: Bench, value: str) -> None:
    code, said = bench.run("replace", "bus_password", value=value)
    assert code == fleet_secrets.WRONG
    assert "nothing was changed" in said
    assert is_back(bench)


def test_a_secret_that_is_not_replaced_so_is_refused(bench: Bench) -> None:
    code, said = bench.run("replace", "signer_key")
    assert code == fleet_secrets.WRONG
    assert "allowed: bus_password" in said


def test_a_play_s_rotation_is_one_bounded_line(bench: Bench) -> None:
    words = ("record", "jwt", "--item", "base", "--result", "rolled_back", "--by", "alice", "--reason")
    assert bench.run(*words, value="it\n\x1b[31mfailed " + "x" * 5000)[0] == 0
    (line,) = bench.record
    assert (line["chain"], line["result"]) == ("base", "rolled_back")
    assert line["reason"].startswith("it [31mfailed x")
    assert len(line["reason"]) == 300
    with pytest.raises(SystemExit):
        bench.run("record", "jwt", "--item", "a\nb", "--result", "rotated")
