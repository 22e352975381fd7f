"""What becomes of a transaction, on a real chain: taken, reverted, refused, stuck and replaced, overtaken."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec
import pytest
from mev.chain.rpc import Rpc
from mev.chain.wire import Head
from mev.domain import Block, Cycle, Hop, Opportunity, State
from mev.runtime.storage import Database
from mev.trading.execution import contract
from mev.trading.execution.accounts import Accounts
from mev.trading.execution.execution import MOST_REPLACEMENTS, Call, Execution, Settled
from mev.trading.execution.fees import Fees, quote
from mev.trading.ledger import Ledger, Submission
from mev.trading.reconcile import open_books, reconcile

from tests.integration.mev.conftest import Account, text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from lab.evm.devnode import DevNode

CAP_WEI = 10**15


class Bench:
    """One execution with its ledger, and one approved opportunity in it."""

    def __init__(self, rpc: Rpc, ledger: Ledger, owner: Account, wrapped: bytes) -> None:
        self.rpc = rpc
        self.ledger = ledger
        self.accounts = Accounts(
            chain="ethereum",
            wrapped_native=wrapped,
            signer=owner.address,
            executor=contract.address(owner.address),
        )
        self.execution = Execution(owner.evm.chain_id, rpc, owner.signer, ledger, self.accounts)
        hops = (Hop(b"\x01" * 20, zero_for_one=True), Hop(b"\x02" * 20, zero_for_one=False))
        ledger.detect(Opportunity("a", "ethereum", "s", Cycle(wrapped, hops), 1, b"\x01" * 32, 1, 2))
        for state in (State.SCREENED, State.SIMULATED, State.APPROVED):
            ledger.move("a", state)

    async def head(self) -> Block:
        head = await self.rpc.call_as(Head, "eth_getBlockByNumber", ["latest", False])
        assert head is not None
        return head.block()

    async def call(self, data: bytes = b"", *, gas: int = 100_000, to: bytes | None = None, value: int = 0) -> Call:
        deadline = (await self.head()).number + 2
        return Call(to=to or self.accounts.signer, data=data, value_wei=value, gas_limit=gas, deadline_block=deadline)

    async def offer(self) -> Fees:
        return await quote(self.rpc, await self.head(), CAP_WEI)

    async def mined(self) -> None:
        """Wait for the block that the node makes of each transaction by itself: it answers the hash a moment before."""
        while await self.rpc.call_as(bool, "anvil_getAutomine", []):
            waiting = await self.rpc.call_as(dict[str, str], "txpool_status", [])
            if waiting is not None and waiting["pending"] == "0x0":
                return
            await asyncio.sleep(0.005)

    async def settle(self) -> list[Settled]:
        await self.mined()
        return await self.execution.settle(await self.head(), CAP_WEI)

    async def agrees(self) -> bool:
        return all(each.difference == 0 for each in await reconcile(self.rpc, self.accounts, self.ledger))


async def stuck(bench: Bench, evm: DevNode) -> Submission:
    """Send what fits in no block, and let its deadline pass."""
    evm.rpc.call("evm_setAutomine", False)
    sent = await bench.execution.submit("a", await bench.call(gas=1_000_000), await bench.offer())
    assert sent is not None
    evm.rpc.call("evm_setBlockGasLimit", hex(200_000))
    evm.mine(5)
    return sent


@pytest.fixture
def bench(
    evm: DevNode, owner: Account, wrapped: bytes, tmp_path: Path
) -> Iterator[Callable[[Callable[[Bench], Awaitable[None]]], None]]:
    """Run a coroutine with a bench."""

    def run(story: Callable[[Bench], Awaitable[None]]) -> None:
        async def told() -> None:
            async with Rpc(evm.ws, chain_id=evm.chain_id) as rpc:
                made = Bench(rpc, Ledger(Database(tmp_path / "ledger.db")), owner, wrapped)
                await open_books(rpc, made.accounts, made.ledger)
                await story(made)

        asyncio.run(asyncio.wait_for(told(), 60))

    yield run
    # What waits for a nonce before it would come true in the next test.
    evm.rpc.call("anvil_dropAllTransactions")
    evm.rpc.call("evm_setAutomine", True)
    evm.rpc.call("evm_setBlockGasLimit", hex(30_000_000))


def test_a_revert_is_booked_with_its_gas(bench: Callable[..., None], wrapped: bytes) -> None:
    async def story(bench: Bench) -> None:
        offered = await bench.offer()
        await bench.execution.submit("a", await bench.call(b"\xff" * 4, to=wrapped, value=1), offered)
        (settled,) = await bench.settle()
        assert (settled.state, settled.reason) == (State.REVERTED, "reverted")
        assert await bench.agrees()

    bench(story)


def test_what_the_node_refuses_is_dropped_at_once(bench: Callable[..., None]) -> None:
    async def story(bench: Bench) -> None:
        offered = await bench.offer()
        assert await bench.execution.submit("a", await bench.call(value=10**40), offered) is None
        assert bench.ledger.state("a") is State.DROPPED
        assert bench.ledger.in_flight("ethereum") == []

    bench(story)


def test_a_stuck_transaction_is_replaced_and_its_nonce_comes_free(bench: Callable[..., None], evm: DevNode) -> None:
    async def story(bench: Bench) -> None:
        sent = await stuck(bench, evm)
        assert await bench.settle() == []
        (replacement,) = bench.ledger.replacements(sent)
        assert replacement.nonce == sent.nonce
        assert replacement.max_fee_wei > sent.max_fee_wei * 11 // 10
        assert await bench.settle() == []
        assert len(bench.ledger.replacements(sent)) == 1, "one replacement at a time"
        evm.mine()
        (settled,) = await bench.settle()
        assert (settled.state, settled.reason) == (State.EXPIRED, "cancelled")
        assert evm.rpc.call("eth_getTransactionReceipt", text(sent.hash)) is None
        assert bench.ledger.in_flight("ethereum") == []
        assert await bench.agrees()

    bench(story)


def test_a_stuck_transaction_waits_where_the_cap_forbids_more(bench: Callable[..., None], evm: DevNode) -> None:
    async def story(bench: Bench) -> None:
        sent = await stuck(bench, evm)
        assert await bench.execution.settle(await bench.head(), sent.max_fee_wei) == []
        assert bench.ledger.replacements(sent) == []
        evm.rpc.call("evm_setBlockGasLimit", hex(30_000_000))
        evm.mine()
        (settled,) = await bench.settle()
        assert settled.state is State.INCLUDED, "what is late is still what happened"
        assert await bench.agrees()

    bench(story)


def test_a_nonce_that_somebody_else_used_ends_it(bench: Callable[..., None], evm: DevNode, owner: Account) -> None:
    async def story(bench: Bench) -> None:
        evm.rpc.call("evm_setAutomine", False)
        await bench.execution.submit("a", await bench.call(), await bench.offer())
        # The key's holder sends with the same nonce from elsewhere, and pays more.
        evm.rpc.call("anvil_dropAllTransactions")
        evm.rpc.call("evm_setAutomine", True)
        owner.send(owner.address)
        assert await bench.settle() == []
        evm.mine(6)
        (settled,) = await bench.settle()
        assert (settled.state, settled.reason) == (State.EXPIRED, "nonce_used")
        assert not await bench.agrees(), "gas that the ledger did not see must show"

    bench(story)


def test_what_was_written_and_not_sent_keeps_its_nonce_and_is_sent(bench: Callable[..., None], evm: DevNode) -> None:
    """As after a crash between the two: nobody else takes the nonce, and the next look sends the same bytes."""

    async def story(bench: Bench) -> None:
        offered, call = await bench.offer(), await bench.call()
        nonce = int(evm.rpc.call("eth_getTransactionCount", text(bench.accounts.signer), "latest"), 16)
        written = await bench.execution._sign("a", nonce, call, offered.max_priority_fee_wei, offered.max_fee_wei)
        bench.ledger.submit(written)
        after = await bench.execution.submit("operator:test", call, offered)
        assert after is not None
        assert after.nonce == nonce + 1
        # The first look sends it again, the second finds what became of it.
        settled = {each.submission.opportunity: each.state for _ in range(2) for each in await bench.settle()}
        assert settled == {"a": State.INCLUDED, "operator:test": State.INCLUDED}
        assert await bench.agrees()

    bench(story)


def test_replacements_end(bench: Callable[..., None], evm: DevNode) -> None:
    async def story(bench: Bench) -> None:
        evm.rpc.call("evm_setAutomine", False)
        sent = await bench.execution.submit("a", await bench.call(), await bench.offer())
        assert sent is not None
        head = await bench.head()
        # The chain goes on, and takes none of ours.
        for number in range(head.number, head.number + 4 * MOST_REPLACEMENTS):
            later = msgspec.structs.replace(head, number=number)
            assert await bench.execution.settle(later, CAP_WEI) == []
        made = bench.ledger.replacements(sent)
        assert len(made) == MOST_REPLACEMENTS
        assert len({each.hash for each in made}) == MOST_REPLACEMENTS
        assert {each.nonce for each in made} == {sent.nonce}
        assert all(after.max_fee_wei > before.max_fee_wei * 11 // 10 for before, after in pairwise([sent, *made]))
        assert bench.ledger.in_flight("ethereum") == [sent]
        evm.mine()
        (settled,) = await bench.settle()
        assert settled.reason == "cancelled"
        assert settled.receipt is not None
        assert settled.receipt.transaction_hash == text(made[-1].hash)
        assert await bench.agrees()

    bench(story)
