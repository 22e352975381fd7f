"""Say what is being done, and how long it took."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_INSTANT_SECONDS = 0.3


def say(text: str) -> None:
    """Print one line at once, also into a pipe."""
    print(f"lab: {text}", flush=True)


@contextmanager
def step(doing: str) -> Iterator[None]:
    """Announce `doing`, and its seconds once it is done."""
    started = time.monotonic()
    say(f"{doing} ...")
    yield
    seconds = time.monotonic() - started
    if seconds >= _INSTANT_SECONDS:
        say(f"  done in {seconds:.1f} s")
