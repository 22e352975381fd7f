"""What the client roles render holds only names that their client accepts, whichever way the common options are set."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.standins.client import names, plan
from lab.standins.client.arguments import parse
from tests.plugins import load_plugin

ROOT = Path(__file__).parents[2]
PROGRAMS = {"heimdall": "heimdalld", "op-geth": "geth"}
ADDRESS = "192.0.2.1"
VARIANTS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "public address": {"erigon_public_ip": ADDRESS, "op_stack_public_ip": ADDRESS, "polygon_public_ip": ADDRESS},
    "beacon fallbacks": {"op_stack_beacon_fallbacks": ["https://beacon.example.com"]},
    "op-geth pair": {
        "catalogue_chain_overrides": {"optimism": {"components": {"execution": "op-geth", "consensus": "op-node"}}}
    },
}


@pytest.fixture(scope="module", params=VARIANTS)
def rendered(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """{program: {arguments, environment, files}} of all six chains under one set of options."""
    directory = tmp_path_factory.mktemp("rendered")
    variables = json.dumps({"render_directory": str(directory), **VARIANTS[request.param]})
    play = [
        str(Path(sys.executable).with_name("ansible-playbook")),
        "-i",
        "inventories/lab",
        "tests/contract/render.yml",
    ]
    done = subprocess.run([*play, "-e", variables], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(directory.glob("*.json")):
        for component, facts in json.loads(path.read_text()).items():
            found[f"{path.stem}: {component}"] = {"program": PROGRAMS.get(component, component), **facts}
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
