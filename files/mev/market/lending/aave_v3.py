"""Aave V3's positions and liquidations, to the unit as the pool computes them.

Source: aave-v3-origin from 3.5 on (GenericLogic.calculateUserAccountData, LiquidationLogic.executeLiquidationCall, TokenMath): balances are rounded down and
debts up. Prices are the oracle's: base currency (usually US dollars with 8 decimals) for one whole token. Thresholds, bonuses and fees are
ten-thousandths; a bonus of 10500 is five per cent on top. Not here: isolation mode, the sequencer's grace period, paused reserves.
"""

from collections.abc import Sequence

import msgspec

from mev.domain.market import Address
from mev.market.lending.wad_ray import (
    UINT256_MAX,
    WAD,
    compounded_interest,
    linear_interest,
    mul_div_ceil,
    percent_div,
    percent_div_ceil,
    percent_mul,
    ray_mul,
    ray_mul_ceil,
    ray_mul_floor,
    wad_div,
)

CLOSE_FACTOR = 5000
CLOSE_FACTOR_HEALTH = 95 * WAD // 100
# Below it, in base currency, all of a debt can be liquidated at once; half of it is the least that may be left of either side.
MIN_CLOSE_FACTOR_BASE = 2000 * 10**8
MIN_LEFTOVER_BASE = MIN_CLOSE_FACTOR_BASE // 2
HUNDRED_PERCENT = 10**4


class Reserve(msgspec.Struct, frozen=True, kw_only=True):
    """What the pool knows of one asset for one borrower: in an eMode category its threshold and bonus are the category's."""

    asset: Address
    decimals: int
    price: int
    liquidation_threshold: int
    liquidation_bonus: int
    protocol_fee: int

    @property
    def unit(self) -> int:
        """One whole token, base units."""
        return int(10**self.decimals)


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """What a borrower has in one reserve, base units of the asset; `collateral` where it is used as that."""

    reserve: Reserve
    supplied: int = 0
    owed: int = 0
    collateral: bool = True

    @property
    def collateral_base(self) -> int:
        """What counts as collateral, base currency, rounded down."""
        if not self.collateral or not self.reserve.liquidation_threshold:
            return 0
        return self.supplied * self.reserve.price // self.reserve.unit

    @property
    def debt_base(self) -> int:
        """What is owed, base currency, rounded up."""
        return mul_div_ceil(self.owed, self.reserve.price, self.reserve.unit)


class Liquidation(msgspec.Struct, frozen=True, kw_only=True):
    """What one call of liquidationCall() would do: the liquidator pays `debt` and gets `collateral`, base units of each asset."""

    debt: int
    collateral: int
    protocol_fee: int


def grown_supply(liquidity_index: int, rate: int, seconds: int) -> int:
    """Return a reserve's liquidity index `seconds` after its last update; index and yearly rate in ray."""
    return ray_mul(linear_interest(rate, seconds), liquidity_index)


def grown_debt(borrow_index: int, rate: int, seconds: int) -> int:
    """Return a reserve's variable borrow index `seconds` after its last update; index and yearly rate in ray."""
    return ray_mul(compounded_interest(rate, seconds), borrow_index)


def supplied(scaled: int, liquidity_index: int, rate: int, seconds: int) -> int:
    """Return an aToken's balance `seconds` after the reserve's last update; index and yearly rate in ray."""
    return ray_mul_floor(scaled, grown_supply(liquidity_index, rate, seconds))


def owed(scaled: int, borrow_index: int, rate: int, seconds: int) -> int:
    """Return a variable debt `seconds` after the reserve's last update; index and yearly rate in ray."""
    return ray_mul_ceil(scaled, grown_debt(borrow_index, rate, seconds))


def health_factor(position: Sequence[Held]) -> int:
    """Return the health factor in wad: below 1e18 a position can be liquidated; without debt it is 2**256 - 1."""
    debt = sum(held.debt_base for held in position)
    if debt == 0:
        return UINT256_MAX
    weighted = sum(held.collateral_base * held.reserve.liquidation_threshold for held in position)
    return wad_div(weighted, debt) // HUNDRED_PERCENT


def trigger_price(position: Sequence[Held], asset: Address, highest: int) -> int | None:
    """Return the price of `asset` from which on, falling, the position can be liquidated, all other prices unchanged; None where there is none up to `highest`.

    For an asset that is owed rather than supplied, the price from which on, rising, it can be. That is the greatest price of a falling
    asset, or the smallest of a rising one, at which the health factor is below 1; searched by halving, so exact.
    """
    if not any(held.reserve.asset == asset for held in position):
        return None

    def unhealthy(price: int) -> bool:
        return health_factor([_priced(held, asset, price) for held in position]) < WAD

    falling = unhealthy(1) and not unhealthy(highest)
    rising = unhealthy(highest) and not unhealthy(1)
    if not falling and not rising:
        return None
    low, high = 1, highest
    while high - low > 1:
        middle = (low + high) // 2
        if unhealthy(middle) == falling:
            low = middle
        else:
            high = middle
    return low if falling else high


def most_debt(position: Sequence[Held], collateral: Held, debt: Held) -> int:
    """Return how much of a debt can be covered at once, base units of its asset: half of all debt, or the whole of this one.

    The whole where the health factor is 0.95 or less, or either side of the pair is worth less than 2000 of base currency.
    """
    limited = (
        collateral.supplied * collateral.reserve.price // collateral.reserve.unit >= MIN_CLOSE_FACTOR_BASE
        and debt.debt_base >= MIN_CLOSE_FACTOR_BASE
        and health_factor(position) > CLOSE_FACTOR_HEALTH
    )
    if limited:
        most_base = percent_mul(sum(held.debt_base for held in position), CLOSE_FACTOR)
        if debt.debt_base > most_base:
            return most_base * debt.reserve.unit // debt.reserve.price
    return debt.owed


def liquidate(position: Sequence[Held], collateral: Held, debt: Held, debt_to_cover: int) -> Liquidation | None:
    """Return what a call would do that offers `debt_to_cover`; None where the pool would revert.

    It does while the health factor is 1 or more, where there is nothing to take or to pay, and where dust would be left.
    """
    if health_factor(position) >= WAD or not collateral.collateral_base or not debt.owed or debt_to_cover <= 0:
        return None
    wanted = min(debt_to_cover, most_debt(position, collateral, debt))
    paid, taken = collateral.reserve, debt.reserve
    base = taken.price * wanted * paid.unit // (paid.price * taken.unit)
    amount = percent_mul(base, paid.liquidation_bonus)
    needed = wanted
    if amount > collateral.supplied:
        amount = collateral.supplied
        value = paid.price * amount * taken.unit // (taken.price * paid.unit)
        needed = percent_div_ceil(value, paid.liquidation_bonus)
    bonus = amount - percent_div(amount, paid.liquidation_bonus)
    fee = percent_mul(bonus, paid.protocol_fee)
    done = Liquidation(debt=needed, collateral=amount - fee, protocol_fee=fee)
    return None if _leaves_dust(collateral, debt, done) else done


def _leaves_dust(collateral: Held, debt: Held, done: Liquidation) -> bool:
    debt_left = debt.owed - done.debt
    collateral_left = collateral.supplied - done.collateral - done.protocol_fee
    if debt_left <= 0 or collateral_left <= 0:
        return False
    return (
        mul_div_ceil(debt_left, debt.reserve.price, debt.reserve.unit) < MIN_LEFTOVER_BASE
        or collateral_left * collateral.reserve.price // collateral.reserve.unit < MIN_LEFTOVER_BASE
    )


def _priced(held: Held, asset: Address, price: int) -> Held:
    if held.reserve.asset != asset:
        return held
    return msgspec.structs.replace(held, reserve=msgspec.structs.replace(held.reserve, price=price))
