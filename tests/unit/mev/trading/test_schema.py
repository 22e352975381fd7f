"""The ledger's migrations: from each version to the newest, on both kinds of database, and nothing lost on the way."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from mev.domain import Account
from mev.insight import record
from mev.runtime.storage import Database, Schema, StorageError
from mev.trading.ledger import Booked, Ledger, tables
from sqlalchemy import MetaData, text
from sqlalchemy.exc import IntegrityError

from tests.unit.mev.trading.conftest import NATIVE

if TYPE_CHECKING:
    from pathlib import Path

    from mev.runtime.storage import Location

ZERO = bytes(20)
OLD = [
    # kind, token, amount
    ("funding", ZERO, "1000"),
    ("funding", NATIVE, "0"),
    ("gas", ZERO, "-7"),
    ("funding", ZERO, "-50"),
    ("funding", NATIVE, "50"),
    ("swap_profit", NATIVE, str(2**80)),
    ("swap_profit", NATIVE, "-3"),
]


@pytest.mark.parametrize(
    ("schema", "metadata"),
    [(tables.SCHEMA, tables.metadata), (record.SCHEMA, record.metadata)],
    ids=["ledger", "performance"],
)
def test_the_migrations_make_what_queries_are_written_for(
    location: Location, schema: Schema, metadata: MetaData
) -> None:
    database = Database(location)
    database.prepare(schema)
    with database.begin() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": schema.version_table, "compare_type": True}
        )
        differences = [each for each in compare_metadata(context, metadata) if "comment" not in str(each)]
    assert differences == []


def old_ledger(directory: Path, location: Location) -> None:
    """A ledger as the first version left it, with every kind of entry."""
    first = directory / "first"
    first.mkdir()
    (first / "v0001.py").write_text((tables.SCHEMA.versions / "v0001_opportunities.py").read_text())
    database = Database(location)
    database.prepare(Schema("ledger", first))
    with database.begin() as connection:
        for number, (kind, token, amount) in enumerate(OLD):
            connection.execute(
                text(
                    'INSERT INTO entries (chain, opportunity, kind, token, amount, "transaction", block_number, at_ns) '
                    "VALUES ('ethereum', 'a', :kind, :token, :amount, :transaction, 1, 1)"
                ),
                {
                    "kind": kind,
                    "token": "0x" + token.hex(),
                    "amount": amount,
                    "transaction": f"0x{max(number - 1, 0):064x}",
                },
            )
    database.close()


def test_single_entries_become_double_ones(location: Location, tmp_path: Path) -> None:
    old_ledger(tmp_path, location)
    ledger = Ledger(database := Database(location))
    assert ledger.balance("ethereum", Account.SIGNER, ZERO) == 1000 - 7 - 50
    assert ledger.balance("ethereum", Account.EXECUTOR, NATIVE) == 50 + 2**80 - 3
    assert ledger.balance("ethereum", Account.GAS, ZERO) == 7
    assert ledger.balance("ethereum", Account.MARKET, NATIVE) == 3 - 2**80
    assert ledger.opened("ethereum") == {(Account.SIGNER, ZERO), (Account.EXECUTOR, NATIVE)}
    with database.begin() as connection:
        numbers = connection.execute(text("SELECT seq FROM entries ORDER BY seq")).scalars().all()
    assert list(numbers) == list(range(1, len(OLD) + 1))
    database.close()


def test_a_file_of_a_release_before_the_migrations_is_taken_over_and_a_copy_kept(tmp_path: Path) -> None:
    path = tmp_path / "mev_opportunities.db"
    old_ledger(tmp_path, path)
    # Those releases had no version table, only SQLite's own number.
    with sqlite3.connect(path) as old:
        old.execute("DROP TABLE ledger_version")
        old.execute("PRAGMA user_version = 1")
    old.close()
    with pytest.raises(StorageError, match=r"has schema version 0001, this program reads version 0005: the agent that"):
        Database(path, read_only=True).prepare(tables.SCHEMA)
    Ledger(Database(path))
    with sqlite3.connect(path) as new:
        assert new.execute("PRAGMA user_version").fetchone() == (5,), "the release before must refuse it"
    with sqlite3.connect(tmp_path / "mev_opportunities.db.0001") as kept:
        assert kept.execute("PRAGMA user_version").fetchone() == (1,)
        assert kept.execute("SELECT count(*) FROM entries").fetchone() == (len(OLD),)


def test_entries_of_before_are_of_turn_0_and_stay_append_only(tmp_path: Path, location: Location) -> None:
    second = tmp_path / "second"
    second.mkdir()
    for path in tables.SCHEMA.versions.glob("v000[12]*.py"):
        (second / path.name).write_text(path.read_text())
    before = Database(location)
    before.prepare(Schema("ledger", second))
    with before.begin() as connection:
        connection.execute(
            text(
                'INSERT INTO entries (chain, opportunity, kind, token, amount, credit, debit, "transaction", block_number, at_ns)'
                " VALUES ('ethereum', 'a', 'gas', :token, '7', 'signer', 'gas', :transaction, 5, 1)"
            ),
            {"token": "0x" + ZERO.hex(), "transaction": f"0x{1:064x}"},
        )
    before.close()
    ledger = Ledger(database := Database(location))
    assert ledger.booked_after("ethereum", 4) == [Booked(bytes(31) + b"\x01", 5, None)]
    assert ledger.balance("ethereum", Account.GAS, ZERO) == 7
    with database.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM postings")).scalar_one() == 2
    for verb in ("UPDATE entries SET turn = 1", "DELETE FROM entries"):
        with pytest.raises(IntegrityError, match="entries is append-only"), database.begin() as connection:
            connection.execute(text(verb))
    database.close()
