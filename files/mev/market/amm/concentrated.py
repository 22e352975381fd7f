"""Pools with concentrated liquidity, exact as their contracts swap: Uniswap V3 and its forks, V4 without hooks, Algebra Integral.

All three move one price through ranges of constant liquidity; they differ in where steps end (see mev.market.amm.ticks), in how the fee comes
about, which is an input here, and in how large an amount may be. Sources: v3-core 1.0.1 (UniswapV3Pool.swap, SwapMath), v4-core 1.0.2
(Pool.swap, SwapMath, ProtocolFeeLibrary), Algebra Integral core 1.2.10 (SwapCalculation, PriceMovementMath).
"""

from bisect import bisect_left, bisect_right
from typing import NamedTuple, Self

from mev.market.amm.errors import AmmError
from mev.market.amm.price_math import (
    Q96,
    UINT256_MAX,
    amount0_delta,
    amount1_delta,
    price_after_input,
    price_after_output,
)
from mev.market.amm.tick_math import MAX_SQRT_PRICE, MIN_SQRT_PRICE, tick_at
from mev.market.amm.ticks import FEE_DENOMINATOR, Ladder, Ticks, step, with_fee

INT128_MAX = 2**127 - 1
UINT128_MAX = 2**128 - 1
INT256_MAX = 2**255 - 1
V4_MAX_PROTOCOL_FEE = 1000


class Moved(NamedTuple):
    """A swap's amounts, base units with the fee in `amount_in`, and the pool's price, tick and liquidity afterwards.

    Where the price came to its limit, less went in, or came out, than was asked for.
    """

    amount_in: int
    amount_out: int
    sqrt_price_x96: int
    tick: int
    liquidity: int


class Segment(NamedTuple):
    """A range of constant liquidity on a swap's way: what went in and came out before it, where it begins, and what has gone in at its end."""

    amount_in: int
    amount_out: int
    sqrt_price_x96: int
    liquidity: int
    end: int


class _Start(NamedTuple):
    """From the pool's price to the first stop: the ladder from there, and what the way there takes in and gives out."""

    ladder: Ladder
    position: int
    gross: int
    out: int


class _Point(NamedTuple):
    """Where a partial step begins, and what went in and came out before it."""

    price: int
    tick: int
    liquidity: int
    gross: int
    out: int


class ConcentratedPool:
    """A pool after a block; quotes never change it, `after` and `with_liquidity` make another one.

    `largest_amount` is the most that can go in or
    come out: INT128_MAX in V4, whose deltas are of that type, UINT128_MAX in Algebra Integral, whose reserves are. Fees are millionths of what is paid, for zero_for_one and for one_for_zero: equal in Uniswap V3 and its forks; `v4_swap_fee` gives
    Uniswap V4's; a dynamic one (Algebra, Slipstream) is what the pool would take in the next block. Raises AmmError where price, tick,
    liquidity and ticks contradict each other: such a pool was read wrongly, and any quote from it would be wrong.
    """

    def __init__(
        self,
        ticks: Ticks,
        *,
        sqrt_price_x96: int,
        tick: int,
        liquidity: int,
        fees: tuple[int, int],
        largest_amount: int = INT256_MAX,
    ) -> None:
        if not all(0 <= fee <= FEE_DENOMINATOR for fee in fees):
            raise AmmError(f"fees {fees} are not all between 0 and {FEE_DENOMINATOR}")
        # At a stop that was reached from above, the tick is one less than the price's.
        if tick not in {(least := tick_at(sqrt_price_x96)), least - 1}:
            raise AmmError(f"tick {tick} is not that of the price {sqrt_price_x96}")
        if liquidity != ticks.liquidity_at(tick):
            raise AmmError(f"liquidity {liquidity} is not what the ticks add up to, {ticks.liquidity_at(tick)}")
        self.ticks = ticks
        self.sqrt_price_x96 = sqrt_price_x96
        self.tick = tick
        self.liquidity = liquidity
        self.fees = fees
        self.largest_amount = largest_amount
        self._starts: list[_Start | None] = [None, None]

    def after(self, moved: Moved) -> Self:
        """Return the pool after a swap that was quoted on it: what was computed here is not checked again."""
        made = object.__new__(type(self))
        made.ticks, made.fees, made.largest_amount = self.ticks, self.fees, self.largest_amount
        made.sqrt_price_x96, made.tick, made.liquidity = moved.sqrt_price_x96, moved.tick, moved.liquidity
        made._starts = [None, None]
        return made

    def at(self, sqrt_price_x96: int, tick: int, liquidity: int, fees: tuple[int, int] | None = None) -> Self:
        """Return the pool at another price, as a Swap event gives it, and with other fees where they changed."""
        return type(self)(
            self.ticks,
            sqrt_price_x96=sqrt_price_x96,
            tick=tick,
            liquidity=liquidity,
            fees=fees or self.fees,
            largest_amount=self.largest_amount,
        )

    def with_liquidity(self, lower: int, upper: int, liquidity_delta: int) -> Self:
        """Return the pool after a Mint, or with a negative delta a Burn, of a position in [lower, upper)."""
        return type(self)(
            self.ticks.changed(lower, upper, liquidity_delta),
            sqrt_price_x96=self.sqrt_price_x96,
            tick=self.tick,
            liquidity=self.liquidity + (liquidity_delta if lower <= self.tick < upper else 0),
            fees=self.fees,
            largest_amount=self.largest_amount,
        )

    def segment(self, amount_in: int, *, zero_for_one: bool) -> Segment | None:
        """Return the range into which the next unit after `amount_in` goes; None where the pool takes no more."""
        start = self._starts[zero_for_one] or self._start(zero_for_one=zero_for_one)
        if amount_in < start.gross:
            return Segment(0, 0, self.sqrt_price_x96, self.liquidity, start.gross)
        ladder, first = start.ladder, start.position
        offset, given = start.gross - ladder.gross[first], start.out - ladder.out[first]
        while ladder.gross[-1] <= amount_in - offset and not ladder.ends:
            ladder.extend()
        last = bisect_right(ladder.gross, amount_in - offset, lo=first) - 1
        if last + 1 >= len(ladder):
            return None
        return Segment(
            offset + ladder.gross[last],
            given + ladder.out[last],
            ladder.prices[last],
            ladder.liquidity[last],
            offset + ladder.gross[last + 1],
        )

    def amount_out(self, amount_in: int, *, zero_for_one: bool) -> int:
        """Return what comes out for `amount_in` with no limit to the price; as `swap_exact_in`, without the state afterwards."""
        start = self._starts[zero_for_one] or self._start(zero_for_one=zero_for_one)
        ladder = start.ladder
        price, liquidity, before, left = self.sqrt_price_x96, self.liquidity, 0, amount_in
        if not 0 < amount_in < start.gross:
            offset = start.gross - ladder.gross[start.position]
            last = bisect_left(ladder.gross, amount_in - offset, lo=start.position) - 1
            # Where the ladder has not been climbed yet, or ends, all has to be looked at.
            if amount_in <= 0 or last < start.position or last + 1 == len(ladder) or not ladder.liquidity[last]:
                return self.swap_exact_in(amount_in, zero_for_one=zero_for_one).amount_out
            price, liquidity = ladder.prices[last], ladder.liquidity[last]
            before = start.out + ladder.out[last] - ladder.out[start.position]
            left = amount_in - offset - ladder.gross[last]
            if amount_in - offset == ladder.gross[last + 1]:
                return before + ladder.out[last + 1] - ladder.out[last]
        net = left * (FEE_DENOMINATOR - ladder.fee) // FEE_DENOMINATOR
        shifted = liquidity << Q96
        if not zero_for_one:
            after = price + (net << Q96) // liquidity
            return before + shifted * (after - price) // after // price
        denominator = shifted + net * price
        if denominator > UINT256_MAX:
            return self.swap_exact_in(amount_in, zero_for_one=zero_for_one).amount_out
        return before + (liquidity * (price + (-shifted * price // denominator)) >> Q96)

    def swap_exact_in(self, amount_in: int, *, zero_for_one: bool, sqrt_price_limit_x96: int | None = None) -> Moved:
        """Return the swap of `amount_in`, or of as much as brings the price to its limit.

        Raises AmmError for no amount, one that the contract's type does not hold, or a limit on the wrong side of the price.
        """
        limit = self._limit(amount_in, zero_for_one=zero_for_one, limit=sqrt_price_limit_x96)
        start = self._starts[zero_for_one] or self._start(zero_for_one=zero_for_one)
        ladder, first = start.ladder, start.position
        # Sums are kept from the ladder's first stop on.
        offset = start.gross - ladder.gross[first]
        end = self._reach(ladder.gross, ladder, first, amount_in - offset, limit)
        if end < len(ladder) and ladder.gross[end] + offset == amount_in and _within(ladder, end, limit, zero_for_one):
            return self._held(self._arrived(start, end))
        point, target, reached = self._point(start, end, limit)
        if point.price == limit:
            return self._held(Moved(point.gross, point.out, point.price, point.tick, point.liquidity))
        left = amount_in - point.gross
        gross, out = step(point.price, target, point.liquidity, ladder.fee, zero_for_one=zero_for_one)
        if not reached and left >= gross:
            return self._held(Moved(point.gross + gross, point.out + out, target, tick_at(target), point.liquidity))
        net = left * (FEE_DENOMINATOR - ladder.fee) // FEE_DENOMINATOR
        price = price_after_input(point.price, point.liquidity, net, zero_for_one=zero_for_one)
        out = point.out + _out(point.price, price, point.liquidity, zero_for_one=zero_for_one)
        tick = point.tick if price == point.price else tick_at(price)
        return self._held(Moved(amount_in, out, price, tick, point.liquidity))

    def swap_exact_out(self, amount_out: int, *, zero_for_one: bool, sqrt_price_limit_x96: int | None = None) -> Moved:
        """Return the swap that gives `amount_out`, or as much as there is up to the price's limit; raises AmmError as `swap_exact_in`."""
        limit = self._limit(amount_out, zero_for_one=zero_for_one, limit=sqrt_price_limit_x96)
        start = self._starts[zero_for_one] or self._start(zero_for_one=zero_for_one)
        ladder, first = start.ladder, start.position
        if ladder.fee == FEE_DENOMINATOR:
            raise AmmError("InvalidFeeForExactOut")
        offset = start.out - ladder.out[first]
        end = self._reach(ladder.out, ladder, first, amount_out - offset, limit)
        if end < len(ladder) and ladder.out[end] + offset == amount_out and _within(ladder, end, limit, zero_for_one):
            return self._held(self._arrived(start, end))
        point, target, reached = self._point(start, end, limit)
        if point.price == limit:
            return self._held(Moved(point.gross, point.out, point.price, point.tick, point.liquidity))
        left = amount_out - point.out
        gross, out = step(point.price, target, point.liquidity, ladder.fee, zero_for_one=zero_for_one)
        if not reached and left >= out:
            return self._held(Moved(point.gross + gross, point.out + out, target, tick_at(target), point.liquidity))
        price = price_after_output(point.price, point.liquidity, left, zero_for_one=zero_for_one)
        if price == target:
            # Rounding may carry the price to the stop although there is more: the tick is crossed then.
            there = self._arrived(start, end) if reached else None
            tick, liquidity = (there.tick, there.liquidity) if there else (tick_at(price), point.liquidity)
        else:
            tick, liquidity = point.tick if price == point.price else tick_at(price), point.liquidity
        if zero_for_one:
            net = amount0_delta(price, point.price, point.liquidity, round_up=True)
        else:
            net = amount1_delta(point.price, price, point.liquidity, round_up=True)
        return self._held(Moved(point.gross + with_fee(net, ladder.fee), amount_out, price, tick, liquidity))

    def _limit(self, amount: int, *, zero_for_one: bool, limit: int | None) -> int:
        if amount <= 0:
            raise AmmError("AS")
        if amount > INT256_MAX:
            raise AmmError("the amount is larger than the contract's type holds")
        if limit is None:
            limit = MIN_SQRT_PRICE + 1 if zero_for_one else MAX_SQRT_PRICE - 1
        allowed = MIN_SQRT_PRICE < limit < self.sqrt_price_x96
        if not zero_for_one:
            allowed = self.sqrt_price_x96 < limit < MAX_SQRT_PRICE
        if not allowed:
            raise AmmError("SPL")
        return limit

    def _start(self, *, zero_for_one: bool) -> _Start:
        find = self.ticks.stop_below if zero_for_one else self.ticks.stop_above
        fee = self.fees[0 if zero_for_one else 1]
        ladder, position = self.ticks.ladder(find(self.tick, self.liquidity), fee, zero_for_one=zero_for_one)
        way = step(self.sqrt_price_x96, ladder.prices[position], self.liquidity, fee, zero_for_one=zero_for_one)
        made = self._starts[zero_for_one] = _Start(ladder, position, *way)
        return made

    @staticmethod
    def _reach(sums: list[int], ladder: Ladder, first: int, amount: int, limit: int) -> int:
        """Return the first position at which `sums` has come to `amount`, or where the price is beyond its limit, or the length."""
        while sums[-1] < amount and not ladder.ends and ladder.within(limit, len(ladder) - 1) == len(ladder):
            ladder.extend()
        return bisect_left(sums, amount, lo=first)

    def _point(self, start: _Start, end: int, limit: int) -> tuple[_Point, int, bool]:
        """Return where the last, partial step begins, where it leads, and whether that is the stop `end` rather than the limit."""
        ladder = start.ladder
        beyond = ladder.within(limit, start.position)
        reached = end < beyond
        before = min(end, beyond) - 1
        if before < start.position:
            point = _Point(self.sqrt_price_x96, self.tick, self.liquidity, 0, 0)
        else:
            there = self._arrived(start, before)
            point = _Point(there.sqrt_price_x96, there.tick, there.liquidity, there.amount_in, there.amount_out)
        return point, ladder.prices[end] if reached else limit, reached

    def _arrived(self, start: _Start, position: int) -> Moved:
        ladder, first = start.ladder, start.position
        return Moved(
            start.gross + ladder.gross[position] - ladder.gross[first],
            start.out + ladder.out[position] - ladder.out[first],
            ladder.prices[position],
            ladder.tick_beyond(position),
            ladder.liquidity[position],
        )

    def _held(self, moved: Moved) -> Moved:
        if max(moved.amount_in, moved.amount_out) > self.largest_amount:
            raise AmmError("the amount is larger than the contract's type holds")
        return moved


def v4_swap_fee(protocol_fee: int, lp_fee: int) -> int:
    """Return what a V4 pool takes in one direction, in millionths: the protocol's share first, then the providers' of the rest."""
    if not (0 <= protocol_fee <= V4_MAX_PROTOCOL_FEE and 0 <= lp_fee <= FEE_DENOMINATOR):
        raise AmmError(f"protocol fee {protocol_fee} or LP fee {lp_fee} is none that a pool can have")
    return protocol_fee + lp_fee - protocol_fee * lp_fee // FEE_DENOMINATOR


def _within(ladder: Ladder, position: int, limit: int, zero_for_one: bool) -> bool:
    price = ladder.prices[position]
    return price >= limit if zero_for_one else price <= limit


def _out(price: int, after: int, liquidity: int, *, zero_for_one: bool) -> int:
    if zero_for_one:
        return amount1_delta(after, price, liquidity, round_up=False)
    return amount0_delta(price, after, liquidity, round_up=False)
