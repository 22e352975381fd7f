"""A pool's initialised ticks, and what it costs to move the price from each stop to the next.

A swap goes from stop to stop: initialised ticks, and, where the contract looks for them in a bitmap, also the ends of the bitmap's words
of 256 ticks, because each step rounds. What a whole step takes in and gives out depends on liquidity and fee alone; a ladder keeps the sums
of both, so that a quote is a look-up and at most two partial steps, and still bit for bit the contract's.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from itertools import accumulate

from mev.market.amm.errors import AmmError
from mev.market.amm.price_math import amount0_delta, amount1_delta
from mev.market.amm.tick_math import MAX_TICK, MIN_TICK, sqrt_price_at

FEE_DENOMINATOR = 10**6
WORD_TICKS = 256
UINT128_MAX = 2**128 - 1
MAX_TICK_SPACING = 2**15 - 1
# More than any amount: what a step costs of which the fee takes all.
UNREACHABLE = 1 << 512


class Ticks:
    """The initialised ticks of one pool and the liquidity that each adds when the price rises through it; never changes."""

    def __init__(self, net: Mapping[int, int], tick_spacing: int, *, words: bool = True) -> None:
        """Take liquidity net by tick; with `words`, steps also end where the bitmap's words do (Uniswap V3, V4; not Algebra Integral).

        Raises AmmError where no pool can be like that: ticks outside the range or off the spacing, liquidity that does not end where it
        began, is negative or passes 128 bits.
        """
        self.net = {tick: net[tick] for tick in sorted(net) if net[tick]}
        self.spacing = tick_spacing
        self.words = words
        self._ticks = list(self.net)
        self._sums = list(accumulate(self.net.values()))
        self._check()
        self._ladders: dict[bool, Ladder] = {}

    def changed(self, lower: int, upper: int, liquidity_delta: int) -> "Ticks":
        """Return the ticks after a position in [lower, upper) grew by `liquidity_delta` or shrank; raises AmmError as the class does."""
        if lower >= upper:
            raise AmmError("TLU")
        net = dict(self.net)
        net[lower] = net.get(lower, 0) + liquidity_delta
        net[upper] = net.get(upper, 0) - liquidity_delta
        return Ticks(net, self.spacing, words=self.words)

    def liquidity_at(self, tick: int) -> int:
        """Return the liquidity in use while the pool's tick is `tick`."""
        position = bisect_right(self._ticks, tick)
        return self._sums[position - 1] if position else 0

    def stop_below(self, tick: int, liquidity: int) -> int:
        """Return where a step down from `tick` ends, at `tick` itself or below; without liquidity nothing rounds, and words count for nothing."""
        position = bisect_right(self._ticks, tick)
        stop = self._ticks[position - 1] if position else MIN_TICK
        if self.words and liquidity:
            stop = max(stop, tick // self.spacing // WORD_TICKS * WORD_TICKS * self.spacing)
        return max(stop, MIN_TICK)

    def stop_above(self, tick: int, liquidity: int) -> int:
        """Return where a step up from `tick` ends, above it."""
        position = bisect_right(self._ticks, tick)
        stop = self._ticks[position] if position < len(self._ticks) else MAX_TICK
        if self.words and liquidity:
            stop = min(stop, ((tick // self.spacing + 1) | WORD_TICKS - 1) * self.spacing)
        return min(stop, MAX_TICK)

    def ladder(self, stop: int, fee: int, *, zero_for_one: bool) -> tuple["Ladder", int]:
        """Return a ladder that has `stop`, and its position there."""
        known = self._ladders.get(zero_for_one)
        if known is not None and known.fee == fee:
            position = known.find(stop)
            if position is not None:
                return known, position
        made = self._ladders[zero_for_one] = Ladder(self, stop, fee, zero_for_one=zero_for_one)
        return made, 0

    def _check(self) -> None:
        if not 0 < self.spacing <= MAX_TICK_SPACING:
            raise AmmError(f"tick spacing {self.spacing} is not between 1 and {MAX_TICK_SPACING}")
        if not self._ticks:
            return
        if self._ticks[0] < MIN_TICK or self._ticks[-1] > MAX_TICK:
            raise AmmError(f"ticks {self._ticks[0]} to {self._ticks[-1]} are not all between {MIN_TICK} and {MAX_TICK}")
        if self.words and any(tick % self.spacing for tick in self._ticks):
            raise AmmError(f"a tick is no multiple of the spacing {self.spacing}")
        if self._sums[-1] or min(self._sums) < 0 or max(self._sums) > UINT128_MAX:
            raise AmmError("the ticks' liquidity does not end where it began, is negative or passes 128 bits")


class Ladder:
    """Steps in one direction at one fee from a first stop on, as far as they have been asked for.

    At each position: the stop's tick, its price, the liquidity beyond it, and the sums of what went in (with the fee) and came out since
    position 0.
    """

    def __init__(self, ticks: Ticks, stop: int, fee: int, *, zero_for_one: bool) -> None:
        self.fee = fee
        self.ends = False
        self._ticks = ticks
        self._zero_for_one = zero_for_one
        # Ascending in both directions, to be searched.
        self._keys: list[int] = []
        self.prices: list[int] = []
        self.liquidity: list[int] = []
        self.gross = [0]
        self.out = [0]
        self._append(stop)

    def __len__(self) -> int:
        return len(self.prices)

    def tick_beyond(self, position: int) -> int:
        """Return the pool's tick once the price has come to this stop."""
        key = self._keys[position]
        return -key - 1 if self._zero_for_one else key

    def find(self, stop: int) -> int | None:
        """Return the position of a stop; None where the ladder does not have it."""
        key = -stop if self._zero_for_one else stop
        position = bisect_left(self._keys, key)
        return position if position < len(self._keys) and self._keys[position] == key else None

    def within(self, limit: int, start: int) -> int:
        """Return the first position from `start` on whose price is beyond the limit; the length where none is."""
        if self._zero_for_one:
            return bisect_right(self.prices, -limit, lo=start, key=lambda price: -price)
        return bisect_right(self.prices, limit, lo=start)

    def extend(self) -> None:
        """Add the next stop; not to be called where `ends`."""
        beyond = self.tick_beyond(len(self.prices) - 1)
        price, liquidity = self.prices[-1], self.liquidity[-1]
        if self._zero_for_one:
            self._append(self._ticks.stop_below(beyond, liquidity))
        else:
            self._append(self._ticks.stop_above(beyond, liquidity))
        gross, out = step(price, self.prices[-1], liquidity, self.fee, zero_for_one=self._zero_for_one)
        self.gross.append(self.gross[-1] + gross)
        self.out.append(self.out[-1] + out)

    def _append(self, stop: int) -> None:
        self._keys.append(-stop if self._zero_for_one else stop)
        self.prices.append(sqrt_price_at(stop))
        self.liquidity.append(self._ticks.liquidity_at(stop - 1 if self._zero_for_one else stop))
        self.ends = stop in {MIN_TICK, MAX_TICK}


def step(price: int, target: int, liquidity: int, fee: int, *, zero_for_one: bool) -> tuple[int, int]:
    """Return what goes in, with the fee, and what comes out while the price moves all the way to `target`."""
    if not liquidity:
        return 0, 0
    if zero_for_one:
        net = amount0_delta(target, price, liquidity, round_up=True)
        out = amount1_delta(target, price, liquidity, round_up=False)
    else:
        net = amount1_delta(price, target, liquidity, round_up=True)
        out = amount0_delta(price, target, liquidity, round_up=False)
    return with_fee(net, fee), out


def with_fee(net: int, fee: int) -> int:
    """Return what has to be paid so that `net` takes part in the swap; fee in millionths, rounded up."""
    if fee == FEE_DENOMINATOR:
        return UNREACHABLE if net else 0
    return net - (-net * fee // (FEE_DENOMINATOR - fee))
