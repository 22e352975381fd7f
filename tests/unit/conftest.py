"""What unit tests of several rooms stand on."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import ca
from lab.checkout import Checkout


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with `ca.crt`, and `mirror.crt` and `mirror.key` of a server that is called localhost."""
    checkout = Checkout(tmp_path_factory.mktemp("ca"))
    mirror = ca.CERTIFICATES["mirror"]
    ca.CERTIFICATES["mirror"] = ("localhost",)
    try:
        ca.ensure_ca(checkout)
    finally:
        ca.CERTIFICATES["mirror"] = mirror
    return checkout.state / "ca"
