"""Who is in a pool: the edge's own Lua, run by LuaJIT, over what hosts say of their nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lupa import luajit21

ROOT = Path(__file__).parents[3]
EDGE = ROOT / "roles" / "nginx" / "files" / "edge"
BLOCK_SECONDS, ALLOWED = 12, 5


class Lua:
    """judge.lua, with Python's dictionaries and lists for Lua's tables."""

    def __init__(self) -> None:
        self._runtime = luajit21.LuaRuntime(unpack_returned_tuples=True)
        self._judge = self._runtime.execute((EDGE / "judge.lua").read_text())

    def table(self, value: Any) -> Any:
        return self._runtime.table_from(value, recursive=True) if isinstance(value, (dict, list)) else value

    def verdict(self, page: Any, services: list[str] | None = None) -> dict[str, Any]:
        return dict(self._judge.verdict(self.table(page), self.table(services or ["erigon"]), "connection refused"))

    def compare(self, *verdicts: dict[str, Any]) -> list[dict[str, Any]]:
        tables = self.table(list(verdicts))
        self._judge.compare(tables, self.table({"block_seconds": BLOCK_SECONDS, "allowed_lag_blocks": ALLOWED}))
        return [dict(tables[number + 1]) for number in range(len(verdicts))]

    def polls(self, *words: str, drained: bool = False, now: float = 100.0) -> list[dict[str, Any]]:
        state, states = None, []
        for number, word in enumerate(words):
            state = self._judge.step(state, self.table({"word": word, "reason": word}), drained, now + number)
            states.append(dict(state))
        return states

    def share(self, since: float, now: float) -> float:
        return float(self._judge.share(since, now, 10))


@pytest.fixture(scope="module")
def lua() -> Lua:
    return Lua()


def record(name: str = "erigon", **other: Any) -> dict[str, Any]:
    return {
        "name": name,
        "state": "in_step",
        "detail": "head 7, 1 s old",
        "head": 7,
        "head_age_seconds": 1.0,
        "look_age_seconds": 0.2,
        **other,
    }


def page(*records: dict[str, Any]) -> dict[str, Any]:
    return {"nodes": list(records), "pairs": [], "errors": []}


def good(head: int, age: float) -> dict[str, Any]:
    return {"word": "good", "reason": "in step", "head": head, "age": age}


def words(verdicts: list[dict[str, Any]]) -> list[str]:
    return [verdict["word"] for verdict in verdicts]


def test_a_node_in_step_is_good_with_its_head(lua: Lua) -> None:
    verdict = lua.verdict(page(record()))
    assert (verdict["word"], verdict["head"], verdict["age"]) == ("good", 7, 1.0)


def test_every_program_of_a_chain_counts_and_the_first_one_s_head(lua: Lua) -> None:
    programs = ["execution", "consensus"]
    both = page(record("consensus", head=9), record("execution"))
    assert lua.verdict(both, programs)["head"] == 7
    lags = page(record("execution"), record("consensus", state="lagging", detail="head 9, 99 s old"))
    verdict = lua.verdict(lags, programs)
    assert (verdict["word"], verdict["reason"]) == ("bad", "consensus lagging: head 9, 99 s old")


@pytest.mark.parametrize("state", ["syncing", "lagging", "stuck", "starting", "down", "wrong_chain", "", 7])
def test_any_other_state_is_bad(lua: Lua, state: object) -> None:
    assert lua.verdict(page(record(state=state)))["word"] == "bad"


@pytest.mark.parametrize(
    "said",
    [
        None,
        page(),
        page(record("bor")),
        page(record(look_age_seconds=3.1)),
        page(record(look_age_seconds=None)),
        {"nodes": "all well"},
        {"nodes": ["erigon"]},
        {},
    ],
)
def test_no_word_and_an_old_word_are_silence(lua: Lua, said: object) -> None:
    assert lua.verdict(said)["word"] == "silent"


@pytest.mark.parametrize("head", [None, "7", -1, 2.0**53, float("nan"), float("inf")])
def test_a_head_that_is_no_number_is_bad(lua: Lua, head: object) -> None:
    assert lua.verdict(page(record(head=head)))["word"] == "bad"


def test_what_a_host_says_is_one_line_of_bounded_length(lua: Lua) -> None:
    reason = lua.verdict(page(record(state="down", detail="a\nb\x00" + "c" * 1000)))["reason"]
    assert reason.startswith("erigon down: a b cc")
    assert len(reason) < 300


def test_a_node_that_lags_behind_the_best_leaves(lua: Lua) -> None:
    verdicts = lua.compare(good(100, 2), good(100 - ALLOWED, 50), good(99 - ALLOWED, 50))
    assert words(verdicts) == ["good", "good", "bad"]
    assert verdicts[2]["reason"] == "6 blocks behind the pool's best, 5 allowed"


def test_of_two_the_one_that_lags_leaves(lua: Lua) -> None:
    assert words(lua.compare(good(90, 40), good(100, 2))) == ["bad", "good"]


def test_a_claim_of_a_head_far_ahead_puts_out_nobody_who_is_up_to_date(lua: Lua) -> None:
    assert words(lua.compare(good(100, 11), good(1_000_000, 0))) == ["good", "good"]


def test_of_three_the_one_that_claims_it_leaves(lua: Lua) -> None:
    verdicts = lua.compare(good(100, 11), good(1_000_000, 0), good(101, 1))
    assert words(verdicts) == ["good", "bad", "good"]
    assert "claims a head 999899 blocks ahead" in verdicts[1]["reason"]


def test_two_that_lag_together_do_not_outvote_the_one_ahead(lua: Lua) -> None:
    assert words(lua.compare(good(90, 40), good(91, 38), good(100, 2))) == ["bad", "bad", "good"]


def test_a_pool_of_one_and_an_empty_one_are_left_alone(lua: Lua) -> None:
    assert words(lua.compare(good(100, 1000))) == ["good"]
    assert lua.compare({"word": "bad", "reason": "down"})[0]["reason"] == "down"


def test_comparing_never_empties_a_pool(lua: Lua) -> None:
    heads = [(0, 0), (100, 59), (3, 59), (10**15, 0), (50, 18), (50, 19)]
    for first in heads:
        for second in heads:
            for third in heads:
                assert "good" in words(lua.compare(good(*first), good(*second), good(*third)))


def test_a_bad_word_puts_a_node_out_at_once_and_two_good_ones_bring_it_back(lua: Lua) -> None:
    states = lua.polls("good", "bad", "good", "bad", "good", "good", "good")
    assert [state["member"] for state in states] == [True, False, False, False, False, True, True]


def test_silence_is_borne_for_two_polls(lua: Lua) -> None:
    states = lua.polls("good", "silent", "silent", "good", "silent", "silent", "silent", "silent")
    assert [state["member"] for state in states] == [True, True, True, True, True, True, False, False]
    assert not lua.polls("silent")[0]["member"]


def test_a_drained_node_is_out_whatever_is_said_of_it(lua: Lua) -> None:
    assert [state["member"] for state in lua.polls("good", "good", "good", drained=True)] == [False, False, False]


def test_a_node_that_comes_back_grows_into_its_share(lua: Lua) -> None:
    states = lua.polls("bad", "good", "good")
    assert states[2]["since"] == 102.0
    assert [lua.share(102.0, now) for now in (102.0, 107.0, 112.0)] == [0.1, 0.5, 1.0]
    first = lua.polls("good")[0]
    assert (first["since"], lua.share(0, 100.0)) == (0, 1.0)
