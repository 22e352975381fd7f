"""A chain's market on disk, for a fast start: every pool and what it held after one block.

    save(path, chain_id, state.block, state.states())
    block, states = load(path, chain_id)

One file: magic with the format's version, the header's length, the header (JSON: chain, block, factories, how many tokens and
pools), the tokens, one record of fixed size a pair, one a Solidly pool, one a V3 pool followed by its ticks, and the BLAKE2b digest of all of it. It is written beside the old one, flushed, and
renamed over it: whatever ends the process, there is one whole snapshot or the other. Nothing that is read is believed before
its digest is right. A digest is no signature: whoever may write the file may write another.
"""

import gc
import hashlib
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from mev.domain import Algebra, Block, Pool, V2State
from mev.market.amm import AmmError
from mev.market.amm.balancer import StablePool, WeightedPool
from mev.market.amm.concentrated import ConcentratedPool
from mev.market.amm.curve import CurvePool
from mev.market.amm.solidly import SolidlyPool
from mev.market.concentrated_state import Concentrated, made
from mev.market.state import PoolState
from mev.market.v4_state import pool_of

VERSION = 5
MAGIC = b"mevstate"
MAX_FILE_BYTES = 2 * 2**30
DIGEST_BYTES = 32
ADDRESS_BYTES = 20
RESERVE_BYTES = 14
PRICE_BYTES = 20
LIQUIDITY_BYTES = 16
WORD_BYTES = 32

_PREFIX = struct.Struct(">8sII")
# Address, token0 and token1 and factory by their place, reserve0, reserve1, the block that they are of.
_RECORD = struct.Struct(">20sIIH14s14sQ")
# The same with reserves of 256 bits, without the block; fee (ten-thousandths), whether it is stable, both tokens' decimals.
_SOLIDLY_RECORD = struct.Struct(">20sIIH32s32sH?BB")
# Address, token0 and token1 and factory by their place, spacing, price, tick, liquidity, its two fees in millionths, who says them where that
# is not its factory (Algebra; 0 for Uniswap's), how many ticks follow; of a V4 pool MANAGED, or NATIVE of the native coin, and its manager stands before them.
_V3_RECORD = struct.Struct(">20sIIHH20si16sIIBI")
_TICK = struct.Struct(">i16s")
MANAGED, NATIVE = 255, 254


class SnapshotError(Exception):
    """A snapshot cannot be used; the message names the file and why. Without it, the market is read from the chain."""


class _Factory(msgspec.Struct, frozen=True):
    name: str
    fee_numerator: int
    fee_denominator: int


class _Block(msgspec.Struct, frozen=True):
    number: int
    hash: str
    parent_hash: str
    timestamp: int
    # More than JSON readers take for a number.
    base_fee_wei: str


class _Header(msgspec.Struct, frozen=True):
    chain_id: int
    block: _Block
    factories: list[_Factory]
    tokens: int
    v2_pools: int
    solidly_pools: int
    v3_pools: int
    v3_bytes: int


def save(path: Path, chain_id: int, block: Block, states: Mapping[Pool, PoolState]) -> None:
    """Write a snapshot in place of the one that is there; raises OSError where it cannot be, and the old one stays then.

    A pool that is not usable is left out: it has to be read anew. So is an empty pair, which may be one whose making was undone. So are Balancer's and Curve's, which are read whole by as little as it takes to check them.
    """
    factories: dict[_Factory, int] = {}
    tokens: dict[bytes, int] = {}
    records, curves, concentrated, count = bytearray(), bytearray(), bytearray(), 0
    for pool, state in states.items():
        if isinstance(state, WeightedPool | StablePool | CurvePool):
            continue
        if isinstance(state, V2State) and not (state.reserve0 or state.reserve1):
            continue
        factory = _Factory(pool.factory, pool.fee_numerator, pool.fee_denominator)
        places = (
            pool.address,
            tokens.setdefault(pool.token0, len(tokens)),
            tokens.setdefault(pool.token1, len(tokens)),
            factories.setdefault(factory, len(factories)),
        )
        if isinstance(state, SolidlyPool):
            curves += _solidly_record(places, state)
            continue
        if not isinstance(state, V2State):
            written = _v3_record(places, pool, state)
            concentrated += written
            count += bool(written)
            continue
        records += _RECORD.pack(
            *places,
            state.reserve0.to_bytes(RESERVE_BYTES, "big"),
            state.reserve1.to_bytes(RESERVE_BYTES, "big"),
            state.block_number,
        )
    header = msgspec.json.encode(
        _Header(
            chain_id=chain_id,
            block=_Block(
                number=block.number,
                hash=block.hash.hex(),
                parent_hash=block.parent_hash.hex(),
                timestamp=block.timestamp,
                base_fee_wei=str(block.base_fee_wei),
            ),
            factories=list(factories),
            tokens=len(tokens),
            v2_pools=len(records) // _RECORD.size,
            solidly_pools=len(curves) // _SOLIDLY_RECORD.size,
            v3_pools=count,
            v3_bytes=len(concentrated),
        )
    )
    prefix = _PREFIX.pack(MAGIC, VERSION, len(header))
    parts = (prefix, header, b"".join(tokens), bytes(records), bytes(curves), bytes(concentrated))
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for part in parts:
        digest.update(part)
    _replace(path, (*parts, digest.digest()))


def load(path: Path, chain_id: int) -> tuple[Block, dict[Pool, PoolState]]:
    """Read a snapshot of a chain; raises SnapshotError, also where it is another chain's, another version's, or damaged.

    Whether its block is still of the chain is the caller's to ask.
    """
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise SnapshotError(f"{path} has {size} bytes; at most {MAX_FILE_BYTES} are allowed")
        content = path.read_bytes()
    except OSError as error:
        raise SnapshotError(f"{path} cannot be read: {error.strerror}") from None
    header, body = _checked(path, content)
    if header.chain_id != chain_id:
        raise SnapshotError(f"{path} is of chain {header.chain_id}, not {chain_id}")
    try:
        return _block(header.block), _states(header, body)
    except (AmmError, ValueError, IndexError, struct.error) as error:
        # Its digest is right: whoever wrote it was wrong.
        raise SnapshotError(f"{path} contradicts itself: {error}") from None


def _checked(path: Path, content: bytes) -> tuple[_Header, memoryview]:
    """Return header and body of what is whole."""
    if len(content) < _PREFIX.size + DIGEST_BYTES or not content.startswith(MAGIC):
        raise SnapshotError(f"{path} is no snapshot of a market")
    _, version, header_bytes = _PREFIX.unpack_from(content)
    if version != VERSION:
        raise SnapshotError(f"{path} is of format {version}; format {VERSION} can be read")
    whole = memoryview(content)
    body, digest = whole[:-DIGEST_BYTES], whole[-DIGEST_BYTES:]
    if hashlib.blake2b(body, digest_size=DIGEST_BYTES).digest() != digest:
        raise SnapshotError(f"{path} is damaged: its digest is another one")
    begin = _PREFIX.size + header_bytes
    try:
        header = msgspec.json.decode(body[_PREFIX.size : begin], type=_Header)
    except msgspec.DecodeError as error:
        raise SnapshotError(f"{path} has a header that cannot be read: {error}") from None
    fixed = header.v2_pools * _RECORD.size + header.solidly_pools * _SOLIDLY_RECORD.size
    expected = begin + header.tokens * ADDRESS_BYTES + fixed + header.v3_bytes
    counts = (header.tokens, header.v2_pools, header.solidly_pools, header.v3_pools, header.v3_bytes)
    if min(counts) < 0 or len(body) != expected:
        raise SnapshotError(f"{path} has {len(body)} bytes where its header says {expected}")
    return header, body[begin:]


def _v3_record(places: tuple[bytes, int, int, int], pool: Pool, state: Concentrated) -> bytes:
    if not isinstance(state, ConcentratedPool):
        return b""
    head = _V3_RECORD.pack(
        *places,
        pool.tick_spacing,
        state.sqrt_price_x96.to_bytes(PRICE_BYTES, "big"),
        state.tick,
        state.liquidity.to_bytes(LIQUIDITY_BYTES, "big"),
        *state.fees,
        _said(pool),
        len(state.ticks.net),
    )
    ticks = (
        _TICK.pack(tick, net.to_bytes(LIQUIDITY_BYTES, "big", signed=True)) for tick, net in state.ticks.net.items()
    )
    return head + (b"" if pool.v4 is None else pool.v4.manager) + b"".join(ticks)


def _said(pool: Pool) -> int:
    if pool.v4 is not None:
        return NATIVE if pool.v4.native else MANAGED
    return 0 if pool.algebra is None else pool.algebra.value


def _solidly_record(places: tuple[bytes, int, int, int], state: SolidlyPool) -> bytes:
    reserves = (reserve.to_bytes(WORD_BYTES, "big") for reserve in (state.reserve0, state.reserve1))
    decimals = (len(str(unit)) - 1 for unit in (state.unit0, state.unit1))
    return _SOLIDLY_RECORD.pack(*places, *reserves, state.fee, state.stable, *decimals)


def _solidly_states(header: _Header, tokens: list[bytes], body: memoryview) -> Iterator[tuple[Pool, SolidlyPool]]:
    number = int.from_bytes
    for address, token0, token1, made_by, *reserves, fee, stable, one, other in _SOLIDLY_RECORD.iter_unpack(body):
        factory = header.factories[made_by]
        pool = Pool(address, factory.name, tokens[token0], tokens[token1], 0, 1, stable=stable)
        held = [number(reserve, "big") for reserve in reserves]
        yield pool, SolidlyPool(held[0], held[1], 10**one, 10**other, fee, stable)


def _states(header: _Header, body: memoryview) -> dict[Pool, PoolState]:
    end = header.tokens * ADDRESS_BYTES
    pairs_end = end + header.v2_pools * _RECORD.size
    tokens = [bytes(body[start : start + ADDRESS_BYTES]) for start in range(0, end, ADDRESS_BYTES)]
    factories = header.factories
    number = int.from_bytes
    states: dict[Pool, PoolState] = {}
    with _without_collection():
        pairs = _RECORD.iter_unpack(body[end:pairs_end])
        for address, token0, token1, made_by, reserve0, reserve1, block_number in pairs:
            factory = factories[made_by]
            pool = Pool(
                address,
                factory.name,
                tokens[token0],
                tokens[token1],
                factory.fee_numerator,
                factory.fee_denominator,
            )
            states[pool] = V2State(number(reserve0, "big"), number(reserve1, "big"), block_number)
        curves_end = pairs_end + header.solidly_pools * _SOLIDLY_RECORD.size
        states.update(_solidly_states(header, tokens, body[pairs_end:curves_end]))
        states.update(_v3_states(header, tokens, body[curves_end:]))
    if len(states) != header.v2_pools + header.solidly_pools + header.v3_pools:
        raise ValueError("a pool stands there twice, or one is missing")
    return states


def _v3_states(header: _Header, tokens: list[bytes], body: memoryview) -> Iterator[tuple[Pool, ConcentratedPool]]:
    number, place = int.from_bytes, 0
    while place < len(body):
        address, token0, token1, made_by, spacing, *now, fee0, fee1, said, count = _V3_RECORD.unpack_from(body, place)
        price, tick, liquidity = now
        place += _V3_RECORD.size
        manager = bytes(body[place : place + ADDRESS_BYTES]) if said in {MANAGED, NATIVE} else b""
        place += len(manager)
        end = place + count * _TICK.size
        if end > len(body) or not spacing:
            raise ValueError("a V3 pool's ticks are cut off, or it has no spacing")
        factory = header.factories[made_by]
        fee = factory.fee_numerator, factory.fee_denominator
        ends = tokens[token0], tokens[token1]
        if manager:
            own = fee[1] - fee[0]
            pool = pool_of(factory.name, manager, ends, own, spacing, native=said == NATIVE)
        else:
            pool = Pool(address, factory.name, *ends, *fee, spacing, algebra=Algebra(said) if said else None)
        net = {at: number(change, "big", signed=True) for at, change in _TICK.iter_unpack(body[place:end])}
        place = end
        yield pool, made(pool, net, number(price, "big"), tick, number(liquidity, "big"), (fee0, fee1))


def _block(stored: _Block) -> Block:
    return Block(
        number=stored.number,
        hash=bytes.fromhex(stored.hash),
        parent_hash=bytes.fromhex(stored.parent_hash),
        timestamp=stored.timestamp,
        base_fee_wei=int(stored.base_fee_wei),
    )


@contextmanager
def _without_collection() -> Iterator[None]:
    """Let millions of objects that all stay be made without being looked through again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _replace(path: Path, parts: tuple[bytes, ...]) -> None:
    beside = path.with_name(f".{path.name}.new")
    try:
        with beside.open("wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
