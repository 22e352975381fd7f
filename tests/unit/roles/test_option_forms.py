"""Options of the clients that have a form: what has it passes, what has not is named with what is allowed."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.plugins import ROLES, load_plugin

option_forms = load_plugin("chain_service", "filter_plugins", "option_forms")

KEY = "ab" * 64
ENODE = f"enode://{KEY}@192.0.2.1:30303"
PEER = f"{'0f' * 20}@peer.example.com:26656"
FAMILIES = ("erigon", "op_stack", "polygon", "nitro")


def problems(form: str, value: object) -> list[str]:
    found: list[str] = option_forms.ill_formed({"option": value}, {form: ["option"]})
    return found


@pytest.mark.parametrize(
    ("form", "value"),
    [
        ("number", None),
        ("number", 0),
        ("number", "4096"),
        ("peers", 10_000),
        ("mebibytes", 1),
        ("gibibytes", 2600),
        ("gibibytes", 0.5),
        ("gibibytes", None),
        ("size", "2G"),
        ("size", "8TB"),
        ("size", "64mb"),
        ("size", ""),
        ("duration", "1m30s"),
        ("ipv4", "192.0.2.1"),
        ("url", "https://user:word@beacon.example.com:8443/path?key=1"),
        ("urls", ["http://127.0.0.1:5052"]),
        ("websockets", ["wss://feed.example.com/feed"]),
        ("enodes", []),
        ("enodes", [ENODE, f"{ENODE}?discport=30301", f"enode://{KEY}@[2001:db8::1]:30303"]),
        ("multiaddresses", ["/ip4/192.0.2.2/tcp/9222/p2p/16Uiu2HAmVFmeTXLXB1mZ5VqFdM7CHnTMx9eZbnXpvL9uaMJ6xVKY"]),
        ("comet_peers", f"{PEER},{PEER}"),
        ("namespaces", ["eth", "web3"]),
    ],
)
def test_what_has_its_form_passes(form: str, value: object) -> None:
    assert problems(form, value) == []


@pytest.mark.parametrize(
    ("form", "value"),
    [
        ("number", -1),
        ("number", True),
        ("number", "many"),
        ("number", 2**63),
        ("peers", 10_001),
        ("mebibytes", 0),
        ("gibibytes", 0),
        ("gibibytes", -1),
        ("gibibytes", "much"),
        ("size", "2 parsecs"),
        ("size", "G"),
        ("duration", "5"),
        ("duration", "five seconds"),
        ("ipv4", "192.0.2.256"),
        ("ipv4", "node.example.com"),
        ("url", "beacon.example.com"),
        ("url", "https://"),
        ("url", "https://beacon.example.com:99999"),
        ("url", "https://a.example.com https://b.example.com"),
        ("urls", ["wss://beacon.example.com"]),
        ("websockets", ["https://feed.example.com"]),
        ("enodes", [f"enode://{KEY[2:]}@192.0.2.1:30303"]),
        ("enodes", [f"enode://{KEY}@192.0.2.1"]),
        ("enodes", [f"enode://{KEY}@192.0.2.1:70000"]),
        ("enodes", [f"{ENODE},{ENODE}"]),
        ("multiaddresses", [ENODE]),
        ("comet_peers", "peer.example.com:26656"),
        ("comet_peers", PEER.replace("26656", "0")),
        ("namespaces", ["eth,net"]),
    ],
)
def test_what_has_not_is_named_with_what_is_allowed(form: str, value: object) -> None:
    [problem] = problems(form, value)
    shown = value[0] if isinstance(value, list) else value
    assert problem.startswith("option ")
    assert repr(shown) in problem
    assert f"allowed: {option_forms.FORMS[form].allowed}." in problem


@pytest.mark.parametrize("value", [None, ENODE, 3])
def test_what_is_no_list_is_told_how_to_say_none(value: object) -> None:
    assert problems("enodes", value)[0].endswith("[] for none.")


@pytest.mark.parametrize("family", FAMILIES)
def test_the_roles_forms_name_options_that_there_are_and_hold_their_defaults(family: str) -> None:
    defaults: dict[str, Any] = yaml.safe_load((ROLES / family / "defaults" / "main.yml").read_text())
    forms: dict[str, list[str]] = yaml.safe_load((ROLES / family / "vars" / "main.yml").read_text())[f"_{family}_forms"]
    assert option_forms.ill_formed(defaults, forms) == []


@pytest.mark.parametrize("family", FAMILIES)
def test_every_number_and_every_list_of_addresses_has_a_form(family: str) -> None:
    specs = yaml.safe_load((ROLES / family / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"][
        "options"
    ]
    forms = yaml.safe_load((ROLES / family / "vars" / "main.yml").read_text())[f"_{family}_forms"]
    formed = {option for options in forms.values() for option in options}
    wanted = {
        name
        for name, spec in specs.items()
        if spec["type"] in {"int", "float"} or (spec["type"] == "list" and not name.endswith("_extra_flags"))
    }
    assert wanted - formed == set()
