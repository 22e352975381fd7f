"""kill -9 at random moments: nothing that happened is missing in the ledger, and nothing is sent twice.

MEV_KILLS says how often (6 here; MEV_KILLS=50 for a long run), MEV_KILLS_SEED at which moments.
"""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections import defaultdict
from typing import TYPE_CHECKING

from tests.integration.mev.conftest import Account, Installation, at_rest, text
from tests.integration.mev.test_crash import Wire, wire, wired

if TYPE_CHECKING:
    from lab.evm.devnode import DevNode

__all__ = ["wire", "wired"]

KILLS = int(os.environ.get("MEV_KILLS", "6"))
SEED = int(os.environ.get("MEV_KILLS_SEED", "1"))
# From the block that shows an arbitrage to the receipt of its transaction takes about so long.
MOMENT_SECONDS = 0.4


def test_kill_9_at_any_moment_loses_no_entry_and_sends_nothing_twice(
    evm: DevNode, owner: Account, wired: Installation, wire: Wire
) -> None:
    moments = random.Random(SEED)  # noqa: S311
    for _ in range(KILLS):
        with wired.agent("strategy_engine") as engine:
            evm.trade()
            time.sleep(moments.uniform(0, MOMENT_SECONDS))
            engine.kill()
    with wired.agent("strategy_engine"):
        at_rest(wired)

    with sqlite3.connect(wired.directory / "mev_opportunities.db") as ledger:
        assert ledger.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        submissions = ledger.execute('SELECT opportunity, nonce, "transaction", raw FROM submissions').fetchall()
        refused = dict(
            ledger.execute("SELECT opportunity, 1 FROM transitions WHERE reason = 'node_refused'").fetchall()
        )
        booked = [row[0] for row in ledger.execute("SELECT \"transaction\" FROM entries WHERE kind = 'gas'")]
        left = ledger.execute("SELECT count(*) FROM in_flight").fetchone()[0]
    assert left == 0
    assert set(wire.sent) <= {raw for *_, raw in submissions}, "what is sent is written first"
    meant = defaultdict(set)
    for opportunity, nonce, transaction, _ in submissions:
        if not opportunity.startswith("operator:replace:") and opportunity not in refused:
            meant[nonce].add(transaction)
    assert all(len(transactions) == 1 for transactions in meant.values()), "a nonce is meant for one transaction"
    # Every transaction of the signer that a block holds has its gas in the books, once; and so has everything that it moved.
    mined = [
        transaction["hash"]
        for number in range(int(evm.rpc.call("eth_blockNumber"), 16) + 1)
        for transaction in evm.rpc.call("eth_getBlockByNumber", hex(number), True)["transactions"]
        if transaction["from"] == text(owner.address)
    ]
    assert sorted(booked) == sorted(mined)
    assert len(mined) == int(evm.rpc.call("eth_getTransactionCount", text(owner.address), "latest"), 16)
    assert wired.mev("reconcile")["agrees"]
    assert wire.sent, "nothing was sent: this showed nothing"
