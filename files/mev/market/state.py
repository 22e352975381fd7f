"""One chain's pools after a block, exact, and the way back through the last blocks for when the chain turns round."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from mev.chain.abi import SYNC, decode_sync
from mev.chain.wire import Log
from mev.domain import Block, Pool, V2State
from mev.domain.market import Address

# How many blocks can be undone; a deeper reorganisation means reading the chain anew.
UNDO_BLOCKS = 64


class StateError(Exception):
    """A block does not follow the last one, or the journal does not reach back to where the chain turned."""


class _Applied(NamedTuple):
    """The block before, and what its reserves were where they have changed since."""

    parent: Block
    reserves: dict[Address, V2State]


class MarketState:
    """The pools of one chain and their reserves at `block`; has one writer, the task that follows the chain."""

    def __init__(self, block: Block, reserves: Mapping[Pool, V2State]) -> None:
        """Start from reserves read at `block` (see mev.market.discovery)."""
        self._block = block
        self._pools = {pool.address: pool for pool in reserves}
        self._reserves = {pool.address: state for pool, state in reserves.items()}
        self._journal: deque[_Applied] = deque(maxlen=UNDO_BLOCKS)

    @property
    def block(self) -> Block:
        """The block after which the reserves are what they are."""
        return self._block

    def pools(self) -> Mapping[Address, Pool]:
        """Every pool by its address; a read-only view."""
        return MappingProxyType(self._pools)

    def v2(self, pool: Address) -> V2State:
        """Return a pool's reserves; raises KeyError where the pool is not known."""
        return self._reserves[pool]

    def v2_states(self) -> dict[Pool, V2State]:
        """Return every pool with its reserves, as a snapshot holds them; a copy."""
        return {pool: self._reserves[address] for address, pool in self._pools.items()}

    def apply_block(self, block: Block, logs: Iterable[Log]) -> frozenset[Address]:
        """Take in the next block's logs, in their order, and return the pools whose reserves it changed.

        Logs of other contracts are passed over: anyone may emit a Sync. Raises StateError where the block is not the
        child of the last one, and AbiError where a known pool's log is malformed; the state is as before then.
        """
        if block.parent_hash != self._block.hash:
            raise StateError(f"block {block.number} does not follow block {self._block.number}, the last one applied")
        after: dict[Address, V2State] = {}
        for log in logs:
            if log.address in self._pools and log.topics[:1] == (SYNC,):
                after[log.address] = V2State(*decode_sync(log.topics, log.data), block.number)
        before = {pool: self._reserves[pool] for pool in after}
        touched = frozenset(pool for pool, state in after.items() if _differs(state, before[pool]))
        self._journal.append(_Applied(self._block, before))
        self._reserves.update(after)
        self._block = block
        return touched

    def undo_to(self, ancestor: Block) -> frozenset[Address]:
        """Go back to what was after `ancestor`, and return the pools whose reserves that changed.

        Raises StateError, and changes nothing, where `ancestor` is none of the last 64 blocks that were applied and not undone since: what
        one reorganisation has taken back, the next one cannot reach beyond until as many blocks have followed.
        """
        steps = self._steps_back_to(ancestor)
        now: dict[Address, V2State] = {}
        for _ in range(steps):
            applied = self._journal.pop()
            for pool, state in applied.reserves.items():
                now.setdefault(pool, self._reserves[pool])
                self._reserves[pool] = state
            self._block = applied.parent
        return frozenset(pool for pool, state in now.items() if _differs(state, self._reserves[pool]))

    def _steps_back_to(self, ancestor: Block) -> int:
        if ancestor.hash == self._block.hash:
            return 0
        parents: Sequence[_Applied] = tuple(reversed(self._journal))
        for steps, applied in enumerate(parents, start=1):
            if applied.parent.hash == ancestor.hash:
                return steps
        raise StateError(
            f"block {ancestor.number} is not among the last {len(parents)} blocks before {self._block.number}"
        )


def _differs(one: V2State, other: V2State) -> bool:
    return (one.reserve0, one.reserve1) != (other.reserve0, other.reserve1)
