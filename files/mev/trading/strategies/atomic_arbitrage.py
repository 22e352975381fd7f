"""Atomic arbitrage: cycles of V2 pairs and V3 pools that a block left out of line with each other."""

import hashlib
from collections.abc import Collection, Iterator
from typing import Self

from mev.domain import Block, Cycle, Opportunity
from mev.domain.market import Address
from mev.market.state import MarketState
from mev.runtime.config import ChainConfig
from mev.search.graph import MAX_HOPS, CycleIndex
from mev.search.legs import amounts, legs_of
from mev.search.negative_cycle import RateGraph
from mev.search.sizing import screen, size_exact

NAME = "atomic_arbitrage"
# As many swaps as the executor takes; there are too many such cycles to index them all.
LONG = 4


class AtomicArbitrage:
    """Sizes the cycles that a block's events touched; keeps no state of its own."""

    def __init__(self, chain: str, index: CycleIndex, state: MarketState, graph: RateGraph | None = None) -> None:
        """Take the cycles of two and three swaps, and where the best one of four is looked for too, the graph of all swaps."""
        self._chain = chain
        self._graph = graph
        self.index = index
        self._state = state

    @classmethod
    def watching(cls, chain: str, config: ChainConfig, state: MarketState) -> Self:
        """Make it for every cycle through a chain's wrapped native coin that its configuration allows."""
        pools = state.pools().values()
        index = CycleIndex(pools, [config.wrapped_native], min(config.max_hops, MAX_HOPS))
        return cls(chain, index, state, RateGraph(pools) if config.max_hops > MAX_HOPS else None)

    def opportunities(self, block: Block, touched: Collection[Address], capital: int) -> list[Opportunity]:
        """Return the opportunities that a block opened, best first.

        `touched` are the pools whose state changed; no amount_in exceeds `capital`, base units of the cycle's
        token. An opportunity may turn out to have no profit in exact integers: screening is in floats.
        """
        cycles = screen(self.index.touched(touched), self._state, max_amount_in=capital)
        found = [self._opportunity(block, cycle, capital) for cycle in (*cycles, *self._long(touched))]
        return sorted(found, key=lambda opportunity: opportunity.expected_profit, reverse=True)

    def _long(self, touched: Collection[Address]) -> Iterator[Cycle]:
        """Yield for each start token the cycle of four swaps that pays most at the margin, where the block touched it."""
        if self._graph is None or not touched:
            return
        weights = self._graph.weights(self._state)
        for start in self.index.starts:
            cycle = self._graph.best_cycle(weights, start, LONG, LONG)
            if cycle is not None and any(hop.pool in touched for hop in cycle.hops):
                yield cycle

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
