"""Secrets that the lab makes for itself, under .lab/secrets."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

from eth_account import Account

if TYPE_CHECKING:
    from pathlib import Path

    from lab.checkout import Checkout


def signer_key(checkout: Checkout) -> Path:
    """Return the file (mode 0600) with the engine's key, 64 hex digits; made at random where there is none."""
    path = checkout.state / "secrets" / "signer.key"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(f"{secrets.token_hex(32)}\n")
    return path


def signer_address(checkout: Checkout) -> str:
    """Return the address (EIP-55) that the engine's key signs for."""
    return str(Account.from_key(signer_key(checkout).read_text().strip()).address)
