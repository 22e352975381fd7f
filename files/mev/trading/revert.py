"""What a revert says, in words; a contract may put anything there, so nothing of it is believed or printed raw."""

from mev.chain.abi import AbiError, reader, selector

ERROR = selector("Error(string)")
PANIC = selector("Panic(uint256)")
SELECTOR_BYTES = 4
MAX_REASON_BYTES = 256
# Solidity's documentation, "Panic via assert and Error via require".
PANICS = {
    0x00: "a compiler's own panic",
    0x01: "assert failed",
    0x11: "arithmetic overflow or underflow",
    0x12: "division by zero",
    0x21: "no member of an enum",
    0x22: "a malformed storage byte array",
    0x31: "pop of an empty array",
    0x32: "an index out of bounds",
    0x41: "too much memory asked for",
    0x51: "call of an empty function pointer",
}


def reason(data: bytes) -> str:
    """Return one printable line for a revert's data: Error(string), Panic(uint256), or the selector of a custom error."""
    if not data:
        return "reverted without a reason"
    chosen, rest = data[:SELECTOR_BYTES], data[SELECTOR_BYTES:]
    try:
        if chosen == ERROR:
            return _printable(reader.text(rest, 0, 0, MAX_REASON_BYTES)) or "reverted without a reason"
        if chosen == PANIC:
            code = reader.uint(rest, 0, 0)
            return f"panic 0x{code:02x}: {PANICS.get(code, 'unknown')}"
    except AbiError:
        pass
    return f"custom error 0x{chosen.hex()}, {len(rest)} bytes"


def _printable(text: bytes) -> str:
    return "".join(
        character if character.isprintable() else "?" for character in text.decode("utf-8", errors="replace")
    ).strip()
