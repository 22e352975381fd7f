"""A SQLite file: WAL, synchronous FULL; a write transaction takes the lock when it begins, so that none fails half way."""

import fcntl
import os
import sqlite3
from pathlib import Path
from typing import IO

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import ConnectionPoolEntry

from mev.runtime.storage.backend import BUSY_SECONDS, NoDatabaseError, StorageError


class SqliteBackend:
    """One file, whose directory must be there."""

    exclusive = True

    def __init__(self, path: Path, *, read_only: bool) -> None:
        self._path = path
        self._read_only = read_only
        self._claim: IO[bytes] | None = None
        self.name = str(path)
        if read_only and not path.exists():
            raise NoDatabaseError(f"{path} is not there: the agent that writes it makes it when it first starts")
        if not read_only:
            _make(path)
        self.engine = _engine(path, read_only=read_only)

    def check_integrity(self) -> None:
        """Read every page, for one that writes; `mev status` only asks whether it is SQLite."""
        check = "SELECT 'ok' FROM sqlite_schema LIMIT 1" if self._read_only else "PRAGMA quick_check(1)"
        try:
            with self.engine.connect() as connection:
                found = connection.exec_driver_sql(check).scalar()
        except DatabaseError as error:
            if self._read_only and _has_no_journal(error) and os.access(self._path, os.R_OK):
                # Who may not write beside it reads by the journal that the writer keeps there (WAL), and has none without one.
                raise NoDatabaseError(
                    f"{self._path} is read while the agent that writes it runs, which it does not"
                ) from None
            raise StorageError(f"{self._path} cannot be opened as a database: {error.orig}") from None
        if found not in {"ok", None}:
            raise StorageError(f"{self._path} is damaged ({found}): put the last backup in its place")

    def check_thoroughly(self, connection: Connection) -> None:
        """Read every page and index, and follow every reference."""
        found = connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar()
        dangling = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
        if found != "ok" or dangling is not None:
            what = found if found != "ok" else f"a row of {dangling[0]} refers to nothing" if dangling else ""
            raise StorageError(f"{self._path} is damaged ({what}): put the last backup in its place")

    def begun(self, connection: Connection) -> None:
        """BEGIN IMMEDIATE has done it."""

    def legacy_version(self, connection: Connection) -> int:
        """Return user_version, by which releases before the migrations went."""
        return int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())

    def migrated(self, connection: Connection, revision: str) -> None:
        """Those releases refuse a user_version that they do not know."""
        connection.exec_driver_sql(f"PRAGMA user_version = {int(revision):d}")

    def keep_copy(self, revision: str) -> None:
        """Put a copy beside it, which the release before can be given back."""
        copy(self._path, self._path.with_name(f"{self._path.name}.{revision}"))

    def claim(self) -> None:
        """Hold a lock file beside it."""
        lock = self._path.with_name(self._path.name + ".lock")
        own_like_directory(lock)
        file = lock.open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise StorageError(f"{self._path} has an engine already: stop it first (it holds {lock})") from None
        self._claim = file

    def close(self) -> None:
        """Close every connection, and give up the claim."""
        self.engine.dispose()
        if self._claim is not None:
            self._claim.close()
            self._claim = None


def backup(path: Path, directory: Path) -> Path:
    """Copy a database into a directory, under its own name; return where the copy is. Raises StorageError as `copy`."""
    if not path.exists():
        raise NoDatabaseError(f"{path} is not there: the agent that writes it makes it when it first starts")
    target = directory / path.name
    if target.resolve() == path.resolve():
        raise StorageError(f"{directory} is where {path.name} itself is: name another directory for its copy")
    copy(path, target)
    return target


def copy(source: Path, target: Path) -> None:
    """Copy a database of one moment while others write it (SQLite's online backup), checked, whole or not at all.

    Raises StorageError where that cannot be done; what stood at `target` before is then as it was.
    """
    partial = target.with_name(target.name + ".partial")
    try:
        partial.unlink(missing_ok=True)
        own_like_directory(partial)
        read, written = sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True), sqlite3.connect(partial)
        try:
            read.backup(written)
            (found,) = written.execute("PRAGMA integrity_check(1)").fetchone()
            # A copy is one file: a journal beside it would be forgotten when it is moved.
            written.execute("PRAGMA journal_mode = DELETE")
        finally:
            written.close()
            read.close()
        if found != "ok":
            raise StorageError(f"{source} is damaged ({found}): it was not copied to {target}")
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(target)
        _sync_directory(target.parent)
    except (OSError, sqlite3.Error) as error:
        raise StorageError(f"{source} cannot be copied to {target}: {error}") from None
    finally:
        partial.unlink(missing_ok=True)


def own_like_directory(path: Path) -> None:
    """Make the file where it is missing; what root makes belongs to the directory's owner, whose agents must write it."""
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o640)
    except FileExistsError:
        return
    with os.fdopen(descriptor, "wb"):
        if os.geteuid() == 0:
            directory = path.parent.stat()
            os.fchown(descriptor, directory.st_uid, directory.st_gid)


def _has_no_journal(error: DatabaseError) -> bool:
    return isinstance(error.orig, sqlite3.OperationalError) and error.orig.sqlite_errorcode == sqlite3.SQLITE_CANTOPEN


def _make(path: Path) -> None:
    if not path.parent.is_dir():
        raise StorageError(f"{path} cannot be made: its directory is not there")
    try:
        own_like_directory(path)
    except OSError as error:
        raise StorageError(f"{path} cannot be made: {error.strerror}") from None


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
