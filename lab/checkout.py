"""Where a checkout keeps what its lab makes, and the prefix that keeps two checkouts apart."""

from __future__ import annotations

import fcntl
import hashlib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX_HEX_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Checkout:
    """One copy of the repository; `root` is absolute."""

    root: Path

    @classmethod
    def here(cls) -> Checkout:
        """Return the checkout that this file belongs to."""
        return cls(Path(__file__).resolve().parent.parent)

    @property
    def prefix(self) -> str:
        """The name of this checkout's network, and what its containers' names begin with."""
        return f"mev-{hashlib.sha256(str(self.root).encode()).hexdigest()[:PREFIX_HEX_DIGITS]}"

    @property
    def state(self) -> Path:
        """The directory of everything made here; git ignores it."""
        return self.root / ".lab"

    def container(self, host: str) -> str:
        """Return the name of the container that is `host`."""
        return f"{self.prefix}-{host}"

    @contextmanager
    def locked(self, what: str) -> Iterator[None]:
        """Let one process of this checkout at a time work on `what`."""
        self.state.mkdir(mode=0o755, exist_ok=True)
        with (self.state / f"{what}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
