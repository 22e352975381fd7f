"""Solidly pools follow their own events and their factory's, find back when the chain turns round, and come out of a snapshot as they went in."""

from __future__ import annotations

from pathlib import Path

import pytest
from mev.chain.abi import AbiError, event_topic
from mev.chain.wire import Log
from mev.domain import Block, Pool, V2State
from mev.market.amm.solidly import SolidlyPool
from mev.market.snapshot import load, save
from mev.market.solidly_state import CUSTOM_FEE, SOLIDLY_SYNC
from mev.market.state import MarketState, PoolState

SYNC = event_topic("Sync(uint112,uint112)")
FACTORY, STRANGER = b"\x0f" * 20, b"\x0e" * 20
TOKENS = (b"\xaa" * 20, b"\xbb" * 20)
PAIR = Pool(b"\x01" * 20, "uniswap_v2", *TOKENS, 997, 1000)
STABLE = Pool(b"\x02" * 20, "aerodrome", *TOKENS, 0, 1, stable=True)
VOLATILE = Pool(b"\x03" * 20, "aerodrome", *TOKENS, 0, 1, stable=False)
HELD = SolidlyPool(10**9, 10**21, 10**6, 10**18, 5, stable=True)
MUCH = 2**200


def block(number: int) -> Block:
    return Block(number, (number + 1).to_bytes(32, "big"), number.to_bytes(32, "big"), 0, 0)


def sync(pool: Pool, *reserves: int, topic: bytes = SOLIDLY_SYNC) -> Log:
    return Log(pool.address, (topic,), b"".join(each.to_bytes(32, "big") for each in reserves), 0, bytes(32))


def fee(pool: Pool, taken: int, by: bytes = FACTORY) -> Log:
    return Log(by, (CUSTOM_FEE, pool.address.rjust(32, b"\0")), taken.to_bytes(32, "big"), 0, bytes(32))


def fresh() -> MarketState:
    volatile = HELD._replace(stable=False, fee=30)
    states: dict[Pool, PoolState] = {PAIR: V2State(5, 7, 0), STABLE: HELD, VOLATILE: volatile}
    return MarketState(block(0), states, {FACTORY: "aerodrome"})


def test_reserves_of_256_bits_and_a_fee_follow_and_go_back() -> None:
    state = fresh()
    assert state.apply_block(block(1), [sync(STABLE, 3, MUCH), fee(VOLATILE, 100)]) == {
        STABLE.address,
        VOLATILE.address,
    }
    assert state.solidly(STABLE.address) == HELD.at(3, MUCH)
    assert state.solidly(VOLATILE.address) == HELD._replace(stable=False, fee=100)
    assert state.apply_block(block(2), [sync(VOLATILE, 8, 9), fee(VOLATILE, 420), sync(VOLATILE, 8, 10)]) == {
        VOLATILE.address
    }
    assert state.solidly(VOLATILE.address) == SolidlyPool(8, 10, 10**6, 10**18, 0, stable=False)
    assert state.undo_to(block(0)) == {STABLE.address, VOLATILE.address}
    assert state.states() == fresh().states()


def test_the_same_reserves_again_touch_nothing() -> None:
    assert (
        fresh().apply_block(block(1), [sync(STABLE, HELD.reserve0, HELD.reserve1), fee(STABLE, HELD.fee)])
        == frozenset()
    )


@pytest.mark.parametrize(
    "log",
    [
        # Each kind has its own topic, and a pool's fee is its own factory's to say.
        sync(STABLE, 1, 1, topic=SYNC),
        sync(PAIR, 1, 1),
        fee(STABLE, 100, by=STRANGER),
        fee(STABLE, 100, by=STABLE.address),
        fee(PAIR, 100),
        fee(Pool(b"\x09" * 20, "aerodrome", *TOKENS, 0, 1, stable=True), 100),
    ],
)
def test_what_is_not_a_pool_s_own_changes_nothing(log: Log) -> None:
    state = fresh()
    assert state.apply_block(block(1), [log]) == frozenset()
    assert state.states() == fresh().states()


def test_another_factory_s_word_counts_for_nothing() -> None:
    states = fresh().states()
    state = MarketState(block(0), states, {FACTORY: "velodrome"})
    assert state.apply_block(block(1), [fee(STABLE, 100)]) == frozenset()


def test_a_fee_that_no_event_says_leaves_the_pool_alone() -> None:
    state = fresh()
    assert state.apply_block(block(1), [fee(STABLE, 0), sync(STABLE, 1, 1)]) == {STABLE.address}
    assert state.solidly(STABLE.address) is None
    assert "common one again" in state.unusable()[STABLE.address]
    assert state.undo_to(block(0)) == {STABLE.address}
    assert state.solidly(STABLE.address) == HELD


@pytest.mark.parametrize(
    "log", [sync(STABLE, 1), fee(STABLE, 10_001), Log(FACTORY, (CUSTOM_FEE,), bytes(32), 0, bytes(32))]
)
def test_a_malformed_log_is_refused_whole(log: Log) -> None:
    state = fresh()
    with pytest.raises(AbiError):
        state.apply_block(block(1), [sync(VOLATILE, 1, 1), log])
    assert state.block == block(0)
    assert state.states() == fresh().states()


def test_a_kind_is_asked_for_as_what_it_is() -> None:
    state = fresh()
    for wrong in (state.v2, state.concentrated):
        with pytest.raises(KeyError):
            wrong(STABLE.address)
    with pytest.raises(KeyError):
        state.solidly(PAIR.address)


def test_a_snapshot_gives_back_what_went_in(tmp_path: Path) -> None:
    state = fresh()
    state.apply_block(block(1), [sync(STABLE, 2**256 - 1, 0), fee(VOLATILE, 0)])
    path = tmp_path / "snapshot"
    save(path, 8453, state.block, state.states())
    then, states = load(path, 8453)
    assert then == block(1)
    # What is not usable has to be read anew.
    assert states == {PAIR: V2State(5, 7, 0), STABLE: HELD.at(2**256 - 1, 0)}
    assert [type(pool.stable) for pool in states] == [type(None), bool]
