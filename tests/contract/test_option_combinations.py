"""Whatever combination of options an inventory sets, a client is given only names that it knows and values that it can read."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lab.standins.client import plan
from lab.standins.client.arguments import parse
from roles.chain_service.filter_plugins import client_names as names
from tests.contract.rendering import ROLES, rendered
from tests.plugins import load_plugin

toml = load_plugin("chain_service", "filter_plugins", "chain_service").chain_service_toml

# What Python writes of a value that nobody has turned into the client's own form.
PYTHONIC = re.compile(r"None|True|False|[\[{'].*")
ENODES = st.lists(
    st.builds(
        "enode://{}@192.0.2.{}:30303".format, st.from_regex(r"[0-9a-f]{128}", fullmatch=True), st.integers(1, 254)
    ),
    max_size=3,
    unique=True,
)
URL = st.builds("https://{}.example.com/{}".format, st.sampled_from("ab"), st.sampled_from(["", "key", "a?b=c"]))
MULTIADDRESSES = st.lists(st.just("/ip4/192.0.2.2/tcp/9222/p2p/16Uiu2HAm"), max_size=1)
COSMOS_PEERS = st.sampled_from(["", "0123456789abcdef@192.0.2.2:26656", "01@192.0.2.2:26656,02@192.0.2.3:26656"])
DURATION = st.sampled_from(["", "5s", "1m30s", "250ms"])
SIZE = st.sampled_from(["", "2G", "512M", "8TB", "64mb"])
ADDRESS = st.sampled_from(["", "192.0.2.1"])
# What the specs call a text or a list of texts, by the end of the option's name.
TEXTS = {
    "_trusted_peers": ENODES,
    "_static_peers": ENODES,
    "_bootnodes": ENODES,
    "_consensus_static_peers": MULTIADDRESSES,
    "_persistent_peers": COSMOS_PEERS,
    "_seeds": COSMOS_PEERS,
    "_feed_urls": st.lists(st.just("wss://feed.example.com"), max_size=2, unique=True),
    "_beacon_fallbacks": st.lists(URL, max_size=2, unique=True),
    "_url": st.one_of(st.just(""), URL),
    "_latest_base": st.one_of(st.just(""), URL),
    "_init_again": st.sampled_from(["", "/data/blockchain/arbitrum/arb1"]),
    "_poll": DURATION,
    "_beacon": st.one_of(st.just(""), URL),
    "_timeout": DURATION,
    "_size": SIZE,
    "_size_limit": SIZE,
    "_rate": SIZE,
    "_public_ip": ADDRESS,
    "_http_api": st.lists(st.sampled_from(["eth", "net", "web3", "debug"]), min_size=1, unique=True),
    "_beacon_api": st.lists(st.sampled_from(["beacon", "node", "config"]), min_size=1, unique=True),
}
# How an inventory writes a switch; the specs take all of them.
SWITCHES = st.sampled_from([True, False, "true", "false", "yes", "no"])


class Case(NamedTuple):
    """A chain, the role that runs it, the variable that holds what its clients are given, and its execution client."""

    chain: str
    role: str
    commands: str
    execution: str = "op-reth"


CASES = [
    Case("ethereum", "erigon", "_erigon_arguments"),
    Case("sepolia", "erigon", "_erigon_arguments"),
    Case("base", "op_stack", "_op_stack_commands"),
    Case("optimism", "op_stack", "_op_stack_commands"),
    Case("optimism", "op_stack", "_op_stack_commands", "op-geth"),
    Case("polygon", "polygon", "_polygon_commands"),
    Case("arbitrum", "nitro", "_nitro_arguments"),
]


def spec_of(role: str) -> dict[str, Any]:
    specs = yaml.safe_load((ROLES / role / "meta" / "argument_specs.yml").read_text())
    options: dict[str, Any] = specs["argument_specs"]["main"]["options"]
    return options


def values(name: str, option: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """Values that the spec allows, in each of the forms in which an inventory may write them."""
    if "choices" in option:
        return st.sampled_from(option["choices"])
    if option["type"] == "bool":
        return SWITCHES
    if option["type"] in ("int", "float"):
        number = st.integers(1, 1_000_000)
        return st.one_of(number, number.map(str))
    endings = sorted((ending for ending in TEXTS if name.endswith(ending)), key=len)
    assert endings, f"{name}: say in TEXTS what an inventory may write for it"
    return TEXTS[endings[-1]]


def options_of(role: str) -> st.SearchStrategy[dict[str, Any]]:
    free = {
        name: values(name, option)
        for name, option in spec_of(role).items()
        # What an operator adds by hand has checks and tests of its own.
        if not option.get("required") and "_extra_" not in name
    }
    return st.fixed_dictionaries({}, optional=free)


def commands(case: Case, options: dict[str, Any]) -> list[dict[str, Any]]:
    told = rendered(case.commands, {**options, f"{case.role}_chain": case.chain}, case.execution)
    if told and isinstance(told[0], str):
        return [{"program": case.role, "arguments": told}]
    return list(told)


def check_line(program: str, arguments: list[str]) -> None:
    assert names.unknown_flags(program, arguments) == []
    flags = [word.partition("=")[0] for word in arguments if word.startswith("-")]
    assert sorted(flags) == sorted(set(flags))
    for word in arguments:
        name, equals, value = word.partition("=")
        assert not equals or value, f"{name} has no value"
        assert not PYTHONIC.fullmatch(value), word


def check_file(program: str, name: str, data: dict[str, Any]) -> None:
    assert names.unknown_keys(program, name, data) == []
    assert tomllib.loads(toml(data)) == data
    for key, value in names.flatten(data).items():
        assert value is not None, key
        assert not (isinstance(value, str) and (PYTHONIC.fullmatch(value) or value.isdecimal())), f"{key} = {value!r}"


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.chain}-{case.execution}")
def test_every_combination_is_one_that_the_clients_take(case: Case, tmp_path_factory: pytest.TempPathFactory) -> None:
    @settings(
        max_examples=40,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(options_of(case.role))
    def holds(options: dict[str, Any]) -> None:
        for command in commands(case, options):
            program, files = command["program"], command.get("files", [])
            home = tmp_path_factory.mktemp(program)
            folder = home / "config" if program == "heimdalld" else home
            folder.mkdir(exist_ok=True)
            check_line(program, command["arguments"])
            assert names.unknown_variables(program, command.get("environment", {})) == []
            for variable, value in command.get("environment", {}).items():
                assert str(value), variable
                assert not PYTHONIC.fullmatch(str(value)), variable
            for file in files:
                name = file["path"].rpartition("/")[2]
                check_file(program, name, file["data"])
                (folder / name).write_text(toml(file["data"]))
            root = (
                files[0]["path"].removesuffix("/config/app.toml").removesuffix("/config.toml") if files else "/nowhere"
            )
            arguments = [word.replace(root, str(home)) for word in command["arguments"]]
            # The stand-ins refuse what their clients would refuse.
            assert plan.of(program, parse(program, arguments), command.get("environment", {})).program == program

    holds()


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.chain}-{case.execution}")
def test_a_number_or_text_that_is_set_to_nothing_is_left_out_or_refused_in_one_sentence(case: Case) -> None:
    for name, option in spec_of(case.role).items():
        # Ansible itself refuses to join a list that is none.
        if option.get("required") or "default" not in option or option["type"] in ("list", "dict"):
            continue
        told = commands(case, {name: None})
        refused = names.unknown({"set_in": "an option", **command} for command in told)
        words = [word for command in told for word in command["arguments"]]
        assert len(refused) <= 1, name
        assert refused or not any(word.endswith("=") or PYTHONIC.fullmatch(word.partition("=")[2]) for word in words), (
            name
        )


@pytest.mark.parametrize("role", ["erigon", "op_stack", "polygon", "nitro"])
def test_the_property_sees_every_option(role: str) -> None:
    for name, option in spec_of(role).items():
        assert option.get("required") or "_extra_" in name or values(name, option) is not None
