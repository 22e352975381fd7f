"""The edge's tiers and method sets are held to their rules before anything is touched, and keys are kept by their hashes alone."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.plugins import load_plugin

ROLE = Path(__file__).parents[3] / "roles" / "nginx"
DEFAULTS = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
CHAINS = {"ethereum": {"family": "erigon"}, "polygon": {"family": "polygon"}, "base": {"family": "op_stack"}}


RULES: Any = load_plugin("nginx", "filter_plugins", "nginx_rules")
KEYS: Any = load_plugin("nginx", "files", "edge_keys")
TIER = {
    "name": "public",
    "requests_per_minute": 100,
    "burst": "20",
    "connections": 50,
    "websockets": 10,
    "batch_calls": 20,
    "log_blocks": 100,
    "method_sets": ["standard"],
}
SET = {"name": "standard", "methods": ["eth_call"]}


def problems(tiers: Any = (TIER,), sets: Any = (SET,), ceilings: Any = ()) -> list[str]:
    found: list[str] = RULES.problems(tiers, sets, ceilings, CHAINS)
    return found


def test_what_is_usual_is_allowed() -> None:
    assert problems() == []
    partner = DEFAULTS["nginx_tiers"][1]
    assert (
        problems([TIER, partner], DEFAULTS["nginx_method_sets"], [{"chain": "base", "calls_per_second": 5, "burst": 1}])
        == []
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"burst": 100},
            "burst of the tier public (nginx_tiers) is 100; allowed: less than its requests_per_minute, 100",
        ),
        ({"batch_calls": 21}, "batch_calls of the tier public (nginx_tiers) is 21; allowed: at most its burst, 20"),
        ({"connections": 0}, "connections of the tier public (nginx_tiers) is 0; allowed: a whole number from 1 on."),
        ({"log_blocks": "many"}, "log_blocks of the tier public (nginx_tiers) is 'many'"),
        ({"method_sets": ["other"]}, "names other, which is not in nginx_method_sets; allowed: standard."),
        ({"name": "Public"}, "nginx_tiers has the name 'Public'"),
        ({"name": "partner"}, "nginx_tiers has no tier public"),
    ],
)
def test_a_tier_that_cannot_be_held_is_named(change: dict[str, Any], words: str) -> None:
    assert words in " ".join(problems([{**TIER, **change}]))


@pytest.mark.parametrize("method", ["admin_peers", "engine_newPayloadV3", "miner_start", "personal_sign", "anvil_mine"])
def test_no_set_may_hold_what_steers_a_node(method: str) -> None:
    assert f"is {method}; allowed: none that begins with" in " ".join(problems(sets=[{**SET, "methods": [method]}]))


def test_sets_and_ceilings_name_what_there_is() -> None:
    assert "allowed: a name such as eth_call" in problems(sets=[{**SET, "methods": ["eth call"]}])[0]
    assert "families" in problems(sets=[{**SET, "families": ["geth"]}])[0]
    assert (
        "nginx_chain_ceilings names gnosis"
        in problems(ceilings=[{"chain": "gnosis", "calls_per_second": 1, "burst": 1}])[0]
    )


def test_numbers_have_bounds_and_networks_a_form() -> None:
    assert RULES.number_problems({name: DEFAULTS[name] for name in RULES.NUMBERS}) == []
    assert RULES.number_problems({"nginx_header_seconds": "301", "nginx_send_seconds": "15"}) == [
        "nginx_header_seconds is '301' in the inventory; allowed: a whole number from 1 to 300."
    ]
    assert RULES.number_problems({"nginx_send_seconds": None, "nginx_http2_streams": True})[1].startswith(
        "nginx_http2_streams is True"
    )
    assert RULES.number_problems({"nginx_emergency_burst": 5, "nginx_emergency_requests_per_minute": 5}) == [
        "nginx_emergency_burst is 5 in the inventory; allowed: less than nginx_emergency_requests_per_minute, 5."
    ]
    assert RULES.no_networks(["192.0.2.0/24", "2001:db8::/32", "192.0.2.1", "300.0.0.1", "all", 7]) == [
        "300.0.0.1",
        "all",
        7,
    ]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of keys, and what is said to the journal in `said`."""
    keys = tmp_path / "keys"
    keys.mkdir()
    config = tmp_path / "pools.json"
    config.write_text(json.dumps({"keys": str(keys), "tiers": [{"name": "public"}, {"name": "partner"}]}))
    monkeypatch.setattr(KEYS, "CONFIG", config)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "chown", lambda *_: None)
    monkeypatch.setattr(KEYS.syslog, "syslog", lambda _, text: (tmp_path / "said").open("a").write(text + "\n"))
    return tmp_path


def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["edge-keys", *words])
    code = KEYS.main()
    said = capsys.readouterr()
    return code, said.out, said.err


def test_a_key_is_printed_once_and_its_hash_is_kept(
    host: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, key, _ = command(monkeypatch, capsys, "create", "acme", "--tier", "partner", "--days", "7")
    key = key.strip()
    assert (code, len(key), key[:5]) == (0, 48, "edge_")
    (path,) = (host / "keys").iterdir()
    assert path.stem == hashlib.sha256(key.encode()).hexdigest()
    record = json.loads(path.read_text())
    assert (record["name"], record["tier"], record["not_after"] - record["not_before"]) == (
        "acme",
        "partner",
        7 * 86400,
    )
    shown = command(monkeypatch, capsys, "list")[1] + command(monkeypatch, capsys, "list", "--json")[1]
    assert key not in shown + path.read_text() + (host / "said").read_text()
    assert (host / "said").read_text().startswith('created {"name": "acme"')


def test_two_keys_of_a_name_may_be_valid_and_no_third(
    host: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make = ("create", "acme", "--tier", "partner")
    assert [command(monkeypatch, capsys, *make)[0] for _ in range(2)] == [0, 0]
    code, out, problem = command(monkeypatch, capsys, *make)
    assert (code, out) == (1, "")
    assert "acme has 2 keys already" in problem
    # One that ends soon makes room only once it has ended.
    first = min(path.stem for path in (host / "keys").iterdir())
    assert command(monkeypatch, capsys, "revoke", "acme", "--id", first[:12], "--after", "0")[0] == 0
    assert command(monkeypatch, capsys, *make)[0] == 0
    assert json.loads(command(monkeypatch, capsys, "revoke", "acme")[1]) == {"changed": True, "keys": 3}
    assert json.loads(command(monkeypatch, capsys, "revoke", "acme")[1]) == {"changed": False, "keys": 0}


def test_a_tier_must_be_there(host: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, problem = command(monkeypatch, capsys, "create", "acme", "--tier", "gold")
    assert (code, problem) == (1, "edge-keys: There is no tier gold; allowed: public, partner.\n")
    assert not list((host / "keys").iterdir())


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"name": "../x", "tier": "public", "not_before": 0, "not_after": 1, "sha256": "a"}']
)
def test_what_is_no_record_is_not_installed(
    text: str, host: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    given = tmp_path / "given"
    given.write_text(text)
    with given.open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert command(monkeypatch, capsys, "install")[0] == 1
    assert not list((host / "keys").iterdir())
