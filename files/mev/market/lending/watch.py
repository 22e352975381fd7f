"""Who of a market's borrowers can be liquidated, without looking at everybody after every block.

A health factor is collateral over debt. From one block to the next what counts of a borrower's collateral loses no more than the worst of *his* collateral assets does (price
and supply index), and his debt grows by no more than the worst of his debts: their quotient bounds how far his health factor can have fallen. Who has the same assets on
either side is of one group, for which these quotients are multiplied up: `fallen` only sinks. A borrower looked at when it was F, with a health factor h, cannot be liquidatable
while it is above F / h: a heap a group has these marks, the highest first, and only who is reached is computed again, exactly.
"""

import heapq
from collections.abc import Collection, Mapping

from mev.domain.market import Address
from mev.market.lending.takings import Sides, Watched
from mev.market.lending.wad_ray import UINT256_MAX, WAD, Overflowed

# What floats and the contracts' rounding may get wrong of a quotient, for debts of a dollar or more.
SLACK = 1e-5
# Below it everybody is looked at, and it is counted from 1 again: floats end.
LEAST_FALLEN = 1e-100
# Each costs a little in every block: whoever is of another one than these is of that of all assets.
MOST_GROUPS = 1024


class _Group:
    """Borrowers with the same assets on either side; no `sides` is all assets on both."""

    def __init__(self, sides: Sides | None) -> None:
        self._sides = sides
        self.fallen = 1.0
        self.marks: list[tuple[float, Address]] = []

    def fall(self, falls: Mapping[Address, float], rises: Mapping[Address, float]) -> None:
        """Sink by as much as one block can have a health factor fall."""
        if self._sides is None:
            least, most = min(falls.values(), default=1.0), max(rises.values(), default=1.0)
        else:
            collateral, debts = self._sides
            least = min((falls.get(asset, 1.0) for asset in collateral), default=1.0)
            most = max((rises.get(asset, 1.0) for asset in debts), default=1.0)
        self.fallen *= min(1.0, least / most)


class Watch:
    """Follows one book, whose blocks it is told of one after the other."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._groups: dict[Sides, _Group] = {}
        self._rest = _Group(None)
        # By asset: what a unit of scaled supply and one of scaled debt are worth.
        self._worth: dict[Address, tuple[float, float]] = {}
        # Only a borrower's newest mark counts.
        self._newest: dict[Address, float] = {}
        self._below: set[Address] = set()
        # Who has an asset without a price: looked at every time.
        self._unknown: set[Address] = set()

    def liquidatable(self, book: Watched, changed: Collection[Address], *, anew: bool) -> list[Address]:
        """Return who can be liquidated at the time of the book's block; `anew` where more may have changed than the positions of `changed`."""
        worth = book.worths()
        if not anew:
            self._fall(worth)
        if anew or any(group.fallen < LEAST_FALLEN for group in self._every()):
            self._begin()
            suspects = set(book.positions())
        else:
            suspects = {*changed, *self._below, *self._unknown, *self._reached()}
        # Of an asset whose price is missing the last one stays: what it has fallen to by then shows when it is back.
        self._worth |= worth
        for user in suspects:
            self._look(book, user)
        return sorted(self._below)

    def _every(self) -> list[_Group]:
        return [*self._groups.values(), self._rest]

    def _fall(self, worth: Mapping[Address, tuple[float, float]]) -> None:
        both = self._worth.keys() & worth.keys()
        falls = {asset: worth[asset][0] / self._worth[asset][0] for asset in both}
        rises = {asset: worth[asset][1] / self._worth[asset][1] for asset in both}
        for group in self._every():
            group.fall(falls, rises)

    def _group(self, sides: Sides) -> _Group:
        group = self._groups.get(sides)
        if group is None:
            if len(self._groups) >= MOST_GROUPS:
                return self._rest
            group = self._groups[sides] = _Group(sides)
        return group

    def _reached(self) -> set[Address]:
        reached = set()
        for group in self._every():
            marks, until = group.marks, group.fallen * (1 - SLACK)
            while marks and -marks[0][0] >= until:
                mark, user = heapq.heappop(marks)
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
        group = self._group(book.sides(user))
        mark = -group.fallen * WAD / health
        self._newest[user] = mark
        heapq.heappush(group.marks, (mark, user))
