"""Curve's StableSwap pools, plain and meta, as their contracts compute them.

Amounts are scaled to 18 decimals by `rates` (10**(36 - decimals) for a plain coin; what an oracle or a base pool's virtual price says for
others), so that one formula serves all. Supported versions, which differ in rounding:

- FIRST: pools of 2020 without precision in A (3pool): get_dy takes its fee after scaling back, exchange before;
- SECOND: the templates and factories since, with A in hundredths; get_dy and exchange agree;
- NG: StableSwap-NG, whose fee grows where the pool is off its peg (`off_peg_multiplier`), and which divides by N**N at the end.

Not supported: lending pools that accrue within the call, pools with a `+ 1` in the invariant's division (the first lending pools), crypto pools.
Source: curvefi/curve-contract (StableSwap3Pool, pool-templates base and meta), curvefi/stableswap-ng.
"""

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from mev.market.amm.errors import AmmError
from mev.market.amm.price_math import UINT256_MAX

PRECISION = 10**18
FEE_DENOMINATOR = 10**10
ITERATIONS = 255


class Version(Enum):
    """Which contract a pool is an instance of: the precision of its A, where its fee is taken, how it divides."""

    FIRST = 1
    SECOND = 2
    NG = 3


class CurveSwapped(NamedTuple):
    """What an exchange gives, base units, and the pool afterwards."""

    amount_out: int
    pool: "CurvePool"


class Ramp(NamedTuple):
    """A's way from one value to another, times the version's precision, between two times (Unix seconds)."""

    initial: int
    future: int
    initial_time: int
    future_time: int


class CurvePool(NamedTuple):
    """A pool after a block: balances in base units, `amplification` as A() times the version's precision, fees in 10**-10.

    `supply` is the LP token's, needed only for deposits and withdrawals. `ramp` is there while A moves, and `amplification` what it is at that block's time.
    """

    version: Version
    balances: tuple[int, ...]
    rates: tuple[int, ...]
    amplification: int
    fee: int
    admin_fee: int
    off_peg_multiplier: int = 0
    supply: int = 0
    ramp: Ramp | None = None

    def at(self, now: int) -> "CurvePool":
        """Return the pool as it is at a time (Unix seconds), not before the one it was known at: its A may move."""
        if self.ramp is None:
            return self
        ramp = self.ramp if now < self.ramp.future_time else None
        return self._replace(amplification=ramped(*self.ramp, now), ramp=ramp)

    def amount_out(self, i: int, j: int, amount_in: int) -> int:
        """Return what exchange gives for `amount_in` of coin i in coin j; raises AmmError where it reverts."""
        return self.exchange(i, j, amount_in).amount_out

    def get_dy(self, i: int, j: int, amount_in: int) -> int:
        """Return what the view get_dy says, which in the first version may be a unit off what exchange gives."""
        if self.version is not Version.FIRST:
            return self.exchange(i, j, amount_in).amount_out
        gross, _ = self._gross(i, j, amount_in)
        out = gross * PRECISION // self.rates[j]
        return out - self.fee * out // FEE_DENOMINATOR

    def exchange(self, i: int, j: int, amount_in: int) -> CurveSwapped:
        """Return an exchange and the pool after it, the admin's part of the fee gone from the balances."""
        gross, fee = self._gross(i, j, amount_in)
        charged = gross * fee // FEE_DENOMINATOR
        out = (gross - charged) * PRECISION // self.rates[j]
        admin = charged * self.admin_fee // FEE_DENOMINATOR * PRECISION // self.rates[j]
        balances = list(self.balances)
        balances[i] += amount_in
        balances[j] -= out + admin
        if balances[j] < 0:
            raise AmmError("underflow")
        return CurveSwapped(out, self._replace(balances=tuple(balances)))

    def virtual_price(self) -> int:
        """Return the invariant per LP token, 18 decimals."""
        return self.invariant(self.scaled()) * PRECISION // self._supply()

    def calc_token_amount(self, amounts: Sequence[int], *, deposit: bool = True) -> int:
        """Return what the view says of LP tokens for a deposit or a withdrawal, which leaves the fee out."""
        sign = 1 if deposit else -1
        before = self.invariant(self.scaled())
        moved = tuple(balance + sign * amount for balance, amount in zip(self.balances, amounts, strict=True))
        after = self.invariant(self._replace(balances=moved).scaled())
        return sign * (after - before) * self._supply() // before

    def add_liquidity(self, amounts: Sequence[int]) -> CurveSwapped:
        """Return the LP tokens that a deposit mints, and the pool after it; NG's fee for deposits is not known here."""
        if self.version is Version.NG:
            raise AmmError("deposits into an NG pool are not supported")
        before = self.invariant(self.scaled())
        moved = [balance + amount for balance, amount in zip(self.balances, amounts, strict=True)]
        ideal = self.invariant(self._replace(balances=tuple(moved)).scaled())
        coins = len(self.balances)
        fee = self.fee * coins // (4 * (coins - 1))
        left = list(moved)
        for position, balance in enumerate(self.balances):
            charged = fee * abs(ideal * balance // before - moved[position]) // FEE_DENOMINATOR
            left[position] = moved[position] - charged * self.admin_fee // FEE_DENOMINATOR
            moved[position] -= charged
        after = self.invariant(self._replace(balances=tuple(moved)).scaled())
        minted = self._supply() * (after - before) // before
        return CurveSwapped(minted, self._replace(balances=tuple(left), supply=self.supply + minted))

    def remove_liquidity_one_coin(self, tokens: int, i: int) -> CurveSwapped:
        """Return what burning LP tokens gives in coin i, and the pool after it."""
        if self.version is Version.NG:
            raise AmmError("withdrawals from an NG pool are not supported")
        scaled = self.scaled()
        before = self.invariant(scaled)
        after = before - tokens * before // self._supply()
        coins = len(scaled)
        fee = self.fee * coins // (4 * (coins - 1))
        aim = self._balance_at(scaled, i, after)
        without_fee = (scaled[i] - aim) * PRECISION // self.rates[i]
        reduced = []
        for position, balance in enumerate(scaled):
            share = balance * after // before
            expected = share - aim if position == i else balance - share
            reduced.append(balance - fee * expected // FEE_DENOMINATOR)
        given = reduced[i] - self._balance_at(reduced, i, after) - 1
        if given < 0:
            raise AmmError("underflow")
        out = given * PRECISION // self.rates[i]
        balances = list(self.balances)
        balances[i] -= out + (without_fee - out) * self.admin_fee // FEE_DENOMINATOR
        return CurveSwapped(out, self._replace(balances=tuple(balances), supply=self.supply - tokens))

    def scaled(self) -> list[int]:
        """Return the balances in 18 decimals."""
        return [_checked(balance * rate) // PRECISION for balance, rate in zip(self.balances, self.rates, strict=True)]

    def invariant(self, scaled: Sequence[int]) -> int:
        """Return D of balances in 18 decimals; raises AmmError where the iteration does not come to an end."""
        total = sum(scaled)
        if total == 0:
            return 0
        if not all(scaled):
            raise AmmError("a balance is zero")
        coins, precision = len(scaled), self.precision
        leverage = self._leverage()
        found = total
        for _ in range(ITERATIONS):
            product = found
            for balance in scaled:
                product = _checked(product * found) // (balance if self.version is Version.NG else balance * coins)
            if self.version is Version.NG:
                product //= coins**coins
            below = (leverage - precision) * found // precision + (coins + 1) * product
            if not below:
                raise AmmError("division by zero")
            before = found
            found = _checked((leverage * total // precision + product * coins) * found) // below
            if abs(found - before) <= 1:
                return found
        raise AmmError("the invariant does not converge")

    @property
    def precision(self) -> int:
        """Return what A is multiplied by in `amplification`."""
        return 1 if self.version is Version.FIRST else 100

    def _gross(self, i: int, j: int, amount_in: int) -> tuple[int, int]:
        """Return what leaves coin j in 18 decimals, the fee still in it, and the fee's rate."""
        if i == j or not (0 <= i < len(self.balances) and 0 <= j < len(self.balances)):
            raise AmmError(f"coins {i} and {j} are no pair of this pool")
        if amount_in < 0:
            raise AmmError("the amount is negative")
        scaled = self.scaled()
        put_in = scaled[i] + _checked(amount_in * self.rates[i]) // PRECISION
        rest = list(scaled)
        rest[i] = put_in
        left = self._balance_at(rest, j, self.invariant(scaled))
        gross = scaled[j] - left - 1
        if gross < 0:
            raise AmmError("underflow")
        if self.version is not Version.NG:
            return gross, self.fee
        return gross, self._off_peg_fee((scaled[i] + put_in) // 2, (scaled[j] + left) // 2)

    def _off_peg_fee(self, one: int, other: int) -> int:
        if self.off_peg_multiplier <= FEE_DENOMINATOR:
            return self.fee
        sum_squared = (one + other) ** 2
        return (self.off_peg_multiplier * self.fee) // (
            (self.off_peg_multiplier - FEE_DENOMINATOR) * 4 * one * other // sum_squared + FEE_DENOMINATOR
        )

    def _balance_at(self, scaled: Sequence[int], i: int, invariant: int) -> int:
        """Return coin i's balance at which the others, as given, have this invariant."""
        coins, precision = len(scaled), self.precision
        leverage = self._leverage()
        c, others = invariant, 0
        for position, balance in enumerate(scaled):
            if position != i:
                if not balance:
                    raise AmmError("a balance is zero")
                others += balance
                c = _checked(c * invariant) // (balance * coins)
        c = _checked(c * invariant * precision) // (leverage * coins)
        b = others + invariant * precision // leverage
        found = invariant
        for _ in range(ITERATIONS):
            before = found
            slope = 2 * found + b - invariant
            if slope <= 0:
                raise AmmError("underflow")
            found = _checked(found * found + c) // slope
            if abs(found - before) <= 1:
                return found
        raise AmmError("the balance does not converge")

    def _leverage(self) -> int:
        leverage = self.amplification * len(self.balances)
        if leverage < self.precision:
            raise AmmError("A is less than one")
        return leverage

    def _supply(self) -> int:
        if not self.supply:
            raise AmmError("the supply of LP tokens is not known or zero")
        return self.supply


class CurveMetaPool(NamedTuple):
    """A pool of a coin and a base pool's LP token: coin 0, then the base pool's coins from 1 on.

    `pool` has the base's virtual price as the second rate, the cached one where the contract caches it.
    """

    pool: CurvePool
    base: CurvePool

    def get_dy_underlying(self, i: int, j: int, amount_in: int) -> int:
        """Return what the view says, which guesses the fee of a deposit."""
        if i and j:
            return self.base.get_dy(i - 1, j - 1, amount_in)
        if i:
            minted = self.base.calc_token_amount(self._only(i - 1, amount_in))
            rate = self.pool.rates[1]
            put_in = minted * rate // PRECISION
            put_in -= put_in * self.base.fee // (2 * FEE_DENOMINATOR)
            return self._view(put_in)
        tokens = self.pool.get_dy(0, 1, amount_in)
        return self.base.remove_liquidity_one_coin(tokens, j - 1).amount_out

    def amount_out_underlying(self, i: int, j: int, amount_in: int) -> int:
        """Return what exchange_underlying gives; raises AmmError where it reverts."""
        if i and j:
            return self.base.exchange(i - 1, j - 1, amount_in).amount_out
        if i:
            minted = self.base.add_liquidity(self._only(i - 1, amount_in)).amount_out
            return self.pool.exchange(1, 0, minted).amount_out
        tokens = self.pool.exchange(0, 1, amount_in).amount_out
        return self.base.remove_liquidity_one_coin(tokens, j - 1).amount_out

    def _only(self, position: int, amount: int) -> list[int]:
        return [amount if each == position else 0 for each in range(len(self.base.balances))]

    def _view(self, put_in: int) -> int:
        # What is put in is in 18 decimals already: a rate of one takes it as it is.
        scaled = self.pool.scaled()
        plain = self.pool._replace(balances=tuple(scaled), rates=(PRECISION, PRECISION))
        return plain.exchange(1, 0, put_in).amount_out * PRECISION // self.pool.rates[0]


def ramped(initial: int, future: int, initial_time: int, future_time: int, now: int) -> int:
    """Return A at a time (seconds) while it moves from one value to another, rounded as the contract rounds."""
    if now >= future_time:
        return future
    passed, whole = now - initial_time, future_time - initial_time
    if future > initial:
        return initial + (future - initial) * passed // whole
    return initial - (initial - future) * passed // whole


def _checked(value: int) -> int:
    if value > UINT256_MAX:
        raise AmmError("overflow")
    return value
