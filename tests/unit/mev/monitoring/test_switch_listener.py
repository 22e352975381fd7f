"""The kill switch over HTTP: thrown by its token and by nothing else, whatever is sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession
from mev.monitoring import switch_listener
from mev.monitoring.switch_listener import SwitchListener
from mev.runtime.config import Config, ConfigError, SecretError
from mev.runtime.config_shared import ControlConfig, Listen, SecretReference
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from lab.evm.devnode import free_port

TOKEN = "0123456789abcdef" * 4
JSON = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}


class Bench:
    """A listener of two chains, of which one has a switch of its own."""

    def __init__(self, directory: Path, *, token: str = TOKEN) -> None:
        self.switches = {name: directory / f"stop_{name}" for name in ("ethereum", "base")}
        secret = directory / "token"
        secret.touch(mode=0o600)
        secret.write_text(token + "\n")
        risks = {name: type("Risk", (), {"kill_switch": path})() for name, path in self.switches.items()}
        chains = {name: type("Chain", (), {"risk": risk})() for name, risk in risks.items()}
        config: Config = type("Config", (), {"chains": chains})()
        control = ControlConfig(listen=Listen(f"127.0.0.1:{free_port()}"), token=SecretReference(f"file:{secret}"))
        self.registry = CollectorRegistry()
        self.clock = 0.0
        self.listener = SwitchListener(config, control, self.registry, lambda: self.clock)
        self.port = control.listen.port
        self.url = f"http://{control.listen}/kill-switch"

    def thrown(self) -> list[str]:
        return [name for name, path in self.switches.items() if path.exists()]

    def counted(self, outcome: str) -> float:
        return self.registry.get_sample_value("mev_kill_switch_requests_total", {"outcome": outcome}) or 0

    async def post(self, body: object, headers: dict[str, str] = JSON, **more: Any) -> tuple[int, Any]:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with ClientSession() as session, session.post(self.url, data=content, headers=headers, **more) as answer:
            assert answer.headers["Server"] == "mev"
            return answer.status, await answer.json()


def told(bench: Bench, story: Callable[[], Awaitable[None]]) -> None:
    async def tell() -> None:
        async with bench.listener.serving():
            await story()

    asyncio.run(asyncio.wait_for(tell(), 120))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_the_token_stops_one_chain_or_all_and_the_log_says_who(bench: Bench) -> None:
    async def story() -> None:
        async with ClientSession() as session, session.get(bench.url, headers=JSON) as answer:
            assert (answer.status, (await answer.json())["halted"]) == (200, [])
        with capture_logs() as logs:
            status, document = await bench.post({"reason": "a\nb\x1b[2J", "chain": "base"})
        assert (status, document["halted"], document["changed"], bench.thrown()) == (200, ["base"], True, ["base"])
        (said,) = logs
        assert (said["event"], said["peer"], said["reason"]) == ("halted over HTTP", "127.0.0.1", "a b [2J")
        assert bench.switches["base"].read_text().endswith("over HTTP from 127.0.0.1: a b [2J\n")
        assert (await bench.post({}))[1]["halted"] == bench.thrown()[::-1] == ["base", "ethereum"]
        # Again, and the first one's words stay.
        assert (await bench.post({"reason": "again"}))[1]["changed"] is False
        assert bench.counted("halted") == 3

    told(bench, story)


@pytest.mark.parametrize(
    ("headers", "status", "outcome"),
    [
        ({"Content-Type": "application/json"}, 401, "unknown"),
        ({**JSON, "Authorization": f"Bearer {TOKEN[:-1]}"}, 401, "unknown"),
        ({**JSON, "Authorization": TOKEN}, 401, "unknown"),
        ({**JSON, "Authorization": "Bearer \xff"}, 401, "unknown"),
        ({**JSON, "Host": "evil.example"}, 403, "foreign"),
        ({**JSON, "Host": "127.0.0.1"}, 403, "foreign"),
        ({**JSON, "Origin": "http://127.0.0.1:8091"}, 403, "foreign"),
        ({**JSON, "Sec-Fetch-Site": "same-origin"}, 403, "foreign"),
        ({**JSON, "Content-Type": "text/plain"}, 415, "malformed"),
        ({**JSON, "Content-Type": "application/x-www-form-urlencoded"}, 415, "malformed"),
    ],
)
def test_who_is_refused(bench: Bench, headers: dict[str, str], status: int, outcome: str) -> None:
    async def story() -> None:
        answered, document = await bench.post({}, headers)
        assert (answered, list(document), bench.thrown()) == (status, ["error"], [])
        assert bench.counted(outcome) == 1
        assert TOKEN not in str(document)

    told(bench, story)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"null", 400),
        (b"[]", 400),
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b"[" * 4000, 400),
        (b'{"halt": false}', 400),
        (b'{"chain": 1}', 400),
        (b'{"chain": "polygon"}', 400),
        (b'{"reason": "' + b"x" * 5000 + b'"}', 413),
    ],
)
def test_what_is_refused(bench: Bench, body: bytes, status: int) -> None:
    async def story() -> None:
        assert (await bench.post(body))[0] == status
        assert (bench.thrown(), bench.counted("malformed")) == ([], 1)

    told(bench, story)


def test_other_methods_and_paths_are_not_there(bench: Bench) -> None:
    async def story() -> None:
        async with ClientSession(headers=JSON) as session:
            for method, path, status in (
                ("DELETE", "/kill-switch", 405),
                ("OPTIONS", "/kill-switch", 405),
                ("HEAD", "/kill-switch", 405),
                ("GET", "/", 404),
                ("POST", "/kill-switch/../kill-switch%00", 404),
            ):
                async with session.request(method, bench.url.replace("/kill-switch", path)) as answer:
                    assert (method, path, answer.status) == (method, path, status)
            # Who does not know the token does not learn what is there.
            async with session.get(bench.url + "x", headers={"Authorization": "Bearer x"}) as answer:
                assert answer.status == 401
        assert bench.thrown() == []

    told(bench, story)


def test_guessing_is_slowed_and_the_right_token_always_passes(bench: Bench) -> None:
    async def story() -> None:
        wrong = {**JSON, "Authorization": "Bearer guess"}
        assert [(await bench.post({}, wrong))[0] for _ in range(7)] == 5 * [401] + 2 * [429]
        assert (await bench.post({}))[0] == 200
        bench.clock = 61
        assert (await bench.post({}, wrong))[0] == 401

    told(bench, story)


def test_bytes_that_are_no_http_and_connections_that_say_nothing_end(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(switch_listener, "CONNECTION_SECONDS", 0.3)

    async def ends(content: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", bench.port)
        writer.write(content)
        answer = await reader.read()
        writer.close()
        return answer

    async def story() -> None:
        for content in (
            b"",
            b"POST /kill-switch HTTP/1.1\r\nHost:",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
            b"GET " + b"/" * 100_000 + b" HTTP/1.1\r\n\r\n",
            b"POST /kill-switch HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            f"POST /kill-switch HTTP/1.1\r\nHost: 127.0.0.1:{bench.port}\r\nHost: evil\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode(),
            f"POST /kill-switch HTTP/1.1\r\nHost: 127.0.0.1:{bench.port}\r\nAuthorization: Bearer {TOKEN}\r\n"
            "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{".encode(),
        ):
            answer = await ends(content)
            assert b" 200 " not in answer.partition(b"\r\n")[0], content
        assert bench.thrown() == []
        assert (await bench.post({}))[0] == 200

    told(bench, story)


def test_a_switch_that_cannot_be_written_is_no_success(bench: Bench) -> None:
    async def story() -> None:
        directory = bench.switches["base"].parent / "gone"
        chains = bench.listener._config.chains
        chains["base"].risk.kill_switch = directory / "stop"  # type: ignore[misc]
        status, document = await bench.post({"chain": "base"})
        assert (status, document["error"]) == (500, "the kill switch cannot be written: No such file or directory")
        chains["base"].risk.kill_switch = None  # type: ignore[misc]
        status, document = await bench.post({"chain": "base"})
        assert status == 409
        assert "has no kill_switch" in document["error"]
        async with ClientSession() as session, session.get(bench.url, headers=JSON) as answer:
            assert answer.status == 409

    told(bench, story)


@pytest.mark.parametrize("token", ["short", "x" * 31, "x" * 20 + " " + "y" * 20, "ü" * 40])
def test_a_weak_token_is_refused_at_the_start(tmp_path: Path, token: str) -> None:
    with pytest.raises(SecretError, match="holds no token: 32 or more ASCII characters"):
        Bench(tmp_path, token=token)


def test_an_address_that_is_taken_is_named(bench: Bench) -> None:
    control = ControlConfig(listen=Listen(f"127.0.0.1:{bench.port}"), token=SecretReference("file:/nowhere"))
    again = msgspec.structs.replace(control, token=SecretReference(f"file:{bench.switches['base'].parent}/token"))

    async def story() -> None:
        with pytest.raises(ConfigError, match=rf"control.listen is 127.0.0.1:{bench.port} and cannot be bound"):
            SwitchListener(bench.listener._config, again, CollectorRegistry())

    told(bench, story)
