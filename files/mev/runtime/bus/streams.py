"""The bus across hosts: Redis Streams, through redis-py, which only hosts that use it have (the package's extra `redis`)."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from mev.runtime.bus.message import CLAIM_SECONDS, TAKEN_AT_ONCE, BusError, BusRefusedError, Message
from mev.runtime.secret import SecretError, secret

TIMEOUT_SECONDS = 5.0
# One step for the server, so that no crash comes between looking for an id and appending its message. The ids of the newest messages
# are kept beside them, and no more of them.
PUBLISH = """
if redis.call('ZSCORE', KEYS[2], ARGV[1]) then return false end
local place = redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[3], '*', 'id', ARGV[1], 'data', ARGV[2])
redis.call('ZADD', KEYS[2], redis.call('INCR', KEYS[3]), ARGV[1])
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -ARGV[3] - 1)
return place
"""

T = TypeVar("T")


class RedisLocation(msgspec.Struct, frozen=True):
    """A redis:// or rediss:// URL without a password, and where the password is (a secret's reference), if there is one."""

    url: str
    password: str | None = None


class RedisBus:
    """Streams of one Redis server, 6.2 or newer."""

    def __init__(self, location: RedisLocation, *, max_length: int, claim_seconds: float = CLAIM_SECONDS) -> None:
        """Connect when first used; raises BusError where the client is not installed, SecretError where the password is not there."""
        try:
            from redis import asyncio as client  # noqa: PLC0415 - it may be absent
            from redis import exceptions  # noqa: PLC0415
            from redis.credentials import CredentialProvider  # noqa: PLC0415
        except ImportError:
            raise BusError(f"{location.url} needs redis-py, which is not installed: install mev[redis]") from None
        self._error = exceptions.RedisError
        self._refused = (exceptions.AuthenticationError, exceptions.AuthorizationError, exceptions.NoPermissionError)
        self.problem = ""
        self._name = location.url
        self._max_length = max_length
        self._claim_ms = int(claim_seconds * 1000)
        self._resumed: set[tuple[str, str, str]] = set()
        parts = urlsplit(location.url)

        class Password(CredentialProvider):
            """Read for each connection: a password that was rotated is the new one for the next."""

            def get_credentials(self) -> tuple[str] | tuple[str, str]:
                told = secret(location.password).decode() if location.password else ""
                return (parts.username, told) if parts.username else (told,)

            async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
                return self.get_credentials()

        password = Password() if location.password else None
        if password is not None:
            # That it is there is known before anything is asked; redis-py takes the user from one place only.
            password.get_credentials()
        url = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if password else location.url
        self._redis: Any = client.Redis.from_url(
            url,
            credential_provider=password,
            socket_timeout=TIMEOUT_SECONDS,
            socket_connect_timeout=TIMEOUT_SECONDS,
        )

    async def ping(self) -> None:
        """Ask whether the server is there and takes the password."""
        await self._ask(self._redis.ping)

    async def publish(self, stream: str, identity: str, data: bytes) -> bool:
        """Append a message, once for each id."""
        keys = (stream, f"{stream}:ids", f"{stream}:count")
        return bool(await self._ask(lambda: self._redis.eval(PUBLISH, 3, *keys, identity, data, self._max_length)))

    async def join(self, stream: str, group: str) -> None:
        """Make a group, if there is none."""
        try:
            await self._ask(lambda: self._redis.xgroup_create(stream, group, id="0", mkstream=True))
        except BusError as error:
            if "BUSYGROUP" not in str(error):
                raise
            self.problem = ""

    async def take(self, stream: str, group: str, consumer: str, *, wait_seconds: float) -> list[Message]:
        """Return what was left behind, or else what is new."""
        who = (stream, group, consumer)
        if who not in self._resumed:
            self._resumed.add(who)
            if left := await self._read(who, "0", 0):
                return left
        _, claimed, *_ = await self._ask(
            lambda: self._redis.xautoclaim(
                stream, group, consumer, min_idle_time=self._claim_ms, start_id="0-0", count=TAKEN_AT_ONCE
            )
        )
        if claimed:
            return await self._messages(stream, group, claimed)
        # The server answers before the client loses patience.
        return await self._read(who, ">", min(wait_seconds, TIMEOUT_SECONDS / 2))

    async def done(self, message: Message) -> None:
        """Acknowledge a message."""
        await self._ask(lambda: self._redis.xack(message.stream, message.group, message.place))

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def _read(self, who: tuple[str, str, str], after: str, wait_seconds: float) -> list[Message]:
        stream, group, consumer = who
        # 0 would be for ever.
        block = max(1, int(wait_seconds * 1000)) if after == ">" else None
        answer = await self._ask(
            lambda: self._redis.xreadgroup(group, consumer, {stream: after}, count=TAKEN_AT_ONCE, block=block)
        )
        entries = answer.values() if isinstance(answer, dict) else (entries for _, entries in answer or [])
        found = [entry for each in entries for entry in _flat(each)]
        return await self._messages(stream, group, found, first=after == ">")

    async def _messages(
        self, stream: str, group: str, entries: Iterable[tuple[bytes, dict[bytes, bytes]]], *, first: bool = False
    ) -> list[Message]:
        found = []
        for place, fields in entries:
            if not fields:
                # It was taken, its consumer died, and the stream has moved on past it.
                await self._ask(lambda place=place: self._redis.xack(stream, group, place))  # type: ignore[misc]
                continue
            deliveries = 1 if first else await self._deliveries(stream, group, place)
            found.append(
                Message(
                    stream=stream,
                    group=group,
                    place=place.decode(),
                    id=fields[b"id"].decode(),
                    data=fields[b"data"],
                    deliveries=deliveries,
                )
            )
        return found

    async def _deliveries(self, stream: str, group: str, place: bytes) -> int:
        pending = await self._ask(lambda: self._redis.xpending_range(stream, group, min=place, max=place, count=1))
        return int(pending[0]["times_delivered"]) if pending else 1

    async def _ask(self, ask: Callable[[], Awaitable[T]]) -> T:
        try:
            answer = await ask()
        except (self._error, SecretError, OSError, TimeoutError) as error:
            raise self._failed(error) from error
        self.problem = ""
        return answer

    def _failed(self, error: Exception) -> BusError:
        said = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, self._refused):
            self.problem = f"{self._name} refuses this agent: {said}"
            return BusRefusedError(self.problem)
        self.problem = f"{self._name}: {said}"
        return BusError(self.problem)


def _flat(entries: Any) -> Iterable[Any]:  # noqa: ANN401 - RESP2 and RESP3 nest an answer differently
    return entries[0] if entries and isinstance(entries[0], list) else entries
