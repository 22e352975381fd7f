"""The ledger's file is damaged: an engine does not start on it, one that runs says so and sends nothing that it cannot book, and a copy put back goes on."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from mev.runtime.storage.sqlite import backup

from tests.integration.mev.conftest import PATIENCE_SECONDS, Account, Installation, at_rest, filled, text, wait_for
from tests.integration.mev.test_crash import Wire, wire, wired

if TYPE_CHECKING:
    from pathlib import Path

    from lab.evm.devnode import DevNode

__all__ = ["wire", "wired"]

PAGE_BYTES = 4096


def damage(path: Path) -> None:
    """Overwrite all but the first page where it stands, as a failing disk does."""
    size = path.stat().st_size
    with path.open("r+b", buffering=0) as file:
        file.seek(PAGE_BYTES)
        file.write(b"\xa5" * (size - PAGE_BYTES))


def test_a_damaged_ledger_is_named_and_not_traded_on_and_its_copy_goes_on(
    evm: DevNode, owner: Account, wired: Installation, wire: Wire
) -> None:
    ledger, log = wired.directory / "mev_opportunities.db", wired.directory / "strategy_engine.log"
    copies = wired.directory / "copies"
    copies.mkdir()
    with wired.agent("strategy_engine") as engine:
        filled(wired)
        at_rest(wired)
        backup(ledger, copies)
        # What is in the log beside it is checked when it is moved into the file: it has to be there.
        with closing(sqlite3.connect(ledger)) as other:
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        damage(ledger)
        wait_for("the fault", lambda: "the ledger cannot be written" in log.read_text(), meanwhile=evm.trade)
        assert "malformed" in log.read_text()
        sent = len(wire.sent)
        for _ in range(4):
            evm.trade()
        assert len(wire.sent) == sent
        assert engine.process.poll() is None
    with wired.agent("strategy_engine", ready=False) as refused:
        assert refused.process.wait(timeout=PATIENCE_SECONDS) == 2
    said = (wired.directory / "strategy_engine.stderr").read_text().splitlines()[-1]
    assert said.startswith(f"strategy_engine: {ledger} ")
    assert "is damaged" in said or "cannot be opened as a database" in said
    assert len(wire.sent) == sent
    # All of it goes: this process has looked at the old file, and SQLite would know it again.
    for part in ("", "-wal", "-shm"):
        ledger.with_name(ledger.name + part).unlink(missing_ok=True)
    shutil.copy(copies / ledger.name, ledger)
    with wired.agent("strategy_engine"):
        wait_for("a trade after it", lambda: len(wire.sent) > sent, meanwhile=evm.trade)
        at_rest(wired)
    nonce = int(evm.rpc.call("eth_getTransactionCount", text(owner.address), "latest"), 16)
    with closing(sqlite3.connect(ledger)) as books:
        assert books.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        (booked,) = books.execute("SELECT count(DISTINCT \"transaction\") FROM entries WHERE kind = 'gas'").fetchone()
    assert booked == nonce
    assert wired.mev("reconcile")["agrees"]
