"""PostgreSQL through psycopg 3, which only hosts that use it have (the package's extra `postgres`).

Writers take one advisory lock each, so that rows are numbered in the order in which they are committed, as in SQLite: who reads
"what is newer than the last row I saw" misses none.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import DBAPIError

from mev.runtime.secret import SecretError, secret
from mev.runtime.storage.backend import BUSY_SECONDS, StorageError
from mev.runtime.storage.location import PostgresLocation

CONNECT_SECONDS = 10
OLDEST_SERVER = 13
CLAIM_SECONDS = 2
LOCK_NOT_AVAILABLE = "55P03"
# Advisory locks have two numbers: ours, and what it is that is locked.
LOCKS = 0x6D6576
WRITER, ENGINE = 1, 2
# What is committed is on the server's disk, whatever the server's own default is; no lock is waited for without end.
SETTINGS = {"synchronous_commit": "on", "timezone": "UTC", "lock_timeout": f"{int(BUSY_SECONDS)}s"}


class PostgresBackend:
    """One database of a server."""

    exclusive = False

    def __init__(self, location: PostgresLocation, *, read_only: bool) -> None:
        self._location = location
        self._claim: Any = None
        self.name = location.url
        self.engine = _engine(location, read_only=read_only)

    def check_integrity(self) -> None:
        """Ask whether the server is there, new enough, and stores text as UTF-8; its pages are its own to check."""
        try:
            with self.engine.connect() as connection:
                version = int(connection.exec_driver_sql("SHOW server_version_num").scalar_one()) // 10_000
                encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
        except DBAPIError as error:
            raise StorageError(f"{self.name} cannot be opened: {_in_a_line(error)}") from None
        if version < OLDEST_SERVER:
            raise StorageError(f"{self.name} is PostgreSQL {version}; allowed: {OLDEST_SERVER} or newer")
        if encoding != "UTF8":
            raise StorageError(f"{self.name} is encoded as {encoding}; allowed: UTF8 (createdb --encoding=UTF8)")

    def check_thoroughly(self, connection: Connection) -> None:
        """Its pages are the server's own to check (data checksums, pg_amcheck)."""

    def begun(self, connection: Connection) -> None:
        """Wait for the writers before; an engine that has lost its claim writes nothing more."""
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCKS}, {WRITER})")
        if (
            self._claim is not None
            and not connection.exec_driver_sql(
                "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid = %s AND classid = %s AND objid = %s"
                " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
                (self._claim.info.backend_pid, LOCKS, ENGINE),
            ).scalar_one_or_none()
        ):
            raise StorageError(
                f"{self.name}: the connection that made this engine the only one is gone: start it again"
            )

    def legacy_version(self, connection: Connection) -> int:  # noqa: ARG002
        """No release before the migrations knew PostgreSQL."""
        return 0

    def migrated(self, connection: Connection, revision: str) -> None:
        """No release before the migrations knew PostgreSQL."""

    def keep_copy(self, revision: str) -> None:
        """Backups are the server's operator's."""

    def claim(self) -> None:
        """Hold an advisory lock in a session of its own.

        The server ends a killed engine's session a moment after the engine: the one that takes its place waits for that.
        """
        connection = _connect(self._location)
        connection.autocommit = True
        connection.execute(f"SET lock_timeout = '{CLAIM_SECONDS}s'")
        try:
            connection.execute(f"SELECT pg_advisory_lock({LOCKS}, {ENGINE})")
        except Exception as error:
            connection.close()
            if getattr(error, "sqlstate", None) != LOCK_NOT_AVAILABLE:
                raise
            raise StorageError(
                f"{self.name} has an engine already: stop it first (it holds an advisory lock)"
            ) from None
        self._claim = connection

    def close(self) -> None:
        """Close every connection, and give up the claim."""
        self.engine.dispose()
        if self._claim is not None:
            self._claim.close()
            self._claim = None


def _engine(location: PostgresLocation, *, read_only: bool) -> Engine:
    # A reader sees one moment. A writer's view begins behind the lock, not before it: each statement has its own.
    settings: Mapping[str, str] = {"default_transaction_read_only": "on"} if read_only else {}
    return create_engine(
        "postgresql+psycopg://",
        creator=lambda: _connect(location, settings),
        isolation_level="REPEATABLE READ" if read_only else "READ COMMITTED",
        pool_pre_ping=True,
    )


def _connect(location: PostgresLocation, settings: Mapping[str, str] = {}) -> Any:  # noqa: ANN401 - psycopg may be absent
    try:
        import psycopg  # noqa: PLC0415 - it may be absent
    except ImportError:
        raise StorageError(f"{location.url} needs psycopg, which is not installed: install mev[postgres]") from None
    options = " ".join(f"-c {key}={value}" for key, value in {**SETTINGS, **settings}.items())
    parameters = {**location.parameters(), "options": options, "connect_timeout": CONNECT_SECONDS}
    if location.password:
        # Read each time: a password that was rotated is the new one for the next connection.
        told = secret(location.password).decode()
        if "user" not in parameters:
            parameters["user"], colon, told = told.partition(":")
            if not colon or not parameters["user"]:
                raise SecretError(f"{location.password} is not USER:PASSWORD, and {location.url} names no user")
        parameters["password"] = told
    return psycopg.connect(**parameters, application_name="mev")


def _in_a_line(error: DBAPIError) -> str:
    return " ".join(str(error.orig).split())
