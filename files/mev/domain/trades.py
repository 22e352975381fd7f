"""Swaps as a block's transactions carried them out, in their order."""

import msgspec

from mev.domain.market import Address, Hash


class Trade(msgspec.Struct, frozen=True, kw_only=True):
    """One swap in one pool.

    `position` is its transaction's place in the block; trades of a block are in the order in which they happened. `sender` signed the
    transaction and `target` is what it called (None: a creation); `caller` called the pool, `recipient` got what came out. Amounts are base units:
    what the pool got and gave.
    """

    position: int
    transaction: Hash
    sender: Address
    target: Address | None
    # Whether the transaction's calldata is a router's, which many parties share.
    routed: bool
    kind: str
    pool: Address
    zero_for_one: bool
    token_in: Address
    token_out: Address
    caller: Address
    recipient: Address
    amount_in: int
    amount_out: int
