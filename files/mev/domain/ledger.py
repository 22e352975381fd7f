"""Ledger entries: what the chain took and gave, to the wei."""

from enum import StrEnum

import msgspec

from mev.domain.market import Address, Hash


class EntryKind(StrEnum):
    """What an amount is."""

    SWAP_PROFIT = "swap_profit"
    GAS = "gas"
    FUNDING = "funding"


class Entry(msgspec.Struct, frozen=True):
    """One movement of one token, read from the receipt; append-only.

    `amount` is signed base units of `token`; the native coin is the zero address.
    """

    chain: str
    opportunity: str
    kind: EntryKind
    token: Address
    amount: int
    transaction: Hash
    block_number: int
    at_ns: int
