"""The engine's traces on a real, seeded chain, at a collector that takes the protocol at its word."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.collector import Collector, Received
from tests.integration.mev.conftest import Installation, at_rest, filled

if TYPE_CHECKING:
    from lab.evm.devnode import DevNode


def test_a_trade_is_one_trace_from_its_block_to_its_fate(evm: DevNode, installation: Installation) -> None:
    collector = Collector()
    installation.more = f'[traces]\nendpoint = "{collector.url}"'
    installation.write()
    try:
        with installation.agent("strategy_engine") as engine:
            first = filled(installation)
            evm.trade()
            at_rest(installation)
        assert engine.process.returncode == 0
    finally:
        collector.close()
    assert collector.refused == []

    def of(name: str, opportunity: str) -> Received:
        (span,) = [span for span in collector.named(name) if span.attributes.get("mev.opportunity") == opportunity]
        return span

    known = installation.mev("opportunities", "--limit", "10000")["opportunities"]
    fill = next(each for each in known if each["state"] == "included")
    name = fill["opportunity"]
    found = of("opportunity", name)
    (block,) = [span for span in collector.named("block") if span.id == found.parent]
    assert block.attributes["mev.block.number"] == fill["block_number"]
    assert found.attributes["mev.expected_profit"] == fill["expected_profit_wei"]
    assert collector.below(found) == ["found", "simulate", "risk", "sign", "send", "settle"]
    assert of("simulate", name).attributes["mev.profit"] == fill["simulated_profit_wei"]
    settled = of("settle", name)
    assert settled.attributes["mev.outcome"] == "included"
    assert set(settled.links) <= {span.id for span in collector.named("block")}
    parts = [names for span in collector.named("block") if (names := collector.below(span))]
    assert {"screen", "size"} <= set(parts[0])
    assert any(names[:2] == ["apply", "follow"] for names in parts)

    # Every opportunity that the ledger has is there, with the reason that the ledger has.
    reasons = {
        each["opportunity"]: each["reason"]
        for each in installation.mev("opportunities", "--limit", "10000")["opportunities"]
    }
    told = {
        span.attributes["mev.opportunity"]: span.attributes.get("mev.reason", "")
        for span in collector.named("opportunity")
    }
    assert told == reasons

    logged = [json.loads(line) for line in (installation.directory / "strategy_engine.log").read_text().splitlines()]
    (submitted,) = [line for line in logged if line["event"] == "submitted" and line["opportunity"] == name]
    assert submitted["trace_id"] == block.trace
    raw = b"".join(collector.bodies)
    secret = (installation.directory / "signer.key").read_text().strip()
    assert secret.encode() not in raw
    assert bytes.fromhex(secret) not in raw
    assert installation.ws.encode() not in raw
    assert first["transaction"].encode() not in raw


def test_a_collector_that_is_down_costs_no_trade(installation: Installation) -> None:
    installation.more = '[traces]\nendpoint = "http://127.0.0.1:9"'
    installation.write()
    with installation.agent("strategy_engine") as engine:
        assert filled(installation)
    assert engine.process.returncode == 0
    logged = [json.loads(line) for line in (installation.directory / "strategy_engine.log").read_text().splitlines()]
    (told,) = [line for line in logged if line["event"] == "spans are lost"]
    assert (told["level"], told["reason"]) == ("warning", "not_delivered")
    assert not [line for line in logged if line["logger"].startswith(("opentelemetry", "urllib3"))]
