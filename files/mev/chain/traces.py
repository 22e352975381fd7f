"""Blocks as files of call traces (Parity's `trace_block`): what recorded blocks are kept in.

A file is one JSON object, gzip-compressed where its name ends in .gz:

    block_number, block_timestamp (seconds; may be missing), base_fee_per_gas (wei, 0 or null before EIP-1559), miner
    traces: [{type, action: {from, to, callType, input, value}, result: {output}, error,
              trace_address: [0, 2], transaction_hash, transaction_position}]

Reverted calls are left out with all that they called. Whatever is malformed is a RecordingError that names the file.
"""

import gzip
import zlib
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path

import msgspec

from mev.chain import wire
from mev.chain.errors import MalformedAnswerError
from mev.chain.wire import ADDRESS_BYTES, HASH_BYTES
from mev.domain.market import Address, Hash

# A full block of Ethereum is some 20 MB of traces.
MAX_FILE_BYTES = 256 * 2**20
CALL = "call"
STATIC_CALL = "staticcall"
_OWN_CODE = frozenset({CALL, STATIC_CALL})


class RecordingError(Exception):
    """A file is no recorded block; the message names it and what is wrong."""


class Call(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One call that was not undone; `path` is its place among its transaction's calls, empty for the outermost."""

    path: tuple[int, ...]
    static: bool
    sender: Address
    to: Address
    input: bytes
    output: bytes
    value_wei: int


class Transaction(msgspec.Struct, frozen=True, kw_only=True):
    """A transaction that did not revert, with its calls in the order in which they began; the first one is its own."""

    position: int
    hash: Hash
    sender: Address
    target: Address | None
    calls: tuple[Call, ...]


class RecordedBlock(msgspec.Struct, frozen=True, kw_only=True):
    """What a file holds; transactions in their order."""

    number: int
    timestamp: int
    base_fee_wei: int
    transactions: tuple[Transaction, ...]


# What holds nothing that could hold it in turn needs no looking for cycles: a block has tens of thousands.
class _Action(msgspec.Struct, frozen=True, gc=False):
    sender: str | None = msgspec.field(name="from", default=None)
    to: str | None = None
    call_type: str | None = msgspec.field(name="callType", default=None)
    input: str = "0x"
    value: str = "0x0"


class _Result(msgspec.Struct, frozen=True, gc=False):
    output: str | None = None


class _Trace(msgspec.Struct, frozen=True, gc=False):
    type: str
    action: _Action
    trace_address: list[int] = []
    transaction_hash: str | None = None
    transaction_position: int | None = None
    result: _Result | None = None
    error: str | None = None


class _File(msgspec.Struct, frozen=True):
    block_number: int
    traces: list[_Trace]
    # Some recordings are without it.
    block_timestamp: int | None = None
    base_fee_per_gas: int | None = None


class _Addresses(dict[str | None, Address]):
    """Addresses by their text: a block's traces say the same few again and again. Raises MalformedAnswerError for what is none."""

    def __missing__(self, text: str | None) -> Address:
        read = self[text] = wire.fixed(text, ADDRESS_BYTES)
        return read


_place = attrgetter("trace_address")


def read_recorded(path: Path) -> RecordedBlock:
    """Read a file; raises RecordingError."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise RecordingError(f"{path} cannot be read: {error}") from None
    if len(content) > MAX_FILE_BYTES:
        raise RecordingError(f"{path} holds more than {MAX_FILE_BYTES} bytes: no block does")
    try:
        return decode_recorded(content)
    except (msgspec.DecodeError, MalformedAnswerError, RecursionError) as error:
        raise RecordingError(f"{path} is no recorded block: {error}") from None


def decode_recorded(content: bytes) -> RecordedBlock:
    """Decode a file's content; raises msgspec.DecodeError and MalformedAnswerError."""
    file = msgspec.json.decode(content, type=_File)
    by_position: dict[int, list[_Trace]] = {}
    for trace in file.traces:
        if trace.transaction_hash is not None and trace.transaction_position is not None:
            by_position.setdefault(trace.transaction_position, []).append(trace)
    known = _Addresses()
    transactions = (_transaction(position, traces, known) for position, traces in sorted(by_position.items()))
    return RecordedBlock(
        number=file.block_number,
        timestamp=file.block_timestamp or 0,
        base_fee_wei=file.base_fee_per_gas or 0,
        transactions=tuple(each for each in transactions if each is not None),
    )


def _transaction(position: int, traces: list[_Trace], known: _Addresses) -> Transaction | None:
    traces.sort(key=_place)
    first = traces[0]
    if first.trace_address or first.error is not None or first.action.sender is None:
        return None
    to = first.action.to
    return Transaction(
        position=position,
        hash=wire.fixed(first.transaction_hash, HASH_BYTES),
        sender=known[first.action.sender],
        target=None if to is None else known[to],
        calls=tuple(_calls(traces, known)),
    )


def _calls(traces: list[_Trace], known: _Addresses) -> Iterator[Call]:
    undone: tuple[int, ...] | None = None
    for trace in traces:
        path = tuple(trace.trace_address)
        if undone is not None and path[: len(undone)] == undone:
            continue
        undone = path if trace.error is not None else None
        action = trace.action
        # A delegated call runs another's code as the caller itself: the caller's own call is there already.
        if undone is not None or trace.type != CALL or action.call_type not in _OWN_CODE:
            continue
        output = trace.result.output if trace.result is not None else None
        yield Call(
            path=path,
            static=action.call_type == STATIC_CALL,
            sender=known[action.sender],
            to=known[action.to],
            input=wire.data(action.input),
            output=wire.data(output) if output else b"",
            value_wei=0 if action.value == "0x0" else wire.quantity(action.value),
        )
