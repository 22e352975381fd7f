"""SQLite files, through SQLAlchemy Core: durable for their writers, readable by other processes at any time.

    ledger = Database(path)                     # makes the file; checks its integrity
    ledger.create(metadata)                     # makes the tables, or checks that they are of this version
    with ledger.begin() as connection: ...      # one transaction

    Database(path, read_only=True)              # for `mev status` while the engine writes

Journal: WAL, synchronous FULL: what a transaction has committed outlives kill -9 and power. Writers take the lock when a
transaction begins, so that none fails half way; short transactions of several processes wait for each other. An engine
that must be the only one of its kind says so with `claim`.
"""

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

from sqlalchemy import Connection, Engine, MetaData, create_engine, event, inspect
from sqlalchemy.exc import DatabaseError, IntegrityError
from sqlalchemy.pool import ConnectionPoolEntry

BUSY_SECONDS = 10.0
Migration = Callable[[Connection], None]


class StorageError(Exception):
    """A database cannot be used; one sentence names the file, what is wrong and the way out."""


class NoDatabaseError(StorageError):
    """There is no such file (yet)."""


class Database:
    """One SQLite file."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open the file; a writer makes it where it is missing, and its directory must be there.

        Raises NoDatabaseError where a reader finds no file, StorageError where the file cannot be opened or is damaged.
        """
        self._path = path
        self._read_only = read_only
        self._claim: IO[bytes] | None = None
        if read_only and not path.exists():
            raise NoDatabaseError(f"{path} is not there: the agent that writes it makes it when it first starts")
        if not read_only:
            _make(path)
        self._engine = _engine(path, read_only=read_only)
        try:
            self._check_integrity()
        except BaseException:
            self.close()
            raise

    @property
    def path(self) -> Path:
        """Where it is."""
        return self._path

    @contextlib.contextmanager
    def begin(self) -> Iterator[Connection]:
        """Run one transaction: committed at the end, rolled back on an exception.

        Raises StorageError where SQLite fails (disk full, locked for 10 s, damaged); IntegrityError stays the caller's.
        """
        try:
            with self._engine.begin() as connection:
                yield connection
        except IntegrityError:
            raise
        except DatabaseError as error:
            raise StorageError(f"{self._path}: {error.orig}") from error

    def create(self, metadata: MetaData, migrations: Sequence[Migration] = ()) -> None:
        """Make the tables in a new file, or bring an old file to this version, in one transaction.

        The version is 1 + len(migrations); migration number n leads from version n to n + 1 and stays in the list for
        ever. A reader only checks. Raises StorageError where the file is of another version.
        """
        version = 1 + len(migrations)
        with self.begin() as connection:
            found = self._version(connection)
            if found == 0 and not self._read_only and not inspect(connection).get_table_names():
                metadata.create_all(connection)
            elif 0 < found < version and not self._read_only:
                for migrate in migrations[found - 1 :]:
                    migrate(connection)
            elif found != version:
                raise StorageError(
                    f"{self._path} has schema version {found}, this program reads version {version}: "
                    "run the release that wrote it, or move the file away"
                )
            if not self._read_only:
                connection.exec_driver_sql(f"PRAGMA user_version = {version:d}")

    def claim(self) -> None:
        """Be the only process that does so, until `close`; raises StorageError where another one is."""
        lock = self._path.with_name(self._path.name + ".lock")
        _own_like_directory(lock)
        file = lock.open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise StorageError(f"{self._path} has an engine already: stop it first (it holds {lock})") from None
        self._claim = file

    def close(self) -> None:
        """Close every connection, and give up the claim."""
        self._engine.dispose()
        if self._claim is not None:
            self._claim.close()
            self._claim = None

    def _check_integrity(self) -> None:
        # Reading every page is for the one that writes, once at its start; `mev status` only asks whether it is SQLite.
        check = "SELECT 'ok' FROM sqlite_schema LIMIT 1" if self._read_only else "PRAGMA quick_check(1)"
        try:
            with self._engine.connect() as connection:
                found = connection.exec_driver_sql(check).scalar()
        except DatabaseError as error:
            raise StorageError(f"{self._path} cannot be opened as a database: {error.orig}") from None
        if found not in {"ok", None}:
            raise StorageError(f"{self._path} is damaged ({found}): put the last backup in its place")

    @staticmethod
    def _version(connection: Connection) -> int:
        return int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())


def _make(path: Path) -> None:
    if not path.parent.is_dir():
        raise StorageError(f"{path} cannot be made: its directory is not there")
    try:
        _own_like_directory(path)
    except OSError as error:
        raise StorageError(f"{path} cannot be made: {error.strerror}") from None


def _own_like_directory(path: Path) -> None:
    """Make the file where it is missing; what root makes belongs to the directory's owner, whose agents must write it."""
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o640)
    except FileExistsError:
        return
    with os.fdopen(descriptor, "wb"):
        if os.geteuid() == 0:
            directory = path.parent.stat()
            os.fchown(descriptor, directory.st_uid, directory.st_gid)


def _engine(path: Path, *, read_only: bool) -> Engine:
    uri = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rw'}"

    def connect() -> sqlite3.Connection:
        # Transactions are begun below, not by the driver, which would begin them late and without the lock.
        return sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)

    engine = create_engine("sqlite://", creator=connect)

    @event.listens_for(engine, "connect")
    def _set_up(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
        connection.execute("PRAGMA foreign_keys = ON")
        # Without it INSERT OR REPLACE deletes rows past the triggers that would refuse it.
        connection.execute("PRAGMA recursive_triggers = ON")
        if not read_only:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine
