"""What Arbitrum's sequencer broadcasts (Nitro's feed, version 1), read strictly.

Source: Nitro's documentation and its types BroadcastMessage, MessageWithMetadata and L1IncomingMessage, and the L2 message
kinds that its ArbOS parses. A feed message is JSON; the L2 message in it is base64: one byte that says its kind, then a signed
transaction, or a batch of L2 messages, each after its length (eight bytes, big endian), up to 16 deep.
"""

from enum import IntEnum

import msgspec

from mev.chain.errors import HostileAnswerError, MalformedAnswerError, Offence
from mev.chain.messages import reason_of
from mev.chain.transactions import PendingTransaction, decode_signed
from mev.chain.wire import ADDRESS_BYTES, HASH_BYTES, fixed
from mev.domain.market import Address, Hash

VERSION = 1
MAX_L2_MESSAGE_BYTES = 256 * 1024
MAX_BATCH_DEPTH = 16
LENGTH_BYTES = 8


class MessageKind(IntEnum):
    """What a message to the chain is; only those of kind L2 hold users' own transactions."""

    L2 = 3
    END_OF_BLOCK = 6
    L2_FUNDED_BY_L1 = 7
    ROLLUP_EVENT = 8
    SUBMIT_RETRYABLE = 9
    BATCH_FOR_GAS_ESTIMATION = 10
    INITIALIZE = 11
    ETH_DEPOSIT = 12
    BATCH_POSTING_REPORT = 13
    INVALID = 0xFF


class L2Kind(IntEnum):
    """What an L2 message is."""

    UNSIGNED_USER_TX = 0
    CONTRACT_TX = 1
    NONMUTATING_CALL = 2
    BATCH = 3
    SIGNED_TX = 4
    HEARTBEAT = 6
    SIGNED_COMPRESSED_TX = 7


class SequencedMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One message in the sequencer's order: on Nitro chains it becomes one block.

    `undecoded` counts what it holds beside signed transactions: contract calls and other kinds, which come from the parent chain.
    `parent_block_number` and `timestamp` are the sequencer's; `block_hash` is what it says that the block will be, where it does.
    """

    sequence_number: int
    kind: int
    sender: Address
    timestamp: int
    parent_block_number: int
    transactions: tuple[PendingTransaction, ...]
    undecoded: int
    block_hash: Hash | None


class _Header(msgspec.Struct, rename="camel"):
    kind: int
    sender: str
    block_number: int
    timestamp: int


class _L1Message(msgspec.Struct, rename="camel"):
    header: _Header
    l2_msg: bytes = msgspec.field(name="l2Msg", default=b"")


class _WithMetadata(msgspec.Struct, rename="camel"):
    message: _L1Message
    delayed_messages_read: int


class _FeedMessage(msgspec.Struct, rename="camel"):
    sequence_number: int
    message: _WithMetadata
    block_hash: str | None = None


class _Confirmed(msgspec.Struct, rename="camel"):
    sequence_number: int


class _Broadcast(msgspec.Struct, rename="camel"):
    version: int
    messages: list[_FeedMessage] | None = None
    confirmed_sequence_number_message: _Confirmed | None = None


_BROADCASTS = msgspec.json.Decoder(_Broadcast)


def read(received: bytes | str) -> list[SequencedMessage]:
    """Return what one frame of the feed holds, in its order; raises MalformedAnswerError and nothing else."""
    try:
        broadcast = _BROADCASTS.decode(received)
    except RecursionError:
        raise HostileAnswerError("no feed message: it is nested too deeply", Offence.TOO_DEEP) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise HostileAnswerError(f"no feed message: {reason_of(error)}") from None
    if broadcast.version != VERSION:
        raise HostileAnswerError(f"a feed of version {broadcast.version}: version {VERSION} is understood")
    return [_sequenced(message) for message in broadcast.messages or ()]


def _sequenced(feed: _FeedMessage) -> SequencedMessage:
    header, l2_message = feed.message.message.header, feed.message.message.l2_msg
    if feed.sequence_number < 0 or header.timestamp < 0 or header.block_number < 0:
        raise MalformedAnswerError("a feed message with a number below zero")
    if len(l2_message) > MAX_L2_MESSAGE_BYTES:
        raise HostileAnswerError(
            f"an L2 message of {len(l2_message)} bytes: at most {MAX_L2_MESSAGE_BYTES} are possible", Offence.TOO_LARGE
        )
    transactions: list[PendingTransaction] = []
    undecoded = 1
    if header.kind == MessageKind.L2:
        undecoded = _collect(l2_message, transactions, 0)
    return SequencedMessage(
        sequence_number=feed.sequence_number,
        kind=header.kind,
        sender=fixed(header.sender, ADDRESS_BYTES),
        timestamp=header.timestamp,
        parent_block_number=header.block_number,
        transactions=tuple(transactions),
        undecoded=undecoded,
        block_hash=None if feed.block_hash is None else fixed(feed.block_hash, HASH_BYTES),
    )


def _collect(message: bytes, transactions: list[PendingTransaction], depth: int) -> int:
    """Append a message's signed transactions; returns how many parts are none, or cannot be read.

    Whoever sends a transaction decides its bytes, and Nitro passes over what it cannot read: so do we, and the rest counts.
    """
    match message[0] if message else None:
        case L2Kind.SIGNED_TX:
            try:
                transactions.append(decode_signed(message[1:]))
            except MalformedAnswerError:
                return 1
            return 0
        case L2Kind.BATCH if depth < MAX_BATCH_DEPTH:
            return _batch(message, transactions, depth)
        case L2Kind.HEARTBEAT:
            return 0
        case _:
            return 1


def _batch(message: bytes, transactions: list[PendingTransaction], depth: int) -> int:
    undecoded, start = 0, 1
    while start < len(message):
        begin = start + LENGTH_BYTES
        start = begin + int.from_bytes(message[start:begin], "big")
        if begin > len(message) or start > len(message):
            return undecoded + 1
        undecoded += _collect(message[begin:start], transactions, depth + 1)
    return undecoded
