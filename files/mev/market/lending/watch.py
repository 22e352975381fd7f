"""Who of a market's borrowers can be liquidated, without looking at everybody after every block.

A health factor is collateral over debt. From one block to the next no collateral's worth falls by more than the worst asset's (price and supply index), and no
debt's grows by more than the worst one's: their quotient bounds how far *any* health factor can have fallen. Multiplied up, `fallen` only sinks. A borrower
looked at when it was F, with a health factor h, cannot be liquidatable while `fallen` is above F / h: a heap has these marks, the highest first, and only
who is reached is computed again, exactly.
"""

import heapq
from collections.abc import Collection

from mev.domain.market import Address
from mev.market.lending.takings import Watched
from mev.market.lending.wad_ray import UINT256_MAX, WAD, Overflowed

# What floats and the contracts' rounding may get wrong of a quotient, for debts of a dollar or more.
SLACK = 1e-5
# Below it everybody is looked at, and it is counted from 1 again: floats end.
LEAST_FALLEN = 1e-100


class Watch:
    """Follows one book, whose blocks it is told of one after the other."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._fallen = 1.0
        # By asset: what a unit of scaled supply and one of scaled debt are worth.
        self._worth: dict[Address, tuple[float, float]] = {}
        self._marks: list[tuple[float, Address]] = []
        # Only a borrower's newest mark counts.
        self._newest: dict[Address, float] = {}
        self._below: set[Address] = set()
        # Who has an asset without a price: looked at every time.
        self._unknown: set[Address] = set()

    def liquidatable(self, book: Watched, changed: Collection[Address], *, anew: bool) -> list[Address]:
        """Return who can be liquidated at the time of the book's block; `anew` where more may have changed than the positions of `changed`."""
        worth = book.worths()
        if anew or self._fallen < LEAST_FALLEN:
            self._begin()
            suspects = set(book.positions())
        else:
            self._fallen *= _fall(self._worth, worth)
            suspects = {*changed, *self._below, *self._unknown, *self._reached()}
        # Of an asset whose price is missing the last one stays: what it has fallen to by then shows when it is back.
        self._worth |= worth
        for user in suspects:
            self._look(book, user)
        return sorted(self._below)

    def _reached(self) -> set[Address]:
        reached = set()
        while self._marks and -self._marks[0][0] >= self._fallen * (1 - SLACK):
            mark, user = heapq.heappop(self._marks)
            if self._newest.get(user) == mark:
                reached.add(user)
        return reached

    def _look(self, book: Watched, user: Address) -> None:
        self._below.discard(user)
        self._unknown.discard(user)
        self._newest.pop(user, None)
        if user not in book.positions():
            return
        try:
            health = book.health(user)
        except Overflowed:
            # The pool itself cannot compute it, and so nobody can liquidate it.
            return
        if health is None:
            self._unknown.add(user)
            return
        if health == UINT256_MAX:
            return
        if health < WAD:
            self._below.add(user)
            return
        mark = -self._fallen * WAD / health
        self._newest[user] = mark
        heapq.heappush(self._marks, (mark, user))


def _fall(before: dict[Address, tuple[float, float]], now: dict[Address, tuple[float, float]]) -> float:
    """Return by which factor a health factor may have fallen at most; never more than 1."""
    both = before.keys() & now.keys()
    least = min((now[asset][0] / before[asset][0] for asset in both), default=1.0)
    most = max((now[asset][1] / before[asset][1] for asset in both), default=1.0)
    return min(1.0, least / most)
