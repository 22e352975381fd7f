"""What a liquidation on Aave V3 would leave: which debt to cover with which collateral, how much of it, and the way back into the debt's asset.

Evaluation: nothing here sends. Collateral is sold through a path of pools on their own mathematics, so that what is covered is weighed against the slippage that
selling costs: the profit is, but for rounding, concave in the debt that is covered, and searched.
"""

from collections.abc import Callable, Mapping, Sequence

import msgspec

from mev.domain.market import Address
from mev.market.amm import AmmError
from mev.market.lending.aave_v3 import Held, Liquidation, health_factor, liquidate, most_debt
from mev.market.lending.wad_ray import WAD
from mev.trading.strategies.sandwich import PathHop

NAME = "liquidation"
NEIGHBOURS = 2

# From one asset to another: the pools to sell through, in order; empty where it is the same.
Paths = Mapping[tuple[Address, Address], Sequence[PathHop]]


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """One liquidation: `liquidation.debt` of `debt_asset` is paid, the collateral brings `proceeds` of it; base units of `debt_asset`."""

    debt_asset: Address
    collateral_asset: Address
    health_factor: int
    liquidation: Liquidation
    proceeds: int
    cost: int

    @property
    def profit(self) -> int:
        """What is left after `cost` (gas, a flash loan's fee), base units of `debt_asset`."""
        return self.proceeds - self.liquidation.debt - self.cost


def best_liquidation(
    position: Sequence[Held], paths: Paths, cost: Callable[[Address], int] = lambda _: 0
) -> Candidate | None:
    """Return the liquidation of a position that leaves most, None where none leaves anything.

    `cost` is what a transaction costs, in base units of the asset that it is given.
    """
    health = health_factor(position)
    if health >= WAD:
        return None
    found = [
        candidate
        for debt in position
        for collateral in position
        if debt.owed and collateral.collateral_base
        for path in [_path(paths, collateral, debt)]
        if path is not None and (candidate := _best(position, collateral, debt, path, health, cost(debt.reserve.asset)))
    ]
    best = max(found, key=lambda candidate: _value(candidate, position), default=None)
    return best if best is not None and best.profit > 0 else None


def _path(paths: Paths, collateral: Held, debt: Held) -> Sequence[PathHop] | None:
    assets = (collateral.reserve.asset, debt.reserve.asset)
    return () if assets[0] == assets[1] else paths.get(assets)


def _value(candidate: Candidate, position: Sequence[Held]) -> int:
    """Candidates may be in different assets: they are compared in base currency, by the oracle's prices."""
    reserve = next(held.reserve for held in position if held.reserve.asset == candidate.debt_asset)
    return candidate.profit * reserve.price // reserve.unit


def _best(
    position: Sequence[Held], collateral: Held, debt: Held, path: Sequence[PathHop], health: int, cost: int
) -> Candidate | None:
    def candidate(amount: int) -> Candidate | None:
        done = liquidate(position, collateral, debt, amount)
        proceeds = None if done is None else _sold(path, done.collateral)
        if done is None or proceeds is None:
            return None
        return Candidate(
            debt_asset=debt.reserve.asset,
            collateral_asset=collateral.reserve.asset,
            health_factor=health,
            liquidation=done,
            proceeds=proceeds,
            cost=cost,
        )

    most = most_debt(position, collateral, debt)
    # All that is allowed may leave nothing behind, which a little less may not: those two are looked at apart.
    partial = _most_partial(candidate, most)
    tried = [candidate(most), *(candidate(amount) for amount in _around_peak(candidate, partial))]
    return max((each for each in tried if each is not None), key=lambda each: each.profit, default=None)


def _most_partial(candidate: Callable[[int], Candidate | None], most: int) -> int:
    """Return the greatest amount below `most` that the pool takes: from some amount on, what is left is dust."""
    low, high = 0, most - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if candidate(middle) is not None else (low, middle - 1)
    return low


def _around_peak(candidate: Callable[[int], Candidate | None], most: int) -> range:
    def profit(amount: int) -> int:
        found = candidate(amount)
        return -amount if found is None else found.profit

    low, high = 0, most
    while high - low > 2 * NEIGHBOURS:
        third = (high - low) // 3
        if profit(low + third) < profit(high - third):
            low += third
        else:
            high -= third
    return range(max(1, low - NEIGHBOURS), min(most, high + NEIGHBOURS) + 1)


def _sold(path: Sequence[PathHop], amount: int) -> int | None:
    try:
        for hop in path:
            amount, _ = hop.curve.sell(amount, zero_for_one=hop.zero_for_one)
    except AmmError:
        return None
    return amount
