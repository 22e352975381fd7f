"""kill -9 at random moments: nothing that happened is missing in the ledger, and nothing is sent twice, whichever way trades leave by.

MEV_KILLS says how often (6 here, and half as often where trades leave privately; MEV_KILLS=50 for a long run), MEV_KILLS_SEED at which moments.
"""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections import defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from eth_account import Account as EthAccount

from lab.evm.rpc import RpcError
from tests.builders import Taker
from tests.integration.mev.conftest import Account, Installation, at_rest, text
from tests.integration.mev.test_crash import Wire, wire, wired

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lab.evm.devnode import DevNode

__all__ = ["wire", "wired"]

KILLS = int(os.environ.get("MEV_KILLS", "6"))
SEED = int(os.environ.get("MEV_KILLS_SEED", "1"))
# From the block that shows an arbitrage to the receipt of its transaction takes about so long.
MOMENT_SECONDS = 0.4
IDENTITY_KEY = b"\x19" * 32
# These ended without a transaction that could still come true by its own way: what follows may have their nonce.
ENDED = ("node_refused", "bundle_missed", "submitter_refused", "submitter_unavailable")


def killed(wired: Installation, evm: DevNode, moments: random.Random, times: int) -> None:
    for _ in range(times):
        with wired.agent("strategy_engine") as engine:
            evm.trade()
            time.sleep(moments.uniform(0, MOMENT_SECONDS))
            engine.kill()


def nothing_is_lost_or_sent_twice(evm: DevNode, owner: Account, wired: Installation, sent: Iterable[str]) -> None:
    """`sent` is every raw transaction that the engine handed to anybody."""
    with sqlite3.connect(wired.directory / "mev_opportunities.db") as ledger:
        assert ledger.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        submissions = ledger.execute('SELECT opportunity, nonce, "transaction", raw FROM submissions').fetchall()
        reasons = ledger.execute("SELECT opportunity, reason FROM transitions").fetchall()
        booked = [row[0] for row in ledger.execute("SELECT \"transaction\" FROM entries WHERE kind = 'gas'")]
        left = ledger.execute("SELECT count(*) FROM in_flight").fetchone()[0]
    ended = {opportunity for opportunity, reason in reasons if reason in ENDED}
    assert left == 0
    assert set(sent) <= {raw for *_, raw in submissions}, "what is sent is written first"
    meant = defaultdict(set)
    for opportunity, nonce, transaction, _ in submissions:
        if not opportunity.startswith("operator:replace:") and opportunity not in ended:
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
    assert sent, "nothing was sent: this showed nothing"


def test_kill_9_at_any_moment_loses_no_entry_and_sends_nothing_twice(
    evm: DevNode, owner: Account, wired: Installation, wire: Wire
) -> None:
    killed(wired, evm, random.Random(SEED), KILLS)  # noqa: S311
    with wired.agent("strategy_engine"):
        at_rest(wired)
    nothing_is_lost_or_sent_twice(evm, owner, wired, wire.sent)


class Keeper(Taker):
    """A builder or a private RPC that brings to a block some of what it is handed, and keeps the rest to itself."""

    def __init__(self, evm: DevNode, moments: random.Random, identity: str | None) -> None:
        super().__init__(identity)
        self.all: list[str] = []
        # Of what it is handed so much reaches a block.
        self.share = 0.5
        self._evm = evm
        self._moments = moments
        self.on_taken = self._bring

    def _keep(self, raw: str, block: int) -> str:
        self.all.append(raw)
        return super()._keep(raw, block)

    def _bring(self) -> None:
        # For its own block alone where it has one.
        blocks = {0, int(self._evm.rpc.call("eth_blockNumber"), 16) + 1}
        raws = [raw for block in blocks for raw in self.taken.pop(block, [])]
        for raw in raws if self._moments.random() < self.share else ():
            # The chain may have it already, or another one of its nonce.
            with suppress(RpcError):
                self._evm.rpc.call("eth_sendRawTransaction", raw)


@pytest.mark.parametrize("kind", ["bundles", "private_rpc"])
def test_kill_9_while_trades_leave_privately(
    evm: DevNode, owner: Account, wired: Installation, wire: Wire, kind: str
) -> None:
    moments = random.Random(SEED)  # noqa: S311
    signs = kind == "bundles"
    identity = EthAccount.from_key(IDENTITY_KEY).address if signs else None
    places = [Keeper(evm, random.Random(SEED + number), identity) for number in range(2)]  # noqa: S311
    key = wired.directory / "identity.key"
    key.touch(mode=0o600)
    key.write_text(IDENTITY_KEY.hex())
    wired.chain_tables = "\n".join(
        f'[[chains.ethereum.submitters]]\nname = "place{number}"\nkind = "{kind}"\nurl = "{each.url}"\n'
        + (f'identity = "file:{key}"\n' if signs else "")
        for number, each in enumerate(places)
    )
    wired.write()
    before = len(wire.sent)
    try:
        killed(wired, evm, moments, max(KILLS // 2, 1))
        for each in places:
            each.share = 1
        with wired.agent("strategy_engine"):
            at_rest(wired)
    finally:
        for each in places:
            each.close()
    handed = [raw for each in places for raw in each.all]
    nothing_is_lost_or_sent_twice(evm, owner, wired, handed)
    assert [each.refused for each in places] == [[], []]
    assert not set(wire.sent[before:]) & set(handed), "the nodes are sent no trade"
