"""Several nodes of a chain on one host: each with what it cannot share, and refused where it would share it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

from tests.plugins import ROLES, load_plugin

catalogue = load_plugin("catalogue", "filter_plugins", "catalogue")
forks = load_plugin("catalogue", "filter_plugins", "catalogue_forks")
instances = load_plugin("catalogue", "filter_plugins", "catalogue_instances")

DEFAULTS = ROLES / "catalogue" / "defaults" / "main"
ARCHIVE: dict[str, Any] = {
    "of": "ethereum",
    "loopback": "127.0.0.7",
    "data_path": "/data/blockchain/ethereum-archive",
    "public_name": "ethereum-archive",
    "port_offset": 1000,
}
SECOND_BASE = {
    **ARCHIVE,
    "of": "base",
    "loopback": "127.0.0.8",
    "data_path": "/data/blockchain/base-b",
    "public_name": "base-b",
}


def load(name: str, key: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEFAULTS / f"{name}.yml").read_text())[key]
    return copy.deepcopy(found)


CHAINS = load("chains", "catalogue_default_chains")
SERVICES = load("services", "catalogue_default_services")


def problems(wanted: dict[str, Any], *here: str, private_address: str = "") -> list[str]:
    chains = instances.chains_with(CHAINS, wanted)
    found: list[str] = catalogue.problems(
        chains,
        instances.services_with(SERVICES, wanted, CHAINS),
        load("services", "catalogue_default_host_services"),
        load("releases", "catalogue_default_releases"),
        {"node1": {"node_chains": list(here), "private_address": private_address, "external": {}}},
        "rpc.example.com",
    )
    return found


def test_an_instance_is_its_chain_but_for_what_nodes_cannot_share() -> None:
    archive = instances.chains_with(CHAINS, {"ethereum-archive": {**ARCHIVE, "disk_gib": 4000}})["ethereum-archive"]
    assert archive["instance_of"] == "ethereum"
    assert (archive["id"], archive["components"]) == (CHAINS["ethereum"]["id"], CHAINS["ethereum"]["components"])
    assert archive["data_path"] == "/data/blockchain/ethereum-archive"
    assert archive["disk_gib"] == 4000
    assert archive["title"] == "Ethereum (ethereum-archive)"


@pytest.mark.parametrize(
    ("service", "chain", "name"),
    [
        ("erigon", "ethereum", "x-erigon"),
        ("sepolia-erigon", "sepolia", "x-erigon"),
        ("base", "base", "x"),
        ("base-consensus", "base", "x-consensus"),
        ("polygon-bor", "polygon", "x-bor"),
        ("arbitrum", "arbitrum", "x"),
    ],
)
def test_its_services_have_names_of_their_own(service: str, chain: str, name: str) -> None:
    assert instances.service_name(service, chain, "x") == name


@pytest.mark.parametrize("private_address", ["", "10.0.0.1"])
def test_every_chain_may_stand_twice_on_a_host(private_address: str) -> None:
    wanted = {
        f"{chain}-b": {
            "of": chain,
            "loopback": f"127.0.1.{number}",
            "data_path": f"/data/blockchain/{chain}-b",
            "public_name": f"{chain}-b",
            "port_offset": 10_000,
        }
        for number, chain in enumerate(CHAINS, 1)
    }
    # With a private address the documented ports of Ethereum and Base clash, one time or two.
    here = [chain for chain in CHAINS if not (private_address and chain == "base")]
    assert instances.problems(wanted, CHAINS) == []
    assert problems(wanted, *here, *(f"{chain}-b" for chain in here), private_address=private_address) == []


def test_ports_that_would_meet_are_named() -> None:
    near = {"ethereum-archive": {**ARCHIVE, "port_offset": 1}}
    found = problems(near, "ethereum", "ethereum-archive")
    assert any("erigon.caplin_p2p (0.0.0.0) and ethereum-archive-erigon.caplin_discovery" in each for each in found)


@pytest.mark.parametrize(
    ("fact", "value", "words"),
    [
        ("loopback", "127.0.0.1", "Loopback address '127.0.0.1' stands 2 times"),
        (
            "data_path",
            "/data/blockchain/ethereum/erigon",
            "Data path '/data/blockchain/ethereum/erigon' stands 2 times",
        ),
        ("data_path", "/data/blockchain/ethereum/erigon/b", "lies in that of 'ethereum'"),
        ("public_name", "ethereum", "Public name 'ethereum' stands 2 times"),
    ],
)
def test_what_two_nodes_cannot_share_is_refused(fact: str, value: str, words: str) -> None:
    assert any(words in each for each in problems({"ethereum-archive": {**ARCHIVE, fact: value}}, "ethereum"))


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("ethereum", {}, "is called 'ethereum'; allowed: 2 to 31 of a-z, 0-9 and hyphens"),
        ("Archive", {}, "is called 'Archive'"),
        (
            "archive",
            {"of": "etherium"},
            "'archive' is of 'etherium' in catalogue_instances in the inventory; allowed: ethereum,",
        ),
        ("archive", {"port_offset": "1000"}, "port_offset of 'archive' is '1000'"),
        ("archive", {"port_offset": 0}, "allowed: a whole number from 1 to 60000"),
        ("archive", {"id": 5}, "'archive' sets id in catalogue_instances"),
    ],
)
def test_what_is_malformed_is_one_sentence(name: str, change: dict[str, Any], words: str) -> None:
    (found,) = instances.problems({name: {**ARCHIVE, **change}}, CHAINS)
    assert words in found
    # What refers to it does not fail before the sentence is said.
    assert instances.chains_with(CHAINS, {name: {**ARCHIVE, **change}}) == CHAINS


def test_what_is_missing_is_named() -> None:
    assert instances.problems({"archive": {"of": "ethereum"}}, CHAINS) == [
        "'archive' lacks loopback, data_path, public_name, port_offset in catalogue_instances in the inventory; each is required."
    ]
    assert "allowed: a table with of," in instances.problems({"archive": None}, CHAINS)[0]


def test_a_port_beyond_the_last_is_refused() -> None:
    found = problems({"ethereum-archive": {**ARCHIVE, "port_offset": 60_000}}, "ethereum")
    assert any("Port of listener 'ethereum-archive-erigon.rpc' is 68545" in each for each in found)


def test_its_chain_s_forks_are_its_own() -> None:
    chains = instances.chains_with(CHAINS, {"base-b": SECOND_BASE})
    policy = {
        "forks": load("forks", "catalogue_default_forks"),
        "overrides": [{"chain": "base", "fork": "Denim", "reason": "a devnet"}],
        "now": "2026-11-25T00:00:00Z",
        "warn_days": 30,
    }
    rows = forks.readiness(["base-b"], "node1", chains, {"base-reth-node": "1.0.0", "base-consensus": "1.5.1"}, policy)
    states = {(row["fork"], row["component"]): row["state"] for row in rows}
    assert states["Azul", "base-reth-node"] == "ready"
    assert states["Denim", "base-reth-node"] == "overridden"
    assert {row["chain"] for row in rows} == {"base-b"}


def test_options_of_a_chain_that_is_not_known_are_refused() -> None:
    hosts = {"node1": {"node_chains": ["ethereum"], "private_address": "", "external": {}, "options_of": ["etherium"]}}
    found = catalogue.problems(
        CHAINS,
        SERVICES,
        load("services", "catalogue_default_host_services"),
        load("releases", "catalogue_default_releases"),
        hosts,
        "rpc.example.com",
    )
    assert found == [
        f"An entry of node_options of host 'node1' is 'etherium' in the inventory; allowed: {', '.join(CHAINS)}."
    ]
