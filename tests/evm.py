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
    """The session's chain as the seed left it, whatever the tests before did."""
    snapshot = evm_session.rpc.call("evm_snapshot")
    # Blocks of two tests must never be the same: anvil would drop the newer one's state with that of the older one.
    evm_session.fund("0x" + secrets.token_hex(20), 1)
    yield evm_session
    evm_session.rpc.call("evm_revert", snapshot)
