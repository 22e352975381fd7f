"""What routers do between swaps, and the forms that forks give their paths: by eth_abi's encoding, and by bytes that mean harm."""

from __future__ import annotations

from typing import Any

import pytest
from eth_abi.abi import encode
from hypothesis import given, settings
from hypothesis import strategies as st
from mev.chain.abi import selector
from mev.chain.abi.routers import decode_call
from mev.chain.abi.universal import MAX_CALLS
from mev.domain.calls import Act, MalformedCall, RouterAct, RouterCall, RouterHop, RouterSwap, Venue

from tests.unit.mev.chain.test_routers import HOPS, KEY, ME, PATH, A, B, C, call, v2

ROUTER, NOBODY = (2).to_bytes(20, "big"), bytes(20)
WHOLE = 2**255
SWAP = ["address", "uint256", "uint256", "bytes", "bool"]
PAIRS = ["address", "uint256", "uint256", "address[]", "bool"]
THREE = ["address", "address", "uint256"]
EXECUTE = "execute(bytes,bytes[],uint256)"


def execute(*commands: tuple[int, list[str], list[Any]]) -> bytes:
    codes = bytes(code for code, _, _ in commands)
    return call(EXECUTE, codes, [encode(types, values) for _, types, values in commands], 9)


def steps(data: bytes) -> tuple[RouterSwap | RouterAct, ...]:
    decoded = decode_call(data, 33)
    assert isinstance(decoded, RouterCall), decoded
    return decoded.steps


def test_amounts_flow_through_the_universal_router() -> None:
    found = steps(
        execute(
            (0x0A, ["uint256"], [1]),
            (0x02, ["address", "address", "uint160"], [A, ROUTER, 7]),
            (0x08, PAIRS, [ROUTER, WHOLE, 0, [A, B], False]),
            (0x00, SWAP, [ROUTER, WHOLE, 0, B + (500).to_bytes(3, "big") + C, False]),
            (0x06, THREE, [C, ME, 25]),
            (0x05, THREE, [C, ME, WHOLE]),
            (0x04, THREE, [NOBODY, ME, 3]),
            (0x8B, ["address", "uint256"], [ROUTER, WHOLE]),
            (0x0C, ["address", "uint256"], [ME, 5]),
            (0x0D, ["(address,address,uint160,address)[]"], [[(ME, C, 4, A), (ME, ROUTER, 5, B)]]),
            (0x0E, THREE, [ME, A, 1]),
            (0x3F, ["uint256"], [1]),
        )
    )
    assert found == (
        RouterAct(Act.PERMIT, "PERMIT2_PERMIT"),
        RouterAct(Act.PULL, "PERMIT2_TRANSFER_FROM", A, 7, ROUTER, to_router=True),
        RouterSwap(v2(A, B), WHOLE, 0, False, ROUTER, 9, from_router=True, to_router=True, whole=True),
        RouterSwap(
            (RouterHop(Venue.V3, B, C, 500),), WHOLE, 0, False, ROUTER, 9, from_router=True, to_router=True, whole=True
        ),
        RouterAct(Act.PORTION, "PAY_PORTION", C, 25, ME),
        RouterAct(Act.PAY, "TRANSFER", C, WHOLE, ME, whole=True),
        RouterAct(Act.SWEEP, "SWEEP", None, 3, ME),
        RouterAct(Act.WRAP, "WRAP_ETH", None, WHOLE, ROUTER, to_router=True, whole=True, may_fail=True),
        RouterAct(Act.UNWRAP, "UNWRAP_WETH", None, 5, ME),
        # In a batch nobody is named by a number.
        RouterAct(Act.PULL, "PERMIT2_TRANSFER_FROM_BATCH", A, 4, C),
        RouterAct(Act.PULL, "PERMIT2_TRANSFER_FROM_BATCH", B, 5, ROUTER),
        RouterAct(Act.OTHER, "command 0x0e"),
        RouterAct(Act.OTHER, "command 0x3f"),
    )


V4_SINGLE = [f"({KEY},bool,uint128,uint128,bytes)"]
V4_ACTIONS: list[tuple[int, list[str], list[Any], RouterAct]] = [
    (0x0B, ["address", "uint256", "bool"], [A, 7, True], RouterAct(Act.SETTLE, "SETTLE", A, 7)),
    (
        *(0x0B, ["address", "uint256", "bool"], [NOBODY, WHOLE, False]),
        RouterAct(Act.SETTLE, "SETTLE", None, WHOLE, whole=True, from_router=True),
    ),
    (
        *(0x0B, ["address", "uint256", "bool"], [A, 0, False]),
        RouterAct(Act.SETTLE, "SETTLE", A, 2**256 - 1, from_router=True, open=True),
    ),
    (0x0C, ["address", "uint256"], [A, 9], RouterAct(Act.SETTLE, "SETTLE_ALL", A, 9, open=True)),
    (0x0E, THREE, [B, ME, 5], RouterAct(Act.TAKE, "TAKE", B, 5, ME)),
    (0x0E, THREE, [B, ROUTER, 0], RouterAct(Act.TAKE, "TAKE", B, 0, ROUTER, to_router=True, open=True)),
    (0x0F, ["address", "uint256"], [NOBODY, 3], RouterAct(Act.TAKE, "TAKE_ALL", None, 3, open=True)),
    (0x10, THREE, [B, ME, 25], RouterAct(Act.TAKE_PORTION, "TAKE_PORTION", B, 25, ME)),
    # Neither is one of the router's.
    (0x0D, ["address", "address"], [A, B], RouterAct(Act.OTHER, "V4 action 0x0d")),
    (0x12, ["address"], [A], RouterAct(Act.OTHER, "V4 action 0x12")),
]


def managed(*actions: tuple[int, list[str], list[Any]], code: int = 0x10) -> bytes:
    inputs = [encode(types, values) for _, types, values in actions]
    return execute((code, ["bytes", "bytes[]"], [bytes(action for action, _, _ in actions), inputs]))


def test_a_second_command_of_v4_unlocks_its_manager_anew_wherever_it_stands() -> None:
    def given(*actions: tuple[int, list[str], list[Any]]) -> tuple[int, list[str], list[Any]]:
        inputs = [encode(types, values) for _, types, values in actions]
        return 0x10, ["bytes", "bytes[]"], [bytes(action for action, _, _ in actions), inputs]

    settles, pays = (each[:3] for each in V4_ACTIONS[:2])
    first, second = (each[3] for each in V4_ACTIONS[:2])
    unlock = RouterAct(Act.UNLOCK, "V4_SWAP")
    assert steps(execute(given(settles), given(pays))) == (first, unlock, second)
    code, types, values = given(pays)
    plan = (0x21, ["bytes", "bytes[]"], [bytes([code]), [encode(types, values)]])
    assert steps(execute(plan, given(settles))) == (second, unlock, first)


def test_what_is_paid_to_v4_s_manager_and_taken_from_it() -> None:
    found = steps(managed(*((code, types, values) for code, types, values, _ in V4_ACTIONS)))
    assert found == tuple(act for *_, act in V4_ACTIONS)
    open_swap = (6, V4_SINGLE, [((A, B, 500, 10, NOBODY), True, 0, 5, b"")])
    hop = RouterHop(Venue.V4, A, B, fee=500, tick_spacing=10, hooks=NOBODY)
    # The command may fail, and all within it with it.
    assert steps(managed(open_swap, V4_ACTIONS[3][:3], code=0x90)) == (
        RouterSwap((hop,), 0, 5, False, None, 9, whole=True, may_fail=True),
        RouterAct(Act.SETTLE, "SETTLE_ALL", A, 9, may_fail=True, open=True),
    )


@settings(max_examples=300)
@given(st.data())
def test_v4_s_actions_that_were_tampered_with_are_told_of_and_nothing_else(draw: st.DataObject) -> None:
    swap = (6, V4_SINGLE, [((A, B, 500, 10, NOBODY), True, 7, 5, b"hook")])
    data = bytearray(managed(swap, *((code, types, values) for code, types, values, _ in V4_ACTIONS)))
    for _ in range(draw.draw(st.integers(1, 4))):
        data[draw.draw(st.integers(4, len(data) - 1))] = draw.draw(st.integers(0, 255))
    assert isinstance(decode_call(bytes(data)), RouterCall | MalformedCall)


def test_a_sub_plan_that_may_fail_says_so_of_all_its_steps() -> None:
    inner = encode(["bytes", "bytes[]"], [b"\x08", [encode(PAIRS, [ME, 7, 5, [A, B], True])]])
    for code, may_fail in ((b"\x21", False), (b"\xa1", True)):
        [swap] = steps(call("execute(bytes,bytes[])", code, [inner]))
        assert swap == RouterSwap(v2(A, B), 7, 5, False, ME, may_fail=may_fail)


def test_a_signed_call_is_its_commands() -> None:
    signature = "executeSigned(bytes,bytes[],bytes32,bytes32,bool,bytes32,bytes,uint256)"
    given_ = [encode(PAIRS, [ME, 7, 5, [A, B], True])]
    data = call(signature, b"\x08", given_, bytes(32), bytes(32), True, bytes(32), b"sig", 11)
    assert steps(data) == (RouterSwap(v2(A, B), 7, 5, False, ME, 11),)


@pytest.mark.parametrize("prices", [[], [1, 2]])
def test_least_prices_of_each_hop_are_seen(prices: list[int]) -> None:
    bound = bool(prices)
    single = encode(
        [f"({KEY},bool,uint128,uint128,uint256,bytes)"], [((A, B, 500, 10, C), True, 7, 5, sum(prices), b"hook")]
    )
    path = encode(
        ["(address,(address,uint24,int24,address,bytes)[],uint256[],uint128,uint128)"],
        [(A, [(B, 500, 10, C, b"")], prices, 7, 5)],
    )
    v4 = encode(["bytes", "bytes[]"], [bytes([6, 7]), [single, path]])
    data = call(
        EXECUTE,
        bytes([0x00, 0x08, 0x10]),
        [
            encode([*SWAP, "uint256[]"], [ME, 7, 5, PATH, True, prices]),
            encode([*PAIRS, "uint256[]"], [ME, 7, 5, [A, B], True, prices]),
            v4,
        ],
        9,
    )
    hop = RouterHop(Venue.V4, A, B, fee=500, tick_spacing=10, hooks=C)
    assert steps(data) == (
        RouterSwap(HOPS, 7, 5, False, ME, 9, hop_limits=bound),
        RouterSwap(v2(A, B), 7, 5, False, ME, 9, hop_limits=bound),
        RouterSwap((hop,), 7, 5, False, None, 9, hop_limits=bound),
        RouterSwap((hop,), 7, 5, False, None, 9, hop_limits=bound),
    )


def test_velodrome_s_universal_router() -> None:
    """Its first one gives routes as an array, its later one packs them and says whose pools they are of."""
    stable = RouterHop(Venue.SOLIDLY, A, B, stable=True, factory=NOBODY)
    volatile = RouterHop(Venue.SOLIDLY, B, C, stable=False, factory=NOBODY)
    routes = ["address", "uint256", "uint256", "(address,address,bool)[]", "bool"]
    packed = [*SWAP, "bool"]
    slipstream = A + (2**24 - 100).to_bytes(3, "big") + B
    data = execute(
        (0x08, routes, [ME, 7, 5, [(A, B, True), (B, C, False)], True]),
        (0x08, packed, [ME, 7, 5, A + b"\1" + B + b"\0" + C, True, False]),
        (0x09, packed, [ME, 7, 5, A + B + C, True, True]),
        (0x00, packed, [ME, 7, 5, slipstream, True, False]),
        (0x00, packed, [ME, 7, 5, PATH, True, True]),
    )
    assert steps(data) == (
        RouterSwap((stable, volatile), 7, 5, False, ME, 9),
        RouterSwap((stable, volatile), 7, 5, False, ME, 9),
        RouterSwap(v2(A, B, C), 7, 5, True, ME, 9),
        RouterSwap((RouterHop(Venue.SLIPSTREAM, A, B, tick_spacing=-100),), 7, 5, False, ME, 9),
        RouterSwap(HOPS, 7, 5, False, ME, 9),
    )


def test_amounts_flow_through_swap_router_02() -> None:
    single = "exactInputSingle((address,address,uint24,address,uint256,uint256,uint160))"
    calls = [
        call("selfPermit(address,uint256,uint256,uint8,bytes32,bytes32)", A, 1, 2, 3, bytes(32), bytes(32)),
        call("pull(address,uint256)", A, 7),
        call("wrapETH(uint256)", 4),
        call("swapExactTokensForTokens(uint256,uint256,address[],address)", 7, 0, [A, B], ROUTER),
        call(single, (B, C, 500, ROUTER, 0, 5, 0)),
        call("unwrapWETH9(uint256,address)", 5, ME),
        call("unwrapWETH9(uint256)", 5),
        call("sweepToken(address,uint256)", C, 6),
        call("sweepTokenWithFee(address,uint256,address,uint256,address)", C, 6, ME, 1, ME),
        selector("refundETH()"),
        call("increaseLiquidity((address,address,uint256,uint256,uint256))", (A, B, 1, 2, 3)),
    ]
    assert steps(call("multicall(uint256,bytes[])", 9, calls)) == (
        RouterAct(Act.PERMIT, "selfPermit"),
        RouterAct(Act.PULL, "pull", A, 7, to_router=True),
        RouterAct(Act.WRAP, "wrapETH", None, 4, to_router=True),
        RouterSwap(v2(A, B), 7, 0, False, ROUTER, to_router=True),
        RouterSwap(
            (RouterHop(Venue.V3, B, C, 500),), 0, 5, False, ROUTER, from_router=True, to_router=True, whole=True
        ),
        RouterAct(Act.UNWRAP, "unwrapWETH9", None, 5),
        RouterAct(Act.UNWRAP, "unwrapWETH9", None, 5),
        RouterAct(Act.SWEEP, "sweepToken", C, 6),
        RouterAct(Act.SWEEP, "sweepTokenWithFee", C, 6),
        RouterAct(Act.SWEEP, "refundETH"),
        RouterAct(
            Act.OTHER, "call 0x" + selector("increaseLiquidity((address,address,uint256,uint256,uint256))").hex()
        ),
    )


def test_what_the_first_swap_router_and_algebra_s_keep() -> None:
    """There the zero address is the router, and a recipient of two is somebody."""
    first = "exactInputSingle((address,address,uint24,address,uint256,uint256,uint256,uint160))"
    algebra = "exactInputSingle((address,address,address,uint256,uint256,uint256,uint160))"
    for recipient, kept in ((NOBODY, True), (ROUTER, False)):
        data = call(
            "multicall(bytes[])",
            [
                call(first, (A, B, 500, recipient, 9, 7, 5, 0)),
                call(algebra, (A, B, recipient, 9, 7, 5, 0)),
                call("unwrapWNativeToken(uint256,address)", 5, ME),
            ],
        )
        assert steps(data) == (
            RouterSwap((RouterHop(Venue.V3, A, B, 500),), 7, 5, False, recipient, 9, to_router=kept),
            RouterSwap((RouterHop(Venue.ALGEBRA, A, B),), 7, 5, False, recipient, 9, to_router=kept),
            RouterAct(Act.UNWRAP, "unwrapWNativeToken", None, 5),
        )


def test_batches_that_point_at_the_same_bytes_are_bounded() -> None:
    batch = encode(["(address,address,uint160,address)[]"], [[(ME, ME, 1, A)] * 64])
    assert len(steps(call("execute(bytes,bytes[])", b"\x0d" * 3, [batch] * 3))) == 3 * 64
    assert isinstance(decode_call(call("execute(bytes,bytes[])", b"\x0d" * 4, [batch] * 4)), MalformedCall)
    assert MAX_CALLS == 256


@given(st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=400)), max_size=6))
@settings(max_examples=400)
def test_commands_of_noise_are_told_of_and_nothing_else(commands: list[tuple[int, bytes]]) -> None:
    data = call("execute(bytes,bytes[])", bytes(code for code, _ in commands), [given_ for _, given_ in commands])
    decoded = decode_call(data)
    assert isinstance(decoded, RouterCall | MalformedCall)
    if isinstance(decoded, RouterCall):
        assert len(decoded.steps) <= MAX_CALLS


words = st.one_of(st.integers(0, 64).map(lambda each: 32 * each), st.sampled_from([0, 1, 2**255, 2**256 - 1]))


@given(st.integers(0, 0x21), st.lists(words, max_size=24))
@settings(max_examples=600)
def test_commands_of_words_that_look_like_offsets(code: int, head: list[int]) -> None:
    data = call("execute(bytes,bytes[])", bytes([code]), [b"".join(word.to_bytes(32, "big") for word in head)])
    assert isinstance(decode_call(data), RouterCall | MalformedCall)
