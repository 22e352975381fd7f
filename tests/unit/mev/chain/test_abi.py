"""Fixed layouts against eth_abi, and what is not one of them."""

import pytest
from eth_abi.abi import encode
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st
from mev.chain import abi

uint = st.integers(0, 2**256 - 1)
uint112 = st.integers(0, 2**112 - 1)
address = st.binary(min_size=20, max_size=20)
anything = st.binary(max_size=200)


def decoders(data: bytes) -> None:
    for decode in (
        abi.decode_uint,
        abi.decode_address,
        abi.decode_reserves,
        lambda given: abi.decode_sync([abi.SYNC], given),
    ):
        try:
            decode(data)
        except abi.AbiError:
            continue


@given(anything)
def test_keccak_is_ethereum_s(data: bytes) -> None:
    assert abi.keccak256(data) == keccak(data)


def test_selectors_and_topics_are_those_of_the_contracts() -> None:
    assert abi.selector("getReserves()").hex() == "0902f1ac"
    assert abi.SYNC.hex() == "1c411e9a96e071241c2f21f7726b17ae89e3cab4c78be50e062b03a9fffbbad1"
    assert abi.PAIR_CREATED.hex() == "0d3648bd0f6ba80134a33ba9275ac585d9d315f0ad8355cddefde31afa28d0e9"


@given(st.binary(min_size=4, max_size=4), st.lists(st.one_of(uint, address), max_size=4))
def test_calls_are_encoded_as_eth_abi_does(chosen: bytes, arguments: list[int | bytes]) -> None:
    types = ["uint256" if isinstance(argument, int) else "address" for argument in arguments]
    assert abi.encode_call(chosen, *arguments) == chosen + encode(types, arguments)


@pytest.mark.parametrize("argument", [-1, 2**256, bytes(19), bytes(32)])
def test_arguments_that_do_not_fit(argument: int | bytes) -> None:
    with pytest.raises(abi.AbiError):
        abi.encode_call(b"\0\0\0\0", argument)


@given(uint)
def test_a_number_comes_back(value: int) -> None:
    assert abi.decode_uint(encode(["uint256"], [value])) == value


@given(address)
def test_an_address_comes_back(value: bytes) -> None:
    assert abi.decode_address(encode(["address"], [value])) == value


@given(uint112, uint112, st.integers(0, 2**32 - 1))
def test_reserves_come_back(reserve0: int, reserve1: int, at: int) -> None:
    data = encode(["uint112", "uint112", "uint32"], [reserve0, reserve1, at])
    assert abi.decode_reserves(data) == (reserve0, reserve1)


@given(uint112, uint112)
def test_a_sync_comes_back(reserve0: int, reserve1: int) -> None:
    assert abi.decode_sync([abi.SYNC], encode(["uint112"] * 2, [reserve0, reserve1])) == (reserve0, reserve1)


@given(
    st.one_of(
        anything,
        st.binary(min_size=32, max_size=32),
        st.binary(min_size=64, max_size=64),
        st.binary(min_size=96, max_size=96),
    )
)
def test_hostile_bytes_raise_nothing_but_our_own(data: bytes) -> None:
    decoders(data)


@given(st.lists(st.binary(max_size=33), max_size=5).filter(lambda topics: topics != [abi.SYNC]))
def test_other_topics_are_no_sync(topics: list[bytes]) -> None:
    with pytest.raises(abi.AbiError):
        abi.decode_sync(topics, bytes(64))


@given(address)
def test_checksums_are_eip_55(value: bytes) -> None:
    text = abi.checksum(value)
    assert text == to_checksum_address(value)
    assert {abi.parse_address(form) for form in (text, text.lower(), "0x" + text[2:].upper())} == {value}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0x",
        "0X" + 40 * "a",
        40 * "a",
        "0x" + 39 * "a",
        "0x" + 41 * "a",
        "0x" + 39 * "a" + "g",
        "0x" + 38 * "a" + " a",
        "0x0x" + 38 * "a",
        "0xc02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2",
    ],
)
def test_texts_that_are_no_address(text: str) -> None:
    with pytest.raises(abi.AddressError):
        abi.parse_address(text)
