"""The ledger: every opportunity's life, and every wei that moved because of it."""

from mev.trading.ledger.audit import Audit, Switched, last_act, write_act
from mev.trading.ledger.ledger import Ledger, read_ledger
from mev.trading.ledger.records import (
    MISSED,
    PUBLIC,
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
    "MISSED",
    "PUBLIC",
    "Audit",
    "Booked",
    "IllegalTransitionError",
    "Ledger",
    "NonceTakenError",
    "Standpoint",
    "Stepped",
    "Submission",
    "Switched",
    "Today",
    "Usage",
    "is_operators",
    "is_rebid",
    "last_act",
    "read_ledger",
    "write_act",
]
