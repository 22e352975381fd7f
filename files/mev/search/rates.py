"""What pools do to next to nothing and to a little more, in float64: each swap as g x / (1 + p x), g = n ro / (d ri), p = n / (d ri), fee n/d."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from mev.domain import Pool
from mev.market.state import MarketState, PoolState

Floats = NDArray[np.float64]
Q96 = float(2**96)
# g and p: the rows of a table.
RATE, SLOPE = range(2)


class RateTable:
    """The rate for next to nothing and how it falls, for each step (see mev.search.graph), one column a step; the last column, no hop, changes nothing.

    A pool that holds nothing gives nothing: 0 and 1. A V3 pool counts as the pair that its present range amounts to. States never change, new ones take their place: a pool's columns are computed
    again where its state is another object.
    """

    def __init__(self, pools: Sequence[Pool]) -> None:
        self._pools = pools
        self._known: list[PoolState | None] = [None] * len(pools)
        self._rows: Floats = np.ones((2, 2 * len(pools) + 1))
        self._rows[SLOPE, -1] = 0

    def refreshed(self, state: MarketState, positions: Iterable[int] | None = None) -> Floats:
        """Return the table with the columns of the pools at `positions`, or of all, as they are now; it is good until the next call."""
        rows, known = self._rows, self._known
        for position in range(len(self._pools)) if positions is None else positions:
            pool = self._pools[position]
            held = state.held(pool.address)
            if held is known[position]:
                continue
            known[position] = held
            for step, (one, other) in enumerate(_virtual(pool, state), start=2 * position):
                slope = pool.fee_numerator / (pool.fee_denominator * one) if one and other else 0.0
                rows[:, step] = (slope * other, slope) if slope else (0.0, 1.0)
        return rows


def _virtual(pool: Pool, state: MarketState) -> list[tuple[float, float]]:
    """Return what a pool seems to hold of what goes in and of what comes out, from token0 to token1 and back."""
    if not pool.concentrated:
        reserves = state.v2(pool.address)
        both = float(reserves.reserve0), float(reserves.reserve1)
        return [both, both[::-1]]
    found = state.concentrated(pool.address)
    held = []
    for zero_for_one in (True, False):
        # Where there is no liquidity at the price, the next range is what a swap meets.
        segment = found.segment(0, zero_for_one=zero_for_one) if found else None
        if segment is None:
            held.append((1.0, 0.0))
            continue
        price = segment.sqrt_price_x96 / Q96
        reserves0, reserves1 = segment.liquidity / price, segment.liquidity * price
        held.append((reserves0, reserves1) if zero_for_one else (reserves1, reserves0))
    return held
