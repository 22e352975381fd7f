"""Atomic arbitrage: cycles of V2 pairs and V3 pools that a block left out of line with each other."""

import hashlib
from collections.abc import Collection

from mev.domain import Block, Cycle, Opportunity
from mev.domain.market import Address
from mev.market.state import MarketState
from mev.search.graph import CycleIndex
from mev.search.legs import amounts, legs_of
from mev.search.sizing import screen, size_exact

NAME = "atomic_arbitrage"


class AtomicArbitrage:
    """Sizes the cycles that a block's events touched; keeps no state of its own."""

    def __init__(self, chain: str, index: CycleIndex, state: MarketState) -> None:
        self._chain = chain
        self._index = index
        self._state = state

    def opportunities(self, block: Block, touched: Collection[Address], capital: int) -> list[Opportunity]:
        """Return the opportunities that a block opened, best first.

        `touched` are the pools whose state changed; no amount_in exceeds `capital`, base units of the cycle's
        token. An opportunity may turn out to have no profit in exact integers: screening is in floats.
        """
        cycles = screen(self._index.touched(touched), self._state, max_amount_in=capital)
        found = [self._opportunity(block, cycle, capital) for cycle in cycles]
        return sorted(found, key=lambda opportunity: opportunity.expected_profit, reverse=True)

    def _opportunity(self, block: Block, cycle: Cycle, capital: int) -> Opportunity:
        sized = size_exact(cycle, self._state, capital)
        return Opportunity(
            id=identity(self._chain, block, cycle),
            chain=self._chain,
            strategy=NAME,
            cycle=cycle,
            block_number=block.number,
            block_hash=block.hash,
            amount_in=sized.amount_in,
            expected_out=sized.amount_out,
            held=self._held(cycle, sized.amount_in) if sized.amount_in else (),
        )

    def _held(self, cycle: Cycle, amount_in: int) -> tuple[tuple[Address, int], ...]:
        """What is put in, then what is held after each hop."""
        pools = self._state.pools()
        after = [pools[hop.pool].token1 if hop.zero_for_one else pools[hop.pool].token0 for hop in cycle.hops]
        return tuple(zip([cycle.token, *after], amounts(legs_of(cycle, self._state), amount_in), strict=True))


def identity(chain: str, block: Block, cycle: Cycle) -> str:
    """Name an opportunity by what it is, so that seeing a block twice, after a restart, finds it known already."""
    digest = hashlib.sha256(f"{NAME}:{chain}:".encode() + block.hash + cycle.token)
    for hop in cycle.hops:
        digest.update(hop.pool + bytes([hop.zero_for_one]))
    return digest.hexdigest()[:32]
