"""Recursive length prefix (Ethereum yellow paper, appendix B), read strictly: what is not the one shortest form is refused."""

from mev.chain.errors import MalformedAnswerError

Item = bytes | list["Item"]

MAX_DEPTH = 8
SHORT = 55
STRING = 0x80
LONG_STRING = STRING + SHORT
LIST = 0xC0
LONG_LIST = LIST + SHORT


def decode(encoded: bytes) -> Item:
    """Return byte strings and lists of them; raises MalformedAnswerError, also for bytes that are left over."""
    item, end = _item(encoded, 0, len(encoded), 0)
    if end != len(encoded):
        raise MalformedAnswerError(f"RLP: {len(encoded) - end} bytes are left over")
    return item


def _item(encoded: bytes, start: int, limit: int, depth: int) -> tuple[Item, int]:
    if start >= limit:
        raise MalformedAnswerError("RLP: it ends too early")
    if depth > MAX_DEPTH:
        raise MalformedAnswerError(f"RLP: lists are nested more than {MAX_DEPTH} deep")
    first = encoded[start]
    if first < STRING:
        return encoded[start : start + 1], start + 1
    base, longest = (STRING, LONG_STRING) if first < LIST else (LIST, LONG_LIST)
    if first <= longest:
        begin, size = start + 1, first - base
    else:
        begin = start + 1 + first - longest
        if begin > limit:
            raise MalformedAnswerError("RLP: it ends too early")
        size = int.from_bytes(encoded[start + 1 : begin], "big")
        if size <= SHORT or encoded[start + 1] == 0:
            raise MalformedAnswerError("RLP: a length is not in its shortest form")
    end = begin + size
    if end > limit:
        raise MalformedAnswerError("RLP: it ends too early")
    if base == STRING:
        if size == 1 and encoded[begin] < STRING:
            raise MalformedAnswerError("RLP: a byte is not in its shortest form")
        return encoded[begin:end], end
    items: list[Item] = []
    while begin < end:
        item, begin = _item(encoded, begin, end, depth + 1)
        items.append(item)
    return items, end


def integer(item: Item) -> int:
    """Read a number; raises MalformedAnswerError for a list, leading zeros or more than 256 bits."""
    if not isinstance(item, bytes) or len(item) > 32 or item[:1] == b"\0":
        raise MalformedAnswerError("RLP: no number")
    return int.from_bytes(item, "big")


def fixed(item: Item, *sizes: int) -> bytes:
    """Read a byte string of one of the sizes; raises MalformedAnswerError."""
    if not isinstance(item, bytes) or len(item) not in sizes:
        raise MalformedAnswerError(f"RLP: {' or '.join(map(str, sizes))} bytes are expected")
    return item


def encode_length(size: int, base: int) -> bytes:
    """Return the prefix of `size` bytes: base 0x80 for a string, 0xc0 for a list."""
    if size <= SHORT:
        return bytes([base + size])
    written = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([base + SHORT + len(written)]) + written


def encode(item: Item) -> bytes:
    """Return an item's one encoding."""
    if isinstance(item, bytes):
        return item if len(item) == 1 and item[0] < STRING else encode_length(len(item), STRING) + item
    inner = b"".join(map(encode, item))
    return encode_length(len(inner), LIST) + inner
