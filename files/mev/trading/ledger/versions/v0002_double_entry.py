"""Double entry: each amount leaves an account and reaches another; and what an opportunity held after each hop."""

from alembic import op
from sqlalchemy import CheckConstraint, Column, Connection, Index, MetaData, Table, Text, UniqueConstraint, insert, text

from mev.runtime.storage import BigNumber, refuse_changes

revision = "0002"
down_revision = "0001"

NATIVE = "0x" + "00" * 20
BATCH = 1000

metadata = MetaData()

entries = Table(
    "entries",
    metadata,
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
    # Reading a receipt twice, after a crash, books nothing twice.
    UniqueConstraint("chain", "transaction", "kind", "token", "credit", "debit", name="entries_once"),
    CheckConstraint("substr(amount, 1, 1) <> '-'", name="entries_amount"),
    CheckConstraint("credit <> debit", name="entries_accounts"),
    Index("entries_of_opportunity", "opportunity"),
    Index("entries_since", "chain", "at_ns"),
)


VIEW = """
CREATE VIEW postings AS
SELECT seq AS entry, chain, transaction, kind, token, debit AS account, amount FROM entries
UNION ALL
SELECT seq, chain, transaction, kind, token, credit, CASE amount WHEN '0' THEN '0' ELSE '-' || amount END FROM entries
"""


def upgrade() -> None:
    """Book every single entry of before with the account that it came from or went to."""
    connection = op.get_bind()
    op.add_column("opportunities", Column("held", Text))
    op.drop_index("entries_by_opportunity", "entries")
    op.drop_index("entries_by_time", "entries")
    op.rename_table("entries", "entries_0001")
    metadata.create_all(connection)
    _copy(connection)
    # The triggers that would refuse it stand on its rows, not on the table.
    op.drop_table("entries_0001")
    refuse_changes(connection, "entries")
    connection.execute(text(VIEW.replace("transaction", '"transaction"')))


def downgrade() -> None:
    """The copy that was kept before the migration is the way back."""
    raise NotImplementedError("put back the copy that was kept before the migration")


def _copy(connection: Connection) -> None:
    last = 0
    query = text("SELECT * FROM entries_0001 WHERE seq > :last ORDER BY seq LIMIT :batch")
    while rows := connection.execute(query, {"last": last, "batch": BATCH}).mappings().all():
        booked = []
        for row in rows:
            credit, debit = _accounts(row["kind"], row["token"], negative=row["amount"].startswith("-"))
            booked.append({**row, "amount": row["amount"].removeprefix("-"), "credit": credit, "debit": debit})
        connection.execute(insert(entries), booked)
        last = rows[-1]["seq"]
    if last and connection.dialect.name == "postgresql":
        connection.execute(text("SELECT setval(pg_get_serial_sequence('entries', 'seq'), :last)"), {"last": last})


def _accounts(kind: str, token: str, *, negative: bool) -> tuple[str, str]:
    """From where and to where: a native coin was the signer's, anything else the executor's."""
    own = "signer" if token == NATIVE else "executor"
    other = {"gas": "gas", "swap_profit": "market"}.get(kind, "equity")
    return (own, other) if negative else (other, own)
