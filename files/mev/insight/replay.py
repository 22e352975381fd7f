"""The live detectors over blocks that are past: of a node, by their numbers, or from files of recorded ones.

What a step is: a block of a node's, or one transaction of a recorded block, after which the reserves are known exactly (mev.market.recorded).
After each, what the strategy engine would detect is detected by the same code: MarketState takes in the logs, AtomicArbitrage finds and sizes
the touched cycles. Nothing is simulated and nothing is sent.
"""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from mev.chain.abi import SYNC
from mev.chain.rpc import Rpc, RpcUnavailableError
from mev.chain.traces import RecordedBlock, read_recorded
from mev.chain.wire import Head, Log, WireLog, encode
from mev.domain import Block, Opportunity, Pool, V2State
from mev.domain.market import Address
from mev.market.algebra_state import ask_fees
from mev.market.curve_read import ask_curves
from mev.market.late import read_late
from mev.market.load import load_market, market_topics
from mev.market.newcomers import newcomers_of
from mev.market.recorded import RecordedMarket, read_market
from mev.market.state import MarketState
from mev.runtime.config import ChainConfig
from mev.trading.strategies.atomic_arbitrage import AtomicArbitrage

# Blocks that are asked for in one message.
AT_ONCE = 16


class Detected(msgspec.Struct, frozen=True, kw_only=True):
    """What one block opened: profitable opportunities, the best first, each as the first step that showed it had it.

    `together_wei` is what the best of them leave that go through no pool twice: more cannot be had of one block. Profit is before gas, wei of the
    chain's native coin.
    """

    block: Block
    steps: int
    touched: int
    pools: Mapping[Address, Pool]
    opportunities: tuple[Opportunity, ...]

    @property
    def together(self) -> tuple[Opportunity, ...]:
        """The best opportunities of which no two go through one pool."""
        chosen: list[Opportunity] = []
        used: set[Address] = set()
        for each in self.opportunities:
            pools = pools_of(each)
            if used.isdisjoint(pools):
                chosen.append(each)
                used |= pools
        return tuple(chosen)

    @property
    def together_wei(self) -> int:
        """The profit of those."""
        return sum(each.expected_profit for each in self.together)


class Covered(msgspec.Struct, frozen=True, kw_only=True):
    """How much was looked at; `unknown_pools` changed and could not be followed."""

    pools: int
    cycles: int
    unknown_pools: int


class Replay:
    """One market, taken from block to block."""

    def __init__(self, chain: str, config: ChainConfig, state: MarketState) -> None:
        self.state = state
        self._config = config
        self._strategy = AtomicArbitrage.watching(chain, config, state)
        self.cycles = len(self._strategy.index.cycles)
        self._capital = config.risk.max_amount_in_wei

    def begin(self) -> list[Opportunity]:
        """Detect on the first state, of which everything counts as touched."""
        return self._detect(self.state.block, frozenset(self.state.pools()))

    def step(self, block: Block, logs: Sequence[Log]) -> tuple[list[Opportunity], int]:
        """Take in a block; return what it opened, and how many pools it changed."""
        touched = self.state.apply_block(block, logs)
        return self._detect(block, touched), len(touched)

    async def step_on_chain(self, rpc: Rpc, block: Block, logs: Sequence[Log]) -> tuple[list[Opportunity], int]:
        """Do as `step`, and have the pools that are new, and those of which no event says the fee, or all that they hold, asked as the engine does."""
        touched = self.state.apply_block(block, logs) | await read_late(rpc, self._config, self.state, block)
        touched |= await ask_fees(rpc, self.state, block)
        touched |= await ask_curves(rpc, self.state, block)
        return self._detect(block, touched), len(touched)

    def detected(self, block: Block, touched: int, found: Sequence[Opportunity], *, steps: int = 1) -> Detected:
        """Return what was found in a block."""
        return Detected(block=block, steps=steps, touched=touched, pools=self.state.pools(), opportunities=tuple(found))

    def _detect(self, block: Block, touched: frozenset[Address]) -> list[Opportunity]:
        found = self._strategy.opportunities(block, touched, self._capital)
        return [each for each in found if each.expected_profit > 0]


def pools_of(opportunity: Opportunity) -> frozenset[Address]:
    """Return the pools that an opportunity's cycle goes through."""
    return frozenset(hop.pool for hop in opportunity.cycle.hops)


async def replay_range(
    rpc: Rpc, chain: str, config: ChainConfig, first: int, last: int
) -> AsyncIterator[tuple[Detected, Covered]]:
    """Replay a node's blocks from `first` to `last`; the node has to have the state of `first`.

    The first block's pools are read as a start of the engine reads them, and every pool counts as touched by it. Raises what the transport and
    discovery raise.
    """
    start = await _head(rpc, first)
    state = await load_market(rpc, config, start, newcomers=await newcomers_of(chain, rpc, config, start))
    replay = Replay(chain, config, state)
    covered = Covered(pools=len(state.pools()), cycles=replay.cycles, unknown_pools=0)
    yield replay.detected(start, len(state.pools()), replay.begin()), covered
    topics = [encode(topic) for topic in market_topics(config)]
    for begin in range(first + 1, last + 1, AT_ONCE):
        numbers = range(begin, min(begin + AT_ONCE, last + 1))
        blocks = [_block(rpc, number, head) for number, head in zip(numbers, await _heads(rpc, numbers), strict=True)]
        wanted = [{"blockHash": encode(block.hash), "topics": [topics]} for block in blocks]
        answers = await rpc.batch_as(list[WireLog], [("eth_getLogs", (each,)) for each in wanted])
        for block, logs in zip(blocks, answers, strict=True):
            if logs is None:
                raise RpcUnavailableError(f"{rpc.node}: has no logs of block {block.number}")
            ordered = sorted((log.log(block) for log in logs), key=lambda log: log.index)
            found, touched = await replay.step_on_chain(rpc, block, ordered)
            yield replay.detected(block, touched, found), covered


def replay_recorded(path: Path, chain: str, config: ChainConfig) -> tuple[Detected, Covered, RecordedMarket]:
    """Replay a recorded block, transaction by transaction; raises RecordingError."""
    recorded = read_recorded(path)
    market = read_market(recorded)
    steps = list(steps_of(recorded, market))
    replay = Replay(chain, config, state_before(recorded, market))
    first_seen: dict[tuple[object, ...], Opportunity] = {}
    touched: set[Address] = set()
    found = replay.begin()
    for block, logs in [(None, ()), *steps]:
        if block is not None:
            found, _ = replay.step(block, logs)
            touched |= {log.address for log in logs}
        for each in found:
            # One cycle may stay open over several transactions: it counts once, with the most that it had.
            key = (each.cycle.token, each.cycle.hops)
            if key not in first_seen or each.expected_profit > first_seen[key].expected_profit:
                first_seen[key] = each
    opened = sorted(first_seen.values(), key=lambda each: each.expected_profit, reverse=True)
    detected = replay.detected(block_of(recorded), len(touched), opened, steps=len(steps))
    return detected, Covered(pools=len(market.start), cycles=replay.cycles, unknown_pools=market.unknown), market


def block_of(recorded: RecordedBlock) -> Block:
    """Return a recorded block as the engine knows blocks; its hash is its number's: a recording has none that is needed."""
    return Block(
        recorded.number, recorded.number.to_bytes(32, "big"), bytes(32), recorded.timestamp, recorded.base_fee_wei
    )


def state_before(recorded: RecordedBlock, market: RecordedMarket) -> MarketState:
    """Return the reserves before a recorded block's first transaction."""
    parent = Block(recorded.number - 1, bytes(32), bytes(32), recorded.timestamp, recorded.base_fee_wei)
    return MarketState(parent, {pool: V2State(*held, parent.number) for pool, held in market.start.items()})


def steps_of(recorded: RecordedBlock, market: RecordedMarket) -> Iterator[tuple[Block, tuple[Log, ...]]]:
    """Yield each transaction that changed reserves as a block of its own, with the Sync events that it caused."""
    parent = bytes(32)
    by_position: dict[int, list[Log]] = {}
    hashes = {each.position: each.hash for each in recorded.transactions}
    for index, change in enumerate(market.changes):
        content = b"".join(reserve.to_bytes(32, "big") for reserve in change.reserves)
        log = Log(change.pool, (SYNC,), content, index, hashes[change.position])
        by_position.setdefault(change.position, []).append(log)
    for position, logs in sorted(by_position.items()):
        block = Block(recorded.number, hashes[position], parent, recorded.timestamp, recorded.base_fee_wei)
        yield block, tuple(logs)
        parent = block.hash


async def _head(rpc: Rpc, number: int) -> Block:
    return _block(rpc, number, (await _heads(rpc, [number]))[0])


async def _heads(rpc: Rpc, numbers: Sequence[int]) -> list[Head | None]:
    return await rpc.batch_as(Head, [("eth_getBlockByNumber", (hex(number), False)) for number in numbers])


def _block(rpc: Rpc, number: int, head: Head | None) -> Block:
    if head is None:
        raise RpcUnavailableError(f"{rpc.node}: has no block {number}")
    return head.block()
