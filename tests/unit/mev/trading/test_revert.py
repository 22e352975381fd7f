"""Reverts in words: what contracts say, and what hostile ones put in its place."""

import pytest
from eth_abi.abi import encode
from hypothesis import given
from hypothesis import strategies as st
from mev.trading.revert import ERROR, PANIC, reason


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "reverted without a reason"),
        (ERROR + encode(["string"], ["UniswapV2: K"]), "UniswapV2: K"),
        (ERROR + encode(["string"], [""]), "reverted without a reason"),
        (PANIC + encode(["uint256"], [0x11]), "panic 0x11: arithmetic overflow or underflow"),
        (PANIC + encode(["uint256"], [0x99]), "panic 0x99: unknown"),
        (bytes.fromhex("4e487b71"), "custom error 0x4e487b71, 0 bytes"),
        (bytes.fromhex("f4d678b8") + bytes(32), "custom error 0xf4d678b8, 32 bytes"),
        (ERROR + encode(["string"], ["a\nb\x1b[2J"]), "a?b?[2J"),
    ],
)
def test_what_contracts_say(data: bytes, words: str) -> None:
    assert reason(data) == words


@given(st.one_of(st.binary(max_size=300), st.binary(max_size=300).map(lambda tail: ERROR + tail)))
def test_hostile_data_is_one_short_printable_line(data: bytes) -> None:
    said = reason(data)
    assert said.isprintable()
    assert 0 < len(said) <= 300
