"""One database, whatever kind it is of."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, IntegrityError

from mev.runtime.storage import schema as schemas
from mev.runtime.storage.backend import Backend, StorageError
from mev.runtime.storage.location import Location
from mev.runtime.storage.postgres import PostgresBackend
from mev.runtime.storage.sqlite import SqliteBackend


class Database:
    """What a transaction has committed outlives kill -9 and power; writers' transactions run one after the other."""

    def __init__(self, location: Location, *, read_only: bool = False) -> None:
        """Open it; a SQLite file that is missing is made by a writer, and its directory must be there.

        Raises NoDatabaseError where a reader finds no file, StorageError where it cannot be opened or is damaged.
        """
        self._read_only = read_only
        self._backend: Backend = (
            SqliteBackend(location, read_only=read_only)
            if isinstance(location, Path)
            else PostgresBackend(location, read_only=read_only)
        )
        try:
            self._backend.check_integrity()
        except BaseException:
            self.close()
            raise

    @property
    def name(self) -> str:
        """What messages call it: its path, or its URL without a password."""
        return self._backend.name

    @contextlib.contextmanager
    def begin(self) -> Iterator[Connection]:
        """Run one transaction: committed at the end, rolled back on an exception; a reader sees one moment.

        Raises StorageError where the database fails (disk full, locked for 10 s, damaged, gone); IntegrityError stays the
        caller's.
        """
        try:
            with self._backend.engine.begin() as connection:
                if not self._read_only:
                    self._backend.begun(connection)
                yield connection
        except IntegrityError:
            raise
        except DBAPIError as error:
            raise StorageError(f"{self.name}: {_first_line(error)}") from error

    def prepare(self, schema: schemas.Schema) -> None:
        """Bring the tables to this program's version, in one transaction that no other writer can be in; a reader only checks.

        Raises StorageError where the database is of a newer version, is not ours, or (a reader) of an older one.
        """
        schemas.prepare(self, self._backend, schema, read_only=self._read_only)

    def revision(self, schema: schemas.Schema) -> str | None:
        """Return the version of the tables that it has; None where it has none."""
        with self.begin() as connection:
            return schemas.found(connection, schema)

    def check_thoroughly(self) -> None:
        """Look at all of it, indexes and references too, which takes a while; raises StorageError where it is damaged."""
        with self.begin() as connection:
            self._backend.check_thoroughly(connection)

    def claim(self) -> None:
        """Be its only engine until `close`; raises StorageError where another one is."""
        self._backend.claim()

    def close(self) -> None:
        """Close every connection, and give up the claim."""
        self._backend.close()


def _first_line(error: DBAPIError) -> str:
    return str(error.orig).strip().partition("\n")[0]
