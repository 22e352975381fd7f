"""What an agent has to tell and must not wait for: trading goes on while the bus is gone."""

import asyncio
import contextlib
from collections import deque

import structlog

from mev.runtime.bus.message import Bus, BusError

WAITING = 10_000
RETRY_SECONDS = 2.0

log = structlog.get_logger(__name__)


class Outbox:
    """Publishes one stream's messages in order, and again after a failure: ids make that harmless."""

    def __init__(self, bus: Bus, stream: str) -> None:
        self._bus = bus
        self._stream = stream
        self._waiting: deque[tuple[str, bytes]] = deque(maxlen=WAITING)
        self._put = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()

    def put(self, identity: str, data: bytes) -> None:
        """Have a message published soon; the oldest gives way where too many wait."""
        if len(self._waiting) == WAITING:
            log.error("message given up", stream=self._stream, message=self._waiting[0][0])
        self._waiting.append((identity, data))
        self._empty.clear()
        self._put.set()

    async def flush(self, seconds: float) -> None:
        """Wait until all is published, while `run` runs; what is not by then is given up, and on record."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        if self._waiting:
            log.error("messages given up", stream=self._stream, messages=len(self._waiting))

    async def run(self) -> None:
        """Publish for ever."""
        while True:
            await self._put.wait()
            self._put.clear()
            while self._waiting:
                identity, data = message = self._waiting[0]
                try:
                    await self._bus.publish(self._stream, identity, data)
                except BusError as error:
                    log.warning("not published yet", stream=self._stream, reason=str(error))
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                if self._waiting and self._waiting[0] is message:
                    self._waiting.popleft()
            self._empty.set()
