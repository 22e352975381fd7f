"""kill -9 at the worst moment: between signature and sending, and between sending and the answer."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from mev.chain.abi import keccak256
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve

from lab.evm.rpc import RpcError
from tests.integration.mev.conftest import (
    PATIENCE_SECONDS,
    Account,
    Agent,
    Installation,
    at_rest,
    filled,
    raw,
    text,
    wait_for,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lab.evm.devnode import DevNode

MESSAGE_BYTES = 2**26


class Wire:
    """The engine's connection to its node, in our hands: `on_message` sees what the engine asks before the node does, `on_send` each transaction."""

    def __init__(self, node: str) -> None:
        self._node = node
        self.url = ""
        self.sent: list[str] = []
        self.on_send: Callable[[Callable[[], None]], None] = lambda forward: forward()
        self.on_message: Callable[[str], object] = lambda _: None

    @contextmanager
    def running(self) -> Iterator[Wire]:
        with serve(self._relay, "127.0.0.1", 0, max_size=MESSAGE_BYTES, compression=None) as server:
            self.url = f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield self

    def _relay(self, engine: ServerConnection) -> None:
        with connect(self._node, max_size=MESSAGE_BYTES, compression=None) as node:

            def answers() -> None:
                try:
                    for answer in node:
                        engine.send(answer)
                except ConnectionClosed:
                    engine.close()

            threading.Thread(target=answers, daemon=True).start()
            try:
                for message in engine:
                    self.on_message(message if isinstance(message, str) else message.decode())
                    transaction = _transaction(message)
                    if transaction is None:
                        node.send(message)
                    else:
                        self.sent.append(transaction)
                        self.on_send(lambda message=message: node.send(message))  # type: ignore[misc]
            except ConnectionClosed:
                return


def _transaction(message: str | bytes) -> str | None:
    asked = json.loads(message)
    if isinstance(asked, dict) and asked.get("method") == "eth_sendRawTransaction":
        raw: str = asked["params"][0]
        return raw
    return None


@pytest.fixture
def wire(evm: DevNode) -> Iterator[Wire]:
    with Wire(evm.ws).running() as running:
        yield running


@pytest.fixture
def wired(installation: Installation, wire: Wire) -> Installation:
    installation.ws = wire.url
    installation.write()
    return installation


def submitted(installation: Installation) -> Any:
    found = installation.mev("opportunities", "--state", "submitted")["opportunities"]
    return found[0] if found else None


def die_while_sending(installation: Installation, wire: Wire, *, node_gets_it: bool) -> dict[str, Any]:
    """Run the engine until it sends its first transaction, and kill it there; return what its ledger says."""
    dying: list[Agent] = []
    begun, dead = threading.Event(), threading.Event()

    def strike(forward: Callable[[], None]) -> None:
        begun.wait(PATIENCE_SECONDS)
        if node_gets_it:
            forward()
        dying[0].kill()
        dead.set()

    wire.on_send = strike
    with installation.agent("strategy_engine", ready=False) as engine:
        dying.append(engine)
        begun.set()
        assert dead.wait(PATIENCE_SECONDS)
    wire.on_send = lambda forward: forward()
    left: dict[str, Any] = submitted(installation)
    assert left is not None, "what was about to be sent was not written"
    return left


def state_of(installation: Installation, identity: str) -> tuple[str, str]:
    listed = installation.mev("opportunities", "--limit", "500")["opportunities"]
    return next((each["state"], each["reason"]) for each in listed if each["opportunity"] == identity)


def test_killed_before_sending_it_sends_the_same_bytes_when_it_is_back(
    evm: DevNode, wired: Installation, wire: Wire
) -> None:
    left = die_while_sending(wired, wire, node_gets_it=False)
    assert evm.rpc.call("eth_getTransactionByHash", left["transaction"]) is None
    with wired.agent("strategy_engine"):
        wait_for("its end", lambda: state_of(wired, left["opportunity"])[0] == "included", meanwhile=evm.mine)
        at_rest(wired)
    assert wired.mev("pnl")["first_included"]["transaction"] == left["transaction"]
    # The relay kept the first from the node: the chain has it once.
    assert wire.sent.count(wire.sent[0]) == 2
    assert wired.mev("reconcile")["agrees"]


def test_what_was_killed_before_sending_and_is_late_can_never_come_true(
    evm: DevNode, owner: Account, wired: Installation, wire: Wire
) -> None:
    left = die_while_sending(wired, wire, node_gets_it=False)
    nonce = int(evm.rpc.call("eth_getTransactionCount", text(owner.address), "latest"), 16)
    evm.mine(10)
    with wired.agent("strategy_engine"):
        wait_for(
            "its end", lambda: state_of(wired, left["opportunity"]) == ("expired", "cancelled"), meanwhile=evm.mine
        )
        evm.trade()
        first = filled(wired)
        at_rest(wired)
    assert first["transaction"] != left["transaction"]
    assert len(set(wire.sent)) == len(wire.sent)
    assert int(evm.rpc.call("eth_getTransactionCount", text(owner.address), "latest"), 16) > nonce
    with pytest.raises(RpcError, match="nonce too low"):
        evm.rpc.call("eth_sendRawTransaction", wire.sent[0])
    assert wired.mev("reconcile")["agrees"]


def test_killed_after_sending_it_books_the_receipt_once_and_sends_nothing_again(
    evm: DevNode, owner: Account, wired: Installation, wire: Wire
) -> None:
    nonce = int(evm.rpc.call("eth_getTransactionCount", text(owner.address), "latest"), 16)
    left = die_while_sending(wired, wire, node_gets_it=True)
    receipt = evm.receipt(left["transaction"])
    assert receipt["status"] == "0x1"
    with wired.agent("strategy_engine"):
        wait_for("its end", lambda: state_of(wired, left["opportunity"])[0] == "included", meanwhile=evm.mine)
        first = wired.mev("pnl")["first_included"]
        at_rest(wired)
    assert first["transaction"] == left["transaction"]
    used = int(evm.rpc.call("eth_getTransactionCount", text(owner.address), "latest"), 16) - nonce
    assert used == len(wire.sent) == len(set(wire.sent))
    assert wired.mev("reconcile")["agrees"]


def test_a_node_that_goes_away_while_we_send_is_asked_what_became_of_it(
    evm: DevNode, wired: Installation, wire: Wire
) -> None:
    """The node takes the transaction, and its answer never comes: nothing is sent again, and the receipt is booked."""
    once: list[None] = []

    def vanish(forward: Callable[[], None]) -> None:
        forward()
        if not once:
            once.append(None)
            # A connection cut at once may take the request with it: the node has to have it first.
            evm.receipt(text(keccak256(raw(wire.sent[0]))))
            raise ConnectionClosed(None, None)

    wire.on_send = vanish
    with wired.agent("strategy_engine"):
        first = filled(wired)
        at_rest(wired)
    assert evm.receipt(first["transaction"])["status"] == "0x1"
    assert len(set(wire.sent)) == len(wire.sent)
    assert wired.mev("reconcile")["agrees"]


def test_blocks_that_pile_up_while_we_send_are_not_traded_on(evm: DevNode, wired: Installation, wire: Wire) -> None:
    """What an old block showed is gone: sending it again and again would pay for reverts."""
    once: list[None] = []

    def dawdle(forward: Callable[[], None]) -> None:
        if not once:
            once.append(None)
            for _ in range(8):
                evm.trade()
        forward()

    wire.on_send = dawdle
    with wired.agent("strategy_engine"):
        filled(wired)
        at_rest(wired)
    states = [each["state"] for each in wired.mev("opportunities", "--limit", "500")["opportunities"]]
    # Only the transaction that was held back itself may have come too late.
    assert states.count("reverted") <= 1
    assert wired.mev("reconcile")["agrees"]
