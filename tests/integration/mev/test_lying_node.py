"""Two nodes of one chain, of which one lies or dies: no trade is sent that the honest one would refuse, and nothing is booked that did not happen."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import pytest
from mev.chain.transactions import decode_signed
from mev.domain import Pool
from mev.insight.report import pnl, recent
from mev.trading.execution import contract

from tests.integration.mev.conftest import CAPITAL_WEI, Account, Installation, at_rest, filled, raw, text, wait_for
from tests.integration.mev.liar import Relay, hash_of, wealth

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.evm.devnode import DevNode

# The engine asks the liar first: the honest one is slower.
HONEST_DELAY_SECONDS = 0.01
FORTUNE_WEI = 10**21


@pytest.fixture
def honest(evm: DevNode) -> Iterator[Relay]:
    with Relay(evm.ws, HONEST_DELAY_SECONDS).running() as relay:
        yield relay


@pytest.fixture
def liar(evm: DevNode) -> Iterator[Relay]:
    with Relay(evm.ws).running() as relay:
        yield relay


@pytest.fixture
def two_nodes(installation: Installation, liar: Relay, honest: Relay) -> Installation:
    installation.ws = liar.url
    installation.chain_tables = f'more_end_points = ["{honest.url}"]'
    installation.write()
    return installation


def told(installation: Installation) -> list[dict[str, Any]]:
    """Every opportunity as the ledger has it."""
    _, ledger = installation.reports()
    return recent(ledger, count=10_000)


def failed_on_chain(evm: DevNode, owner: Account) -> int:
    """How many of the signer's transactions are in a block and failed: a block of somebody else's may always come between."""
    sent = [
        transaction["hash"]
        for number in range(int(evm.rpc.call("eth_blockNumber"), 16) + 1)
        for transaction in evm.rpc.call("eth_getBlockByNumber", hex(number), True)["transactions"]
        if transaction["from"] == text(owner.address)
    ]
    return sum(evm.rpc.call("eth_getTransactionReceipt", each)["status"] != "0x1" for each in sent)


def pays_back(installation: Installation, evm: DevNode, owner: Account, wrapped: bytes) -> None:
    """Hold the books and the chain against each other; the nodes tell the truth by now."""
    at_rest(installation)
    assert failed_on_chain(evm, owner) == sum(each["state"] == "reverted" for each in told(installation))
    books = installation.mev("reconcile")
    assert books["agrees"], books
    _, ledger = installation.reports()
    earned = pnl(ledger)["chains"]["ethereum"]
    assert owner.balance(wrapped, contract.address(owner.address)) == CAPITAL_WEI + int(earned["profit_wei"])


def test_what_one_node_invents_is_not_traded_on(
    evm: DevNode,
    owner: Account,
    two_nodes: Installation,
    liar: Relay,
    wrapped: bytes,
    pools: dict[tuple[str, frozenset[str]], Pool],
) -> None:
    """Reserves, simulation and gas, all lies that fit each other; then the truth."""
    pool = next(pool for pool in pools.values() if wrapped in (pool.token0, pool.token1))
    executor = contract.address(owner.address)

    def fortunes() -> list[dict[str, Any]]:
        return [each for each in told(two_nodes) if each["simulated_profit_wei"] == str(FORTUNE_WEI)]

    def refused() -> set[str]:
        return {each["reason"] for each in fortunes()}

    def included() -> list[dict[str, Any]]:
        return [each for each in told(two_nodes) if each["state"] == "included"]

    liar.lies = wealth(pool.address, wrapped, executor, FORTUNE_WEI)
    with two_nodes.agent("strategy_engine"):
        wait_for(
            "a refusal of what one node says alone", lambda: "simulation_unconfirmed" in refused(), meanwhile=evm.trade
        )
        for _ in range(4):
            evm.trade()
        liar.lies = {}
        before = len(included())
        wait_for("a trade on the truth", lambda: len(included()) > before, meanwhile=evm.trade)
        pays_back(two_nodes, evm, owner, wrapped)
    assert {each["state"] for each in fortunes()} == {"dropped"}
    # A block that came meanwhile is a reason as well.
    assert refused() <= {"simulation_unconfirmed", "simulation_stale"}
    log = (two_nodes.directory / "strategy_engine.log").read_text()
    assert "no more than half of 2 nodes say the same" in log


def test_what_one_node_says_of_blocks_and_receipts_changes_no_books(
    evm: DevNode, owner: Account, two_nodes: Installation, liar: Relay, wrapped: bytes
) -> None:
    """One lie after the other to one engine: a failed receipt, a missing one, heads that never were, heads of long ago, another chain."""
    liars_hash = text(secrets.token_bytes(32))

    def failed(_: Any, said: dict[str, Any]) -> dict[str, Any]:
        receipt = said.get("result")
        return {"result": {**receipt, "status": "0x0", "logs": [], "gasUsed": "0x1"}} if receipt else said

    def absent(_: Any, __: dict[str, Any]) -> dict[str, Any]:
        return {"result": None}

    def invented(_: Any, said: dict[str, Any]) -> dict[str, Any]:
        block = said.get("result")
        return {"result": {**block, "hash": liars_hash}} if block else said

    def no_logs(_: Any, __: dict[str, Any]) -> dict[str, Any]:
        return {"result": []}

    def unheard(_: Any, __: dict[str, Any]) -> None:
        return None

    old = evm.rpc.call("eth_getBlockByNumber", "latest", False)

    def late(params: Any, said: dict[str, Any]) -> dict[str, Any]:
        return {"result": old} if params[0] == "latest" else said

    stories: list[dict[str, Any]] = [
        {"eth_getTransactionReceipt": failed},
        {"eth_getTransactionReceipt": absent},
        {"newHeads": invented, "eth_getBlockByNumber": invented, "eth_getLogs": no_logs},
        {"newHeads": unheard, "eth_getBlockByNumber": late},
        {"eth_chainId": lambda _, __: {"result": "0x5"}},
    ]
    with two_nodes.agent("strategy_engine"):
        filled(two_nodes)
        for lies in stories:
            liar.told.clear()
            liar.lies = lies
            wait_for(f"lies of {list(lies)}", liar.told.total, meanwhile=evm.trade)
            evm.trade()
            liar.lies = {}
            evm.trade()
        pays_back(two_nodes, evm, owner, wrapped)


def test_a_node_that_dies_while_it_is_sent_a_trade_costs_none(
    evm: DevNode, owner: Account, two_nodes: Installation, liar: Relay, honest: Relay, wrapped: bytes
) -> None:
    """The first node is gone, for good, with the transaction that it was given: the other one gets the same bytes."""
    liar.dies_at_send = True
    with two_nodes.agent("strategy_engine"):
        filled(two_nodes)
        pays_back(two_nodes, evm, owner, wrapped)
    assert liar.dead
    # On a machine with other work the honest one may have been the faster one once.
    assert liar.sent[0] in honest.sent
    assert len(set(honest.sent)) == len(honest.sent), "nothing is sent twice to one node"


@pytest.mark.parametrize("nodes", [2, 3])
def test_what_one_node_swallows_goes_through_the_others_with_its_nonce(
    evm: DevNode, owner: Account, two_nodes: Installation, liar: Relay, honest: Relay, wrapped: bytes, nodes: int
) -> None:
    """It takes each trade, sends none on, and says that it waits; of three it also keeps every receipt back, and tells of nonces that nobody used."""

    def waits(params: Any, said: dict[str, Any]) -> dict[str, Any]:
        return {"result": {"hash": params[0], "blockNumber": None}} if params[0] in map(hash_of, liar.sent) else said

    def more(params: Any, said: dict[str, Any]) -> dict[str, Any]:
        return {"result": hex(int(said["result"], 16) + 7)} if params[1] == "pending" else said

    lies: dict[str, Any] = {"eth_getTransactionByHash": waits}
    if nodes == 3:
        lies |= {"eth_getTransactionReceipt": lambda _, __: {"result": None}, "eth_getTransactionCount": more}
    free = int(evm.rpc.call("eth_getTransactionCount", text(owner.address), "latest"), 16)
    with Relay(evm.ws, HONEST_DELAY_SECONDS).running() as second:
        if nodes == 3:
            two_nodes.chain_tables = f'more_end_points = ["{honest.url}", "{second.url}"]'
        two_nodes.risk["max_in_flight"] = "3"
        two_nodes.write()
        liar.lies, liar.swallows = lies, True
        with two_nodes.agent("strategy_engine"):
            first = filled(two_nodes)
            for _ in range(3):
                evm.trade()
            at_rest(two_nodes)
            liar.lies, liar.swallows = {}, False
            pays_back(two_nodes, evm, owner, wrapped)
        given = {hash_of(each): decode_signed(raw(each)) for each in (*liar.sent, *honest.sent, *second.sent)}
    assert liar.told["eth_getTransactionByHash"] > 0
    assert first["transaction"] in map(hash_of, set(liar.sent) & set(honest.sent)), "the very bytes that were swallowed"
    submitted = [each for each in told(two_nodes) if each["transaction"]]
    assert {each.nonce for each in given.values()} == set(range(free, free + len(submitted))), "no trade has two nonces"
    assert all(each["state"] in {"included", "reverted", "expired"} for each in submitted)
