"""What a real chain says a call would do: agreed to the wei, refused with a reason, or no longer true."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

import pytest
from mev.chain.rpc import Rpc
from mev.trading.simulation import (
    ExecutorAbsentError,
    Method,
    SimulationRevertedError,
    Simulator,
    StaleSimulationError,
)

from lab.evm.rpc import Rpc as LabRpc
from tests.integration.mev.conftest import PATIENCE_SECONDS, Account, Installation, filled, raw, wait_for
from tests.integration.mev.test_crash import Wire
from tests.integration.mev.test_executor import FEE, Arbitrage, HostileMarket, Pools
from tests.unit.mev.chain.node import Node, running

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from lab.evm.devnode import DevNode

LIAR = 5


@pytest.fixture
def arbitrage(owner: Account, wrapped: bytes, pools: Pools) -> Arbitrage:
    pair = frozenset({"WETH", "USDC"})
    return Arbitrage(owner, wrapped, pools["uniswap_v2", pair], pools["sushi_v2", pair], 10**18)


@pytest.fixture
def hostile(evm: DevNode, owner: Account, wrapped: bytes) -> HostileMarket:
    return HostileMarket(evm, owner, wrapped)


def told(evm: DevNode, story: Callable[[Rpc], Awaitable[None]]) -> None:
    async def tell() -> None:
        async with Rpc(evm.ws, chain_id=evm.chain_id) as rpc:
            await story(rpc)

    asyncio.run(asyncio.wait_for(tell(), PATIENCE_SECONDS))


def test_profit_gas_and_what_moves_are_what_the_transaction_then_does(
    evm: DevNode, owner: Account, executor: bytes, wrapped: bytes, arbitrage: Arbitrage
) -> None:
    async def story(rpc: Rpc) -> None:
        head = (await rpc.latest()).block()
        simulated = await Simulator(rpc).simulate(owner.address, executor, arbitrage.data(), head)
        assert (simulated.method, simulated.block) == (Method.SIMULATE, head)
        assert simulated.profit == arbitrage.profit
        assert simulated.changes == {wrapped: arbitrage.profit}
        assert simulated.agrees(wrapped)
        before = owner.balance(wrapped, executor)
        receipt = await asyncio.to_thread(owner.send, executor, arbitrage.data(), gas=simulated.gas)
        assert receipt["status"] == "0x1"
        assert owner.balance(wrapped, executor) - before == simulated.profit

    told(evm, story)


def test_a_token_that_tells_of_transfers_that_never_were_is_seen(
    evm: DevNode, owner: Account, executor: bytes, wrapped: bytes, hostile: HostileMarket
) -> None:
    hostile.behave(LIAR, executor)

    async def story(rpc: Rpc) -> None:
        head = (await rpc.latest()).block()
        simulated = await Simulator(rpc).simulate(owner.address, executor, hostile.arbitrage.data(), head)
        assert simulated.changes is not None
        assert simulated.changes[hostile.token] > 0
        assert not simulated.agrees(wrapped)

    told(evm, story)


def test_a_token_s_fee_shows_in_the_profit(
    evm: DevNode, owner: Account, executor: bytes, wrapped: bytes, hostile: HostileMarket
) -> None:
    hostile.behave(FEE)

    async def story(rpc: Rpc) -> None:
        head = (await rpc.latest()).block()
        simulated = await Simulator(rpc).simulate(owner.address, executor, hostile.arbitrage.data(), head)
        assert simulated.profit < hostile.arbitrage.profit
        assert simulated.agrees(wrapped)

    told(evm, story)


def test_a_refusal_has_the_contract_s_own_reason(
    evm: DevNode, owner: Account, stranger: Account, executor: bytes, arbitrage: Arbitrage
) -> None:
    async def story(rpc: Rpc) -> None:
        head = (await rpc.latest()).block()
        simulator = Simulator(rpc)
        with pytest.raises(SimulationRevertedError, match=r"^profit$"):
            await simulator.simulate(owner.address, executor, arbitrage.data(min_profit=10**20), head)
        with pytest.raises(SimulationRevertedError, match=r"^not owner$"):
            await simulator.simulate(stranger.address, executor, arbitrage.data(), head)
        with pytest.raises(ExecutorAbsentError, match="mev executor deploy"):
            await simulator.simulate(owner.address, b"\x99" * 20, arbitrage.data(), head)

    told(evm, story)


@pytest.mark.parametrize("method", [Method.TRACE, Method.CALL])
def test_a_node_without_simulation_is_asked_in_another_way_and_the_result_says_so(
    evm: DevNode, owner: Account, executor: bytes, wrapped: bytes, arbitrage: Arbitrage, method: Method
) -> None:
    asked: list[str] = []
    absent = {"eth_simulateV1"} if method is Method.TRACE else {"eth_simulateV1", "debug_traceCall"}

    def relay(message: bytes) -> str:
        calls = json.loads(message)
        answers = []
        for call in calls if isinstance(calls, list) else [calls]:
            asked.append(call["method"])
            if call["method"] in absent:
                error = {"code": -32601, "message": f"the method {call['method']} does not exist"}
                answers.append({"jsonrpc": "2.0", "id": call["id"], "error": error})
            else:
                headers = {"Content-Type": "application/json"}
                with urlopen(Request(evm.http, json.dumps(call).encode(), headers)) as answer:  # noqa: S310
                    answers.append(json.load(answer))
        return json.dumps(answers if isinstance(calls, list) else answers[0])

    async def story() -> None:
        node = Node()
        node.chain_id = evm.chain_id
        node.raw = relay
        async with running(node), Rpc(node.url, chain_id=evm.chain_id) as rpc:
            head = (await rpc.latest()).block()
            simulator = Simulator(rpc)
            for _ in range(2):
                simulated = await simulator.simulate(owner.address, executor, arbitrage.data(), head)
                changes = {wrapped: arbitrage.profit} if method is Method.TRACE else None
                assert (simulated.method, simulated.changes) == (method, changes)
                assert simulated.profit == arbitrage.profit
                assert simulated.agrees(wrapped)
            with pytest.raises(SimulationRevertedError, match="profit"):
                await simulator.simulate(owner.address, executor, arbitrage.data(min_profit=10**20), head)
        # It is not asked each time for what it does not have.
        assert [asked.count(each) for each in sorted(absent)] == [1] * len(absent)

    asyncio.run(asyncio.wait_for(story(), PATIENCE_SECONDS))


def test_a_block_that_was_reorganised_away_or_followed_is_no_ground_to_send_on(
    evm: DevNode, owner: Account, executor: bytes, arbitrage: Arbitrage
) -> None:
    async def story(rpc: Rpc) -> None:
        simulator = Simulator(rpc)
        before = await rpc.call("evm_snapshot")
        evm.mine()
        head = (await rpc.latest()).block()
        await simulator.require_head(head)
        evm.mine()
        with pytest.raises(StaleSimulationError, match="is followed by block"):
            await simulator.require_head(head)
        await rpc.call("evm_revert", [before])
        await rpc.call("evm_increaseTime", [100])
        evm.mine()
        with pytest.raises(StaleSimulationError, match="was reorganised away"):
            await simulator.simulate(owner.address, executor, arbitrage.data(), head)

    told(evm, story)


def test_the_engine_sends_nothing_on_a_simulation_whose_block_another_one_follows(
    evm: DevNode, installation: Installation
) -> None:
    node = LabRpc(evm.http)
    simulations: list[str] = []

    def follow(message: str) -> None:
        if "eth_simulateV1" in message and len(simulations) < 3:
            simulations.append(message)
            node.call("evm_mine")

    def stale() -> Any:
        dropped = installation.mev("opportunities", "--state", "dropped", "--limit", "200")["opportunities"]
        return next((each for each in dropped if each["reason"] == "simulation_stale"), None)

    with Wire(evm.ws).running() as wire:
        wire.on_message = follow
        installation.ws = wire.url
        installation.write()
        with installation.agent("strategy_engine"):
            refused = wait_for("a stale simulation", stale)
            # The engine is not stuck: on a head that stands it is sent.
            fill = filled(installation)
    node.close()
    assert fill["opportunity"] != refused["opportunity"]
    assert "no longer the chain's head" in installation.mev("explain", refused["opportunity"])["why"]
    assert len(simulations) >= 1
    receipt = evm.rpc.call("eth_getTransactionReceipt", fill["transaction"])
    executor = installation.mev("executor", "address", "--chain", "ethereum")["executor"]
    assert raw(receipt["to"]) == raw(executor)
