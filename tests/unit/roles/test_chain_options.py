"""Options of one chain go before those of all, as their specs' types, and what is no option is named."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.plugins import ROLES, load_plugin

chain_options = load_plugin("chain_service", "filter_plugins", "chain_options")

SPEC: dict[str, Any] = yaml.safe_load((ROLES / "erigon" / "meta" / "argument_specs.yml").read_text())["argument_specs"][
    "main"
]
COMMON = {"erigon_prune_mode": "full", "erigon_max_peers": 64, "erigon_blobs_archive": False}


def test_a_chain_s_own_go_first_and_are_read_as_the_spec_says() -> None:
    own = {"erigon_prune_mode": "archive", "erigon_max_peers": "32", "erigon_blobs_archive": "yes"}
    assert chain_options.for_chain(COMMON, own, SPEC) == {
        "erigon_prune_mode": "archive",
        "erigon_max_peers": 32,
        "erigon_blobs_archive": True,
    }
    assert chain_options.problems(own, SPEC, "ethereum") == []


@pytest.mark.parametrize("own", [{}, {"erigon_chain": "sepolia"}, {"no_such": 1}, None, "text"])
def test_without_any_they_are_those_of_all(own: object) -> None:
    assert chain_options.for_chain(COMMON, own, SPEC) == COMMON


@pytest.mark.parametrize(
    ("own", "words"),
    [
        (
            {"erigon_maxpeers": 1},
            "node_options.ethereum in the inventory sets erigon_maxpeers; allowed: options of the role that runs ethereum; the nearest is erigon_max_peers.",
        ),
        ({"erigon_chain": "sepolia"}, "node_options.ethereum in the inventory sets erigon_chain;"),
        (
            {"erigon_prune_mode": "all"},
            "value of erigon_prune_mode must be one of: full, archive, minimal, blocks, got: all.",
        ),
        ({"erigon_max_peers": "many"}, "'erigon_max_peers' is of type"),
        ("text", "node_options.ethereum in the inventory is 'text'; allowed: a table of options, {} for none."),
    ],
)
def test_what_cannot_be_carried_out_is_one_sentence(own: object, words: str) -> None:
    (found,) = chain_options.problems(own, SPEC, "ethereum")
    assert words in found
