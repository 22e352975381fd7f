"""Cycles of two and three swaps from the start tokens, enumerated once and found again by the pools they go through."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from mev.domain import Cycle, Hop, Pool
from mev.domain.market import Address
from mev.search.rates import RateTable

MAX_HOPS = 3
# Between two times that new pools are taken in.
SECONDS_BETWEEN = 60
Indices = NDArray[np.int32]


class _Step(NamedTuple):
    """One way through one pool; `number` is twice the pool's position, and one more from token1 to token0."""

    number: int
    hop: Hop
    token_out: Address
    # What the swap changes, all of it: no path goes through that twice.
    whole: Address


class CycleIndex:
    """Every cycle of two up to `max_hops` different pools that begins and ends in a start token, in both directions.

    `hops` has a row a cycle and `max_hops` columns of step numbers: twice a pool's position in `pools`, and one more
    where the swap is from token1 to token0. 2 * len(pools) stands for no hop, at the end of shorter cycles.
    """

    def __init__(self, pools: Iterable[Pool], start_tokens: Iterable[Address], max_hops: int = MAX_HOPS) -> None:
        """Enumerate; raises ValueError where max_hops is not 2 or 3."""
        if max_hops not in {2, MAX_HOPS}:
            raise ValueError(f"max_hops is {max_hops}: 2 and {MAX_HOPS} are possible")
        self._max_hops = max_hops
        self.pools = tuple(pools)
        # When it grew last, seconds since 1970 as blocks tell them.
        self._grown_at = 0
        self.rates = RateTable(self.pools)
        steps = _steps(self.pools)
        self.starts = tuple(dict.fromkeys(start_tokens))
        paths = [(token, path) for token in self.starts for path in _paths(steps, token, max_hops)]
        self.cycles = [Cycle(token, tuple(step.hop for step in path)) for token, path in paths]
        self.hops: Indices = np.full((len(paths), max_hops), 2 * len(self.pools), dtype=np.int32)
        through: defaultdict[Address, list[int]] = defaultdict(list)
        for position, (_, path) in enumerate(paths):
            for column, step in enumerate(path):
                self.hops[position, column] = step.number
                through[step.hop.pool].append(position)
        # Of which steps a table of rates has an estimate alone, by number; None where of none.
        curved = [pool.concentrated or pool.stable is True or pool.several for pool in self.pools]
        self.estimated = np.append(np.repeat(curved, 2), [False]) if any(curved) else None
        # The steps by column and in the processor's own size, as screening reads it: numpy would turn it into that each time.
        self.columns: NDArray[np.intp] = np.ascontiguousarray(self.hops.T, dtype=np.intp)
        self._through = {pool: np.asarray(positions, dtype=np.int32) for pool, positions in through.items()}

    def grow(self, pools: Mapping[Address, Pool], now_seconds: int) -> tuple[Pool, ...]:
        """Take in the pools at the end that were not there before, and return them; nothing while the last ones came less than a minute ago.

        All cycles are enumerated anew: anyone may make pools. Positions and step numbers of before mean nothing then.
        """
        if len(pools) == len(self.pools) or abs(now_seconds - self._grown_at) < SECONDS_BETWEEN:
            return ()
        new = tuple(pools.values())[len(self.pools) :]
        vars(self).update(vars(CycleIndex((*self.pools, *new), self.starts, self._max_hops)))
        self._grown_at = now_seconds
        return new

    def touched(self, pools: Iterable[Address]) -> "Cycles":
        """Return the cycles that go through at least one of these pools, each once; pools that are in none count for nothing."""
        found = [self._through[pool] for pool in pools if pool in self._through]
        positions = np.unique(np.concatenate(found)) if found else np.empty(0, dtype=np.int32)
        return Cycles(self, positions)

    def all(self) -> "Cycles":
        """Return every cycle."""
        return Cycles(self, np.arange(len(self.cycles), dtype=np.int32))


class Cycles(Sequence[Cycle]):
    """Some of an index's cycles, as their positions in it."""

    def __init__(self, source: CycleIndex, positions: Indices) -> None:
        """Take sorted positions without repetition."""
        self.source = source
        self.positions = positions

    def __len__(self) -> int:
        return len(self.positions)

    @overload
    def __getitem__(self, key: int) -> Cycle: ...
    @overload
    def __getitem__(self, key: slice) -> "Cycles": ...
    def __getitem__(self, key: int | slice) -> "Cycle | Cycles":
        if isinstance(key, slice):
            return Cycles(self.source, self.positions[key])
        return self.source.cycles[int(self.positions[key])]


def _steps(pools: Sequence[Pool]) -> Mapping[Address, Sequence[_Step]]:
    steps: defaultdict[Address, list[_Step]] = defaultdict(list)
    for position, pool in enumerate(pools):
        steps[pool.token0].append(_Step(2 * position, Hop(pool.address, zero_for_one=True), pool.token1, pool.whole))
        steps[pool.token1].append(
            _Step(2 * position + 1, Hop(pool.address, zero_for_one=False), pool.token0, pool.whole)
        )
    return steps


def _paths(steps: Mapping[Address, Sequence[_Step]], start: Address, max_hops: int) -> Iterator[tuple[_Step, ...]]:
    for first in steps.get(start, ()):
        for second in steps[first.token_out]:
            if second.whole == first.whole:
                continue
            if second.token_out == start:
                yield first, second
            elif max_hops == MAX_HOPS:
                # A pool of two tokens between the third one and the start is neither of the first two; one of several may be.
                for third in steps[second.token_out]:
                    if third.token_out == start and third.whole not in (first.whole, second.whole):
                        yield first, second, third
