"""No secret stands in an inventory in plain text: it is told by its variable or its form, and the sentence never holds it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.plugins import ROLES, load_plugin

plugin = load_plugin("secrets", "filter_plugins", "secrets_plaintext")

KEY = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
TABLE = {"signer_key": {"variables": ["mev_agents_signer_key"]}}
PEM = "-----BEGIN" + " EC PRIVATE KEY-----\n    MHcCAQEEIA\n    -----END EC PRIVATE KEY-----"
VAULTED = "$ANSIBLE_VAULT;1.1;AES256\n    62313365396662343061393464336163\n    6339613833393762"


def problems(tmp_path: Path, text: str, name: str = "group_vars/all/fleet.yml", **more: Any) -> list[str]:
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return list(plugin.problems([str(tmp_path)], TABLE, str(more.pop("roles", ROLES)), **more))


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (f"key_of_something: '0x{KEY}'\n", "line 1: key_of_something"),
        (f"a: 1\nlist:\n  - {{x: 0x{KEY}}}\n", "line 3: list"),
        (f"tls: |\n    {PEM}\n", "line 2: tls"),
        ("url: postgres://mev:hunter22@db:5432/mev\n", "line 1: url"),
        (f"identity: AGE-SECRET-KEY-1{'QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L' * 2}\n", "line 1: identity"),
        ("aws:\n  id: AKIAIOSFODNN7EXAMPLE\n", "line 2: id"),
        (f"# once: '0x{KEY}'\n", "line 1: once"),
        ("mev_agents_signer_key: " + KEY + "\n", "line 1: mev_agents_signer_key"),
        ("ansible_become_password: letmein\n", "line 1: ansible_become_password"),
        ("node:\n  rpc_token: abcdef\n", "line 2: rpc_token"),
        ("grafana: {admin_password: 1234}\n", "line 1: admin_password"),
        ("api_key: !vault plain after all\n", "line 1: api_key"),
        ("db_password: ['first', 'second']\n", "line 1: db_password"),
    ],
)
def test_plain_text_is_refused_and_never_said(tmp_path: Path, text: str, where: str) -> None:
    found = problems(tmp_path, text)
    assert len({line.split(" (")[0] for line in found}) == 1, found
    assert f"group_vars/all/fleet.yml, {where} is a secret in plain text" in found[0]
    for value in (KEY, "MHcCAQEEIA", "hunter22", "QPZRY", "AKIA", "letmein", "abcdef", "1234", "after all", "first"):
        assert value not in found[0]


@pytest.mark.parametrize(
    "text",
    [
        f"redis_password: !vault |\n    {VAULTED}\n",
        f"{VAULTED}\n",
        "redis_password: '{{ vault_redis_password }}'\n",
        "redis_password: \"{{ lookup('ansible.builtin.env', 'REDIS_PASSWORD') }}\"\n",
        "url: 'postgres://mev:{{ vault_password }}@db/mev'\n",
        "redis_password: ''\nother_token: null\nuse_token: true\n",
        "mev_agents_bus_password_source: /etc/fleet/bus-password\n",
        "tokens:\n  - {symbol: WETH, address: '0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2'}\n",
        "release_pins: {nitro: {x86_64: 'sha256:" + KEY + "'}}\n",
        (
            "redis_password: ENC[AES256_GCM,data:abc=,iv:x,tag:y,type:str]\nsops:\n    mac: ENC[AES256_GCM,data:z]\n    age:\n"
            "        - recipient: age1qqq\n          enc: |\n            -----BEGIN AGE ENCRYPTED FILE-----\n            YWdl\n"
        ),
        "not: [yaml\n",
    ],
)
def test_what_is_encrypted_or_only_refers_passes(tmp_path: Path, text: str) -> None:
    assert problems(tmp_path, text) == []


def test_a_sops_file_s_values_that_are_not_encrypted_are_refused(tmp_path: Path) -> None:
    text = (
        "redis_password: forgotten\nother_password: ENC[AES256_GCM,data:abc=]\nsops:\n  mac: ENC[AES256_GCM,data:z]\n"
    )
    found = problems(tmp_path, text, "group_vars/all/secrets.sops.yaml")
    assert len(found) == 1
    assert "line 1: redis_password" in found[0]


def test_files_that_are_not_yaml_are_read_too(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "edge.key").write_text(f"{PEM}\n")
    found = problems(
        tmp_path,
        "[nodes]\nn1 ansible_host=192.0.2.1 ansible_password=letmein\nn2 ansible_password='{{ vaulted }}'\n",
        "hosts",
    )
    assert ["line 2: ansible_password" in found[0], "edge.key, line 1: edge.key" in found[1], len(found)] == [
        True,
        True,
        2,
    ]


def test_an_inventory_that_is_a_file_has_its_variables_beside_it(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts.yml"
    hosts.write_text("all: {}\n")
    (tmp_path / "host_vars").mkdir()
    (tmp_path / "host_vars" / "n1.yml").write_text("db_password: x1\n")
    (tmp_path / "elsewhere.yml").write_text("db_password: x1\n")
    found = plugin.problems([str(hosts), str(hosts)], TABLE, str(ROLES))
    assert len(found) == 1
    assert "host_vars/n1.yml, line 1: db_password" in found[0]


def test_no_log_in_a_role_s_specs_makes_a_variable_a_secret(tmp_path: Path) -> None:
    meta = tmp_path / "roles" / "example" / "meta"
    meta.mkdir(parents=True)
    (meta / "argument_specs.yml").write_text(
        "argument_specs: {main: {options: {example_seed: {no_log: true}, o: {options: {example_inner: {no_log: true}}}}}}\n"
    )
    text = "example_seed: abc\nexample_inner: abc\nexample_other: abc\n"
    found = problems(tmp_path / "inventory", text, roles=tmp_path / "roles")
    assert ["example_seed" in found[0], "example_inner" in found[1], len(found)] == [True, True, 2]


def test_an_exception_needs_its_variable_and_a_reason(tmp_path: Path) -> None:
    text = f"genesis_hash: '0x{KEY}'\n"
    allowance = {"variable": "genesis_hash", "reason": "the hash of a block"}
    assert problems(tmp_path, text, allowed=[allowance]) == []
    assert problems(tmp_path, text, allowed=[{**allowance, "file": "group_vars/all/fleet.yml"}]) == []
    assert len(problems(tmp_path, text, allowed=[{**allowance, "file": "host_vars/*"}])) == 1
    assert len(problems(tmp_path, text, allowed=[{**allowance, "variable": "other"}])) == 1
    found = problems(tmp_path, text, allowed=[{**allowance, "reason": " "}])
    assert len(found) == 2
    assert "reason that is not empty" in found[0]


def test_a_file_that_nobody_looks_through_is_refused(tmp_path: Path) -> None:
    found = problems(tmp_path, "x" * (plugin.MOST_BYTES + 1), "blob.bin")
    assert len(found) == 1
    assert "blob.bin, line 1" in found[0]


@pytest.mark.parametrize("inventory", ["lab", "production"])
def test_this_repository_s_inventories_hold_none(inventory: str) -> None:
    assert plugin.problems([str(ROLES.parent / "inventories" / inventory)], TABLE, str(ROLES)) == []
