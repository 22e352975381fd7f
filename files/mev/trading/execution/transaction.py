"""EIP-1559 transactions: what is signed, and the hash that the chain will know it by."""

from types import TracebackType
from typing import Self

import coincurve
import msgspec

from mev.chain.abi import keccak256
from mev.domain.market import Address, Hash

# The type byte of a dynamic-fee transaction (EIP-2718, EIP-1559).
DYNAMIC_FEE = b"\x02"
RLP_LONG = 55
KEY_BYTES = 32


class Transaction(msgspec.Struct, frozen=True, kw_only=True):
    """A dynamic-fee transaction with an empty access list; fees are wei for one unit of gas."""

    chain_id: int
    nonce: int
    max_priority_fee_wei: int
    max_fee_wei: int
    gas_limit: int
    to: Address
    value_wei: int = 0
    data: bytes = b""


class SignedTransaction(msgspec.Struct, frozen=True):
    """What eth_sendRawTransaction takes, and the hash that receipts are found by."""

    raw: bytes
    hash: Hash


class Signer:
    """Holds one secp256k1 key and never shows it."""

    def __init__(self, secret: bytes) -> None:
        """Take the key's 32 bytes; raises ValueError where they are no key of the curve."""
        if len(secret) != KEY_BYTES:
            raise ValueError(f"a signing key is {KEY_BYTES} bytes, not {len(secret)}")
        self._key = coincurve.PrivateKey(secret)
        self.address: Address = keccak256(self._key.public_key.format(compressed=False)[1:])[12:]

    def __repr__(self) -> str:
        return f"Signer(0x{self.address.hex()})"

    def sign(self, transaction: Transaction) -> SignedTransaction:
        """Sign as EIP-1559 says; the same transaction always gives the same bytes (RFC 6979)."""
        digest = keccak256(DYNAMIC_FEE + _list(_fields(transaction)))
        signature = self._key.sign_recoverable(digest, hasher=None)
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
        raw = encode_signed(transaction, signature[64], r, s)
        return SignedTransaction(raw=raw, hash=keccak256(raw))

    async def signed(self, transaction: Transaction) -> SignedTransaction:
        """Sign at once, as who may take time does (mev.trading.execution.signers)."""
        return self.sign(transaction)

    async def __aenter__(self) -> Self:
        """Return itself: there is nothing to open."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave everything as it is."""


def encode_signed(transaction: Transaction, y_parity: int, r: int, s: int) -> bytes:
    """Return the bytes that a transaction and its signature are sent as."""
    return DYNAMIC_FEE + _list([*_fields(transaction), _integer(y_parity), _integer(r), _integer(s)])


def _fields(transaction: Transaction) -> list[bytes]:
    return [
        _integer(transaction.chain_id),
        _integer(transaction.nonce),
        _integer(transaction.max_priority_fee_wei),
        _integer(transaction.max_fee_wei),
        _integer(transaction.gas_limit),
        _string(transaction.to),
        _integer(transaction.value_wei),
        _string(transaction.data),
        _list([]),
    ]


def _integer(number: int) -> bytes:
    return _string(number.to_bytes((number.bit_length() + 7) // 8, "big"))


def _string(content: bytes) -> bytes:
    if len(content) == 1 and content[0] < 0x80:
        return content
    return _prefix(0x80, len(content)) + content


def _list(encoded: list[bytes]) -> bytes:
    content = b"".join(encoded)
    return _prefix(0xC0, len(content)) + content


def _prefix(base: int, length: int) -> bytes:
    if length <= RLP_LONG:
        return bytes([base + length])
    size = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([base + RLP_LONG + len(size)]) + size
