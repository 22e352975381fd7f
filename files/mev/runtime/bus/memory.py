"""The bus within one process; nothing outlives it."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable

import msgspec

from mev.runtime.bus.message import CLAIM_SECONDS, TAKEN_AT_ONCE, BusError, Message


class _Pending(msgspec.Struct):
    consumer: str
    at: float
    deliveries: int


class _Group(msgspec.Struct):
    last: int = 0
    pending: dict[int, _Pending] = msgspec.field(default_factory=dict)
    # Consumers that have asked since this process began.
    seen: set[str] = msgspec.field(default_factory=set)


class _Stream(msgspec.Struct):
    newest: int = 0
    kept: OrderedDict[int, tuple[str, bytes]] = msgspec.field(default_factory=OrderedDict)
    identities: OrderedDict[str, None] = msgspec.field(default_factory=OrderedDict)
    groups: dict[str, _Group] = msgspec.field(default_factory=dict)


class MemoryBus:
    """Streams in memory, with the semantics of Redis Streams."""

    problem = ""

    def __init__(
        self, *, max_length: int, claim_seconds: float = CLAIM_SECONDS, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_length = max_length
        self._claim_seconds = claim_seconds
        self._now = now
        self._streams: dict[str, _Stream] = {}
        self._published = asyncio.Condition()

    async def ping(self) -> None:
        """It is in this process."""

    async def publish(self, stream: str, identity: str, data: bytes) -> bool:
        """Append a message, once for each id."""
        kept = self._streams.setdefault(stream, _Stream())
        if identity in kept.identities:
            return False
        kept.newest += 1
        kept.kept[kept.newest] = (identity, data)
        kept.identities[identity] = None
        while len(kept.kept) > self._max_length:
            kept.kept.popitem(last=False)
            kept.identities.popitem(last=False)
        async with self._published:
            self._published.notify_all()
        return True

    async def join(self, stream: str, group: str) -> None:
        """Make a group, if there is none."""
        self._streams.setdefault(stream, _Stream()).groups.setdefault(group, _Group())

    async def take(self, stream: str, group: str, consumer: str, *, wait_seconds: float) -> list[Message]:
        """Return what was left behind, or else what is new."""
        if stream not in self._streams or group not in self._streams[stream].groups:
            raise BusError(f"there is no group {group} of {stream} on the bus: join it first")
        try:
            async with asyncio.timeout(wait_seconds), self._published:
                while not (found := self._ready(stream, group, consumer)):
                    await self._published.wait()
        except TimeoutError:
            return self._ready(stream, group, consumer)
        return found

    async def done(self, message: Message) -> None:
        """Forget a message of a group."""
        self._streams[message.stream].groups[message.group].pending.pop(int(message.place), None)

    async def close(self) -> None:
        """There is nothing to let go of."""

    def _ready(self, name: str, group_name: str, consumer: str) -> list[Message]:
        stream = self._streams[name]
        group = stream.groups[group_name]
        now = self._now()
        returned = consumer not in group.seen
        group.seen.add(consumer)
        for place in [place for place in group.pending if place not in stream.kept]:
            del group.pending[place]
        left = [
            place
            for place, pending in sorted(group.pending.items())
            if (returned and pending.consumer == consumer) or now - pending.at >= self._claim_seconds
        ]
        new = [] if left else [place for place in stream.kept if place > group.last]
        found = []
        for place in (left or new)[:TAKEN_AT_ONCE]:
            before = group.pending.get(place)
            group.pending[place] = _Pending(consumer, now, before.deliveries + 1 if before else 1)
            group.last = max(group.last, place)
            identity, data = stream.kept[place]
            found.append(
                Message(
                    stream=name,
                    group=group_name,
                    place=str(place),
                    id=identity,
                    data=data,
                    deliveries=group.pending[place].deliveries,
                )
            )
        return found
