"""JSON-RPC's hex, and the answers that collectors read, as a node sends them.

A node's bytes are hostile until they are parsed here: whatever is wrong with them is a MalformedAnswerError.
"""

import re

import msgspec

from mev.chain.errors import HostileAnswerError, MalformedAnswerError, Offence
from mev.domain import Block
from mev.domain.market import Address, Hash

ADDRESS_BYTES = 20
HASH_BYTES = 32
MAX_TOPICS = 4
SHOWN_CHARACTERS = 80

_from_hex = bytes.fromhex
_QUANTITY = re.compile(r"0x[0-9a-fA-F]{1,64}")


class Head(msgspec.Struct, frozen=True, rename="camel"):
    """A block's header, in newHeads and in eth_getBlockBy…; before EIP-1559 there is no base fee."""

    number: str
    hash: str
    parent_hash: str
    timestamp: str
    base_fee_per_gas: str | None = None

    def block(self) -> Block:
        """Return what the engine keeps of it."""
        return Block(
            number=quantity(self.number),
            hash=fixed(self.hash, HASH_BYTES),
            parent_hash=fixed(self.parent_hash, HASH_BYTES),
            timestamp=quantity(self.timestamp),
            base_fee_wei=quantity(self.base_fee_per_gas or "0x0"),
        )


class Log(msgspec.Struct, frozen=True):
    """One event of a block, in the order of `index`."""

    address: Address
    topics: tuple[Hash, ...]
    data: bytes
    index: int
    transaction: Hash


class WireLog(msgspec.Struct, frozen=True, rename="camel"):
    """One element of what eth_getLogs answers."""

    address: str
    topics: list[str]
    data: str
    block_hash: str
    log_index: str
    transaction_hash: str
    removed: bool = False

    def log(self, block: Block) -> Log:
        """Return it decoded; raises MalformedAnswerError, and HostileAnswerError where it is not of this block."""
        if self.removed:
            raise HostileAnswerError(
                f"eth_getLogs of block {block.number} answered with a removed log", Offence.FALSE_LOGS
            )
        if fixed(self.block_hash, HASH_BYTES) != block.hash:
            raise HostileAnswerError(
                f"eth_getLogs of block {block.number} answered with another block's log", Offence.FALSE_LOGS
            )
        if len(self.topics) > MAX_TOPICS:
            raise MalformedAnswerError(f"a log has {len(self.topics)} topics: at most {MAX_TOPICS} are possible")
        topics, content = self.content()
        return Log(
            address=fixed(self.address, ADDRESS_BYTES),
            topics=topics,
            data=content,
            index=quantity(self.log_index),
            transaction=fixed(self.transaction_hash, HASH_BYTES),
        )

    def content(self) -> tuple[tuple[Hash, ...], bytes]:
        """Return topics and data; raises MalformedAnswerError where they are no hex of the right size."""
        try:
            topics = tuple([_from_hex(topic[2:]) for topic in self.topics])
            content = _from_hex(self.data[2:])
        except ValueError:
            topics, content = (), b""
        # fromhex passes over spaces, and what stands before it was not looked at: the slow way says what is wrong.
        if (
            len(topics) != len(self.topics)
            or 2 * len(content) + 2 != len(self.data)
            or self.data[:2] != "0x"
            or any(len(topic) != HASH_BYTES for topic in topics)
            or any(len(topic) != 2 + 2 * HASH_BYTES or topic[:2] != "0x" for topic in self.topics)
        ):
            return tuple(fixed(topic, HASH_BYTES) for topic in self.topics), data(self.data)
        return topics, content


def quantity(answer: object) -> int:
    """Read a number of at most 256 bits."""
    if not isinstance(answer, str) or _QUANTITY.fullmatch(answer) is None:
        raise MalformedAnswerError(f"{_shown(answer)} is no hex quantity")
    return int(answer, 16)


def data(answer: object) -> bytes:
    """Read bytes of any length."""
    if isinstance(answer, str) and answer.startswith("0x"):
        try:
            read = bytes.fromhex(answer[2:])
        except ValueError:
            read = None
        # fromhex passes over spaces; the length tells.
        if read is not None and len(answer) == 2 + 2 * len(read):
            return read
    raise MalformedAnswerError(f"{_shown(answer)} is no hex data")


def fixed(answer: object, size: int) -> bytes:
    """Read exactly `size` bytes."""
    read = data(answer)
    if len(read) != size:
        raise MalformedAnswerError(f"{_shown(answer)} is {len(read)} bytes: {size} are expected")
    return read


def encode(value: bytes) -> str:
    """Write bytes as JSON-RPC's hex."""
    return "0x" + value.hex()


def _shown(answer: object) -> str:
    text = ascii(answer)
    return text[:SHOWN_CHARACTERS]
