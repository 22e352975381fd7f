"""Solidly's pools, volatile (x y) and stable (x^3 y + y^3 x), as Velodrome V2 and Aerodrome compute them.

The fee is taken off what comes in first and leaves the pool; the stable curve is then solved by Newton's method in 18 decimals, step for step
as the contract does, its quirks included: where it looks whether y + 1 is the answer, it scales amounts by the tokens' decimals a second time.
Source: Velodrome V2's and Aerodrome's Pool (getAmountOut, _get_y, _k, swap). Solidly's first version and Camelot's stable pools end their
iteration in another way: they are not meant here.
"""

from typing import NamedTuple, Self

from mev.market.amm.errors import AmmError
from mev.market.amm.price_math import UINT256_MAX

ONE = 10**18
FEE_DENOMINATOR = 10_000
ITERATIONS = 255


class SolidlySwapped(NamedTuple):
    """What a swap gives, base units, and the pool afterwards."""

    amount_out: int
    pool: "SolidlyPool"


class SolidlyPool(NamedTuple):
    """A pool after a block; reserves in base units, `unit0` and `unit1` are 10**decimals, the fee is ten-thousandths of what comes in."""

    reserve0: int
    reserve1: int
    unit0: int
    unit1: int
    fee: int
    stable: bool

    def amount_out(self, amount_in: int, *, zero_for_one: bool) -> int:
        """Return what getAmountOut says, rounded down; raises AmmError where the contract reverts."""
        if amount_in < 0:
            raise AmmError("the amount is negative")
        net = amount_in - _checked(amount_in * self.fee) // FEE_DENOMINATOR
        if not self.stable:
            reserve_in, reserve_out = (self.reserve0, self.reserve1) if zero_for_one else (self.reserve1, self.reserve0)
            if reserve_in + net == 0:
                raise AmmError("division by zero")
            return _checked(net * reserve_out) // (reserve_in + net)
        units = (self.unit0, self.unit1)
        reserves = (self.reserve0 * ONE // self.unit0, self.reserve1 * ONE // self.unit1)
        unit_in, unit_out = units if zero_for_one else units[::-1]
        reserve_in, reserve_out = reserves if zero_for_one else reserves[::-1]
        solved = self._solve(net * ONE // unit_in + reserve_in, _invariant(*reserves), reserve_out)
        if solved > reserve_out:
            raise AmmError("underflow")
        return (reserve_out - solved) * unit_out // ONE

    def swap(self, amount_in: int, *, zero_for_one: bool) -> SolidlySwapped:
        """Return the swap for as much as getAmountOut says; raises AmmError where the pool would refuse it."""
        out = self.amount_out(amount_in, zero_for_one=zero_for_one)
        if out == 0:
            raise AmmError("InsufficientOutputAmount")
        if out >= (self.reserve1 if zero_for_one else self.reserve0):
            raise AmmError("InsufficientLiquidity")
        kept = amount_in - amount_in * self.fee // FEE_DENOMINATOR
        moved = (kept, -out) if zero_for_one else (-out, kept)
        after = self._replace(reserve0=self.reserve0 + moved[0], reserve1=self.reserve1 + moved[1])
        if after.invariant() < self.invariant():
            raise AmmError("K")
        return SolidlySwapped(out, after)

    def at(self, reserve0: int, reserve1: int) -> Self:
        """Return the pool with other reserves, as a Sync event gives them."""
        return self._replace(reserve0=reserve0, reserve1=reserve1)

    def invariant(self) -> int:
        """Return what no swap may make less: x y, or x^3 y + y^3 x in 18 decimals."""
        return self._k(self.reserve0, self.reserve1)

    def _k(self, amount0: int, amount1: int) -> int:
        if not self.stable:
            return _checked(amount0 * amount1)
        return _invariant(amount0 * ONE // self.unit0, amount1 * ONE // self.unit1)

    def _solve(self, x: int, k: int, y: int) -> int:
        """Return the y that belongs to x on the curve, from a first guess on."""
        for _ in range(ITERATIONS):
            found = _invariant(x, y)
            slope = _slope(x, y)
            if slope == 0:
                raise AmmError("division by zero")
            if found < k:
                change = _checked((k - found) * ONE) // slope
                if change == 0:
                    # The contract scales by the tokens' decimals here although both amounts have 18 already.
                    if self._k(x, y + 1) > k:
                        return y + 1
                    change = 1
                y += change
            else:
                change = _checked((found - k) * ONE) // slope
                if change == 0:
                    if found == k or _invariant(x, y - 1) < k:
                        return y
                    change = 1
                y -= change
            if y < 0:
                raise AmmError("underflow")
        raise AmmError("!y")


def _invariant(x: int, y: int) -> int:
    if y < 0:
        raise AmmError("underflow")
    product = _checked(x * y) // ONE
    squares = _checked(x * x) // ONE + _checked(y * y) // ONE
    return _checked(product * squares) // ONE


def _slope(x: int, y: int) -> int:
    return _checked(3 * x * (_checked(y * y) // ONE)) // ONE + _checked(_checked(x * x) // ONE * x) // ONE


def _checked(value: int) -> int:
    if value > UINT256_MAX:
        raise AmmError("overflow")
    return value
