"""Balancer V2's weighted and stable pools, as their onSwap computes them between two tokens.

The vault hands a pool its balances; the pool scales them to 18 decimals and by the tokens' rates (`scaling`, 18 decimals: 10**(18 - decimals)
times the rate), takes its fee off what comes in, and rounds against the trader. Supported: WeightedPool, before 2022 and since (`shortcuts`,
see mev.market.amm.log_exp); StablePool and MetaStablePool (StableRounding.UP) and ComposableStablePool (StableRounding.DOWN), whose own
LP token is to be left out of the balances: joins and exits by swap are not supported. Source: balancer-v2-monorepo, pool-weighted 2.0.1,
pool-stable 2.0.0, pool-utils 2.0.1, and for composable pools pool-stable of 2022.
"""

from collections.abc import Sequence
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

from mev.market.amm.errors import AmmError
from mev.market.amm.log_exp import ONE, div_down, div_up, mul_down, mul_up, pow_up

AMPLIFICATION_PRECISION = 1000
ITERATIONS = 255
# Of a balance, at most this share may come in or go out at once.
MAX_RATIO = 3 * 10**17


class StableRounding(Enum):
    """How a stable pool's invariant is rounded while it is iterated: which family of contracts it is of."""

    UP = "up"
    DOWN = "down"


class WeightedPool(NamedTuple):
    """A weighted pool after a block: balances in base units, weights and fee in 18 decimals."""

    balances: tuple[int, ...]
    weights: tuple[int, ...]
    scaling: tuple[int, ...]
    fee: int
    shortcuts: bool

    def amount_out(self, i: int, j: int, amount_in: int) -> int:
        """Return what comes out of token j for exactly `amount_in` of token i; raises AmmError where the pool reverts."""
        balance_in, balance_out = _pair(self.balances, self.scaling, i, j)
        put_in = mul_down(_less_fee(amount_in, self.fee), self.scaling[i])
        if put_in > mul_down(balance_in, MAX_RATIO):
            raise AmmError("MAX_IN_RATIO")
        base = div_up(balance_in, balance_in + put_in)
        moved = pow_up(base, div_down(self.weights[i], self.weights[j]), shortcuts=self.shortcuts)
        return div_down(mul_down(balance_out, max(ONE - moved, 0)), self.scaling[j])

    def amount_in(self, i: int, j: int, amount_out: int) -> int:
        """Return what token i costs for exactly `amount_out` of token j; raises AmmError where the pool reverts."""
        balance_in, balance_out = _pair(self.balances, self.scaling, i, j)
        taken = mul_down(amount_out, self.scaling[j])
        if taken > mul_down(balance_out, MAX_RATIO):
            raise AmmError("MAX_OUT_RATIO")
        base = div_up(balance_out, balance_out - taken)
        moved = pow_up(base, div_up(self.weights[j], self.weights[i]), shortcuts=self.shortcuts)
        return _with_fee(div_up(mul_up(balance_in, moved - ONE), self.scaling[i]), self.fee)


class StablePool(NamedTuple):
    """A stable pool after a block: balances in base units, `amplification` in thousandths, fee in 18 decimals."""

    balances: tuple[int, ...]
    scaling: tuple[int, ...]
    amplification: int
    fee: int
    rounding: StableRounding

    def amount_out(self, i: int, j: int, amount_in: int) -> int:
        """Return what comes out of token j for exactly `amount_in` of token i; raises AmmError where the pool reverts."""
        _pair(self.balances, self.scaling, i, j)
        balances = self.scaled()
        invariant = held_invariant(self)
        put_in = mul_down(_less_fee(amount_in, self.fee), self.scaling[i])
        after = list(balances)
        after[i] += put_in
        out = balances[j] - self._balance_at(after, j, invariant) - 1
        if out < 0:
            raise AmmError("SUB_OVERFLOW")
        return div_down(out, self.scaling[j])

    def amount_in(self, i: int, j: int, amount_out: int) -> int:
        """Return what token i costs for exactly `amount_out` of token j; raises AmmError where the pool reverts."""
        _pair(self.balances, self.scaling, i, j)
        balances = self.scaled()
        invariant = held_invariant(self)
        taken = mul_down(amount_out, self.scaling[j])
        if taken > balances[j]:
            raise AmmError("SUB_OVERFLOW")
        after = list(balances)
        after[j] -= taken
        cost = self._balance_at(after, i, invariant) - balances[i] + 1
        if cost < 0:
            raise AmmError("SUB_OVERFLOW")
        return _with_fee(div_up(cost, self.scaling[i]), self.fee)

    def invariant(self, balances: Sequence[int]) -> int:
        """Return the invariant of balances in 18 decimals."""
        total = sum(balances)
        if total == 0:
            return 0
        if not all(balances):
            raise AmmError("ZERO_DIVISION")
        step = self._rounded_up if self.rounding is StableRounding.UP else self._rounded_down
        found = total
        for _ in range(ITERATIONS):
            before, found = found, step(balances, total, found)
            if abs(found - before) <= 1:
                return found
        raise AmmError("STABLE_INVARIANT_DIDNT_CONVERGE")

    def _rounded_up(self, balances: Sequence[int], total: int, found: int) -> int:
        coins = len(balances)
        leverage = self._leverage()
        product = balances[0] * coins
        for balance in balances[1:]:
            product = -(-_fits(product * balance * coins) // found)
        return -(
            -(_fits(coins * found * found) - (-_fits(leverage * total * product) // AMPLIFICATION_PRECISION))
            // ((coins + 1) * found + _fits((leverage - AMPLIFICATION_PRECISION) * product) // AMPLIFICATION_PRECISION)
        )

    def _rounded_down(self, balances: Sequence[int], total: int, found: int) -> int:
        coins = len(balances)
        leverage = self._leverage()
        product = found
        for balance in balances:
            product = _fits(product * found) // (balance * coins)
        below = (leverage - AMPLIFICATION_PRECISION) * found // AMPLIFICATION_PRECISION + (coins + 1) * product
        if not below:
            raise AmmError("ZERO_DIVISION")
        return _fits((leverage * total // AMPLIFICATION_PRECISION + product * coins) * found) // below

    def _balance_at(self, balances: Sequence[int], i: int, invariant: int) -> int:
        """Return token i's balance at which the others, as given, have this invariant; rounded up."""
        if not all(balances) or not invariant:
            raise AmmError("ZERO_DIVISION")
        coins = len(balances)
        leverage = self._leverage()
        product = balances[0] * coins
        for balance in balances[1:]:
            product = _fits(product * balance * coins) // invariant
        if not product:
            raise AmmError("ZERO_DIVISION")
        squared = _fits(invariant * invariant)
        c = _fits(-(-squared // _fits(leverage * product)) * AMPLIFICATION_PRECISION * balances[i])
        b = sum(balances) - balances[i] + invariant // leverage * AMPLIFICATION_PRECISION
        found = -(-_fits(squared + c) // (invariant + b))
        for _ in range(ITERATIONS):
            before, slope = found, 2 * found + b - invariant
            if slope <= 0:
                raise AmmError("SUB_OVERFLOW")
            found = -(-_fits(found * found + c) // slope)
            if abs(found - before) <= 1:
                return found
        raise AmmError("STABLE_GET_BALANCE_DIDNT_CONVERGE")

    def _leverage(self) -> int:
        leverage = self.amplification * len(self.balances)
        if leverage < AMPLIFICATION_PRECISION:
            raise AmmError("MIN_AMP")
        return leverage

    def scaled(self) -> list[int]:
        """Return the balances in 18 decimals."""
        return [mul_down(balance, factor) for balance, factor in zip(self.balances, self.scaling, strict=True)]


@lru_cache(maxsize=1024)
def held_invariant(pool: StablePool) -> int:
    """Return the invariant of what a pool holds, 18 decimals: the same for every amount that it is asked about."""
    return pool.invariant(pool.scaled())


def _pair(balances: Sequence[int], scaling: Sequence[int], i: int, j: int) -> tuple[int, int]:
    if i == j or not (0 <= i < len(balances) and 0 <= j < len(balances)):
        raise AmmError(f"tokens {i} and {j} are no pair of this pool")
    return mul_down(balances[i], scaling[i]), mul_down(balances[j], scaling[j])


def _less_fee(amount: int, fee: int) -> int:
    if amount < 0:
        raise AmmError("the amount is negative")
    return amount - mul_up(amount, fee)


def _with_fee(amount: int, fee: int) -> int:
    return div_up(amount, ONE - fee)


def _fits(value: int) -> int:
    if value >> 256:
        raise AmmError("MUL_OVERFLOW")
    return value
