"""Events: every layout against eth_abi, topics against what the chains have, and what is none of them."""

from __future__ import annotations

from typing import Any

import pytest
from eth_abi.abi import encode
from hypothesis import given, settings
from hypothesis import strategies as st
from mev.chain.abi import SYNC, event_topic
from mev.chain.abi.logs import MAX_COINS, decode_log, known_topics
from mev.domain import events

from tests.unit.mev.chain.values import strategy

EVENTS: list[tuple[str, list[int], Any]] = [
    # signature, positions of the indexed fields, what is expected of the fields
    ("Sync(uint112,uint112)", [], events.Sync),
    ("Sync(uint256,uint256)", [], events.Sync),
    ("Swap(address,uint256,uint256,uint256,uint256,address)", [0, 5], events.PairSwap),
    (
        "Swap(address,address,uint256,uint256,uint256,uint256)",
        [0, 1],
        lambda sender, to, one, two, three, four: events.PairSwap(sender, one, two, three, four, to),
    ),
    ("Mint(address,uint256,uint256)", [0], events.PairMint),
    ("Burn(address,uint256,uint256,address)", [0, 3], events.PairBurn),
    (
        "Burn(address,address,uint256,uint256)",
        [0, 1],
        lambda sender, to, one, two: events.PairBurn(sender, one, two, to),
    ),
    ("Fees(address,uint256,uint256)", [0], events.PairFees),
    ("PairCreated(address,address,address,uint256)", [0, 1], events.PairCreated),
    ("PoolCreated(address,address,bool,address,uint256)", [0, 1, 2], events.SolidlyPoolCreated),
    ("Initialize(uint160,int24)", [], events.PoolInitialized),
    ("Swap(address,address,int256,int256,uint160,uint128,int24)", [0, 1], events.PoolSwap),
    ("Swap(address,address,int256,int256,uint160,uint128,int24,uint128,uint128)", [0, 1], events.PancakePoolSwap),
    ("Mint(address,address,int24,int24,uint128,uint256,uint256)", [1, 2, 3], events.PoolMint),
    ("Burn(address,int24,int24,uint128,uint256,uint256)", [0, 1, 2], events.PoolBurn),
    ("Fee(uint16)", [], events.FeeChanged),
    ("Fee(uint16,uint16)", [], events.FeesChanged),
    ("PoolCreated(address,address,uint24,int24,address)", [0, 1, 2], events.PoolCreated),
    ("Initialize(bytes32,address,address,uint24,int24,address,uint160,int24)", [0, 1, 2], events.V4Initialized),
    ("ModifyLiquidity(bytes32,address,int24,int24,int256,bytes32)", [0, 1], events.V4LiquidityModified),
    ("Swap(bytes32,address,int128,int128,uint160,uint128,int24,uint24)", [0, 1], events.V4Swap),
    ("TokenExchange(address,int128,uint256,int128,uint256)", [0], events.CurveExchange),
    ("TokenExchange(address,uint256,uint256,uint256,uint256)", [0], events.CurveExchange),
    (
        "TokenExchangeUnderlying(address,int128,uint256,int128,uint256)",
        [0],
        lambda buyer, sold, paid, bought, given_out: events.CurveExchange(buyer, sold, paid, bought, given_out, True),
    ),
    ("RemoveLiquidityOne(address,uint256,uint256)", [0], events.CurveWithdrawal),
    (
        "RemoveLiquidityOne(address,uint256,uint256,uint256)",
        [0],
        lambda provider, tokens, amount, _: events.CurveWithdrawal(provider, tokens, amount),
    ),
    (
        "RemoveLiquidityOne(address,int128,uint256,uint256,uint256)",
        [0],
        lambda provider, coin, tokens, amount, _: events.CurveWithdrawal(provider, tokens, amount, coin),
    ),
    ("RampA(uint256,uint256,uint256,uint256)", [], events.CurveRampStarted),
    ("StopRampA(uint256,uint256)", [], events.CurveRampStopped),
    ("NewFee(uint256,uint256)", [], events.CurveFeesSet),
    ("ApplyNewFee(uint256)", [], events.CurveFeesSet),
    ("Swap(bytes32,address,address,uint256,uint256)", [0, 1, 2], events.BalancerSwap),
    *(
        event
        for coins in ("2", "3", "4", "8", "")
        for event in (
            (
                f"AddLiquidity(address,uint256[{coins}],uint256[{coins}],uint256,uint256)",
                [0],
                lambda provider, amounts, fees, _, supply: events.CurveLiquidity(provider, amounts, fees, supply, True),
            ),
            (
                f"RemoveLiquidity(address,uint256[{coins}],uint256[{coins}],uint256)",
                [0],
                lambda provider, amounts, fees, supply: events.CurveLiquidity(provider, amounts, fees, supply, False),
            ),
        )
    ),
]


@pytest.mark.parametrize(("signature", "indexed", "expected"), EVENTS, ids=[event[0] for event in EVENTS])
@given(st.data())
@settings(max_examples=15)
def test_events_are_decoded_as_eth_abi_encodes_them(
    signature: str, indexed: list[int], expected: Any, data: st.DataObject
) -> None:
    types = signature[signature.index("(") + 1 : -1].split(",")
    values = [data.draw(strategy(each)) for each in types]
    topics = [event_topic(signature), *(encode([types[each]], [values[each]]) for each in indexed)]
    rest = [each for each in range(len(types)) if each not in indexed]
    body = encode([types[each] for each in rest], [values[each] for each in rest])
    assert decode_log(topics, body) == expected(*values)


@given(
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=20, max_size=20),
    st.lists(st.tuples(strategy("address"), strategy("int256"), strategy("uint256")), max_size=6),
)
def test_balancer_s_joins_and_exits(pool: bytes, provider: bytes, changes: list[tuple[bytes, int, int]]) -> None:
    tokens = [token for token, _, _ in changes]
    deltas = [delta for _, delta, _ in changes]
    fees = [fee for _, _, fee in changes]
    topic = event_topic("PoolBalanceChanged(bytes32,address,address[],int256[],uint256[])")
    body = encode(["address[]", "int256[]", "uint256[]"], [tokens, deltas, fees])
    assert decode_log([topic, pool, bytes(12) + provider], body) == events.BalancerBalanceChanged(
        pool, provider, tuple(tokens), tuple(deltas), tuple(fees)
    )


@pytest.mark.parametrize(
    ("signature", "topic"),
    [
        ("Swap(address,uint256,uint256,uint256,uint256,address)", "d78ad95fa46c994b6551d0da85fc275fe613ce37657fb8d5e3d130840159d822"),
        ("Swap(address,address,int256,int256,uint160,uint128,int24)", "c42079f94a6350d7e6235f29174924f928cc2ac818eb64fed8004e115fbcca67"),
        ("Mint(address,address,int24,int24,uint128,uint256,uint256)", "7a53080ba414158be7ec69b987b5fb7d07dee101fe85488f0853ae16239d0bde"),
        ("Burn(address,int24,int24,uint128,uint256,uint256)", "0c396cd989a39f4459b5fa1aed6a9a8dcdbc45908acfd67e028cd568da98982c"),
        ("Swap(bytes32,address,address,uint256,uint256)", "2170c741c41531aec20e7c107c24eecfdd15e69c9bb0a8dd37b1840b9e0b207b"),
        ("TokenExchange(address,int128,uint256,int128,uint256)", "8b3e96f2b889fa771c53c981b40daf005f63f637f1869f707052d15a3dd97140"),
        ("Swap(bytes32,address,int128,int128,uint160,uint128,int24,uint24)", "40e9cecb9f5f1f1c5b9c97dec2917b7ee92e57ba5563708daca94dd84ad7112f"),
    ],
)  # fmt: skip
def test_topics_are_those_of_the_chains(signature: str, topic: str) -> None:
    assert event_topic(signature).hex() == topic
    assert bytes.fromhex(topic) in known_topics()


words = st.binary(min_size=32, max_size=32)


@given(
    st.one_of(words, st.sampled_from(sorted(known_topics()))),
    st.lists(st.binary(max_size=40), max_size=4),
    st.binary(max_size=700),
)
@settings(max_examples=1000)
def test_hostile_logs_are_told_of_and_nothing_else(topic: bytes, topics: list[bytes], data: bytes) -> None:
    decoded = decode_log([topic, *topics], data)
    if topic not in known_topics():
        assert decoded == events.UnknownLog(topic)
    else:
        assert isinstance(decoded, events.MalformedLog | events.PoolEvent)


def test_logs_that_are_none() -> None:
    assert decode_log([], b"anything") == events.UnknownLog(b"")
    short = decode_log([SYNC], bytes(63))
    assert short == events.MalformedLog("Sync", "1 topics and 63 bytes: 1 and 64 are expected")
    large = decode_log([SYNC], (2**112).to_bytes(32, "big") + bytes(32))
    assert large == events.MalformedLog("Sync", "a number does not fit its type")


def test_an_array_that_claims_to_be_endless_costs_nothing() -> None:
    topic = event_topic("PoolBalanceChanged(bytes32,address,address[],int256[],uint256[])")
    for count in (2**31, 2**255, MAX_COINS + 1):
        body = encode(["uint256"] * 4, [96, 96, 96, count])
        decoded = decode_log([topic, bytes(32), bytes(32)], body)
        assert isinstance(decoded, events.MalformedLog)
