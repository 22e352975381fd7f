"""Atomic arbitrage: cycles of V2 pairs, V3, Algebra and Solidly pools that a block left out of line with each other, split over parallel pools where that pays."""

import hashlib
from collections.abc import Collection, Iterator
from typing import Self

import msgspec

from mev.domain import Block, Cycle, Hop, Opportunity, Pool
from mev.domain.market import Address
from mev.market.state import MarketState
from mev.runtime.config import ChainConfig
from mev.search.graph import MAX_HOPS, CycleIndex
from mev.search.legs import amounts, legs_of
from mev.search.mixed import Sized
from mev.search.negative_cycle import RateGraph
from mev.search.parallel import parallels, spread
from mev.search.sizing import screen, size_exact
from mev.trading.spans import Spans

NAME = "atomic_arbitrage"
# Longer ones are not looked for; there are too many such cycles to index them all.
LONG = 4
# What one more pool takes, units; more than was measured on the published contracts, each used for the first time (tests/integration).
FURTHER_PAIR_GAS = 60_000
FURTHER_V3_GAS = 130_000
FURTHER_SOLIDLY_GAS = 200_000
FURTHER_ALGEBRA_GAS = 180_000


class AtomicArbitrage:
    """Sizes the cycles that a block's events touched; keeps no state of its own."""

    def __init__(
        self,
        chain: str,
        index: CycleIndex,
        state: MarketState,
        graph: RateGraph | None = None,
        spans: Spans | None = None,
    ) -> None:
        """Take the cycles of two and three swaps, and where the best one of four is looked for too, the graph of all swaps."""
        self._spans = spans or Spans()
        self._chain = chain
        self._graph = graph
        self.index = index
        self._state = state
        self._ways = parallels(state)

    @classmethod
    def watching(cls, chain: str, config: ChainConfig, state: MarketState, spans: Spans | None = None) -> Self:
        """Make it for every cycle through a chain's wrapped native coin that its configuration allows."""
        pools = state.pools().values()
        index = CycleIndex(pools, [config.wrapped_native], min(config.max_hops, MAX_HOPS))
        return cls(chain, index, state, RateGraph(pools) if config.max_hops > MAX_HOPS else None, spans)

    def opportunities(self, block: Block, touched: Collection[Address], capital: int) -> list[Opportunity]:
        """Return the opportunities that a block opened, best first.

        `touched` are the pools whose state changed; no amount_in exceeds `capital`, base units of the cycle's
        token. An opportunity may turn out to have no profit in exact integers: screening is in floats.
        """
        cycles = screen(self.index.touched(touched), self._state, max_amount_in=capital)
        self._spans.turn(self._chain, "size", len(cycles))
        found = [self._opportunity(block, cycle, capital) for cycle in (*cycles, *self._long(touched))]
        found.sort(key=_profit, reverse=True)
        # Of the best one alone: the next ones are mostly its parallel pools, each by itself.
        wide = self._spread(block, found[0], capital) if found else None
        return found if wide is None else [wide, *found]

    def _spread(self, block: Block, found: Opportunity, capital: int) -> Opportunity | None:
        """Return an opportunity split over parallel pools where that leaves more after the block's base fee for each of them, else None."""
        sized = Sized(found.amount_in, found.expected_out)
        pools = self._state.pools()

        def cost(hop: Hop) -> int:
            return further_gas(pools[hop.pool]) * block.base_fee_wei

        wide = spread(found.cycle, self._state, sized, self._ways, capital, cost)
        if wide is None:
            return None
        cycle = Cycle(found.cycle.token, tuple(leg.hop for leg in wide.legs))
        held: list[tuple[Address, int]] = []
        for leg in wide.legs:
            pool = pools[leg.hop.pool]
            ends = (pool.token0, pool.token1) if leg.hop.zero_for_one else (pool.token1, pool.token0)
            held += zip(ends, (leg.amount_in, leg.amount_out), strict=True)
        return msgspec.structs.replace(
            found,
            id=identity(self._chain, block, cycle),
            cycle=cycle,
            amount_in=wide.amount_in,
            expected_out=wide.amount_out,
            held=tuple(held),
            parts=wide.parts,
        )

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


def further_gas(pool: Pool) -> int:
    """Return what a swap through one more pool, beside another one, takes at most, units."""
    if pool.solidly:
        return FURTHER_SOLIDLY_GAS
    if pool.algebra is not None:
        return FURTHER_ALGEBRA_GAS
    return FURTHER_V3_GAS if pool.concentrated else FURTHER_PAIR_GAS


def _profit(found: Opportunity) -> int:
    return found.expected_profit


def identity(chain: str, block: Block, cycle: Cycle) -> str:
    """Name an opportunity by what it is, so that seeing a block twice, after a restart, finds it known already."""
    digest = hashlib.sha256(f"{NAME}:{chain}:".encode() + block.hash + cycle.token)
    for hop in cycle.hops:
        digest.update(hop.pool + bytes([hop.zero_for_one]))
    return digest.hexdigest()[:32]
