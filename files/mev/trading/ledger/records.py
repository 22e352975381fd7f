"""What is written into the ledger and read from it, beside entries and opportunities."""

import msgspec

from mev.domain import State
from mev.domain.market import Address, Hash

# The way of what the chain's own nodes were sent, where everybody may see it; others are named as configured.
PUBLIC = "public"
# Why a bundle is settled that its one block passed by: it has cost nothing, and is no failure.
MISSED = "bundle_missed"
# What takes a nonce and does nothing, and what does the same for a higher fee.
REPLACES = "operator:replace:"
REBIDS = "operator:rebid:"


class IllegalTransitionError(Exception):
    """A state was asked for that does not follow from the one the opportunity is in."""


class NonceTakenError(Exception):
    """Another transaction of this sender, whose fate is not known yet, has this nonce."""


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """A signed transaction whose fate is not known yet; `opportunity` may also be an operator's act, `operator:…`."""

    opportunity: str
    chain: str
    sender: Address
    nonce: int
    deadline_block: int
    max_priority_fee_wei: int
    max_fee_wei: int
    hash: Hash
    raw: bytes
    way: str = PUBLIC


class Stepped(msgspec.Struct, frozen=True):
    """A step of an opportunity's life that is in the ledger."""

    chain: str
    strategy: str
    state: State
    reason: str
    opportunity: str


class Standpoint(msgspec.Struct, frozen=True, kw_only=True):
    """How far the engine is on a chain, and what it looks at there."""

    chain: str
    block_number: int
    block_timestamp: int
    pools: int
    cycles: int
    at_ns: int = 0


def is_operators(opportunity: str) -> bool:
    """Whether a submission is an operator's act (deploy, fund) rather than an opportunity."""
    return opportunity.startswith("operator:")


def replaces(transaction: str) -> tuple[str, str]:
    """Under which names submissions are written that take the place of a transaction (0x…)."""
    return REPLACES + transaction, REBIDS + transaction


def is_rebid(submission: Submission) -> bool:
    """Whether a submission does for a higher fee what the one does that it takes the place of."""
    return submission.opportunity.startswith(REBIDS)
