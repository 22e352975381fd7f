"""Read dynamic ABI data that may be hostile: every offset and length is held against what is there before anything is made of it.

`base` is where the tuple begins that offsets count from, `position` a word's number in its head. Whatever is wrong is an AbiError.
"""

from mev.chain.abi.words import WORD_BYTES, AbiError

_PADDING = bytes(12)
_FLAGS = (bytes(32), bytes(31) + b"\1")


def uint(data: bytes, base: int, position: int, bits: int = 256) -> int:
    """Read an unsigned number."""
    start = base + WORD_BYTES * position
    word = data[start : start + WORD_BYTES]
    if len(word) != WORD_BYTES:
        raise AbiError("the data ends too early")
    value = int.from_bytes(word, "big")
    if value >> bits:
        raise AbiError(f"a number does not fit in uint{bits}")
    return value


def sint(data: bytes, base: int, position: int, bits: int) -> int:
    """Read a signed number."""
    value = uint(data, base, position)
    value -= value >> 255 << 256
    if not -(1 << bits - 1) <= value < 1 << bits - 1:
        raise AbiError(f"a number does not fit in int{bits}")
    return value


def address(data: bytes, base: int, position: int) -> bytes:
    """Read an address."""
    start = base + WORD_BYTES * position
    word = data[start : start + WORD_BYTES]
    if len(word) != WORD_BYTES or word[:12] != _PADDING:
        raise AbiError("an address is not 20 bytes")
    return word[12:]


def flag(data: bytes, base: int, position: int) -> bool:
    """Read a bool."""
    start = base + WORD_BYTES * position
    word = data[start : start + WORD_BYTES]
    if word not in _FLAGS:
        raise AbiError("a bool is neither 0 nor 1")
    return word == _FLAGS[1]


def offset(data: bytes, base: int, position: int) -> int:
    """Read where a dynamic field begins, and return that place in the whole data."""
    place = base + uint(data, base, position, 32)
    if place + WORD_BYTES > len(data):
        raise AbiError("an offset leads out of the data")
    return place


def array(data: bytes, base: int, position: int, item_bytes: int, limit: int) -> tuple[int, int]:
    """Read a dynamic array's head: where its first item is, and how many there are; no more than `limit`, and all of them there."""
    place = offset(data, base, position)
    count = uint(data, place, 0, 32)
    if count > limit:
        raise AbiError(f"{count} items are more than {limit}")
    if place + WORD_BYTES + count * item_bytes > len(data):
        raise AbiError("an array is longer than the data")
    return place + WORD_BYTES, count


def text(data: bytes, base: int, position: int, limit: int) -> bytes:
    """Read bytes of any length up to `limit`."""
    start, size = array(data, base, position, 1, limit)
    return data[start : start + size]


def word_array(data: bytes, base: int, position: int, limit: int) -> tuple[int, ...]:
    """Read uint256[]."""
    start, count = array(data, base, position, WORD_BYTES, limit)
    return tuple(uint(data, start, each) for each in range(count))


def int_array(data: bytes, base: int, position: int, limit: int) -> tuple[int, ...]:
    """Read int256[]."""
    start, count = array(data, base, position, WORD_BYTES, limit)
    return tuple(sint(data, start, each, 256) for each in range(count))


def address_array(data: bytes, base: int, position: int, limit: int) -> tuple[bytes, ...]:
    """Read address[]."""
    start, count = array(data, base, position, WORD_BYTES, limit)
    return tuple(address(data, start, each) for each in range(count))


def text_array(data: bytes, base: int, position: int, limit: int, size_limit: int) -> list[bytes]:
    """Read bytes[]."""
    start, count = array(data, base, position, WORD_BYTES, limit)
    return [text(data, start, each, size_limit) for each in range(count)]
