"""Transactions that are on their way: from a node's JSON, or from the bytes that were signed.

Types 0 (EIP-155), 1 (EIP-2930), 2 (EIP-1559), 3 (EIP-4844) and 4 (EIP-7702). The sender of signed bytes is recovered from the
signature (ecrecover); what does not recover is malformed.
"""

import coincurve
import msgspec

from mev.chain import rlp
from mev.chain.errors import MalformedAnswerError
from mev.chain.wire import ADDRESS_BYTES, HASH_BYTES, data, fixed, quantity
from mev.domain.market import Address, Hash
from mev.runtime.address import keccak256

MAX_TRANSACTION_BYTES = 512 * 1024
LEGACY, ACCESS_LIST, DYNAMIC_FEE, BLOB, SET_CODE = range(5)
FIRST_LEGACY_BYTE = 0xC0
EIP155_V = 35
# secp256k1's order: a signature's s is in the lower half (EIP-2).
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


class PendingTransaction(msgspec.Struct, frozen=True, kw_only=True):
    """A transaction that is in no block yet, as far as is known. Wei; `to` is None where it creates a contract.

    Where a transaction has one gas price, both fees are that price.
    """

    hash: Hash
    sender: Address
    to: Address | None
    nonce: int
    value_wei: int
    gas_limit: int
    max_fee_wei: int
    max_priority_fee_wei: int
    data: bytes
    kind: int
    chain_id: int | None


class WireTransaction(msgspec.Struct, frozen=True, rename="camel"):
    """A transaction as nodes write it in JSON."""

    hash: str
    from_: str = msgspec.field(name="from")
    nonce: str
    value: str
    gas: str
    input: str
    to: str | None = None
    gas_price: str | None = None
    max_fee_per_gas: str | None = None
    max_priority_fee_per_gas: str | None = None
    type: str | None = None
    chain_id: str | None = None
    block_hash: str | None = None

    def transaction(self) -> PendingTransaction:
        """Return it decoded; raises MalformedAnswerError."""
        price = self.max_fee_per_gas or self.gas_price
        if price is None:
            raise MalformedAnswerError("a transaction offers no price for gas")
        return PendingTransaction(
            hash=fixed(self.hash, HASH_BYTES),
            sender=fixed(self.from_, ADDRESS_BYTES),
            to=None if self.to is None else fixed(self.to, ADDRESS_BYTES),
            nonce=quantity(self.nonce),
            value_wei=quantity(self.value),
            gas_limit=quantity(self.gas),
            max_fee_wei=quantity(price),
            max_priority_fee_wei=quantity(self.max_priority_fee_per_gas or price),
            data=data(self.input),
            kind=quantity(self.type or "0x0"),
            chain_id=None if self.chain_id is None else quantity(self.chain_id),
        )


# Of each type: how many fields it has, signature included, and where nonce, fees, gas, to, value, data and signature stand.
_LAYOUTS = {
    ACCESS_LIST: (11, 1, 2, 2, 3, 4, 5, 6, 8),
    DYNAMIC_FEE: (12, 1, 2, 3, 4, 5, 6, 7, 9),
    BLOB: (14, 1, 2, 3, 4, 5, 6, 7, 11),
    SET_CODE: (13, 1, 2, 3, 4, 5, 6, 7, 10),
}
LEGACY_FIELDS = 9


def decode_signed(raw: bytes) -> PendingTransaction:
    """Return a signed transaction's content and its sender; raises MalformedAnswerError and nothing else."""
    if not raw or len(raw) > MAX_TRANSACTION_BYTES:
        raise MalformedAnswerError(f"a transaction of {len(raw)} bytes; 1 to {MAX_TRANSACTION_BYTES} are possible")
    return _legacy(raw) if raw[0] >= FIRST_LEGACY_BYTE else _typed(raw)


def _legacy(raw: bytes) -> PendingTransaction:
    fields = _fields(raw, LEGACY_FIELDS)
    nonce, price, gas, to, value, payload = fields[:6]
    v = rlp.integer(fields[6])
    if v >= EIP155_V:
        chain_id, odd = divmod(v - EIP155_V, 2)
        signed = [*fields[:6], _bytes(chain_id), b"", b""]
    elif v in {27, 28}:
        chain_id, odd = 0, v - 27
        signed = fields[:6]
    else:
        raise MalformedAnswerError(f"a transaction's v is {v}")
    return PendingTransaction(
        hash=keccak256(raw),
        sender=_recover(keccak256(rlp.encode(signed)), odd, fields[7:9]),
        to=_to(to),
        nonce=rlp.integer(nonce),
        value_wei=rlp.integer(value),
        gas_limit=rlp.integer(gas),
        max_fee_wei=rlp.integer(price),
        max_priority_fee_wei=rlp.integer(price),
        data=_data(payload),
        kind=LEGACY,
        chain_id=chain_id or None,
    )


def _typed(raw: bytes) -> PendingTransaction:
    kind = raw[0]
    if kind not in _LAYOUTS:
        raise MalformedAnswerError(f"a transaction of type {kind}; 0 to 4 are known")
    count, nonce, priority, fee, gas, to, value, payload, signature = _LAYOUTS[kind]
    fields = _fields(raw[1:], count)
    odd = rlp.integer(fields[signature])
    if odd > 1:
        raise MalformedAnswerError(f"a transaction's y parity is {odd}")
    return PendingTransaction(
        hash=keccak256(raw),
        sender=_recover(
            keccak256(raw[:1] + rlp.encode(fields[:signature])), odd, fields[signature + 1 : signature + 3]
        ),
        to=_to(fields[to]),
        nonce=rlp.integer(fields[nonce]),
        value_wei=rlp.integer(fields[value]),
        gas_limit=rlp.integer(fields[gas]),
        max_fee_wei=rlp.integer(fields[fee]),
        max_priority_fee_wei=rlp.integer(fields[priority]),
        data=_data(fields[payload]),
        kind=kind,
        chain_id=rlp.integer(fields[0]),
    )


def _fields(encoded: bytes, count: int) -> list[rlp.Item]:
    fields = rlp.decode(encoded)
    if not isinstance(fields, list) or len(fields) != count:
        raise MalformedAnswerError(f"a transaction is a list of {count} fields")
    return fields


def _to(item: rlp.Item) -> Address | None:
    return rlp.fixed(item, 0, ADDRESS_BYTES) or None


def _data(item: rlp.Item) -> bytes:
    if not isinstance(item, bytes):
        raise MalformedAnswerError("a transaction's data is a list")
    return item


def _bytes(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def _recover(digest: bytes, odd: int, signature: list[rlp.Item]) -> Address:
    r, s = (rlp.integer(part) for part in signature)
    if not (0 < r < ORDER and 0 < s <= ORDER // 2):
        raise MalformedAnswerError("a transaction's signature is out of range")
    packed = r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes([odd])
    try:
        key = coincurve.PublicKey.from_signature_and_message(packed, digest, hasher=None)
    except Exception as error:  # noqa: BLE001 - coincurve raises plain Exception for bytes that are no signature
        raise MalformedAnswerError(f"a transaction's signature recovers nobody: {error}") from None
    return keccak256(key.format(compressed=False)[1:])[-ADDRESS_BYTES:]
