"""V4's pools follow what their manager says of them and nothing else, go back when the chain turns round, and come out of a snapshot as they went in."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest
from mev.chain.abi import AbiError, event_topic
from mev.chain.wire import Log
from mev.domain import Block, Cycle, Hop, Pool, V2State, V4Key
from mev.market.amm.concentrated import INT128_MAX, V4_MAX_PROTOCOL_FEE, ConcentratedPool
from mev.market.amm.tick_math import sqrt_price_at
from mev.market.concentrated_state import made, same, v4_fees
from mev.market.snapshot import load, save
from mev.market.state import MarketState
from mev.market.v4_state import LIQUIDITY_SLOT, Watched, _slot, pool_of, read_now, read_v4
from mev.runtime.config import EvmAddress, V4ManagerConfig
from mev.search.graph import CycleIndex
from mev.search.sizing import screen, size_exact
from mev.trading.strategies.atomic_arbitrage import AtomicArbitrage

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from mev.chain.rpc import Rpc
    from mev.market.state import PoolState

SWAP = event_topic("Swap(bytes32,address,int128,int128,uint160,uint128,int24,uint24)")
INITIALIZE = event_topic("Initialize(bytes32,address,address,uint24,int24,address,uint160,int24)")
MODIFY = event_topic("ModifyLiquidity(bytes32,address,int24,int24,int256,bytes32)")
PROTOCOL = event_topic("ProtocolFeeUpdated(bytes32,uint24)")
V3_SWAP = event_topic("Swap(address,address,int256,int256,uint160,uint128,int24)")
MANAGER, STRANGER = b"\x0f" * 20, b"\x0e" * 20
TOKENS = (b"\xaa" * 20, b"\xbb" * 20)
POOL, OTHER = (pool_of("uniswap_v4", MANAGER, TOKENS, fee, spacing) for fee, spacing in ((3000, 60), (500, 10)))
PAIR = Pool(b"\x01" * 20, "uniswap_v2", *TOKENS, 997, 1000)
SOMEBODY = bytes(12) + b"\x07" * 20
UNIT = 10**18


def block(number: int) -> Block:
    return Block(number, (number + 1).to_bytes(32, "big"), number.to_bytes(32, "big"), 0, 0)


def said(topic: bytes, pool: Pool, *words: int, by: bytes = MANAGER, sender: bool = True) -> Log:
    assert pool.v4 is not None
    topics = (topic, pool.v4.id, SOMEBODY) if sender else (topic, pool.v4.id)
    return Log(by, topics, b"".join((word % 2**256).to_bytes(32, "big") for word in words), 0, bytes(32))


def swapped(pool: Pool, state: ConcentratedPool, amount: int, by: bytes = MANAGER) -> tuple[Log, ConcentratedPool]:
    moved = state.swap_exact_in(amount, zero_for_one=True)
    now = moved.sqrt_price_x96, moved.liquidity, moved.tick
    return said(SWAP, pool, -moved.amount_in, moved.amount_out, *now, 3000, by=by), state.after(moved)


def modified(pool: Pool, lower: int, upper: int, delta: int) -> Log:
    return said(MODIFY, pool, lower, upper, delta, 0)


def held(pool: Pool, protocol: int = 0) -> ConcentratedPool:
    net = {-60_000: 10**21, 60_000: -(10**21)}
    return made(pool, net, sqrt_price_at(30), 30, 10**21, v4_fees(pool, protocol))


def fresh() -> MarketState:
    return MarketState(block(0), {PAIR: V2State(UNIT, UNIT, 0), POOL: held(POOL), OTHER: held(OTHER)})


def test_a_pool_s_key_is_the_one_that_mainnet_knows() -> None:
    """ETH against USDC at 0.05 %: the id under which the manager's first big pool is known."""
    wrapped = bytes.fromhex("c02aaa39b223fe8d0a0e5c4f27ead9083c756cc2")
    usdc = bytes.fromhex("a0b86991c6218b36c1d19d4a2e9eb0ce3606eb48")
    known = pool_of("uniswap_v4", MANAGER, (wrapped, usdc), 500, 10, native=True)
    assert known.v4 is not None
    assert known.v4.id.hex() == "21c67e77068de97969ba93d4aab21826d33ca12bb9f565d8496e8fda8a82ca27"
    assert known.address == known.v4.id[:20]


def test_what_the_manager_says_of_a_pool_follows_and_goes_back() -> None:
    state = fresh()
    swap, after = swapped(POOL, held(POOL), 10**20)
    changed = modified(POOL, -600, 600, 10**20)
    assert state.apply_block(block(1), [swap, changed]) == {POOL.address}
    assert same(state.states()[POOL], after.with_liquidity(-600, 600, 10**20))  # type: ignore[arg-type]
    taken = modified(POOL, -600, 600, -(10**20))
    protocol = said(PROTOCOL, OTHER, 1000 | 250 << 12, sender=False)
    assert state.apply_block(block(2), [taken, protocol]) == {POOL.address, OTHER.address}
    found = state.concentrated(OTHER.address)
    assert found is not None
    assert found.fees == (1500, 750)
    assert same(state.states()[POOL], after)  # type: ignore[arg-type]
    assert state.undo_to(block(0)) == {POOL.address, OTHER.address}
    for pool in (POOL, OTHER):
        assert same(state.states()[pool], fresh().states()[pool])  # type: ignore[arg-type]


def test_what_others_say_and_what_is_said_of_others_counts_for_nothing() -> None:
    state = fresh()
    unknown = pool_of("uniswap_v4", MANAGER, TOKENS, 777, 10)
    elsewhere, _ = swapped(POOL, held(POOL), 10**20, by=STRANGER)
    # A contract that stands where a pool's name points, were there one.
    disguised, _ = swapped(POOL, held(POOL), 10**20, by=POOL.address)
    words = (1, -1, sqrt_price_at(60), 10**21, 60)
    content = b"".join((word % 2**256).to_bytes(32, "big") for word in words)
    own = Log(POOL.address, (V3_SWAP, SOMEBODY, SOMEBODY), content, 0, bytes(32))
    fee_of_others = said(PROTOCOL, unknown, 7, sender=False)
    bare = Log(MANAGER, (), b"", 0, bytes(32))
    alone = Log(MANAGER, (SWAP,), b"", 0, bytes(32))
    assert state.apply_block(block(1), [elsewhere, disguised, own, fee_of_others, bare, alone]) == set()
    with pytest.raises(AbiError, match="Swap"):
        state.apply_block(block(2), [said(SWAP, POOL, 1)])


def test_what_contradicts_itself_is_left_alone() -> None:
    state = fresh()
    swap = said(SWAP, POOL, -1, 1, sqrt_price_at(30), 7, 30, 3000)
    assert state.apply_block(block(1), [swap]) == {POOL.address}
    assert list(state.unusable()) == [POOL.address]
    state.undo_to(block(0))
    assert state.unusable() == {}


def test_a_snapshot_keeps_the_manager_the_id_and_the_fees(tmp_path: Path) -> None:
    state = fresh()
    state.apply_block(block(1), [said(PROTOCOL, OTHER, 1000 | 250 << 12, sender=False)])
    native = pool_of("uniswap_v4", MANAGER, TOKENS[::-1], 500, 10, native=True)
    states = {**state.states(), native: held(native)}
    save(tmp_path / "snapshot", 1, block(1), states)
    _, back = load(tmp_path / "snapshot", 1)
    assert set(back) == {PAIR, POOL, OTHER, native}
    for pool in (POOL, OTHER, native):
        found, ours = back[pool], states[pool]
        assert isinstance(found, ConcentratedPool)
        assert isinstance(ours, ConcentratedPool)
        assert same(found, ours)
        assert (found.ticks.words, found.largest_amount) == (True, INT128_MAX)


def test_fees_that_differ_between_directions_are_screened_and_sized_so() -> None:
    """The protocol takes of one direction so much that it does not pay; the other way it does."""
    for protocol, first in ((1000, True), (1000 << 12, False)):
        states: dict[Pool, PoolState] = {PAIR: V2State(1000 * UNIT, 1000 * UNIT, 0), OTHER: held(OTHER, protocol)}
        # A price for which either direction pays by less than the protocol takes.
        for tick, pays in ((38, not first), (-38, first)):
            net = {-60_000: 10**21, 60_000: -(10**21)}
            states[OTHER] = made(OTHER, net, sqrt_price_at(tick), tick, 10**21, v4_fees(OTHER, protocol))
            state = MarketState(block(0), states)
            index = CycleIndex([PAIR, OTHER], [TOKENS[0]], 2)
            found = screen(index.all(), state)
            path = (OTHER, PAIR) if tick > 0 else (PAIR, OTHER)
            hops = Hop(path[0].address, zero_for_one=True), Hop(path[1].address, zero_for_one=False)
            cycle = Cycle(TOKENS[0], hops)
            assert (cycle in found) == (size_exact(cycle, state).amount_in > 0) == pays, (protocol, tick)


CONFIG = V4ManagerConfig(name="uniswap_v4", address=EvmAddress(MANAGER))
LATE = pool_of("uniswap_v4", MANAGER, TOKENS, 100, 1)
NOBODY, HOOK = bytes(20), b"\x0c" * 20


def initialised(pool: Pool, tick: int, *, hooks: bytes = NOBODY, fee: int | None = None, by: bytes = MANAGER) -> Log:
    assert pool.v4 is not None
    first = NOBODY if pool.v4.native else pool.token0
    topics = (INITIALIZE, pool.v4.id, bytes(12) + first, bytes(12) + pool.token1)
    own = pool.fee_denominator - pool.fee_numerator
    words = (own if fee is None else fee, pool.tick_spacing, int.from_bytes(hooks, "big"), sqrt_price_at(tick), tick)
    return Log(by, topics, b"".join((word % 2**256).to_bytes(32, "big") for word in words), 0, bytes(32))


def watching() -> MarketState:
    watched = Watched(CONFIG, frozenset(TOKENS), TOKENS[0])
    return MarketState(block(0), {PAIR: V2State(UNIT, UNIT, 0)}, managers={MANAGER: watched.pool_of})


def test_a_pool_that_is_initialised_later_is_followed_from_its_first_event_on_and_goes_back() -> None:
    state = watching()
    born = [initialised(LATE, 30), modified(LATE, -600, 600, 10**21)]
    assert state.apply_block(block(1), born) == {LATE.address}
    assert list(state.pools().values()) == [PAIR, LATE]
    expected = made(LATE, {-600: 10**21, 600: -(10**21)}, sqrt_price_at(30), 30, 10**21)
    assert same(state.states()[LATE], expected)  # type: ignore[arg-type]
    assert state.undo_to(block(0)) == {LATE.address}
    # As the chain says then: there is none with a price.
    assert list(state.unusable()) == [LATE.address]
    assert state.apply_block(block(1), born) == {LATE.address}
    assert same(state.states()[LATE], expected)  # type: ignore[arg-type]
    assert state.apply_block(block(2), [initialised(LATE, 30)]) == {LATE.address}
    assert list(state.unusable()) == [LATE.address]


def test_of_new_pools_only_those_that_a_start_would_find_are_taken_in() -> None:
    native, other = (pool_of("uniswap_v4", MANAGER, TOKENS, 500, 10, native=native) for native in (True, False))
    # Its wrapped form against itself.
    itself = pool_of("uniswap_v4", MANAGER, (TOKENS[0], TOKENS[0]), 500, 10, native=True)
    foreign = pool_of("uniswap_v4", MANAGER, (TOKENS[0], b"\xcc" * 20), 500, 10)
    unusual = pool_of("uniswap_v4", MANAGER, TOKENS, 777, 10)
    state = watching()
    logs = [
        initialised(other, 0, hooks=HOOK),
        initialised(other, 0, fee=0x800000),
        initialised(LATE, 0, by=STRANGER),
        *(initialised(pool, 0) for pool in (itself, foreign, unusual)),
        # Of one whose id is not its key's, and of one that nobody has heard of.
        initialised(msgspec.structs.replace(other, v4=V4Key(MANAGER, b"\x01" * 32)), 0),
        modified(LATE, -600, 600, 10**21),
    ]
    assert state.apply_block(block(1), logs) == set()
    assert list(state.pools().values()) == [PAIR]
    assert state.apply_block(block(2), [initialised(native, 0), initialised(other, 0)]) == {
        native.address,
        other.address,
    }
    with pytest.raises(AbiError, match="Initialize"):
        state.apply_block(block(3), [Log(MANAGER, (INITIALIZE, bytes(32)), b"", 0, bytes(32))])


def test_cycles_through_a_new_pool_are_looked_for_from_its_block_on_and_others_wait_a_minute() -> None:
    """Anyone may make pools, and all cycles are enumerated anew."""
    state = watching()
    index = CycleIndex(state.pools().values(), [TOKENS[0]])
    arbitrage = AtomicArbitrage("ethereum", index, state)
    native = pool_of("uniswap_v4", MANAGER, TOKENS, 100, 1, native=True)
    second = pool_of("uniswap_v4", MANAGER, TOKENS, 3000, 60)
    for number, seconds, pool in ((1, 1000, LATE), (2, 1059, native), (3, 1060, second)):
        now = msgspec.structs.replace(block(number), timestamp=seconds)
        touched = state.apply_block(now, [initialised(pool, 600), modified(pool, -60_000, 60_000, 10**21)])
        found = arbitrage.opportunities(now, touched, UNIT)
        through = {hop.pool for each in found if each.expected_profit > 0 for hop in each.cycle.hops}
        assert (LATE.address in through, native.address in through, second.address in through) == {
            1: (True, False, False),
            2: (False, False, False),
            3: (True, True, True),
        }[number]
    assert len(index.pools) == 4


class Storage:
    """A node whose manager says of both pools the same price and liquidity, and of one of them a protocol's fee that none can have."""

    async def batch(self, calls: Iterable[tuple[str, Any]]) -> list[object]:
        return [self._word(int(call["data"][-64:], 16)) for _, (call, _) in calls]

    def _word(self, slot: int) -> str:
        places = {_slot(pool) + offset: (pool, offset) for pool in (POOL, OTHER) for offset in (0, LIQUIDITY_SLOT)}
        pool, offset = places.get(slot, (None, 0))
        protocol = 2 * V4_MAX_PROTOCOL_FEE if pool is OTHER else 0
        first = 0 if pool is None else sqrt_price_at(0) | protocol << 184 | 10**6 - pool.fee_numerator << 208
        return f"0x{first if offset == 0 else 0:064x}"


def test_a_manager_whose_fee_no_pool_can_have_leaves_that_pool_out_and_ends_nothing() -> None:
    rpc = cast("Rpc", Storage())
    assert list(asyncio.run(read_v4(rpc, [OTHER, POOL], block(0)))) == [POOL]
    with pytest.raises(AbiError, match="is none that a pool can have"):
        asyncio.run(read_now(rpc, [POOL, OTHER], block(0)))
