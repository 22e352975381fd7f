"""The stand-ins' Engine API lets in who holds the secret, now, and nobody else."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

import pytest

from lab.standins.client import token
from lab.standins.client.arguments import RefusedError

SECRET, OTHER = b"s" * 32, b"o" * 32


def signed(secret: bytes = SECRET, *, header: Any = None, claims: Any = None) -> str:
    parts = [header or {"alg": "HS256"}, {"iat": time.time()} if claims is None else claims]
    text = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts)
    signature = base64.urlsafe_b64encode(hmac.digest(secret, text.encode(), hashlib.sha256)).rstrip(b"=").decode()
    return f"{text}.{signature}"


def test_a_token_of_now_is_accepted() -> None:
    assert token.accepted(SECRET, f"Bearer {token.made(SECRET)}")
    assert token.accepted(SECRET, f"bearer  {signed()}")


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer .",
        "Bearer ..",
        f"Basic {signed()}",
        signed(),
        f"Bearer {signed(OTHER)}",
        f"Bearer {signed()}x",
        f"Bearer {signed(header={'alg': 'none'})}",
        f"Bearer {signed(header=['HS256'])}",
        f"Bearer {signed(claims={'iat': time.time() - 3600})}",
        f"Bearer {signed(claims={'iat': time.time() + 3600})}",
        f"Bearer {signed(claims={'iat': 'now'})}",
        f"Bearer {signed(claims={'iat': 1e999})}",
        f"Bearer {signed(claims={})}",
        f"Bearer {signed(claims=[])}",
        "Bearer \udcff.\udcff.\udcff",
        "Bearer " + "a" * 100_000,
    ],
)
def test_everything_else_is_not(header: str) -> None:
    assert not token.accepted(SECRET, header)


def test_the_secret_may_begin_with_0x_and_end_with_a_line(tmp_path: Path) -> None:
    path = tmp_path / "jwt"
    for text in (SECRET.hex(), f"0x{SECRET.hex()}\n"):
        path.write_text(text)
        assert token.secret_in(path) == SECRET


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("ab" * 31, "expected 32 bytes, got 31"), ("", "got 0"), ("no hex", "failed to read the JWT secret")],
)
def test_a_wrong_secret_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "jwt"
    path.write_text(text)
    with pytest.raises(RefusedError, match=sentence):
        token.secret_in(path)


def test_a_missing_secret_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="failed to read the JWT secret"):
        token.secret_in(tmp_path / "none")
