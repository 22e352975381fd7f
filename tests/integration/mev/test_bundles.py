"""Trades that leave in bundles, on a real chain: taken, missed, kept back, brought late, interrupted; and nothing goes to the nodes instead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from eth_account import Account as EthAccount
from mev.chain.relay import Relay
from mev.chain.transactions import decode_signed
from mev.domain import State
from mev.domain.market import Hash
from mev.runtime.config_submitters import PrivateMethod, SubmitterKind
from mev.trading.execution.execution import Execution
from mev.trading.execution.identity import Identity
from mev.trading.execution.submitters import Builder, PrivateRpc
from mev.trading.execution.ways import Outcome, Way
from mev.trading.ledger import Submission
from mev.trading.risk import Reason

from tests.builders import Taker
from tests.integration.mev.conftest import Account, text
from tests.integration.mev.test_execution import CAP_WEI, Bench, bench

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lab.evm.devnode import DevNode

__all__ = ["bench"]

KEY = b"\x19" * 32
IDENTITY = EthAccount.from_key(KEY).address


@pytest.fixture
def takers() -> Iterator[list[Taker]]:
    made = [Taker(IDENTITY) for _ in range(2)]
    yield made
    for each in made:
        each.close()


class Bundles:
    """A bench whose trades leave in bundles to builders, one block after the other, mined by hand."""

    def __init__(self, bench: Bench, evm: DevNode, owner: Account, takers: list[Taker]) -> None:
        self.bench, self.evm, self.owner, self.takers = bench, evm, owner, takers
        self.outcomes: list[tuple[str, Outcome]] = []
        self.execution = self.started()
        evm.rpc.call("evm_setAutomine", False)

    def started(self, seconds: float = 10) -> Execution:
        """An execution that knows no more than the ledger does, as after a start; builders have so long to answer."""
        identity = Identity(KEY)
        builders = {
            f"builder{number}": Builder(
                Relay(f"builder{number}", each.url, timeout_seconds=seconds, headers=identity.headers)
            )
            for number, each in enumerate(self.takers)
        }
        way = Way("ethereum", SubmitterKind.BUNDLES, builders, lambda _, name, what: self.outcomes.append((name, what)))
        self.way = way
        return Execution(
            self.evm.chain_id, self.bench.rpc, self.owner.signer, self.bench.ledger, self.bench.accounts, way=way
        )

    async def send(self, opportunity: str = "a", gas: int = 100_000) -> Submission | None:
        target = (await self.bench.head()).number + 1
        call = msgspec.structs.replace(await self.bench.call(gas=gas), deadline_block=target)
        return await self.execution.submit(opportunity, call, await self.bench.offer())

    async def settle(self) -> list[tuple[State, str]]:
        settled = await self.execution.settle(await self.bench.head(), CAP_WEI)
        return [(each.state, each.reason) for each in settled]

    def include(self, number: int = 0) -> None:
        """Have a builder make the next block of what it was sent for it."""
        block = int(self.evm.rpc.call("eth_blockNumber"), 16) + 1
        for raw in self.takers[number].taken.get(block, []):
            self.evm.rpc.call("eth_sendRawTransaction", raw)
        self.evm.mine()

    def pending(self, hash_: Hash) -> Any:
        return self.evm.rpc.call("eth_getTransactionByHash", text(hash_))


def story(bench: Callable[..., None], evm: DevNode, owner: Account, takers: list[Taker], told: Any) -> None:
    async def run(made: Bench) -> None:
        bundles = Bundles(made, evm, owner, takers)
        try:
            await told(bundles)
        finally:
            await bundles.way.close()

    bench(run)


def test_one_of_two_builders_includes_it(
    bench: Callable[..., None], evm: DevNode, owner: Account, takers: list[Taker]
) -> None:
    async def told(bundles: Bundles) -> None:
        sent = await bundles.send()
        assert sent is not None
        assert [each.refused for each in takers] == [[], []]
        assert bundles.pending(sent.hash) is None, "the nodes are shown nothing"
        bundles.include(1)
        assert await bundles.settle() == [(State.INCLUDED, "")]
        assert await bundles.bench.agrees()
        assert {what for _, what in bundles.outcomes} == {Outcome.ACCEPTED}

    story(bench, evm, owner, takers, told)


def test_what_its_block_has_not_taken_has_cost_nothing_and_its_nonce_is_free(
    bench: Callable[..., None], evm: DevNode, owner: Account, takers: list[Taker]
) -> None:
    async def told(bundles: Bundles) -> None:
        first = await bundles.send()
        assert first is not None
        assert await bundles.settle() == [], "its block is still to come"
        evm.mine()
        assert await bundles.settle() == [(State.EXPIRED, "bundle_missed")]
        assert bundles.bench.ledger.failing_since("ethereum", 1) is None, "it is no failure"
        assert await bundles.bench.agrees()
        second = await bundles.send("operator:again")
        assert second is not None
        assert second.nonce == first.nonce
        assert bundles.bench.ledger.replacements(first) == []

    story(bench, evm, owner, takers, told)


def test_written_and_not_sent_it_is_sent_for_its_block_and_not_after_it(
    bench: Callable[..., None], evm: DevNode, owner: Account, takers: list[Taker]
) -> None:
    """As after kill -9 between the two."""

    async def told(bundles: Bundles) -> None:
        await bundles.way.close()
        bundles.execution = bundles.started(0.5)
        for each in takers:
            each.gate.clear()
        sent = await bundles.send()
        assert sent is not None
        assert {what for _, what in bundles.outcomes} == {Outcome.UNANSWERED}
        for each in takers:
            each.gate.set()
            each.received.clear()
        bundles.execution = bundles.started()
        assert await bundles.settle() == []
        (again,) = takers[0].received
        assert again[1][0]["txs"] == [text(sent.raw)]
        assert int(again[1][0]["blockNumber"], 16) == sent.deadline_block
        assert await bundles.settle() == []
        assert len(takers[0].received) == 1, "once a process"
        evm.mine()
        bundles.execution = bundles.started()
        assert await bundles.settle() == [(State.EXPIRED, "bundle_missed")]
        assert len(takers[0].received) == 1

    story(bench, evm, owner, takers, told)


def test_a_builder_that_keeps_one_and_brings_it_late_is_booked_all_the_same(
    bench: Callable[..., None], evm: DevNode, owner: Account, takers: list[Taker]
) -> None:
    async def told(bundles: Bundles) -> None:
        sent = await bundles.send()
        assert sent is not None
        evm.mine()
        assert await bundles.settle() == [(State.EXPIRED, "bundle_missed")]
        evm.rpc.call("eth_sendRawTransaction", text(sent.raw))
        evm.mine()
        assert not await bundles.bench.agrees()
        bundles.execution = bundles.started()
        assert await bundles.settle() == [(State.INCLUDED, "")]
        assert bundles.bench.ledger.state("a") is State.INCLUDED
        assert await bundles.bench.agrees()
        assert await bundles.settle() == []

    story(bench, evm, owner, takers, told)


def test_a_bundle_that_a_pool_shows_is_followed_like_everything_public(
    bench: Callable[..., None], evm: DevNode, owner: Account, takers: list[Taker]
) -> None:
    async def told(bundles: Bundles) -> None:
        sent = await bundles.send(gas=1_000_000)
        assert sent is not None
        evm.rpc.call("eth_sendRawTransaction", text(sent.raw))
        evm.rpc.call("evm_setBlockGasLimit", hex(200_000))
        evm.mine(4)
        assert await bundles.settle() == [], "its nonce is not free"
        (nothing,) = bundles.bench.ledger.replacements(sent)
        assert (nothing.way, nothing.nonce) == ("public", sent.nonce)
        evm.rpc.call("evm_setBlockGasLimit", hex(30_000_000))
        evm.mine()
        ((state, reason),) = await bundles.settle()
        assert (state, reason) == (State.EXPIRED, "cancelled")
        assert await bundles.bench.agrees()

    story(bench, evm, owner, takers, told)


def test_a_reorganisation_takes_a_bundle_back_and_brings_it_again(
    bench: Callable[..., None], evm: DevNode, owner: Account, takers: list[Taker]
) -> None:
    async def told(bundles: Bundles) -> None:
        sent = await bundles.send()
        assert sent is not None
        bundles.include()
        assert await bundles.settle() == [(State.INCLUDED, "")]
        evm.rpc.call("anvil_reorg", 1, [])
        evm.rpc.call("anvil_dropAllTransactions")
        assert await bundles.execution.take_back() == [sent]
        assert await bundles.settle() == [(State.EXPIRED, "bundle_missed")]
        assert await bundles.bench.agrees()
        evm.rpc.call("eth_sendRawTransaction", text(sent.raw))
        evm.mine()
        assert await bundles.settle() == [(State.INCLUDED, "")]
        assert await bundles.bench.agrees()

    story(bench, evm, owner, takers, told)


@pytest.mark.parametrize(
    ("first", "second", "outcome"),
    [
        ("refuses", "refuses", Reason.SUBMITTER_REFUSED),
        ("is away", "refuses", Reason.SUBMITTER_REFUSED),
        ("is away", "is away", Reason.SUBMITTER_UNAVAILABLE),
        ("hangs", "refuses", None),
        ("lies", "refuses", None),
        ("sends rubbish", "is away", None),
        ("sends too much", "is away", None),
        ("answers another call", "is away", None),
    ],
)
def test_what_builders_do_instead_never_sends_it_elsewhere(
    bench: Callable[..., None],
    evm: DevNode,
    owner: Account,
    takers: list[Taker],
    first: str,
    second: str,
    outcome: Reason | None,
) -> None:
    async def told(bundles: Bundles) -> None:
        for taker, how in zip(takers, (first, second), strict=True):
            misbehave(taker, how)
        bundles.execution = bundles.started(0.5 if first == "hangs" else 10)
        nonce = int(evm.rpc.call("eth_getTransactionCount", text(owner.address), "latest"), 16)
        sent = await bundles.send()
        ledger = bundles.bench.ledger
        assert (sent is None) == (outcome is not None)
        if outcome is not None:
            assert ledger.in_flight("ethereum") == []
            expected = State.EXPIRED if outcome is Reason.SUBMITTER_REFUSED else State.DROPPED
            assert ledger.state("a") is expected
        evm.mine()
        assert int(evm.rpc.call("eth_getTransactionCount", text(owner.address), "pending"), 16) == nonce
        if outcome is None:
            assert await bundles.settle() == [(State.EXPIRED, "bundle_missed")]
        assert await bundles.bench.agrees()
        assert len(bundles.outcomes) == 2

    story(bench, evm, owner, takers, told)


def misbehave(taker: Taker, how: str) -> None:
    match how:
        case "refuses":
            taker.answer = lambda said: msgspec.json.encode(
                {"jsonrpc": "2.0", "id": said["id"], "error": {"code": -32000, "message": "no"}}
            )
        case "is away":
            taker.close()
        case "hangs":
            taker.gate.clear()
        case "lies":
            # It says yes, and does nothing.
            pass
        case "sends rubbish":
            taker.answer = lambda _: b"\xff<html>" * 10
        case "sends too much":
            taker.answer = lambda _: b'{"jsonrpc":"2.0","id":1,"result":"' + b"a" * 2**20 + b'"}'
        case "answers another call":
            taker.answer = lambda said: msgspec.json.encode({"jsonrpc": "2.0", "id": said["id"] + 7, "result": None})


def test_a_refusal_that_was_a_lie_is_booked_when_it_comes_true(
    bench: Callable[..., None], evm: DevNode, owner: Account, takers: list[Taker]
) -> None:
    async def told(bundles: Bundles) -> None:
        for taker in takers:
            misbehave(taker, "refuses")
        assert await bundles.send() is None
        bundles.include()
        assert await bundles.settle() == [(State.INCLUDED, "")]
        assert await bundles.bench.agrees()

    story(bench, evm, owner, takers, told)


@pytest.mark.parametrize("method", list(PrivateMethod))
def test_what_a_private_rpc_never_brings_has_its_nonce_taken_by_nothing(
    bench: Callable[..., None], evm: DevNode, owner: Account, takers: list[Taker], method: PrivateMethod
) -> None:
    async def told(bundles: Bundles) -> None:
        relay = PrivateRpc(
            Relay("relay", takers[0].url, timeout_seconds=10, headers=Identity(KEY).headers), PrivateMethod(method)
        )
        way = Way("ethereum", SubmitterKind.PRIVATE_RPC, {"relay": relay})
        bundles.execution = Execution(
            evm.chain_id, bundles.bench.rpc, owner.signer, bundles.bench.ledger, bundles.bench.accounts, way=way
        )
        sent = await bundles.send()
        assert sent is not None
        assert takers[0].received[0][0] == method
        assert bundles.pending(sent.hash) is None
        assert await bundles.settle() == []
        assert len(takers[0].received) == 1, "what it has it is not sent again"
        evm.mine(4)
        assert await bundles.settle() == []
        (nothing,) = bundles.bench.ledger.replacements(sent)
        assert (nothing.way, decode_signed(nothing.raw).data) == ("public", b"")
        assert bundles.pending(sent.hash) is None
        assert len(takers[0].received) == 1
        evm.mine()
        assert await bundles.settle() == [(State.EXPIRED, "cancelled")]
        assert await bundles.bench.agrees()
        await way.close()

    story(bench, evm, owner, takers, told)


def test_what_left_privately_is_not_sent_publicly_where_nothing_private_is_configured_any_more(
    bench: Callable[..., None], evm: DevNode, owner: Account, takers: list[Taker]
) -> None:
    async def told(bundles: Bundles) -> None:
        sent = await bundles.send()
        assert sent is not None
        bundles.execution = bundles.bench.execution
        assert await bundles.settle() == []
        assert bundles.pending(sent.hash) is None
        evm.mine()
        assert await bundles.settle() == [(State.EXPIRED, "bundle_missed")]

    story(bench, evm, owner, takers, told)
