"""V3 pools follow their events to the last bit, find back when the chain turns round, and are left alone where they contradict themselves."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mev.chain.abi import AbiError, event_topic
from mev.chain.wire import Log
from mev.domain import Block, Pool, V2State
from mev.market.amm.concentrated import ConcentratedPool
from mev.market.amm.tick_math import sqrt_price_at
from mev.market.concentrated_state import NO_PRICE, Unusable, made, same
from mev.market.state import UNDO_BLOCKS, MarketState

SWAP = event_topic("Swap(address,address,int256,int256,uint160,uint128,int24)")
PANCAKE_SWAP = event_topic("Swap(address,address,int256,int256,uint160,uint128,int24,uint128,uint128)")
MINT = event_topic("Mint(address,address,int24,int24,uint128,uint256,uint256)")
BURN = event_topic("Burn(address,int24,int24,uint128,uint256,uint256)")
INITIALIZE = event_topic("Initialize(uint160,int24)")
FLASH = event_topic("Flash(address,address,uint256,uint256,uint256,uint256)")
POOL = Pool(b"\x03" * 20, "uniswap_v3", b"\xaa" * 20, b"\xbb" * 20, 997_000, 10**6, 60)
PAIR = Pool(b"\x01" * 20, "uniswap_v2", b"\xaa" * 20, b"\xbb" * 20, 997, 1000)
UNIT = 10**18
SOMEBODY = bytes(12) + b"\x07" * 20


def block(number: int) -> Block:
    return Block(number, (number + 1).to_bytes(32, "big"), number.to_bytes(32, "big"), 0, 0)


def signed(value: int) -> bytes:
    return (value % 2**256).to_bytes(32, "big")


def log(topics: tuple[bytes, ...], *words: int, pool: Pool = POOL) -> Log:
    return Log(pool.address, topics, b"".join(map(signed, words)), 0, bytes(32))


def swapped(state: ConcentratedPool, amount: int, *, zero_for_one: bool) -> Log:
    """The event of a swap that the pool's own mathematics makes."""
    moved = state.swap_exact_in(amount, zero_for_one=zero_for_one)
    amounts = (moved.amount_in, -moved.amount_out) if zero_for_one else (-moved.amount_out, moved.amount_in)
    return log((SWAP, SOMEBODY, SOMEBODY), *amounts, moved.sqrt_price_x96, moved.liquidity, moved.tick)


def minted(lower: int, upper: int, liquidity: int) -> Log:
    return log((MINT, SOMEBODY, signed(lower), signed(upper)), 7, liquidity, 1, 1)


def burned(lower: int, upper: int, liquidity: int) -> Log:
    return log((BURN, SOMEBODY, signed(lower), signed(upper)), liquidity, 1, 1)


def fresh() -> MarketState:
    held = made(POOL, {-600: 10**21, 0: 10**21, 600: -(2 * 10**21)}, sqrt_price_at(30), 30, 2 * 10**21)
    return MarketState(block(0), {PAIR: V2State(UNIT, UNIT, 0), POOL: held})


def seen(state: MarketState) -> tuple[object, ...]:
    held = state.concentrated(POOL.address)
    assert held is not None
    return held.sqrt_price_x96, held.tick, held.liquidity, tuple(held.ticks.net.items())


def test_a_swap_across_a_tick_and_back() -> None:
    state = fresh()
    before = state.concentrated(POOL.address)
    assert before is not None
    event = swapped(before, 20 * UNIT, zero_for_one=True)
    assert state.apply_block(block(1), [event]) == {POOL.address}
    after = state.concentrated(POOL.address)
    assert after is not None
    assert (after.tick < 0, after.liquidity) == (True, 10**21)
    assert state.undo_to(block(0)) == {POOL.address}
    assert state.concentrated(POOL.address) is before


def test_a_swap_as_pancakeswap_tells_of_it() -> None:
    state, other = fresh(), fresh()
    before = state.concentrated(POOL.address)
    assert before is not None
    event = swapped(before, 20 * UNIT, zero_for_one=False)
    told = Log(event.address, (PANCAKE_SWAP, *event.topics[1:]), event.data + signed(5) + signed(0), 0, bytes(32))
    state.apply_block(block(1), [told])
    other.apply_block(block(1), [event])
    assert seen(state) == seen(other) != seen(fresh())
    with pytest.raises(AbiError, match="are expected"):
        state.apply_block(
            Block(2, bytes(32), state.block.hash, 0, 0), [Log(event.address, told.topics, event.data, 0, bytes(32))]
        )
    assert state.undo_to(block(0)) == {POOL.address}
    assert state.concentrated(POOL.address) is before


def test_liquidity_comes_and_goes() -> None:
    state = fresh()
    begun = seen(state)
    assert state.apply_block(block(1), [minted(-60, 120, 5 * UNIT)]) == {POOL.address}
    held = state.concentrated(POOL.address)
    assert held is not None
    assert held.liquidity == 2 * 10**21 + 5 * UNIT
    assert held.ticks.net[-60] == 5 * UNIT
    # Beside the price: the range in use is as it was.
    assert state.apply_block(block(2), [minted(120, 180, 3 * UNIT), burned(-60, 120, 5 * UNIT)]) == {POOL.address}
    assert state.apply_block(block(3), [burned(120, 180, 3 * UNIT)]) == {POOL.address}
    assert seen(state) == begun


def test_a_block_that_ends_where_it_began_touches_nothing() -> None:
    state = fresh()
    assert state.apply_block(block(1), [minted(0, 60, 5), burned(0, 60, 5), burned(0, 60, 0)]) == frozenset()


def test_other_events_and_other_contracts_are_passed_over() -> None:
    state = fresh()
    begun = seen(state)
    sync = event_topic("Sync(uint112,uint112)")
    noise = [
        log((FLASH, SOMEBODY, SOMEBODY), 1, 2, 3, 4),
        log((sync,), 1, 2),
        log((SWAP,), 1, pool=PAIR),
        Log(b"\x09" * 20, (SWAP,), b"garbage", 0, bytes(32)),
        log(()),
    ]
    assert state.apply_block(block(1), noise) == frozenset()
    assert seen(state) == begun
    assert state.v2(PAIR.address) == V2State(UNIT, UNIT, 0)


@pytest.mark.parametrize("event", [log((SWAP,), 1), log((MINT, SOMEBODY, SOMEBODY, SOMEBODY), 1), log((BURN,))])
def test_a_malformed_event_changes_nothing(event: Log) -> None:
    state = fresh()
    begun = seen(state)
    with pytest.raises(AbiError):
        state.apply_block(block(1), [minted(0, 60, 5), event])
    assert (seen(state), state.block) == (begun, block(0))


@pytest.mark.parametrize(
    "event",
    [
        # A tick that is not the price's, liquidity that the ticks do not add up to, more burnt than there is, a range that is none.
        log((SWAP, SOMEBODY, SOMEBODY), 1, -1, sqrt_price_at(30), 2 * 10**21, 90),
        log((SWAP, SOMEBODY, SOMEBODY), 1, -1, sqrt_price_at(30), 5, 30),
        burned(0, 60, 10**22),
        minted(60, 0, 5),
        minted(1, 60, 5),
        log((INITIALIZE,), sqrt_price_at(30), 30),
    ],
)
def test_what_contradicts_itself_is_not_traded_on_until_it_is_undone(event: Log) -> None:
    state = fresh()
    begun = seen(state)
    assert state.apply_block(block(1), [event]) == {POOL.address}
    assert state.concentrated(POOL.address) is None
    assert list(state.unusable()) == [POOL.address]
    # What follows does not mend it: nobody knows what it holds.
    assert state.apply_block(block(2), [minted(0, 60, 5)]) == frozenset()
    assert state.concentrated(POOL.address) is None
    state.undo_to(block(0))
    assert (seen(state), state.unusable()) == (begun, {})


def test_a_pool_begins_with_its_first_price() -> None:
    state = MarketState(block(0), {POOL: NO_PRICE})
    assert state.unusable() == {POOL.address: "it is not initialised"}
    events = [log((INITIALIZE,), sqrt_price_at(-7), -7), minted(-60, 60, UNIT)]
    assert state.apply_block(block(1), events) == {POOL.address}
    assert seen(state) == (sqrt_price_at(-7), -7, UNIT, ((-60, UNIT), (60, -UNIT)))
    assert state.undo_to(block(0)) == {POOL.address}
    assert state.concentrated(POOL.address) is None


def test_each_kind_is_asked_for_by_its_own_name() -> None:
    state = fresh()
    for wrong in (lambda: state.v2(POOL.address), lambda: state.concentrated(PAIR.address)):
        with pytest.raises(KeyError):
            wrong()
    assert set(state.v2_states()) == {PAIR}
    assert set(state.states()) == {PAIR, POOL}


def test_states_are_the_same_by_what_they_give() -> None:
    one, other = (fresh().concentrated(POOL.address) for _ in range(2))
    assert one is not None
    assert other is not None
    assert same(one, other)
    assert not same(one, other.with_liquidity(6000, 6060, 1))
    assert not same(one, Unusable("x"))
    assert same(Unusable("x"), Unusable("x"))


@given(st.integers(0, 2**32), st.lists(st.integers(1, UNDO_BLOCKS), min_size=1, max_size=5))
@settings(max_examples=25, deadline=None)
def test_undoing_restores_what_was_there_to_the_last_bit(seed: int, depths: list[int]) -> None:
    draw = random.Random(seed)  # noqa: S311
    state = fresh()
    history = [(block(0), seen(state))]
    positions: list[list[tuple[int, int, int]]] = [[]]
    for depth in depths:
        for _ in range(depth):
            parent, _ = history[-1]
            following = Block(parent.number + 1, draw.randbytes(32), parent.hash, 0, 0)
            held = state.concentrated(POOL.address)
            assert held is not None
            own, kind = list(positions[-1]), draw.randrange(3)
            if kind == 0:
                lower = 60 * draw.randrange(-20, 20)
                own.append((lower, lower + 60 * draw.randrange(1, 10), draw.randrange(1, 10**21)))
                event = minted(*own[-1])
            elif kind == 1 and own:
                event = burned(*own.pop(draw.randrange(len(own))))
            else:
                # Where no liquidity is left, the only way is back.
                down = held.tick >= 600 or (held.tick > -600 and bool(draw.randrange(2)))
                event = swapped(held, draw.randrange(1, 30 * UNIT), zero_for_one=down)
            state.apply_block(following, [event])
            history.append((following, seen(state)))
            positions.append(own)
        back = draw.randrange(min(depth, len(history) - 1) + 1)
        history, positions = history[: len(history) - back], positions[: len(positions) - back]
        state.undo_to(history[-1][0])
        assert seen(state) == history[-1][1]
