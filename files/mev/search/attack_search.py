"""How much goes into a sandwich of one swap in any pool that can be asked: the closed forms of one range of liquidity say where to look.

A pool with concentrated liquidity keeps its fees out of the curve, so that in one range, with virtual reserves R and S, the price depends on what
went in net of fees alone. What the swap's limit allows is then a quadratic again. Where the swap leaves the range that is only a guess, and
from a guess the search goes on by ever longer steps and halving. The gain is taken to be concave but for rounding: where it still rises at the
end, that is the best amount, and else the one range's own optimum, or a golden section where that is none. Around a swap for exactly so much out
the gain, once it is one, only grows (see mev.search.attack): where the most does not gain, nothing does.
"""

from collections.abc import Callable
from math import isqrt
from typing import NamedTuple

from mev.search.attack import FLOAT_BITS, HALVINGS, Attack, furthest

# The best amount is looked for to this part of it: what is missed of the gain is that part squared.
PRECISION_BITS = 32
GOLDEN = 0x9E3779B97F4A7C15
# How far below the end it is looked whether the gain still rises there.
SLOPE_BITS = 16
PHI = (1 + 5**0.5) / 2


class Range(NamedTuple):
    """What a pool amounts to at its price, for the direction of the swap: virtual reserves, and its fee as n/d of what is paid."""

    reserve_in: int
    reserve_out: int
    fee_numerator: int
    fee_denominator: int

    def scaled(self, amount: int) -> float:
        """Return an amount net of the fee, in virtual reserves."""
        r, _, n, d = self
        return amount * n / (d * r)

    def unscaled(self, net: float) -> int:
        """Return the amount of which so much is left after the fee."""
        r, _, n, d = self
        return int(net * r * d / n)

    def gain(self, a: float, amount: int, *, exact_out: bool) -> float:
        """Return the gain, in virtual reserves, of putting in `a` of them net of the fee."""
        r, s, n, d = self
        fee = n / d
        if exact_out:
            left = 1 - (1 + a) * amount / s
            if left <= 0:
                return 0.0
            b = (1 + a) * ((1 - left) / left)
        else:
            b = fee * amount / r
        end = 1 + a + b
        return a * (fee * fee * end * end - 1 - a - fee * a * end) / (fee * (1 + a + fee * a * end))


class SearchedAttack(NamedTuple):
    """A swap in a pool: `amount` is exactly what goes in, or with exact_out what comes out; `bound` the least that it takes, or the most that it pays.

    `run` says what an attack does without regard to the bound, None where the pool refuses; `leaves` is the price after the swap, both fees
    taken off, in the price before it; `beyond` is what no attack after which the swap leaves the present range can gain more than.
    """

    run: Callable[[int], Attack | None]
    now: Range | None
    leaves: float | None
    exact_out: bool
    amount: int
    bound: int
    beyond: float = 0.0

    def at(self, amount_in: int) -> Attack | None:
        """Return what putting `amount_in` before the swap does; None where the pool or the swap's limit refuses."""
        done = self.run(amount_in)
        if done is None or (done.victim > self.bound if self.exact_out else done.victim < self.bound):
            return None
        return done

    def pays(self) -> bool:
        """Whether any amount can leave something, rounding apart: a little that is bought first is sold at the price that the swap leaves behind."""
        return self.exact_out or self.leaves is None or self.leaves > 1 or self.beyond > 0

    def most(self, capital: int) -> int:
        """Return the most of `capital` that can be put in before the pool or the swap refuses; 0 where that is nothing."""
        if self.at(capital) is not None:
            return capital
        near = min(max(0, self._end()), capital)
        low = near
        while low and self.at(low) is None:
            # Too much, or too little to get anything out.
            low = 0 if self.run(low) is None else low - max(1, low >> PRECISION_BITS) if low == near else low // 2
        if not low:
            low = 1
            while low <= capital and self.at(low) is None:
                low *= 2
            if low > capital:
                return 0
        return furthest(lambda each: self.at(each) is not None, low, near, capital)

    def best(self, most: int) -> int:
        """Return the amount of at most `most` that gains most, 0 where none gains."""
        if not most:
            return 0
        gain, slope = self._gain(most), max(1, most >> SLOPE_BITS)
        best = most
        if self.exact_out and gain <= 0:
            return 0
        if gain < self._gain(most - slope):
            best = self._vertex(self._optimum(most)) or self._golden(most)
        return best if self._gain(best) > 0 else 0

    def least(self, best: int, cost: int) -> int:
        """Return about the smallest amount that gains more than `cost`, as `best` does: where the gain is flat, rounding decides."""
        near = min(self._reaching(cost, best), best - 1)
        return furthest(lambda amount: self._gain(amount) <= cost, 0, near, best, max(1, near >> FLOAT_BITS)) + 1

    def _vertex(self, near: int) -> int:
        """Return where a parabola through three gains around an amount is highest; 0 where the middle one is not the best of them."""
        step = near >> SLOPE_BITS
        if not step:
            return 0
        below, here, above = (self._gain(near + offset) for offset in (-step, 0, step))
        if here < max(below, above) or 2 * here == below + above:
            return 0
        found = near + step * (above - below) // (2 * (2 * here - below - above))
        return max(found, near, key=self._gain)

    def _gain(self, amount: int) -> int:
        done = self.at(amount) if amount else None
        return done.gain if done is not None else -amount

    def _estimate(self, net: float) -> float:
        return self.now.gain(net, self.amount, exact_out=self.exact_out) if self.now else 0.0

    def _golden(self, most: int) -> int:
        low, high = 0, most
        left, right = high - (high * GOLDEN >> 64), high * GOLDEN >> 64
        at_left, at_right = self._gain(left), self._gain(right)
        while high - low > max(4, high >> PRECISION_BITS):
            if at_left < at_right:
                low, left, at_left = left, right, at_right
                right = low + ((high - low) * GOLDEN >> 64)
                at_right = self._gain(right)
            else:
                high, right, at_right = right, left, at_left
                left = high - ((high - low) * GOLDEN >> 64)
                at_left = self._gain(left)
        return max(range(max(1, low), high + 1), key=self._gain) if high - low <= 8 else (low + high) // 2

    def _optimum(self, most: int) -> int:
        """Return the amount of at most `most` that gains most while the price stays in its range, before rounding."""
        if self.now is None:
            return 0
        low, high = 0.0, self.now.scaled(most)
        for _ in range(HALVINGS):
            left, right = high - (high - low) / PHI, low + (high - low) / PHI
            low, high = (left, high) if self._estimate(left) < self._estimate(right) else (low, right)
        return self.now.unscaled(low)

    def _reaching(self, gain: int, best: int) -> int:
        """Return the least amount below `best` that gains so much while the price stays in its range, before rounding."""
        if self.now is None:
            return best // 2
        low, high, wanted = 0.0, self.now.scaled(best), gain / self.now.reserve_in
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            low, high = (low, middle) if self._estimate(middle) > wanted else (middle, high)
        return self.now.unscaled(high)

    def _end(self) -> int:
        """Return the most that the limit allows while the price stays in its range, before rounding."""
        if self.now is None:
            return 0
        r, s, n, d = self.now
        if self.exact_out:
            paid = self.bound * n // d
            a, b, c = self.amount, paid * self.amount, -paid * s * r
        else:
            part, bound = self.amount * n // d, max(1, self.bound)
            a, b, c = bound, bound * part, -part * s * r
        net = (isqrt(b * b - 4 * a * c) - b) // (2 * a) - r
        return net * d // n if n and net > 0 else 0
