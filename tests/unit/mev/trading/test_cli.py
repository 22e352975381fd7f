"""The mev command's refusals: one sentence, a stable exit code, nothing half done."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from mev import cli
from mev.insight import record
from mev.runtime.storage import Database
from mev.trading.ledger import read_ledger, tables

CONFIG = """
mode = "observe"
[storage]
opportunities = "{directory}/mev_opportunities.db"
performance = "{directory}/performance_metrics.db"
[logging]
directory = "{directory}"
[risk]
max_amount_in_wei = 1
min_profit_wei = 1
max_daily_loss_wei = 1
max_gas_price_wei = 1
[chains.ethereum]
id = 1
ws = "ws://127.0.0.1:9"
block_seconds = 12
wrapped_native = "0x{wrapped}"
tokens = [{{ symbol = "WETH", address = "0x{wrapped}", decimals = 18 }}]
v2_factories = []
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "mev.toml"
    path.write_text(CONFIG.format(directory=tmp_path, wrapped="ee" * 20))
    return path


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["status"], 1, "mev_opportunities.db is not there"),
        (["pnl", "--json"], 1, "mev_opportunities.db is not there"),
        (["opportunities", "--chain", "mainnet"], 2, "--chain is 'mainnet'; allowed: ethereum"),
        (["executor", "address", "--chain", "ethereum"], 2, "signer.key is not set"),
        (["executor", "fund", "--chain", "base", "--amount-wei", "5"], 2, "--chain is 'base'; allowed: ethereum"),
        (["signer", "address"], 2, "signer.key is not set"),
        (["reconcile"], 2, "signer.key is not set"),
        (["backup", "/nowhere"], 2, "/nowhere is no directory; allowed: one that is there"),
        (["backup", "/"], 1, "mev_opportunities.db is not there"),
        (["halt"], 2, "chains.ethereum.risk has no kill_switch, and neither has risk; allowed: an absolute path"),
        (["resume", "--chain", "base"], 2, "--chain is 'base'; allowed: ethereum"),
        (["explain", "abcdef"], 1, "mev_opportunities.db is not there"),
    ],
)
def test_a_refusal_is_one_sentence(
    config: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, sentence: str
) -> None:
    assert cli.main([*arguments, "--config", str(config)]) == code
    said = capsys.readouterr()
    assert sentence in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""


def test_a_missing_configuration_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "--config", str(tmp_path / "no.toml")]) == 2
    assert str(tmp_path / "no.toml") in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [[], ["fly"], ["executor"], ["executor", "fund", "--chain", "x", "--amount-wei", "-1"]]
)
def test_wrong_usage_is_two(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2


def test_a_node_that_is_down_is_one_sentence(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = config.parent / "key"
    key.touch(mode=0o600)
    key.write_text("11" * 32)
    config.write_text(config.read_text() + f'[signer]\nkey = "file:{key}"\n')
    assert cli.main(["executor", "deploy", "--chain", "ethereum", "--config", str(config)]) == 1
    said = capsys.readouterr().err
    assert "127.0.0.1:9" in said.splitlines()[-1]
    assert "11" * 32 not in said


def test_a_backup_is_what_the_ledger_can_be_put_back_from(config: Path, tmp_path: Path) -> None:
    directory = config.parent
    for name, schema in (("mev_opportunities", tables.SCHEMA), ("performance_metrics", record.SCHEMA)):
        Database(directory / f"{name}.db").prepare(schema)
    copies = tmp_path / "copies"
    copies.mkdir()
    assert cli.main(["backup", str(copies), "--config", str(config)]) == 0
    assert sorted(path.name for path in copies.iterdir()) == ["mev_opportunities.db", "performance_metrics.db"]
    read_ledger(copies / "mev_opportunities.db").close()
    assert cli.main(["backup", str(directory), "--config", str(config)]) == 1, "never onto itself"


def switch(config: Path, *arguments: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert cli.main([*arguments, "--json", "--config", str(config)]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_halt_and_resume_are_idempotent_and_say_who(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = config.parent / "stop"
    config.write_text(config.read_text().replace("[risk]", f'[risk]\nkill_switch = "{file}"'))
    halted = switch(config, "halt", "--reason", "fees look odd", capsys=capsys)
    assert halted.pop("in_ledger").startswith("no: "), "there is none yet"
    assert halted == {"changed": True, "halted": ["ethereum"], "switches": [str(file)]}
    assert file.read_text().endswith(": fees look odd\n")
    assert not switch(config, "halt", capsys=capsys)["changed"]
    assert file.read_text().endswith(": fees look odd\n"), "the first reason stays"
    resumed = switch(config, "resume", capsys=capsys)
    assert (resumed["changed"], resumed["halted"], resumed["switches"]) == (True, [], [str(file)])
    assert not switch(config, "resume", capsys=capsys)["changed"]
    assert not file.exists()


def test_a_chain_is_halted_alone_only_by_a_switch_of_its_own(
    config: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    common, own = tmp_path / "stop", tmp_path / "stop_base"
    text = config.read_text().replace("[risk]", f'[risk]\nkill_switch = "{common}"')
    base = (
        text[text.index("[chains.ethereum]") :]
        .replace("[chains.ethereum]", "[chains.base]")
        .replace("id = 1", "id = 8453")
    )
    config.write_text(text + base)
    assert cli.main(["halt", "--chain", "base", "--config", str(config)]) == 2
    assert "is the kill switch of ethereum, base; allowed: without --chain" in capsys.readouterr().err
    assert not common.exists()
    config.write_text(text + base + f'[chains.base.risk]\nkill_switch = "{own}"\n')
    assert switch(config, "halt", "--chain", "base", capsys=capsys)["halted"] == ["base"]
    assert not common.exists()
    assert switch(config, "halt", capsys=capsys)["halted"] == ["base", "ethereum"]


def test_doctor_names_each_thing_that_is_not_well(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text(
        config.read_text() + '[signer]\nkey = "file:/nowhere/key"\n[bus]\nurl = "redis://127.0.0.1:9/0"\n'
    )
    Database(config.parent / "mev_opportunities.db").prepare(tables.SCHEMA)
    (config.parent / "performance_metrics.db").write_bytes(b"no database" * 400)
    assert cli.main(["doctor", "--json", "--config", str(config)]) == 1
    document = json.loads(capsys.readouterr().out)
    seen = {finding["check"]: (finding["well"], finding["seen"]) for finding in document["findings"]}
    assert not document["well"]
    assert seen["database ledger"][0]
    assert "schema 0005" in seen["database ledger"][1]
    assert not seen["database performance"][0]
    assert "cannot be opened as a database" in seen["database performance"][1]
    # Observing needs no key: that there is none is said, and is not wrong.
    assert seen["signing key"] == (True, "file:/nowhere/key: /nowhere/key cannot be read: No such file or directory")
    assert not seen["node of ethereum"][0]
    assert "127.0.0.1:9" in seen["node of ethereum"][1]
    assert not seen["bus"][0]
    assert cli.main(["doctor", "--config", str(config)]) == 1
    assert "NOT WELL" in capsys.readouterr().out


def test_doctor_finds_a_reference_that_leads_nowhere(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = config.parent / "mev_opportunities.db"
    Database(path).prepare(tables.SCHEMA)
    with sqlite3.connect(path) as damaged:
        damaged.execute("INSERT INTO in_flight VALUES ('ethereum', '0x00', 1, '0xgone')")
    cli.main(["doctor", "--json", "--config", str(config)])
    ledger = next(
        each for each in json.loads(capsys.readouterr().out)["findings"] if each["check"] == "database ledger"
    )
    assert (ledger["well"], "a row of in_flight refers to nothing" in ledger["seen"]) == (False, True)
