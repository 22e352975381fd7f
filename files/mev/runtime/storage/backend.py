"""What a kind of database is asked for, and what can go wrong with one."""

from typing import Protocol

from sqlalchemy import Connection, Engine

# How long a writer waits for another one's transaction.
BUSY_SECONDS = 10.0


class StorageError(Exception):
    """A database cannot be used; one sentence names it, what is wrong and the way out."""


class NoDatabaseError(StorageError):
    """There is no such database, or none of this version, yet."""


class Backend(Protocol):
    """One database of one kind. Errors of the driver pass through unless it says otherwise."""

    name: str
    engine: Engine
    # Whether it is for one schema's tables alone, so that any other table in it is a stranger's.
    exclusive: bool

    def check_integrity(self) -> None:
        """Raise StorageError where the database is damaged or is none."""

    def check_thoroughly(self, connection: Connection) -> None:
        """Raise StorageError where anything in it is damaged, however long it takes to look."""

    def begun(self, connection: Connection) -> None:
        """Make the transaction that has just begun the only one that writes."""

    def legacy_version(self, connection: Connection) -> int:
        """The version that releases before the migrations wrote into it; 0 where none did."""

    def migrated(self, connection: Connection, revision: str) -> None:
        """Tell those releases, in their own way, which version it has now."""

    def keep_copy(self, revision: str) -> None:
        """Keep what is there before a migration leads away from a revision."""

    def claim(self) -> None:
        """Be its only engine until `close`; raises StorageError where another one is."""

    def close(self) -> None:
        """Close every connection, and give up the claim."""
