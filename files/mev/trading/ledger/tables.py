"""The ledger's tables. Everything that happened is append-only, and the database itself refuses the rest.

Amounts are TEXT: base units pass 2**63. Addresses and hashes are lower-case 0x… TEXT, so that any SQL shell can read them.

This is the newest version, for queries; `versions` makes it.
"""

from pathlib import Path

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

from mev.domain.opportunity import LEGAL_NEXT, State
from mev.runtime.storage import BigNumber, Schema

SCHEMA = Schema("ledger", Path(__file__).parent / "versions")

metadata = MetaData()

opportunities = Table(
    "opportunities",
    metadata,
    Column("seq", BigNumber, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("chain", Text, nullable=False),
    Column("strategy", Text, nullable=False),
    Column("token", Text, nullable=False),
    Column(
        "hops",
        Text,
        nullable=False,
        comment="JSON: [[pool, zero_for_one], …]; a liquidation is [lending pool, borrower]; what is paid last is [pool, zero_for_one, flash]",
    ),
    Column("block_number", BigNumber, nullable=False),
    Column("block_hash", Text, nullable=False),
    Column("amount_in", Text, nullable=False),
    Column("expected_out", Text, nullable=False),
    Column("held", Text, comment="JSON: [[token, amount], …]: what is put in, then what is held after each hop"),
)

_LEGAL_STEPS = [(before.value, after.value) for before, afters in LEGAL_NEXT.items() for after in sorted(afters)]

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
    Column(
        "way", Text, nullable=False, server_default="public", comment="public, or the kind of who was handed it alone"
    ),
    Index("submissions_by_opportunity", "opportunity"),
)

# Double entry: each row takes an amount out of one account and puts it into another, so that no event can be out of balance.
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
    Column("block_hash", Text, comment="none in entries of before there was this column, and where books open"),
    Column(
        "turn",
        Integer,
        nullable=False,
        server_default="0",
        comment="even: booked; odd: taken back, both accounts the other way round, since a reorganisation took the block",
    ),
    # Reading a receipt twice, after a crash, books nothing twice.
    UniqueConstraint("chain", "transaction", "kind", "token", "credit", "debit", "turn", name="entries_once"),
    CheckConstraint("substr(amount, 1, 1) <> '-'", name="entries_amount"),
    CheckConstraint("credit <> debit", name="entries_accounts"),
    Index("entries_of_opportunity", "opportunity"),
    Index("entries_since", "chain", "at_ns"),
    Index("entries_of_block", "chain", "block_number"),
)

# What reorganisations made of fates: a settled transaction is submitted again, and then has another fate, or the same one.
revisions = Table(
    "revisions",
    metadata,
    Column("seq", BigNumber, primary_key=True),
    Column(
        "transaction", Text, nullable=False, comment="the submission's own, whichever of its replacements was mined"
    ),
    Column("turn", Integer, nullable=False),
    Column("opportunity", Text, nullable=False, comment="its id"),
    Column("previous", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at_ns", BigNumber, nullable=False),
    UniqueConstraint("transaction", "turn", name="revisions_once"),
    CheckConstraint(
        "previous || '>' || state IN ("
        + ", ".join(
            f"'{before}>{after}'"
            for fate in (State.INCLUDED, State.REVERTED, State.EXPIRED)
            for before, after in ((fate, State.SUBMITTED), (State.SUBMITTED, fate))
        )
        + ")",
        name="revisions_step",
    ),
    Index("revisions_of_opportunity", "opportunity"),
)

# Who halted and resumed, once for each file that is a kill switch.
switched = Table(
    "switched",
    metadata,
    Column("seq", BigNumber, primary_key=True),
    Column("switch", Text, nullable=False, comment="the file"),
    Column("act", Text, nullable=False),
    Column("chains", Text, nullable=False, comment="JSON: the chains that it stops"),
    Column("mark", Text, nullable=False, comment="which file it was: when it was last written, ns since 1970"),
    Column("who", Text, nullable=False, comment="as far as known, else empty"),
    Column("origin", Text, nullable=False, comment="by which way, and from where as far as known"),
    Column("reason", Text, nullable=False),
    Column("at_ns", BigNumber, nullable=False),
    # Whoever sees the file writes the same line: the command, and the engine that looks at it every second.
    UniqueConstraint("switch", "act", "mark", name="switched_once"),
    CheckConstraint("act IN ('halt', 'resume')", name="switched_act"),
    Index("switched_by_switch", "switch", "seq"),
)

# Each entry as its two postings, whose signed amounts add up to nothing per event, chain and token.
postings = Table(
    "postings",
    MetaData(),
    Column("entry", BigNumber),
    Column("chain", Text),
    Column("transaction", Text),
    Column("kind", Text),
    Column("token", Text),
    Column("account", Text),
    Column("amount", Text),
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

APPEND_ONLY = (opportunities, transitions, estimates, submissions, entries, revisions, switched)
