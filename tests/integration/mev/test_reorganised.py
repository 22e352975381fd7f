"""What a reorganisation takes back, on a real chain: reversed, sent again, booked again, and true to the wei throughout."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import msgspec
import pytest
from mev.domain import State
from mev.insight.pnl import fills
from mev.trading.execution.undone import undone
from mev.trading.ledger import NonceTakenError, tables
from sqlalchemy import select

from tests.integration.mev.conftest import CAPITAL_WEI, Account, Installation, at_rest, filled, raw, text
from tests.integration.mev.test_execution import Bench, bench, stuck

if TYPE_CHECKING:
    from collections.abc import Callable

    from mev.trading.ledger import Submission

    from lab.evm.devnode import DevNode

__all__ = ["bench"]

DEEPEST = 64
DEPTHS = (3, 1, 9)


async def sent(bench: Bench, evm: DevNode, deadline: int = 200) -> Submission:
    """Send something that pays gas, whose deadline is far away."""
    call = msgspec.structs.replace(await bench.call(), deadline_block=(await bench.head()).number + deadline)
    submission = await bench.execution.submit("a", call, await bench.offer())
    assert submission is not None
    evm.receipt(text(submission.hash))
    return submission


def booked(bench: Bench) -> list[tuple[int, str, str, str]]:
    """Turn, from, to, amount of every entry but the opening ones, as they were written."""
    with bench.ledger._database.begin() as connection:
        rows = connection.execute(
            select(tables.entries).where(tables.entries.c.opportunity == "a").order_by(tables.entries.c.seq)
        ).all()
    return [(row.turn, row.credit, row.debit, row.amount) for row in rows]


@pytest.mark.parametrize("depth", [1, 9, DEEPEST])
def test_what_a_reorganisation_took_is_reversed_sent_again_and_booked_again(
    bench: Callable[..., None], evm: DevNode, depth: int
) -> None:
    async def story(bench: Bench) -> None:
        evm.mine(DEEPEST)
        submission = await sent(bench, evm)
        evm.mine(depth - 1)
        (first,) = await bench.settle()
        assert first.state is State.INCLUDED
        assert await bench.execution.take_back() == []
        paid = bench.ledger.today("ethereum", 0).fees_wei

        evm.rpc.call("anvil_reorg", depth, [])
        assert evm.rpc.call("eth_getTransactionReceipt", text(submission.hash)) is None
        assert await undone(bench.rpc, "ethereum", bench.ledger) == [submission.hash]
        assert not await bench.agrees()
        assert await bench.execution.take_back() == [submission]
        assert await bench.agrees(), "reversed to the wei"
        assert (bench.ledger.state("a"), bench.ledger.in_flight("ethereum")) == (State.SUBMITTED, [submission])
        assert bench.ledger.today("ethereum", 0).fees_wei == 0
        assert fills(bench.ledger._database, count=9) == []
        assert await bench.execution.take_back() == [], "once"

        assert await bench.settle() == []
        evm.receipt(text(submission.hash))
        (again,) = await bench.settle()
        assert (again.state, bench.ledger.state("a")) == (State.INCLUDED, State.INCLUDED)
        assert await bench.agrees()
        assert again.receipt is not None
        gas = again.receipt.gas_wei
        assert booked(bench) == [
            (0, "signer", "gas", str(paid)),
            (1, "gas", "signer", str(paid)),
            (2, "signer", "gas", str(gas)),
        ]
        (fill,) = fills(bench.ledger._database, count=9)
        assert (fill.gas_wei, fill.block_number) == (gas, int(again.receipt.block_number, 16))

    bench(story)


def test_what_is_mined_in_another_block_is_booked_as_it_is_there(bench: Callable[..., None], evm: DevNode) -> None:
    async def story(bench: Bench) -> None:
        submission = await sent(bench, evm)
        evm.mine(3)
        await bench.settle()
        evm.rpc.call("anvil_reorg", 4, [[text(submission.raw), 2]])
        receipt = evm.receipt(text(submission.hash))
        assert await bench.execution.take_back() == [submission]
        (settled,) = await bench.settle()
        assert settled.receipt is not None
        assert settled.receipt.block_hash == receipt["blockHash"]
        assert [turn for turn, *_ in booked(bench)] == [0, 1, 2]
        assert await bench.agrees()
        assert await undone(bench.rpc, "ethereum", bench.ledger) == []

    bench(story)


def test_a_cancellation_that_was_taken_back_may_lose_to_what_it_cancelled(
    bench: Callable[..., None], evm: DevNode
) -> None:
    async def story(bench: Bench) -> None:
        original = await stuck(bench, evm)
        await bench.settle()
        evm.mine()
        (cancelled,) = await bench.settle()
        assert (cancelled.state, cancelled.reason) == (State.EXPIRED, "cancelled")
        evm.rpc.call("anvil_reorg", 1, [])
        evm.rpc.call("anvil_dropAllTransactions")
        evm.rpc.call("evm_setBlockGasLimit", hex(30_000_000))
        evm.mine()
        evm.rpc.call("eth_sendRawTransaction", text(original.raw))
        evm.mine()
        assert await bench.execution.take_back() == [original]
        (settled,) = await bench.settle()
        assert (settled.state, bench.ledger.state("a")) == (State.INCLUDED, State.INCLUDED)
        assert await bench.agrees()
        assert len(fills(bench.ledger._database, count=9)) == 1

    bench(story)


def test_no_nonce_is_used_again_before_it_is_known_what_was_taken(bench: Callable[..., None], evm: DevNode) -> None:
    async def story(bench: Bench) -> None:
        submission = await sent(bench, evm)
        await bench.settle()
        evm.rpc.call("anvil_reorg", 1, [])
        with pytest.raises(NonceTakenError, match=f"nonce {submission.nonce} of .* is booked as used"):
            await bench.execution.submit("operator:test", await bench.call(), await bench.offer())
        await bench.execution.take_back()
        after = await bench.execution.submit("operator:test", await bench.call(), await bench.offer())
        assert after is not None
        assert after.nonce == submission.nonce + 1

    bench(story)


@pytest.fixture
def aged(evm: DevNode, owner: Account) -> DevNode:
    """A chain whose seed, and what its owner was given, no reorganisation reaches."""
    assert owner.evm is evm
    evm.mine(2 * DEEPEST)
    return evm


def test_an_engine_s_books_are_the_chain_s_after_reorganisations(
    aged: DevNode, owner: Account, installation: Installation, wrapped: bytes
) -> None:
    with installation.agent("strategy_engine"):
        filled(installation)
        # It takes deployment and funding as well: they are sent again as any other transaction.
        aged.rpc.call("anvil_reorg", DEEPEST, [])
        aged.mine()
        at_rest(installation)
        assert installation.mev("reconcile")["agrees"]
        for depth in DEPTHS:
            aged.trade()
            aged.rpc.call("anvil_reorg", depth, [])
            aged.mine()
        at_rest(installation)
    books = installation.mev("reconcile")
    assert books["agrees"], books
    with sqlite3.connect(installation.directory / "mev_opportunities.db") as ledger:
        query = "SELECT count(*) FROM revisions WHERE state = 'submitted' AND reason = 'reorganised'"
        assert ledger.execute(query).fetchone()[0], "no reorganisation took a trade: this showed nothing"
        taken, booked = ledger.execute("SELECT sum(turn % 2), sum(turn % 2 = 0 AND turn > 0) FROM entries").fetchone()
    assert taken >= booked > 0
    executor = raw(installation.mev("executor", "address", "--chain", "ethereum")["executor"])
    earned = installation.mev("pnl")["chains"]["ethereum"]
    assert owner.balance(wrapped, executor) == CAPITAL_WEI + int(earned["profit_wei"])
