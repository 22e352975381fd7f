"""The Engine API's JWT: HS256 over the shared 32 bytes, `iat` within 60 seconds."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from pathlib import Path

from lab.standins.client.arguments import RefusedError

ALLOWED_SECONDS = 60
SECRET_BYTES = 32


def secret_in(path: Path) -> bytes:
    """The shared secret; RefusedError where the file is missing or does not hold 32 bytes in hexadecimal."""
    try:
        secret = bytes.fromhex(path.read_text().strip().removeprefix("0x"))
    except (OSError, ValueError) as error:
        raise RefusedError(f"failed to read the JWT secret {path}: {error}") from error
    if len(secret) != SECRET_BYTES:
        raise RefusedError(f"invalid JWT secret {path}: expected {SECRET_BYTES} bytes, got {len(secret)}")
    return secret


def made(secret: bytes) -> str:
    """A token of now."""
    signed = f"{_encode({'alg': 'HS256', 'typ': 'JWT'})}.{_encode({'iat': int(time.time())})}"
    return f"{signed}.{_base64(hmac.digest(secret, signed.encode(), hashlib.sha256))}"


def accepted(secret: bytes, header: str) -> bool:
    """Whether an Authorization header holds a token of ours that is young enough."""
    scheme, _, token = header.partition(" ")
    # A header may hold any bytes; those that are no text arrive as surrogates, which only this encoding takes.
    signed, _, signature = token.strip().encode("utf-8", "surrogateescape").rpartition(b".")
    expected = _base64(hmac.digest(secret, signed, hashlib.sha256)).encode()
    if scheme.lower() != "bearer" or not hmac.compare_digest(expected, signature):
        return False
    try:
        algorithm, claims = (json.loads(base64.urlsafe_b64decode(part + b"==")) for part in signed.split(b"."))
        issued = claims["iat"]
        return algorithm["alg"] == "HS256" and abs(time.time() - float(issued)) <= ALLOWED_SECONDS
    except (ValueError, KeyError, TypeError, OverflowError):
        return False


def _encode(part: dict[str, object]) -> str:
    return _base64(json.dumps(part, separators=(",", ":")).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
