"""Every pool that a factory ever made, read from its PairCreated or PoolCreated events range by range, to be gone on with where it was left.

    log = DiscoveryLog.open(path, chain_id, factory)          # what was found before, and from which block to go on
    async for found in created(rpc, factory, log.next_block or first_block, last_block):
        log.append(found)                                     # flushed: a killed process begins at most one range anew

`last_block` ought to be final: events of blocks that are turned back are not taken back here.
"""

import itertools
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple, Self

import msgspec
import structlog

from mev.chain.abi import (
    ALGEBRA_POOL_CREATED,
    PAIR_CREATED,
    POOL_CREATED,
    SOLIDLY_POOL_CREATED,
    V4_INITIALIZED,
    AbiError,
)
from mev.chain.abi.logs import decode_log
from mev.chain.errors import MalformedAnswerError, RpcError
from mev.chain.rpc import Rpc
from mev.chain.wire import ADDRESS_BYTES, HASH_BYTES, data, encode, fixed, quantity
from mev.domain import Algebra, Pool
from mev.domain.events import (
    AlgebraPoolCreated,
    MalformedLog,
    PairCreated,
    PoolCreated,
    SolidlyPoolCreated,
    V4Initialized,
)
from mev.domain.market import Address, Hash
from mev.market.v4_state import initialised, pool_of
from mev.runtime.config import AlgebraFactoryConfig, FactoryConfig, SolidlyFactoryConfig, V3FactoryConfig

FIRST_SPAN = 2_000
LONGEST_SPAN = 100_000
# Half of what providers commonly allow in one answer: above it the next range is shorter.
MANY_EVENTS = 5_000
NOBODY: Address = bytes(20)
FEE_DENOMINATOR = 10**6
# Of a pool in the file: its addresses, and how many numbers follow them.
TEXTS = 3


class V4Maker(NamedTuple):
    """A V4 manager, which makes pools by initialising them, and what the native coin of its pools counts as."""

    name: str
    address: Address
    wrapped_native: Address


AnyFactory = FactoryConfig | V3FactoryConfig | SolidlyFactoryConfig | AlgebraFactoryConfig | V4Maker
Made = PairCreated | PoolCreated | SolidlyPoolCreated | AlgebraPoolCreated

log = structlog.get_logger(__name__)


class FactoryEventsError(Exception):
    """A log of a discovery is of another chain or factory, or cannot be read; the message names the file."""


class Found(msgspec.Struct, frozen=True):
    """The pools whose events stand in blocks up to `through`, after the range before; of V4's those without hooks and with a fee that does not change."""

    through: int
    pools: tuple[Pool, ...]


class _Event(msgspec.Struct, rename="camel"):
    address: str
    topics: list[str]
    data: str
    block_number: str
    removed: bool = False


async def created(rpc: Rpc, factory: AnyFactory, first_block: int, last_block: int) -> AsyncIterator[Found]:
    """Yield what each range of blocks holds, in order; both ends are included.

    A range that the node refuses is halved until it is one block: raises RpcError where that is refused as well. Raises
    RpcUnavailableError where there is no answer, or one that is no factory's: what was yielded stands, and one goes on after it.
    """
    begin, span = first_block, FIRST_SPAN
    while begin <= last_block:
        end = min(begin + span - 1, last_block)
        wanted = {
            "address": encode(factory.address),
            "topics": [encode(creation_topic(factory))],
            "fromBlock": hex(begin),
            "toBlock": hex(end),
        }
        try:
            events = await rpc.call_as(list[_Event], "eth_getLogs", [wanted])
        except RpcError as refusal:
            if begin == end:
                raise
            span = (end - begin + 1) // 2
            log.info("range is halved", factory=factory.name, first=begin, last=end, reason=str(refusal))
            continue
        pools = [_pool(rpc, factory, event, begin, end) for event in events or ()]
        yield Found(end, tuple(pool for pool in pools if pool is not None))
        begin = end + 1
        span = max(1, span // 2) if len(pools) > MANY_EVENTS else min(2 * span, LONGEST_SPAN)


def creation_topic(factory: AnyFactory) -> Hash:
    """Return the event by which a factory says that it has made a pool."""
    if isinstance(factory, SolidlyFactoryConfig):
        return SOLIDLY_POOL_CREATED
    if isinstance(factory, AlgebraFactoryConfig):
        return ALGEBRA_POOL_CREATED
    if isinstance(factory, V4Maker):
        return V4_INITIALIZED
    return PAIR_CREATED if isinstance(factory, FactoryConfig) else POOL_CREATED


def _pool(rpc: Rpc, factory: AnyFactory, event: _Event, begin: int, end: int) -> Pool | None:
    try:
        return _read(factory, event, begin, end)
    except AbiError as error:
        raise MalformedAnswerError(f"{rpc.node}: an event of {factory.name} cannot be read: {error}") from None


def _read(factory: AnyFactory, event: _Event, begin: int, end: int) -> Pool | None:
    topics = tuple(fixed(topic, HASH_BYTES) for topic in event.topics)
    if fixed(event.address, ADDRESS_BYTES) != factory.address or event.removed:
        raise AbiError("it is not this factory's")
    if not begin <= quantity(event.block_number) <= end:
        raise AbiError("it is of another block")
    return pool_made(factory, topics, data(event.data))


def pool_made(factory: AnyFactory, topics: tuple[Hash, ...], content: bytes) -> Pool | None:
    """Return the pool that a factory's own log says it has made; None where that is one of V4's with hooks or a fee that changes. Raises AbiError where it makes none."""
    made = decode_log(topics, content) if topics[:1] == (creation_topic(factory),) else None
    if isinstance(made, MalformedLog):
        raise AbiError(f"{made.event}: {made.reason}")
    if isinstance(made, V4Initialized) and isinstance(factory, V4Maker):
        return _managed(factory, made)
    if not isinstance(made, Made):
        raise AbiError("it makes no pool")
    if not NOBODY < made.token0 < made.token1:
        raise AbiError("its tokens are not in order")
    if made.pool == NOBODY:
        raise AbiError("its pool is nobody")
    return _made(factory, made.pool, made.token0, made.token1, *_own(made))


def _managed(maker: V4Maker, made: V4Initialized) -> Pool | None:
    """Return what a manager's event is of; None where that is a pool with hooks, or one whose fee changes."""
    if not made.currency0 < made.currency1:
        raise AbiError("its tokens are not in order")
    pool = initialised(maker.name, made, maker.address, maker.wrapped_native)
    if pool is not None and (pool.v4 is None or pool.v4.id != made.pool):
        raise AbiError("its id is not that of its key")
    return pool


def _own(made: Made) -> tuple[int, ...]:
    """Return what tells a factory's pools of the same tokens apart: of a V3 pool its fee and its spacing, of a Solidly pool whether it is stable."""
    if isinstance(made, SolidlyPoolCreated):
        return (int(made.stable),)
    return (made.fee, made.tick_spacing) if isinstance(made, PoolCreated) else ()


def _made(factory: AnyFactory, address: Address, token0: Address, token1: Address, *own: int) -> Pool:
    if isinstance(factory, FactoryConfig):
        return Pool(address, factory.name, token0, token1, factory.fee_numerator, factory.fee_denominator)
    if isinstance(factory, SolidlyFactoryConfig):
        return Pool(address, factory.name, token0, token1, 0, 1, stable=bool(own[0]))
    if isinstance(factory, AlgebraFactoryConfig):
        # Its spacing, and who says its fee, is known once it is read.
        return Pool(address, factory.name, token0, token1, 0, 1, algebra=Algebra.OWN)
    if isinstance(factory, V4Maker):
        fee, spacing, native = own
        return pool_of(factory.name, factory.address, (token0, token1), fee, spacing, native=bool(native))
    fee, spacing = own
    return Pool(address, factory.name, token0, token1, FEE_DENOMINATOR - fee, FEE_DENOMINATOR, spacing)


class _Head(msgspec.Struct, forbid_unknown_fields=True):
    version: int
    chain_id: int
    factory: str


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    through: int
    # Pool, token0, token1; of a V3 pool its fee (millionths) and its spacing, of a V4 pool 1 for the native coin's behind them, of a Solidly pool 1 for a stable one, too.
    pools: list[tuple[str | int, ...]]


class DiscoveryLog:
    """What was found so far, a line a range, appended and flushed. A last line that was cut off is dropped."""

    def __init__(
        self, path: Path, factory: AnyFactory, pools: list[Pool], next_block: int | None, *, kept: bool = True
    ) -> None:
        """Made by `open`."""
        self._kept = kept
        self.pools = pools
        # None before the first range.
        self.next_block = next_block
        self._path = path
        self._factory = factory

    @classmethod
    def open(cls, path: Path, chain_id: int, factory: AnyFactory, *, kept: bool = True) -> Self:
        """Read what is there, or begin; raises FactoryEventsError, and OSError where the file cannot be used.

        Where it is not `kept` nothing is ever written: the file has another writer.
        """
        head = _Head(1, chain_id, encode(factory.address))
        if not path.exists() or b"\n" not in path.read_bytes():
            if kept:
                path.write_bytes(msgspec.json.encode(head) + b"\n")
            return cls(path, factory, [], None, kept=kept)
        content = path.read_bytes()
        whole, _, cut_off = content.rpartition(b"\n")
        if cut_off and kept:
            os.truncate(path, len(whole) + 1)
        first, *lines = whole.split(b"\n")
        try:
            found = msgspec.json.decode(first, type=_Head)
            ranges = [msgspec.json.decode(line, type=_Line) for line in lines]
            pools = [_stored(factory, each) for line in ranges for each in line.pools]
        except (msgspec.DecodeError, MalformedAnswerError) as error:
            raise FactoryEventsError(f"{path} cannot be read: {error}; without it, discovery begins anew") from None
        if found != head:
            raise FactoryEventsError(
                f"{path} is of chain {found.chain_id} and factory {found.factory[:42]}, "
                f"not of chain {chain_id} and {head.factory}"
            )
        if any(after.through <= before.through for before, after in itertools.pairwise(ranges)):
            raise FactoryEventsError(f"{path} has ranges that go back; without it, discovery begins anew")
        next_block = ranges[-1].through + 1 if ranges else None
        return cls(path, factory, pools, next_block, kept=kept)

    def append(self, found: Found) -> None:
        """Take in one range, and write it down where the file is kept; raises OSError where that cannot be."""
        if self._kept:
            pools = [_line(pool) for pool in found.pools]
            with self._path.open("ab") as file:
                file.write(msgspec.json.encode(_Line(found.through, pools)) + b"\n")
                file.flush()
                os.fsync(file.fileno())
        self.pools += found.pools
        self.next_block = found.through + 1


def _line(pool: Pool) -> tuple[str | int, ...]:
    own: tuple[int, ...] = ()
    if pool.stable is not None:
        own = (int(pool.stable),)
    elif pool.concentrated:
        own = (pool.fee_denominator - pool.fee_numerator, pool.tick_spacing)
        own += () if pool.v4 is None else (int(pool.v4.native),)
    return (encode(pool.address), encode(pool.token0), encode(pool.token1), *own)


def _numbers(factory: AnyFactory) -> int:
    if isinstance(factory, SolidlyFactoryConfig):
        return 1
    if isinstance(factory, V4Maker):
        return 3
    return 0 if isinstance(factory, FactoryConfig | AlgebraFactoryConfig) else 2


def _stored(factory: AnyFactory, each: tuple[str | int, ...]) -> Pool:
    texts = [part for part in each if isinstance(part, str)]
    own = [part for part in each if isinstance(part, int)]
    if len(texts) != TEXTS or len(own) != _numbers(factory):
        raise MalformedAnswerError(f"{each} is no pool of {factory.name}")
    address, token0, token1 = (fixed(text, ADDRESS_BYTES) for text in texts)
    made = _made(factory, address, token0, token1, *own)
    if made.address != address:
        raise MalformedAnswerError(f"{each} is no pool of {factory.name}: its key has another id")
    return made
