"""One suite for both buses: the one in this process, and a real Redis."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from mev.runtime.bus import Bus, BusError, MemoryBus, Outbox, RedisBus, RedisLocation, connect, outbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

STREAMS = count()
LENGTH = 5


class Buses:
    """Makes buses of one kind that see the same streams; `again` is what a process sees that was started anew."""

    def __init__(self, kind: str, url: str) -> None:
        self._kind = kind
        self._url = url
        self.stream = f"stream-{next(STREAMS)}"
        self._memory = MemoryBus(max_length=LENGTH, claim_seconds=0)

    @asynccontextmanager
    async def running(self, *, claim_seconds: float = 3600) -> AsyncIterator[Bus]:
        if self._kind == "memory":
            # What a process of its own would forget: who has asked.
            for stream in self._memory._streams.values():
                for group in stream.groups.values():
                    group.seen.clear()
            self._memory._claim_seconds = claim_seconds
            yield self._memory
            return
        bus = RedisBus(RedisLocation(self._url), max_length=LENGTH, claim_seconds=claim_seconds)
        yield bus
        await bus.close()


@pytest.fixture(params=["memory", "redis"])
def buses(request: pytest.FixtureRequest) -> Buses:
    url = request.getfixturevalue("redis_server") if request.param == "redis" else ""
    return Buses(request.param, url)


def told(story: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(story(), 60)

    asyncio.run(bounded())


async def taken(bus: Bus, stream: str, group: str = "g", consumer: str = "a", wait: float = 0.05) -> list[str]:
    return [message.id for message in await bus.take(stream, group, consumer, wait_seconds=wait)]


def test_each_group_gets_every_message_and_each_consumer_its_own(buses: Buses) -> None:
    async def story() -> None:
        async with buses.running() as bus:
            for group in ("g", "h"):
                await bus.join(buses.stream, group)
                await bus.join(buses.stream, group)
            assert await bus.publish(buses.stream, "one", b"\x00\xff")
            (message,) = await bus.take(buses.stream, "g", "a", wait_seconds=1)
            assert (message.id, message.data, message.deliveries) == ("one", b"\x00\xff", 1)
            assert await taken(bus, buses.stream, consumer="b") == []
            assert await taken(bus, buses.stream, "h") == ["one"]

    told(story)


def test_an_id_is_published_once(buses: Buses) -> None:
    async def story() -> None:
        async with buses.running() as bus:
            await bus.join(buses.stream, "g")
            assert await bus.publish(buses.stream, "one", b"1")
            assert not await bus.publish(buses.stream, "one", b"1 again")
            assert await bus.publish(buses.stream, "two", b"2")
            assert await taken(bus, buses.stream) == ["one", "two"]

    told(story)


def test_what_a_dead_consumer_had_taken_it_gets_again_when_it_is_back(buses: Buses) -> None:
    async def story() -> None:
        async with buses.running() as bus:
            await bus.join(buses.stream, "g")
            for name in ("one", "two"):
                await bus.publish(buses.stream, name, b"")
            first, _ = await bus.take(buses.stream, "g", "a", wait_seconds=1)
            await bus.done(first)
        async with buses.running() as bus:
            (left,) = await bus.take(buses.stream, "g", "a", wait_seconds=1)
            assert (left.id, left.deliveries) == ("two", 2)
            await bus.done(left)
            assert await taken(bus, buses.stream) == []

    told(story)


def test_what_a_dead_consumer_had_taken_another_claims(buses: Buses) -> None:
    async def story() -> None:
        async with buses.running() as bus:
            await bus.join(buses.stream, "g")
            await bus.publish(buses.stream, "one", b"")
            assert await taken(bus, buses.stream, consumer="dead") == ["one"]
            assert await taken(bus, buses.stream, consumer="alive") == []
        async with buses.running(claim_seconds=0) as bus:
            assert await taken(bus, buses.stream, consumer="alive") == ["one"]

    told(story)


def test_a_stream_keeps_its_newest(buses: Buses) -> None:
    async def story() -> None:
        async with buses.running() as bus:
            await bus.join(buses.stream, "g")
            await bus.publish(buses.stream, "lost", b"")
            assert await taken(bus, buses.stream, consumer="dead") == ["lost"]
            for number in range(LENGTH * 3):
                await bus.publish(buses.stream, str(number), b"")
        async with buses.running(claim_seconds=0) as bus:
            assert await taken(bus, buses.stream, consumer="dead") == [str(n) for n in range(LENGTH * 2, LENGTH * 3)]
            # Its id went with it.
            assert await bus.publish(buses.stream, "lost", b"")

    told(story)


def test_a_message_ends_the_wait(buses: Buses) -> None:
    async def story() -> None:
        async with buses.running() as bus, buses.running() as other:
            await bus.join(buses.stream, "g")
            waiting = asyncio.create_task(taken(bus, buses.stream, wait=30))
            await asyncio.sleep(0.05)
            await other.publish(buses.stream, "one", b"")
            found: Any = []
            # Redis answers in bounded waits, so that a connection that died is noticed.
            while not found:
                found = await waiting
                waiting = asyncio.create_task(taken(bus, buses.stream, wait=30))
            assert found == ["one"]
            waiting.cancel()

    told(story)


def test_a_server_that_is_gone_is_one_sentence() -> None:
    async def story() -> None:
        bus = connect(RedisLocation("redis://127.0.0.1:9/0"), max_length=LENGTH)
        with pytest.raises(BusError, match=r"redis://127\.0\.0\.1:9/0: .*127\.0\.0\.1:9"):
            await bus.publish("s", "one", b"")
        with pytest.raises(BusError, match="127"):
            await bus.join("s", "g")
        await bus.close()

    told(story)


def test_a_group_is_joined_before_it_is_heard(buses: Buses) -> None:
    async def story() -> None:
        async with buses.running() as bus:
            with pytest.raises(BusError, match=buses.stream):
                await taken(bus, buses.stream)

    told(story)


class Failing(MemoryBus):
    """A bus that publishes, and then says that it did not, as a server does whose answer is lost."""

    def __init__(self) -> None:
        super().__init__(max_length=100)
        self.failures = 2

    async def publish(self, stream: str, identity: str, data: bytes) -> bool:
        done = await super().publish(stream, identity, data)
        if self.failures:
            self.failures -= 1
            raise BusError("its answer is lost")
        return done


def test_an_outbox_publishes_in_order_and_once_whatever_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "RETRY_SECONDS", 0)

    async def story() -> None:
        bus = Failing()
        box = Outbox(bus, "s")
        await bus.join("s", "g")
        publishing = asyncio.create_task(box.run())
        for number in range(5):
            box.put(str(number), b"")
        found: list[str] = []
        while len(found) < 5:
            found += await taken(bus, "s")
        publishing.cancel()
        assert found == ["0", "1", "2", "3", "4"]
        assert await taken(bus, "s") == []

    told(story)


def test_an_outbox_gives_the_oldest_up_where_too_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "WAITING", 3)

    async def story() -> None:
        bus = MemoryBus(max_length=100)
        box = Outbox(bus, "s")
        await bus.join("s", "g")
        for number in range(5):
            box.put(str(number), b"")
        publishing = asyncio.create_task(box.run())
        found: list[str] = []
        while len(found) < 3:
            found += await taken(bus, "s")
        publishing.cancel()
        assert found == ["2", "3", "4"]

    told(story)
