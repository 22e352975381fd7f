"""One chain's pools after a block, exact, and the way back through the last blocks for when the chain turns round."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from mev.chain.abi import SYNC, V4_INITIALIZED, AbiError, decode_sync
from mev.chain.abi.logs import decode_log
from mev.chain.wire import Log
from mev.domain import Algebra, Block, Pool, V2State
from mev.domain.events import MalformedLog, V4Initialized
from mev.domain.market import Address, Hash
from mev.market.amm.balancer import StablePool, WeightedPool
from mev.market.amm.concentrated import ConcentratedPool
from mev.market.amm.curve import CurvePool
from mev.market.amm.solidly import SolidlyPool
from mev.market.balancer_state import Tellers, followed_balancer
from mev.market.concentrated_state import (
    ALGEBRA_TOPICS,
    CONCENTRATED_TOPICS,
    NEW_PLUGIN,
    NO_FEE_YET,
    NO_PRICE,
    V4_TOPICS,
    Concentrated,
    Unusable,
    follow,
    same,
)
from mev.market.curve_state import CurvePools, followed_curve
from mev.market.solidly_state import COMMON_FEE, CUSTOM_FEE, SOLIDLY_SYNC, fee_of, followed, with_fee

PoolState = V2State | SolidlyPool | WeightedPool | StablePool | CurvePool | Concentrated
# Of a pool that a V4 manager tells of: the pool, where it is one that is watched.
Watches = Callable[[V4Initialized], Pool | None]
# Of a factory's log: the pool that it has made, where it is one that is watched; raises AbiError where the log is malformed.
Makes = Callable[[Log], Pool | None]

# How many blocks can be undone; a deeper reorganisation means reading the chain anew.
UNDO_BLOCKS = 64
# What a pool is before it is read for the first time.
NOT_READ = Unusable("it was made since the chain was read, and was not read yet")
# What reading a pool anew mends.
_TO_READ = frozenset({NOT_READ, NO_FEE_YET, NEW_PLUGIN, COMMON_FEE})
# A pool may be gone with its block, or not have begun: so often it is asked, until it is told of again.
_TRIES = 5
_OF_CONCENTRATED = CONCENTRATED_TOPICS | ALGEBRA_TOPICS
_FOLLOWED = _OF_CONCENTRATED | {SOLIDLY_SYNC}
# States that are compared as they are.
_PLAIN = (V2State, SolidlyPool, WeightedPool, StablePool, CurvePool)


class StateError(Exception):
    """A block does not follow the last one, or the journal does not reach back to where the chain turned."""


class _Applied(NamedTuple):
    """The block before, and what its pools held where that has changed since."""

    parent: Block
    states: dict[Address, PoolState]


class MarketState:
    """The pools of one chain and what they hold at `block`; has one writer, the task that follows the chain."""

    def __init__(
        self,
        block: Block,
        states: Mapping[Pool, PoolState],
        fee_setters: Mapping[Address, str] = MappingProxyType({}),
        managers: Mapping[Address, Watches] = MappingProxyType({}),
        makers: Mapping[Address, Makes] = MappingProxyType({}),
    ) -> None:
        """Start from states read at `block` (see mev.market.discovery, discovery_v3 and solidly_state).

        `fee_setters` are the contracts that say their pools' fees, Solidly's factories, with their names; `managers` V4's whose new pools come in as
        well, once they are initialised; `makers` factories of all other kinds, by address, whose new pools do.
        """
        self._makers = dict(makers)
        self._watches = dict(managers)
        self._fee_setters = dict(fee_setters)
        self._block = block
        self._pools = {pool.address: pool for pool in states}
        self._states = {pool.address: state for pool, state in states.items()}
        self._journal: deque[_Applied] = deque(maxlen=UNDO_BLOCKS)
        # What tells of pools that are its own, by their ids: V4's managers.
        self._managed: dict[Address, dict[Hash, Pool]] = {manager: {} for manager in managers}
        for pool in states:
            if pool.v4 is not None:
                self._managed.setdefault(pool.v4.manager, {})[pool.v4.id] = pool
        # Balancer's vaults and pools.
        self._tellers = Tellers(states)
        self._curves = CurvePools(states)
        # The pairs of each pool that has several tokens.
        self._pairs: dict[Address, frozenset[Address]] = {}
        for pool in states:
            if pool.several:
                self._pairs[pool.whole] = self._pairs.get(pool.whole, frozenset()) | {pool.address}
        # Pools that a factory has made since, of kinds of which events do not say all, and how often those that are to be read will yet be asked.
        self._coming: dict[Address, Pool] = {}
        self._due: dict[Address, int] = {}
        # Who beside pools is listened to.
        self._others: dict[Address, Callable[[Log, dict[Address, PoolState]], None]] = {
            **dict.fromkeys((*self._fee_setters, *self._makers), self._follow_maker),
            **dict.fromkeys(self._tellers.addresses, self._follow_balancer),
            **dict.fromkeys(self._managed, self._follow_managed),
        }
        self.asked_for_fees: tuple[Address, ...] = ()
        self._ask_for_fees()

    @property
    def block(self) -> Block:
        """The block after which the pools hold what they do."""
        return self._block

    def pools(self) -> Mapping[Address, Pool]:
        """Every pool by its address; a read-only view. Pools that came since stand at its end, and stay there without a price where that is undone."""
        return MappingProxyType(self._pools)

    def held(self, pool: Address) -> PoolState:
        """Return what a pool holds, of whichever kind it is; raises KeyError where it is not known."""
        return self._states[pool]

    def v2(self, pool: Address) -> V2State:
        """Return a pair's reserves; raises KeyError where the pair is not known."""
        state = self._states[pool]
        if not isinstance(state, V2State):
            raise KeyError(pool)
        return state

    def concentrated(self, pool: Address) -> ConcentratedPool | None:
        """Return a V3 pool, None where it is not usable; raises KeyError where it is not known."""
        state = self._states[pool]
        if isinstance(state, _PLAIN):
            raise KeyError(pool)
        return state if isinstance(state, ConcentratedPool) else None

    def solidly(self, pool: Address) -> SolidlyPool | None:
        """Return a Solidly pool, None where it is not usable; raises KeyError where it is not known."""
        state = self._states[pool]
        if isinstance(state, V2State | ConcentratedPool | WeightedPool | StablePool | CurvePool):
            raise KeyError(pool)
        return state if isinstance(state, SolidlyPool) else None

    def balancer(self, pool: Address) -> WeightedPool | StablePool | None:
        """Return a Balancer pool, None where it is not usable; raises KeyError where it is not known."""
        state = self._states[pool]
        if isinstance(state, V2State | SolidlyPool | ConcentratedPool | CurvePool):
            raise KeyError(pool)
        return state if isinstance(state, WeightedPool | StablePool) else None

    def curve(self, pool: Address) -> CurvePool | None:
        """Return a Curve pool, None where it is not usable; raises KeyError where it is not known."""
        state = self._states[pool]
        if isinstance(state, V2State | SolidlyPool | ConcentratedPool | WeightedPool | StablePool):
            raise KeyError(pool)
        return state if isinstance(state, CurvePool) else None

    def curve_pools(self) -> Iterable[Sequence[Pool]]:
        """Return each Curve pool as all of its pairs, which hold one and the same."""
        return self._curves

    def with_pairs(self, pools: Iterable[Address]) -> frozenset[Address]:
        """Return pools, and of those that are two tokens of several all other pairs, which a swap through one of them changes as well."""
        found = frozenset(pools)
        wholes = {self._pools[each].whole for each in found if each in self._pools}
        return found.union(*(self._pairs[whole] for whole in wholes if whole in self._pairs))

    def unusable(self) -> dict[Address, str]:
        """Return the pools through which nothing is traded, and why."""
        return {pool: state.reason for pool, state in self._states.items() if isinstance(state, Unusable)}

    def states(self) -> dict[Pool, PoolState]:
        """Return every pool with what it holds; a copy."""
        return {pool: self._states[address] for address, pool in self._pools.items()}

    def v2_states(self) -> dict[Pool, V2State]:
        """Return every pair with its reserves; a copy."""
        return {pool: state for pool, state in self.states().items() if isinstance(state, V2State)}

    def apply_block(self, block: Block, logs: Iterable[Log]) -> frozenset[Address]:
        """Take in the next block's logs, in their order, and return the pools whose state it changed.

        Logs of other contracts are passed over: anyone may emit a Sync. Raises StateError where the block is not the
        child of the last one, and AbiError where a known pool's log is malformed; the state is as before then.
        """
        if block.parent_hash != self._block.hash:
            raise StateError(f"block {block.number} does not follow block {self._block.number}, the last one applied")
        after: dict[Address, PoolState] = {}
        self._move_amplifications(block, after)
        for log in logs:
            pool = self._pools.get(log.address)
            if pool is None or not log.topics:
                if (heard := self._others.get(log.address)) is not None:
                    heard(log, after)
                elif log.address in self._curves:
                    self._follow_curve(log, block, after)
            elif log.topics[0] == SYNC:
                if not (pool.concentrated or pool.solidly or pool.several):
                    after[pool.address] = V2State(*decode_sync(log.topics, log.data), block.number)
            elif log.topics[0] in _FOLLOWED:
                self._follow(pool, log, after)
        before = {pool: self._states[pool] for pool in after}
        touched = frozenset(pool for pool, state in after.items() if _differs(state, before[pool]))
        self._journal.append(_Applied(self._block, before))
        self._states.update(after)
        self._block = block
        return touched

    def _follow(self, pool: Pool, log: Log, after: dict[Address, PoolState]) -> None:
        """Take in one of a pool's own logs, where it is one of its kind's."""
        state = after.get(pool.address) or self._states[pool.address]
        if pool.concentrated and pool.v4 is None and log.topics[0] in _OF_CONCENTRATED:
            if isinstance(state, ConcentratedPool | Unusable):
                after[pool.address] = follow(pool, state, log)
        elif pool.solidly and log.topics[0] == SOLIDLY_SYNC and isinstance(state, SolidlyPool | Unusable):
            after[pool.address] = followed(state, log)
        if isinstance(now := after.get(pool.address), Unusable):
            self._note(pool.address, now)

    def _follow_maker(self, log: Log, after: dict[Address, PoolState]) -> None:
        """Take in what a factory says: the fee of a pool of its own, or that there is a new one. Raises StateError where it says something else of a known pool."""
        if log.topics[:1] == (CUSTOM_FEE,):
            if log.address in self._fee_setters:
                self._set_fee(log, after)
            return
        makes = self._makers.get(log.address)
        pool = makes(log) if makes is not None else None
        if pool is None:
            return
        known = self._pools.get(pool.address)
        if known is None:
            self._begin(pool)
        elif _made_as(known) != _made_as(pool):
            # One that was turned back, of a factory whose pools' addresses do not follow from what they are.
            raise StateError(f"pool 0x{pool.address.hex()} was made anew, as another one")
        else:
            self._note(pool.address, self._states[pool.address])

    def _begin(self, pool: Pool) -> None:
        """Take in a pool that was just made: as empty, or as one that is to be read."""
        if pool.algebra is not None or pool.solidly:
            if self._others.setdefault(pool.address, self._stir) != self._stir:
                return
            self._coming[pool.address] = pool
            self._due[pool.address] = _TRIES
        else:
            self._pools[pool.address] = pool
            self._states[pool.address] = NO_PRICE if pool.concentrated else V2State(0, 0, self._block.number)

    def _stir(self, log: Log, _: dict[Address, PoolState]) -> None:
        """Have a pool read that was not read yet: something has happened to it."""
        self._due[log.address] = _TRIES

    def _note(self, pool: Address, state: PoolState) -> None:
        if type(state) is Unusable and state in _TO_READ:
            self._due[pool] = _TRIES

    def due(self) -> tuple[Pool, ...]:
        """Return the pools that are to be read, as they are after the last block, and taken in: what was made since the start, and what no event says whole."""
        return tuple(self._coming.get(pool) or self._pools[pool] for pool in self._due)

    def tried(self, pools: Iterable[Address]) -> None:
        """Note that pools that are due were asked: those that are not taken in are asked a few times more, and then once they are told of again."""
        for pool in pools:
            # Behind the others: what is told of in each block and never answers would keep them waiting.
            tries = self._due.pop(pool, 0) - 1
            if tries > 0:
                self._due[pool] = tries

    def take_in(self, pool: Pool, state: PoolState) -> None:
        """Take in a pool as it was read after the last block; what it was before comes back where that block is undone."""
        self._pools[pool.address] = pool
        self._states.setdefault(pool.address, NOT_READ)
        self._due.pop(pool.address, None)
        if self._coming.pop(pool.address, None) is not None:
            del self._others[pool.address]
        self.amend(pool.address, state)
        self._ask_for_fees()

    def _ask_for_fees(self) -> None:
        """Find those of which no event says the fee in the next block."""
        self.asked_for_fees = tuple(
            address for address, pool in self._pools.items() if pool.algebra not in {None, Algebra.OWN}
        )

    def _follow_managed(self, log: Log, after: dict[Address, PoolState]) -> None:
        """Take in what a manager says of a pool of its own."""
        if len(log.topics) < 2 or log.topics[0] not in V4_TOPICS:
            return
        pool = self._managed[log.address].get(log.topics[1])
        if pool is None and log.topics[0] == V4_INITIALIZED:
            pool = self._admitted(log)
        if pool is None:
            return
        state = after.get(pool.address) or self._states[pool.address]
        if isinstance(state, ConcentratedPool | Unusable):
            after[pool.address] = follow(pool, state, log)

    def _admitted(self, log: Log) -> Pool | None:
        """Take in a manager's new pool, without a price as yet, where it is one that is watched; raises AbiError where the log is malformed."""
        event = decode_log(log.topics, log.data)
        if isinstance(event, MalformedLog):
            raise AbiError(f"{event.event}: {event.reason}")
        watches = self._watches.get(log.address)
        pool = watches(event) if watches is not None and isinstance(event, V4Initialized) else None
        if pool is None or pool.v4 is None or pool.v4.id != log.topics[1] or pool.address in self._pools:
            return None
        self._pools[pool.address] = self._managed[log.address][pool.v4.id] = pool
        self._states[pool.address] = NO_PRICE
        return pool

    def _follow_balancer(self, log: Log, after: dict[Address, PoolState]) -> None:
        """Take in what a vault says of its pools, or one of these of itself: it is so for all of its pairs."""
        for pairs in self._tellers.told(log):
            first = pairs[0]
            state = after.get(first.address) or self._states[first.address]
            if first.balancer is not None and isinstance(state, WeightedPool | StablePool | Unusable):
                told = followed_balancer(first.balancer, state, log)
                after.update((pair.address, told) for pair in pairs)

    def _follow_curve(self, log: Log, block: Block, after: dict[Address, PoolState]) -> None:
        """Take in what a Curve pool says of itself: it is so for all of its pairs."""
        for pair in self._curves.told(log)[:1]:
            state = after.get(pair.address) or self._states[pair.address]
            if pair.curve is not None and isinstance(state, CurvePool | Unusable):
                told = followed_curve(pair.curve, state, log, block.timestamp)
                after.update((each.address, told) for each in self._curves.told(log))

    def _move_amplifications(self, block: Block, after: dict[Address, PoolState]) -> None:
        """Have Curve's A that is on its way to another value go on to a block's time, which no event says."""
        for pairs in self._curves:
            state = self._states[pairs[0].address]
            if isinstance(state, CurvePool) and state.ramp is not None:
                moved = state.at(block.timestamp)
                after.update((each.address, moved) for each in pairs)

    def _set_fee(self, log: Log, after: dict[Address, PoolState]) -> None:
        """Take in what a factory says of a pool of its own; of another one's it has nothing to say."""
        address, fee = fee_of(log)
        pool = self._pools.get(address)
        if pool is None or not pool.solidly or pool.factory != self._fee_setters[log.address]:
            return
        state = after.get(address) or self._states[address]
        if isinstance(state, SolidlyPool | Unusable):
            after[address] = with_fee(state, fee)
            self._note(address, after[address])

    def amend(self, pool: Address, state: PoolState) -> None:
        """Take in what a pool was found to hold after the last block beside its logs; it is undone with that block. Raises KeyError where it is not known."""
        held = self._states[pool]
        if self._journal:
            self._journal[-1].states.setdefault(pool, held)
        self._states[pool] = state

    def undo_to(self, ancestor: Block) -> frozenset[Address]:
        """Go back to what was after `ancestor`, and return the pools whose state that changed.

        Raises StateError, and changes nothing, where `ancestor` is none of the last 64 blocks that were applied and not undone since: what
        one reorganisation has taken back, the next one cannot reach beyond until as many blocks have followed.
        """
        steps = self._steps_back_to(ancestor)
        now: dict[Address, PoolState] = {}
        for _ in range(steps):
            applied = self._journal.pop()
            for pool, state in applied.states.items():
                now.setdefault(pool, self._states[pool])
                self._states[pool] = state
                self._note(pool, state)
            self._block = applied.parent
        return frozenset(pool for pool, state in now.items() if _differs(state, self._states[pool]))

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


def _made_as(pool: Pool) -> tuple[object, ...]:
    """Return what a factory's event says of a pool: of Algebra's neither the spacing nor who says its fee."""
    own = () if pool.algebra is not None else (pool.fee_numerator, pool.fee_denominator, pool.tick_spacing)
    return (pool.factory, pool.token0, pool.token1, pool.stable, *own)


def _differs(one: PoolState, other: PoolState) -> bool:
    if isinstance(one, V2State) and isinstance(other, V2State):
        return (one.reserve0, one.reserve1) != (other.reserve0, other.reserve1)
    if isinstance(one, _PLAIN) or isinstance(other, _PLAIN):
        return one != other
    return not same(one, other)
