"""The next fee of pools of Algebra's first version: those that answer otherwise stop no other's; what the published contracts say is in tests/integration."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from mev.chain.abi import selector
from mev.chain.rpc import Rpc
from mev.domain import Algebra, Block, Pool
from mev.market.algebra_first import FEE_AT, WRITE
from mev.market.algebra_state import ask_fees
from mev.market.amm.tick_math import sqrt_price_at
from mev.market.concentrated_state import made
from mev.market.state import MarketState
from structlog.testing import capture_logs

from tests.unit.mev.chain.node import CHAIN_ID, RefusalError, running

BLOCK = Block(7, b"\x07" * 32, b"\x06" * 32, 1_000, 0)
TOKENS = (b"\xaa" * 20, b"\xbb" * 20)
POOLS = [
    Pool(bytes([number]) * 20, "algebra", *TOKENS, 0, 1, 60, algebra=Algebra.BEFORE_INTEGRAL) for number in (1, 2, 3)
]
LIQUIDITY, SWAPPED, INDEX = 10**21, 9, 2**16 - 1
OPERATOR = b"\x0d" * 20
# Price, tick, fee, index, both of the community's fees, and whether it is unlocked.
STATE = b"".join(word.to_bytes(32, "big") for word in (sqrt_price_at(30), 30, 500, INDEX, 0, 0, 1))
PACKED = (SWAPPED << 128 | LIQUIDITY).to_bytes(32, "big")


def text(content: bytes) -> str:
    return "0x" + content.hex()


def market() -> MarketState:
    net = {-60_000: LIQUIDITY, 60_000: -LIQUIDITY}
    return MarketState(BLOCK, {pool: made(pool, net, sqrt_price_at(30), 30, LIQUIDITY, (500, 500)) for pool in POOLS})


def simulated(status: str = "0x1", fee: bytes = (777).to_bytes(32, "big")) -> list[Any]:
    return [{"calls": [{"status": "0x1", "returnData": "0x"}, {"status": status, "returnData": text(fee)}]}]


def asked(broken: dict[str, object]) -> tuple[MarketState, list[Any], list[Any]]:
    """Ask for fees where the first pool's answers are these instead; return the market, what was simulated, and what was logged."""
    state, calls = market(), []
    first = text(POOLS[0].address)

    def called(call: dict[str, str], _: object) -> object:
        if call["data"] == text(selector("globalState()")):
            return broken.get("state", text(STATE)) if call["to"] == first else text(STATE)
        return (
            broken.get("operator", text(OPERATOR.rjust(32, b"\0")))
            if call["to"] == first
            else text(OPERATOR.rjust(32, b"\0"))
        )

    def stored(pool: str, slot: str, _: object) -> object:
        assert slot == "0x3"
        return broken.get("stored", text(PACKED)) if pool == first else text(PACKED)

    def simulate(wanted: dict[str, Any], _: object) -> object:
        made_calls = wanted["blockStateCalls"][0]["calls"]
        calls.append(made_calls)
        return broken.get("simulated", simulated()) if made_calls[0]["from"] == first else simulated()

    async def story() -> None:
        async with running() as node, Rpc(node.url, chain_id=CHAIN_ID) as rpc:
            node.answers = {"eth_call": called, "eth_getStorageAt": stored, "eth_simulateV1": simulate}
            await ask_fees(rpc, state, BLOCK)

    with capture_logs() as logs:
        asyncio.run(story())
    return state, calls, [each for each in logs if each["event"] == "fee not said"]


def fees(state: MarketState) -> list[int]:
    return [held.fees[0] for pool in POOLS if (held := state.concentrated(pool.address)) is not None]


def test_what_it_will_write_down_is_simulated_in_the_pool_s_name() -> None:
    state, calls, told = asked({})
    assert fees(state) == [777] * 3
    assert not told
    # Nodes are asked in no order.
    [(write, read)] = [each for each in calls if each[0]["from"] == text(POOLS[0].address)]
    assert {(call["from"], call["to"]) for call in (write, read)} == {(text(POOLS[0].address), text(OPERATOR))}
    when = BLOCK.timestamp + 1
    words = [INDEX, when, 30, LIQUIDITY, SWAPPED]
    assert write["data"] == text(WRITE + b"".join(word.to_bytes(32, "big") for word in words))
    # The next place of what is written round and round.
    assert read["data"] == text(FEE_AT + b"".join(word.to_bytes(32, "big") for word in (when, 30, 0, LIQUIDITY)))


@pytest.mark.parametrize(
    "broken",
    [
        {"state": text(STATE[:-32])},
        {"state": "0x"},
        {"operator": text(b"\xff" * 32)},
        {"stored": text((LIQUIDITY + 1).to_bytes(32, "big"))},
        {"stored": RefusalError(-32000, "no")},
        {"simulated": RefusalError(-32601, "the method eth_simulateV1 does not exist")},
        {"simulated": simulated(status="0x0")},
        {"simulated": simulated(fee=(2**16).to_bytes(32, "big"))},
        {"simulated": simulated(fee=b"")},
        {"simulated": [{"calls": []}]},
        {"simulated": [{"calls": 7}]},
        {"simulated": {"no": "list"}},
        {"simulated": None},
    ],
    ids=str,
)
def test_one_that_answers_otherwise_keeps_the_last_event_s_fee_and_stops_no_other(broken: dict[str, object]) -> None:
    state, _, told = asked(broken)
    assert fees(state) == [500, 777, 777]
    assert [each["pool"] for each in told] == [text(POOLS[0].address)]
