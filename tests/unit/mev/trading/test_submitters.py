"""What the configured submitters are made of, and must not be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from mev.runtime.config import ConfigError, load
from mev.trading.execution.identity import Identity
from mev.trading.execution.ways import way_of

from tests.unit.mev.runtime.test_config import example

if TYPE_CHECKING:
    from pathlib import Path

KEY = b"\x19" * 32


def test_the_key_that_signs_transactions_signs_nothing_for_builders(tmp_path: Path) -> None:
    key = tmp_path / "identity"
    key.touch(mode=0o600)
    key.write_text(KEY.hex())
    config = tmp_path / "mev.toml"
    config.write_text(example().replace("credential:builders_identity", f"file:{key}"))
    chain = load(config).chains["ethereum"]
    assert way_of("ethereum", chain, signer=Identity(b"\x18" * 32).address) is not None
    with pytest.raises(ConfigError) as refused:
        way_of("ethereum", chain, signer=Identity(KEY).address)
    assert str(refused.value) == (
        "chains.ethereum.submitters: flashbots: its identity is the signer's own key; allowed: a key that holds nothing"
    )
