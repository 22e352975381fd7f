"""Ledger entries: what the chain took and gave, to the wei."""

from enum import StrEnum

import msgspec

from mev.domain.market import Address, Hash


class Account(StrEnum):
    """Where value is. The first two are ours, and a chain can be asked what is in them; the others are where it came from or went."""

    SIGNER = "signer"
    EXECUTOR = "executor"
    # The other side of swaps.
    MARKET = "market"
    # What transactions cost: the chain's gas, a rollup's data on its parent chain, the block producer.
    GAS = "gas"
    L1_FEE = "l1_fee"
    BRIBE = "bribe"
    # The contract that turns native coin into wrapped, one for one: what went in of the one came out of the other.
    WRAPPER = "wrapper"
    # What was there when the books opened, and what its owner put in or took out from elsewhere.
    EQUITY = "equity"


OWN = frozenset({Account.SIGNER, Account.EXECUTOR})


class EntryKind(StrEnum):
    """What an amount is."""

    SWAP_PROFIT = "swap_profit"
    GAS = "gas"
    L1_FEE = "l1_fee"
    BRIBE = "bribe"
    FUNDING = "funding"


# What is earned; all the rest is capital that moves.
EARNINGS = frozenset({EntryKind.SWAP_PROFIT, EntryKind.GAS, EntryKind.L1_FEE, EntryKind.BRIBE})
# What the signer pays for a transaction.
FEES = frozenset({EntryKind.GAS, EntryKind.L1_FEE})


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """An amount of one token that left one account and reached another, read from a receipt; append-only.

    `amount` is base units of `token`, 0 or more; the native coin is the zero address. Both sides of it are one row: books of
    such rows cannot be out of balance.
    """

    chain: str
    opportunity: str
    kind: EntryKind
    token: Address
    amount: int
    credit: Account
    debit: Account
    transaction: Hash
    block_number: int
    at_ns: int
    block_hash: Hash | None = None


def gained(amount: int, credit: str, debit: str) -> int:
    """Return what our accounts together have more of after an entry; negative is less."""
    return amount * ((debit in OWN) - (credit in OWN))
