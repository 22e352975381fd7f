"""Algebra's pools, Integral's and those before (QuickSwap V3): which there are, their whole state at one block, and the fee that they would take next.

A pool's ticks stand in a tree of three layers (TickTree): 28 words say which words of the bitmap hold any, so that a pool is asked about 30 questions, one a
word that is not empty, and one a tick. What a plugin takes is its own to say, and may be another in each block: `ask_fees` asks the pools that have such a
plugin after each block (`fee()`, which the pool passes on to it). A plugin that takes something else in its swap than it says is found out by the simulation
before a trade.

A pool before Integral has the bitmap and the ticks of a Uniswap V3 pool, spaced by 60; what it would take next: mev.market.algebra_first.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import combinations
from typing import NamedTuple

import structlog
from msgspec import structs

from mev.chain.abi import WORD_BYTES, AbiError, decode_address, decode_uint, encode_call, selector
from mev.chain.rpc import MalformedAnswerError, Rpc, RpcError, RpcUnavailableError
from mev.chain.wire import encode
from mev.domain import Algebra, Block, Pool
from mev.domain.market import Address
from mev.market.algebra_first import GLOBAL_STATE, foreseen
from mev.market.algebra_first import STATE_WORDS as FIRST_STATE_WORDS
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
    read_each,
    read_ticks,
    signed_word,
)
from mev.market.state import MarketState
from mev.runtime.config import AlgebraFactoryConfig

POOL_BY_PAIR = selector("poolByPair(address,address)")
CURRENT_FEE = selector("fee()")
SECOND_LAYER = selector("tickTreeSecondLayer(int16)")
TICK_TABLE = selector("tickTable(int16)")
# What only a pool of Algebra's first version has.
COOLDOWN = selector("liquidityCooldown()")
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
    """Return the state of pools that answer as Algebra Integral's do, or those of its first version; the others are left out and logged."""
    return await read_each(named, partial(_read, rpc, block))


async def read_now(rpc: Rpc, pools: Sequence[Pool], block: Block) -> list[Now]:
    """Return what pools say of themselves after `block`; raises AbiError or RpcError where one does not answer so."""
    asked = [(pool, _questions(pool.algebra)) for pool in pools]
    answers = iter(
        await call_at(rpc, block, [(pool.address, question) for pool, questions in asked for question in questions])
    )
    return [_now([returned(next(answers)) for _ in questions]) for _, questions in asked]


async def read_deltas(rpc: Rpc, ticks: Sequence[tuple[Address, int]], block: Block) -> list[int]:
    """Return liquidity net of ticks after `block`; raises as `read_now`."""
    answers = await call_at(rpc, block, [(pool, encode_call(TICKS, tick % UINT256)) for pool, tick in ticks])
    return [signed_word(returned(answer), 1, TICK_WORDS, LIQUIDITY_BITS) for answer in answers]


async def ask_fees(rpc: Rpc, state: MarketState, block: Block) -> frozenset[Address]:
    """Have the pools whose fees no event says in time say them as they are after `block`, the market's own; return those that changed.

    Where they do not answer the fees stay as they were, and it is logged: the simulation before a trade is the judge then.
    """
    there = (pool for pool in state.asked_for_fees if isinstance(state.held(pool), ConcentratedPool))
    asked = {pool: state.pools()[pool].algebra for pool in there}
    if not asked:
        return frozenset()
    plugged, old = (
        [pool for pool in asked if asked[pool] is kind] for kind in (Algebra.PLUGIN, Algebra.BEFORE_INTEGRAL)
    )
    try:
        fees = await _said(rpc, plugged, block)
        fees |= await foreseen(rpc, state, old, block) if old else {}
    except (RpcError, RpcUnavailableError, MalformedAnswerError) as error:
        log.warning("fees not asked for", block=block.number, reason=str(error))
        return frozenset()
    changed = set()
    for pool, fee in fees.items():
        held = state.held(pool)
        if isinstance(held, ConcentratedPool) and held.fees != (fee, fee):
            state.amend(pool, held.at(held.sqrt_price_x96, held.tick, held.liquidity, (fee, fee)))
            changed.add(pool)
    return frozenset(changed)


async def _said(rpc: Rpc, pools: Sequence[Address], block: Block) -> dict[Address, int]:
    """Return what plugins say; those that do not answer stop no other's."""
    fees = {}
    for pool, answer in zip(pools, await call_at(rpc, block, [(pool, CURRENT_FEE) for pool in pools]), strict=True):
        try:
            fees[pool] = decode_uint(returned(answer), bits=FEE_BITS)
        except (AbiError, RpcError, MalformedAnswerError) as error:
            log.warning("fee not said", block=block.number, pool=encode(pool), reason=str(error))
    return fees


async def _read(rpc: Rpc, block: Block, named: Named) -> tuple[Pool, Concentrated]:
    address, factory, pair = named
    questions = (TOKEN0, TOKEN1, TICK_SPACING, GLOBAL_STATE, COOLDOWN)
    *most, cooldown = await call_at(rpc, block, [(address, question) for question in questions])
    answers = [returned(each) for each in most]
    if (decode_address(answers[0]), decode_address(answers[1])) != pair:
        raise AbiError("its tokens are not those that its factory was asked for")
    spacing = decode_uint(answers[2])
    if not 0 < spacing <= MAX_TICK_SPACING:
        raise AbiError(f"a tick spacing of {spacing} is none")
    old = len(answers[3]) == FIRST_STATE_WORDS * WORD_BYTES
    if old:
        # The second version's state is as long, and means something else: that has no such question.
        returned(cooldown)
    pool = Pool(address, factory, *pair, 0, 1, spacing, algebra=Algebra.BEFORE_INTEGRAL if old else Algebra.OWN)
    [now] = await read_now(rpc, [pool], block)
    pool = structs.replace(pool, algebra=now.algebra)
    if not now.sqrt_price_x96:
        return pool, NO_PRICE
    net = await (read_ticks(rpc, block, pool, TICK_TABLE) if old else _net(rpc, block, address))
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


def _questions(algebra: Algebra | None) -> tuple[bytes, ...]:
    return (GLOBAL_STATE, LIQUIDITY, *(() if algebra is Algebra.BEFORE_INTEGRAL else (CURRENT_FEE,)))


def _now(answers: Sequence[bytes]) -> Now:
    """Read state, liquidity and, of an Integral pool, the fee."""
    state, liquidity, *fees = answers
    if not fees:
        words = FIRST_STATE_WORDS
        price, tick = decode_uint(state, 0, words=words, bits=PRICE_BITS), signed_word(state, 1, words, TICK_BITS)
        fee = decode_uint(state, 2, words=words, bits=FEE_BITS)
        return Now(price, tick, decode_uint(liquidity, bits=LIQUIDITY_BITS), fee, Algebra.BEFORE_INTEGRAL)
    [fee_said] = fees
    price = decode_uint(state, 0, words=STATE_WORDS, bits=PRICE_BITS)
    tick = signed_word(state, 1, STATE_WORDS, TICK_BITS)
    flags = decode_uint(state, 3, words=STATE_WORDS, bits=FLAG_BITS)
    said = Algebra.PLUGIN if flags & FEE_HOOKS else Algebra.OWN
    return Now(price, tick, decode_uint(liquidity, bits=LIQUIDITY_BITS), decode_uint(fee_said, bits=FEE_BITS), said)


def _pool_of(factory: AlgebraFactoryConfig, answer: object) -> Address:
    try:
        return decode_address(returned(answer))
    except (AbiError, RpcError, MalformedAnswerError) as error:
        raise DiscoveryError(
            f"{factory.name} at {encode(factory.address)} is no Algebra factory: poolByPair answers {error}"
        ) from None
