"""A node's hex and structs: what is right comes through, whatever is wrong is one kind of error."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mev.chain.errors import MalformedAnswerError
from mev.chain.wire import Head, Log, WireLog, data, encode, fixed, quantity
from mev.domain import Block

BLOCK = Block(7, b"\x07" * 32, b"\x06" * 32, 1, 0)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2),
    max_leaves=3,
)
hostile = st.one_of(json_values, st.text("0x_ aFg\n", max_size=80), st.from_regex(r"0x[0-9a-f]*", fullmatch=True))


def wire_log(**changes: object) -> WireLog:
    values: dict[str, object] = {
        "address": "0x" + 20 * "ab",
        "topics": ["0x" + 32 * "cd"],
        "data": "0x0102",
        "blockHash": encode(BLOCK.hash),
        "logIndex": "0x3",
        "transactionHash": "0x" + 32 * "ef",
    }
    return msgspec.convert({**values, **changes}, WireLog)


@given(st.integers(0, 2**256 - 1))
def test_quantities_come_back(value: int) -> None:
    assert quantity(hex(value)) == value


@given(st.binary(max_size=100))
def test_bytes_come_back(value: bytes) -> None:
    assert data(encode(value)) == value
    assert fixed(encode(value), len(value)) == value


@given(hostile, st.integers(0, 40))
def test_hostile_values_raise_nothing_but_malformed(answer: object, size: int) -> None:
    for read in (quantity, data, lambda given_value: fixed(given_value, size)):
        try:
            read(answer)
        except MalformedAnswerError:
            continue


@pytest.mark.parametrize(
    "text", ["", "0x", "0x_1", "0x 1", "0x1 ", "+0x1", "-0x1", "0x" + 65 * "f", "1", "0xg", "0x\u0661", None, 1]
)
def test_no_quantity(text: object) -> None:
    with pytest.raises(MalformedAnswerError):
        quantity(text)


@pytest.mark.parametrize("text", ["", "0", "0x1", "0x11 22", "0x1122 ", "0xzz", "1122", "0x1\u0661", None, 0])
def test_no_data(text: object) -> None:
    with pytest.raises(MalformedAnswerError):
        data(text)


def test_a_log_comes_through() -> None:
    assert wire_log().log(BLOCK) == Log(b"\xab" * 20, (b"\xcd" * 32,), b"\x01\x02", 3, b"\xef" * 32)


@pytest.mark.parametrize(
    "changes",
    [
        {"blockHash": "0x" + 32 * "00"},
        {"removed": True},
        {"topics": ["0x" + 32 * "cd"] * 5},
        {"topics": ["0x01"]},
        {"address": "0x" + 21 * "ab"},
        {"logIndex": "3"},
        {"data": "0x0"},
    ],
)
def test_a_log_that_is_not_what_was_asked(changes: dict[str, object]) -> None:
    with pytest.raises(MalformedAnswerError):
        wire_log(**changes).log(BLOCK)


def test_a_head_before_eip_1559_has_no_base_fee() -> None:
    head = {"number": "0x7", "hash": encode(BLOCK.hash), "parentHash": encode(BLOCK.parent_hash), "timestamp": "0x1"}
    assert msgspec.convert(head, Head).block() == BLOCK
    assert msgspec.convert({**head, "baseFeePerGas": "0x5"}, Head).block().base_fee_wei == 5


@given(
    st.lists(st.one_of(st.binary(min_size=32, max_size=32).map(encode), st.text("0x1aF g", max_size=68)), max_size=4),
    st.one_of(st.binary(max_size=70).map(encode), st.text("0x1aF g", max_size=8)),
)
def test_a_log_s_content_is_its_topics_and_its_data_or_malformed(topics: list[str], content: str) -> None:
    log = WireLog("0x", topics, content, "0x", "0x", "0x")
    try:
        expected = tuple(fixed(topic, 32) for topic in topics), data(content)
    except MalformedAnswerError:
        with pytest.raises(MalformedAnswerError):
            log.content()
    else:
        assert log.content() == expected
