"""A chain with a published lending market on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab.checkout import Checkout
from lab.evm import chains, devnode, npm
from tests.integration.mev.amm.conftest import Bench
from tests.integration.mev.lending.aave import Aave
from tests.integration.mev.lending.crash import Crash

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.evm.devnode import DevNode
    from lab.evm.npm import Modules
    from tests.integration.mev.conftest import Account
    from tests.integration.mev.test_executor import Pools


@pytest.fixture(scope="session")
def published_lending() -> Modules:
    """The npm packages with the markets' sources and their compiler, installed when they are not."""
    checkout = Checkout.here()
    with checkout.locked("npm"):
        return npm.install(checkout.state / "npm-lending", Path(__file__).parent)


@pytest.fixture(scope="session")
def lending_bench(modules: Modules) -> Iterator[Bench]:
    """One empty chain for the session's lending tests."""
    with devnode.bare(modules, chains.get("ethereum")) as (rpc, _):
        yield Bench(rpc, modules, rpc.call("eth_accounts")[0])


@pytest.fixture(scope="session")
def aave(lending_bench: Bench, published_lending: Modules) -> Aave:
    """An empty market."""
    return Aave(lending_bench, published_lending)


@pytest.fixture(scope="session")
def evm_session(modules: Modules) -> Iterator[DevNode]:
    """A seeded chain of these tests' own: on one that others go on with, anvil gives no old states any more once these were taken back."""
    with devnode.start(modules) as node:
        yield node


@pytest.fixture
def crash(evm: DevNode, modules: Modules, published_lending: Modules, owner: Account, pools: Pools) -> Crash:
    """A market on the seeded chain, with a borrower who has not borrowed yet."""
    return Crash(evm, modules, published_lending, owner, pools)
