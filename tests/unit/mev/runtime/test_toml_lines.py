"""Lines of keys: tomllib is the oracle of which keys there are, and of what stands on the lines that are told."""

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mev.runtime.toml_lines import lines, nearest

DOCUMENT = '''\
title = "a # b" # c

"quoted key".'other' = 1
at = 1979-05-27 07:32:00.5+01:00
ratio = -1.5e-3
text = """
[no.table]
no = 'key'
""""
raw = \'\'\'
[[none]]\'\'\'
list = [ # of two
  { a = 1, b = [2, 3] },
  [

    "]", # "
  ],
]
[deep.er]
x = 1
y.z = 2
[deep]
w = 1
[[many]]
one = 1
[many.sub]
two = 2
[[many]]
one = 3
[[many.inner]]
a = 1
[[many.inner]]
a = 2
'''

LINES = {
    "title": 1,
    "quoted key": 3,
    "quoted key.other": 3,
    "at": 4,
    "ratio": 5,
    "text": 6,
    "raw": 10,
    "list": 12,
    "list[0]": 13,
    "list[0].a": 13,
    "list[0].b": 13,
    "list[0].b[0]": 13,
    "list[0].b[1]": 13,
    "list[1]": 14,
    "list[1][0]": 16,
    "deep": 22,
    "deep.er": 19,
    "deep.er.x": 20,
    "deep.er.y": 21,
    "deep.er.y.z": 21,
    "deep.w": 23,
    "many": 24,
    "many[0]": 24,
    "many[0].one": 25,
    "many[0].sub": 26,
    "many[0].sub.two": 27,
    "many[1]": 28,
    "many[1].one": 29,
    "many[1].inner": 30,
    "many[1].inner[0]": 30,
    "many[1].inner[0].a": 31,
    "many[1].inner[1]": 32,
    "many[1].inner[1].a": 33,
}


def keys(document: object, where: str = "") -> set[str]:
    """Every key of a parsed document, as it is written in messages."""
    match document:
        case dict():
            inner = [(f"{where}.{key}" if where else key, value) for key, value in document.items()]
        case list():
            inner = [(f"{where}[{number}]", value) for number, value in enumerate(document)]
        case _:
            inner = []
    return {key for key, _ in inner}.union(*(keys(value, key) for key, value in inner))


def test_every_key_has_its_line() -> None:
    assert keys(tomllib.loads(DOCUMENT)) == set(LINES)
    assert lines(DOCUMENT) == LINES


def test_windows_line_ends_are_lines() -> None:
    document = DOCUMENT.replace("\n", "\r\n")
    assert keys(tomllib.loads(document)) == set(LINES)
    assert lines(document) == LINES


@pytest.mark.parametrize(
    ("where", "line"),
    [("deep.er.x", 20), ("deep.er.nothing", 19), ("many[1].sub", 28), ("many[7].sub", 24), ("nothing.at.all", None)],
)
def test_what_is_missing_is_missing_in_its_table(where: str, line: int | None) -> None:
    assert nearest(LINES, where) == line


NAMES = ["[a]", "[[a]]", "[a.b]", "[[a.b]]", "a", "b", "'a b'", '"\\u0061"', "."]
VALUES = ["1", "-1.5", "true", '"x#"', "''", '"""', "'''", "1979-05-27 07:32:00"]
PIECES = st.sampled_from([*NAMES, *VALUES, " = ", "=", "\n", "\n", "\n", "[", "]", "{", "}", ",", " ", "# c"])


@given(st.lists(PIECES, max_size=24).map("".join))
def test_whatever_tomllib_reads_has_a_line_for_each_key(document: str) -> None:
    try:
        parsed: dict[str, Any] = tomllib.loads(document)
    except tomllib.TOMLDecodeError:
        return
    found = lines(document)
    assert set(found) == keys(parsed)
    assert all(1 <= line <= document.count("\n") + 1 for line in found.values())
