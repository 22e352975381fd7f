"""Fixtures: a real, seeded chain for a test; see lab/evm/README.md."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

from lab.checkout import Checkout
from lab.evm import devnode, npm

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.evm.devnode import DevNode
    from lab.evm.npm import Modules


@pytest.fixture(scope="session")
def modules() -> Modules:
    """The npm packages of the lab's chains, installed when they are not."""
    checkout = Checkout.here()
    with checkout.locked("npm"):
        return npm.install(checkout.state / "npm")


@pytest.fixture(scope="session")
def evm_session(modules: Modules) -> Iterator[DevNode]:
    """One seeded chain for the whole session; what a test does to it stays."""
    with devnode.start(modules) as node:
        yield node


@pytest.fixture
def evm(evm_session: DevNode) -> Iterator[DevNode]:
    """The session's chain as the seed left it, whatever the tests before did, and in whichever order."""
    rpc = evm_session.rpc
    snapshot = rpc.call("evm_snapshot")
    # Blocks of two tests must never be the same: anvil would drop the newer one's state with that of the older one.
    evm_session.fund("0x" + secrets.token_hex(20), 1)
    next_base_fee = rpc.call("eth_getBlockByNumber", "pending", False)["baseFeePerGas"]
    yield evm_session
    # What waits and is in no block would come true in the next test's, and so it goes.
    devnode.revert(rpc, snapshot)
    rpc.call("anvil_dropAllTransactions")
    # What anvil does not take back with the blocks: how it mines, and what the next block charges.
    rpc.call("evm_setAutomine", True)
    rpc.call("anvil_setNextBlockBaseFeePerGas", next_base_fee)
