"""A key that says who sends: it signs messages to builders and sequencers, holds nothing, and is not the one that signs transactions."""

from collections.abc import Mapping

import coincurve

from mev.chain.abi import keccak256
from mev.domain.market import Address

HEADER = "X-Flashbots-Signature"
KEY_BYTES = 32
# What recovery's bit is written as since Bitcoin (yellow paper, appendix F).
FIRST_V = 27


class Identity:
    """Holds one secp256k1 key and never shows it."""

    def __init__(self, key: bytes) -> None:
        """Take the key's 32 bytes; raises ValueError where they are no key of the curve."""
        if len(key) != KEY_BYTES:
            raise ValueError(f"an identity's key is {KEY_BYTES} bytes, not {len(key)}")
        self._key = coincurve.PrivateKey(key)
        self.address: Address = keccak256(self._key.public_key.format(compressed=False)[1:])[12:]

    def __repr__(self) -> str:
        return f"Identity(0x{self.address.hex()})"

    def sign(self, message: bytes) -> bytes:
        """Return the 65 bytes of a signature as wallets give it for a message (EIP-191, version 0x45)."""
        digest = keccak256(b"\x19Ethereum Signed Message:\n%d" % len(message) + message)
        signature = self._key.sign_recoverable(digest, hasher=None)
        return signature[:64] + bytes([FIRST_V + signature[64]])

    def headers(self, body: bytes) -> Mapping[str, str]:
        """Return the header by which builders know who sends a body: a signature of its hash's hex digits."""
        signed = self.sign(f"0x{keccak256(body).hex()}".encode())
        return {HEADER: f"0x{self.address.hex()}:0x{signed.hex()}"}
