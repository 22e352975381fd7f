"""The mev command's refusals: one sentence, a stable exit code, nothing half done."""

from pathlib import Path

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
