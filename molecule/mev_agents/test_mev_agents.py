"""The agents in their default mode: they watch, they hold no key, they weigh little."""

from __future__ import annotations

import json
from base64 import b64decode
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests import chain_checks as checks
from tests.collector import Collector

if TYPE_CHECKING:
    from testinfra.host import Host

AGENTS = ["strategy_engine", "analytics_engine"]
LIMIT_MB = 220


@pytest.mark.parametrize("agent", AGENTS)
def test_agent_is_ready_and_confined(host: Host, agent: str) -> None:
    known = checks.properties(host, agent)
    assert (known["ActiveState"], known["UnitFileState"], known["NRestarts"]) == ("active", "enabled", "0")
    assert (known["User"], known["Type"]) == ("mev", "notify")
    checks.is_confined(host, agent)


@pytest.mark.parametrize("agent", AGENTS)
def test_agent_weighs_little(host: Host, agent: str) -> None:
    process = checks.properties(host, agent)["MainPID"]
    assert int(host.check_output("ps -o rss= -p %s", process)) / 1000 < LIMIT_MB


def test_observe_mode_holds_no_key(host: Host) -> None:
    assert not host.file("/data/blockchain/nodes/security/signing_keys/signer_key").exists
    assert "signer_key" not in host.check_output("systemctl cat strategy_engine.service")


def test_the_document_s_path_leads_to_the_current_release(host: Host) -> None:
    assert host.file("/data/blockchain/nodes/mev/strategy_engine.py").exists
    current = host.check_output("readlink -f /opt/mev/current")
    assert host.check_output("readlink -f /data/blockchain/nodes/mev").startswith(current)


def test_the_installed_package_is_this_version(host: Host) -> None:
    assert host.check_output("/opt/mev/current/bin/python -c 'import mev; print(mev.__version__)'") == "0.1.0"


def test_status_is_readable_by_programs(host: Host) -> None:
    status = json.loads(host.check_output("mev status --json"))
    assert status["mode"] == "observe"
    assert list(status["chains"]) == ["ethereum"]


def test_prometheus_reads_each_agent_on_loopback(host: Host) -> None:
    engine = host.check_output("curl -sS --max-time 10 http://127.0.0.1:9111/metrics")
    assert 'mev_pools{chain="ethereum"}' in engine
    assert 'mev_end_point_up{chain="ethereum"' in engine
    assert "mev_ledger_read_timestamp_seconds " in host.check_output("curl -sS http://127.0.0.1:9112/metrics")
    assert not host.socket("tcp://0.0.0.0:9111").is_listening


def test_a_collector_is_told_of_each_block(host: Host) -> None:
    with closing(Collector()) as collector:
        kept = host.check_output("cd /var/lib/private/otlp-collector && ls").split()
        assert [name for name in kept if not name.endswith(".otlp")] == []
        for name in kept[:40]:
            body = b64decode(host.check_output("base64 /var/lib/private/otlp-collector/%s", name))
            assert collector.take("/v1/traces", {"Content-Type": "application/x-protobuf"}, body) == 200
        assert collector.refused == []
        blocks = collector.named("block")
        assert blocks
        assert {span.attributes["mev.chain"] for span in blocks} == {"ethereum"}
        assert {resource["service.name"] for resource in collector.resources} == {"mev.strategy_engine"}
    findings = {each["check"]: each["well"] for each in json.loads(host.run("mev doctor --json").stdout)["findings"]}
    assert (findings["traces"], findings["strategy_engine's traces"]) == (True, True)


def test_the_kill_switch_is_thrown_over_http_by_its_token_alone(host: Host) -> None:
    url = "http://127.0.0.1:9114/kill-switch"
    switch = "/data/blockchain/nodes/logs/mev_stop"
    ask = f"curl -sS --max-time 10 -o /dev/null -w '%{{http_code}}' -H 'Content-Type: application/json' -d '{{}}' {url}"
    kept = "/data/blockchain/nodes/security/signing_keys/control_token"
    try:
        assert host.check_output(ask) == "401"
        assert not host.file(switch).exists
        # The token stands in no command line: curl reads the header from its input.
        assert host.check_output(f'sed "s/^/Authorization: Bearer /" {kept} | {ask} -H @-') == "200"
        assert json.loads(host.check_output("mev status --json"))["chains"]["ethereum"]["killed"]
        assert host.file(switch).user == "mev"
        assert not host.socket("tcp://0.0.0.0:9114").is_listening
    finally:
        host.check_output("mev resume")
    assert not host.file(switch).exists


def test_nothing_was_sent(host: Host) -> None:
    assert json.loads(host.check_output("mev pnl --json"))["first_included"] is None
