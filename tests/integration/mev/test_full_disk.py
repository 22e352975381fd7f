"""The ledger's disk fills under a running engine: what cannot be booked is not sent, and once there is room all goes on.

The disk is a tmpfs of its own, so that it is the kernel that says ENOSPC, to SQLite itself.
"""

from __future__ import annotations

import gc
import os
import sqlite3
import subprocess
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.integration.mev.conftest import CAPITAL_WEI, Account, Installation, at_rest, filled, wait_for
from tests.integration.mev.test_crash import Wire, wire

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lab.evm.devnode import DevNode

__all__ = ["wire"]

DISK_MIB = 32
AS_ROOT = [] if os.geteuid() == 0 else ["sudo", "-n"]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, mounted."""
    path = tmp_path / "disk"
    path.mkdir()
    options = f"size={DISK_MIB}m,uid={os.geteuid()},mode=0700"
    subprocess.run([*AS_ROOT, "mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)], check=True)
    try:
        yield path
    finally:
        # `mev` leaves a database open that its process is about to end with; here its process is this one.
        gc.collect()
        subprocess.run([*AS_ROOT, "umount", str(path)], check=True)


@contextmanager
def full(disk: Path) -> Iterator[None]:
    """Leave not a byte on the disk until the context ends."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (2**16, 2**12, 1):
            try:
                while file.write(bytes(size)):
                    pass
            except OSError:
                continue
    try:
        yield
    finally:
        filler.unlink()


def test_nothing_is_sent_that_a_full_disk_cannot_book_and_it_goes_on_once_there_is_room(
    evm: DevNode, owner: Account, wire: Wire, tmp_path: Path, disk: Path
) -> None:
    made = Installation(evm, tmp_path, owner.signer, wire.url)
    ledger_file = disk / "mev_opportunities.db"
    made.storage = f'[storage]\nopportunities = "{ledger_file}"\nperformance = "{tmp_path}/performance.db"'
    made.write()
    made.mev("executor", "prepare", "--amount-wei", str(CAPITAL_WEI))
    log = tmp_path / "strategy_engine.log"
    with made.agent("strategy_engine") as engine:
        filled(made)
        with full(disk):
            # What SQLite has room for in its log it still writes, and it may be sent; then it is told.
            wait_for("the refusal", lambda: "the ledger cannot be written" in log.read_text(), meanwhile=evm.trade)
            while "database or disk is full" not in engine.hear():
                evm.trade()
            assert engine.process.poll() is None
        before = len(wire.sent)
        wait_for("a trade after it", lambda: len(wire.sent) > before, meanwhile=evm.trade)
        at_rest(made)
    with closing(sqlite3.connect(ledger_file)) as ledger:
        assert ledger.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        written = {raw for (raw,) in ledger.execute("SELECT raw FROM submissions")}
        assert ledger.execute("SELECT count(*) FROM in_flight").fetchone() == (0,)
    assert set(wire.sent) <= written, "what is sent is written first"
    assert made.mev("reconcile")["agrees"]
