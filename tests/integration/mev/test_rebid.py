"""A trade that blocks miss is bid up with its own nonce, as far as it pays, and withdrawn when it does not; on a real chain."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from mev.chain.transactions import decode_signed
from mev.domain import State
from mev.insight.explain import explain
from mev.insight.pnl import fills
from mev.trading.execution import contract
from mev.trading.execution.execution import Call, Execution, Raise, Settled
from mev.trading.execution.fees import Fees
from mev.trading.ledger import Submission, is_rebid
from mev.trading.rebid import Rebidder
from mev.trading.simulation import Simulator

from tests.integration.mev.conftest import Account, text
from tests.integration.mev.test_execution import CAP_WEI, Bench, bench
from tests.integration.mev.test_executor import Arbitrage, arbitrage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lab.evm.devnode import DevNode

__all__ = ["arbitrage", "bench"]

BLOCKS = 4


@pytest.fixture(autouse=True)
def cheap_again(evm: DevNode) -> Iterator[None]:
    """Leave the chain's price of gas as it was: the node keeps it when it goes back to the seed's blocks."""
    before = evm.rpc.call("eth_getBlockByNumber", "latest", False)["baseFeePerGas"]
    yield
    evm.rpc.call("anvil_setNextBlockBaseFeePerGas", before)


class Waiting:
    """A trade in the node's pool that every block has missed so far, two blocks before its deadline."""

    def __init__(self, bench: Bench, evm: DevNode, arbitrage: Arbitrage) -> None:
        self.bench, self.evm, self.arbitrage = bench, evm, arbitrage
        self.cap_wei = CAP_WEI
        self.charged = 0
        self.min_profit_wei = 0
        self.may_raise = True

    async def send(self) -> Submission:
        self.evm.rpc.call("evm_setAutomine", False)
        deadline = (await self.bench.head()).number + BLOCKS
        call = Call(
            to=self.bench.accounts.executor,
            data=self.arbitrage.data(min_profit=1, deadline=deadline),
            gas_limit=700_000,
            deadline_block=deadline,
        )
        # Wei for one unit of gas: what the trade offers first, and what blocks charge that therefore miss it.
        base = (await self.bench.head()).base_fee_wei
        self.charged = 3 * base + 1000
        offered = Fees(max_priority_fee_wei=100, max_fee_wei=2 * base + 100, next_price_wei=2 * base + 100)
        sent = await self.bench.execution.submit("a", call, offered)
        assert sent is not None
        for _ in range(BLOCKS - 2):
            assert await self.settle() == []
            assert self.bench.ledger.replacements(sent) == [], "one block may have been on its way"
            self.miss()
        return sent

    def miss(self) -> None:
        self.evm.rpc.call("anvil_setNextBlockBaseFeePerGas", hex(self.charged))
        self.evm.mine()

    async def settle(self, execution: Execution | None = None) -> list[Settled]:
        rebidder = Rebidder(
            Simulator(self.bench.rpc),
            self.bench.accounts.executor,
            cap_wei=self.cap_wei,
            min_profit_wei=self.min_profit_wei,
            may_raise=lambda: self.may_raise,
        )
        head = await self.bench.head()
        return await (execution or self.bench.execution).settle(head, self.cap_wei, decide=rebidder.decide)


def test_it_is_bid_up_with_its_nonce_and_booked_as_the_trade_that_it_is(
    bench: Callable[..., None], evm: DevNode, executor: bytes, arbitrage: Arbitrage
) -> None:
    async def story(bench: Bench) -> None:
        waiting = Waiting(bench, evm, arbitrage)
        sent = await waiting.send()
        assert await waiting.settle() == []
        (rebid,) = bench.ledger.replacements(sent)
        assert is_rebid(rebid)
        assert rebid.nonce == sent.nonce
        assert rebid.max_priority_fee_wei * 8 >= sent.max_priority_fee_wei * 9
        assert rebid.max_fee_wei * 8 >= sent.max_fee_wei * 9
        before, after = decode_signed(sent.raw), decode_signed(rebid.raw)
        assert (after.to, after.gas_limit) == (executor, before.gas_limit)
        assert contract.with_min_profit(after.data, 1) == before.data, "the same trade, and another minimum"
        held_out = int.from_bytes(after.data[36:68], "big")
        assert held_out >= waiting.charged * 21_000, "the contract holds out for what the gas now costs"
        evm.mine()
        (settled,) = await waiting.settle()
        assert (settled.state, settled.reason) == (State.INCLUDED, "")
        (fill,) = fills(bench.ledger._database, count=9)
        assert (fill.transaction, fill.profit_wei) == (text(rebid.hash), arbitrage.profit)
        assert await bench.agrees()
        assert [each["rebid"] for each in explain(bench.ledger._database, "a")["transactions"]] == [False, True]

    bench(story)


@pytest.mark.usefixtures("executor")
@pytest.mark.parametrize("why", ["reverts", "pays less than the minimum"])
def test_what_no_longer_pays_is_withdrawn(
    bench: Callable[..., None], evm: DevNode, arbitrage: Arbitrage, why: str
) -> None:
    async def story(bench: Bench) -> None:
        waiting = Waiting(bench, evm, arbitrage)
        sent = await waiting.send()
        if why == "reverts":
            evm.rpc.call("anvil_setCode", text(arbitrage.cycle.hops[1].pool), "0x00")
        else:
            waiting.min_profit_wei = arbitrage.profit
        assert await waiting.settle() == []
        (nothing,) = bench.ledger.replacements(sent)
        assert (decode_signed(nothing.raw).to, is_rebid(nothing)) == (bench.accounts.signer, False)
        waiting.evm.mine()
        (settled,) = await waiting.settle()
        assert (settled.state, settled.reason) == (State.EXPIRED, "cancelled")
        assert await bench.agrees()

    bench(story)


@pytest.mark.usefixtures("executor")
@pytest.mark.parametrize("limit", ["cap", "profit", "kill switch"])
def test_it_is_left_as_it_is_where_a_limit_forbids_more(
    bench: Callable[..., None], evm: DevNode, arbitrage: Arbitrage, limit: str
) -> None:
    async def story(bench: Bench) -> None:
        waiting = Waiting(bench, evm, arbitrage)
        sent = await waiting.send()
        if limit == "cap":
            waiting.cap_wei = sent.max_fee_wei
        elif limit == "profit":
            bare = contract.with_min_profit(decode_signed(sent.raw).data, 0)
            simulated = await Simulator(bench.rpc).simulate(
                bench.accounts.signer, bench.accounts.executor, bare, await bench.head()
            )
            # It pays for the price that it offers, and for no wei more.
            waiting.min_profit_wei = simulated.profit - simulated.gas * sent.max_fee_wei
        else:
            waiting.may_raise = False
        assert await waiting.settle() == []
        assert bench.ledger.replacements(sent) == []
        assert bench.ledger.in_flight("ethereum") == [sent]

    bench(story)


def test_after_a_crash_between_writing_and_sending_the_same_bytes_are_sent(
    bench: Callable[..., None], evm: DevNode, executor: bytes, arbitrage: Arbitrage, owner: Account
) -> None:
    async def story(bench: Bench) -> None:
        waiting = Waiting(bench, evm, arbitrage)
        sent = await waiting.send()
        # What kill -9 leaves: it is written, and the node never heard of it.
        head = await bench.head()
        rebidder = Rebidder(Simulator(bench.rpc), executor, cap_wei=CAP_WEI, min_profit_wei=0, may_raise=lambda: True)
        decided = await rebidder.decide(sent, sent, head)
        assert isinstance(decided, Raise)
        fees = decided.fees
        rebid = await bench.execution._sign("a", sent.nonce, decided.call, fees.max_priority_fee_wei, fees.max_fee_wei)
        bench.ledger.replace(sent, rebid, rebid=True)
        assert evm.rpc.call("eth_getTransactionByHash", text(rebid.hash)) is None
        again = Execution(evm.chain_id, bench.rpc, owner.signer, bench.ledger, bench.accounts)
        assert await bench.execution._next_nonce(head.number + BLOCKS) == sent.nonce + 1
        await waiting.settle(again)
        assert evm.rpc.call("eth_getTransactionByHash", text(rebid.hash)) is not None
        assert msgspec.structs.replace(bench.ledger.replacements(sent)[0], opportunity="a") == rebid
        assert len(bench.ledger.replacements(sent)) == 1
        evm.mine()
        (settled,) = await waiting.settle(again)
        assert settled.state is State.INCLUDED
        assert await bench.agrees()

    bench(story)
