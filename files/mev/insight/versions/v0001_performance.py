"""How each strategy stood on each chain."""

from alembic import op
from sqlalchemy import Column, Float, Index, Integer, MetaData, Table, Text

from mev.runtime.storage import BigNumber

revision = "0001"
down_revision = None

STATES = ("detected", "screened", "simulated", "approved", "submitted", "included", "reverted", "expired", "dropped")

metadata = MetaData()

performance = Table(
    "performance",
    metadata,
    Column("seq", BigNumber, primary_key=True),
    Column("at_ns", BigNumber, nullable=False),
    Column("chain", Text, nullable=False),
    Column("strategy", Text, nullable=False),
    *(Column(state, Integer, nullable=False) for state in STATES),
    Column("sent", Integer, nullable=False),
    Column("success_rate", Float),
    Column("profit_wei", Text, nullable=False),
    Column("gas_wei", Text, nullable=False),
    Column("net_wei", Text, nullable=False),
    Index("performance_by_name", "chain", "strategy", "at_ns"),
)


def upgrade() -> None:
    """Make the table."""
    metadata.create_all(op.get_bind())


def downgrade() -> None:
    """There is nothing before it."""
    raise NotImplementedError("the first version has none before it")
