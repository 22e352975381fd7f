"""The ledger: every opportunity's life, and every wei that moved because of it."""

from mev.trading.ledger.ledger import Ledger, read_ledger
from mev.trading.ledger.records import (
    IllegalTransitionError,
    NonceTakenError,
    Standpoint,
    Stepped,
    Submission,
    is_operators,
    is_rebid,
)
from mev.trading.ledger.reorganised import Booked
from mev.trading.ledger.today import Today, Usage

__all__ = [
    "Booked",
    "IllegalTransitionError",
    "Ledger",
    "NonceTakenError",
    "Standpoint",
    "Stepped",
    "Submission",
    "Today",
    "Usage",
    "is_operators",
    "is_rebid",
    "read_ledger",
]
