"""The engine has taken a real arbitrage, and its numbers are the chain's, to the wei."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.conftest import CHAINS, Host, wait_for

LOGS = "/data/blockchain/nodes/logs"
# What each of these came to: a number of rows, "done", or the error's name.
TRIES = """
import os, sqlite3, sys
logs, engine = sys.argv[1:]
def tried(what, act):
    try:
        print(what, act())
    except (OSError, sqlite3.Error) as error:
        print(what, getattr(error, "sqlite_errorname", None) or type(error).__name__)
def write(path):
    with open(path, "ab"):
        return "done"
def rows():
    ledger = sqlite3.connect(f"file:{logs}/mev_opportunities.db?mode=ro", uri=True)
    return ledger.execute("SELECT count(*) FROM entries").fetchone()[0]
def forge():
    ledger = sqlite3.connect(f"{logs}/mev_opportunities.db", isolation_level=None)
    ledger.execute("CREATE TABLE forged (x)")
tried("rows", rows)
tried("forge", forge)
for name in ("mev_opportunities.db", "mev_opportunities.db-wal", "mev_opportunities.db-shm", "mev_stop", "analytics/tried"):
    tried(name, lambda: write(f"{logs}/{name}"))
tried("environ", lambda: open(f"/proc/{engine}/environ", "rb").read(1))
tried("root", lambda: write(f"/proc/{engine}/root{logs}/tried"))
tried("credentials", lambda: os.listdir("/run/credentials/strategy_engine.service"))
"""


@pytest.fixture
def fill(mev1: Host) -> dict[str, Any]:
    """The newest fill: the lab's chains keep the state of their newest blocks only."""
    wait_for("An included arbitrage", lambda: bool(mev1.mev("pnl")["newest_included"]), 180)
    found: dict[str, Any] = mev1.mev("pnl")["newest_included"][0]
    return found


def test_the_ledger_s_profit_is_the_executor_s_balance_change_on_the_chain(
    fill: dict[str, Any], mev1: Host, rpc: Callable[..., Any]
) -> None:
    chain = fill["chain"]
    receipt = rpc(chain, "eth_getTransactionReceipt", fill["transaction"])
    executor = mev1.mev("executor", "address", "--chain", chain)["executor"]
    block = int(receipt["blockNumber"], 16)
    token = fill["token"]

    def balance(number: int) -> int:
        data = "0x70a08231" + executor[2:].rjust(64, "0")
        return int(rpc(chain, "eth_call", {"to": token, "data": data}, hex(number)), 16)

    assert int(receipt["status"], 16) == 1
    assert balance(block) - balance(block - 1) == int(fill["profit_wei"])


def test_the_ledger_s_gas_is_what_the_signer_paid(fill: dict[str, Any], mev1: Host, rpc: Callable[..., Any]) -> None:
    chain = fill["chain"]
    receipt = rpc(chain, "eth_getTransactionReceipt", fill["transaction"])
    signer = mev1.mev("signer", "address")["signer"]
    block = int(receipt["blockNumber"], 16)
    before, after = (int(rpc(chain, "eth_getBalance", signer, hex(number)), 16) for number in (block - 1, block))
    assert before - after == int(fill["gas_wei"])
    assert int(fill["net_wei"]) == int(fill["profit_wei"]) - int(fill["gas_wei"])


def test_every_agent_is_active(mev1: Host) -> None:
    for agent in ("strategy_engine", "analytics_engine"):
        assert mev1.run(f"systemctl is-active {agent}.service") == "active"


def test_the_engine_watches_all_six_chains(mev1: Host) -> None:
    assert set(mev1.mev("status")["chains"]) == set(CHAINS)


def test_the_document_s_paths_hold(mev1: Host) -> None:
    for path in (
        "mev/strategy_engine.py",
        "mev/analytics_engine.py",
        "logs/mev_opportunities.db",
        "logs/performance_metrics.db",
        "logs/analytics.log",
    ):
        assert mev1.run(f"test -e /data/blockchain/nodes/{path} && echo there") == "there", path


def test_who_has_analytics_reads_the_ledger_and_can_write_only_what_is_its_own(mev1: Host) -> None:
    """Both agents run as one account: what keeps them apart is each unit's view of files, users and processes."""
    engine, analytics = (
        mev1.run(f"systemctl show --property=MainPID --value {agent}.service").strip()
        for agent in ("strategy_engine", "analytics_engine")
    )
    program = base64.b64encode(TRIES.encode()).decode()
    said = mev1.run(
        f"echo {program} | base64 -d | nsenter --target {analytics} --user --mount --setuid $(id -u mev) --setgid $(id -g mev)"
        f" /opt/mev/current/bin/python - {LOGS} {engine}; rm -f {LOGS}/analytics/tried"
    )
    came = dict(line.split() for line in said.splitlines())
    assert int(came.pop("rows")) > 0
    assert came.pop("analytics/tried") == "done"
    refused = {"FileNotFoundError", "PermissionError"}
    assert {came.pop("environ"), came.pop("root"), came.pop("credentials")} <= refused
    assert came == {
        "forge": "SQLITE_READONLY",
        "mev_opportunities.db": "OSError",
        "mev_opportunities.db-wal": "OSError",
        "mev_opportunities.db-shm": "OSError",
        "mev_stop": "OSError",
    }


def test_analytics_that_starts_without_the_engine_waits_for_it(mev1: Host) -> None:
    try:
        mev1.run("systemctl stop analytics_engine.service strategy_engine.service")
        assert "mev_opportunities.db-shm" not in mev1.run(f"ls {LOGS}")
        mev1.run("systemctl start analytics_engine.service")
        waits = mev1.run("systemctl show --property=StatusText analytics_engine.service")
        assert "mev_opportunities.db is read while the agent that writes it runs" in waits
    finally:
        mev1.run("systemctl start strategy_engine.service analytics_engine.service", timeout=180)
    wait_for(
        "The ledger",
        lambda: "included on" in mev1.run("systemctl show --property=StatusText analytics_engine.service"),
        60,
    )


def test_the_signer_s_key_is_in_no_unit_environment_log_or_world_readable_file(mev1: Host) -> None:
    # The key is matched from its file: a pattern on a command line would itself end in the journal.
    key = "/run/credentials/strategy_engine.service/signer_key"
    assert mev1.run(f"wc -w < {key}") == "1"
    for place in (
        "journalctl --no-pager",
        "systemctl show strategy_engine.service",
        "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline",
    ):
        assert mev1.run(f'{place} 2>/dev/null | tr "\\\\0" X | grep -cFf {key}', check=False, timeout=120) == "0", place
    assert mev1.run(f"grep -rlFf {key} /etc /opt /data/blockchain/nodes/logs 2>/dev/null", check=False) == ""
