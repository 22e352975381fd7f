"""Alembic, which takes a while to import, and which only a database that is not of this version yet needs."""

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

from mev.runtime.storage.schema import ENVIRONMENT, Schema


def migrate(connection: Connection, schema: Schema, *, known_as: str | None) -> None:
    """Bring the tables to the newest version, inside the caller's transaction.

    `known_as` is the version that tables have which say none themselves.
    """
    config = Config()
    # Percent signs are the format's own.
    config.set_main_option("script_location", str(ENVIRONMENT).replace("%", "%%"))
    config.set_main_option("version_locations", str(schema.versions).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    config.attributes["connection"] = connection
    config.attributes["version_table"] = schema.version_table
    if known_as is not None:
        command.stamp(config, known_as)
    command.upgrade(config, "head")
