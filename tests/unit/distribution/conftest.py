"""An upstream, a table to write, and two OpenPGP keys of which one is nobody's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.upstream import Key, Upstream, publishing


@pytest.fixture
def upstream(certificates: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Upstream]:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "ca.crt"))
    with publishing(certificates) as told:
        yield told


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "pins.yml"


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Key, Key]:
    # gpg's agent has its socket in the home directory, and a socket's path is short.
    homes = Path(tmp_path_factory.mktemp("k"))
    return Key(homes / "a", "release"), Key(homes / "b", "other")
