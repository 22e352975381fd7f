"""One Compound V3 market as a block left it: prices, the borrow index, what it sells, and everybody's debts and collateral."""

from collections import deque
from collections.abc import Collection, Mapping
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from mev.domain import Block
from mev.domain.market import Address
from mev.market.lending.comet_reader import Owing, Standing, Terms
from mev.market.lending.compound_v3 import (
    FACTOR_SCALE,
    Asset,
    Market,
    borrowed,
    is_for_sale,
    is_liquidatable,
    quote_collateral,
)
from mev.market.lending.takings import LeftAlone, Sides, Taking, Takings
from mev.market.lending.wad_ray import UINT256_MAX, WAD
from mev.market.state import UNDO_BLOCKS, StateError

# A dollar, with a price's 8 decimals: less than ten of these pay for no transaction.
DUST = 10**8
LEAST = 10 * DUST


class _Applied(NamedTuple):
    parent: Block
    standing: Standing
    positions: dict[Address, Owing | None]


class CometBook:
    """A market at `block`; has one writer, the task that follows the chain. `comet` is its address."""

    def __init__(
        self, comet: Address, block: Block, known: Terms, standing: Standing, positions: Mapping[Address, Owing | None]
    ) -> None:
        """Start from what was read at `block` (mev.market.lending.comet_reader)."""
        self._comet = comet
        self._block = block
        self.terms = known
        self._standing = standing
        self._positions = {user: each for user, each in positions.items() if each is not None}
        self._journal: deque[_Applied] = deque(maxlen=UNDO_BLOCKS)

    @property
    def block(self) -> Block:
        """The block after which everything is as it is here."""
        return self._block

    @property
    def standing(self) -> Standing:
        """Prices, index, and what is for sale."""
        return self._standing

    def positions(self) -> Mapping[Address, Owing]:
        """Everybody who owes anything; a read-only view."""
        return MappingProxyType(self._positions)

    def apply(self, block: Block, standing: Standing, positions: Mapping[Address, Owing | None]) -> frozenset[Address]:
        """Take in the next block: how the market stands, and the positions that were read again; return whose changed.

        Raises StateError, and changes nothing, where the block is not the child of the last one.
        """
        if block.parent_hash != self._block.hash:
            raise StateError(f"block {block.number} does not follow block {self._block.number}, the last one applied")
        changed = {user for user, each in positions.items() if self._positions.get(user) != each}
        self._journal.append(
            _Applied(self._block, self._standing, {user: self._positions.get(user) for user in changed})
        )
        self._put({user: positions[user] for user in changed})
        self._block, self._standing = block, standing
        return frozenset(changed)

    def undo_to(self, ancestor: Block) -> None:
        """Go back to what was after `ancestor`; raises StateError, and changes nothing, where it is none of the last blocks applied."""
        if ancestor.hash == self._block.hash:
            return
        if ancestor.hash not in {applied.parent.hash for applied in self._journal}:
            raise StateError(
                f"block {ancestor.number} is not among the last {len(self._journal)} before {self._block.number}"
            )
        while self._block.hash != ancestor.hash:
            applied = self._journal.pop()
            self._block, self._standing = applied.parent, applied.standing
            self._put(applied.positions)

    def worths(self) -> dict[Address, tuple[float, float]]:
        """Return what a unit of each asset is worth: as collateral, and of the base token as debt with its interest."""
        market = self._standing.market
        found = {asset: (float(each.price), 1.0) for asset, each in self._standing.assets.items()}
        if market is not None:
            found[self.terms.base] = (1.0, float(market.base_price) * market.base_borrow_index)
        return found

    def sides(self, user: Address) -> Sides:
        """Return which assets are a borrower's collateral, and that he owes base."""
        return tuple(sorted(self._positions[user].collateral)), (self.terms.base,)

    def health(self, user: Address) -> int | None:
        """Return what counts of the collateral over the debt in wad, below 1e18 exactly where absorb() takes the borrower.

        None where a price is missing, 2**256 - 1 where he owes less than a dollar.
        """
        held = self._held(user)
        if held is None:
            return None
        market, collateral = held
        principal = self._positions[user].principal
        debt = borrowed(principal, market) * market.base_price // market.base_scale
        if debt < DUST:
            return UINT256_MAX
        counted = sum(
            amount * asset.price // asset.scale * asset.liquidate_collateral_factor // FACTOR_SCALE
            for asset, amount in collateral
        )
        health = counted * WAD // debt
        return min(health, WAD - 1) if is_liquidatable(principal, collateral, market) else max(health, WAD)

    def takings(self, user: Address, native: Address) -> Takings | None:
        """Return what can be bought once a borrower is absorbed, or where `user` is the market what it sells now; None where nothing can be known."""
        owed, own = 0, {}
        if user != self._comet:
            held = self._held(user)
            if held is None or not is_liquidatable(self._positions[user].principal, held[1], held[0]):
                return None
            owed, own = borrowed(self._positions[user].principal, held[0]), self._positions[user].collateral
        market = self._standing.market
        if market is None:
            return None
        # Absorbing pays at least the debt out of the reserves.
        after = msgspec.structs.replace(market, reserves=market.reserves - owed)
        found, came = [], LeftAlone.CLOSED
        for asset in self._standing.assets.values():
            available = self._standing.held.get(asset.asset, 0) + own.get(asset.asset, 0)
            refused = self._refused(asset, available, after)
            came = max(came, LeftAlone.NO_WAY if refused is None else refused)
            if refused is None:
                taking = Taking(
                    debt=self.terms.base,
                    collateral=asset.asset,
                    take=partial(_buy, asset, available, after),
                    whole=0,
                    supplied=available,
                    middling=self._middling(asset, available, native),
                )
                found.append(taking)
        standing = self._standing
        what = (owed, tuple(own.items()), tuple(standing.held.items()), market.base_price, standing.paused)
        return Takings(found, came, (*what, tuple(each.price for each in standing.assets.values()), is_for_sale(after)))

    def sellers(self) -> Collection[Address]:
        """Return the market itself, where it has something that it may sell."""
        market = self._standing.market
        return (
            (self._comet,) if market is not None and is_for_sale(market) and any(self._standing.held.values()) else ()
        )

    def _held(self, user: Address) -> tuple[Market, list[tuple[Asset, int]]] | None:
        standing, owed = self._standing, self._positions[user]
        if standing.market is None or not owed.collateral.keys() <= standing.assets.keys():
            return None
        # In the contract's order.
        listed = (each.asset for each in self.terms.assets)
        return standing.market, [
            (standing.assets[each], owed.collateral[each]) for each in listed if each in owed.collateral
        ]

    def _refused(self, asset: Asset, available: int, market: Market) -> LeftAlone | None:
        if self._standing.paused or not is_for_sale(market):
            return LeftAlone.CLOSED
        if available * asset.price // asset.scale < LEAST:
            return LeftAlone.DUST
        return LeftAlone.ONE_TOKEN if asset.asset == self.terms.base else None

    def _middling(self, asset: Asset, available: int, native: Address) -> int | None:
        coin = asset if asset.asset == native else self._standing.assets.get(native)
        return None if coin is None else available * asset.price // asset.scale * coin.scale // (4 * coin.price)

    def _put(self, positions: Mapping[Address, Owing | None]) -> None:
        for user, position in positions.items():
            if position is None:
                self._positions.pop(user, None)
            else:
                self._positions[user] = position


def _buy(asset: Asset, available: int, market: Market, offered: int) -> tuple[int, int] | None:
    bought = quote_collateral(asset, offered, market)
    return (offered, bought) if 0 < bought <= available else None
