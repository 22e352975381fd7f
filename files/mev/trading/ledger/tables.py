"""The ledger's tables. Everything that happened is append-only, and the database itself refuses the rest.

Amounts are TEXT: base units pass 2**63. Addresses and hashes are lower-case 0x… TEXT, so that any SQLite shell can read them.
"""

from sqlalchemy import (
    CheckConstraint,
    Column,
    Connection,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    event,
)

from mev.domain.opportunity import LEGAL_NEXT, State

metadata = MetaData()

opportunities = Table(
    "opportunities",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("chain", Text, nullable=False),
    Column("strategy", Text, nullable=False),
    Column("token", Text, nullable=False),
    Column("hops", Text, nullable=False, comment="JSON: [[pool, zero_for_one], …]"),
    Column("block_number", Integer, nullable=False),
    Column("block_hash", Text, nullable=False),
    Column("amount_in", Text, nullable=False),
    Column("expected_out", Text, nullable=False),
)

_LEGAL_STEPS = [(before.value, after.value) for before, afters in LEGAL_NEXT.items() for after in sorted(afters)]

transitions = Table(
    "transitions",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("opportunity", Text, ForeignKey("opportunities.id"), nullable=False),
    Column("previous", Text),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False, default=""),
    Column("at_ns", Integer, nullable=False),
    # A step leads from a state that this opportunity is in: it was reached, and nothing has led away from it.
    UniqueConstraint("opportunity", "state"),
    UniqueConstraint("opportunity", "previous"),
    ForeignKeyConstraint(["opportunity", "previous"], ["transitions.opportunity", "transitions.state"]),
    CheckConstraint(
        # Not a chain of OR: with NULL in it a check is neither true nor false, and then it passes.
        f"CASE WHEN previous IS NULL THEN state = '{State.DETECTED}' ELSE previous || '>' || state IN ("
        + ", ".join(f"'{before}>{after}'" for before, after in _LEGAL_STEPS)
        + ") END",
        name="legal_next",
    ),
    Index("transitions_by_state", "state", "previous"),
)

estimates = Table(
    "estimates",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("opportunity", Text, ForeignKey("opportunities.id"), nullable=False, unique=True),
    Column("profit", Text, nullable=False, comment="what the simulated call returned, base units, before gas"),
    Column("gas", Integer, nullable=False, comment="units"),
    Column("gas_price_wei", Text, nullable=False),
)

submissions = Table(
    "submissions",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("transaction", Text, nullable=False, unique=True),
    Column("opportunity", Text, nullable=False, comment="an opportunity's id, or what an operator did"),
    Column("chain", Text, nullable=False),
    Column("sender", Text, nullable=False),
    Column("nonce", Integer, nullable=False),
    Column("deadline_block", Integer, nullable=False),
    Column("max_priority_fee_wei", Text, nullable=False),
    Column("max_fee_wei", Text, nullable=False),
    Column("raw", Text, nullable=False),
    Column("at_ns", Integer, nullable=False),
    Index("submissions_by_opportunity", "opportunity"),
)

entries = Table(
    "entries",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("chain", Text, nullable=False),
    Column("opportunity", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("token", Text, nullable=False, comment="moved in the executor; the native coin, zero, in the signer"),
    Column("amount", Text, nullable=False),
    Column("transaction", Text, nullable=False),
    Column("block_number", Integer, nullable=False),
    Column("at_ns", Integer, nullable=False),
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
    Column("nonce", Integer, primary_key=True),
    Column("transaction", Text, ForeignKey("submissions.transaction"), nullable=False),
)

# Where each chain's engine stands: for people who ask, never read by the engine itself.
chains = Table(
    "chains",
    metadata,
    Column("chain", Text, primary_key=True),
    Column("block_number", Integer, nullable=False),
    Column("block_timestamp", Integer, nullable=False, comment="seconds since 1970, by the chain"),
    Column("pools", Integer, nullable=False),
    Column("cycles", Integer, nullable=False),
    Column("at_ns", Integer, nullable=False),
)

APPEND_ONLY = (opportunities, transitions, estimates, submissions, entries)


def _refuse_changes(table: Table, connection: Connection, **_: object) -> None:
    for verb in ("UPDATE", "DELETE"):
        connection.exec_driver_sql(
            f"CREATE TRIGGER {table.name}_no_{verb.lower()} BEFORE {verb} ON {table.name} "
            f"BEGIN SELECT RAISE(ABORT, '{table.name} is append-only'); END"
        )


for _table in APPEND_ONLY:
    event.listen(_table, "after_create", _refuse_changes)
