"""What SQLite and PostgreSQL say differently, said once."""

from sqlalchemy import BigInteger, Connection, Integer, Table
from sqlalchemy.dialects import postgresql, sqlite

# SQLite's INTEGER has 64 bits, and only a column of exactly that type numbers its rows by itself.
BigNumber = BigInteger().with_variant(Integer(), "sqlite")


def upsert(connection: Connection, table: Table) -> "sqlite.Insert | postgresql.Insert":
    """An INSERT of this connection's database that may say ON CONFLICT."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)
