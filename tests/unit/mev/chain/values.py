"""Values of ABI types for property tests."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st


def strategy(kind: str) -> st.SearchStrategy[Any]:
    """Draw a value as eth_abi takes it and as our decoders give it."""
    if kind.endswith("]"):
        item, _, size = kind[:-1].partition("[")
        least, most = (int(size), int(size)) if size else (0, 5)
        return st.lists(strategy(item), min_size=least, max_size=most).map(tuple)
    if kind == "address":
        return st.binary(min_size=20, max_size=20)
    if kind == "bytes32":
        return st.binary(min_size=32, max_size=32)
    if kind == "bool":
        return st.booleans()
    if kind.startswith("uint"):
        return st.integers(0, 2 ** int(kind[4:]) - 1)
    bits = int(kind[3:]) - 1
    return st.integers(-(2**bits), 2**bits - 1)
