"""State follows the chain, and finds back exactly when the chain turns round."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mev.chain.abi import SYNC, AbiError
from mev.chain.wire import Log
from mev.domain import Block, Pool, V2State
from mev.market.state import UNDO_BLOCKS, MarketState, StateError

POOLS = [Pool(bytes([number]) * 20, "uniswap_v2", b"\xaa" * 20, b"\xbb" * 20, 997, 1000) for number in range(1, 5)]
STRANGER = b"\x99" * 20

reserve = st.integers(0, 2**112 - 1)
syncs = st.lists(
    st.tuples(st.sampled_from([*(pool.address for pool in POOLS), STRANGER]), reserve, reserve), max_size=6
)


def block(number: int) -> Block:
    return Block(number, (number + 1).to_bytes(32, "big"), number.to_bytes(32, "big"), 0, 0)


def sync(address: bytes, reserve0: int, reserve1: int, index: int = 0) -> Log:
    return Log(address, (SYNC,), reserve0.to_bytes(32, "big") + reserve1.to_bytes(32, "big"), index, bytes(32))


def fresh() -> MarketState:
    return MarketState(block(0), {pool: V2State(10**18, 10**18, 0) for pool in POOLS})


def seen(state: MarketState) -> dict[bytes, V2State]:
    return {pool.address: state.v2(pool.address) for pool in POOLS}


def test_the_last_sync_of_a_block_counts() -> None:
    state = fresh()
    address = POOLS[0].address
    touched = state.apply_block(
        block(1), [sync(address, 1, 2), sync(POOLS[1].address, 10**18, 10**18), sync(address, 3, 4)]
    )
    assert state.v2(address) == V2State(3, 4, 1)
    assert touched == {address}


def test_strangers_and_other_events_are_passed_over() -> None:
    state = fresh()
    before = seen(state)
    noise = [
        Log(STRANGER, (SYNC,), b"garbage", 0, bytes(32)),
        Log(POOLS[0].address, (b"\x01" * 32,), b"garbage", 1, bytes(32)),
        Log(POOLS[0].address, (), b"", 2, bytes(32)),
    ]
    assert state.apply_block(block(1), noise) == frozenset()
    assert seen(state) == before


def test_a_malformed_sync_changes_nothing() -> None:
    state = fresh()
    before = seen(state)
    address = POOLS[0].address
    for data in (b"", bytes(63), bytes(65), b"\xff" * 64):
        with pytest.raises(AbiError):
            state.apply_block(block(1), [sync(address, 1, 2), Log(address, (SYNC,), data, 1, bytes(32))])
    assert (seen(state), state.block) == (before, block(0))


def test_a_block_must_follow() -> None:
    state = fresh()
    with pytest.raises(StateError, match="does not follow"):
        state.apply_block(block(2), [])


@given(st.lists(syncs, min_size=1, max_size=UNDO_BLOCKS), st.data())
@settings(max_examples=60)
def test_a_reorganisation_restores_exact_reserves(
    blocks: list[list[tuple[bytes, int, int]]], data: st.DataObject
) -> None:
    state = fresh()
    history = [(state.block, seen(state))]
    for number, events in enumerate(blocks, start=1):
        state.apply_block(block(number), [sync(*event) for event in events])
        history.append((state.block, seen(state)))
    depth = data.draw(st.integers(0, len(blocks)))
    ancestor, expected = history[-1 - depth]
    newest = history[-1][1]
    touched = state.undo_to(ancestor)
    assert (state.block, seen(state)) == (ancestor, expected)
    assert touched == {
        pool
        for pool, after in newest.items()
        if (after.reserve0, after.reserve1) != (expected[pool].reserve0, expected[pool].reserve1)
    }
    # The other branch applies as if the first had never been.
    number = ancestor.number + 1
    follower = Block(number, b"\xfe" * 32, ancestor.hash, 0, 0)
    state.apply_block(follower, [sync(POOLS[0].address, 7, 8)])
    assert state.v2(POOLS[0].address) == V2State(7, 8, number)


def test_the_journal_ends_somewhere() -> None:
    state = fresh()
    for number in range(1, UNDO_BLOCKS + 2):
        state.apply_block(block(number), [sync(POOLS[0].address, number, number)])
    with pytest.raises(StateError, match="not among the last 64"):
        state.undo_to(block(0))
    assert state.block == block(UNDO_BLOCKS + 1)
    state.undo_to(block(1))
    assert state.v2(POOLS[0].address) == V2State(1, 1, 1)


def test_pools_cannot_be_changed_from_outside() -> None:
    with pytest.raises(TypeError):
        fresh().pools()[STRANGER] = POOLS[0]  # type: ignore[index]


class Model:
    """Every block's reserves, kept whole: what the journal has to give back."""

    def __init__(self, state: MarketState) -> None:
        self.blocks = [state.block]
        self.reserves = [seen(state)]

    def apply(self, made: Block, changes: list[tuple[bytes, int, int]]) -> None:
        after = dict(self.reserves[-1])
        for address, reserve0, reserve1 in changes:
            if address in after:
                after[address] = V2State(reserve0, reserve1, made.number)
        self.blocks.append(made)
        self.reserves.append(after)

    def undo(self, count: int) -> Block:
        del self.blocks[len(self.blocks) - count :]
        del self.reserves[len(self.reserves) - count :]
        return self.blocks[-1]


@given(st.lists(st.tuples(st.integers(0, UNDO_BLOCKS), st.integers(1, UNDO_BLOCKS), st.randoms()), max_size=6))
@settings(max_examples=60)
def test_random_reorgs_up_to_64_deep_restore_exact_reserves(history: list[tuple[int, int, random.Random]]) -> None:
    state, made, reach = fresh(), 0, 0
    model = Model(state)
    for deep, mined, draw in history:
        depth = min(deep, reach)
        before = seen(state)
        touched = state.undo_to(model.undo(depth))
        assert seen(state) == model.reserves[-1]
        assert touched == {
            address
            for address, held in seen(state).items()
            if (held.reserve0, held.reserve1) != (before[address].reserve0, before[address].reserve1)
        }
        for _ in range(mined):
            made += 1
            parent = model.blocks[-1]
            child = Block(parent.number + 1, made.to_bytes(31, "big") + b"r", parent.hash, 0, 0)
            addresses = [*(pool.address for pool in POOLS), STRANGER]
            changes = [
                (draw.choice(addresses), draw.getrandbits(112), draw.getrandbits(112))
                for _ in range(draw.randint(0, 3))
            ]
            state.apply_block(child, [sync(*change, index) for index, change in enumerate(changes)])
            model.apply(child, changes)
            assert seen(state) == model.reserves[-1]
        reach = min(reach - depth + mined, UNDO_BLOCKS)
        assert state.block == model.blocks[-1]
