"""A real Redis whose password changes: messages go on by the new one, and an agent that is refused says so."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Any

import pytest
import redis
from mev.insight import doctor
from mev.runtime import metrics
from mev.runtime.bus import BusError, BusRefusedError, Outbox, RedisBus, RedisLocation, introduce, outbox
from mev.runtime.config import Listen
from mev.runtime.secret import SecretError
from prometheus_client import CollectorRegistry, generate_latest, start_http_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COUNT = 60


class User:
    """A user of the server with passwords of its own, and the file that an agent reads."""

    def __init__(self, url: str, directory: Path) -> None:
        self.name = f"user-{secrets.token_hex(4)}"
        self.admin: Any = redis.Redis.from_url(url)
        self.file = directory / "password"
        self.file.touch(mode=0o600)
        self.location = RedisLocation(url.replace("redis://", f"redis://{self.name}@"), f"file:{self.file}")
        self.rule("on", "allkeys", "allcommands")

    def rule(self, *words: str) -> None:
        self.admin.execute_command("ACL", "SETUSER", self.name, *words)

    def part(self) -> None:
        """End the connections that it has."""
        self.admin.execute_command("CLIENT", "KILL", "USER", self.name)


@pytest.fixture
def user(redis_server: str, tmp_path: Path) -> Iterator[User]:
    made = User(redis_server, tmp_path)
    yield made
    made.admin.execute_command("ACL", "DELUSER", made.name)
    made.admin.close()


def test_no_message_is_lost_while_the_password_changes(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "RETRY_SECONDS", 0.01)
    stream, found = user.name, list[str]()
    user.rule(">first")
    user.file.write_text("first\n")

    async def hear(bus: RedisBus) -> None:
        while len(found) < COUNT:
            try:
                for message in await bus.take(stream, "g", "a", wait_seconds=0.5):
                    found.append(message.id)
                    await bus.done(message)
            except BusError:
                await asyncio.sleep(0.01)

    async def story() -> None:
        bus, other = RedisBus(user.location, max_length=1000), RedisBus(user.location, max_length=1000)
        await bus.join(stream, "g")
        box = Outbox(bus, stream)
        tasks = [asyncio.create_task(box.run()), asyncio.create_task(hear(other))]
        for number in range(COUNT):
            box.put(str(number), b"")
            await asyncio.sleep(0)
            if number == COUNT // 3:
                user.rule(">second")
                user.file.write_text("second\n")
                # Connections end at any time; the next one has the new password.
                user.part()
            if number == 2 * COUNT // 3:
                user.rule("<first")
                user.part()
        await box.flush(30)
        await tasks[1]
        tasks[0].cancel()
        assert (bus.problem, other.problem) == ("", "")
        await bus.close()
        await other.close()

    asyncio.run(asyncio.wait_for(story(), 60))
    assert list(dict.fromkeys(found)) == [str(number) for number in range(COUNT)]


def test_who_is_refused_says_so_and_no_password(user: User) -> None:
    user.rule(">second")
    user.file.write_text("hunter2\n")
    with pytest.raises(
        BusRefusedError, match=rf"{user.name}@.* refuses this agent: .*invalid username-password"
    ) as said:
        introduce(user.location)
    assert "hunter2" not in str(said.value)

    async def story() -> None:
        registry = CollectorRegistry()
        bus = RedisBus(user.location, max_length=10)
        metrics.watch_bus(registry, bus)
        assert b"mev_bus_up 1.0" in generate_latest(registry)
        with pytest.raises(BusRefusedError):
            await bus.ping()
        assert "refuses this agent" in bus.problem
        assert b"mev_bus_up 0.0" in generate_latest(registry)
        server, thread = start_http_server(0, "127.0.0.1", registry)
        place = Listen(f"127.0.0.1:{server.server_port}")
        assert (await asyncio.to_thread(doctor._figures, place))["mev_bus_up"] == 0
        # The right password, and it is well again by itself.
        user.file.write_text("second\n")
        await bus.ping()
        assert bus.problem == ""
        assert (await asyncio.to_thread(doctor._figures, place))["mev_bus_up"] == 1
        server.shutdown()
        server.server_close()
        thread.join()
        assert await asyncio.to_thread(doctor._figures, place) == {}
        # Nothing to be read is a problem of the bus while the agent runs.
        user.file.unlink()
        user.part()
        with pytest.raises(BusError):
            await bus.ping()
        with pytest.raises(BusError, match="cannot be read"):
            await bus.ping()
        await bus.close()

    asyncio.run(asyncio.wait_for(story(), 60))
    with pytest.raises(SecretError):
        introduce(user.location)


def test_a_user_that_may_not_is_refused_as_well(user: User) -> None:
    user.rule(">first", "resetkeys", "-@all", "+ping")
    user.file.write_text("first\n")
    introduce(user.location)

    async def story() -> None:
        bus = RedisBus(user.location, max_length=10)
        with pytest.raises(BusRefusedError, match="permission"):
            await bus.join(user.name, "g")
        await bus.close()

    asyncio.run(story())


def test_a_bus_that_is_gone_stops_no_agent(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.touch(mode=0o600)
    password.write_text("first\n")
    introduce(RedisLocation("redis://127.0.0.1:9/0", f"file:{password}"))
    introduce(None)


def test_what_cannot_be_published_before_the_end_is_given_up_and_told(capsys: pytest.CaptureFixture[str]) -> None:
    async def story() -> None:
        bus = RedisBus(RedisLocation("redis://127.0.0.1:9/0"), max_length=10)
        box = Outbox(bus, "s")
        running = asyncio.create_task(box.run())
        box.put("one", b"")
        await box.flush(0.2)
        running.cancel()
        await bus.close()

    asyncio.run(story())
    assert "messages given up" in "".join(capsys.readouterr())
