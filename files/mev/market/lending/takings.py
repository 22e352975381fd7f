"""What a lending market would let a liquidator take of one borrower, whichever market it is."""

from collections.abc import Callable, Collection, Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple, Protocol

from mev.domain import Block
from mev.domain.market import Address


class LeftAlone(IntEnum):
    """Why nobody's liquidation is tried although the pool would allow one: how far the best of the borrower's pairs came."""

    # Inactive, paused, not for sale, or within the grace period after the sequencer was down.
    CLOSED = 0
    DUST = 1
    # The executor cannot tell what was paid from what came out, where both are one token and not the cycle's.
    ONE_TOKEN = 2
    NO_WAY = 3
    # What the ways take and the pool's rules (close factor, least leftover, what it has) allow do not meet.
    NO_SIZE = 4
    NO_PROFIT = 5


class Taking(NamedTuple):
    """A debt that can be paid and a collateral that comes out, base units of each."""

    debt: Address
    collateral: Address
    # Of what is offered: what is paid and what comes out; None where the pool would revert, or with little left.
    take: Callable[[int], tuple[int, int] | None]
    # What the whole debt is; 0 where what is offered is always taken.
    whole: int
    supplied: int
    # What about a quarter of the debt is in native coin, where that is known: a guess to compare ways at.
    middling: int | None


class Takings(NamedTuple):
    """Everything that can be taken of a borrower; `what` is another one whenever something about it has changed."""

    found: Sequence[Taking]
    came: LeftAlone
    what: object


# The assets that count for a borrower, and those that he owes.
Sides = tuple[tuple[Address, ...], tuple[Address, ...]]


class Watched(Protocol):
    """A market's book as watching and liquidating sees it."""

    @property
    def block(self) -> Block:
        """The block after which everything is as it is here."""

    def positions(self) -> Mapping[Address, object]:
        """Everybody who owes anything."""

    def worths(self) -> dict[Address, tuple[float, float]]:
        """Return by asset what a unit of supply and one of debt are worth now."""

    def sides(self, user: Address) -> Sides:
        """Return which assets are a borrower's collateral, and which he owes."""

    def health(self, user: Address) -> int | None:
        """Return collateral over debt in wad, below 1e18 exactly where it can be liquidated; None where a price is missing, 2**256 - 1 where it is not worth it.

        Raises Overflowed where the pool would revert.
        """

    def takings(self, user: Address, native: Address) -> Takings | None:
        """Return what can be taken of somebody; None where nothing can be, or it cannot be known."""

    def sellers(self) -> Collection[Address]:
        """Return of whom something can be taken beside borrowers: the market itself, where it sells what it took over before."""
