r"""On which line of a TOML document each key stands: tomllib tells it of what it cannot parse alone.

    >>> lines("[risk]\nmax_gas = 1\n")
    {'risk': 1, 'risk.max_gas': 2}

The document is known to be TOML 1.0: tomllib has parsed it. Keys are written as mev.runtime.structure writes them: joined by dots, an
array's items by their numbers from 0 (`chains.ethereum.tokens[1].decimals`).
"""

import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

_TOKEN = re.compile(
    r"""
    (?P<skip>[ \t\r]+|\#[^\n]*)
    | (?P<newline>\n)
    | (?P<text>\"{3}(?:\\[\s\S]|[^\\])*?\"{3,5} | '{3}[\s\S]*?'{3,5} | "(?:\\.|[^"\\\n])*" | '[^'\n]*')
    | (?P<bare>[A-Za-z0-9_+:-]+)
    | (?P<mark>[][{}=,.])
    """,
    re.VERBOSE,
)


# How tomllib ends its complaints, and what a line begins with that gives a key its value.
_STOPPED_AT = re.compile(r"line ([0-9]+), column")
_KEY = re.compile(r"\s*([A-Za-z0-9_.-]+)\s*=")


class _Token(NamedTuple):
    """A piece of the document; `kind` is the group that it matched, or "end"."""

    kind: str
    text: str
    line: int


def lines(document: str) -> dict[str, int]:
    """Return each key's line, from 1; a table's is its header's, or where it is first mentioned."""
    return _Reader(document).read()


def nearest(places: dict[str, int], where: str) -> int | None:
    """Return the line of a key or, where it is not there, of the table that it is missing in; None for the document itself."""
    while where and where not in places:
        cut = max(where.rfind("."), where.rfind("["))
        where = where[:cut] if cut > 0 else ""
    return places.get(where)


def complaint(document: str, why: str) -> str:
    """Return tomllib's complaint behind a file's name: the line that it stopped at, and the key on it.

    Nothing else of that line is shown: what stands behind a key may be a secret.
    """
    told, found, place = why.partition(" (at ")
    if not found:
        return f" is not TOML: {why}"
    rows = document.split("\n")
    stopped = _STOPPED_AT.match(place)
    # "at end of document": what is not closed is somewhere above it.
    number = int(stopped[1]) if stopped else len(rows)
    key = _KEY.match(rows[number - 1])
    return f":{number}: {f'{key[1]} ' if key else ''}is not TOML: {told}"


class _Reader:
    def __init__(self, document: str) -> None:
        self._tokens = _tokens(document)
        self._ahead = next(self._tokens)
        self._lines: dict[str, int] = {}
        # How many items each array of tables has so far.
        self._items: Counter[str] = Counter()

    def read(self) -> dict[str, int]:
        table = ""
        while self._ahead.kind != "end":
            if self._ahead.kind == "newline":
                self._take()
            elif self._ahead.text == "[":
                table = self._header()
            else:
                self._assignment(table)
        return self._lines

    def _take(self) -> _Token:
        token, self._ahead = self._ahead, next(self._tokens)
        return token

    def _header(self) -> str:
        line = self._take().line
        repeated = self._ahead.text == "["
        if repeated:
            self._take()
        where = self._key("", line)
        if repeated:
            self._lines.setdefault(where, line)
            where = f"{where}[{self._items[where]}]"
            self._items[where.rpartition("[")[0]] += 1
            self._take()
        self._take()
        self._lines[where] = line
        return where

    def _assignment(self, table: str) -> None:
        line = self._ahead.line
        where = self._key(table, line)
        self._lines[where] = line
        self._take()
        self._value(where)

    def _key(self, table: str, line: int) -> str:
        """Read a key up to what ends it: dotted, its parts bare or quoted."""
        where = table
        while True:
            part = self._take()
            name = tomllib.loads(f"key = {part.text}")["key"] if part.kind == "text" else part.text
            where = f"{where}.{name}" if where else name
            if self._ahead.text != ".":
                return where
            self._take()
            self._lines.setdefault(where, line)
            if where in self._items:
                where = f"{where}[{self._items[where] - 1}]"

    def _value(self, where: str) -> None:
        opening = self._take()
        number = 0
        match opening.text:
            case "[":
                while (token := self._next_item()).text != "]":
                    item = f"{where}[{number}]"
                    self._lines[item] = token.line
                    self._value(item)
                    number += 1
                self._take()
            case "{":
                while self._next_item().text != "}":
                    self._assignment(where)
                self._take()
            case _:
                # A float, a date and a time are several pieces.
                while self._ahead.kind in {"bare", "text"} or self._ahead.text == ".":
                    self._take()

    def _next_item(self) -> _Token:
        while self._ahead.kind == "newline" or self._ahead.text == ",":
            self._take()
        return self._ahead


def _tokens(document: str) -> Iterator[_Token]:
    line, position = 1, 0
    while found := _TOKEN.match(document, position):
        kind = found.lastgroup or ""
        if kind != "skip":
            yield _Token(kind, found[0], line)
        line += found[0].count("\n")
        position = found.end()
    while True:
        yield _Token("end", "", line)
