"""Sandwiches in a block, from what its transactions traded.

A sandwich is, in one pool: a trade (front), then one or more of others in the same direction (victims), then one of the front's party in
the other direction (back), each in a transaction of its own. Two transactions are of one party where one account signed both; or where
both go through one contract that is no router and that no victim uses, and what the front bought is what the back sells, within PARTS.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import msgspec

from mev.domain.market import Address
from mev.domain.trades import Trade

# Tokens that take a tax on transfers give their buyer a little less than the pool gave.
PARTS = (95, 100)


class Sandwich(msgspec.Struct, frozen=True, kw_only=True):
    """One sandwich; `party` is the account or contract that front and back share."""

    party: Address
    front: Trade
    victims: tuple[Trade, ...]
    back: Trade

    @property
    def profit(self) -> int:
        """What the back brought more than the front cost, base units of `front.token_in`, before gas and payments to the block's producer."""
        return self.back.amount_out - self.front.amount_in


def find_sandwiches(trades: Sequence[Trade]) -> list[Sandwich]:
    """Return the sandwiches among a block's trades, in the order of their fronts; no trade is the front or the back of two."""
    shared = {trade.target for trade in trades if trade.routed} | {trade.pool for trade in trades}
    by_pool: defaultdict[Address, list[Trade]] = defaultdict(list)
    for trade in trades:
        by_pool[trade.pool].append(trade)
    found: list[Sandwich] = []
    for of_pool in by_pool.values():
        taken: set[int] = set()
        for number, front in enumerate(of_pool):
            if number in taken:
                continue
            for later in range(number + 1, len(of_pool)):
                if later in taken or of_pool[later].zero_for_one == front.zero_for_one:
                    continue
                sandwich = _closed(front, of_pool[number + 1 : later], of_pool[later], shared)
                if sandwich is not None:
                    found.append(sandwich)
                    taken |= {number, later}
                    break
    return sorted(found, key=lambda each: (each.front.position, each.back.position))


def _closed(front: Trade, between: Iterable[Trade], back: Trade, shared: set[Address | None]) -> Sandwich | None:
    if back.position <= front.position:
        return None
    victims = tuple(
        trade
        for trade in between
        if trade.zero_for_one == front.zero_for_one
        and front.position < trade.position < back.position
        and trade.sender not in (front.sender, back.sender)
    )
    party = _party(front, victims, back, shared) if victims else None
    return None if party is None else Sandwich(party=party, front=front, victims=victims, back=back)


def _party(front: Trade, victims: Sequence[Trade], back: Trade, shared: set[Address | None]) -> Address | None:
    if front.sender == back.sender:
        return front.sender
    used = {address for victim in victims for address in _contracts(victim)}
    common = (_contracts(front) & _contracts(back)) - used - shared
    less, more = sorted((front.amount_out, back.amount_in))
    if not common or less * PARTS[1] < more * PARTS[0]:
        return None
    return min(common)


def _contracts(trade: Trade) -> set[Address]:
    return {address for address in (trade.target, trade.caller, trade.recipient) if address is not None}
