"""How tests wait: for what is to come, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from testinfra.host import Host


def until(happens: Callable[[], object], seconds: float = 90) -> bool:
    """Look twice a second; False where it has not come in time."""
    deadline = time.monotonic() + seconds
    while not happens():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.5)
    return True


def now(host: Host) -> str:
    """The moment by the host's clock, as `journal` takes it for `since`."""
    return str(host.check_output("date +@%s.%N"))


def journal(host: Host, options: str, since: str = "") -> str:
    """What journalctl says with these options, after journald has written all that it was sent: what ends before that may have said more."""
    moment = f" --since={since}" if since else ""
    return str(host.check_output(f"journalctl --sync && journalctl --quiet --no-pager --output=cat {options}{moment}"))
