"""Atomic arbitrage: cycles of V2 pairs, V3, V4, Algebra and Solidly pools that a block left out of line with each other, split over parallel pools where that pays."""

import hashlib
from collections.abc import Collection, Iterator
from typing import Self

import msgspec

from mev.domain import Block, Cycle, Flash, Hop, Opportunity, Pool
from mev.domain.market import Address
from mev.market.amm import AmmError
from mev.market.state import MarketState
from mev.runtime.config import ChainConfig
from mev.search.graph import MAX_HOPS, CycleIndex
from mev.search.legs import amounts, legs_of
from mev.search.mixed import Sized, size_path
from mev.search.negative_cycle import RateGraph
from mev.search.parallel import parallels, spread
from mev.search.sizing import screen, size_exact
from mev.trading.inventory import Inventory
from mev.trading.spans import Spans
from mev.trading.strategies.credit import Credit, Lenders, gives_first

NAME = "atomic_arbitrage"
# Longer ones are not looked for; there are too many such cycles to index them all.
LONG = 4
# What one more pool takes, units; more than was measured on the published contracts, each used for the first time (tests/integration).
FURTHER_PAIR_GAS = 60_000
FURTHER_V3_GAS = 130_000
FURTHER_SOLIDLY_GAS = 200_000
FURTHER_ALGEBRA_GAS = 150_000
FURTHER_V4_GAS = 110_000


class AtomicArbitrage:
    """Sizes the cycles that a block's events touched; keeps no state of its own."""

    def __init__(
        self,
        chain: str,
        index: CycleIndex,
        state: MarketState,
        graph: RateGraph | None = None,
        spans: Spans | None = None,
        inventory: Inventory | None = None,
    ) -> None:
        """Take the cycles of two and three swaps, and where the best one of four is looked for too, the graph of all swaps; `inventory` says what credit there may be."""
        self._inventory = inventory or Inventory()
        self._spans = spans or Spans()
        self._chain = chain
        self._graph = graph
        self.index = index
        self._state = state
        self._ways = parallels(state)
        self._lenders = {start: Lenders(state.pools().values(), start) for start in index.starts}
        # How many of the index's pools these are of.
        self._known = len(index.pools)

    @classmethod
    def watching(
        cls,
        chain: str,
        config: ChainConfig,
        state: MarketState,
        spans: Spans | None = None,
        inventory: Inventory | None = None,
    ) -> Self:
        """Make it for every cycle through a chain's wrapped native coin that its configuration allows."""
        pools = state.pools().values()
        index = CycleIndex(pools, [config.wrapped_native], min(config.max_hops, MAX_HOPS))
        return cls(chain, index, state, RateGraph(pools) if config.max_hops > MAX_HOPS else None, spans, inventory)

    def opportunities(self, block: Block, touched: Collection[Address], capital: int) -> list[Opportunity]:
        """Return the opportunities that a block opened, best first.

        `touched` are the pools whose state changed; no amount_in exceeds `capital`, base units of the cycle's
        token, or on credit the inventory's limit. An opportunity may turn out to have no profit in exact integers: screening is in floats.
        """
        touched = self._widened(block, touched)
        most = max(capital, self._inventory.arbitrage_flash_wei)
        cycles = screen(self.index.touched(touched), self._state, max_amount_in=most)
        self._spans.turn(self._chain, "size", len(cycles))
        found = [self._funded(block, cycle, capital) for cycle in (*cycles, *self._long(touched))]
        found.sort(key=_profit, reverse=True)
        # Of the best one alone: the next ones are mostly its parallel pools, each by itself.
        wide = self._spread(block, found[0], capital) if found and found[0].flash is None else None
        return found if wide is None else [wide, *found]

    def _widened(self, block: Block, touched: Collection[Address]) -> Collection[Address]:
        """Take in pools that the market has come to know, and return what is touched with them."""
        self.index.grow(self._state.pools(), block.timestamp)
        new = self.index.pools[self._known :]
        if not new:
            return touched
        self._known = len(self.index.pools)
        self._ways = parallels(self._state)
        self._lenders = {start: Lenders(self.index.pools, start) for start in self.index.starts}
        self._graph = None if self._graph is None else RateGraph(self.index.pools)
        return frozenset(touched).union(pool.address for pool in new)

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

    def _funded(self, block: Block, cycle: Cycle, capital: int) -> Opportunity:
        """Return it with own capital, or on credit where that leaves more after the gas that credit takes; without any capital, on credit where that leaves something."""
        limit, own = self._inventory.arbitrage_flash_wei, 0 if self._inventory.empty else capital
        found = self._opportunity(block, cycle, size_exact(cycle, self._state, capital))
        # Where less than all of it is best put in, credit has nothing to add.
        if not limit or (own and found.amount_in < own):
            return found
        best, least = found, found.expected_profit if own else 0
        for credit in self._credits(cycle):
            lent = self._on_credit(block, cycle, credit, limit)
            left = 0 if lent is None else lent.expected_profit - credit.more_gas * block.base_fee_wei
            if lent is not None and left > least:
                best, least = lent, left
        return best

    def _credits(self, cycle: Cycle) -> Iterator[Credit]:
        """Yield who could give first: the first pool of the path, or where it cannot, the cheapest others."""
        first = self._state.pools()[cycle.hops[0].pool]
        if gives_first(first):
            yield Credit(first, lends=False)
        else:
            yield from self._lenders[cycle.token].cheapest([hop.pool for hop in cycle.hops])

    def _on_credit(self, block: Block, cycle: Cycle, credit: Credit, limit: int) -> Opportunity | None:
        """Return it sized for a credit, None where that leaves nothing or the lender has too little."""
        if not credit.lends:
            sized = size_exact(cycle, self._state, limit)
            return self._opportunity(block, cycle, sized, credit) if sized.amount_in else None
        try:
            legs = legs_of(cycle, self._state)
        except AmmError:
            return None
        sized = size_path([credit.lent, *(leg.amount_out for leg in legs)], limit)
        lent = credit.lent(sized.amount_in)
        if not sized.amount_in or not self._lenders[cycle.token].has(self._state, credit.pool, lent):
            return None
        # What rounding leaves over of what is put in, it is not owed.
        return self._opportunity(block, cycle, Sized(credit.owed(lent), sized.amount_out), credit)

    def _opportunity(self, block: Block, cycle: Cycle, sized: Sized, credit: Credit | None = None) -> Opportunity:
        flash = None
        if credit is not None:
            flash = credit.flash(credit.lent(sized.amount_in) if credit.lends else sized.amount_in)
        begins = flash.lent if flash is not None and flash.lent else sized.amount_in
        held = self._held(cycle, begins) if sized.amount_in else ()
        if flash is not None and flash.lent:
            # What is lent is a step of its own.
            held = ((cycle.token, sized.amount_in), *held)
        return Opportunity(
            id=identity(self._chain, block, cycle, flash),
            chain=self._chain,
            strategy=NAME,
            cycle=cycle,
            block_number=block.number,
            block_hash=block.hash,
            amount_in=sized.amount_in,
            expected_out=sized.amount_out,
            held=held,
            flash=flash,
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
    if pool.v4 is not None:
        return FURTHER_V4_GAS
    return FURTHER_V3_GAS if pool.concentrated else FURTHER_PAIR_GAS


def _profit(found: Opportunity) -> int:
    return found.expected_profit


def identity(chain: str, block: Block, cycle: Cycle, flash: Flash | None = None) -> str:
    """Name an opportunity by what it is, so that seeing a block twice, after a restart, finds it known already."""
    digest = hashlib.sha256(f"{NAME}:{chain}:".encode() + block.hash + cycle.token)
    for hop in cycle.hops:
        digest.update(hop.pool + bytes([hop.zero_for_one]))
    digest.update(b"" if flash is None else flash.pool)
    return digest.hexdigest()[:32]
