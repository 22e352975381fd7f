"""How much goes into a sandwich of one swap in one constant-product pair: in closed form, then to the wei in the pair's own integers.

Of the pair's reserves R and S and its fee y = n/d, with t = x/R put in before a swap of exactly w = v/R, what comes back less what was put in is

    R t (h0 + h1 t) / (q0 + q1 t + q2 t^2)     h0 = y^2 (1 + w)(1 + y w) - 1,  h1 = y^2 (1 + w) - 1,  q = 1, 1 + y^2 (1 + y w), y^2

before rounding. Where h0 is not positive no amount pays: h1 is negative then. Otherwise the derivative is zero where
h0 + 2 h1 t + (h1 q1 - h0 q2) t^2 is, which has one positive root or none: without one, more always pays. Around a swap for exactly so much out
the gain, once it is one, only grows with what is put in, for what the swap pays grows without bound: the swap's own limit is all that ends it.
What the limit allows is a quadratic in x for both; rounding moves its end by no more than a unit of either token.
"""

from collections.abc import Callable
from math import inf, isqrt, sqrt
from typing import NamedTuple

from mev.market.amm import UINT112_MAX

# So many whole amounts of what is bought are tried on each side of the best one before rounding.
NEIGHBOURS = 2
# As often is halved what float64 can tell apart.
HALVINGS = 50
# Of an amount that was computed in float64 so many are taken to be right.
FLOAT_BITS = 44


class Attack(NamedTuple):
    """What comes back less what was put in, and what the swap gets there, or pays; base units."""

    gain: int
    victim: int


class PairAttack(NamedTuple):
    """A swap in a pair: `amount` is exactly what goes in, or with exact_out what comes out; `bound` the least that it takes, or the most that it pays."""

    reserve_in: int
    reserve_out: int
    fee_numerator: int
    fee_denominator: int
    exact_out: bool
    amount: int
    bound: int

    def at(self, amount_in: int) -> Attack | None:
        """Return what putting `amount_in` before the swap does; None where the pair or the swap's limit refuses."""
        reserve_in, reserve_out, n, d, exact_out, amount, bound = self
        part = n * amount_in
        bought = part * reserve_out // (d * reserve_in + part)
        reserve_in += amount_in
        reserve_out -= bought
        if exact_out:
            if reserve_out <= amount:
                return None
            given, victim = amount, reserve_in * amount * d // ((reserve_out - amount) * n) + 1
            refused, paid = victim > bound, victim
        else:
            part = n * amount
            victim = given = part * reserve_out // (d * reserve_in + part)
            refused, paid = victim < bound or not victim, amount
        reserve_in += paid
        if refused or not bought or reserve_in > UINT112_MAX:
            return None
        part = n * bought
        back = part * reserve_in // (d * (reserve_out - given) + part)
        return Attack(back - amount_in, victim) if back else None

    def pays(self) -> bool:
        """Whether any amount can leave something, rounding apart: the limit and what there is to put in left out of account."""
        if self.exact_out:
            return True
        return self._shape()[0] > 0

    def most(self, capital: int) -> int:
        """Return the most of `capital` that can be put in before the pair or the swap refuses; 0 where that is nothing."""
        least = self._cheapest(1)
        capital = min(capital, UINT112_MAX - self.reserve_in)
        if least is None or least > capital:
            return 0
        if self.at(capital) is not None:
            return capital
        amount = max(least, self._end())
        while amount < capital:
            bought = self._bought(amount)
            allowed, more = self._allowed(bought), self._cheapest(bought + 1)
            if allowed < amount:
                return 0
            if more is None or allowed < more:
                amount = allowed
                break
            if self._allowed(self._bought(more)) < more:
                amount = more - 1
                break
            amount = more
        amount = min(amount, capital)
        # A reserve that would pass 112 bits refuses as well; the limit does not know of it.
        return (
            amount if self.at(amount) is not None else furthest(lambda each: self.at(each) is not None, least, amount)
        )

    def best(self, most: int) -> int:
        """Return the amount of at most `most` that gains most, 0 where none gains."""
        if not most or not self.pays():
            return 0
        near = most if self.exact_out else min(most, self._optimum())
        bought = self._bought(near)
        # The least that buys as much costs least.
        tried = {near, most}
        for each in range(max(1, bought - NEIGHBOURS), bought + NEIGHBOURS + 1):
            least = self._cheapest(each)
            if least is not None and least <= most:
                tried.add(least)
        gains = [(done.gain, -amount) for amount in tried if (done := self.at(amount)) is not None]
        gain, amount = max(gains, default=(0, 0))
        return -amount if gain > 0 else 0

    def least(self, best: int, cost: int) -> int:
        """Return about the smallest amount that gains more than `cost`, as `best` does: where the gain is flat, rounding decides."""

        def too_little(amount: int) -> bool:
            done = self.at(amount)
            return done is None or done.gain <= cost

        unit = self.reserve_in // self.reserve_out + 1
        near = self._reaching_out(cost + unit, best) if self.exact_out else self._reaching(cost + 2 * unit)
        return furthest(too_little, 0, min(near, best - 1), best, max(unit, near >> FLOAT_BITS)) + 1

    def _bought(self, amount_in: int) -> int:
        part = self.fee_numerator * amount_in
        return part * self.reserve_out // (self.fee_denominator * self.reserve_in + part)

    def _cheapest(self, bought: int) -> int | None:
        left = (self.reserve_out - bought) * self.fee_numerator
        return -(-self.reserve_in * bought * self.fee_denominator // left) if left > 0 else None

    def _allowed(self, bought: int) -> int:
        """Return the most that can have been put in where as much has been bought, by the swap's limit."""
        left = self.reserve_out - bought
        if self.exact_out:
            most = (self.bound * (left - self.amount) * self.fee_numerator - 1) // (self.amount * self.fee_denominator)
        else:
            part = self.fee_numerator * self.amount
            most = (part * left // max(1, self.bound) - part) // self.fee_denominator
        return most - self.reserve_in

    def _end(self) -> int:
        """Return the most that the limit allows before rounding, as a root of a quadratic."""
        r, s, n, d, exact_out, amount, bound = self
        whole = d * r
        if exact_out:
            a = amount * d * n
            b = amount * (d * whole + n * whole + bound * n * n)
            c = amount * whole * (whole + bound * n) - bound * n * s * whole
        else:
            part, bound = n * amount, max(1, bound)
            a = bound * n * d
            b = bound * (n * (whole + part) + d * whole)
            c = bound * whole * (whole + part) - part * s * whole
        return (isqrt(b * b - 4 * a * c) - b) // (2 * a) if c < 0 else 0

    def _shape(self) -> tuple[float, float, float, float, float]:
        """Return h0, h1, q1, q2 and the fee."""
        n, d = self.fee_numerator, self.fee_denominator
        fee, w = n / d, self.amount / self.reserve_in
        # One from so near to one: in integers, or nothing is left of it.
        r, v = self.reserve_in, self.amount
        h0 = (n * n * (r + v) * (d * r + n * v) - d * d * d * r * r) / (d * d * d * r * r)
        h1 = (n * n * (r + v) - d * d * r) / (d * d * r)
        return h0, h1, 1 + fee * fee * (1 + fee * w), fee * fee, fee

    def _optimum(self) -> int:
        h0, h1, _, _, fee = self._shape()
        # h1 q1 - h0 q2, multiplied out.
        square = (1 - fee) * (fee * fee * self.amount / self.reserve_in - 1 - fee)
        if square >= 0 and h1 >= 0:
            return UINT112_MAX
        inner = sqrt(max(0.0, h1 * h1 - square * h0))
        root = h0 / (inner - h1) if h1 <= 0 else (h1 + inner) / -square
        return min(UINT112_MAX, int(root * self.reserve_in))

    def _reaching(self, gain: int) -> int:
        """Return the least amount that gains so much, before rounding."""
        h0, h1, q1, q2, _ = self._shape()
        c = gain / self.reserve_in
        a, b = h1 - c * q2, h0 - c * q1
        inner = b * b + 4 * a * c
        divisor = b + sqrt(inner) if inner >= 0 else 0.0
        return int(min(2 * c / divisor if divisor > 0 else inf, 1.0) * self.reserve_in)

    def _reaching_out(self, gain: int, most: int) -> int:
        """Do as `_reaching` around a swap for exactly so much out, by halving: a cubic would have to be solved."""
        fee = self.fee_numerator / self.fee_denominator
        u, c = self.amount / self.reserve_out, gain / self.reserve_in
        low, high = 0.0, most / self.reserve_in
        for _ in range(HALVINGS):
            t = (low + high) / 2
            left = 1 - u - u * fee * t
            whole = left * (left + fee * fee * t)
            if t * (fee * (1 + t) * (fee + (1 - fee) * u * (1 + fee * t)) - whole) > c * whole:
                high = t
            else:
                low = t
        return int(high * self.reserve_in)


def furthest(holds: Callable[[int], bool], low: int, near: int, high: int | None = None, step: int = 1) -> int:
    """Return the greatest amount from `low` on, less than `high`, up to which `holds` is true, as it is of `low`; found from `near` by ever longer steps."""
    at = max(low, near)
    if at == low or holds(at):
        low = at
        while (high is None or low + step < high) and holds(low + step):
            low += step
            step *= 2
        high = low + step if high is None else min(high, low + step)
    else:
        high = at
        while high - step > low and not holds(high - step):
            high -= step
            step *= 2
        low = max(low, high - step)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
