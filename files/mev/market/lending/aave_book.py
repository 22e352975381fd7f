"""One Aave V3 market as a block left it: reserves, prices and everybody's debts and collateral, with the way back through the last blocks."""

import contextlib
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from itertools import product
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from mev.domain import Block
from mev.domain.market import Address
from mev.market.lending.aave_events import Indices
from mev.market.lending.aave_v3 import (
    HUNDRED_PERCENT,
    Held,
    Reserve,
    grown_debt,
    grown_supply,
    health_factor,
    liquidate,
    owed,
    supplied,
)
from mev.market.lending.takings import LeftAlone, Sides, Taking, Takings
from mev.market.lending.wad_ray import (
    RAY,
    UINT256_MAX,
    WAD,
    Overflowed,
    mul_div_ceil,
    ray_mul_ceil,
    ray_mul_floor,
    wad_div,
)
from mev.market.state import UNDO_BLOCKS, StateError

_MAX_RESERVES = 128
# Less is not worth a transaction on any chain, in base currency (8 decimals); and there rounding is more than a watch allows for.
DUST_BASE = 10**8
# Below it neither side of a pair pays for a transaction.
LEAST_BASE = 10 * 10**8


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """An asset as the market lists it; `number` is its place in users' bitmaps. Thresholds, bonuses and fees are ten-thousandths.

    `price` is the oracle's, base currency for one whole token; None where it gave none that can be used.
    """

    number: int
    asset: Address
    a_token: Address
    debt_token: Address
    decimals: int
    liquidation_threshold: int
    liquidation_bonus: int
    protocol_fee: int
    active: bool
    # Seconds of the chain's time until which nothing of it may be liquidated.
    grace_until: int
    indices: Indices
    price: int | None = None

    def liquidatable(self, timestamp: int) -> bool:
        """Whether the pool would let it be liquidated at a time."""
        return self.active and self.grace_until < timestamp


class Category(msgspec.Struct, frozen=True, kw_only=True):
    """An eMode: threshold and bonus of the listings in its bitmap."""

    liquidation_threshold: int
    liquidation_bonus: int
    collateral: int


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """What a borrower has: two bits a listing (borrowed, used as collateral), the eMode, and by listing (scaled supply, scaled debt)."""

    bits: int
    category: int
    scaled: dict[int, tuple[int, int]]

    def borrows(self, number: int) -> bool:
        """Whether the listing is borrowed."""
        return bool(self.bits >> 2 * number & 1)

    def uses(self, number: int) -> bool:
        """Whether the listing is used as collateral."""
        return bool(self.bits >> 2 * number + 1 & 1)

    @property
    def indebted(self) -> bool:
        """Whether anything is borrowed."""
        return any(self.borrows(number) for number in listed(self.bits))


# Borrowers have few bitmaps between them.
@lru_cache(maxsize=16_384)
def listed(bits: int) -> tuple[int, ...]:
    """Return the numbers of the listings that a user's bitmap names."""
    return tuple(number for number in range(_MAX_RESERVES) if bits >> 2 * number & 3)


class _Now(msgspec.Struct, frozen=True):
    """What a listing's balances are multiplied by at the time of the block; None where the pool cannot compute it."""

    supply_index: int | None
    borrow_index: int | None
    price: int | None
    unit: int


class _Applied(NamedTuple):
    """The block before, its listings and categories, and what positions were that have changed since; None for none."""

    parent: Block
    listings: Mapping[int, Listing]
    categories: Mapping[int, Category]
    positions: dict[Address, Position | None]


class AaveBook:
    """A market at `block`; has one writer, the task that follows the chain."""

    def __init__(
        self,
        block: Block,
        listings: Iterable[Listing],
        categories: Mapping[int, Category],
        positions: Mapping[Address, Position],
    ) -> None:
        """Start from what was read at `block` (mev.market.lending.aave_reader)."""
        self._block = block
        self._listings: Mapping[int, Listing] = {listing.number: listing for listing in listings}
        self._categories = dict(categories)
        self._positions = {user: position for user, position in positions.items() if position.indebted}
        self._journal: deque[_Applied] = deque(maxlen=UNDO_BLOCKS)
        # By listing, and by bitmap: made as they are needed, and good for this block's listings.
        self._now: dict[int, _Now] = {}
        self._sides: dict[int, Sides] = {}

    @property
    def block(self) -> Block:
        """The block after which everything is as it is here."""
        return self._block

    @property
    def listings(self) -> Mapping[int, Listing]:
        """Every listed asset by its number; a read-only view."""
        return MappingProxyType(dict(self._listings))

    @property
    def categories(self) -> Mapping[int, Category]:
        """Every eMode by its number; a read-only view."""
        return MappingProxyType(self._categories)

    def positions(self) -> Mapping[Address, Position]:
        """Everybody who owes anything; a read-only view."""
        return MappingProxyType(self._positions)

    def apply(
        self,
        block: Block,
        listings: Iterable[Listing],
        categories: Mapping[int, Category],
        positions: Mapping[Address, Position],
    ) -> frozenset[Address]:
        """Take in the next block: all listings and categories as it left them, and the positions that it changed; return whose these are.

        Raises StateError, and changes nothing, where the block is not the child of the last one.
        """
        if block.parent_hash != self._block.hash:
            raise StateError(f"block {block.number} does not follow block {self._block.number}, the last one applied")
        changed = {user for user in positions if self._positions.get(user) != _kept(positions[user])}
        before = {user: self._positions.get(user) for user in changed}
        self._journal.append(_Applied(self._block, self._listings, self._categories, before))
        self._put({user: _kept(positions[user]) for user in changed})
        self._listings = {listing.number: listing for listing in listings}
        self._categories = dict(categories)
        self._block = block
        self._forget()
        return frozenset(changed)

    def undo_to(self, ancestor: Block) -> None:
        """Go back to what was after `ancestor`; raises StateError, and changes nothing, where it is none of the last blocks applied."""
        parents = [applied.parent.hash for applied in self._journal]
        if ancestor.hash == self._block.hash:
            return
        if ancestor.hash not in parents:
            raise StateError(
                f"block {ancestor.number} is not among the last {len(parents)} before {self._block.number}"
            )
        while self._block.hash != ancestor.hash:
            applied = self._journal.pop()
            self._block = applied.parent
            self._listings = applied.listings
            self._categories = dict(applied.categories)
            self._put(applied.positions)
        self._forget()

    def position(self, user: Address, timestamp: int) -> Sequence[Held] | None:
        """Return what a borrower has at a time, as the pool computes it; None where a price that it needs is missing.

        Raises KeyError where nothing is owed, Overflowed where the pool would revert.
        """
        position = self._positions[user]
        category = self._categories.get(position.category) if position.category else None
        held = []
        for number in listed(position.bits):
            listing = self._listings.get(number)
            if listing is None:
                # The pool passes a reserve over that is not there any more.
                continue
            if listing.price is None:
                return None
            scaled_supply, scaled_debt = position.scaled.get(number, (0, 0))
            held.append(_held(listing, category, position, scaled_supply, scaled_debt, timestamp))
        return held

    def worths(self) -> dict[Address, tuple[float, float]]:
        """Return by asset what a unit of scaled supply and one of scaled debt are worth now."""
        found = {}
        for each in self._listings.values():
            # What overflows here the pool cannot compute either: who has it cannot be liquidated.
            with contextlib.suppress(Overflowed):
                supply, debt = _worth(each, self._block.timestamp)
                if supply > 0 and debt > 0:
                    found[each.asset] = (supply, debt)
        return found

    def sides(self, user: Address) -> Sides:
        """Return which assets are a borrower's collateral, and which he owes."""
        position = self._positions[user]
        found = self._sides.get(position.bits)
        if found is None:
            known = [number for number in listed(position.bits) if number in self._listings]
            found = self._sides[position.bits] = (
                tuple(self._listings[number].asset for number in known if position.uses(number)),
                tuple(self._listings[number].asset for number in known if position.borrows(number)),
            )
        return found

    def health(self, user: Address) -> int | None:
        """Return a borrower's health factor; None where a price is missing, 2**256 - 1 where he owes less than a dollar.

        As `health_factor` of his `position`, without making one: thousands are asked for when a price falls.
        """
        position = self._positions[user]
        bits = position.bits
        category = self._categories.get(position.category) if position.category else None
        weighted, debts = 0, []
        for number in listed(bits):
            listing = self._listings.get(number)
            if listing is None:
                continue
            now = self._now.get(number) or self._indexed(number, listing)
            if now.price is None:
                return None
            scaled_supply, scaled_debt = position.scaled.get(number, (0, 0))
            if now.supply_index is None:
                raise Overflowed
            supply = ray_mul_floor(scaled_supply, now.supply_index)
            if bits >> 2 * number & 1:
                if now.borrow_index is None:
                    raise Overflowed
                debts.append((ray_mul_ceil(scaled_debt, now.borrow_index), now.price, now.unit))
            if bits >> 2 * number & 2:
                special = category is not None and category.collateral >> number & 1
                threshold = category.liquidation_threshold if category and special else listing.liquidation_threshold
                weighted += supply * now.price // now.unit * threshold
        # Once it is known that no price is missing: what is worth too much for the pool may be beside one that is.
        debt = sum(mul_div_ceil(*each) for each in debts)
        return UINT256_MAX if debt < DUST_BASE else wad_div(weighted, debt) // HUNDRED_PERCENT

    def takings(self, user: Address, native: Address) -> Takings | None:
        """Return what can be taken of a borrower; None where he is not liquidatable, or a price is missing."""
        now = self._block.timestamp
        try:
            position = self.position(user, now)
        except Overflowed:
            return None
        if position is None or health_factor(position) >= WAD:
            return None
        allowed = frozenset(each.asset for each in self._listings.values() if each.liquidatable(now))
        found, came = [], LeftAlone.CLOSED
        for debt, collateral in product(position, position):
            refused = _refused(debt, collateral, allowed, native)
            came = max(came, LeftAlone.NO_WAY if refused is None else refused)
            if refused is None:
                found.append(_taking(position, debt, collateral, native))
        return Takings(found, came, (self._positions[user], tuple(held.reserve.price for held in position), allowed))

    def sellers(self) -> Collection[Address]:
        """Return nobody: what is seized is given at once."""
        return ()

    def _indexed(self, number: int, listing: Listing) -> _Now:
        indices, seconds = listing.indices, max(0, self._block.timestamp - listing.indices.updated_at)
        supply_index = borrow_index = None
        with contextlib.suppress(Overflowed):
            supply_index = grown_supply(indices.liquidity_index, indices.liquidity_rate, seconds)
        with contextlib.suppress(Overflowed):
            borrow_index = grown_debt(indices.borrow_index, indices.borrow_rate, seconds)
        found = self._now[number] = _Now(supply_index, borrow_index, listing.price, 10**listing.decimals)
        return found

    def _forget(self) -> None:
        self._now, self._sides = {}, {}

    def _put(self, positions: Mapping[Address, Position | None]) -> None:
        for user, position in positions.items():
            if position is None:
                self._positions.pop(user, None)
            else:
                self._positions[user] = position


def _kept(position: Position) -> Position | None:
    return position if position.indebted else None


def _held(
    listing: Listing,
    category: Category | None,
    position: Position,
    scaled_supply: int,
    scaled_debt: int,
    timestamp: int,
) -> Held:
    indices = listing.indices
    seconds = max(0, timestamp - indices.updated_at)
    special = category if category is not None and category.collateral >> listing.number & 1 else None
    source = special or listing
    return Held(
        reserve=Reserve(
            asset=listing.asset,
            decimals=listing.decimals,
            price=listing.price or 0,
            liquidation_threshold=source.liquidation_threshold,
            liquidation_bonus=source.liquidation_bonus,
            protocol_fee=listing.protocol_fee,
        ),
        supplied=supplied(scaled_supply, indices.liquidity_index, indices.liquidity_rate, seconds),
        owed=owed(scaled_debt, indices.borrow_index, indices.borrow_rate, seconds)
        if position.borrows(listing.number)
        else 0,
        collateral=position.uses(listing.number),
    )


def _worth(listing: Listing, timestamp: int) -> tuple[float, float]:
    indices, price = listing.indices, float(listing.price or 0)
    seconds = max(0, timestamp - indices.updated_at)
    supply = supplied(RAY, indices.liquidity_index, indices.liquidity_rate, seconds)
    debt = owed(RAY, indices.borrow_index, indices.borrow_rate, seconds)
    return price * supply / RAY, price * debt / RAY


def _refused(debt: Held, collateral: Held, allowed: Collection[Address], native: Address) -> LeftAlone | None:
    assets = (debt.reserve.asset, collateral.reserve.asset)
    if not {*assets} <= {*allowed}:
        return LeftAlone.CLOSED
    if debt.debt_base < LEAST_BASE or collateral.collateral_base < LEAST_BASE:
        return LeftAlone.DUST
    return LeftAlone.ONE_TOKEN if assets[0] == assets[1] != native else None


def _taking(position: Sequence[Held], debt: Held, collateral: Held, native: Address) -> Taking:
    coin = next((held.reserve for held in position if held.reserve.asset == native and held.reserve.price), None)
    return Taking(
        debt=debt.reserve.asset,
        collateral=collateral.reserve.asset,
        take=partial(_take, position, collateral, debt),
        whole=debt.owed,
        supplied=collateral.supplied,
        middling=None if coin is None else debt.debt_base * coin.unit // (4 * coin.price),
    )


def _take(position: Sequence[Held], collateral: Held, debt: Held, offered: int) -> tuple[int, int] | None:
    done = liquidate(position, collateral, debt, offered)
    return None if done is None else (done.debt, done.collateral)
