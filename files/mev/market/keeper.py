"""Writes one chain's market down: every so many minutes while it is followed, and when that ends."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from mev.market.snapshot import save
from mev.market.state import MarketState

log = structlog.get_logger(__name__)


class Keeper:
    """Keeps one snapshot current. What cannot be written is logged, and stops nothing: the one before stays."""

    def __init__(
        self,
        directory: Path,
        chain: str,
        chain_id: int,
        every_seconds: float,
        now_seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = directory / f"{chain}.snapshot"
        self._chain_id = chain_id
        self._every_seconds = every_seconds
        self._now_seconds = now_seconds
        self._due = now_seconds() + every_seconds
        self._writing: asyncio.Task[None] | None = None

    def look(self, market: MarketState) -> None:
        """Begin to write where it is time, beside everything else; nothing where it is not, or the last one is under way."""
        if self._now_seconds() < self._due or (self._writing is not None and not self._writing.done()):
            return
        self._due = self._now_seconds() + self._every_seconds
        self._writing = asyncio.create_task(self._write(market))

    async def finish(self, market: MarketState) -> None:
        """Write the market as it is, after what is under way."""
        if self._writing is not None:
            await self._writing
        await self._write(market)

    async def _write(self, market: MarketState) -> None:
        block, states = market.block, market.states()
        try:
            self.path.parent.mkdir(mode=0o750, exist_ok=True)
            await asyncio.to_thread(save, self.path, self._chain_id, block, states)
        except OSError as error:
            log.warning("snapshot not written", file=str(self.path), reason=str(error))
            return
        log.info("snapshot written", file=str(self.path), block=block.number, pools=len(states))
