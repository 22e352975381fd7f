"""Numbers that look random and follow from the seed alone. Standard library only."""

from __future__ import annotations

import hashlib

_BITS = 53


def uniform(seed: int, *labels: str | int) -> float:
    """Return the number in [0, 1) that belongs to `labels`: the same on every machine and Python."""
    text = "/".join(str(part) for part in (seed, *labels))
    digest = hashlib.sha256(text.encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> (64 - _BITS)) / (1 << _BITS)
