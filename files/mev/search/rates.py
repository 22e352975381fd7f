"""What pools do to next to nothing and to a little more, in float64: each swap as n ro x / (d ri + n x), fee n/d."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from mev.domain import Pool
from mev.market.state import MarketState

Floats = NDArray[np.float64]
Q96 = float(2**96)


def coefficients(pools: Sequence[Pool], positions: Iterable[int], state: MarketState) -> tuple[Floats, Floats, Floats]:
    """Return n ro, n and d ri by step number (see mev.search.graph) of the pools at `positions`; the last one, no hop, changes nothing.

    A V3 pool counts as the pair that its present range amounts to.
    """
    gain, part, cost = (np.ones(2 * len(pools) + 1) for _ in range(3))
    part[-1] = 0
    for position in positions:
        # The step that is no hop belongs to no pool.
        if position == len(pools):
            continue
        pool = pools[position]
        for step, (one, other) in enumerate(_virtual(pool, state), start=2 * position):
            gain[step] = pool.fee_numerator * other
            part[step] = pool.fee_numerator
            cost[step] = pool.fee_denominator * one
    return gain, part, cost


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
