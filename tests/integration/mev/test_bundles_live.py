"""The engine as it runs, its trades in bundles: filled by one of two builders, and killed while it hands one over."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from eth_account import Account as EthAccount

from lab.evm.rpc import RpcError
from tests.builders import Taker
from tests.integration.mev.conftest import PATIENCE_SECONDS, Agent, Installation, at_rest, filled, wait_for
from tests.integration.mev.test_crash import Wire, state_of, submitted, wire, wired

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.evm.devnode import DevNode

__all__ = ["wire", "wired"]

KEY = b"\x19" * 32


@pytest.fixture
def takers(wired: Installation) -> Iterator[list[Taker]]:
    """Two builders that the engine is configured with."""
    made = [Taker(EthAccount.from_key(KEY).address) for _ in range(2)]
    key = wired.directory / "identity.key"
    key.touch(mode=0o600)
    key.write_text(KEY.hex())
    wired.chain_tables = "\n".join(
        f'[[chains.ethereum.submitters]]\nname = "builder{number}"\nkind = "bundles"\nurl = "{each.url}"\n'
        f'identity = "file:{key}"\ntimeout_seconds = 5\n'
        for number, each in enumerate(made)
    )
    wired.write()
    yield made
    for each in made:
        each.close()


def include(evm: DevNode, taker: Taker) -> None:
    """Have a builder make the next block, if it was sent a bundle for it."""
    block = int(evm.rpc.call("eth_blockNumber"), 16) + 1
    for raw in taker.taken.pop(block, []):
        # Another bundle of the block may have used the nonce.
        with suppress(RpcError):
            evm.rpc.call("eth_sendRawTransaction", raw)


def test_it_is_filled_by_one_of_two_builders_and_the_nodes_are_sent_nothing(
    evm: DevNode, wired: Installation, wire: Wire, takers: list[Taker]
) -> None:
    takers[1].on_taken = lambda: include(evm, takers[1])
    deployed = len(wire.sent)
    with wired.agent("strategy_engine"):
        filled(wired)
        at_rest(wired)
    assert wired.mev("reconcile")["agrees"]
    assert len(wire.sent) == deployed
    assert takers[0].refused == []
    assert all(method == "eth_sendBundle" for each in takers for method, _ in each.received)


@pytest.mark.parametrize("included", [True, False])
def test_killed_while_it_hands_a_bundle_over_it_learns_what_became_of_it(
    evm: DevNode, wired: Installation, wire: Wire, takers: list[Taker], *, included: bool
) -> None:
    dying: list[Agent] = []
    begun, dead = threading.Event(), threading.Event()

    def strike() -> None:
        begun.wait(PATIENCE_SECONDS)
        dying[0].kill()
        dead.set()

    takers[0].on_taken = strike
    with wired.agent("strategy_engine", ready=False) as engine:
        dying.append(engine)
        begun.set()
        assert dead.wait(PATIENCE_SECONDS)
    takers[0].on_taken = lambda: None
    left = submitted(wired)
    assert left is not None, "what was about to be handed over was not written"
    if included:
        include(evm, takers[0])
    else:
        evm.mine()
    takers[1].on_taken = lambda: include(evm, takers[1])
    with wired.agent("strategy_engine"):
        wait_for("its end", lambda: state_of(wired, left["opportunity"])[0] != "submitted", meanwhile=evm.mine)
        at_rest(wired)
    expected = ("included", "") if included else ("expired", "bundle_missed")
    assert state_of(wired, left["opportunity"]) == expected
    assert wired.mev("reconcile")["agrees"]
    assert wire.sent == [], "nothing of it went to the nodes"
