"""Halts and resumptions, as the ledger keeps them."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection, Row, select

from mev.runtime.storage import Database, upsert
from mev.trading.ledger.tables import SCHEMA, switched


class Switched(msgspec.Struct, frozen=True, kw_only=True):
    """One act on one kill switch: `mark` says which file it was, `at_ns` when, ns since 1970."""

    switch: str
    act: Literal["halt", "resume"]
    chains: tuple[str, ...]
    mark: str
    who: str
    origin: str
    reason: str
    at_ns: int


class Audit:
    """Reads and writes the table `switched`; raises StorageError where the ledger cannot be read or written."""

    def __init__(self, database: Database) -> None:
        database.prepare(SCHEMA)
        self._database = database

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """Let nobody else write meanwhile; what is written is there once the context ends without an exception."""
        with self._database.begin() as connection:
            yield connection

    def newest(self, count: int, chain: str | None = None) -> list[Switched]:
        """Return the newest acts, newest first; with a chain only those that concerned it."""
        query = select(switched).order_by(switched.c.seq.desc())
        if chain is not None:
            # The names of chains have neither quotes nor wildcards of LIKE but _, and that one is escaped.
            query = query.where(switched.c.chains.contains(json.dumps(chain), autoescape=True))
        with self._database.begin() as connection:
            return [_switched(row) for row in connection.execute(query.limit(count))]


def last_act(connection: Connection, switch: str) -> Switched | None:
    """Return the newest act on a switch; None where nobody ever touched it."""
    query = select(switched).where(switched.c.switch == switch).order_by(switched.c.seq.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    return None if row is None else _switched(row)


def write_act(connection: Connection, act: Switched) -> None:
    """Write an act; one that is written already stays as it is."""
    row = {**msgspec.structs.asdict(act), "chains": json.dumps(act.chains)}
    connection.execute(upsert(connection, switched).values(row).on_conflict_do_nothing())


def _switched(row: Row[Any]) -> Switched:
    return Switched(
        switch=row.switch,
        act=row.act,
        chains=tuple(json.loads(row.chains)),
        mark=row.mark,
        who=row.who,
        origin=row.origin,
        reason=row.reason,
        at_ns=row.at_ns,
    )
