"""The engine has taken a real arbitrage, and its numbers are the chain's, to the wei."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.conftest import CHAINS, Host, wait_for


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
