"""The host's clock jumps under a running engine, forward and back: nothing is sent while it is wrong, and all goes on by itself once it is right."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from mev.insight.report import recent

from tests.integration.mev.conftest import Installation, at_rest, filled, wait_for
from tests.integration.mev.test_crash import Wire, wire, wired

if TYPE_CHECKING:
    from lab.evm.devnode import DevNode

__all__ = ["wire", "wired"]

HOUR_SECONDS = 3600


@pytest.fixture
def clock(wired: Installation, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that says by how much the engine's clock is wrong; the clock that nobody sets goes on as it is."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    offset = wired.directory / "offset"
    offset.write_text("+0")
    for name, value in {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }.items():
        monkeypatch.setenv(name, value)
    return offset


def turn(clock: Path, offset: str) -> None:
    """Set the clock. Whoever looks at it meanwhile finds one time or the other: of half a file libfaketime ends its process."""
    new = clock.with_suffix(".new")
    new.write_text(offset)
    new.replace(clock)


def test_nothing_is_sent_while_the_clock_is_wrong_and_it_goes_on_once_it_is_right(
    evm: DevNode, wired: Installation, wire: Wire, clock: Path
) -> None:
    _, ledger = wired.reports()

    def dropped(reason: str) -> list[dict[str, Any]]:
        return [each for each in recent(ledger, count=1000) if each["reason"] == reason]

    with wired.agent("strategy_engine") as engine:
        filled(wired)
        # The installation allows an hour between clock and blocks.
        for hours, reason in ((2, "stale_block"), (-2, "clock_behind")):
            at_rest(wired)
            turn(clock, f"{hours * HOUR_SECONDS:+d}")
            before, seen = len(wire.sent), len(dropped(reason))
            wait_for(reason, lambda reason=reason, seen=seen: len(dropped(reason)) > seen, meanwhile=evm.trade)  # type: ignore[misc]
            evm.trade()
            assert len(wire.sent) == before, reason
            turn(clock, "+0")
            wait_for("a trade", lambda before=before: len(wire.sent) > before, meanwhile=evm.trade)  # type: ignore[misc]
        at_rest(wired)
        assert engine.process.poll() is None
    assert wired.mev("reconcile")["agrees"]
