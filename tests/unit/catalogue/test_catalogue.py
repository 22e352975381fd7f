"""The catalogue holds together, and each way of breaking it is refused with one sentence that helps."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.plugins import load_plugin

ROOT = Path(__file__).parents[3]
ROLE = ROOT / "roles" / "catalogue"

catalogue = load_plugin("catalogue", "filter_plugins", "catalogue")

# system.md's ports and paths: (service, listener) -> port.
DOCUMENTED_PORTS = {
    ("erigon", "rpc"): 8545,
    ("erigon", "ws"): 8546,
    ("erigon", "authrpc"): 8551,
    ("base-execution", "rpc"): 8546,
    ("base-execution", "ws"): 9546,
    ("polygon-bor", "rpc"): 8547,
    ("polygon-bor", "ws"): 9547,
    ("arbitrum", "rpc"): 8548,
    ("arbitrum", "ws"): 9548,
    ("optimism-execution", "rpc"): 8549,
    ("optimism-execution", "ws"): 9549,
    ("sepolia-erigon", "rpc"): 8575,
    ("sepolia-erigon", "ws"): 8576,
    ("sepolia-erigon", "authrpc"): 8581,
}
DOCUMENTED_PATHS = {
    "ethereum": "/data/blockchain/ethereum/erigon",
    "base": "/data/blockchain/base",
    "polygon": "/data/blockchain/polygon",
    "arbitrum": "/data/blockchain/arbitrum",
    "optimism": "/data/blockchain/optimism",
    "sepolia": "/data/blockchain/sepolia",
}


def load(name: str) -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load((ROLE / "defaults" / "main" / f"{name}.yml").read_text())
    return data


@pytest.fixture
def facts() -> dict[str, Any]:
    chains, services, releases = load("chains"), load("services"), load("releases")
    return copy.deepcopy(
        {
            "chains": chains["catalogue_default_chains"],
            "services": services["catalogue_default_services"],
            "host_services": services["catalogue_default_host_services"],
            "releases": releases["catalogue_default_releases"],
            "hosts": {"mev1": host(*chains["catalogue_default_chains"])},
            "domain": chains["catalogue_edge_domain"],
        }
    )


def host(*chains: str, private_address: str = "", external: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"node_chains": list(chains), "private_address": private_address, "external": external or {}}


def problems(facts: dict[str, Any]) -> list[str]:
    found: list[str] = catalogue.problems(**facts)
    return found


def test_all_six_chains_fit_on_one_host(facts: dict[str, Any]) -> None:
    assert problems(facts) == []


def test_documented_ports_and_paths_hold(facts: dict[str, Any]) -> None:
    for (service, listener), port in DOCUMENTED_PORTS.items():
        assert facts["services"][service]["listeners"][listener]["port"] == port
    assert {name: chain["data_path"] for name, chain in facts["chains"].items()} == DOCUMENTED_PATHS


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("chains", "base", "id"), 1, ["Chain id 1", "unique"]),
        (("chains", "base", "id"), "8453", ["'8453'", "whole number"]),
        (("chains", "base", "parent"), "etherium", ["'etherium'", "ethereum"]),
        (("chains", "base", "family"), "opstack", ["'opstack'", "op_stack"]),
        (("chains", "base", "public_name"), "Base_1", ["'Base_1'", "DNS label"]),
        (("chains", "base", "loopback"), "10.0.0.1", ["'10.0.0.1'", "127.0.0.0/8"]),
        (("chains", "base", "data_path"), "/", ["'/'", "/data/"]),
        (("chains", "base", "pool_lag_seconds"), 0, ["pool_lag_seconds", "1 to 30"]),
        (("chains", "base", "pool_lag_seconds"), 31, ["pool_lag_seconds of 'base' is 31", "1 to 30"]),
        (("chains", "base", "least_peers"), -1, ["least_peers", "0 to 10000"]),
        (("chains", "base", "allowed_lag_seconds"), 0, ["allowed_lag_seconds", "1 to 86400"]),
        (("services", "erigon", "chain"), "eth", ["'eth'", "ethereum"]),
        (("services", "erigon", "kill_signal"), "SIGKILL", ["'SIGKILL'", "SIGTERM"]),
        (("services", "erigon", "stop_seconds"), 0, ["stop_seconds", "1 to 3600"]),
        (("services", "erigon", "listeners", "rpc", "port"), 70000, ["70000", "1 to 65535"]),
        (("services", "erigon", "listeners", "rpc", "exposure"), "world", ["'world'", "loopback, vpn, public"]),
        (("services", "erigon", "listeners", "rpc", "port"), 8551, ["erigon.rpc", "erigon.authrpc", "8551"]),
        (("services", "erigon", "listeners", "p2p", "port"), 8443, ["erigon.p2p", "nginx.https", "8443"]),
        (("releases", "erigon", "version"), "v3.8.1", ["'v3.8.1'", "digits first"]),
        (("releases", "erigon", "verify"), {}, ["no verify", "never nothing"]),
        (("releases", "erigon", "kind"), "zip", ["'zip'", "tar"]),
        (("domain",), "localhost", ["'localhost'", "rpc.example.com"]),
    ],
)
def test_a_wrong_value_is_named_with_its_place_and_what_is_allowed(
    facts: dict[str, Any], path: tuple[str, ...], value: object, words: list[str]
) -> None:
    target = facts
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = value
    found = problems(facts)
    assert any(all(word in sentence for word in words) for sentence in found), found
    assert all("inventory" in sentence or "roles/catalogue" in sentence for sentence in found)


def test_an_unknown_chain_of_a_host_is_refused(facts: dict[str, Any]) -> None:
    facts["hosts"]["mev1"] = host("etherium")
    assert problems(facts) == [
        (
            "An entry of node_chains of host 'mev1' is 'etherium' in the inventory; "
            "allowed: ethereum, base, polygon, arbitrum, optimism, sepolia."
        )
    ]


def test_a_rollup_without_its_parent_is_refused(facts: dict[str, Any]) -> None:
    facts["hosts"]["mev1"] = host("arbitrum")
    assert len(problems(facts)) == 2
    assert all("'ethereum'" in sentence for sentence in problems(facts))


def test_a_parent_that_the_inventory_names_is_enough(facts: dict[str, Any]) -> None:
    external = {"ethereum": {"rpc": "https://l1.example.com", "beacon": "https://beacon.example.com"}}
    facts["hosts"]["mev1"] = host("arbitrum", external=external)
    assert problems(facts) == []


def test_a_parent_on_a_neighbour_counts_only_where_the_vpn_reaches_it(facts: dict[str, Any]) -> None:
    facts["hosts"] = {"node1": host("ethereum"), "node2": host("base")}
    assert problems(facts)
    facts["hosts"]["node1"]["private_address"] = "10.66.0.1"
    assert problems(facts) == []


def test_two_chains_on_one_private_address_collide_on_the_documented_clash(facts: dict[str, Any]) -> None:
    facts["hosts"]["mev1"] = host("ethereum", "base", private_address="10.66.0.1")
    assert [sentence for sentence in problems(facts) if "erigon.ws" in sentence and "base-execution.rpc" in sentence]


def test_a_host_asks_its_own_node_before_its_neighbours(facts: dict[str, Any]) -> None:
    hosts = {"a": host("ethereum", private_address="10.0.0.1"), "b": host("ethereum", private_address="10.0.0.2")}
    found = catalogue.endpoint("ethereum", "rpc", facts["services"], facts["chains"], hosts, "b")
    assert found == "http://10.0.0.2:8545"


def test_every_node_that_a_host_reaches_is_an_end_point_its_own_first(facts: dict[str, Any]) -> None:
    hosts = {
        "a": host("ethereum", private_address="10.0.0.1"),
        "b": host("ethereum", private_address="10.0.0.2"),
        "c": host("ethereum"),
        "d": host("base", private_address="10.0.0.4"),
    }
    found = catalogue.endpoints("ethereum", "ws", facts["services"], facts["chains"], hosts, "b", {}, "ws")
    assert found == ["ws://10.0.0.2:8546", "ws://10.0.0.1:8546"]
    stated = {"ethereum": {"ws": "wss://rpc.example"}}
    assert catalogue.endpoints("ethereum", "ws", facts["services"], facts["chains"], hosts, "b", stated, "ws") == [
        "wss://rpc.example"
    ]
    assert catalogue.endpoints("polygon", "ws", facts["services"], facts["chains"], hosts, "b") == []


def test_a_chain_needs_each_of_its_facts(facts: dict[str, Any]) -> None:
    for name in ("id", "title", "family", "network", "components", "loopback", "parent", "public_name", "data_path"):
        broken = copy.deepcopy(facts)
        del broken["chains"]["base"][name]
        assert [sentence for sentence in problems(broken) if sentence.startswith(f"Chain 'base' lacks {name} in ")], (
            name
        )


def pool(facts: dict[str, Any], chain: str, this_host: str) -> dict[str, Any]:
    found: dict[str, Any] = catalogue.pool(
        chain, facts["services"], facts["host_services"], facts["chains"], facts["hosts"], this_host
    )
    return found


def test_a_pool_is_every_node_that_the_host_can_reach(facts: dict[str, Any]) -> None:
    facts["hosts"] = {
        "edge1": host("ethereum", "base"),
        "node1": host("ethereum", private_address="10.66.0.1"),
        "node2": host("base", private_address="10.66.0.2"),
        "node3": host("ethereum"),
    }
    assert pool(facts, "ethereum", "edge1")["nodes"] == [
        {
            "host": "edge1",
            "rpc": "http://127.0.0.1:8545",
            "ws": "http://127.0.0.1:8546",
            "health": "http://127.0.0.1:9110/health",
            "services": ["erigon"],
        },
        {
            "host": "node1",
            "rpc": "http://10.66.0.1:8545",
            "ws": "http://10.66.0.1:8546",
            "health": "http://10.66.0.1:9110/health",
            "services": ["erigon"],
        },
    ]
    assert [node["host"] for node in pool(facts, "ethereum", "node3")["nodes"]] == ["node1", "node3"]
    assert pool(facts, "polygon", "edge1")["nodes"] == []


def test_a_pool_s_own_node_is_reached_where_it_binds(facts: dict[str, Any]) -> None:
    facts["hosts"] = {"node1": host("ethereum", private_address="10.66.0.1")}
    [node] = pool(facts, "ethereum", "node1")["nodes"]
    assert (node["rpc"], node["health"]) == ("http://10.66.0.1:8545", "http://10.66.0.1:9110/health")


def test_both_programs_of_a_chain_count_and_the_execution_client_s_head(facts: dict[str, Any]) -> None:
    assert pool(facts, "base", "mev1")["nodes"][0]["services"] == ["base-execution", "base-consensus"]
    assert pool(facts, "polygon", "mev1")["nodes"][0]["services"] == ["polygon-bor", "polygon-heimdall"]


def test_the_lag_that_a_pool_allows_follows_from_the_chain_s_pace(facts: dict[str, Any]) -> None:
    allowed = {chain: pool(facts, chain, "mev1")["allowed_lag_blocks"] for chain in ("ethereum", "base", "arbitrum")}
    assert allowed == {"ethereum": 5, "base": 15, "arbitrum": 30}
    facts["chains"]["base"]["block_seconds"] = 60
    assert pool(facts, "base", "mev1")["allowed_lag_blocks"] == 2


def test_a_private_address_that_is_none_is_refused(facts: dict[str, Any]) -> None:
    facts["hosts"] = {"node1": host("ethereum", private_address="node1.example.com")}
    assert problems(facts) == [
        "private_address of host 'node1' is 'node1.example.com' in the inventory; allowed: an IPv4 address."
    ]


def test_neighbours_are_the_other_hosts_of_a_chain_that_can_be_reached(facts: dict[str, Any]) -> None:
    facts["hosts"] = {
        "a": host("ethereum", private_address="10.0.0.1"),
        "b": host("ethereum", "base", private_address="10.0.0.2"),
        "c": host("base", private_address="10.0.0.3"),
        "d": host("ethereum"),
    }
    known = (facts["services"], facts["host_services"], facts["chains"], facts["hosts"])
    assert catalogue.neighbours("ethereum", *known, "a") == ["http://10.0.0.2:8545"]
    assert catalogue.neighbours("ethereum", *known, "d") == ["http://10.0.0.1:8545", "http://10.0.0.2:8545"]
    assert catalogue.neighbours("polygon", *known, "a") == []
