"""Every scenario's tests look at its host from outside, over SSH and as root."""

from __future__ import annotations

from pathlib import Path

import pytest
import testinfra
from testinfra.host import Host

from lab import ssh
from lab.checkout import Checkout
from tests.chain_units import ChainUnits


@pytest.fixture(scope="module")
def host(request: pytest.FixtureRequest) -> Host:
    """The host of the scenario whose folder holds the test."""
    scenario = Path(request.path).parent.name
    return testinfra.get_host(f"ssh://{scenario}", ssh_config=str(ssh.config(Checkout.here())), sudo=True)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a chain's common tests for each of the units of its class."""
    if metafunc.cls is not None and issubclass(metafunc.cls, ChainUnits):
        for wanted in ("unit", "execution_unit", "chain"):
            if wanted in metafunc.fixturenames:
                metafunc.parametrize(wanted, metafunc.cls.turns(wanted))
