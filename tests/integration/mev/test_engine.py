"""The whole engine on a real, seeded chain: what it takes, what it books, and what it refuses."""

from __future__ import annotations

import json
import secrets
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

import pytest
from mev.insight.report import recent

from lab.evm.devnode import free_port
from tests.integration.mev.conftest import (
    CAPITAL_WEI,
    NATIVE_WEI,
    PATIENCE_SECONDS,
    Account,
    Installation,
    at_rest,
    filled,
    raw,
    text,
    wait_for,
)

if TYPE_CHECKING:
    from lab.evm.devnode import DevNode

MAX_RSS_MB = 220


def first_fill(installation: Installation) -> Any:
    return installation.mev("pnl")["first_included"]


def first_of_state(installation: Installation, state: str) -> Any:
    found = installation.mev("opportunities", "--state", state)["opportunities"]
    return found[0] if found else None


def first_undecided(installation: Installation) -> Any:
    return any(first_of_state(installation, state) for state in ("detected", "screened", "simulated", "approved"))


def test_live_takes_an_arbitrage_and_the_ledger_is_the_chain_to_the_wei(
    evm: DevNode, owner: Account, installation: Installation, wrapped: bytes
) -> None:
    with installation.agent("strategy_engine") as engine:
        # The seed left prices apart: the state that the engine loads holds an arbitrage already.
        first = filled(installation)
        for _ in range(6):
            evm.trade()
        at_rest(installation)
        assert engine.rss_mb() < MAX_RSS_MB

    receipt = evm.rpc.call("eth_getTransactionReceipt", first["transaction"])
    block = int(receipt["blockNumber"], 16)
    executor = installation.mev("executor", "address", "--chain", "ethereum")["executor"]
    data = "0x70a08231" + executor[2:].rjust(64, "0")
    held = [
        int(evm.rpc.call("eth_call", {"to": first["token"], "data": data}, hex(number)), 16)
        for number in (block - 1, block)
    ]
    coins = [int(evm.rpc.call("eth_getBalance", text(owner.address), hex(number)), 16) for number in (block - 1, block)]
    assert first["chain"] == "ethereum"
    assert held[1] - held[0] == int(first["profit_wei"]) > 0
    assert coins[0] - coins[1] == int(first["gas_wei"]) > 0
    assert int(first["net_wei"]) == int(first["profit_wei"]) - int(first["gas_wei"]) > 0

    fill = first_of_state(installation, "included")
    assert fill["simulated_profit_wei"] == fill["expected_profit_wei"]
    books = installation.mev("reconcile")
    assert books["agrees"], books
    earned = installation.mev("pnl")["chains"]["ethereum"]
    assert owner.balance(wrapped, raw(executor)) == CAPITAL_WEI + int(earned["profit_wei"])


def test_operators_acts_are_idempotent(installation: Installation, owner: Account, wrapped: bytes) -> None:
    again = installation.mev("executor", "deploy", "--chain", "ethereum")
    assert (again["changed"], again["transactions"]) == (False, [])
    amount = str(CAPITAL_WEI)
    prepared = installation.mev("executor", "prepare", "--chain", "ethereum", "--amount-wei", amount)
    assert not prepared["changed"]
    assert prepared["chains"] == [again]
    assert not installation.mev("executor", "fund", "--chain", "ethereum", "--amount-wei", amount)["changed"]
    more = installation.mev("executor", "fund", "--chain", "ethereum", "--amount-wei", str(CAPITAL_WEI + 5))
    assert (more["changed"], more["capital_wei"]) == (True, str(CAPITAL_WEI + 5))
    assert installation.mev("reconcile")["agrees"]
    executor = raw(more["executor"])
    part = installation.mev("executor", "withdraw", "--chain", "ethereum", "--amount-wei", "7")
    assert part["capital_wei"] == str(CAPITAL_WEI - 2)
    assert installation.mev("executor", "withdraw", "--chain", "ethereum")["capital_wei"] == "0"
    assert not installation.mev("executor", "withdraw", "--chain", "ethereum")["changed"]
    assert owner.balance(wrapped, owner.address) == CAPITAL_WEI + 5
    assert owner.balance(wrapped, executor) == 0
    assert installation.mev("reconcile")["agrees"]
    # What was withdrawn is wrapped already: funding again transfers it and wraps nothing.
    assert len(installation.mev("executor", "fund", "--chain", "ethereum", "--amount-wei", amount)["transactions"]) == 1
    assert installation.mev("reconcile")["agrees"]


@pytest.mark.parametrize(
    ("mode", "risk", "reason"),
    [
        ("observe", {}, "mode_observe"),
        ("paper", {}, "mode_paper"),
        ("live", {"min_profit_wei": str(10 * NATIVE_WEI)}, "profit_under_minimum"),
        ("live", {"max_gas_price_wei": "1"}, "gas_price_over_cap"),
        ("live", {"max_daily_loss_wei": "1"}, "daily_loss"),
        ("live", {"deny_tokens": "DENIED"}, "denied_token"),
        ("live", {"kill_switch": "KILL"}, "kill_switch"),
    ],
)
def test_what_is_not_allowed_is_not_sent_and_says_why(
    evm: DevNode, installation: Installation, owner: Account, mode: str, risk: dict[str, str], reason: str
) -> None:
    installation.mode = mode
    tokens = {token.symbol: token.address for token in evm.deployment.tokens}
    special = {"DENIED": json.dumps([tokens["USDC"], tokens["DAI"]]), "KILL": f'"{installation.config}"'}
    installation.risk = {key: special.get(value, value) for key, value in risk.items()}
    installation.write()
    nonce = evm.rpc.call("eth_getTransactionCount", text(owner.address), "pending")

    def reasons() -> set[str]:
        return {each["reason"] for each in installation.mev("opportunities", "--limit", "500")["opportunities"]}

    with installation.agent("strategy_engine"):
        # All of the block's, before another one follows it.
        wait_for("refusals", lambda: reason in reasons() and not first_undecided(installation))
        dropped = first_of_state(installation, "dropped")
        evm.trade()
    assert reasons() <= {reason, "not_best", "no_profit"}
    assert int(dropped["expected_profit_wei"]) > 0
    assert evm.rpc.call("eth_getTransactionCount", text(owner.address), "pending") == nonce
    assert first_fill(installation) is None


def test_the_kill_switch_over_http_holds_up_a_running_engine(evm: DevNode, installation: Installation) -> None:
    token = installation.directory / "control"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    listen = f"127.0.0.1:{free_port()}"
    installation.more = f'[control]\nlisten = "{listen}"\ntoken = "file:{token}"\n'
    installation.write()
    headers = {"Authorization": f"Bearer {token.read_text()}", "Content-Type": "application/json"}
    with installation.agent("strategy_engine"):
        filled(installation)
        _, ledger = installation.reports()

        def refused() -> bool:
            return any(each["reason"] == "kill_switch" for each in recent(ledger, count=500))

        assert not refused()
        asked = Request(f"http://{listen}/kill-switch", b'{"reason": "a test"}', headers)
        with urlopen(asked) as answer:  # noqa: S310
            assert json.load(answer)["halted"] == ["ethereum"]
        wait_for("a line in the ledger", lambda: installation.mev("halts")["halts"])
        (line,) = installation.mev("halts")["halts"]
        assert (line["act"], line["origin"], line["reason"]) == ("halt", "over HTTP from 127.0.0.1", "a test")
        at_rest(installation)
        sent = evm.rpc.call("eth_getTransactionCount", text(installation.signer.address), "pending")
        evm.trade()
        wait_for("a refusal", refused, meanwhile=evm.trade)
        assert evm.rpc.call("eth_getTransactionCount", text(installation.signer.address), "pending") == sent
    assert "a test" in (installation.directory / "kill").read_text()
    log = (installation.directory / "strategy_engine.log").read_text()
    assert '"event":"halted over HTTP"' in log.replace(": ", ":")
    assert token.read_text() not in log


def test_without_capital_nothing_is_sent(installation: Installation) -> None:
    installation.mev("executor", "withdraw", "--chain", "ethereum")
    with installation.agent("strategy_engine"):
        wait_for(
            "a refusal",
            lambda: (
                "capital_missing"
                in {each["reason"] for each in installation.mev("opportunities", "--state", "dropped")["opportunities"]}
            ),
        )
    assert first_fill(installation) is None


def test_a_chain_that_is_down_stops_no_other(installation: Installation) -> None:
    text = installation.config.read_text()
    dead = text[text.index("[chains.ethereum]") :].replace("[chains.ethereum]", "[chains.base]")
    dead = dead.replace(f"id = {installation.evm.chain_id}", "id = 8453").replace(installation.ws, "ws://127.0.0.1:9")
    installation.config.write_text(text + dead)
    with installation.agent("strategy_engine") as engine:
        assert filled(installation)
        assert "tried again: base" in wait_for("a status", engine.hear)
    status = installation.mev("status")["chains"]
    assert list(status) == ["ethereum", "base"]
    assert status["base"]["head"] is None
    assert status["ethereum"]["pools"] == 6


def test_only_one_engine_writes_a_ledger(installation: Installation) -> None:
    second = [sys.executable, "-m", "mev.strategy_engine", "--config", str(installation.config)]
    with installation.agent("strategy_engine"):
        done = subprocess.run(second, check=False, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert done.returncode == 2
    assert "has an engine already" in done.stderr


def test_analytics_records_what_the_ledger_says(installation: Installation) -> None:
    with installation.agent("strategy_engine"), installation.agent("analytics_engine") as analytics:
        first = filled(installation)

        def recorded() -> Any:
            with sqlite3.connect(installation.directory / "performance_metrics.db") as metrics:
                query = "SELECT profit_wei, gas_wei, net_wei, included FROM performance WHERE included > 0 ORDER BY seq"
                return metrics.execute(query).fetchone()

        profit, gas, net, included = wait_for("a row", recorded)
        assert analytics.rss_mb() < MAX_RSS_MB
    assert int(profit) - int(gas) == int(net)
    assert included >= 1
    assert int(profit) >= int(first["profit_wei"])
    logged = [json.loads(line) for line in (installation.directory / "analytics.log").read_text().splitlines()]
    assert any(line["event"] == "performance" and line["states"]["included"] for line in logged)


def test_the_key_is_in_no_log(installation: Installation) -> None:
    with installation.agent("strategy_engine"):
        filled(installation)
    secret = (installation.directory / "signer.key").read_text().strip()
    for path in Path(installation.directory).iterdir():
        if path.is_file() and path.name != "signer.key":
            assert secret.encode() not in path.read_bytes(), path


def test_a_replay_of_the_node_s_blocks_detects_what_the_engine_detected(installation: Installation) -> None:
    with installation.agent("strategy_engine"):
        filled(installation)
        at_rest(installation)
    known = installation.mev("opportunities", "--limit", "10000")["opportunities"]
    first = min(each["block_number"] for each in known)
    head = installation.mev("status")["chains"]["ethereum"]["head"]
    replayed = installation.mev("replay", f"{first}-{head}")
    assert (replayed["source"], replayed["covers"]["blocks"]) == ("node", head - first + 1)
    # An opportunity is named by its block and its cycle: the same name is the same find.
    names = {(each["opportunity"], each["expected_profit_wei"]) for each in known}
    best = replayed["blocks"][0]["best"]
    assert (best["opportunity"], best["expected_profit_wei"]) in names
    assert installation.mev("backtest", f"{first}-{head}", "--gas", "200000")["totals"]["taken"] > 0


def test_pools_are_listed_as_the_chain_has_them(evm: DevNode, owner: Account, installation: Installation) -> None:
    chain = installation.mev("pools")["chains"]["ethereum"]
    assert chain["block_number"] == int(evm.rpc.call("eth_blockNumber"), 16)
    pairs = [each for each in chain["pools"] if each["kind"] == "v2"]
    assert {each["pool"].lower() for each in pairs} == {
        pool.address.lower() for pool in evm.deployment.pools if pool.version == 2
    }
    for each in pairs:
        reserves = owner.call(bytes.fromhex(each["pool"][2:]), bytes.fromhex("0902f1ac"))
        assert [int.from_bytes(reserves[at : at + 32], "big") for at in (0, 32)] == [
            int(each["reserve0"]),
            int(each["reserve1"]),
        ]
        assert each["quarantined"] is None
        assert float(each["price"]) > 0
    shown = installation.run("pools", "--chain", "ethereum")
    assert (shown.returncode, shown.stderr) == (0, "")
