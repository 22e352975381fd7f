"""Halts and resumptions leave one line each in the ledger, whoever did it and however; a ledger that cannot be written hinders none."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from mev import cli
from mev.runtime.config import load
from mev.runtime.storage import Database
from mev.trading import switch
from mev.trading.ledger import Audit, Ledger
from mev.trading.switch_audit import SwitchAudit
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from tests.unit.mev.trading.test_cli import CONFIG

if TYPE_CHECKING:
    from mev.runtime.config import Config

ADDRESS = "192.0.2.7"


class Host:
    """Two chains, each with a switch of its own, and the commands on one ledger."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory = directory
        self.switches = {name: directory / f"stop_{name}" for name in ("ethereum", "base")}
        one = CONFIG.format(directory=directory, wrapped="ee" * 20)
        risk = '[chains.{0}.risk]\nkill_switch = "{1}"\n'
        chain = one[one.index("[chains.ethereum]") :]
        self.path = directory / "mev.toml"
        self.path.write_text(
            one
            + risk.format("ethereum", self.switches["ethereum"])
            + chain.replace("ethereum", "base").replace("id = 1", "id = 8453")
            + risk.format("base", self.switches["base"])
        )
        self._capsys = capsys

    @property
    def config(self) -> Config:
        return load(self.path)

    @property
    def ledger(self) -> Path:
        return self.directory / "mev_opportunities.db"

    def mev(self, *arguments: str) -> dict[str, Any]:
        assert cli.main([*arguments, "--json", "--config", str(self.path)]) == 0
        document: dict[str, Any] = json.loads(self._capsys.readouterr().out)
        return document

    def lines(self, *arguments: str) -> list[tuple[str, list[str], str, str, str]]:
        keys = ("act", "chains", "who", "origin", "reason")
        return [tuple(each[key] for key in keys) for each in self.mev("halts", *arguments)["halts"]][::-1]


@pytest.fixture
def host(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Host:
    for name, value in (("LOGNAME", "ada"), ("SUDO_USER", "eve"), ("SSH_CONNECTION", f"{ADDRESS} 5022 192.0.2.1 22")):
        monkeypatch.setenv(name, value)
    made = Host(tmp_path, capsys)
    Ledger(Database(made.ledger))
    return made


def test_each_act_by_command_is_one_line_whoever_looks_besides(host: Host) -> None:
    engine = SwitchAudit(Database(host.ledger), host.config)
    engine.look()
    assert host.mev("halt", "--chain", "base", "--reason", "fees: odd")["in_ledger"] is True
    engine.look()
    assert host.mev("halt")["changed"] is True
    assert host.mev("halt")["changed"] is False
    engine.look()
    (halted,) = [each for each in host.mev("status")["halted"] if each["chains"] == ["base"]]
    assert (halted["who"], halted["reason"]) == ("ada for eve", "fees: odd")
    assert host.mev("resume", "--chain", "base", "--reason", "the oracle was right")["in_ledger"] is True
    engine.look()
    by_halt, by_resume = f"by mev halt from {ADDRESS}", f"by mev resume from {ADDRESS}"
    wanted = [
        ("halt", ["base"], "ada for eve", by_halt, "fees: odd"),
        ("halt", ["ethereum"], "ada for eve", by_halt, "no reason given"),
        ("resume", ["base"], "ada for eve", by_resume, "the oracle was right"),
    ]
    assert host.lines() == wanted
    assert host.lines("--chain", "ethereum") == wanted[1:2]
    assert host.lines("--limit", "1") == wanted[2:]
    engine.look()
    assert host.lines() == wanted


def test_over_http_the_file_says_from_where(host: Host) -> None:
    switch.halt(host.config, "base", "oracle is off", f"{switch.OVER_HTTP} from ::1")
    SwitchAudit(Database(host.ledger), host.config).look()
    assert host.lines() == [("halt", ["base"], "ada for eve", "over HTTP from ::1", "oracle is off")]


@pytest.mark.parametrize("content", [b"", b"\xff\x00\x1b[2Jstop", b"a: b: c\n" * 4096])
def test_a_file_by_hand_is_a_line_with_its_owner_and_so_is_its_end(host: Host, content: bytes) -> None:
    engine = SwitchAudit(Database(host.ledger), host.config)
    engine.look()
    host.switches["base"].write_bytes(content)
    os.utime(host.switches["base"], ns=(0, 86_400 * 10**9))
    engine.look()
    engine.look()
    (line,) = host.lines()
    assert line[:4] == ("halt", ["base"], host.switches["base"].owner(), switch.BY_HAND)
    assert line[4].isprintable()
    assert 1 <= len(line[4]) <= switch.MOST_REASON
    assert host.mev("halts")["halts"][0]["at"] == "1970-01-02T00:00:00.000+00:00"
    host.switches["base"].unlink()
    # As an engine does that has been started meanwhile.
    SwitchAudit(Database(host.ledger), host.config).look()
    engine.look()
    assert host.lines()[1:] == [("resume", ["base"], "", "by taking its file away", "")]


def test_what_is_no_file_stops_as_one_does(host: Host) -> None:
    host.switches["base"].symlink_to("/nowhere")
    host.switches["ethereum"].mkdir()
    SwitchAudit(Database(host.ledger), host.config).look()
    assert sorted(line[1][0] for line in host.lines()) == ["base", "ethereum"]
    assert host.mev("status")["chains"]["base"]["killed"] is True


@pytest.mark.parametrize("wrong", ["absent", "damaged", "locked", "older"])
def test_a_ledger_that_cannot_be_written_hinders_neither_halt_nor_resumption(
    host: Host, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mev.runtime.storage.sqlite.BUSY_SECONDS", 0.1)
    holder = Database(host.ledger)
    with holder.begin() as connection:
        if wrong == "absent":
            host.path.write_text(host.path.read_text().replace(str(host.ledger), str(host.directory / "no.db")))
        elif wrong == "damaged":
            host.path.write_text(host.path.read_text().replace(str(host.ledger), str(host.path)))
        elif wrong == "older":
            connection.execute(text("UPDATE ledger_version SET version_num = '0003'"))
            connection.commit()
        halted = host.mev("halt", "--reason", "a test")
        assert (halted["changed"], halted["halted"]) == (True, ["base", "ethereum"])
        assert halted["in_ledger"].startswith("no: ")
        assert all(path.exists() for path in host.switches.values())
        if wrong == "locked":
            resumed = host.mev("resume", "--chain", "base")
            assert (resumed["changed"], resumed["in_ledger"][:4]) == (True, "no: ")
    assert not (host.directory / "no.db").exists()
    if wrong == "locked":
        SwitchAudit(Database(host.ledger), host.config).look()
        assert [line[:2] for line in host.lines()] == [("halt", ["ethereum"])]


def test_one_switch_that_cannot_be_written_does_not_leave_the_others_as_they_were(host: Host) -> None:
    host.path.write_text(
        host.path.read_text().replace(str(host.switches["ethereum"]), str(host.directory / "nowhere" / "stop"))
    )
    assert cli.main(["halt", "--config", str(host.path)]) == 1
    assert host.switches["base"].exists()


def test_acts_cannot_be_changed_or_taken_out(database: Database, tmp_path: Path, host: Host) -> None:
    host.switches["base"].touch()
    SwitchAudit(database, host.config).look()
    for statement in ("DELETE FROM switched", "UPDATE switched SET who = 'nobody'"):
        with pytest.raises(IntegrityError, match="switched is append-only"), database.begin() as connection:
            connection.execute(text(statement))
    (act,) = Audit(database).newest(5, "base")
    assert (act.act, act.chains, act.switch) == ("halt", ("base",), str(tmp_path / "stop_base"))
    assert Audit(database).newest(5, "bas") == []
