"""Compound V3 (Comet): whether a borrower can be absorbed, and what its collateral is sold for, to the unit as the contract computes it.

Source: Comet.sol of compound-finance/comet (isLiquidatable, absorbInternal, quoteCollateral, CometCore's present values). A liquidator is paid in
two steps: absorb() takes a borrower's whole position over, buyCollateral() then sells what Comet took at a discount, to anyone. Prices have 8
decimals, factors and indices 18 and 15. Not here: paused markets, the reward points of absorbers.
"""

from collections.abc import Sequence

import msgspec

from mev.domain.market import Address

FACTOR_SCALE = 10**18
INDEX_SCALE = 10**15


class Asset(msgspec.Struct, frozen=True, kw_only=True):
    """One collateral asset; `scale` is one whole token in base units."""

    asset: Address
    scale: int
    price: int
    liquidate_collateral_factor: int
    liquidation_factor: int


class Market(msgspec.Struct, frozen=True, kw_only=True):
    """One Comet: the token that is borrowed, its indices now, and what governs sales of collateral."""

    base_scale: int
    base_price: int
    base_borrow_index: int
    store_front_price_factor: int
    # In base units of the base token; negative where Comet owes more than it has.
    reserves: int = 0
    target_reserves: int = 0


def borrowed(principal: int, market: Market) -> int:
    """Return what a borrower owes now, base units of the base token; its principal is negative."""
    return -principal * market.base_borrow_index // INDEX_SCALE if principal < 0 else 0


def is_liquidatable(principal: int, collateral: Sequence[tuple[Asset, int]], market: Market) -> bool:
    """Return whether absorb() would take a borrower, whose collateral is (asset, base units) in the contract's order."""
    if principal >= 0:
        return False
    # The contract's division is of signed numbers, and so towards zero.
    liquidity = -(borrowed(principal, market) * market.base_price // market.base_scale)
    for asset, amount in collateral:
        if liquidity >= 0:
            return False
        liquidity += _value(asset, amount) * asset.liquidate_collateral_factor // FACTOR_SCALE
    return liquidity < 0


def trigger_price(
    principal: int, collateral: Sequence[tuple[Asset, int]], market: Market, asset: Address
) -> int | None:
    """Return the greatest price of a collateral asset at which the borrower can be absorbed, all other prices unchanged.

    None where it can at any price, where it never can, or where the borrower has none of the asset.
    """
    held = [(each, amount) for each, amount in collateral if each.asset == asset and amount]
    if not held:
        return None

    def absorbed(price: int) -> bool:
        priced = [
            (msgspec.structs.replace(each, price=price) if each.asset == asset else each, amount)
            for each, amount in collateral
        ]
        return is_liquidatable(principal, priced, market)

    low, high = 1, 2
    if not absorbed(low):
        return None
    # One more unit of price is worth at least nothing: without a bound the asset's factor is 0, and it never counts.
    while absorbed(high):
        low, high = high, 2 * high
        if high.bit_length() > 128:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if absorbed(middle) else (low, middle)
    return low


def is_for_sale(market: Market) -> bool:
    """Return whether buyCollateral() sells at all: only while the reserves are below their target."""
    return market.reserves < market.target_reserves or market.reserves < 0


def quote_collateral(asset: Asset, base_amount: int, market: Market) -> int:
    """Return how much of an asset buyCollateral() gives for an amount of the base token, base units of each."""
    discount = market.store_front_price_factor * (FACTOR_SCALE - asset.liquidation_factor) // FACTOR_SCALE
    discounted = asset.price * (FACTOR_SCALE - discount) // FACTOR_SCALE
    return market.base_price * base_amount * asset.scale // discounted // market.base_scale


def _value(asset: Asset, amount: int) -> int:
    return amount * asset.price // asset.scale
