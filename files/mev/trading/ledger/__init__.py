"""The ledger: every opportunity's life, and every wei that moved because of it."""

from mev.trading.ledger.ledger import (
    IllegalTransitionError,
    Ledger,
    NonceTakenError,
    Standpoint,
    Submission,
    is_operators,
    read_ledger,
)

__all__ = [
    "IllegalTransitionError",
    "Ledger",
    "NonceTakenError",
    "Standpoint",
    "Submission",
    "is_operators",
    "read_ledger",
]
