"""What the doctor looks at only where it is switched on: each said to be well only where it was seen so."""

from __future__ import annotations

import asyncio
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from mev.chain.rpc import Rpc
from mev.insight.doctor_extras import contracts, extras, lost_spans
from mev.runtime.config import Config, load

from tests.collector import Collector
from tests.unit.mev.chain.node import Node, RefusalError, running
from tests.unit.mev.trading.test_cli import config

__all__ = ["config"]

TOKEN = "t" * 40


def seen(config: Path, more: str) -> dict[str, tuple[bool, str]]:
    config.write_text(more + config.read_text())
    return {each.check: (each.well, each.seen) for each in extras(load(config))}


def secret(config: Path, content: str) -> str:
    path = config.parent / "secret"
    path.touch(mode=0o600)
    path.write_text(content)
    return f"file:{path}"


def with_tables(config: Path, tables: str) -> None:
    config.write_text(config.read_text() + tables)


def test_nothing_is_said_of_what_is_off(config: Path) -> None:
    assert list(extras(load(config))) == []


def test_a_collector_is_well_where_it_takes_traces(config: Path) -> None:
    with closing(Collector()) as collector:
        authorization = secret(config, "Bearer abc")
        with_tables(config, f'[traces]\nendpoint = "{collector.url}"\nauthorization = "{authorization}"\n')
        assert seen(config, "") == {"traces": (True, f"{collector.url} takes traces")}
        assert (collector.refused, collector.spans) == ([], [])
        assert collector.headers[0]["Authorization"] == "Bearer abc"


@pytest.mark.parametrize("answer", [301, 401, 503])
def test_a_collector_that_refuses_is_not(config: Path, answer: int) -> None:
    with closing(Collector(answer)) as collector:
        with_tables(config, f'[traces]\nendpoint = "{collector.url}"\n')
        assert seen(config, "") == {"traces": (False, f"{collector.url} answers {answer}")}


def test_what_is_away_or_has_no_secret_is_not(config: Path) -> None:
    with_tables(
        config,
        '[traces]\nendpoint = "http://127.0.0.1:9"\n[control]\nlisten = "127.0.0.1:9"\ntoken = "file:/nowhere/token"\n',
    )
    found = seen(config, 'strategy_plugins = ["nowhere.at_all:make", "json:loads"]\n')
    assert {check: well for check, (well, _) in found.items()} == {
        "traces": False,
        "kill switch over HTTP": False,
        "strategy plug-in nowhere.at_all:make": False,
        "strategy plug-in json:loads": True,
    }
    assert "Connection refused" in found["traces"][1]
    assert "/nowhere/token cannot be read" in found["kill switch over HTTP"][1]


@pytest.mark.parametrize(("answer", "well"), [(200, True), (401, False)])
def test_the_kill_switch_answers_to_the_token(config: Path, answer: int, *, well: bool) -> None:
    asked: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers["Authorization"]))
            self.send_response(answer)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        listen = f"127.0.0.1:{server.server_port}"
        with_tables(config, f'[control]\nlisten = "{listen}"\ntoken = "{secret(config, TOKEN)}"\n')
        found = seen(config, "")
        server.shutdown()
    assert found["kill switch over HTTP"][0] is well
    assert TOKEN not in str(found)
    assert asked == [("/kill-switch", f"Bearer {TOKEN}")]


def test_an_address_without_a_contract_is_named(config: Path) -> None:
    text = config.read_text()
    usdc = '{ symbol = "USDC", address = "0x' + "aa" * 20 + '", decimals = 6 }'
    config.write_text(text.replace("decimals = 18 }]", f"decimals = 18 }}, {usdc}]"))
    loaded: Config = load(config)

    async def asked(code: object) -> tuple[bool, str]:
        node = Node()
        node.answers["eth_getCode"] = lambda address, _: code if address == "0x" + "aa" * 20 else "0x60"
        async with running(node), Rpc(node.url) as rpc:
            found = await contracts("contracts of ethereum", rpc, loaded.chains["ethereum"])
        return found.well, found.seen

    assert asyncio.run(asked("0x60")) == (True, "there is one at each of 3 addresses")
    for code in ("0x", RefusalError(-32000, "no")):
        assert asyncio.run(asked(code)) == (False, f"no contract at tokens: USDC (0x{'aa' * 20})")


def test_what_the_engine_lost_of_its_traces_is_no_secret() -> None:
    assert lost_spans({"mev_pools": 1.0}) is None
    name = 'mev_trace_spans_lost_total{reason="not_delivered"}'
    none, some = lost_spans({name: 0.0}), lost_spans({name: 2.0, name.replace("not_delivered", "queue_full"): 3.0})
    assert none is not None
    assert some is not None
    assert (none.well, some.well) == (True, False)
    assert some.seen.startswith("5 spans lost")
