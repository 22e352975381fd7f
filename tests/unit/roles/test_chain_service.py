"""Configuration given as data comes out in the client's format and says the same; a name that the client lacks is refused."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.plugins import load_plugin

chain_service = load_plugin("chain_service", "filter_plugins", "chain_service")
client_names = load_plugin("chain_service", "filter_plugins", "client_names")

# TOML forbids DEL and lone surrogates, and JSON writes characters beyond the first plane as two of those.
TEXT = st.text(st.characters(max_codepoint=0xFFFF, exclude_characters="\x7f", exclude_categories=["Cs"]))
SCALAR = st.booleans() | st.integers(-(2**63), 2**63 - 1) | TEXT
DATA = st.recursive(
    st.dictionaries(TEXT, SCALAR | st.lists(SCALAR, max_size=3), max_size=4),
    lambda inner: st.dictionaries(TEXT, SCALAR | inner, max_size=4),
    max_leaves=12,
)


@given(DATA)
def test_toml_says_what_the_data_says(data: dict[str, Any]) -> None:
    assert tomllib.loads(chain_service.chain_service_toml(data)) == data


SERVICES = {
    "erigon": {"chain": "ethereum", "part": "execution"},
    "base": {"chain": "base", "part": "pair"},
    "base-execution": {"chain": "base", "part": "execution"},
    "base-consensus": {"chain": "base", "part": "consensus"},
}
CHAINS = {"ethereum": {"data_path": "/data/a"}, "base": {"data_path": "/data/b"}}


def test_a_pair_s_units_go_in_their_order() -> None:
    assert [unit["name"] for unit in chain_service.chain_service_units(["base"], SERVICES)] == [
        "base",
        "base-consensus",
        "base-consensus-snapshot",
        "base-execution",
        "base-execution-snapshot",
    ]


def test_only_the_named_chain_s_data_and_secret_are_deleted() -> None:
    assert [place["place"] for place in chain_service.chain_service_places(["base"], CHAINS, "/secrets")] == [
        "/data/b",
        "/secrets/base.hex",
    ]


@pytest.mark.parametrize(
    ("chains", "data", "present", "sentence"),
    [
        ([], [], [], "remove_chains is not set"),
        (["bas"], [], [], "remove_chains names 'bas'; allowed: ethereum, base."),
        (["base"], ["bas"], [], "remove_data names 'bas'; allowed: ethereum, base."),
        (["base"], ["ethereum"], [], "remove_data names 'ethereum', which remove_chains does not"),
        (["base"], [], ["base"], "'base' is in node_chains of node1"),
    ],
)
def test_a_removal_that_is_not_meant_is_refused(
    chains: list[str], data: list[str], present: list[str], sentence: str
) -> None:
    [problem] = chain_service.chain_service_remove_problems(chains, data, present, CHAINS, "node1")
    assert problem.startswith(sentence)


def test_a_removal_by_name_is_allowed() -> None:
    assert chain_service.chain_service_remove_problems(["base"], ["base"], ["ethereum"], CHAINS, "node1") == []


def test_json_keeps_the_order_of_its_keys() -> None:
    data = {"rpc": 1, "name": {"b": [1], "a": "x"}}
    text = chain_service.chain_service_json(data)
    assert json.loads(text) == data
    assert text.index("rpc") < text.index("name")
    assert text.endswith("}\n")


def test_a_directory_is_below_the_data_path() -> None:
    assert [chain_service.chain_service_directory(name, "/data/x")["path"] for name in ("", "bor/data")] == [
        "/data/x",
        "/data/x/bor/data",
    ]


def test_what_is_not_set_is_left_to_the_client_and_nought_is_set() -> None:
    options = {
        "a": "",
        "b": None,
        "c": False,
        "d": [],
        "e": 0,
        "f": True,
        "g": ["x", "y"],
        "h": {"i": None, "j": 1},
        "k": {"l": ""},
    }
    assert chain_service.chain_service_given(options) == {"e": 0, "f": True, "g": ["x", "y"], "h": {"j": 1}}


def test_flags_are_written_with_their_values_and_switches_without() -> None:
    assert chain_service.chain_service_flags({"e": 0, "f": True, "g": ["x", "y"], "h": "1 GB", "i": None}) == [
        "--e=0",
        "--f",
        "--g=x,y",
        "--h=1 GB",
    ]


def command(program: str, **given: Any) -> dict[str, Any]:
    return {"program": program, "set_in": f"{program}_extra", **given}


@pytest.mark.parametrize(
    ("given_command", "sentence"),
    [
        (
            command("erigon", arguments=["--maxpeers=7", "--maxpeer=7"]),
            (
                "erigon has no flag --maxpeer, set in erigon_extra; allowed: those of roles/chain_service/files/flags/erigon.txt; "
                "the nearest is maxpeers."
            ),
        ),
        (
            command("erigon", arguments=["--maxpeers=7", "externalcl"]),
            "erigon is given the word 'externalcl', set in erigon_extra; allowed: flags as --name or --name=value.",
        ),
        (
            command("base-consensus", environment={"BASE_NODE_NETWORKS": "base", "HOME": "/"}),
            "base-consensus reads no variable BASE_NODE_NETWORKS, set in base-consensus_extra; the nearest is BASE_NODE_NETWORK.",
        ),
        (
            command("bor", files=[{"path": "/x/config.toml", "data": {"p2p": {"maxpeers": 1, "maxpears": 1}}}]),
            "bor knows no key p2p.maxpears in config.toml, set in bor_extra; the nearest is p2p.maxpeers.",
        ),
        (
            command("parity"),
            (
                "There is no list of flags for 'parity'; allowed: erigon, op-reth, base-reth-node, geth, op-node, base-consensus, bor, "
                "heimdalld, nitro."
            ),
        ),
    ],
)
def test_a_name_that_a_client_does_not_know_is_refused_with_the_nearest_that_it_does(
    given_command: dict[str, Any], sentence: str
) -> None:
    assert client_names.unknown([given_command]) == [sentence]


def test_a_subcommand_and_the_file_that_a_client_is_pointed_to_are_no_loose_words() -> None:
    commands = [command("bor", arguments=["server", "-config", "/x"]), command("op-reth", arguments=["node", "--full"])]
    assert client_names.unknown(commands) == []


def test_a_flag_that_upstream_has_removed_is_refused() -> None:
    [sentence] = client_names.unknown([command("erigon", arguments=["--internalcl"])])
    assert sentence.startswith("erigon has no flag --internalcl")
