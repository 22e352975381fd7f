"""Algebra Integral's pools: which there are, their whole state at one block, and the fee that their plugins would take next.

A pool's ticks stand in a tree of three layers (TickTree): 28 words say which words of the bitmap hold any, so that a pool is asked about 30 questions, one a
word that is not empty, and one a tick. What a plugin takes is its own to say, and may be another in each block: `ask_fees` asks the pools that have such a
plugin after each block (`fee()`, which the pool passes on to it). A plugin that takes something else in its swap than it says is found out by the simulation
before a trade.
"""

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import NamedTuple

import structlog

from mev.chain.abi import AbiError, decode_address, decode_uint, encode_call, selector
from mev.chain.rpc import MalformedAnswerError, Rpc, RpcError, RpcUnavailableError
from mev.chain.wire import encode
from mev.domain import Algebra, Block, Pool
from mev.domain.market import Address
from mev.market.amm import AmmError
from mev.market.amm.concentrated import ConcentratedPool
from mev.market.amm.ticks import MAX_TICK_SPACING, WORD_TICKS
from mev.market.concentrated_state import FEE_HOOKS, NO_PRICE, Concentrated, made
from mev.market.discovery import NOBODY, TOKEN0, TOKEN1, DiscoveryError, call_at, returned
from mev.market.discovery_v3 import (
    LIQUIDITY,
    LIQUIDITY_BITS,
    PRICE_BITS,
    TICK_BITS,
    TICK_SPACING,
    TICKS,
    UINT256,
    signed_word,
)
from mev.market.state import MarketState
from mev.runtime.config import AlgebraFactoryConfig

POOL_BY_PAIR = selector("poolByPair(address,address)")
GLOBAL_STATE = selector("globalState()")
CURRENT_FEE = selector("fee()")
SECOND_LAYER = selector("tickTreeSecondLayer(int16)")
TICK_TABLE = selector("tickTable(int16)")
STATE_WORDS = 6
TICK_WORDS = 6
FEE_BITS = 16
FLAG_BITS = 8
# Words of the second layer, and how far the bitmap's words, which begin below zero, are moved up in it (TickTree).
SECOND_LAYER_WORDS = 28
SECOND_LAYER_OFFSET = 3466

log = structlog.get_logger(__name__)


class Named(NamedTuple):
    """A pool as its factory names it."""

    address: Address
    factory: str
    tokens: tuple[Address, Address]


class Now(NamedTuple):
    """What a pool says of itself after a block: price, tick, liquidity, the fee of its next swap in millionths, and who says that."""

    sqrt_price_x96: int
    tick: int
    liquidity: int
    fee: int
    algebra: Algebra


async def find_algebra(
    rpc: Rpc, factories: Sequence[AlgebraFactoryConfig], tokens: Iterable[Address], block: Block
) -> list[Named]:
    """Return the pools that the factories name between two of the tokens.

    Raises DiscoveryError where a factory does not answer as one, RpcUnavailableError where the node does not.
    """
    pairs = list(combinations(sorted(set(tokens)), 2))
    wanted = [(factory, pair) for factory in factories for pair in pairs]
    found = await call_at(rpc, block, [(factory.address, encode_call(POOL_BY_PAIR, *pair)) for factory, pair in wanted])
    return [
        Named(address, factory.name, pair)
        for (factory, pair), answer in zip(wanted, found, strict=True)
        if (address := _pool_of(factory, answer)) != NOBODY
    ]


async def read_algebra(rpc: Rpc, named: Iterable[Named], block: Block) -> dict[Pool, Concentrated]:
    """Return the state of pools that answer as Algebra Integral's do; the others are left out and logged."""
    states: dict[Pool, Concentrated] = {}
    for each in named:
        try:
            pool, state = await _read(rpc, block, each)
        except (AbiError, AmmError, RpcError, MalformedAnswerError) as error:
            log.warning("pool left out", pool=encode(each.address), factory=each.factory, reason=str(error))
            continue
        states[pool] = state
    return states


async def read_now(rpc: Rpc, pools: Sequence[Address], block: Block) -> list[Now]:
    """Return what pools say of themselves after `block`; raises AbiError or RpcError where one does not answer so."""
    questions = (GLOBAL_STATE, LIQUIDITY, CURRENT_FEE)
    answers = await call_at(rpc, block, [(pool, question) for pool in pools for question in questions])
    return [_now(*(returned(answer) for answer in answers[place : place + 3])) for place in range(0, len(answers), 3)]


async def read_deltas(rpc: Rpc, ticks: Sequence[tuple[Address, int]], block: Block) -> list[int]:
    """Return liquidity net of ticks after `block`; raises as `read_now`."""
    answers = await call_at(rpc, block, [(pool, encode_call(TICKS, tick % UINT256)) for pool, tick in ticks])
    return [signed_word(returned(answer), 1, TICK_WORDS, LIQUIDITY_BITS) for answer in answers]


async def ask_fees(rpc: Rpc, state: MarketState, block: Block) -> frozenset[Address]:
    """Have the pools whose plugins say their fees say them as they are after `block`, the market's own; return those that changed.

    Where they do not answer the fees stay as they were, and it is logged: the simulation before a trade is the judge then.
    """
    asked = state.asked_for_fees
    if not asked:
        return frozenset()
    try:
        answers = await call_at(rpc, block, [(pool, CURRENT_FEE) for pool in asked])
    except (RpcError, RpcUnavailableError, MalformedAnswerError) as error:
        log.warning("fees not asked for", block=block.number, reason=str(error))
        return frozenset()
    changed = set()
    for pool, answer in zip(asked, answers, strict=True):
        held = state.held(pool)
        if not isinstance(held, ConcentratedPool):
            continue
        try:
            fee = decode_uint(returned(answer), bits=FEE_BITS)
        except (AbiError, RpcError, MalformedAnswerError) as error:
            # One that does not answer stops no other's.
            log.warning("fee not said", block=block.number, pool=encode(pool), reason=str(error))
            continue
        if held.fees != (fee, fee):
            state.amend(pool, held.at(held.sqrt_price_x96, held.tick, held.liquidity, (fee, fee)))
            changed.add(pool)
    return frozenset(changed)


async def _read(rpc: Rpc, block: Block, named: Named) -> tuple[Pool, Concentrated]:
    address, factory, pair = named
    questions = (TOKEN0, TOKEN1, TICK_SPACING)
    answers = [returned(each) for each in await call_at(rpc, block, [(address, question) for question in questions])]
    if (decode_address(answers[0]), decode_address(answers[1])) != pair:
        raise AbiError("its tokens are not those that its factory was asked for")
    spacing = decode_uint(answers[2])
    if not 0 < spacing <= MAX_TICK_SPACING:
        raise AbiError(f"a tick spacing of {spacing} is none")
    [now] = await read_now(rpc, [address], block)
    pool = Pool(address, factory, *pair, 0, 1, spacing, algebra=now.algebra)
    if not now.sqrt_price_x96:
        return pool, NO_PRICE
    net = await _net(rpc, block, address)
    return pool, made(pool, net, now.sqrt_price_x96, now.tick, now.liquidity, (now.fee, now.fee))


async def _net(rpc: Rpc, block: Block, pool: Address) -> dict[int, int]:
    """Return liquidity net by initialised tick."""
    layer = await _bits(rpc, block, pool, SECOND_LAYER, range(SECOND_LAYER_WORDS))
    ticks = await _bits(rpc, block, pool, TICK_TABLE, [each - SECOND_LAYER_OFFSET for each in layer])
    return dict(zip(ticks, await read_deltas(rpc, [(pool, tick) for tick in ticks], block), strict=True))


async def _bits(rpc: Rpc, block: Block, pool: Address, question: bytes, words: Sequence[int]) -> list[int]:
    """Return the numbers of the bits that are set in words of a map."""
    answers = await call_at(rpc, block, [(pool, encode_call(question, word % UINT256)) for word in words])
    return [
        WORD_TICKS * word + bit
        for word, answer in zip(words, answers, strict=True)
        if (bits := decode_uint(returned(answer)))
        for bit in range(WORD_TICKS)
        if bits >> bit & 1
    ]


def _now(state: bytes, liquidity: bytes, fee: bytes) -> Now:
    price = decode_uint(state, 0, words=STATE_WORDS, bits=PRICE_BITS)
    tick = signed_word(state, 1, STATE_WORDS, TICK_BITS)
    flags = decode_uint(state, 3, words=STATE_WORDS, bits=FLAG_BITS)
    said = Algebra.PLUGIN if flags & FEE_HOOKS else Algebra.OWN
    return Now(price, tick, decode_uint(liquidity, bits=LIQUIDITY_BITS), decode_uint(fee, bits=FEE_BITS), said)


def _pool_of(factory: AlgebraFactoryConfig, answer: object) -> Address:
    try:
        return decode_address(returned(answer))
    except (AbiError, RpcError, MalformedAnswerError) as error:
        raise DiscoveryError(
            f"{factory.name} at {encode(factory.address)} is no Algebra factory: poolByPair answers {error}"
        ) from None
