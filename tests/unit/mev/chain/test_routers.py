"""Routers' calldata against eth_abi, on recorded transactions too, and bytes that mean harm."""

from __future__ import annotations

import gzip
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from eth_abi.abi import decode, encode
from hypothesis import given, settings
from hypothesis import strategies as st
from mev.chain.abi import selector
from mev.chain.abi.paths import MAX_HOPS
from mev.chain.abi.routers import decode_call
from mev.chain.abi.universal import MAX_BYTES, MAX_CALLS
from mev.domain.calls import MalformedCall, RouterCall, RouterHop, RouterSwap, UnknownCall, Venue

ROOT = Path(__file__).parents[4]
BLOCKS = ROOT.parent / "shared" / "recorded" / "blocks"
A, B, C, ME, FACTORY = (bytes([number]) * 20 for number in range(1, 6))
V2_TYPES = ["uint256", "uint256", "address[]", "address", "uint256"]
KEY = "(address,address,uint24,int24,address)"


def call(signature: str, *arguments: Any) -> bytes:
    types = signature[signature.index("(") :]
    # One tuple of everything is not what a function's arguments are encoded as: its types are.
    return selector(signature) + encode(_split(types[1:-1]), arguments)


def _split(types: str) -> list[str]:
    parts, depth, start = [], 0, 0
    for position, character in enumerate(types):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and not depth:
            parts.append(types[start:position])
            start = position + 1
    return [*parts, types[start:]]


def v2(*tokens: bytes) -> tuple[RouterHop, ...]:
    return tuple(RouterHop(Venue.V2, *ends) for ends in itertools.pairwise(tokens))


TAIL = "address[],address,uint256)"
TAXED = "SupportingFeeOnTransferTokens"
V3_SINGLE = (A, B, 500, ME, 9, 7, 5, 3)
V3_HOP = RouterHop(Venue.V3, A, B, 500)
V4_HOP = RouterHop(Venue.V4, B, A, fee=500, tick_spacing=-10, hooks=C)
PATH = A + (500).to_bytes(3, "big") + B + (3000).to_bytes(3, "big") + C
HOPS = (RouterHop(Venue.V3, A, B, 500), RouterHop(Venue.V3, B, C, 3000))
BACK = (RouterHop(Venue.V3, C, B, 3000), RouterHop(Venue.V3, B, A, 500))
ROUTES = [(A, B, True, FACTORY), (B, C, False, bytes(20))]
SOLIDLY = (
    RouterHop(Venue.SOLIDLY, A, B, stable=True, factory=FACTORY),
    RouterHop(Venue.SOLIDLY, B, C, stable=False, factory=bytes(20)),
)
CALLS: list[tuple[bytes, RouterSwap]] = [
    (call(f"swapExactTokensForTokens(uint256,uint256,{TAIL}", 7, 5, [A, B, C], ME, 9), RouterSwap(v2(A, B, C), 7, 5, False, ME, 9)),
    (call(f"swapTokensForExactTokens(uint256,uint256,{TAIL}", 7, 5, [A, B], ME, 9), RouterSwap(v2(A, B), 7, 5, True, ME, 9)),
    (call(f"swapExactETHForTokens(uint256,{TAIL}", 5, [A, B], ME, 9), RouterSwap(v2(A, B), 33, 5, False, ME, 9, native_in=True)),
    (call(f"swapETHForExactTokens(uint256,{TAIL}", 5, [A, B], ME, 9), RouterSwap(v2(A, B), 5, 33, True, ME, 9, native_in=True)),
    (call(f"swapTokensForExactETH(uint256,uint256,{TAIL}", 7, 5, [A, B], ME, 9), RouterSwap(v2(A, B), 7, 5, True, ME, 9, native_out=True)),
    (call(f"swapExactTokensForETH{TAXED}(uint256,uint256,{TAIL}", 7, 5, [A, B], ME, 9), RouterSwap(v2(A, B), 7, 5, False, ME, 9, native_out=True)),
    (
        call(f"swapExactTokensForTokens{TAXED}(uint256,uint256,address[],address,address,uint256)", 7, 5, [A, B], ME, C, 9),
        RouterSwap(v2(A, B), 7, 5, False, ME, 9),
    ),
    (call("swapExactTokensForTokens(uint256,uint256,address[],address)", 7, 5, [A, B], ME), RouterSwap(v2(A, B), 7, 5, False, ME)),
    (
        call("exactInputSingle((address,address,uint24,address,uint256,uint256,uint256,uint160))", V3_SINGLE),
        RouterSwap((V3_HOP,), 7, 5, False, ME, 9, 3),
    ),
    (
        call("exactOutputSingle((address,address,uint24,address,uint256,uint256,uint160))", (A, B, 500, ME, 7, 5, 0)),
        RouterSwap((V3_HOP,), 7, 5, True, ME),
    ),
    (
        call("exactInputSingle((address,address,int24,address,uint256,uint256,uint256,uint160))", (A, B, -100, ME, 9, 7, 5, 0)),
        RouterSwap((RouterHop(Venue.SLIPSTREAM, A, B, tick_spacing=-100),), 7, 5, False, ME, 9),
    ),
    (
        call("exactInputSingle((address,address,address,uint256,uint256,uint256,uint160))", (A, B, ME, 9, 7, 5, 0)),
        RouterSwap((RouterHop(Venue.ALGEBRA, A, B),), 7, 5, False, ME, 9),
    ),
    (
        call("exactOutputSingle((address,address,address,uint256,uint256,uint256,uint160))", (A, B, ME, 9, 7, 5, 0)),
        RouterSwap((RouterHop(Venue.ALGEBRA, A, B),), 7, 5, True, ME, 9),
    ),
    (
        call("exactInputSingle((address,address,address,address,uint256,uint256,uint256,uint160))", (A, B, C, ME, 9, 7, 5, 3)),
        RouterSwap((RouterHop(Venue.ALGEBRA, A, B, deployer=C),), 7, 5, False, ME, 9, 3),
    ),
    (
        call("exactOutputSingle((address,address,address,address,uint256,uint256,uint256,uint160))", (A, B, bytes(20), ME, 9, 7, 5, 0)),
        RouterSwap((RouterHop(Venue.ALGEBRA, A, B, deployer=bytes(20)),), 7, 5, True, ME, 9),
    ),
    (
        call("exactInput((bytes,address,uint256,uint256,uint256))", (A + bytes(20) + B + bytes(20) + C, ME, 9, 7, 5)),
        RouterSwap((RouterHop(Venue.ALGEBRA, A, B), RouterHop(Venue.ALGEBRA, B, C)), 7, 5, False, ME, 9),
    ),
    (
        call("exactOutput((bytes,address,uint256,uint256))", (A + bytes(20) + B, ME, 7, 5)),
        RouterSwap((RouterHop(Venue.ALGEBRA, B, A),), 7, 5, True, ME),
    ),
    (call("exactInput((bytes,address,uint256,uint256,uint256))", (PATH, ME, 9, 7, 5)), RouterSwap(HOPS, 7, 5, False, ME, 9)),
    (call("exactOutput((bytes,address,uint256,uint256))", (PATH, ME, 7, 5)), RouterSwap(BACK, 7, 5, True, ME)),
    (
        call("exactInput((bytes,address,uint256,uint256,uint256))", (A + B + C, ME, 9, 7, 5)),
        RouterSwap((RouterHop(Venue.ALGEBRA, A, B), RouterHop(Venue.ALGEBRA, B, C)), 7, 5, False, ME, 9),
    ),
    (
        call("swapExactTokensForTokens(uint256,uint256,(address,address,bool,address)[],address,uint256)", 7, 5, ROUTES, ME, 9),
        RouterSwap(SOLIDLY, 7, 5, False, ME, 9),
    ),
    (
        call("swapExactETHForTokens(uint256,(address,address,bool)[],address,uint256)", 5, [(A, B, True)], ME, 9),
        RouterSwap((RouterHop(Venue.SOLIDLY, A, B, stable=True),), 33, 5, False, ME, 9, native_in=True),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("data", "swap"), CALLS, ids=range(len(CALLS)))
def test_a_swap_is_understood(data: bytes, swap: RouterSwap) -> None:
    decoded = decode_call(data, 33)
    assert isinstance(decoded, RouterCall)
    assert decoded.swaps == (swap,)


def test_a_multicall_is_its_calls() -> None:
    calls = [data for data, _ in CALLS[-4:]]
    others = [selector("unwrapWETH9(uint256,address)") + bytes(64), b"", b"abc"]
    for data in (
        call("multicall(bytes[])", [*calls, *others]),
        call("multicall(uint256,bytes[])", 9, [*others, *calls]),
        call("multicall(bytes32,bytes[])", bytes(32), [*others, *calls]),
        call("multicall(bytes[])", [call("multicall(bytes[])", [*calls, *others])]),
    ):
        decoded = decode_call(data, 33)
        assert isinstance(decoded, RouterCall)
        assert (decoded.swaps, decoded.others) == (tuple(swap for _, swap in CALLS[-4:]), len(others))


def test_universal_router() -> None:
    single = encode([f"({KEY},bool,uint128,uint128,bytes)"], [((A, B, 500, -10, C), False, 7, 5, b"hook")])
    keys = [(B, 500, 10, C, b""), (C, 3000, 60, bytes(20), b"x")]
    path = encode(["(address,(address,uint24,int24,address,bytes)[],uint128,uint128)"], [(A, keys, 7, 5)])
    v4_in = (RouterHop(Venue.V4, A, B, 500, 10, hooks=C), RouterHop(Venue.V4, B, C, 3000, 60, hooks=bytes(20)))
    v4_out = (RouterHop(Venue.V4, B, C, 500, 10, hooks=C), RouterHop(Venue.V4, C, A, 3000, 60, hooks=bytes(20)))
    settle = encode(["address", "uint256"], [A, 1])
    v4 = encode(["bytes", "bytes[]"], [bytes([6, 7, 8, 9, 0x0C]), [single, path, single, path, settle]])
    swap = ["address", "uint256", "uint256", "bytes", "bool"]
    pairs = ["address", "uint256", "uint256", "address[]", "bool"]
    plan = encode(["bytes", "bytes[]"], [b"\x08", [encode(pairs, [ME, 7, 5, [A, B], True])]])
    inputs = [
        b"a permit, of no interest",
        encode(swap, [ME, 7, 5, PATH, True]),
        encode(swap, [ME, 7, 5, PATH, False]),
        encode(pairs, [ME, 7, 5, [A, B], True]),
        v4,
        plan,
    ]
    commands = bytes([0x0A, 0x80, 0x01, 0x09, 0x10, 0x21])
    decoded = decode_call(call("execute(bytes,bytes[],uint256)", commands, inputs, 9))
    # In V4, the path of an exact output is written from its beginning, and its currency is the last one.
    backwards = RouterHop(Venue.V4, B, C, fee=500, tick_spacing=10, hooks=C)
    assert isinstance(decoded, RouterCall)
    assert decoded.swaps[:3] == (
        RouterSwap(HOPS, 7, 5, False, ME, 9, may_fail=True),
        RouterSwap(BACK, 7, 5, True, ME, 9, from_router=True),
        RouterSwap(v2(A, B), 7, 5, True, ME, 9),
    )
    assert decoded.swaps[3:7] == (
        RouterSwap((V4_HOP,), 7, 5, False, None, 9),
        RouterSwap(v4_in, 7, 5, False, None, 9),
        RouterSwap((V4_HOP,), 7, 5, True, None, 9),
        RouterSwap(v4_out, 7, 5, True, None, 9),
    )
    assert decoded.swaps[7:] == (RouterSwap(v2(A, B), 7, 5, False, ME, 9),)
    assert decoded.others == 2
    assert v4_out[0] == backwards


def test_what_is_no_call_of_a_router() -> None:
    assert decode_call(b"") == UnknownCall(b"")
    assert decode_call(b"\x38\xed\x17") == UnknownCall(b"")
    assert decode_call(b"\xde\xad\xbe\xef" + bytes(64)) == UnknownCall(b"\xde\xad\xbe\xef")


@pytest.mark.parametrize(
    "data",
    [
        CALLS[0][0][:-1],
        call(f"swapExactTokensForTokens(uint256,uint256,{TAIL}", 7, 5, [A], ME, 9),
        call(f"swapExactTokensForTokens(uint256,uint256,{TAIL}", 7, 5, [A] * (MAX_HOPS + 2), ME, 9),
        call("exactInput((bytes,address,uint256,uint256,uint256))", (PATH[:-1], ME, 9, 7, 5)),
        # The zero address is no token, and no deployer of one pool alone.
        call("exactInput((bytes,address,uint256,uint256,uint256))", (A + bytes(20) + B + C + A, ME, 9, 7, 5)),
        call("exactInput((bytes,address,uint256,uint256,uint256))", (bytes(20) + A, ME, 9, 7, 5)),
        call("exactInput((bytes,address,uint256,uint256,uint256))", (A + (23 * b"x") * (MAX_HOPS + 1), ME, 9, 7, 5)),
        selector(f"swapExactTokensForTokens(uint256,uint256,{TAIL}") + encode(["uint256"] * 5, [1, 2, 2**255, 4, 5]),
        selector(f"swapExactTokensForTokens(uint256,uint256,{TAIL}") + encode(["uint256"] * 6, [1, 2, 160, 4, 5, 2**31]),
        call("execute(bytes,bytes[])", b"\x00\x00", [b""]),
        CALLS[0][0] + bytes(MAX_BYTES),
    ],
)  # fmt: skip
def test_what_the_router_would_refuse(data: bytes) -> None:
    assert isinstance(decode_call(data), MalformedCall)


def nested(depth: int, width: int) -> bytes:
    """Calls within calls whose arrays all point at the same bytes: small to send, and more than anything to decode."""
    inner = CALLS[0][0]
    for _ in range(depth):
        size = len(inner)
        body = inner + bytes(-size % 32)
        offset = 32 * width
        inner = (
            selector("multicall(bytes[])")
            + encode(["uint256"] * 2, [32, width])
            + encode(["uint256"] * width, [offset] * width)
            + size.to_bytes(32, "big")
            + body
        )
    return inner


def test_calls_that_multiply_are_bounded() -> None:
    decoded = decode_call(nested(2, 15))
    assert isinstance(decoded, RouterCall)
    assert len(decoded.swaps) == 225 <= MAX_CALLS
    for depth, width in ((3, 60), (2, 64), (40, 1), (5, 1)):
        assert isinstance(decode_call(nested(depth, width)), MalformedCall)


selectors = st.sampled_from(
    sorted({data[:4] for data, _ in CALLS} | {selector("multicall(bytes[])"), selector("execute(bytes,bytes[])")})
)


@given(selectors, st.binary(max_size=600))
@settings(max_examples=600)
def test_noise_is_told_of_and_nothing_else(chosen: bytes, noise: bytes) -> None:
    assert isinstance(decode_call(chosen + noise), RouterCall | MalformedCall)


@given(st.sampled_from([data for data, _ in CALLS] + [nested(2, 3)]), st.data())
@settings(max_examples=600)
def test_calls_that_were_tampered_with(data: bytes, draw: st.DataObject) -> None:
    changed = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 4))):
        position = draw.draw(st.integers(4, len(changed) - 1))
        changed[position] = draw.draw(st.integers(0, 255))
    assert isinstance(decode_call(bytes(changed)), RouterCall | MalformedCall)


def recorded() -> list[bytes]:
    inputs = set()
    for path in sorted(BLOCKS.glob("[0-9]*.json.gz")):
        for trace in json.loads(gzip.decompress(path.read_bytes()))["traces"]:
            sent = trace["action"].get("input") or "0x"
            inputs.add(bytes.fromhex(sent[2:]))
    return sorted(inputs)


def test_recorded_transactions_are_understood_as_eth_abi_does() -> None:
    if not BLOCKS.is_dir():
        pytest.skip("the recorded blocks (../shared/recorded/blocks) are not beside this checkout")
    functions = {selector(f"{name}({','.join(V2_TYPES)})"): name for name in (
        "swapExactTokensForTokens", "swapTokensForExactTokens", "swapExactTokensForETH", "swapTokensForExactETH",
    )}  # fmt: skip
    seen = 0
    for data in recorded():
        decoded = decode_call(data)
        assert not isinstance(decoded, MalformedCall)
        if data[:4] in functions:
            amount, limit, path, to, deadline = decode(V2_TYPES, data[4:])
            assert isinstance(decoded, RouterCall)
            assert decoded.function == functions[data[:4]]
            [swap] = decoded.swaps
            assert (swap.amount, swap.limit, swap.deadline) == (amount, limit, deadline)
            tokens = [swap.hops[0].token_in, *(hop.token_out for hop in swap.hops)]
            assert ["0x" + token.hex() for token in tokens] == list(path)
            assert swap.recipient is not None
            assert "0x" + swap.recipient.hex() == to
            seen += 1
    assert seen > 50
