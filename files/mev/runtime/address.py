"""Keccak-256, and addresses as people write them (EIP-55)."""

from Crypto.Hash import keccak

ADDRESS_BYTES = 20
_HIGH_NIBBLE = 8


class AddressError(ValueError):
    """A text is no address; the message says why."""


def keccak256(data: bytes) -> bytes:
    """Hash as Ethereum does: the original Keccak of 256 bits, not NIST's SHA3-256."""
    return keccak.new(data=data, digest_bits=256).digest()


def checksum(address: bytes) -> str:
    """Write an address's 20 bytes as EIP-55 hex."""
    digits = address.hex()
    digest = keccak256(digits.encode()).hex()
    return "0x" + "".join(
        digit.upper() if int(mark, 16) >= _HIGH_NIBBLE else digit for digit, mark in zip(digits, digest, strict=False)
    )


def parse_address(text: str) -> bytes:
    """Read 0x and 40 hex digits as 20 bytes.

    Raises AddressError also where mixed case shows a checksum that does not hold (EIP-55): one digit is mistyped then.
    """
    digits = text.removeprefix("0x")
    if len(text) != len(digits) + 2 or len(digits) != 2 * ADDRESS_BYTES or not _is_hex(digits):
        raise AddressError("0x and 40 hex digits are expected")
    address = bytes.fromhex(digits)
    if digits not in {digits.lower(), digits.upper()} and checksum(address) != text:
        raise AddressError(
            f"its EIP-55 checksum does not hold: a digit is mistyped, or it should be {checksum(address)}"
        )
    return address


def _is_hex(digits: str) -> bool:
    # bytes.fromhex allows spaces between digits, int() allows underscores: neither is an address.
    return all(digit in "0123456789abcdefABCDEF" for digit in digits)
