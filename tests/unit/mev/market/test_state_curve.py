"""Curve's pools follow their own events, all pairs of one together, find back, and are left out where they do not answer as what they seem."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any

import pytest
from eth_abi.abi import decode, encode
from mev.chain.abi import AbiError, event_topic, selector
from mev.chain.errors import RpcError
from mev.chain.wire import Log
from mev.domain import Block, CurveKey, Pool, V2State
from mev.market.amm import AmmError
from mev.market.amm.curve import CurvePool, Ramp, Version
from mev.market.curve_read import ask_curves, read_curve
from mev.market.curve_state import Unread, coins, pair_of
from mev.market.snapshot import load, save
from mev.market.state import MarketState, PoolState
from mev.runtime.config import CurvePoolConfig, EvmAddress
from structlog.testing import capture_logs

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from mev.chain.rpc import Rpc

UNIT = 10**18
POOL, BASE, STRANGER = b"\x0f" * 20, b"\x0d" * 20, b"\x0e" * 20
TOKENS = (b"\xcc" * 20, b"\xaa" * 20, b"\xbb" * 20)
KEY = CurveKey(POOL, TOKENS)
PAIRS = [pair_of("threepool", KEY, i, j) for i, j in combinations(range(3), 2)]
META_KEY = CurveKey(STRANGER, TOKENS[:2], BASE)
META = pair_of("meta", META_KEY, 0, 1)
HELD = CurvePool(
    Version.SECOND, (10**6 * UNIT, 2 * 10**6 * UNIT, 10**12), (UNIT, UNIT, 10**30), 20_000, 4 * 10**6, 5 * 10**9
)
OF_META = CurvePool(
    Version.SECOND, (10**6 * UNIT, 10**6 * UNIT), (UNIT, 1_020_000_000_000_000_000), 10_000, 10**6, 10**9
)


def block(number: int) -> Block:
    return Block(number, (number + 1).to_bytes(32, "big"), number.to_bytes(32, "big"), 1000 + number, 0)


GENESIS = block(0)


def fresh() -> MarketState:
    states: dict[Pool, PoolState] = {**dict.fromkeys(PAIRS, HELD), META: OF_META}
    return MarketState(block(0), states)


def said(event: str, *values: int, by: bytes = POOL, topics: tuple[bytes, ...] = ()) -> Log:
    data = b"".join((value % 2**256).to_bytes(32, "big") for value in values)
    return Log(by, (event_topic(event), *(each.rjust(32, b"\0") for each in topics)), data, 0, bytes(32))


def exchanged(i: int, amount: int, j: int, given: int, by: bytes = POOL) -> Log:
    return said("TokenExchange(address,int128,uint256,int128,uint256)", i, amount, j, given, by=by, topics=(STRANGER,))


def provided(event: str, *values: int, by: bytes = POOL) -> Log:
    rest = "uint256" if event == "RemoveLiquidity" else "uint256,uint256"
    return said(f"{event}(address,uint256[3],uint256[3],{rest})", *values, by=by, topics=(STRANGER,))


def test_all_pairs_of_a_pool_change_together_and_go_back() -> None:
    state = fresh()
    addresses = {pair.address for pair in PAIRS}
    moved = HELD.exchange(0, 2, 1000 * UNIT)
    assert state.apply_block(block(1), [exchanged(0, 1000 * UNIT, 2, moved.amount_out)]) == addresses
    assert {state.curve(pair.address) for pair in PAIRS} == {moved.pool}
    logs = [
        provided("AddLiquidity", 5, 6, 7, 2, 4, 0, 1, 1),
        provided("RemoveLiquidityImbalance", 1, 2, 3, 0, 0, 4, 1, 1),
        provided("RemoveLiquidity", 1, 1, 1, 0, 0, 0, 1),
        said("NewFee(uint256,uint256)", 10**7, 10**9),
    ]
    assert state.apply_block(block(2), logs) == addresses
    # Half of a fee is the admins' and not in the pool; what is left of one unit is.
    one, other, third = moved.pool.balances
    balances = (one + 5 - 1 - 1 - 1, other + 6 - 2 - 2 - 1, third + 7 - 3 - 2 - 1)
    assert state.curve(PAIRS[1].address) == moved.pool._replace(balances=balances, fee=10**7, admin_fee=10**9)
    state.apply_block(block(3), [said("ApplyNewFee(uint256)", 5)])
    assert state.curve(PAIRS[1].address) == moved.pool._replace(balances=balances, fee=5, admin_fee=10**9)
    assert state.undo_to(block(1)) == addresses
    assert {state.curve(pair.address) for pair in PAIRS} == {moved.pool}
    state.undo_to(block(0))
    assert state.states() == fresh().states()


def test_coins_are_numbered_as_the_pool_does() -> None:
    assert [coins(pair, zero_for_one=True) for pair in PAIRS] == [(1, 0), (2, 0), (1, 2)]
    assert [coins(pair, zero_for_one=False) for pair in PAIRS] == [(0, 1), (0, 2), (2, 1)]
    assert len({pair.address for pair in (*PAIRS, META)}) == len(PAIRS) + 1
    assert {pair.whole for pair in PAIRS} == {POOL}


def test_a_swap_between_two_coins_is_one_in_the_whole_pool() -> None:
    state, addresses = fresh(), frozenset(pair.address for pair in PAIRS)
    assert state.with_pairs([PAIRS[1].address]) == addresses
    assert state.with_pairs([META.address, STRANGER]) == {META.address, STRANGER}
    assert state.with_pairs([]) == frozenset()


def test_an_amplification_moves_with_the_blocks_until_it_stays() -> None:
    state = fresh()
    state.apply_block(block(1), [said("RampA(uint256,uint256,uint256,uint256)", 20_000, 20_030, 1001, 1004)])
    assert state.curve(PAIRS[0].address) == HELD._replace(ramp=Ramp(20_000, 20_030, 1001, 1004))
    pairs = {pair.address for pair in PAIRS}
    assert state.apply_block(block(2), []) == pairs
    held = state.curve(PAIRS[0].address)
    assert held is not None
    assert held.amplification == 20_010
    # What is exchanged in a block is so at that block's A.
    given = held._replace(amplification=20_020).exchange(0, 1, 10**5 * UNIT).amount_out
    assert given != held.exchange(0, 1, 10**5 * UNIT).amount_out
    state.apply_block(block(3), [exchanged(0, 10**5 * UNIT, 1, given)])
    assert state.unusable() == {}
    assert state.apply_block(block(4), []) == pairs
    assert state.apply_block(block(5), []) == frozenset()
    held = state.curve(PAIRS[0].address)
    assert held is not None
    assert (held.amplification, held.ramp) == (20_030, None)
    state.undo_to(block(2))
    state.apply_block(block(3), [said("StopRampA(uint256,uint256)", 20_020, 1003)])
    assert state.curve(PAIRS[0].address) == HELD._replace(amplification=20_020)


def test_nobody_else_tells_of_a_pool() -> None:
    state = fresh()
    logs = [
        exchanged(0, 5, 1, 5, by=b"\x07" * 20),
        exchanged(0, 5, 1, 5, by=PAIRS[0].address),
        said("Sync(uint112,uint112)", 1, 1),
        said("Sync(uint112,uint112)", 1, 1, by=PAIRS[0].address),
        Log(POOL, (), b"", 0, bytes(32)),
    ]
    assert state.apply_block(block(1), logs) == frozenset()
    assert state.states() == fresh().states()


@pytest.mark.parametrize(
    ("log", "why"),
    [
        (exchanged(0, 1000 * UNIT, 1, 1000 * UNIT), "as its formula says"),
        (exchanged(0, 1000 * UNIT, 0, 1), "no pair of this pool"),
        (exchanged(-1, 1000 * UNIT, 1, 1), "no pair of this pool"),
        (exchanged(0, 2**255, 3, 1), "no pair of this pool"),
        (exchanged(0, 2**255, 1, 1), "would not make"),
        (provided("RemoveLiquidity", 10**7 * UNIT, 0, 0, 0, 0, 0, 0), "less than nothing"),
        (provided("AddLiquidity", 2**255, 0, 0, 0, 0, 0, 0, 0), "more than there can be"),
        (provided("AddLiquidity", 0, 0, 0, 2**255, 0, 0, 0, 0), "less than nothing"),
        (
            said(
                "AddLiquidity(address,uint256[2],uint256[2],uint256,uint256)", *[1] * 6, topics=(STRANGER,)
            ),
            "another number of coins",
        ),
        (said("NewFee(uint256,uint256)", 10**10, 0), "is none"),
        (said("NewFee(uint256,uint256)", 0, 10**10 + 1), "is none"),
        (said("RampA(uint256,uint256,uint256,uint256)", 20_000, 0, 1001, 1002), "is none"),
        (said("RampA(uint256,uint256,uint256,uint256)", 20_000, 2**255, 1001, 1002), "is none"),
        (said("RampA(uint256,uint256,uint256,uint256)", 20_000, 20_001, 1003, 1002), "another time"),
        (said("RampA(uint256,uint256,uint256,uint256)", 20_000, 20_001, 1002, 1003), "another time"),
        (
            said(
                "TokenExchangeUnderlying(address,int128,uint256,int128,uint256)", 0, 1, 1, 1, topics=(STRANGER,)
            ),
            "no plain pool",
        ),
    ],
)  # fmt: skip
def test_what_contradicts_itself_is_left_alone_until_it_is_undone(log: Log, why: str) -> None:
    state = fresh()
    state.apply_block(block(1), [log])
    assert {pair.address for pair in PAIRS} == state.unusable().keys()
    assert why in state.unusable()[PAIRS[0].address]
    assert state.curve(PAIRS[0].address) is None
    # Nothing that follows makes it good again, and nobody is asked.
    state.apply_block(block(2), [provided("AddLiquidity", 1, 1, 1, 0, 0, 0, 0, 0)])
    assert why in state.unusable()[PAIRS[1].address]
    state.undo_to(block(0))
    assert state.states() == fresh().states()


def test_a_malformed_log_of_its_own_is_refused_whole() -> None:
    state = fresh()
    good = provided("RemoveLiquidity", 1, 1, 1, 0, 0, 0, 1)
    with pytest.raises(AbiError):
        state.apply_block(block(1), [good, said("NewFee(uint256,uint256)", 1)])
    assert state.states() == fresh().states()
    assert state.block == block(0)


def test_a_snapshot_leaves_them_to_be_read_anew(tmp_path: Path) -> None:
    path, pair = tmp_path / "market", Pool(b"\x01" * 20, "uniswap_v2", *TOKENS[1:], 997, 1000)
    state = fresh()
    state.apply_block(block(1), [said("RemoveLiquidityOne(address,uint256,uint256)", 1, 1, topics=(STRANGER,))])
    assert {type(state.held(each.address)) for each in PAIRS} == {Unread}
    save(path, 1, block(1), {**state.states(), pair: V2State(5, 7, 0)})
    assert load(path, 1) == (block(1), {pair: V2State(5, 7, 0)})


@dataclass
class Answers:
    """What a pool answers that holds `curve`; `own` what it says otherwise, None where it reverts. `lie` is added to what it gives."""

    key: CurveKey = KEY
    curve: CurvePool = HELD
    own: dict[str, int | bytes | None] = field(default_factory=dict)
    lie: int = 0
    decimals: tuple[int, ...] = (18, 18, 6)
    real: tuple[int, ...] = ()
    away: bool = False
    # The node has the block for the first message and not for the second one, as one of several behind an address may.
    lost: bool = False
    at: Block = GENESIS
    cached: tuple[int, int] | None = None

    def answer(self, to: bytes, data: bytes) -> bytes | None:
        curve, pool = self.curve, self.key.pool
        if to in self.key.coins and data[:4] == selector("decimals()"):
            return encode(["uint8"], [self.decimals[self.key.coins.index(to)]])
        if to in self.key.coins and data[:4] == selector("balanceOf(address)"):
            return encode(["uint256"], [(self.real or curve.balances)[self.key.coins.index(to)]])
        if to == self.key.base:
            return encode(["uint256"], [curve.rates[1]]) if self.cached is None else encode(["uint256"], [UNIT])
        assert to == pool
        if data[:4] == selector("get_dy(int128,int128,uint256)"):
            i, j, amount = decode(["int128", "int128", "uint256"], data[4:])
            try:
                return encode(["uint256"], [curve.get_dy(i, j, amount) + self.lie])
            except AmmError:
                return None
        kind = "int128" if self.key.signed else "uint256"
        for question, held in ((f"coins({kind})", self.key.coins), (f"balances({kind})", curve.balances)):
            if data[:4] == selector(question):
                place = int.from_bytes(data[4:], "big")
                said = self.own.get(f"{question[:5]}{place}", held[place] if place < len(held) else None)
                return None if said is None else said.rjust(32, b"\0") if isinstance(said, bytes) else word(said)
        ramp = curve.ramp or Ramp(curve.amplification, curve.amplification, 0, 0)
        told: dict[str, int | bytes | None] = {
            "A()": curve.amplification // curve.precision,
            "A_precise()": curve.amplification if curve.version is Version.SECOND else None,
            **dict(zip(("initial_A()", "future_A()", "initial_A_time()", "future_A_time()"), ramp, strict=True)),
            "fee()": curve.fee,
            "admin_fee()": curve.admin_fee,
            "base_pool()": self.key.base,
            **(
                dict(zip(("base_virtual_price()", "base_cache_updated()"), self.cached, strict=True))
                if self.cached
                else {}
            ),
            **self.own,
        }
        for question, said in told.items():
            if data[:4] == selector(question):
                return None if said is None else said.rjust(32, b"\0") if isinstance(said, bytes) else word(said)
        return None

    async def batch(self, calls: Iterable[tuple[str, Any]]) -> list[object]:
        answers: list[object] = []
        for _, (call, pinned) in calls:
            assert pinned == {"blockHash": "0x" + self.at.hash.hex()}
            if self.away:
                raise RpcError(-32000, "header not found")
            if self.lost and call["data"].startswith("0x" + selector("get_dy(int128,int128,uint256)").hex()):
                answers.append(RpcError(-32000, "header not found"))
                continue
            found = self.answer(bytes.fromhex(call["to"][2:]), bytes.fromhex(call["data"][2:]))
            answers.append(RpcError(3, "execution reverted") if found is None else "0x" + found.hex())
        return answers


def word(value: int) -> bytes:
    return value.to_bytes(32, "big")


def read(answers: Answers) -> dict[Pool, object]:
    config = CurvePoolConfig(name="threepool", address=EvmAddress(answers.key.pool))
    rpc: Rpc = answers  # type: ignore[assignment]
    return dict(asyncio.run(read_curve(rpc, [config], TOKENS, block(0))))


def test_a_pool_is_what_it_answers_as() -> None:
    assert read(Answers()) == dict.fromkeys(PAIRS, HELD)
    first = HELD._replace(version=Version.FIRST, amplification=200)
    older = CurveKey(POOL, TOKENS, signed=True)
    assert {pool.curve for pool in read(Answers(older, first))} == {older}
    assert {*read(Answers(older, first)).values()} == {first}
    moving = HELD._replace(ramp=Ramp(10_000, 30_000, 500, 1500))
    assert read(Answers(curve=moving)) == dict.fromkeys(PAIRS, moving)
    assert {*read(Answers(META_KEY, OF_META)).values()} == {OF_META}
    # What it remembers of its base pool's price counts for ten minutes.
    fresh_one, stale = (OF_META.rates[1], 400), (UNIT, 399)
    assert {*read(Answers(META_KEY, OF_META, cached=fresh_one)).values()} == {OF_META}
    forgotten = OF_META._replace(rates=(UNIT, UNIT))
    assert {*read(Answers(META_KEY, forgotten, cached=(stale[0] + 1, stale[1]))).values()} == {forgotten}


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        (Answers(lie=1), "does not give what its formula"),
        (Answers(lie=-1), "does not give what its formula"),
        (Answers(own={"fee()": 10**7}), "does not give what its formula"),
        (Answers(decimals=(18, 18, 8)), "does not give what its formula"),
        (Answers(own={"fee()": None}), "reverted"),
        (Answers(own={"admin_fee()": None}), "reverted"),
        (Answers(own={"fee()": 10**10}), "is none"),
        (Answers(own={"A_precise()": 20_001}), "what its ramp says"),
        (Answers(own={"future_A()": 30_000, "future_A_time()": 2000}), "what its ramp says"),
        (Answers(own={"initial_A_time()": 3000, "future_A_time()": 3000}), "what its ramp says"),
        (Answers(own={"initial_A_time()": 3000, "future_A_time()": 2000}), "what its ramp says"),
        (Answers(own={"initial_A()": None}), "reverted"),
        (Answers(own={"gamma()": 1}), "crypto pool"),
        (Answers(own={"offpeg_fee_multiplier()": 1}), "its fee moves"),
        (Answers(own={"stored_rates()": 1}), "told by no event"),
        (Answers(own={"oracle_method()": 1}), "an oracle's"),
        (Answers(own={"underlying_coins(int128)": TOKENS[0]}), "it lends"),
        (Answers(own={"is_killed()": 1}), "it is killed"),
        (Answers(CurveKey(POOL, TOKENS, BASE)), "a meta pool of 3 coins"),
        (Answers(CurveKey(POOL, (*TOKENS[:2], b"\xee" * 20))), "the native one"),
        (Answers(CurveKey(POOL, (*TOKENS[:2], TOKENS[0]))), "one of them twice"),
        (Answers(CurveKey(POOL, ())), "0 coins"),
        (Answers(decimals=(18, 18, 37)), "37 decimals"),
        (Answers(curve=HELD._replace(balances=(0, 0, 0))), "next to nothing"),
        (Answers(own={"balan0": 2**200}, real=(2**201,) * 3), "more of a coin than there can be"),
        (Answers(real=(10**6 * UNIT - 1, 2 * 10**6 * UNIT, 10**12)), "less of a coin than it says"),
        (Answers(META_KEY, OF_META._replace(rates=(UNIT, 0))), "worth nothing"),
    ],
)
def test_a_pool_that_does_not_answer_as_what_it_seems_is_left_out(answers: Answers, why: str) -> None:
    with capture_logs() as told:
        assert read(answers) == {}
    [left_out] = told
    assert (left_out["event"], left_out["pool"]) == ("pool left out", "0x" + answers.key.pool.hex())
    assert why in left_out["reason"]


def test_what_no_event_says_is_asked_after_the_block() -> None:
    def asked(state: MarketState, answers: Answers) -> frozenset[bytes]:
        rpc: Rpc = answers  # type: ignore[assignment]
        return asyncio.run(ask_curves(rpc, state, state.block))

    plain = MarketState(block(0), dict.fromkeys(PAIRS, HELD))
    # Of a plain pool whose events said all nobody is asked.
    assert asked(plain, Answers(away=True)) == frozenset()
    addresses = frozenset(pair.address for pair in PAIRS)
    withdrawn = said("RemoveLiquidityOne(address,uint256,uint256,uint256)", 5, 5, 5, topics=(STRANGER,))
    plain.apply_block(block(1), [withdrawn])
    now = HELD._replace(balances=(10**6 * UNIT - 5, 2 * 10**6 * UNIT, 10**12))
    with capture_logs() as told:
        assert asked(plain, Answers(curve=now, away=True, at=block(1))) == addresses
    assert [each["event"] for each in told] == ["curve pools not asked"]
    assert {*plain.unusable().values()} == {"the node did not say what it holds"}
    assert asked(plain, Answers(curve=now, at=block(1))) == addresses
    assert plain.curve(PAIRS[0].address) == now
    assert plain.undo_to(block(0)) == addresses
    assert plain.states() == dict.fromkeys(PAIRS, HELD)
    # One that gives something else than it should is not asked again.
    plain.apply_block(block(1), [withdrawn])
    assert asked(plain, Answers(curve=now, lie=1, at=block(1))) == addresses
    assert {*plain.unusable().values()} == {"it does not give what its formula would"}
    assert asked(plain, Answers(curve=now, at=block(1))) == frozenset()
    # A meta pool is asked each time: its base pool's price has no event.
    meta = MarketState(block(0), {META: OF_META})
    assert asked(meta, Answers(META_KEY, OF_META)) == frozenset()
    dearer = OF_META._replace(rates=(UNIT, OF_META.rates[1] + 7))
    meta.apply_block(block(1), [])
    assert asked(meta, Answers(META_KEY, dearer, at=block(1))) == {META.address}
    assert meta.curve(META.address) == dearer
    meta.apply_block(block(2), [exchanged(0, 5, 1, 5, by=STRANGER)])
    assert isinstance(meta.held(META.address), Unread)
    assert asked(meta, Answers(META_KEY, dearer, at=block(2))) == {META.address}
    assert meta.undo_to(block(0)) == {META.address}
    assert meta.states() == {META: OF_META}


def test_a_node_that_loses_the_block_between_two_messages_leaves_no_pool_alone_for_good() -> None:
    def asked(answers: Answers) -> None:
        asyncio.run(ask_curves(answers, meta, meta.block))  # type: ignore[arg-type]

    meta = MarketState(block(0), {META: OF_META})
    asked(Answers(META_KEY, OF_META, lost=True))
    assert {*meta.unusable().values()} == {"it did not say what it gives: header not found"}
    meta.apply_block(block(1), [])
    asked(Answers(META_KEY, OF_META, at=block(1)))
    assert meta.curve(META.address) == OF_META
