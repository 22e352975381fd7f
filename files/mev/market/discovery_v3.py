"""Which V3 pools there are between configured tokens, and their whole state at one block: price, liquidity and every initialised tick.

A pool is asked for its bitmap, word by word over all ticks that there can be, and then for each tick that a bit says is there: 115 questions for a
spacing of 60 ticks, 6,932 for one of 1, and one a tick. All are pinned to the block's hash, so that they fit together.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from itertools import combinations
from typing import NamedTuple, Protocol, TypeVar

import structlog

from mev.chain.abi import WORD_BYTES, AbiError, decode_address, decode_uint, encode_call, selector
from mev.chain.rpc import MalformedAnswerError, Rpc, RpcError
from mev.chain.wire import encode
from mev.domain import Block, Pool
from mev.domain.market import Address
from mev.market.amm import AmmError
from mev.market.amm.tick_math import usable
from mev.market.amm.ticks import MAX_TICK_SPACING, WORD_TICKS
from mev.market.concentrated_state import FEE_DENOMINATOR, NO_PRICE, Concentrated, made
from mev.market.discovery import NOBODY, TOKEN0, TOKEN1, DiscoveryError, call_at, returned
from mev.runtime.config import V3FactoryConfig

GET_POOL = selector("getPool(address,address,uint24)")
FEE = selector("fee()")
TICK_SPACING = selector("tickSpacing()")
SLOT0 = selector("slot0()")
LIQUIDITY = selector("liquidity()")
TICK_BITMAP = selector("tickBitmap(int16)")
TICKS = selector("ticks(int24)")

SLOT0_WORDS = 7
TICK_WORDS = 8
PRICE_BITS = 160
TICK_BITS = 24
LIQUIDITY_BITS = 128
UINT256 = 2**256

log = structlog.get_logger(__name__)


class AnyNamed(Protocol):
    """A pool as a factory of any kind names it."""

    @property
    def address(self) -> Address:
        """Where it stands."""

    @property
    def factory(self) -> str:
        """Who named it."""


Namable = TypeVar("Namable", bound=AnyNamed)


class Named(NamedTuple):
    """A pool as its factory names it."""

    address: Address
    factory: str
    tokens: tuple[Address, Address]
    fee: int


async def discover_concentrated(
    rpc: Rpc, factories: Sequence[V3FactoryConfig], tokens: Iterable[Address], block: Block
) -> dict[Pool, Concentrated]:
    """Return every V3 pool of the factories between two of the tokens at the configured fees, as it is after `block`.

    A pool that does not answer as a V3 pool does, or contradicts itself, is left out and logged. Raises DiscoveryError where a factory does
    not answer as one, RpcUnavailableError where the node does not.
    """
    return await read_concentrated(rpc, await find_concentrated(rpc, factories, tokens, block), block)


async def find_concentrated(
    rpc: Rpc, factories: Sequence[V3FactoryConfig], tokens: Iterable[Address], block: Block
) -> list[Named]:
    """Return the pools that the factories name between two of the tokens; raises as `discover_concentrated`."""
    pairs = list(combinations(sorted(set(tokens)), 2))
    wanted = [(factory, pair, fee) for factory in factories for pair in pairs for fee in factory.fees]
    found = await call_at(
        rpc, block, [(factory.address, encode_call(GET_POOL, *pair, fee)) for factory, pair, fee in wanted]
    )
    return [
        Named(address, factory.name, pair, fee)
        for (factory, pair, fee), answer in zip(wanted, found, strict=True)
        if (address := _pool_of(factory, answer)) != NOBODY
    ]


async def read_concentrated(rpc: Rpc, named: Iterable[Named], block: Block) -> dict[Pool, Concentrated]:
    """Return the state of pools that answer as V3 pools do; the others are left out and logged."""
    return await read_each(named, partial(_read, rpc, block))


async def read_each(
    named: Iterable[Namable], read: Callable[[Namable], Awaitable[tuple[Pool, Concentrated]]]
) -> dict[Pool, Concentrated]:
    """Return the state of pools that answer `read` as they should; the others are left out and logged."""
    states: dict[Pool, Concentrated] = {}
    for each in named:
        try:
            pool, state = await read(each)
        except (AbiError, AmmError, RpcError, MalformedAnswerError) as error:
            log.warning("pool left out", pool=encode(each.address), factory=each.factory, reason=str(error))
            continue
        states[pool] = state
    return states


async def read_prices(rpc: Rpc, pools: Sequence[Address], block: Block) -> list[tuple[int, int, int]]:
    """Return price, tick and liquidity of V3 pools after `block`; raises AbiError or RpcError where one does not answer so."""
    answers = await call_at(rpc, block, [(pool, question) for pool in pools for question in (SLOT0, LIQUIDITY)])
    return [_price(returned(answers[place]), returned(answers[place + 1])) for place in range(0, len(answers), 2)]


async def read_net(rpc: Rpc, ticks: Sequence[tuple[Address, int]], block: Block) -> list[int]:
    """Return liquidity net of ticks after `block`; raises as `read_prices`."""
    answers = await call_at(rpc, block, [(pool, encode_call(TICKS, tick % UINT256)) for pool, tick in ticks])
    return [signed_word(returned(answer), 1, TICK_WORDS, LIQUIDITY_BITS) for answer in answers]


async def _read(rpc: Rpc, block: Block, named: Named) -> tuple[Pool, Concentrated]:
    address, factory, pair, fee = named
    questions = (TOKEN0, TOKEN1, FEE, TICK_SPACING, SLOT0, LIQUIDITY)
    answers = [returned(each) for each in await call_at(rpc, block, [(address, question) for question in questions])]
    if (decode_address(answers[0]), decode_address(answers[1])) != pair or decode_uint(answers[2]) != fee:
        raise AbiError("its tokens or its fee are not those that its factory was asked for")
    spacing = decode_uint(answers[3])
    if not 0 < spacing <= MAX_TICK_SPACING:
        raise AbiError(f"a tick spacing of {spacing} is none")
    pool = Pool(address, factory, *pair, FEE_DENOMINATOR - fee, FEE_DENOMINATOR, spacing)
    price, tick, liquidity = _price(answers[4], answers[5])
    if not price:
        return pool, NO_PRICE
    return pool, made(pool, await read_ticks(rpc, block, pool), price, tick, liquidity)


async def read_ticks(rpc: Rpc, block: Block, pool: Pool, bitmap: bytes = TICK_BITMAP) -> dict[int, int]:
    """Return liquidity net by initialised tick; `bitmap` asks for a word of 256 ticks. Raises as `read_prices`."""
    least, greatest = (tick // pool.tick_spacing // WORD_TICKS for tick in usable(pool.tick_spacing))
    words = range(least, greatest + 1)
    maps = await call_at(rpc, block, [(pool.address, encode_call(bitmap, word % UINT256)) for word in words])
    ticks = [
        (WORD_TICKS * word + bit) * pool.tick_spacing
        for word, answer in zip(words, maps, strict=True)
        if (bits := decode_uint(returned(answer)))
        for bit in range(WORD_TICKS)
        if bits >> bit & 1
    ]
    return dict(zip(ticks, await read_net(rpc, [(pool.address, tick) for tick in ticks], block), strict=True))


def _price(slot0: bytes, liquidity: bytes) -> tuple[int, int, int]:
    return (
        decode_uint(slot0, 0, words=SLOT0_WORDS, bits=PRICE_BITS),
        signed_word(slot0, 1, SLOT0_WORDS, TICK_BITS),
        decode_uint(liquidity, bits=LIQUIDITY_BITS),
    )


def _pool_of(factory: V3FactoryConfig, answer: object) -> Address:
    try:
        return decode_address(returned(answer))
    except (AbiError, RpcError, MalformedAnswerError) as error:
        raise DiscoveryError(
            f"{factory.name} at {encode(factory.address)} is no V3 factory: getPool answers {error}"
        ) from None


def signed_word(content: bytes, position: int, words: int, bits: int) -> int:
    """Read a signed number of `bits` bits in word `position`."""
    if len(content) != words * WORD_BYTES:
        raise AbiError(f"{words * WORD_BYTES} bytes are expected, not {len(content)}")
    value = int.from_bytes(content[position * WORD_BYTES : (position + 1) * WORD_BYTES], "big", signed=True)
    if not -(1 << bits - 1) <= value < 1 << bits - 1:
        raise AbiError(f"word {position} does not fit in int{bits}")
    return value
