"""Blocks whose logs are absurd in every way: the market takes them or refuses them whole, the search goes on upon what is left, and undoing restores it."""

from __future__ import annotations

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st
from mev.chain.abi import AbiError, event_topic
from mev.chain.wire import Log
from mev.domain import BalancerKey, Block, CurveKey, Pool, V2State
from mev.market import curve_state
from mev.market.amm import AmmError
from mev.market.amm.balancer import StablePool, StableRounding, WeightedPool
from mev.market.amm.curve import CurvePool, Ramp, Version
from mev.market.amm.solidly import SolidlyPool
from mev.market.amm.tick_math import MAX_SQRT_PRICE, MIN_SQRT_PRICE, sqrt_price_at
from mev.market.balancer_state import BALANCER_TOPICS, pair_of
from mev.market.concentrated_state import made
from mev.market.curve_state import CURVE_TOPICS
from mev.market.solidly_state import CUSTOM_FEE, SOLIDLY_SYNC
from mev.market.state import MarketState, PoolState
from mev.search.graph import CycleIndex
from mev.trading.strategies.atomic_arbitrage import AtomicArbitrage

from tests.unit.mev.market.test_state_v3 import BURN, FLASH, INITIALIZE, MINT, PANCAKE_SWAP, SWAP

WETH, TOKEN = b"\xaa" * 20, b"\xbb" * 20
FACTORY, NO_POOL = b"\xfa" * 20, b"\x99" * 20
UNIT = 10**18
SYNC = event_topic("Sync(uint112,uint112)")
PAIR = Pool(b"\x01" * 20, "v2", WETH, TOKEN, 997, 1000)
OTHER = Pool(b"\x02" * 20, "sushi", WETH, TOKEN, 997, 1000)
RANGES = Pool(b"\x03" * 20, "v3", WETH, TOKEN, 997_000, 10**6, 60)
VOLATILE = Pool(b"\x04" * 20, "aerodrome", WETH, TOKEN, 0, 1, stable=False)
STABLE = Pool(b"\x05" * 20, "aerodrome", WETH, TOKEN, 0, 1, stable=True)
VAULT = b"\x0f" * 20
OF_THREE = BalancerKey(VAULT, b"\x06" * 32, (WETH, TOKEN, b"\xcc" * 20))
OF_TWO = BalancerKey(VAULT, b"\x07" * 32, (WETH, TOKEN))
WEIGHTED = pair_of("balancer_v2", OF_THREE, 0, 1)
INVARIANT = pair_of("balancer_v2", OF_TWO, 0, 1)
COINED = curve_state.pair_of("threepool", CurveKey(b"\x08" * 20, (TOKEN, WETH)), 0, 1)
META = curve_state.pair_of("meta", CurveKey(b"\x09" * 20, (TOKEN, WETH), b"\x08" * 20), 0, 1)
TOPICS = [
    *sorted(BALANCER_TOPICS),
    *sorted(CURVE_TOPICS),
    SYNC,
    SWAP,
    PANCAKE_SWAP,
    MINT,
    BURN,
    INITIALIZE,
    FLASH,
    SOLIDLY_SYNC,
    CUSTOM_FEE,
    bytes(32),
]
# The ends of what a word, a reserve, a price, a tick or a liquidity can be, and what is just beyond.
ENDS = [
    *(0, 1, 2, UNIT, 2**112 - 1, 2**112, 2**127 - 1, 2**127, 2**128 - 1, 2**128, 2**160 - 1, 2**160, 2**255, 2**256 - 1),
    *(MIN_SQRT_PRICE - 1, MIN_SQRT_PRICE, MAX_SQRT_PRICE - 1, MAX_SQRT_PRICE, sqrt_price_at(0), sqrt_price_at(30)),
    *(each % 2**256 for each in (-887273, -887272, -887220, 887220, 887272, 887273, -60, 60, -1, -(10**21), -(2**255))),
    *(10**21, 30, 500, 9999, 10_001),
]  # fmt: skip
words = st.one_of(st.sampled_from(ENDS), st.integers(0, 2**256 - 1)).map(lambda each: each.to_bytes(32, "big"))
# Whom an event may be about.
NAMES = [bytes(12) + STABLE.address, OF_THREE.id, OF_TWO.id, bytes(12) + WETH, bytes(12) + TOKEN]
logs = st.builds(
    Log,
    address=st.sampled_from(
        [pool.address for pool in (PAIR, OTHER, RANGES, VOLATILE, STABLE)]
        + [FACTORY, NO_POOL, VAULT, VAULT, WEIGHTED.whole, INVARIANT.whole, COINED.whole, COINED.whole, META.whole]
    ),
    topics=st.tuples(st.sampled_from(TOPICS), st.lists(st.one_of(words, st.sampled_from(NAMES)), max_size=3)).map(
        lambda each: (each[0], *each[1])
    ),
    data=st.one_of(st.lists(words, max_size=7).map(b"".join), st.binary(max_size=70)),
    index=st.integers(0, 3),
    transaction=st.just(bytes(32)),
)


def block(number: int) -> Block:
    return Block(number, (number + 1).to_bytes(32, "big"), number.to_bytes(32, "big"), 0, 0)


def market() -> MarketState:
    held = made(RANGES, {-600: 10**21, 0: 10**21, 600: -(2 * 10**21)}, sqrt_price_at(30), 30, 2 * 10**21)
    states: dict[Pool, PoolState] = {
        PAIR: V2State(1000 * UNIT, 1000 * UNIT, 0),
        OTHER: V2State(1000 * UNIT, 1010 * UNIT, 0),
        RANGES: held,
        VOLATILE: SolidlyPool(1000 * UNIT, 1000 * UNIT, UNIT, UNIT, 30, False),
        STABLE: SolidlyPool(1000 * UNIT, 1000 * UNIT, UNIT, UNIT, 5, True),
        WEIGHTED: WeightedPool((1000 * UNIT,) * 3, (UNIT // 2, UNIT // 4, UNIT // 4), (UNIT,) * 3, 10**15, True),
        INVARIANT: StablePool((1000 * UNIT,) * 2, (UNIT,) * 2, 50_000, 10**15, StableRounding.DOWN),
        COINED: CurvePool(
            Version.SECOND, (1000 * UNIT,) * 2, (UNIT,) * 2, 20_000, 10**6, 10**9, ramp=Ramp(1, 10**6, -1, 9)
        ),
        META: CurvePool(Version.FIRST, (1000 * UNIT,) * 2, (UNIT,) * 2, 200, 10**6, 10**9),
    }
    return MarketState(block(0), states, {FACTORY: "aerodrome"})


@given(st.lists(st.lists(logs, max_size=4), min_size=1, max_size=5))
@settings(max_examples=120)
def test_absurd_logs_stop_neither_the_market_nor_the_search(blocks: list[list[Log]]) -> None:
    state = market()
    arbitrage = AtomicArbitrage("ethereum", CycleIndex(state.pools().values(), [WETH]), state)
    before, number = [state.states()], 0
    for content in blocks:
        try:
            touched = state.apply_block(block(number + 1), content)
        except AbiError:
            # Refused whole: the engine reads the market anew; nothing of the block stays.
            assert state.states() == before[-1]
            assert state.block == block(number)
            continue
        number += 1
        before.append(state.states())
        assert touched <= set(state.pools())
        assert set(state.unusable()) <= set(state.pools())
        for found in arbitrage.opportunities(state.block, touched, 10**24):
            # Some pay in floats alone; these are dropped later.
            assert 0 <= found.amount_in <= 10**24
    while number:
        number -= 1
        state.undo_to(block(number))
        assert state.states() == before[number]


@given(st.tuples(*[st.sampled_from(ENDS)] * 4))
@settings(max_examples=80)
def test_reserves_at_the_ends_of_what_there_can_be_are_computed_or_refused(reserves: tuple[int, int, int, int]) -> None:
    """Of pools that nobody guards: a reserve of nothing, of one unit, of all that fits."""
    state = market()
    of_pair, of_stable = [each % 2**112 for each in reserves[:2]], [each % 2**256 for each in reserves[2:]]
    content = [
        Log(PAIR.address, (SYNC,), b"".join(each.to_bytes(32, "big") for each in of_pair), 0, bytes(32)),
        Log(STABLE.address, (SOLIDLY_SYNC,), b"".join(each.to_bytes(32, "big") for each in of_stable), 1, bytes(32)),
    ]
    touched = state.apply_block(block(1), content)
    index = CycleIndex(state.pools().values(), [WETH])
    for found in AtomicArbitrage("ethereum", index, state).opportunities(state.block, touched, 10**30):
        assert 0 <= found.amount_in <= 10**30
    stable = state.solidly(STABLE.address)
    assert stable is not None
    for amount in (1, UNIT, 2**112):
        with contextlib.suppress(AmmError):
            assert stable.swap(amount, zero_for_one=True).amount_out < stable.reserve1


@given(st.tuples(*[st.sampled_from(ENDS)] * 4))
@settings(max_examples=80)
def test_balances_of_a_vault_at_the_ends_are_computed_or_refused(changes: tuple[int, int, int, int]) -> None:
    """What comes in and goes out by the vault's word, as much as a word can say."""
    state = market()
    content = [
        Log(VAULT, (SWAP_OF_VAULT, key.id, bytes(12) + WETH, bytes(12) + TOKEN), words_of(*moved), 0, bytes(32))
        for key, moved in ((OF_THREE, changes[:2]), (OF_TWO, changes[2:]))
    ]
    touched = state.apply_block(block(1), content)
    index = CycleIndex(state.pools().values(), [WETH])
    for found in AtomicArbitrage("ethereum", index, state).opportunities(state.block, touched, 10**30):
        assert 0 <= found.amount_in <= 10**30
    for pool in (WEIGHTED, INVARIANT):
        held = state.balancer(pool.address)
        assert (held is None) == (pool.address in state.unusable())
        if held is not None:
            assert all(0 <= balance < 2**112 for balance in held.balances)
    state.undo_to(block(0))
    assert [state.held(pool.address) for pool in (WEIGHTED, INVARIANT)] == [
        market().held(pool.address) for pool in (WEIGHTED, INVARIANT)
    ]


@given(
    st.sampled_from(["AddLiquidity", "RemoveLiquidityImbalance"]),
    st.tuples(*[st.sampled_from(ENDS)] * 4),
    st.tuples(*[st.sampled_from(ENDS)] * 4),
)
@settings(max_examples=80)
def test_a_curve_pool_s_words_at_the_ends_are_computed_or_refused(
    event: str, amounts: tuple[int, int, int, int], ramp: tuple[int, int, int, int]
) -> None:
    state = market()
    told = (event_topic(f"{event}(address,uint256[2],uint256[2],uint256,uint256)"), bytes(32))
    content = [
        Log(COINED.whole, told, words_of(*amounts, 0, 0), 0, bytes(32)),
        Log(COINED.whole, (event_topic("RampA(uint256,uint256,uint256,uint256)"),), words_of(*ramp), 1, bytes(32)),
    ]
    touched = state.apply_block(block(1), content)
    index = CycleIndex(state.pools().values(), [WETH])
    for found in AtomicArbitrage("ethereum", index, state).opportunities(state.block, touched, 10**30):
        assert 0 <= found.amount_in <= 10**30
    assert (state.curve(COINED.address) is None) == (COINED.address in state.unusable())
    state.undo_to(block(0))
    assert state.held(COINED.address) == market().held(COINED.address)


SWAP_OF_VAULT = event_topic("Swap(bytes32,address,address,uint256,uint256)")


def words_of(*values: int) -> bytes:
    return b"".join(each.to_bytes(32, "big") for each in values)
