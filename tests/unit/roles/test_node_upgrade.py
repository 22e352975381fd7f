"""What an upgrade would move, from the catalogue's chains and what is installed."""

from __future__ import annotations

from typing import Any

from tests.plugins import load_plugin

node_upgrade = load_plugin("node_upgrade", "filter_plugins", "node_upgrade")

CHAINS: dict[str, Any] = {
    "ethereum": {"components": {"execution": "erigon"}},
    "sepolia": {"components": {"execution": "erigon"}},
    "optimism": {"components": {"execution": "op-reth", "consensus": "op-node"}},
    "base": {"components": {"execution": "base-reth-node", "consensus": "op-node"}},
}
NOW = {"erigon": "1.0.0", "op-reth": "1.0.0", "op-node": "1.0.0", "base-reth-node": "1.0.0"}


def groups(
    wanted: list[str],
    *,
    installed: dict[str, str] | None = None,
    unproven: dict[str, str] | None = None,
    **versions: str,
) -> list[tuple[list[str], str]]:
    then = {**NOW, **{name.replace("_", "-"): version for name, version in versions.items()}}
    found = node_upgrade.groups(wanted, CHAINS, CHAINS, NOW if installed is None else installed, then, unproven or {})
    return [(group["chains"], node_upgrade.words(group)) for group in found]


def test_what_stands_as_wanted_does_not_move() -> None:
    assert groups(list(CHAINS)) == []


def test_a_client_that_is_not_installed_is_no_upgrade() -> None:
    assert groups(["ethereum"], installed={**NOW, "erigon": ""}, erigon="2.0.0") == []


def test_a_version_that_nobody_has_seen_healthy_still_has_to_move() -> None:
    assert groups(["optimism"], unproven={"op-reth": "0.9.0", "erigon": "0.9.0"}) == [
        (["optimism"], "optimism: op-reth 0.9.0 -> 1.0.0")
    ]
    assert groups(["optimism"], unproven={"op-reth": "1.0.0"}) == [(["optimism"], "optimism: op-reth 1.0.0 -> 1.0.0")]


def test_a_first_installation_that_was_cut_off_is_no_upgrade() -> None:
    assert groups(["ethereum"], unproven={"erigon": ""}) == []


def test_chains_that_share_a_client_go_together() -> None:
    assert groups(["ethereum"], erigon="2.0.0") == [
        (["ethereum", "sepolia"], "ethereum and sepolia: erigon 1.0.0 -> 2.0.0")
    ]


def test_chains_that_share_none_that_moves_go_one_after_the_other() -> None:
    assert [chains for chains, _ in groups(list(CHAINS), op_reth="2.0.0", base_reth_node="2.0.0")] == [
        ["optimism"],
        ["base"],
    ]


def test_a_chain_joins_those_whose_clients_it_shares() -> None:
    (group,) = groups(["optimism", "base"], op_reth="2.0.0", op_node="2.0.0", base_reth_node="2.0.0")
    assert group[0] == ["optimism", "base"]
    assert "op-reth 1.0.0 -> 2.0.0, op-node 1.0.0 -> 2.0.0, base-reth-node 1.0.0 -> 2.0.0" in group[1]


def test_only_what_is_wanted_moves() -> None:
    assert groups(["ethereum"], op_node="2.0.0") == []


def test_a_group_s_versions_are_those_of_then_or_now() -> None:
    group = {"chains": ["ethereum"], "steps": [{"component": "erigon", "before": "1.0.0", "after": "2.0.0"}]}
    assert node_upgrade.versions(group, "before") == {"erigon": "1.0.0"}
    assert node_upgrade.versions(group, "after") == {"erigon": "2.0.0"}
