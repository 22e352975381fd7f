"""What a reorganisation takes back: entries have turns (booked, taken back, booked again), and fates revisions."""

from alembic import op
from sqlalchemy import (
    CheckConstraint,
    Column,
    Connection,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from mev.runtime.storage import BigNumber, refuse_changes

revision = "0003"
down_revision = "0002"

ONCE = ("chain", "transaction", "kind", "token", "credit", "debit", "turn")
STEPS = (
    "included>submitted", "reverted>submitted", "expired>submitted",
    "submitted>included", "submitted>reverted", "submitted>expired",
)  # fmt: skip

metadata = MetaData()

revisions = Table(
    "revisions",
    metadata,
    Column("seq", BigNumber, primary_key=True),
    Column("transaction", Text, nullable=False),
    Column("turn", Integer, nullable=False),
    Column("opportunity", Text, nullable=False),
    Column("previous", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at_ns", BigNumber, nullable=False),
    UniqueConstraint("transaction", "turn", name="revisions_once"),
    CheckConstraint(
        "previous || '>' || state IN (" + ", ".join(f"'{step}'" for step in STEPS) + ")", name="revisions_step"
    ),
    Index("revisions_of_opportunity", "opportunity"),
)

entries = Table(
    "entries",
    MetaData(),
    Column("seq", BigNumber, primary_key=True),
    Column("chain", Text, nullable=False),
    Column("opportunity", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("token", Text, nullable=False, comment="the native coin is zero"),
    Column("amount", Text, nullable=False, comment="0 or more"),
    Column("credit", Text, nullable=False, comment="the account that it comes from"),
    Column("debit", Text, nullable=False, comment="the account that it goes to"),
    Column("transaction", Text, nullable=False),
    Column("block_number", BigNumber, nullable=False),
    Column("at_ns", BigNumber, nullable=False),
    Column("block_hash", Text),
    Column("turn", Integer, nullable=False, server_default="0"),
    UniqueConstraint(*ONCE, name="entries_once"),
    CheckConstraint("substr(amount, 1, 1) <> '-'", name="entries_amount"),
    CheckConstraint("credit <> debit", name="entries_accounts"),
    Index("entries_of_opportunity", "opportunity"),
    Index("entries_since", "chain", "at_ns"),
    Index("entries_of_block", "chain", "block_number"),
)

VIEW = """
CREATE VIEW postings AS
SELECT seq AS entry, chain, transaction, kind, token, debit AS account, amount FROM entries
UNION ALL
SELECT seq, chain, transaction, kind, token, credit, CASE amount WHEN '0' THEN '0' ELSE '-' || amount END FROM entries
""".replace("transaction", '"transaction"')


def upgrade() -> None:
    """Every entry that is there is of turn 0; of which block's hash it was nobody wrote down."""
    connection = op.get_bind()
    metadata.create_all(connection)
    refuse_changes(connection, "revisions")
    if connection.dialect.name == "sqlite":
        _rebuild(connection)
        return
    op.add_column("entries", Column("block_hash", Text))
    op.add_column("entries", Column("turn", Integer, nullable=False, server_default="0"))
    op.drop_constraint("entries_once", "entries")
    op.create_unique_constraint("entries_once", "entries", list(ONCE))
    op.create_index("entries_of_block", "entries", ["chain", "block_number"])


def downgrade() -> None:
    """The copy that was kept before the migration is the way back."""
    raise NotImplementedError("put back the copy that was kept before the migration")


def _rebuild(connection: Connection) -> None:
    """SQLite cannot change a constraint: a new table takes the rows of the old one."""
    connection.execute(text("DROP VIEW postings"))
    for index in ("entries_of_opportunity", "entries_since"):
        op.drop_index(index, "entries")
    op.rename_table("entries", "entries_0002")
    entries.create(connection)
    kept = ", ".join(f'"{each.name}"' for each in entries.columns if each.name not in {"block_hash", "turn"})
    connection.execute(text(f"INSERT INTO entries ({kept}) SELECT {kept} FROM entries_0002 ORDER BY seq"))  # noqa: S608
    # The triggers that would refuse it stand on its rows, not on the table.
    op.drop_table("entries_0002")
    refuse_changes(connection, "entries")
    connection.execute(text(VIEW))
