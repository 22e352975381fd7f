"""Who halted and resumed which chains, append-only."""

from alembic import op
from sqlalchemy import CheckConstraint, Column, Index, MetaData, Table, Text, UniqueConstraint

from mev.runtime.storage import BigNumber, refuse_changes

revision = "0004"
down_revision = "0003"

metadata = MetaData()

switched = Table(
    "switched",
    metadata,
    Column("seq", BigNumber, primary_key=True),
    Column("switch", Text, nullable=False),
    Column("act", Text, nullable=False),
    Column("chains", Text, nullable=False),
    Column("mark", Text, nullable=False),
    Column("who", Text, nullable=False),
    Column("origin", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at_ns", BigNumber, nullable=False),
    UniqueConstraint("switch", "act", "mark", name="switched_once"),
    CheckConstraint("act IN ('halt', 'resume')", name="switched_act"),
    Index("switched_by_switch", "switch", "seq"),
)


def upgrade() -> None:
    """What was halted before it is noted by the engine, which finds the switch's file when it starts."""
    connection = op.get_bind()
    metadata.create_all(connection)
    refuse_changes(connection, "switched")


def downgrade() -> None:
    """The copy that was kept before the migration is the way back."""
    raise NotImplementedError("put back the copy that was kept before the migration")
