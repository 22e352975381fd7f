"""Versions of a database's tables: Alembic's migrations, which the package carries and each writer runs when it starts."""

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import Connection, inspect, text

from mev.runtime.storage.backend import Backend, NoDatabaseError, StorageError

if TYPE_CHECKING:
    from mev.runtime.storage.database import Database

ENVIRONMENT = Path(__file__).parent / "environment"


class Schema(msgspec.Struct, frozen=True):
    """Tables that belong together: a name, and the directory with their migrations, numbered 0001 and on."""

    name: str
    versions: Path

    @property
    def version_table(self) -> str:
        """Where a database says which version it has."""
        return f"{self.name}_version"

    def known(self) -> list[str]:
        """Every version there is, oldest first; a migration's file is named by it."""
        return sorted(path.name[1:5] for path in self.versions.glob("v[0-9][0-9][0-9][0-9]*.py"))


def prepare(database: "Database", backend: Backend, schema: Schema, *, read_only: bool) -> None:
    """Do what Database.prepare says."""
    known = schema.known()
    head = known[-1]
    with database.begin() as connection:
        before = _version(connection, backend, schema)
    if before is not None and before not in known:
        raise StorageError(
            f"{backend.name} has schema version {before}, newer than this program's, {head}: run the release that wrote it, "
            "or put back a copy from before its migration"
        )
    if before == head:
        return
    if read_only:
        raise NoDatabaseError(
            f"{backend.name} has schema version {before or 'none'}, this program reads version {head}: the agent that "
            "writes it brings it there when it starts"
        )
    if before is not None:
        backend.keep_copy(before)
    from mev.runtime.storage.migration import migrate  # noqa: PLC0415 - half a second that most starts can do without

    with database.begin() as connection:
        # Another process may have been here while we waited for the lock.
        now = found(connection, schema)
        if now != head:
            migrate(connection, schema, known_as=_version(connection, backend, schema) if now is None else None)
            backend.migrated(connection, head)


def found(connection: Connection, schema: Schema) -> str | None:
    """Return the version that a database says it has, None where it says none."""
    if not inspect(connection).has_table(schema.version_table):
        return None
    said = connection.execute(text(f"SELECT version_num FROM {schema.version_table}")).scalar_one_or_none()  # noqa: S608
    return None if said is None else str(said)


def refuse_changes(connection: Connection, table: str) -> None:
    """Have the database itself refuse to change or delete a table's rows, with an IntegrityError."""
    if connection.dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            connection.exec_driver_sql(
                f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )
        return
    connection.exec_driver_sql(
        "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION '%% is append-only', TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation'; END $$"
    )
    connection.exec_driver_sql(
        f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
    )


def _version(connection: Connection, backend: Backend, schema: Schema) -> str | None:
    """Return what is found, or what a release before the migrations wrote; raises StorageError at strangers' tables."""
    if (said := found(connection, schema)) is not None:
        return said
    if legacy := backend.legacy_version(connection):
        return f"{legacy:04d}"
    if backend.exclusive and (strange := inspect(connection).get_table_names()):
        raise StorageError(
            f"{backend.name} is another program's database: it has the table {strange[0]} and no schema version"
        )
    return None
