"""What is done by the clock is not done while the tests look at what they do themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from testinfra.host import Host

TIMERS = ("certbot.timer", "edge-certificate.timer")


@pytest.fixture(scope="module", autouse=True)
def _timers_wait(host: Host) -> Iterator[None]:
    """Their own calendars come again after each file's tests; a timer that goes off by them finds what a test has half done."""
    names = " ".join(TIMERS)
    host.check_output(
        f"for timer in {names}; do mkdir -p /run/systemd/system/$timer.d && printf '%s\\n' '[Timer]' 'OnCalendar=' 'OnCalendar=2099-01-01' "
        f"> /run/systemd/system/$timer.d/never.conf; done; systemctl daemon-reload && systemctl restart {names}"
    )
    yield
    host.check_output(
        f"for timer in {names}; do rm -f /run/systemd/system/$timer.d/never.conf; done; systemctl daemon-reload && systemctl restart {names}"
    )
