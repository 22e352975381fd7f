"""Pools that a watched factory makes while the chain is followed come in by its event, go back with their block, and are read whole where events do not say all."""

from __future__ import annotations

import msgspec
import pytest
from mev.chain.abi import (
    ALGEBRA_POOL_CREATED,
    PAIR_CREATED,
    POOL_CREATED,
    SOLIDLY_POOL_CREATED,
    AbiError,
    event_topic,
)
from mev.chain.wire import Log
from mev.domain import Algebra, Block, Pool, V2State
from mev.market.amm.concentrated import ConcentratedPool
from mev.market.amm.solidly import SolidlyPool
from mev.market.amm.tick_math import sqrt_price_at
from mev.market.concentrated_state import NEW_PLUGIN, NO_FEE_YET, NO_PRICE, made, same
from mev.market.late import MOST_A_BLOCK, Maker
from mev.market.solidly_state import COMMON_FEE, CUSTOM_FEE, SOLIDLY_SYNC
from mev.market.state import NOT_READ, Makes, MarketState, PoolState, StateError
from mev.runtime.config import AlgebraFactoryConfig, EvmAddress, FactoryConfig, SolidlyFactoryConfig, V3FactoryConfig
from mev.search.graph import CycleIndex
from mev.trading.strategies.atomic_arbitrage import AtomicArbitrage

SYNC = event_topic("Sync(uint112,uint112)")
INITIALIZE = event_topic("Initialize(uint160,int24)")
MINT = event_topic("Mint(address,address,int24,int24,uint128,uint256,uint256)")
PLUGIN_CONFIG = event_topic("PluginConfig(uint8)")
TOKENS = (b"\xaa" * 20, b"\xbb" * 20)
FOREIGN = b"\xcc" * 20
UNIT = 10**18
V2 = FactoryConfig(name="uniswap_v2", address=EvmAddress(b"\xf2" * 20), fee_numerator=997, fee_denominator=1000)
V3 = V3FactoryConfig(name="uniswap_v3", address=EvmAddress(b"\xf3" * 20), fees=(500,))
SOLIDLY = SolidlyFactoryConfig(name="aerodrome", address=EvmAddress(b"\xf4" * 20))
ALGEBRA = AlgebraFactoryConfig(name="algebra", address=EvmAddress(b"\xf5" * 20))
FACTORIES = (V2, V3, SOLIDLY, ALGEBRA)

FIRST = Pool(b"\x01" * 20, "uniswap_v2", *TOKENS, 997, 1000)
PAIR = Pool(b"\x02" * 20, "uniswap_v2", *TOKENS, 997, 1000)
THREE = Pool(b"\x03" * 20, "uniswap_v3", *TOKENS, 999_500, 10**6, 10)
STABLE = Pool(b"\x04" * 20, "aerodrome", *TOKENS, 0, 1, stable=True)
INTEGRAL = Pool(b"\x05" * 20, "algebra", *TOKENS, 0, 1, 60, algebra=Algebra.PLUGIN)
CURVE = SolidlyPool(UNIT, UNIT, UNIT, UNIT, 5, stable=True)
NET = {-60_000: 10**21, 60_000: -(10**21)}


def block(number: int) -> Block:
    return Block(number, (number + 1).to_bytes(32, "big"), number.to_bytes(32, "big"), 100 * number, 0)


def words(*values: int | bytes) -> bytes:
    return b"".join(
        each.rjust(32, b"\0") if isinstance(each, bytes) else (each % 2**256).to_bytes(32, "big") for each in values
    )


def said(by: bytes, topics: tuple[bytes, ...], *content: int | bytes) -> Log:
    return Log(by, tuple(topic.rjust(32, b"\0") for topic in topics), words(*content), 0, bytes(32))


def birth(pool: Pool, *, by: bytes | None = None, tokens: tuple[bytes, bytes] | None = None) -> Log:
    """What its factory says of it."""
    ends = tokens or (pool.token0, pool.token1)
    if pool.algebra is not None:
        return said(by or ALGEBRA.address, (ALGEBRA_POOL_CREATED, *ends), pool.address)
    if pool.stable is not None:
        topics = (SOLIDLY_POOL_CREATED, *ends, bytes([pool.stable]))
        return said(by or SOLIDLY.address, topics, pool.address, 1)
    if pool.factory == V3.name:
        fee = (pool.fee_denominator - pool.fee_numerator).to_bytes(32, "big")
        return said(by or V3.address, (POOL_CREATED, *ends, fee), pool.tick_spacing, pool.address)
    return said(by or V2.address, (PAIR_CREATED, *ends), pool.address, 1)


def sync(pool: Pool, *reserves: int) -> Log:
    return said(pool.address, (SOLIDLY_SYNC if pool.solidly else SYNC,), *reserves)


def begun(pool: Pool, tick: int) -> Log:
    return said(pool.address, (INITIALIZE,), sqrt_price_at(tick), tick)


def minted(pool: Pool, lower: int, upper: int, liquidity: int) -> Log:
    ticks = tuple((tick % 2**256).to_bytes(32, "big") for tick in (lower, upper))
    return said(pool.address, (MINT, b"\x07" * 20, *ticks), b"\x07" * 20, liquidity, 1, 1)


def integral(fee: int = 100) -> ConcentratedPool:
    return made(INTEGRAL, NET, sqrt_price_at(30), 30, 10**21, (fee, fee))


def watching(**more: PoolState) -> MarketState:
    makers: dict[bytes, Makes] = {factory.address: Maker(factory, frozenset(TOKENS)).pool_of for factory in FACTORIES}
    states: dict[Pool, PoolState] = {FIRST: V2State(UNIT, UNIT, 0)}
    states |= {pool: more[pool.factory] for pool in (STABLE, INTEGRAL) if pool.factory in more}
    return MarketState(block(0), states, {SOLIDLY.address: "aerodrome"}, makers=makers)


def test_a_pair_and_a_v3_pool_are_followed_from_the_event_that_made_them_on_and_go_back() -> None:
    state = watching()
    born = [birth(PAIR), sync(PAIR, 3, 4), birth(THREE), begun(THREE, 30), minted(THREE, -60_000, 60_000, 10**21)]
    for _ in range(2):
        assert state.apply_block(block(1), born) == {PAIR.address, THREE.address}
        assert [*state.pools().values()] == [FIRST, PAIR, THREE]
        assert state.v2(PAIR.address) == V2State(3, 4, 1)
        expected = made(THREE, NET, sqrt_price_at(30), 30, 10**21)
        assert same(state.states()[THREE], expected)  # type: ignore[arg-type]
        assert state.due() == ()
        assert state.undo_to(block(0)) == {PAIR.address, THREE.address}
        assert (state.v2(PAIR.address).reserve0, state.v2(PAIR.address).reserve1) == (0, 0)
        assert state.held(THREE.address) == NO_PRICE
    # What was made and began in different blocks.
    assert state.apply_block(block(1), [birth(PAIR), birth(THREE)]) == set()
    assert state.apply_block(block(2), born[1::2]) == {PAIR.address, THREE.address}
    assert state.undo_to(block(1)) == {PAIR.address, THREE.address}
    assert state.held(THREE.address) == NO_PRICE


@pytest.mark.parametrize(
    "log",
    [
        birth(PAIR, by=b"\x0e" * 20),
        birth(PAIR, by=V3.address),
        birth(PAIR, tokens=(TOKENS[0], FOREIGN)),
        birth(STABLE, tokens=(TOKENS[1], FOREIGN)),
        birth(INTEGRAL, tokens=(TOKENS[0], FOREIGN)),
        birth(msgspec.structs.replace(THREE, fee_numerator=997_000)),
        birth(msgspec.structs.replace(THREE, tick_spacing=0)),
        birth(msgspec.structs.replace(THREE, tick_spacing=-10)),
        Log(V2.address, (), b"", 0, bytes(32)),
    ],
)
def test_of_new_pools_only_those_that_a_start_would_find_are_taken_in(log: Log) -> None:
    state = watching()
    assert state.apply_block(block(1), [log]) == set()
    assert [*state.pools().values()] == [FIRST]
    assert state.due() == ()


@pytest.mark.parametrize("pool", [PAIR, THREE, STABLE, INTEGRAL])
def test_a_malformed_birth_is_an_error(pool: Pool) -> None:
    log = birth(pool)
    with pytest.raises(AbiError):
        watching().apply_block(block(1), [msgspec.structs.replace(log, data=log.data + b"\x01")])


def test_what_events_do_not_say_whole_is_due_and_goes_back_to_it() -> None:
    state = watching()
    assert state.apply_block(block(1), [birth(STABLE), sync(STABLE, UNIT, UNIT), birth(INTEGRAL)]) == set()
    assert [*state.pools().values()] == [FIRST]
    assert [pool.address for pool in state.due()] == [STABLE.address, INTEGRAL.address]
    state.take_in(STABLE, CURVE)
    state.take_in(INTEGRAL, integral())
    assert state.due() == ()
    assert state.asked_for_fees == (INTEGRAL.address,)
    assert state.apply_block(block(2), [sync(STABLE, 7, 8)]) == {STABLE.address}
    assert state.solidly(STABLE.address) == CURVE.at(7, 8)
    assert state.undo_to(block(1)) == {STABLE.address}
    assert state.solidly(STABLE.address) == CURVE
    assert state.due() == ()
    # Their block may have come before the one after which they were read: whether they are there still, the chain is asked.
    assert state.undo_to(block(0)) == {STABLE.address, INTEGRAL.address}
    assert state.unusable() == dict.fromkeys((STABLE.address, INTEGRAL.address), NOT_READ.reason)
    assert {*state.due()} == {STABLE, INTEGRAL}
    for _ in range(5):
        state.tried(pool.address for pool in state.due())
    assert state.due() == ()
    assert state.apply_block(block(1), [birth(INTEGRAL), sync(STABLE, 1, 1)]) == set()
    assert {*state.due()} == {STABLE, INTEGRAL}


def test_a_pool_that_does_not_answer_is_asked_again_once_it_is_told_of() -> None:
    state = watching()
    state.apply_block(block(1), [birth(INTEGRAL)])
    for _ in range(5):
        assert [pool.address for pool in state.due()] == [INTEGRAL.address]
        state.tried([INTEGRAL.address])
    assert state.due() == ()
    assert state.apply_block(block(2), [begun(INTEGRAL, 30)]) == set()
    assert [pool.address for pool in state.due()] == [INTEGRAL.address]


def test_what_has_to_be_read_anew_is_due() -> None:
    """A plugin that may say the fee, a price that came after the pool was read, a fee that nothing says."""
    own = msgspec.structs.replace(INTEGRAL, algebra=Algebra.OWN)
    fee = said(SOLIDLY.address, (CUSTOM_FEE, STABLE.address), 0)
    state = watching(aerodrome=CURVE)
    state.take_in(own, integral(500))
    assert not state.asked_for_fees
    assert state.apply_block(block(1), [said(own.address, (PLUGIN_CONFIG,), 128), fee]) == {
        STABLE.address,
        own.address,
    }
    assert (state.held(own.address), state.held(STABLE.address)) == (NEW_PLUGIN, COMMON_FEE)
    assert {*state.due()} == {STABLE, own}
    # It is another one from now on.
    state.take_in(INTEGRAL, integral(900))
    assert [*state.asked_for_fees] == [INTEGRAL.address]
    assert state.due() == (STABLE,)
    assert state.undo_to(block(0)) == {STABLE.address, INTEGRAL.address}
    assert same(state.states()[INTEGRAL], integral(500))  # type: ignore[arg-type]
    late = watching(algebra=NO_PRICE)
    late.apply_block(block(1), [begun(INTEGRAL, 30)])
    assert late.held(INTEGRAL.address) == NO_FEE_YET
    assert late.due() == (INTEGRAL,)


def test_an_address_that_is_another_pool_s_after_a_turn_has_the_chain_read_anew() -> None:
    state = watching()
    state.apply_block(block(1), [birth(PAIR)])
    state.undo_to(block(0))
    with pytest.raises(StateError, match="made anew"):
        state.apply_block(block(1), [birth(THREE), birth(msgspec.structs.replace(THREE, address=PAIR.address))])


@pytest.mark.parametrize(
    ("pool", "another"),
    [
        (THREE, msgspec.structs.replace(THREE, fee_numerator=997_000, tick_spacing=60)),
        (THREE, msgspec.structs.replace(THREE, tick_spacing=60)),
        (STABLE, msgspec.structs.replace(STABLE, stable=False)),
    ],
)
def test_an_address_that_is_another_pool_of_the_same_tokens_after_a_turn_has_the_chain_read_anew(
    pool: Pool, another: Pool
) -> None:
    factory = V3FactoryConfig(name=V3.name, address=V3.address, fees=(500, 3000))
    makers: dict[bytes, Makes] = {each.address: Maker(each, frozenset(TOKENS)).pool_of for each in (factory, SOLIDLY)}
    state = MarketState(block(0), {FIRST: V2State(UNIT, UNIT, 0)}, makers=makers)
    state.apply_block(block(1), [birth(pool)])
    if pool.solidly:
        state.take_in(pool, CURVE)
    state.undo_to(block(0))
    # The same one may come again.
    state.apply_block(block(1), [birth(pool)])
    state.undo_to(block(0))
    with pytest.raises(StateError, match="made anew"):
        state.apply_block(block(1), [birth(another)])


def test_pools_that_never_answer_do_not_keep_the_others_waiting() -> None:
    """They may be told of in each block, by anyone who makes them emit something."""
    algebra = [msgspec.structs.replace(INTEGRAL, address=bytes([number]) * 20) for number in range(0x10, 0x16)]
    state = watching()
    state.apply_block(block(1), [birth(pool) for pool in algebra])
    silent = {pool.address for pool in algebra[:MOST_A_BLOCK]}
    asked: set[bytes] = set()
    for number in (2, 3):
        now = [pool.address for pool in state.due()[:MOST_A_BLOCK]]
        asked |= {*now}
        state.tried(now)
        state.apply_block(block(number), [begun(pool, 30) for pool in algebra if pool.address in silent])
    assert asked == {pool.address for pool in algebra}


def test_cycles_through_a_new_pair_pay_from_its_block_on() -> None:
    state = watching()
    index = CycleIndex(state.pools().values(), [TOKENS[0]])
    arbitrage = AtomicArbitrage("ethereum", index, state)
    touched = state.apply_block(block(1), [birth(PAIR), sync(PAIR, UNIT, 2 * UNIT)])
    [best, *_] = arbitrage.opportunities(block(1), touched, UNIT)
    assert {hop.pool for hop in best.cycle.hops} == {FIRST.address, PAIR.address}
    assert best.expected_profit > 0
    state.undo_to(block(0))
    assert all(each.expected_profit <= 0 for each in arbitrage.opportunities(block(0), {PAIR.address}, UNIT))
