"""Databases, through SQLAlchemy Core: a SQLite file on one host, PostgreSQL where several hosts share one.

ledger = Database(location)                 # opens it (a missing file is made); checks its integrity
ledger.prepare(SCHEMA)                      # makes the tables or brings them to this version, under a lock
with ledger.begin() as connection: ...      # one transaction

Database(location, read_only=True)          # for `mev status` while the engine writes
"""

from mev.runtime.storage.backend import NoDatabaseError, StorageError
from mev.runtime.storage.database import Database
from mev.runtime.storage.dialect import BigNumber, upsert
from mev.runtime.storage.location import Location, PostgresLocation
from mev.runtime.storage.schema import Schema, refuse_changes
from mev.runtime.storage.sqlite import backup

__all__ = [
    "BigNumber",
    "Database",
    "Location",
    "NoDatabaseError",
    "PostgresLocation",
    "Schema",
    "StorageError",
    "backup",
    "refuse_changes",
    "upsert",
]
