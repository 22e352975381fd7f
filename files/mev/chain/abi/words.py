"""The few fixed layouts of the Ethereum ABI that the engine reads and writes; no schema, no dynamic types.

Everything decoded here came from a node or from a contract that anyone may have written: wrong sizes and values out of
range raise AbiError, and nothing else.
"""

from collections.abc import Sequence
from typing import NamedTuple

from mev.domain.market import Address
from mev.runtime.address import ADDRESS_BYTES, AddressError, checksum, keccak256, parse_address

__all__ = [
    "ALGEBRA_POOL_CREATED",
    "PAIR_CREATED",
    "POOL_CREATED",
    "SOLIDLY_POOL_CREATED",
    "SYNC",
    "V4_INITIALIZED",
    "WORD_BYTES",
    "AbiError",
    "AddressError",
    "Reserves",
    "checksum",
    "decode_address",
    "decode_reserves",
    "decode_sync",
    "decode_uint",
    "encode_call",
    "event_topic",
    "keccak256",
    "parse_address",
    "selector",
]

WORD_BYTES = 32
UINT32_BITS = 32
UINT112_BITS = 112
UINT256_BITS = 256


class AbiError(Exception):
    """Bytes do not have the layout that the ABI gives them."""


class Reserves(NamedTuple):
    """A V2 pair's reserves, base units of token0 and token1; each fits in 112 bits."""

    reserve0: int
    reserve1: int


def selector(signature: str) -> bytes:
    """Return the four bytes that choose a function, of its canonical signature."""
    return keccak256(signature.encode())[:4]


def event_topic(signature: str) -> bytes:
    """Return an event's first topic, of its canonical signature."""
    return keccak256(signature.encode())


SYNC = event_topic("Sync(uint112,uint112)")
PAIR_CREATED = event_topic("PairCreated(address,address,address,uint256)")
POOL_CREATED = event_topic("PoolCreated(address,address,uint24,int24,address)")
ALGEBRA_POOL_CREATED = event_topic("Pool(address,address,address)")
SOLIDLY_POOL_CREATED = event_topic("PoolCreated(address,address,bool,address,uint256)")
V4_INITIALIZED = event_topic("Initialize(bytes32,address,address,uint24,int24,address,uint160,int24)")


def encode_call(chosen: bytes, *arguments: int | Address) -> bytes:
    """Return calldata of a function whose arguments are all one word: unsigned numbers, or addresses.

    Raises AbiError where an argument does not fit.
    """
    return chosen + b"".join(map(_word, arguments))


def decode_uint(data: bytes, position: int = 0, *, words: int = 1, bits: int = UINT256_BITS) -> int:
    """Read the unsigned number in word `position` of returned data that must have exactly `words` words."""
    if len(data) != words * WORD_BYTES:
        raise AbiError(f"{words * WORD_BYTES} bytes are expected, not {len(data)}")
    value = int.from_bytes(data[position * WORD_BYTES : (position + 1) * WORD_BYTES], "big")
    if value >> bits:
        raise AbiError(f"word {position} does not fit in uint{bits}")
    return value


def decode_address(data: bytes) -> Address:
    """Read one returned address."""
    return decode_uint(data, bits=8 * ADDRESS_BYTES).to_bytes(ADDRESS_BYTES, "big")


def decode_reserves(data: bytes) -> Reserves:
    """Read what a V2 pair's getReserves() returns: two uint112, and the uint32 time of the last update."""
    decode_uint(data, 2, words=3, bits=UINT32_BITS)
    return Reserves(*(decode_uint(data, position, words=3, bits=UINT112_BITS) for position in (0, 1)))


def decode_sync(topics: Sequence[bytes], data: bytes) -> Reserves:
    """Read a V2 pair's Sync event: the reserves after whatever the pair has just done."""
    if tuple(topics) != (SYNC,):
        raise AbiError("no Sync event: its one topic is expected")
    return Reserves(*(decode_uint(data, position, words=2, bits=UINT112_BITS) for position in (0, 1)))


def _word(value: int | Address) -> bytes:
    if isinstance(value, int):
        if value < 0 or value >> UINT256_BITS:
            raise AbiError(f"{value} does not fit in uint256")
        return value.to_bytes(WORD_BYTES, "big")
    if len(value) != ADDRESS_BYTES:
        raise AbiError(f"an address is {ADDRESS_BYTES} bytes, not {len(value)}")
    return value.rjust(WORD_BYTES, b"\0")
