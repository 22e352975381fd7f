"""How far it is, as a line now and then."""

from __future__ import annotations

import sys
import time

from snapshot.space import gib

EVERY_SECONDS = 30.0


class Progress:
    """Lines of one phase. `total` is in bytes."""

    def __init__(self, phase: str, total: int) -> None:
        self._phase = phase
        self._total = total
        self._begun: tuple[float, int] | None = None
        self._said = time.monotonic()

    def say(self, words: str) -> None:
        """Write a line at once."""
        sys.stdout.write(f"{self._phase}: {words}\n")
        sys.stdout.flush()

    def at(self, done: int) -> None:
        """Note how many bytes are done, and write a line when one is due."""
        now = time.monotonic()
        if self._begun is None:
            self._begun = (now, done)
        if now - self._said < EVERY_SECONDS:
            return
        self._said = now
        since, before = self._begun
        rate = (done - before) / (now - since) if now > since else 0.0
        left = f", {(self._total - done) / rate / 60:.0f} min left" if rate > 0 else ""
        percent = 100 * done / self._total if self._total else 100.0
        self.say(f"{gib(done)} of {gib(self._total)} ({percent:.1f} %), {rate / (1 << 20):.1f} MiB/s{left}")
