"""The command that switches the edge's emergency profile: what it writes down, for how long, and what it says of it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.plugins import load_plugin

COMMAND: Any = load_plugin("nginx", "files", "edge_emergency")
NOW = 1_800_000_000


class Edge:
    """A host with the command, and nginx as far as the command asks it."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.file = root / "emergency.json"
        self.now = float(NOW)
        self.runs = True
        self.said: list[str] = []
        self._monkeypatch, self._capsys = monkeypatch, capsys
        config = root / "pools.json"
        config.write_text(json.dumps({"socket": str(root / "none"), "emergency": {"file": str(self.file)}}))
        monkeypatch.setattr(COMMAND, "CONFIG", config)
        monkeypatch.setattr(COMMAND, "held", lambda: (self.runs, COMMAND.written(self.file) if self.runs else None))
        monkeypatch.setattr(COMMAND.time, "time", lambda: self.now)
        monkeypatch.setattr(COMMAND.syslog, "syslog", lambda _, text: self.said.append(text))
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setenv("SUDO_USER", "alice")

    def __call__(self, *words: str) -> tuple[int, str]:
        self._monkeypatch.setattr(sys, "argv", ["edge-emergency", *words])
        code = COMMAND.main()
        said = self._capsys.readouterr()
        return code, said.out + said.err

    def json(self, *words: str) -> dict[str, Any]:
        code, said = self(*words, "--json")
        assert code == 0, said
        return dict(json.loads(said))


@pytest.fixture
def edge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Edge:
    return Edge(tmp_path, monkeypatch, capsys)


def test_it_is_written_down_with_who_and_until_when(edge: Edge) -> None:
    done = edge.json("on", "--for", "30m")
    kept = {"public": "limited", "since": NOW, "ends": NOW + 1800, "by": "alice"}
    assert done == {"changed": True, "taken_up": True, **kept}
    assert (json.loads(edge.file.read_text()), edge.file.stat().st_mode & 0o777) == (kept, 0o644)
    assert edge.said == [f"on {json.dumps(kept)}"]
    assert edge("status")[1] == (
        "The emergency profile is on since 2027-01-15T08:00:00Z, by alice, until 2027-01-15T08:30:00Z: callers without a key are limited.\n"
    )
    edge.now += 1800
    assert edge.json("status") == {"on": False, "taken_up": True}
    assert edge.json("off") == {"changed": False, "taken_up": True}
    assert len(edge.said) == 1


def test_the_same_again_changes_nothing_and_something_else_does(edge: Edge) -> None:
    changes = [
        edge.json("on")["changed"],
        edge.json("on")["changed"],
        edge.json("on", "--refuse-public")["changed"],
        edge.json("on", "--refuse-public", "--for", "1h")["changed"],
        edge.json("on", "--refuse-public")["changed"],
        edge.json("off")["changed"],
        edge.json("off")["changed"],
    ]
    assert changes == [True, False, True, True, True, True, False]
    assert not edge.file.exists()


def test_a_dry_run_writes_and_says_nothing(edge: Edge) -> None:
    assert edge.json("on", "--dry-run")["changed"]
    assert not edge.file.exists()
    edge.json("on")
    assert edge.json("off", "--dry-run")["changed"]
    assert (edge.file.exists(), len(edge.said)) == (True, 1)


def test_without_nginx_it_is_written_down_all_the_same(edge: Edge) -> None:
    edge.runs = False
    assert edge.json("on")["taken_up"] is False
    assert edge("status")[1].endswith("nginx does not hold to it yet.\n")


@pytest.mark.parametrize("text", ["", "null", "[]", '{"public": "limited"}', "x"])
def test_what_cannot_be_read_is_told_and_replaced(edge: Edge, text: str) -> None:
    edge.file.write_text(text)
    code, said = edge("status")
    assert (code, "cannot be read" in said) == (1, True)
    assert edge.json("on")["changed"]
    edge.file.write_text(text)
    assert edge.json("off")["changed"]
    assert not edge.file.exists()


@pytest.mark.parametrize("text", ["", "0s", "30", "1w", "31d", "-1m", "1.5h", "1m\n"])
def test_what_is_no_time_is_refused(edge: Edge, text: str) -> None:
    with pytest.raises(SystemExit) as refused:
        edge("on", "--for", text)
    assert refused.value.code == 2
    assert not edge.file.exists()
