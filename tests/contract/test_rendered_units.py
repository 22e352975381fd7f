"""What the client roles render holds only names that their client accepts, whichever way the common options are set."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.standins.client import plan
from lab.standins.client.arguments import parse
from roles.chain_service.filter_plugins import client_names as names
from tests.plugins import load_plugin

ROOT = Path(__file__).parents[2]
PROGRAMS = {"heimdall": "heimdalld", "op-geth": "geth"}
ADDRESS = "192.0.2.1"
PEERS = ["enode://00@192.0.2.2:30303", "enode://01@192.0.2.3:30303"]
ERIGON_NUMBERS = [
    "db_read_concurrency",
    "batch_limit",
    "logs_max_results",
    "returndata_limit",
    "gas_cap",
    "ws_max_connections",
    "txpool_account_slots",
    "txpool_global_slots",
    "txpool_global_queue",
    "txpool_price_limit",
    "subscription_max_logs",
    "subscription_max_headers",
    "subscription_max_txs",
]
OP_STACK_NUMBERS = [
    "max_peers",
    "gas_cap",
    "max_logs",
    "max_blocks_per_filter",
    "max_connections",
    "max_subscriptions",
    "state_cache_mb",
    "txpool_account_slots",
    "l1_max_concurrency",
    "l1_rate_limit",
    "l1_confirmations",
    "consensus_max_peers",
]
NITRO_NUMBERS = ["snapshot_cache_mb", "trie_dirty_cache_mb", "trie_clean_cache_mb", "l1_retries", "gas_cap"]
POLYGON_NUMBERS = [
    "bor_txpool_account_slots",
    "bor_txpool_global_slots",
    "bor_gas_cap",
    "heimdall_max_inbound_peers",
    "heimdall_max_outbound_peers",
]
VARIANTS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "public address": {"erigon_public_ip": ADDRESS, "op_stack_public_ip": ADDRESS, "polygon_public_ip": ADDRESS},
    "beacon fallbacks": {"op_stack_beacon_fallbacks": ["https://beacon.example.com"]},
    "every option": {
        **{f"erigon_{name}": 7 for name in ERIGON_NUMBERS},
        "erigon_trusted_peers": PEERS,
        "erigon_static_peers": PEERS,
        "erigon_bootnodes": PEERS,
        "erigon_checkpoint_sync_url": "https://beacon.example.com",
        "erigon_blobs_archive": True,
        "erigon_include_receipts": True,
        "erigon_batch_size": "2G",
        "erigon_db_size_limit": "8TB",
        "erigon_evm_timeout": "5s",
        "erigon_torrent_download_rate": "64mb",
        "erigon_torrent_upload_rate": "4mb",
        **{f"op_stack_{name}": 7 for name in OP_STACK_NUMBERS},
        "op_stack_history": "archive",
        "op_stack_trusted_peers": PEERS,
        "op_stack_bootnodes": PEERS,
        "op_stack_consensus_static_peers": ["/ip4/192.0.2.2/tcp/9222/p2p/16Uiu2HAm"],
        "op_stack_log_level": "debug",
        "op_stack_consensus_extra_environment": {"BASE_NODE_LOG_VERBOSITY": "3"},
        **{f"nitro_{name}": 7 for name in NITRO_NUMBERS},
        "nitro_archive": True,
        "nitro_state_scheme": "path",
        "nitro_feed_urls": ["wss://feed.example.com"],
        "nitro_secondary_beacon": "https://beacon.example.com",
        "nitro_evm_timeout": "5s",
        "nitro_init_url": "https://snapshots.example.com/full-path.tar",
        "nitro_init_download_poll": "1m",
        **{f"polygon_{name}": 7 for name in POLYGON_NUMBERS},
        "polygon_gcmode": "archive",
        "polygon_bor_static_peers": PEERS,
        "polygon_bor_trusted_peers": PEERS,
        "polygon_bor_bootnodes": PEERS,
        "polygon_heimdall_persistent_peers": "0123456789abcdef@192.0.2.2:26656",
        "polygon_bor_extra_config": {"txpool": {"lifetime": "1h"}},
        "polygon_heimdall_extra_config": {"mempool": {"size": 100}},
    },
    "op-geth pair": {
        **{f"op_stack_{name}": 7 for name in OP_STACK_NUMBERS},
        "op_stack_history": "archive",
        "op_stack_bootnodes": PEERS,
        "catalogue_chain_overrides": {"optimism": {"components": {"execution": "op-geth", "consensus": "op-node"}}},
    },
}


def render(directory: Path, options: dict[str, Any]) -> dict[str, Any]:
    """What all six chains' clients would be given, and their services of the host, as render.yml writes it."""
    file = directory / "rendered.json"
    variables = json.dumps({"render_file": str(file), **options})
    play = [
        str(Path(sys.executable).with_name("ansible-playbook")),
        "-i",
        "inventories/lab",
        "tests/contract/render.yml",
    ]
    # The roles have this filter from chain_service, which the playbook does not run.
    environment = {**os.environ, "ANSIBLE_FILTER_PLUGINS": str(ROOT / "roles" / "chain_service" / "filter_plugins")}
    done = subprocess.run(
        [*play, "-e", variables], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    written: dict[str, Any] = json.loads(file.read_text())
    return written


@pytest.fixture(scope="module", params=VARIANTS)
def rendered(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """{program: {arguments, environment, files}} of all six chains under one set of options."""
    directory = tmp_path_factory.mktemp("rendered")
    found = {
        f"{chain}: {component}": {"program": PROGRAMS.get(component, component), **facts}
        for chain, components in sorted(render(directory, VARIANTS[request.param])["programs"].items())
        for component, facts in components.items()
    }
    assert len(found) == 9
    return found


def each(rendered: dict[str, dict[str, Any]], kind: str) -> Iterator[tuple[str, str, Any]]:
    for name, facts in rendered.items():
        if kind in facts:
            yield name, facts["program"], facts[kind]


def test_command_lines_hold_no_unknown_flag(rendered: dict[str, dict[str, Any]]) -> None:
    assert {
        name: names.unknown_flags(program, arguments) for name, program, arguments in each(rendered, "arguments")
    } == {name: [] for name, _, _ in each(rendered, "arguments")}


def test_configuration_files_hold_no_unknown_key(rendered: dict[str, dict[str, Any]]) -> None:
    for name, program, files in each(rendered, "files"):
        for file_name, data in files.items():
            assert names.unknown_keys(program, file_name, data) == [], f"{name} {file_name}"


def test_environments_hold_no_unknown_variable(rendered: dict[str, dict[str, Any]]) -> None:
    for name, program, environment in each(rendered, "environment"):
        assert names.unknown_variables(program, environment) == [], name


def test_stand_ins_take_what_is_rendered(rendered: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    toml = load_plugin("chain_service", "filter_plugins", "chain_service").chain_service_toml
    arguments = {
        "bor": ["server", "-config", str(tmp_path / "bor" / "config.toml")],
        "heimdalld": ["start", f"--home={tmp_path / 'heimdalld'}", "--chain=mainnet", "--rest-server"],
    }
    for facts in rendered.values():
        program = facts["program"]
        directory = tmp_path / program / ("config" if program == "heimdalld" else "")
        directory.mkdir(parents=True, exist_ok=True)
        for name, data in facts.get("files", {}).items():
            (directory / name).write_text(toml(data))
        parsed = parse(program, facts.get("arguments") or arguments[program])
        assert plan.of(program, parsed, facts.get("environment", {})).program == program


def test_an_unknown_flag_would_be_noticed() -> None:
    assert names.unknown_flags("erigon", ["--chain=mainnet", "--internalcl"]) == ["internalcl"]


PLACED = {
    "catalogue_service_overrides": {
        "erigon": {
            "resources": {"memory_max": "24G", "cpus": "2-7", "numa_policy": "bind", "numa_mask": "0", "io_weight": 300}
        }
    }
}


@pytest.fixture(scope="module")
def units(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """{service: its unit's lines} of every service in the catalogue, with erigon placed by the inventory."""
    directory = tmp_path_factory.mktemp("placed")
    placements = render(directory, PLACED)["placement"]
    role = ROOT / "roles" / "managed_service"
    defaults = yaml.safe_load((role / "defaults" / "main.yml").read_text())
    plain = {name.removeprefix("managed_service_"): value for name, value in defaults.items()}
    plain |= {"description": "A service", "user": "node", "group": "node", "syslog_identifier": "node"}
    plain |= {"command": ["/opt/node/bin/node"], "apparmor_mode": "off"}
    service_values = load_plugin("managed_service", "plugin_utils", "service_values")
    service_files = load_plugin("managed_service", "plugin_utils", "service_files")
    texts = service_files.Texts(str(ROOT / "templates" / "systemd"), {})
    found = {}
    for name, placement in placements.items():
        values = {**plain, "name": name, **placement}
        assert service_values.value_problems(values) == [], name
        found[name] = texts.unit(values).splitlines()
    return found


def setting(lines: list[str], name: str) -> str:
    """A directive's value; '' where the unit has none, and no unit has one twice."""
    values = [line.partition("=")[2] for line in lines if line.startswith(f"{name}=")]
    assert len(values) <= 1
    return values[0] if values else ""


def test_every_unit_of_a_chain_is_slowed_before_it_is_killed(units: dict[str, list[str]]) -> None:
    services = yaml.safe_load((ROOT / "roles/catalogue/defaults/main/services.yml").read_text())
    for name, service in services["catalogue_default_services"].items():
        if name != "erigon":
            high, maximum = (setting(units[name], directive) for directive in ("MemoryHigh", "MemoryMax"))
            assert 0 < float(high.rstrip("%")) < float(maximum.rstrip("%")) < 100, name
            assert setting(units[name], "AllowedCPUs") == ""
            for directive, key in (("CPUWeight", "cpu_weight"), ("IOWeight", "io_weight")):
                assert setting(units[name], directive) == str(service["resources"].get(key, 100)), name


def test_what_the_inventory_places_is_what_the_unit_says(units: dict[str, list[str]]) -> None:
    directives = (
        "MemoryHigh",
        "MemoryMax",
        "IOWeight",
        "CPUWeight",
        "CPUAffinity",
        "AllowedCPUs",
        "NUMAPolicy",
        "NUMAMask",
    )
    assert {name: setting(units["erigon"], name) for name in directives} == {
        "MemoryHigh": "22118M",
        "MemoryMax": "24G",
        "IOWeight": "300",
        "CPUWeight": "200",
        "CPUAffinity": "2-7",
        "AllowedCPUs": "2-7",
        "NUMAPolicy": "bind",
        "NUMAMask": "0",
    }


def test_a_service_that_asks_for_no_memory_has_no_limits(units: dict[str, list[str]]) -> None:
    assert (setting(units["ssh"], "MemoryHigh"), setting(units["ssh"], "MemoryMax")) == ("", "")
