"""The engine has taken a real arbitrage, and its numbers are the chain's, to the wei."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.conftest import CHAINS, Host, wait_for

TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"


@pytest.fixture(scope="module")
def first(mev1: Host) -> dict[str, Any]:
    wait_for("An included arbitrage", lambda: bool(mev1.mev("pnl")["first_included"]), 180)
    found: dict[str, Any] = mev1.mev("pnl")["first_included"]
    return found


def test_the_ledger_s_profit_is_the_executor_s_balance_change_on_the_chain(
    first: dict[str, Any], mev1: Host, rpc: Callable[..., Any]
) -> None:
    chain = first["chain"]
    receipt = rpc(chain, "eth_getTransactionReceipt", first["transaction"])
    executor = mev1.mev("executor", "address", "--chain", chain)["executor"]
    block = int(receipt["blockNumber"], 16)
    token = first["token"]

    def balance(number: int) -> int:
        data = "0x70a08231" + executor[2:].rjust(64, "0")
        return int(rpc(chain, "eth_call", {"to": token, "data": data}, hex(number)), 16)

    assert int(receipt["status"], 16) == 1
    assert balance(block) - balance(block - 1) == int(first["profit_wei"])


def test_the_ledger_s_gas_is_what_the_signer_paid(first: dict[str, Any], mev1: Host, rpc: Callable[..., Any]) -> None:
    chain = first["chain"]
    receipt = rpc(chain, "eth_getTransactionReceipt", first["transaction"])
    signer = mev1.mev("signer", "address")["signer"]
    block = int(receipt["blockNumber"], 16)
    before, after = (int(rpc(chain, "eth_getBalance", signer, hex(number)), 16) for number in (block - 1, block))
    assert before - after == int(first["gas_wei"])
    assert int(first["net_wei"]) == int(first["profit_wei"]) - int(first["gas_wei"])


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
    key = mev1.run("cat /run/credentials/strategy_engine.service/signer_key")
    key = key.removeprefix("0x")
    assert len(key) == 64
    for place in (
        "journalctl --no-pager",
        "systemctl show strategy_engine.service",
        "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline",
    ):
        assert key not in mev1.run(f"{place} 2>/dev/null", check=False, timeout=120)
    assert mev1.run(f"grep -rlF {key} /etc /opt /data/blockchain/nodes/logs 2>/dev/null", check=False) == ""
