"""Balancer pools of several tokens follow their vault's events and their own, all pairs of one together, find back, and are left out where they do not answer as what they seem."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from eth_abi.abi import decode, encode
from mev.chain.abi import AbiError, event_topic, selector
from mev.chain.errors import RpcError
from mev.chain.wire import Log
from mev.domain import BalancerKey, Block, Pool, V2State
from mev.market import balancer_state
from mev.market.amm.balancer import StablePool, StableRounding, WeightedPool
from mev.market.balancer_state import pair_of, read_balancer
from mev.market.snapshot import load, save
from mev.market.state import MarketState, PoolState
from mev.runtime.config import BalancerVaultConfig, EvmAddress, PoolId
from structlog.testing import capture_logs

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from mev.chain.rpc import Rpc

UNIT = 10**18
VAULT, STRANGER = b"\x0f" * 20, b"\x0e" * 20
TOKENS = (b"\xaa" * 20, b"\xbb" * 20, b"\xcc" * 20)
ID, OTHER_ID = b"\x01" * 32, b"\x02" * 32
KEY, OTHER = BalancerKey(VAULT, ID, TOKENS), BalancerKey(VAULT, OTHER_ID, TOKENS[:2])
PAIRS = [pair_of("balancer_v2", KEY, i, j) for i, j in ((0, 1), (0, 2), (1, 2))]
TWO = pair_of("balancer_v2", OTHER, 0, 1)
HELD = WeightedPool((10 * UNIT, 20 * UNIT, 30 * UNIT), (UNIT // 2, UNIT // 4, UNIT // 4), (UNIT,) * 3, 10**15, False)
CURVE = StablePool((10 * UNIT, 20 * UNIT), (UNIT,) * 2, 200_000, 10**15, StableRounding.UP)


def block(number: int) -> Block:
    return Block(number, (number + 1).to_bytes(32, "big"), number.to_bytes(32, "big"), 0, 0)


def fresh() -> MarketState:
    states: dict[Pool, PoolState] = {**dict.fromkeys(PAIRS, HELD), TWO: CURVE}
    return MarketState(block(0), states)


def said(by: bytes, event: str, topics: Iterable[bytes] = (), data: bytes = b"") -> Log:
    return Log(by, (event_topic(event), *(topic.rjust(32, b"\0") for topic in topics)), data, 0, bytes(32))


def words(*values: int) -> bytes:
    return b"".join((value % 2**256).to_bytes(32, "big") for value in values)


def swap(token_in: bytes, token_out: bytes, *amounts: int, identity: bytes = ID, by: bytes = VAULT) -> Log:
    return said(by, "Swap(bytes32,address,address,uint256,uint256)", (identity, token_in, token_out), words(*amounts))


def changed(*deltas: int, fees: tuple[int, ...] = (0, 0, 0)) -> Log:
    event = "PoolBalanceChanged(bytes32,address,address[],int256[],uint256[])"
    data = encode(["address[]", "int256[]", "uint256[]"], [["0x" + each.hex() for each in TOKENS], deltas, fees])
    return said(VAULT, event, (ID, STRANGER), data)


def test_all_pairs_of_a_pool_change_together_and_go_back() -> None:
    state = fresh()
    addresses = {pair.address for pair in PAIRS}
    assert state.apply_block(block(1), [swap(TOKENS[0], TOKENS[2], 5, 7)]) == addresses
    moved = HELD._replace(balances=(10 * UNIT + 5, 20 * UNIT, 30 * UNIT - 7))
    assert {state.balancer(pair.address) for pair in PAIRS} == {moved}
    assert state.balancer(TWO.address) is CURVE
    managed = said(
        VAULT, "PoolBalanceManaged(bytes32,address,address,int256,int256)", (ID, STRANGER, TOKENS[1]), words(-9, 11)
    )
    fee = said(ID[:20], "SwapFeePercentageChanged(uint256)", data=words(10**16))
    # What the protocol took was in the pool, or is taken off what comes in.
    assert state.apply_block(block(2), [changed(4, -3, 0, fees=(1, 1, 2)), managed, fee]) == addresses
    now = moved._replace(balances=(10 * UNIT + 5 + 3, 20 * UNIT - 4 + 2, 30 * UNIT - 7 - 2), fee=10**16)
    assert {state.balancer(pair.address) for pair in PAIRS} == {now}
    assert state.undo_to(block(1)) == addresses
    assert {state.balancer(pair.address) for pair in PAIRS} == {moved}
    assert state.undo_to(block(0)) == addresses
    assert state.states() == fresh().states()


def test_nobody_else_tells_of_a_pool() -> None:
    state = fresh()
    fee = "SwapFeePercentageChanged(uint256)"
    logs = [
        swap(TOKENS[0], TOKENS[1], 5, 7, by=STRANGER),
        # A pool's own contract has nothing to say of balances, nor of another pool; a vault nothing of fees.
        swap(TOKENS[0], TOKENS[1], 5, 7, by=ID[:20]),
        swap(TOKENS[0], TOKENS[1], 5, 7, identity=b"\x03" * 32),
        said(STRANGER, fee, data=words(1)),
        said(VAULT, fee, data=words(1)),
        said(PAIRS[0].address, fee, data=words(1)),
        said(ID[:20], "Sync(uint112,uint112)", data=words(1, 1)),
        said(VAULT, "Sync(uint112,uint112)", data=words(1, 1)),
    ]
    assert state.apply_block(block(1), logs) == frozenset()
    assert state.states() == fresh().states()


@pytest.mark.parametrize(
    ("log", "why"),
    [
        (swap(TOKENS[0], STRANGER, 5, 7), "did not have"),
        (swap(TOKENS[0], TOKENS[1], 5, 21 * UNIT), "less than nothing"),
        (swap(TOKENS[0], TOKENS[1], 2**255, 1), "more than it can hold"),
        (changed(-(2**255), 0, 0), "less than nothing"),
        (said(ID[:20], "SwapFeePercentageChanged(uint256)", data=words(UNIT)), "is none"),
        (said(VAULT, "PausedStateChanged(bool)", data=words(1)), "vault was paused"),
    ],
)
def test_what_contradicts_itself_is_left_alone_until_it_is_undone(log: Log, why: str) -> None:
    state = fresh()
    state.apply_block(block(1), [log])
    assert {pair.address for pair in PAIRS} <= state.unusable().keys()
    assert why in state.unusable()[PAIRS[0].address]
    assert state.balancer(PAIRS[0].address) is None
    # Nothing that follows makes it good again.
    state.apply_block(block(2), [swap(TOKENS[0], TOKENS[1], 1, 1)])
    assert why in state.unusable()[PAIRS[1].address]
    state.undo_to(block(0))
    assert state.states() == fresh().states()


@pytest.mark.parametrize(
    "log",
    [
        swap(TOKENS[0], TOKENS[1], 5),
        said(ID[:20], "SwapFeePercentageChanged(uint256)", data=b"\1"),
        said(VAULT, "PoolBalanceChanged(bytes32,address,address[],int256[],uint256[])", (ID, STRANGER), words(2**255)),
    ],
)
def test_a_malformed_log_of_its_own_is_refused_whole(log: Log) -> None:
    state = fresh()
    with pytest.raises(AbiError):
        state.apply_block(block(1), [swap(TOKENS[0], TOKENS[1], 5, 7), log])
    assert state.states() == fresh().states()
    assert state.block == block(0)


def test_a_pool_that_is_paused_comes_back_as_it_was_left() -> None:
    state = fresh()
    paused, goes_on = (said(OTHER_ID[:20], "PausedStateChanged(bool)", data=words(each)) for each in (1, 0))
    assert state.apply_block(block(1), [paused]) == {TWO.address}
    assert state.unusable() == {TWO.address: "it is paused"}
    left = swap(TOKENS[0], TOKENS[1], 5, 7, identity=OTHER_ID)
    state.apply_block(block(2), [left, goes_on])
    assert state.balancer(TWO.address) == CURVE._replace(balances=(10 * UNIT + 5, 20 * UNIT - 7))
    state.undo_to(block(1))
    assert state.unusable() == {TWO.address: "it is paused"}
    moving = said(
        OTHER_ID[:20], "AmpUpdateStarted(uint256,uint256,uint256,uint256)", data=words(200_000, 300_000, 5, 9)
    )
    state.undo_to(block(0))
    state.apply_block(block(1), [moving])
    assert "amplification is moving" in state.unusable()[TWO.address]


def test_a_snapshot_leaves_them_to_be_read_anew(tmp_path: Path) -> None:
    path, pair = tmp_path / "market", Pool(b"\x01" * 20, "uniswap_v2", *TOKENS[:2], 997, 1000)
    state = fresh()
    state.apply_block(block(1), [said(OTHER_ID[:20], "PausedStateChanged(bool)", data=words(1))])
    save(path, 1, block(1), {**state.states(), pair: V2State(5, 7, 0)})
    assert load(path, 1) == (block(1), {pair: V2State(5, 7, 0)})


@dataclass
class Answers:
    """What a vault and a pool answer; `gives` is what the vault's query says of a swap."""

    tokens: list[bytes] = field(default_factory=lambda: list(TOKENS))
    balances: list[int] = field(default_factory=lambda: list(HELD.balances))
    at: bytes = ID[:20]
    own: dict[str, tuple[list[str], list[Any]]] = field(default_factory=dict)
    decimals: int = 18
    gives: WeightedPool | StablePool = HELD
    lie: int = 0

    def answer(self, to: bytes, data: bytes) -> bytes | None:
        told: dict[str, tuple[list[str], list[Any]]] = {
            "getPausedState()": (["bool", "uint256", "uint256"], [False, 0, 0]),
            "getPoolTokens(bytes32)": (
                ["address[]", "uint256[]", "uint256"],
                [["0x" + each.hex() for each in self.tokens], self.balances, 0],
            ),
            "getPool(bytes32)": (["address", "uint8"], ["0x" + self.at.hex(), 0]),
            "decimals()": (["uint8"], [self.decimals]),
        }
        if to == ID[:20]:
            told = {
                "getPausedState()": told["getPausedState()"],
                "getPoolId()": (["bytes32"], [ID]),
                "getSwapFeePercentage()": (["uint256"], [HELD.fee]),
                "getNormalizedWeights()": (["uint256[]"], [HELD.weights]),
                **self.own,
            }
        for signature, (types, values) in told.items():
            if data[:4] == selector(signature):
                return encode(types, values) if types else None
        if data[:4] == balancer_state.QUERY:
            return self.query(data)
        return None

    def query(self, data: bytes) -> bytes | None:
        swaps, assets = decode(["uint8", "(bytes32,uint256,uint256,uint256,bytes)[]", "address[]"], data[4:])[1:]
        ends = [self.tokens.index(bytes.fromhex(each[2:])) for each in assets]
        [(identity, one, other, amount, _)] = swaps
        assert identity == ID
        given = self.gives.amount_out(ends[one], ends[other], amount) + self.lie
        return encode(["int256[]"], [[amount, -given]])

    async def batch(self, calls: Iterable[tuple[str, Any]]) -> list[object]:
        answers: list[object] = []
        for _, (call, pinned) in calls:
            assert pinned == {"blockHash": "0x" + block(0).hash.hex()}
            found = self.answer(bytes.fromhex(call["to"][2:]), bytes.fromhex(call["data"][2:]))
            answers.append(RpcError(3, "execution reverted") if found is None else "0x" + found.hex())
        return answers


def read(answers: Answers) -> dict[Pool, object]:
    config = BalancerVaultConfig(name="balancer_v2", address=EvmAddress(VAULT), pools=(PoolId(ID),))
    rpc: Rpc = answers  # type: ignore[assignment]
    return dict(asyncio.run(read_balancer(rpc, [config], TOKENS, block(0))))


def test_a_pool_is_what_it_answers_as() -> None:
    assert read(Answers()) == dict.fromkeys(PAIRS, HELD)
    # Multiplied out where the ratio of weights is one, two or four: the version that answers so.
    newer = HELD._replace(shortcuts=True)
    assert read(Answers(gives=newer)) == dict.fromkeys(PAIRS, newer)


NONE: tuple[list[str], list[Any]] = ([], [])


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        (Answers(lie=1), "does not give"),
        (Answers(gives=HELD._replace(fee=10**16)), "does not give"),
        (Answers(at=STRANGER), "another pool under this id"),
        (Answers(own={"getPoolId()": (["bytes32"], [OTHER_ID])}), "another id"),
        (Answers(own={"getPoolId()": NONE}), "reverted"),
        (Answers(own={"getPausedState()": (["bool", "uint256", "uint256"], [True, 0, 0])}), "paused"),
        (Answers(own={"getSwapFeePercentage()": (["uint256"], [UNIT])}), "a fee of"),
        (Answers(own={"getNormalizedWeights()": NONE}), "neither"),
        (Answers(own={"getNormalizedWeights()": (["uint256[]"], [[UNIT, 0, 0]])}), "weights are none"),
        (Answers(own={"getNormalizedWeights()": (["uint256[]"], [[UNIT // 2, UNIT // 2]])}), "2 weights for 3"),
        (Answers(own={"getNormalizedWeights()": (["uint256[]"], [[1] * 300])}), "300 items"),
        (Answers(own={"getSwapEnabled()": (["bool"], [True])}), "somebody moves"),
        (Answers(own={"getScalingFactors()": (["uint256[]"], [[UNIT, UNIT, UNIT + 1]])}), "rates"),
        (Answers(tokens=[TOKENS[0], TOKENS[1], TOKENS[1]]), "twice"),
        (Answers(balances=[UNIT, UNIT]), "not every one"),
        (Answers(balances=[UNIT, UNIT, 2**112]), "more of one"),
        (Answers(balances=[0, 0, 0]), "next to nothing"),
        (Answers(decimals=19), "19 decimals"),
        (
            Answers(
                own={
                    "getNormalizedWeights()": NONE,
                    "getAmplificationParameter()": (["uint256", "bool", "uint256"], [200_000, True, 1000]),
                }
            ),
            "amplification is moving",
        ),
        (
            Answers(
                own={
                    "getNormalizedWeights()": NONE,
                    "getAmplificationParameter()": (["uint256", "bool", "uint256"], [200_000, False, 1000]),
                    "getRateProviders()": (["address[]"], [["0x" + 40 * "0"] * 2 + ["0x" + 40 * "5"]]),
                }
            ),
            "rate providers",
        ),
    ],
)
def test_a_pool_that_does_not_answer_as_what_it_seems_is_left_out(answers: Answers, why: str) -> None:
    with capture_logs() as told:
        assert read(answers) == {}
    [left_out] = told
    assert (left_out["event"], left_out["pool"]) == ("pool left out", "0x" + ID.hex())
    assert why in left_out["reason"]
