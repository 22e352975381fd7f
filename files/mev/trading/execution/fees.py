"""What gas costs in the next block, and what a transaction offers for it (EIP-1559)."""

import msgspec

from mev.chain import wire
from mev.chain.rpc import Rpc
from mev.domain import Block

# The base fee rises by an eighth from one block to the next at most.
MAX_RISE = (9, 8)
# A replacement must pay a tenth more of both fees, or nodes refuse it; an eighth is on the safe side.
BUMP = (9, 8)


class Fees(msgspec.Struct, frozen=True):
    """Wei for one unit of gas: the tip, the most that is offered, and the most that the next block can charge."""

    max_priority_fee_wei: int
    max_fee_wei: int
    next_price_wei: int


async def quote(rpc: Rpc, block: Block, cap_wei: int) -> Fees:
    """Offer what outlives five full blocks, but never more than the cap."""
    return offer(block.base_fee_wei, wire.quantity(await rpc.call("eth_maxPriorityFeePerGas")), cap_wei)


def offer(base_fee_wei: int, tip_wei: int, cap_wei: int) -> Fees:
    """Return the fees for a base fee and a tip; next_price_wei may pass the cap, which is risk's to refuse."""
    next_price_wei = base_fee_wei * MAX_RISE[0] // MAX_RISE[1] + tip_wei
    max_fee_wei = min(2 * base_fee_wei + tip_wei, cap_wei)
    return Fees(max_priority_fee_wei=min(tip_wei, max_fee_wei), max_fee_wei=max_fee_wei, next_price_wei=next_price_wei)


def next_price(base_fee_wei: int, tip_wei: int, max_fee_wei: int) -> int:
    """Return the most that the next block can charge for a unit of gas to who offers these fees."""
    return min(base_fee_wei * MAX_RISE[0] // MAX_RISE[1] + tip_wei, max_fee_wei)


def raised(tip_wei: int, max_fee_wei: int, base_fee_wei: int, cap_wei: int) -> Fees:
    """Return what replaces an offer: both fees an eighth higher, and what outlives five full blocks where the cap allows it.

    The fees may pass the cap, which then forbids the replacement.
    """
    more_tip_wei = tip_wei * BUMP[0] // BUMP[1] + 1
    more_wei = max(max_fee_wei * BUMP[0] // BUMP[1] + 1, min(2 * base_fee_wei + more_tip_wei, cap_wei))
    return Fees(
        max_priority_fee_wei=min(more_tip_wei, more_wei),
        max_fee_wei=more_wei,
        next_price_wei=next_price(base_fee_wei, more_tip_wei, more_wei),
    )
