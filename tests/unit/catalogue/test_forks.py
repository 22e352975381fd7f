"""Forks: who follows his chain past which, who is told of it in time, and what the operator may take upon himself."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.plugins import load_plugin

MAIN = Path(__file__).parents[3] / "roles" / "catalogue" / "defaults" / "main"
NOW = "2026-11-23T00:00:00Z"

forks = load_plugin("catalogue", "filter_plugins", "catalogue_forks")


def load(name: str) -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load((MAIN / f"{name}.yml").read_text())
    return data


CHAINS = load("chains")["catalogue_default_chains"]
RELEASES = load("releases")["catalogue_default_releases"]
FORKS = load("forks")["catalogue_default_forks"]


def rows(
    chain: str,
    now: str = NOW,
    *,
    versions: dict[str, str] | None = None,
    chains: dict[str, Any] | None = None,
    overrides: list[dict[str, str]] | None = None,
) -> list[dict[str, str]]:
    have = {**forks.versions_of(RELEASES), **(versions or {})}
    policy = {"forks": FORKS, "overrides": overrides or [], "now": now, "warn_days": 30}
    found: list[dict[str, str]] = forks.readiness([chain], "mev1", chains or CHAINS, have, policy)
    return found


def states(*arguments: Any, **options: Any) -> dict[tuple[str, str], str]:
    return {(row["fork"], row["component"]): row["state"] for row in rows(*arguments, **options)}


def pair_of(chain: str, **components: str) -> dict[str, Any]:
    chains: dict[str, Any] = copy.deepcopy(CHAINS)
    chains[chain]["components"] = components
    return chains


def problems(table: list[dict[str, Any]] | None = None, **options: Any) -> list[str]:
    policy = {"forks": FORKS if table is None else table, "overrides": [], "now": NOW, "warn_days": 30, **options}
    found: list[str] = forks.problems(policy, CHAINS, policy.get("releases", RELEASES))
    return found


def test_the_catalogue_s_own_table_is_whole_and_its_clients_follow_every_chain() -> None:
    assert problems() == []
    assert {state for chain in CHAINS for state in states(chain).values()} == {"ready"}


def test_a_client_that_is_too_old_is_refused_from_the_fork_s_first_second() -> None:
    old = {"base-reth-node": "1.5.0"}
    denim = ("Denim", "base-reth-node")
    assert states("base", "2026-11-05T00:00:00Z", versions=old)[denim] == "refused"
    assert states("base", "2026-11-04T23:59:59Z", versions=old)[denim] == "due"
    assert states("base", "2026-10-06T00:00:00Z", versions=old)[denim] == "due"
    assert states("base", "2026-10-05T23:59:59Z", versions=old)[denim] == "ahead"


@pytest.mark.parametrize(
    ("version", "state"),
    [
        ("1.5.1", "ready"),
        ("1.10.0", "ready"),
        ("1.5.1-rc.1", "refused"),
        ("1.5", "refused"),
        ("", "absent"),
    ],
)
def test_versions_are_compared_as_numbers_and_a_candidate_is_older_than_its_release(version: str, state: str) -> None:
    assert states("base", versions={"base-consensus": version})["Denim", "base-consensus"] == state


def test_a_pair_that_the_chain_has_left_behind_is_refused_in_every_version() -> None:
    chains = pair_of("base", execution="op-geth", consensus="op-node")
    found = rows("base", chains=chains, versions={"op-geth": "99.0.0"})
    assert {row["state"] for row in found} == {"refused"}
    assert "Azul (active since 2026-05-28T18:00:00Z) needs another client" in forks.sentences(found, "refused")[0]


def test_a_chain_on_another_network_has_none_of_these_forks() -> None:
    chains = pair_of("base", execution="op-geth", consensus="op-node")
    chains["base"]["network"] = "base-sepolia"
    assert rows("base", chains=chains) == []


def test_an_override_names_fork_and_reason_shows_both_and_covers_nothing_else() -> None:
    chains = pair_of("base", execution="op-geth", consensus="base-consensus")
    override = [{"chain": "base", "fork": "Azul", "reason": "a devnet that never forked"}]
    found = rows("base", chains=chains, overrides=override)
    assert [(row["fork"], row["state"]) for row in found if row["component"] == "op-geth"] == [
        ("Azul", "overridden"),
        ("Denim", "refused"),
    ]
    assert forks.sentences(found, "overridden")[0].endswith("by the operator's word: a devnet that never forked")


def test_a_refusal_says_what_is_needed_since_when_and_where_it_is_set() -> None:
    [sentence] = forks.sentences(rows("base", versions={"base-consensus": "1.5.0"}), "refused")
    assert sentence.startswith(
        "base-consensus 1.5.0 does not follow base any more: Denim (active since 2026-11-05T00:00:00Z) "
        "needs base-consensus 1.5.1 or newer;"
    )
    assert "catalogue_release_overrides" in sentence
    assert "catalogue_fork_overrides" in sentence


def fork(**changed: Any) -> dict[str, Any]:
    return {**FORKS[0], "fork": "Next", **changed}


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (fork(chain="sepholia"), ["no chain that is known", "sepolia"]),
        (fork(at="2026-10-06"), ["'2026-10-06'", "2026-11-05T00:00:00Z"]),
        (fork(at=""), ["lacks at", "required"]),
        (fork(source=""), ["lacks source", "required"]),
        (fork(minimum={"eregon": "3.7.1"}), ["'eregon'", "erigon"]),
        (fork(minimum={"erigon": 3.7}), ["3.7", "MAJOR.MINOR.PATCH"]),
        (fork(minimum={}), ["concerns no client"]),
        (FORKS[0], ["stands 2 times", "once"]),
    ],
)
def test_a_wrong_fork_is_named_with_its_place(entry: dict[str, Any], words: list[str]) -> None:
    [sentence] = problems([*FORKS, entry])
    assert all(word in sentence for word in words), sentence
    assert "forks.yml" in sentence


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"overrides": [{"chain": "base", "fork": "Demin", "reason": "x"}]}, ["'Demin'", "Denim of base"]),
        ({"overrides": [{"chain": "base", "fork": "Denim", "reason": " "}]}, ["'base' has no reason"]),
        ({"releases": {**RELEASES, "bor": {"version": "2.9"}}}, ["'bor'", "'2.9'", "MAJOR.MINOR.PATCH"]),
        ({"warn_days": -1}, ["-1", "0 to 365"]),
        ({"warn_days": True}, ["True", "0 to 365"]),
        ({"now": "tomorrow"}, ["'tomorrow'", "2026-11-05T00:00:00Z"]),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_allowed(options: dict[str, Any], words: list[str]) -> None:
    [sentence] = problems(**options)
    assert all(word in sentence for word in words), sentence


def test_the_table_is_aligned_and_leaves_out_what_is_empty() -> None:
    lines = forks.table(rows("base"))
    assert lines[0].split() == [
        "host",
        "chain",
        "fork",
        "activation",
        "(UTC)",
        "component",
        "version",
        "needs",
        "state",
    ]
    assert len({line.index("ready") for line in lines[1:]}) == 1
    assert len(lines) == 5
