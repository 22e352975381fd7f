"""What analytics_engine wrote beside the ledger goes to its own directory: the role's own command, on this machine's files."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.plugins import ROLES

if TYPE_CHECKING:
    from pathlib import Path

TASKS = ROLES / "mev_agents" / "tasks" / "analytics.yml"
DATABASE = ("performance_metrics.db", "performance_metrics.db-wal", "performance_metrics.db.0001")
LOG = ("analytics.log", "analytics.log.1")


@pytest.mark.parametrize("names", [(*DATABASE, *LOG), DATABASE, LOG, ()])
def test_all_that_is_analytics_engine_s_is_moved_and_nothing_else(tmp_path: Path, names: tuple[str, ...]) -> None:
    (tmp_path / "analytics").mkdir()
    for name in (*names, "mev_opportunities.db", "strategy_engine.log"):
        (tmp_path / name).write_text(name)
    (tmp_path / "analytics.log.9").symlink_to("mev_opportunities.db")
    _, move, _ = _tasks()
    *words, script, _ = move["ansible.builtin.command"]["argv"]
    assert words[:3] == ["runuser", "-u", "{{ _mev_agents_user }}"], "root would follow what their owner puts there"
    subprocess.run([*words[4:], script, tmp_path / "analytics"], cwd=tmp_path, check=True)
    assert {path.name: path.read_text() for path in (tmp_path / "analytics").iterdir()} == {
        name: name for name in names
    }
    left = {path.name for path in tmp_path.iterdir() if not path.is_symlink()}
    assert left == {"analytics", "mev_opportunities.db", "strategy_engine.log"}


def test_no_link_takes_the_place_of_what_was_not_moved() -> None:
    *_, links = _tasks()
    assert set(links["loop"]) == set(_looked_for()["loop"])


def _looked_for() -> dict[str, list[str]]:
    found: dict[str, list[str]] = yaml.safe_load(TASKS.read_text())[0]
    return found


def _tasks() -> tuple[dict[str, dict[str, list[str]]], ...]:
    _, moved, links = yaml.safe_load(TASKS.read_text())
    return (*moved["block"], links)
