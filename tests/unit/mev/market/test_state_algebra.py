"""Algebra's pools follow their fees and their plugins as well as their prices, go back when the chain turns round, and come out of a snapshot as they went in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from mev.chain.abi import AbiError, event_topic
from mev.chain.wire import Log
from mev.domain import Algebra, Block, Cycle, Hop, Pool, V2State
from mev.market.amm.concentrated import INT256_MAX, UINT128_MAX, ConcentratedPool
from mev.market.amm.tick_math import sqrt_price_at
from mev.market.concentrated_state import NEW_PLUGIN, NO_FEE_YET, NO_PRICE, made, same
from mev.market.snapshot import load, save
from mev.market.state import MarketState
from mev.search.graph import CycleIndex
from mev.search.sizing import screen, size_exact

if TYPE_CHECKING:
    from pathlib import Path

    from mev.market.state import PoolState

FEE, PLUGIN_CONFIG = event_topic("Fee(uint16)"), event_topic("PluginConfig(uint8)")
INITIALIZE = event_topic("Initialize(uint160,int24)")
TOKENS = (b"\xaa" * 20, b"\xbb" * 20)
OWN = Pool(b"\x03" * 20, "algebra", *TOKENS, 0, 1, 60, algebra=Algebra.OWN)
ASKED = Pool(b"\x04" * 20, "algebra", *TOKENS, 0, 1, 60, algebra=Algebra.PLUGIN)
UNISWAP = Pool(b"\x05" * 20, "uniswap_v3", *TOKENS, 997_000, 10**6, 60)
PAIR = Pool(b"\x01" * 20, "uniswap_v2", *TOKENS, 997, 1000)
UNIT = 10**18
# Far apart: with words of 256 ticks there were more stops between them.
NET = {-60_000: 10**21, 60_000: -(10**21)}


def block(number: int) -> Block:
    return Block(number, (number + 1).to_bytes(32, "big"), number.to_bytes(32, "big"), 0, 0)


def said(pool: Pool, topic: bytes, *words: int) -> Log:
    return Log(pool.address, (topic,), b"".join(word.to_bytes(32, "big") for word in words), 0, bytes(32))


def held(pool: Pool, fee: int) -> ConcentratedPool:
    return made(pool, NET, sqrt_price_at(30), 30, 10**21, (fee, fee))


def fresh() -> MarketState:
    states: dict[Pool, PoolState] = {
        PAIR: V2State(100 * UNIT, 100 * UNIT, 0),
        OWN: held(OWN, 500),
        ASKED: held(ASKED, 100),
        UNISWAP: made(UNISWAP, NET, sqrt_price_at(30), 30, 10**21),
    }
    return MarketState(block(0), states)


def test_a_fee_follows_and_goes_back_and_is_uniswap_s_pools_own() -> None:
    state = fresh()
    assert state.apply_block(block(1), [said(pool, FEE, 3000) for pool in (OWN, ASKED, UNISWAP)]) == {
        OWN.address,
        ASKED.address,
    }
    fees = [found.fees for pool in (OWN, ASKED, UNISWAP) if (found := state.concentrated(pool.address))]
    assert fees == [(3000, 3000), (3000, 3000), (3000, 3000)]
    assert state.apply_block(block(2), [said(OWN, FEE, 3000)]) == set()
    assert state.undo_to(block(0)) == {OWN.address, ASKED.address}
    assert same(state.states()[OWN], fresh().states()[OWN])  # type: ignore[arg-type]
    with pytest.raises(AbiError, match="Fee"):
        state.apply_block(block(1), [said(OWN, FEE, 2**16)])


def test_what_a_plugin_was_found_to_say_is_undone_with_its_block() -> None:
    state = fresh()
    assert state.asked_for_fees == (ASKED.address,)
    state.apply_block(block(1), [])
    state.amend(ASKED.address, held(ASKED, 700))
    state.apply_block(block(2), [said(ASKED, FEE, 900)])
    state.amend(ASKED.address, held(ASKED, 800))
    assert state.undo_to(block(1)) == {ASKED.address}
    assert same(state.states()[ASKED], held(ASKED, 700))  # type: ignore[arg-type]
    assert state.undo_to(block(0)) == {ASKED.address}
    assert same(state.states()[ASKED], held(ASKED, 100))  # type: ignore[arg-type]


def test_a_new_plugin_that_may_say_a_fee_and_a_late_beginning_leave_a_pool_alone() -> None:
    late = Pool(b"\x06" * 20, "algebra", *TOKENS, 0, 1, 60, algebra=Algebra.OWN)
    state = MarketState(block(0), {**fresh().states(), late: NO_PRICE})
    first = sqrt_price_at(0)
    # Hooks after swaps, and around liquidity, say no fee.
    assert state.apply_block(block(1), [said(OWN, PLUGIN_CONFIG, 2 | 8), said(ASKED, PLUGIN_CONFIG, 1)]) == set()
    assert state.apply_block(block(2), [said(OWN, PLUGIN_CONFIG, 128), said(late, INITIALIZE, first, 0)]) == {
        OWN.address,
        late.address,
    }
    assert state.unusable() == {OWN.address: NEW_PLUGIN.reason, late.address: NO_FEE_YET.reason}
    state.undo_to(block(1))
    assert state.unusable() == {late.address: NO_PRICE.reason}


def test_a_snapshot_keeps_who_says_a_fee_and_which(tmp_path: Path) -> None:
    state = fresh()
    state.amend(ASKED.address, held(ASKED, 777))
    save(tmp_path / "snapshot", 1, block(0), state.states())
    _, back = load(tmp_path / "snapshot", 1)
    assert set(back) == set(state.states())
    for pool in (OWN, ASKED, UNISWAP):
        ours, found = state.concentrated(pool.address), back[pool]
        assert isinstance(found, ConcentratedPool)
        assert ours is not None
        assert same(found, ours)
        assert (found.ticks.words, found.largest_amount == UINT128_MAX) == (
            (True, False) if pool is UNISWAP else (False, True)
        )


def test_a_cycle_is_screened_and_sized_with_the_fee_of_now() -> None:
    """A fee that leaves nothing is seen, and one that leaves something."""
    states: dict[Pool, PoolState] = {PAIR: V2State(100 * UNIT, 102 * UNIT, 0), OWN: held(OWN, 500)}
    state = MarketState(block(0), states)
    index = CycleIndex([PAIR, OWN], [TOKENS[0]], 2)
    cycle = Cycle(TOKENS[0], (Hop(PAIR.address, zero_for_one=True), Hop(OWN.address, zero_for_one=False)))
    assert screen(index.all(), state) == [cycle]
    cheap = size_exact(cycle, state)
    moved = held(OWN, 500).swap_exact_in(given(cheap.amount_in), zero_for_one=False)
    assert cheap.amount_out == moved.amount_out > cheap.amount_in > 0
    state.apply_block(block(1), [said(OWN, FEE, 60_000)])
    assert screen(index.all(), state) == []
    assert size_exact(cycle, state).amount_in == 0


def given(amount: int) -> int:
    """What the pair gives for an amount of token0."""
    part = 997 * amount
    return part * 102 * UNIT // (100_000 * UNIT + part)


FIRST = Pool(b"\x06" * 20, "algebra", *TOKENS, 0, 1, 60, algebra=Algebra.BEFORE_INTEGRAL)


def test_a_pool_before_integral_swaps_as_uniswap_s_do_and_its_fee_is_asked_for(tmp_path: Path) -> None:
    state = MarketState(block(0), {FIRST: held(FIRST, 500), OWN: held(OWN, 500)})
    assert state.asked_for_fees == (FIRST.address,)
    assert state.apply_block(block(1), [said(FIRST, FEE, 700), said(FIRST, PLUGIN_CONFIG, 1)]) == {FIRST.address}
    now = state.concentrated(FIRST.address)
    assert now is not None
    assert (now.fees, now.ticks.words, now.largest_amount) == ((700, 700), True, INT256_MAX)
    save(tmp_path / "snapshot", 1, block(1), state.states())
    _, back = load(tmp_path / "snapshot", 1)
    assert set(back) == {FIRST, OWN}
    again = back[FIRST]
    assert isinstance(again, ConcentratedPool)
    assert same(again, now)
    assert (again.ticks.words, again.largest_amount) == (True, INT256_MAX)
