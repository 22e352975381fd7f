"""Configuration given as data comes out in the client's format, and says the same."""

from __future__ import annotations

import json
import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.plugins import load_plugin

chain_service = load_plugin("chain_service", "filter_plugins", "chain_service")

# TOML forbids DEL and lone surrogates, and JSON writes characters beyond the first plane as two of those.
TEXT = st.text(st.characters(max_codepoint=0xFFFF, exclude_characters="\x7f", exclude_categories=["Cs"]))
SCALAR = st.booleans() | st.integers(-(2**63), 2**63 - 1) | TEXT
DATA = st.recursive(
    st.dictionaries(TEXT, SCALAR | st.lists(SCALAR, max_size=3), max_size=4),
    lambda inner: st.dictionaries(TEXT, SCALAR | inner, max_size=4),
    max_leaves=12,
)


@given(DATA)
def test_toml_says_what_the_data_says(data: dict[str, Any]) -> None:
    assert tomllib.loads(chain_service.chain_service_toml(data)) == data


def test_json_keeps_the_order_of_its_keys() -> None:
    data = {"rpc": 1, "name": {"b": [1], "a": "x"}}
    text = chain_service.chain_service_json(data)
    assert json.loads(text) == data
    assert text.index("rpc") < text.index("name")
    assert text.endswith("}\n")


def test_a_directory_is_below_the_data_path() -> None:
    assert [chain_service.chain_service_directory(name, "/data/x")["path"] for name in ("", "bor/data")] == [
        "/data/x",
        "/data/x/bor/data",
    ]
