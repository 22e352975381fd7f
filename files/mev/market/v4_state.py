"""Uniswap V4's pools without hooks: which there are, and their whole state at one block, read from the PoolManager's storage.

A pool is found under the hash of its key: both tokens, fee, spacing, and no hooks. All that it holds lies in the manager's mapping of pools (slot 6), which
`extsload` gives word by word: the bitmap's words, then a word a tick, as of a V3 pool. Where one of the tokens is the wrapped native coin, pools of the native coin itself are looked for as well: the executor unwraps and wraps on the way.
"""

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import NamedTuple

import structlog

from mev.chain.abi import WORD_BYTES, AbiError, decode_uint, encode_call, keccak256, selector
from mev.chain.rpc import MalformedAnswerError, Rpc, RpcError
from mev.chain.wire import encode
from mev.domain import Block, Pool, V4Key
from mev.domain.events import V4Initialized
from mev.domain.market import Address
from mev.market.amm import AmmError
from mev.market.amm.tick_math import usable
from mev.market.amm.ticks import WORD_TICKS
from mev.market.concentrated_state import FEE_DENOMINATOR, Concentrated, made, v4_fees
from mev.market.discovery import NOBODY, DiscoveryError, call_at, returned
from mev.market.discovery_v3 import UINT256
from mev.runtime.config import V4ManagerConfig

EXTSLOAD = selector("extsload(bytes32)")
POOLS_SLOT = 6
LIQUIDITY_SLOT, TICKS_SLOT, BITMAP_SLOT = 3, 4, 5
ADDRESS_BYTES = 20
PRICE_BITS, TICK_BITS, PROTOCOL_BITS, LIQUIDITY_BITS = 160, 24, 24, 128

log = structlog.get_logger(__name__)


class Now(NamedTuple):
    """A pool's price, tick, liquidity and fees in both directions, millionths, after a block."""

    sqrt_price_x96: int
    tick: int
    liquidity: int
    fees: tuple[int, int]


def pool_of(
    name: str, manager: Address, tokens: tuple[Address, Address], fee: int, tick_spacing: int, *, native: bool = False
) -> Pool:
    """Return the pool without hooks that a manager has under this key; whether there is one is another question.

    With `native` the first token is the native coin's wrapped form, and the key has the coin itself.
    """
    key = encode_call(b"", NOBODY if native else tokens[0], tokens[1], fee, tick_spacing, 0)
    identity = keccak256(key)
    return Pool(
        identity[:ADDRESS_BYTES],
        name,
        *tokens,
        FEE_DENOMINATOR - fee,
        FEE_DENOMINATOR,
        tick_spacing,
        v4=V4Key(manager, identity, native),
    )


def initialised(name: str, event: V4Initialized, manager: Address, wrapped_native: Address | None) -> Pool | None:
    """Return the pool that a manager's event is of, None where it has hooks or a fee that changes, or is the native coin's and nobody says what that counts as."""
    native = event.currency0 == NOBODY
    if event.hooks != NOBODY or event.fee >= FEE_DENOMINATOR or (native and wrapped_native is None):
        return None
    first = wrapped_native if native and wrapped_native is not None else event.currency0
    return pool_of(name, manager, (first, event.currency1), event.fee, event.tick_spacing, native=native)


class Watched(NamedTuple):
    """Which of a manager's new pools are watched: those of its kinds between two of the tokens, where `find_v4` would look for them."""

    manager: V4ManagerConfig
    tokens: frozenset[Address]
    wrapped_native: Address | None

    def pool_of(self, event: V4Initialized) -> Pool | None:
        """Return an initialised pool, None where it is not watched."""
        if not any((event.fee, event.tick_spacing) == (kind.fee, kind.tick_spacing) for kind in self.manager.pools):
            return None
        pool = initialised(self.manager.name, event, self.manager.address, self.wrapped_native)
        if pool is None or pool.token0 == pool.token1 or not {pool.token0, pool.token1} <= self.tokens:
            return None
        return pool


async def find_v4(
    rpc: Rpc,
    managers: Sequence[V4ManagerConfig],
    tokens: Iterable[Address],
    block: Block,
    wrapped_native: Address | None = None,
) -> list[Pool]:
    """Return the pools of the managers between two of the tokens, of the kinds that are watched, that have a price.

    With `wrapped_native` those between the native coin and another one of the tokens, too.

    Raises DiscoveryError where a manager does not answer as one, RpcUnavailableError where the node does not.
    """
    ordered = sorted(set(tokens))
    pairs = [(pair, False) for pair in combinations(ordered, 2)]
    if wrapped_native in ordered:
        pairs += [((wrapped_native, token), True) for token in ordered if token != wrapped_native]
    pools = [
        pool_of(manager.name, manager.address, pair, kind.fee, kind.tick_spacing, native=native)
        for manager in managers
        for pair, native in pairs
        for kind in manager.pools
    ]
    try:
        return [pool for pool, word in zip(pools, await _words(rpc, block, pools, 0), strict=True) if word]
    except (AbiError, RpcError, MalformedAnswerError) as error:
        named = ", ".join(f"{manager.name} at {encode(manager.address)}" for manager in managers)
        raise DiscoveryError(f"no V4 manager, or one of them is none: {named}: extsload answers {error}") from None


async def read_v4(rpc: Rpc, pools: Sequence[Pool], block: Block) -> dict[Pool, Concentrated]:
    """Return the state of pools that `find_v4` found; those that contradict themselves are left out and logged."""
    states: dict[Pool, Concentrated] = {}
    for pool, word, liquidity in await _held(rpc, pools, block):
        try:
            now = _now(pool, word, liquidity)
            net = await _net(rpc, block, pool)
            states[pool] = made(pool, net, now.sqrt_price_x96, now.tick, now.liquidity, now.fees)
        except (AbiError, AmmError, RpcError, MalformedAnswerError) as error:
            log.warning("pool left out", pool=encode(pool.address), factory=pool.factory, reason=str(error))
    return states


async def read_now(rpc: Rpc, pools: Sequence[Pool], block: Block) -> list[Now]:
    """Return what pools are after `block`; raises AbiError or RpcError where one does not answer so."""
    return [_now(*each) for each in await _held(rpc, pools, block)]


async def _held(rpc: Rpc, pools: Sequence[Pool], block: Block) -> list[tuple[Pool, int, int]]:
    """Return each pool with its first word and its liquidity's."""
    words = await _words(rpc, block, pools, 0), await _words(rpc, block, pools, LIQUIDITY_SLOT)
    return list(zip(pools, *words, strict=True))


async def read_net(rpc: Rpc, ticks: Sequence[tuple[Pool, int]], block: Block) -> list[int]:
    """Return liquidity net of ticks after `block`; raises as `read_now`."""
    slots = [(pool, _mapped(pool, TICKS_SLOT, tick)) for pool, tick in ticks]
    return [_signed(word >> LIQUIDITY_BITS, LIQUIDITY_BITS) for word in await _load(rpc, block, slots)]


async def _net(rpc: Rpc, block: Block, pool: Pool) -> dict[int, int]:
    """Return liquidity net by initialised tick."""
    least, greatest = (tick // pool.tick_spacing // WORD_TICKS for tick in usable(pool.tick_spacing))
    words = range(least, greatest + 1)
    maps = await _load(rpc, block, [(pool, _mapped(pool, BITMAP_SLOT, word)) for word in words])
    ticks = [
        (WORD_TICKS * word + bit) * pool.tick_spacing
        for word, bits in zip(words, maps, strict=True)
        if bits
        for bit in range(WORD_TICKS)
        if bits >> bit & 1
    ]
    return dict(zip(ticks, await read_net(rpc, [(pool, tick) for tick in ticks], block), strict=True))


def _now(pool: Pool, word: int, liquidity: int) -> Now:
    price = word & (1 << PRICE_BITS) - 1
    tick = _signed(word >> PRICE_BITS, TICK_BITS)
    protocol = word >> PRICE_BITS + TICK_BITS & (1 << PROTOCOL_BITS) - 1
    if word >> PRICE_BITS + TICK_BITS + PROTOCOL_BITS != FEE_DENOMINATOR - pool.fee_numerator:
        raise AbiError("its fee is not that of its key")
    try:
        fees = v4_fees(pool, protocol)
    except AmmError as error:
        raise AbiError(str(error)) from None
    return Now(price, tick, liquidity & (1 << LIQUIDITY_BITS) - 1, fees)


async def _words(rpc: Rpc, block: Block, pools: Sequence[Pool], offset: int) -> list[int]:
    return await _load(rpc, block, [(pool, _slot(pool) + offset) for pool in pools])


async def _load(rpc: Rpc, block: Block, slots: Sequence[tuple[Pool, int]]) -> list[int]:
    """Return words of the pools' managers' storage."""
    calls = [(pool.v4.manager, encode_call(EXTSLOAD, slot % UINT256)) for pool, slot in slots if pool.v4 is not None]
    return [decode_uint(returned(answer)) for answer in await call_at(rpc, block, calls)]


def _slot(pool: Pool) -> int:
    """Return where a pool's own words begin."""
    identity = pool.v4.id if pool.v4 is not None else b""
    return int.from_bytes(keccak256(identity + POOLS_SLOT.to_bytes(WORD_BYTES, "big")), "big")


def _mapped(pool: Pool, offset: int, key: int) -> int:
    """Return the slot of a key, a signed number, in one of a pool's mappings."""
    place = (_slot(pool) + offset) % UINT256
    hashed = keccak256((key % UINT256).to_bytes(WORD_BYTES, "big") + place.to_bytes(WORD_BYTES, "big"))
    return int.from_bytes(hashed, "big")


def _signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> bits - 1 else value
