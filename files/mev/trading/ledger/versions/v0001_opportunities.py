"""Opportunities and their lives, submissions, and single entries."""

from alembic import op
from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

from mev.runtime.storage import BigNumber, refuse_changes

revision = "0001"
down_revision = None

STEPS = (
    "detected>dropped", "detected>expired", "detected>screened",
    "screened>dropped", "screened>expired", "screened>simulated",
    "simulated>approved", "simulated>dropped", "simulated>expired",
    "approved>dropped", "approved>expired", "approved>submitted",
    "submitted>dropped", "submitted>expired", "submitted>included", "submitted>reverted",
)  # fmt: skip

metadata = MetaData()

opportunities = Table(
    "opportunities",
    metadata,
    Column("seq", BigNumber, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("chain", Text, nullable=False),
    Column("strategy", Text, nullable=False),
    Column("token", Text, nullable=False),
    Column("hops", Text, nullable=False, comment="JSON: [[pool, zero_for_one], …]"),
    Column("block_number", BigNumber, nullable=False),
    Column("block_hash", Text, nullable=False),
    Column("amount_in", Text, nullable=False),
    Column("expected_out", Text, nullable=False),
)

transitions = Table(
    "transitions",
    metadata,
    Column("seq", BigNumber, primary_key=True),
    Column("opportunity", Text, ForeignKey("opportunities.id"), nullable=False),
    Column("previous", Text),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False, default=""),
    Column("at_ns", BigNumber, nullable=False),
    # A step leads from a state that this opportunity is in: it was reached, and nothing has led away from it.
    UniqueConstraint("opportunity", "state"),
    UniqueConstraint("opportunity", "previous"),
    ForeignKeyConstraint(["opportunity", "previous"], ["transitions.opportunity", "transitions.state"]),
    CheckConstraint(
        # Not a chain of OR: with NULL in it a check is neither true nor false, and then it passes.
        "CASE WHEN previous IS NULL THEN state = 'detected' ELSE previous || '>' || state IN ("
        + ", ".join(f"'{step}'" for step in STEPS)
        + ") END",
        name="legal_next",
    ),
    Index("transitions_by_state", "state", "previous"),
)

estimates = Table(
    "estimates",
    metadata,
    Column("seq", BigNumber, primary_key=True),
    Column("opportunity", Text, ForeignKey("opportunities.id"), nullable=False, unique=True),
    Column("profit", Text, nullable=False, comment="what the simulated call returned, base units, before gas"),
    Column("gas", BigNumber, nullable=False, comment="units"),
    Column("gas_price_wei", Text, nullable=False),
)

submissions = Table(
    "submissions",
    metadata,
    Column("seq", BigNumber, primary_key=True),
    Column("transaction", Text, nullable=False, unique=True),
    Column("opportunity", Text, nullable=False, comment="an opportunity's id, or what an operator did"),
    Column("chain", Text, nullable=False),
    Column("sender", Text, nullable=False),
    Column("nonce", BigNumber, nullable=False),
    Column("deadline_block", BigNumber, nullable=False),
    Column("max_priority_fee_wei", Text, nullable=False),
    Column("max_fee_wei", Text, nullable=False),
    Column("raw", Text, nullable=False),
    Column("at_ns", BigNumber, nullable=False),
    Index("submissions_by_opportunity", "opportunity"),
)

entries = Table(
    "entries",
    metadata,
    Column("seq", BigNumber, primary_key=True),
    Column("chain", Text, nullable=False),
    Column("opportunity", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("token", Text, nullable=False, comment="moved in the executor; the native coin, zero, in the signer"),
    Column("amount", Text, nullable=False),
    Column("transaction", Text, nullable=False),
    Column("block_number", BigNumber, nullable=False),
    Column("at_ns", BigNumber, nullable=False),
    # Reading a receipt twice, after a crash, books nothing twice.
    UniqueConstraint("chain", "transaction", "kind", "token"),
    Index("entries_by_opportunity", "opportunity"),
    Index("entries_by_time", "chain", "at_ns"),
)

# Forgets on purpose: which nonce is taken by which transaction until its fate is known.
in_flight = Table(
    "in_flight",
    metadata,
    Column("chain", Text, primary_key=True),
    Column("sender", Text, primary_key=True),
    Column("nonce", BigNumber, primary_key=True),
    Column("transaction", Text, ForeignKey("submissions.transaction"), nullable=False),
)

# Where each chain's engine stands: for people who ask, never read by the engine itself.
chains = Table(
    "chains",
    metadata,
    Column("chain", Text, primary_key=True),
    Column("block_number", BigNumber, nullable=False),
    Column("block_timestamp", BigNumber, nullable=False, comment="seconds since 1970, by the chain"),
    Column("pools", Integer, nullable=False),
    Column("cycles", Integer, nullable=False),
    Column("at_ns", BigNumber, nullable=False),
)


def upgrade() -> None:
    """Make them."""
    connection = op.get_bind()
    metadata.create_all(connection)
    for table in ("opportunities", "transitions", "estimates", "submissions", "entries"):
        refuse_changes(connection, table)


def downgrade() -> None:
    """There is nothing before it."""
    raise NotImplementedError("the ledger's first version has none before it")
