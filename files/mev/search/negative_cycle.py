"""Cycles that pay by their prices alone, of any length: negative cycles among logarithms, found by numpy over the whole market at once.

A swap of next to nothing multiplies by its pool's rate; a cycle whose rates multiply to more than 1 is one whose -log rates add up to less than 0.
`negative_cycle` looks for any such cycle (Bellman, Ford and Moore's relaxation from everywhere at once, with a look for a cycle among the predecessors
after each round); `best_cycle` for the best one of at most so many swaps through a token (Moore's walks by their number of edges). What comes out says
nothing of amounts: it is sized afterwards.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from mev.domain import Cycle, Hop, Pool
from mev.domain.market import Address
from mev.market.state import MarketState
from mev.search.rates import RATE, Floats, RateTable

Indices = NDArray[np.int64]
# Less than this of a gain is float64's own.
TINY = 1e-12
# A cycle of the cheapest predecessors shows after as many rounds as it has edges; longer ones than this nobody would send.
ROUNDS = 64


class RateGraph:
    """Tokens and the swaps between them, two a pool, ordered by the token that comes out."""

    def __init__(self, pools: Iterable[Pool]) -> None:
        self.pools = tuple(pools)
        self._rates = RateTable(self.pools)
        self._whole = {pool.address: pool.whole for pool in self.pools}
        names: dict[Address, int] = {}
        for pool in self.pools:
            names.setdefault(pool.token0, len(names))
            names.setdefault(pool.token1, len(names))
        self.tokens = tuple(names)
        self._number = names
        ends = [(names[pool.token0], names[pool.token1]) for pool in self.pools]
        into = np.asarray([end for pair in ends for end in (pair[1], pair[0])], dtype=np.int64)
        out_of = np.asarray([end for pair in ends for end in pair], dtype=np.int64)
        # By target, so that a round is one reduction; the place of an edge is not its step's number.
        order = np.argsort(into, kind="stable")
        self._step, self._into, self._out_of = order, into[order], out_of[order]
        self._begins = np.searchsorted(self._into, np.arange(len(names)))

    def weights(self, state: MarketState) -> Floats:
        """Return each swap's -log rate for next to nothing, by step number; infinite where nothing comes out."""
        table = self._rates.refreshed(state)
        with np.errstate(divide="ignore"):
            return np.asarray(-np.log(table[RATE, :-1]))

    def negative_cycle(self, weights: Floats, rounds: int = ROUNDS) -> tuple[Hop, ...] | None:
        """Return a cycle whose weights add up to less than 0, None where there is none of at most `rounds` swaps."""
        if not self.pools:
            return None
        weight = weights[self._step]
        distance = np.zeros(len(self.tokens))
        edge_into = np.full(len(self.tokens), -1, dtype=np.int64)
        for _ in range(min(rounds, len(self.tokens))):
            through = distance[self._out_of] + weight
            least = np.minimum.reduceat(through, self._begins)
            better = least < distance - TINY
            if not better.any():
                return None
            edges = np.flatnonzero(better[self._into] & (through == least[self._into]))
            # Of several equal ones the last written counts: any of them will do.
            edge_into[self._into[edges]] = edges
            distance = np.where(better, least, distance)
            found = self._cycle_of(edge_into)
            if found is not None:
                return found
        return None

    def best_cycle(self, weights: Floats, start: Address, max_hops: int, min_hops: int = 2) -> Cycle | None:
        """Return the cycle of `min_hops` to `max_hops` different pools through `start` that pays most a unit, None where none pays.

        Walks are compared by their rates alone; where the best walk of a length goes through a pool twice, those of other lengths stand.
        """
        origin = self._number.get(start)
        if origin is None:
            return None
        weight = weights[self._step]
        layers = [np.full(len(self.tokens), np.inf)]
        layers[0][origin] = 0.0
        best: tuple[float, tuple[Hop, ...]] | None = None
        for hops in range(1, max_hops + 1):
            layers.append(np.minimum.reduceat(layers[-1][self._out_of] + weight, self._begins))
            total = float(layers[-1][origin])
            if hops >= min_hops and total < -TINY and (best is None or total < best[0] - TINY):
                path = self._walk_back(layers, weight, origin)
                if len({self._whole[hop.pool] for hop in path}) == hops:
                    best = total, path
        return None if best is None else Cycle(start, best[1])

    def _walk_back(self, layers: Sequence[Floats], weight: Floats, origin: int) -> tuple[Hop, ...]:
        """Return the hops of the walk that ends in the last layer's origin."""
        hops: list[Hop] = []
        token = origin
        for layer in reversed(layers[:-1]):
            begin = int(self._begins[token])
            end = int(self._begins[token + 1]) if token + 1 < len(self.tokens) else len(self._into)
            edge = begin + int(np.argmin(layer[self._out_of[begin:end]] + weight[begin:end]))
            hops.append(self._hop(edge))
            token = int(self._out_of[edge])
        return tuple(reversed(hops))

    def _cycle_of(self, edge_into: Indices) -> tuple[Hop, ...] | None:
        """Return a cycle among the predecessors, None where they lead back to beginnings."""
        count = len(edge_into)
        before = np.append(np.where(edge_into >= 0, self._out_of[edge_into], count), count)
        there, steps = before, 1
        # After as many steps as there are tokens, who has not come to a beginning goes round.
        while steps < count:
            there, steps = there[there], 2 * steps
            if (there == count).all():
                return None
        rounds = np.flatnonzero(there[:-1] < count)
        if not len(rounds):
            return None
        token = first = int(there[rounds[0]])
        hops: list[Hop] = []
        while True:
            hops.append(self._hop(int(edge_into[token])))
            token = int(before[token])
            if token == first:
                return tuple(reversed(hops))

    def _hop(self, edge: int) -> Hop:
        step = int(self._step[edge])
        return Hop(self.pools[step // 2].address, zero_for_one=step % 2 == 0)
