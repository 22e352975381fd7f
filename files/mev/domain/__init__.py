"""What every floor speaks of: frozen structs, amounts in integer base units, addresses of 20 bytes.

Imports nothing of ours.
"""

from mev.domain.ledger import EARNINGS, FEES, Account, Entry, EntryKind, gained
from mev.domain.market import Algebra, BalancerKey, Block, CurveKey, Hop, Pool, Token, V2State, V4Key
from mev.domain.opportunity import LEGAL_NEXT, Cycle, Flash, Opportunity, Seizure, State, Transition

__all__ = [
    "EARNINGS",
    "FEES",
    "LEGAL_NEXT",
    "Account",
    "Algebra",
    "BalancerKey",
    "Block",
    "CurveKey",
    "Cycle",
    "Entry",
    "EntryKind",
    "Flash",
    "Hop",
    "Opportunity",
    "Pool",
    "Seizure",
    "State",
    "Token",
    "Transition",
    "V2State",
    "V4Key",
    "gained",
]
