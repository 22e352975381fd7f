"""V3 discovery among contracts that are not what they seem; what real ones answer is in tests/integration."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from mev.chain.rpc import Rpc
from mev.chain.wire import encode
from mev.domain import Block, Pool
from mev.market.amm.concentrated import ConcentratedPool
from mev.market.amm.tick_math import sqrt_price_at
from mev.market.concentrated_state import NO_PRICE
from mev.market.discovery import TOKEN0, TOKEN1, DiscoveryError
from mev.market.discovery_v3 import (
    FEE,
    GET_POOL,
    LIQUIDITY,
    SLOT0,
    TICK_BITMAP,
    TICK_SPACING,
    TICKS,
    discover_concentrated,
)
from mev.runtime.config import EvmAddress, V3FactoryConfig

from tests.unit.mev.chain.node import CHAIN_ID, Node, RefusalError, running

BLOCK = Block(7, b"\x07" * 32, b"\x06" * 32, 0, 0)
FACTORY = V3FactoryConfig(name="uniswap_v3", address=EvmAddress(b"\xfa" * 20), fees=(500, 3000))
TOKENS = [bytes([number]) * 20 for number in (1, 2)]
POOL = b"\xcc" * 20
# Below 0, at 0 and far above, two of them in one word of the bitmap.
NET = {-61440: 5 * 10**18, -120: 10**18, 0: 2 * 10**18, 887220: -8 * 10**18}
TICK = 17


def word(value: int | bytes) -> str:
    number = int.from_bytes(value, "big") if isinstance(value, bytes) else value % 2**256
    return f"{number:064x}"


def slot0(price: int, tick: int) -> str:
    return "0x" + word(price) + word(tick) + word(0) * 5


class Contracts:
    """A factory with one pool, at 3000; `lies` are answers by selector."""

    def __init__(self, node: Node) -> None:
        self.lies: dict[bytes, object] = {}
        node.answers["eth_call"] = self.call

    def call(self, call: dict[str, str], block: dict[str, str]) -> Any:
        assert block == {"blockHash": encode(BLOCK.hash)}
        sent = bytes.fromhex(call["data"][2:])
        chosen, argument = sent[:4], int.from_bytes(sent[4:36], "big", signed=True) if len(sent) == 36 else 0
        if chosen in self.lies:
            return self.lies[chosen]
        if chosen == GET_POOL:
            return "0x" + word(POOL if int.from_bytes(sent[68:], "big") == 3000 else 0)
        if chosen == TICK_BITMAP:
            compressed = [tick // 60 for tick in NET]
            return "0x" + word(sum(1 << (each & 255) for each in compressed if each >> 8 == argument))
        if chosen == TICKS:
            return "0x" + word(abs(NET[argument])) + word(NET[argument]) + word(0) * 5 + word(1)
        return {
            TOKEN0: "0x" + word(TOKENS[0]),
            TOKEN1: "0x" + word(TOKENS[1]),
            FEE: "0x" + word(3000),
            TICK_SPACING: "0x" + word(60),
            SLOT0: slot0(sqrt_price_at(TICK), TICK),
            LIQUIDITY: "0x" + word(8 * 10**18),
        }[chosen]


def found(lies: dict[bytes, object]) -> dict[Pool, object]:
    async def story() -> dict[Pool, object]:
        async with running() as node, Rpc(node.url, chain_id=CHAIN_ID) as rpc:
            Contracts(node).lies.update(lies)
            return dict(await discover_concentrated(rpc, [FACTORY], TOKENS, BLOCK))

    return asyncio.run(story())


def test_every_tick_is_read() -> None:
    ((pool, state),) = found({}).items()
    assert pool == Pool(POOL, "uniswap_v3", TOKENS[0], TOKENS[1], 997_000, 10**6, 60)
    assert isinstance(state, ConcentratedPool)
    assert (state.ticks.net, state.tick, state.liquidity) == (NET, TICK, 8 * 10**18)
    assert (state.sqrt_price_x96, state.fees) == (sqrt_price_at(TICK), (3000, 3000))


def test_a_pool_without_a_price_waits_for_one() -> None:
    assert list(found({SLOT0: slot0(0, 0), LIQUIDITY: "0x" + word(0)}).values()) == [NO_PRICE]


@pytest.mark.parametrize(
    ("chosen", "lie"),
    [
        (TOKEN1, "0x" + word(TOKENS[0])),
        (FEE, "0x" + word(500)),
        (TICK_SPACING, "0x" + word(0)),
        (TICK_SPACING, "0x" + word(2**15)),
        # Another spacing than the ticks were made with, another tick than the price's, other liquidity than the ticks'.
        (SLOT0, slot0(sqrt_price_at(TICK), TICK + 2)),
        (SLOT0, slot0(sqrt_price_at(TICK), 2**23)),
        (SLOT0, slot0(2**160, TICK)),
        (SLOT0, slot0(1, TICK)),
        (SLOT0, "0x" + word(sqrt_price_at(TICK)) + word(TICK)),
        (SLOT0, None),
        (SLOT0, RefusalError(3, "execution reverted")),
        (LIQUIDITY, "0x" + word(7)),
        (LIQUIDITY, "0x" + word(2**128)),
        (LIQUIDITY, "0x"),
        (TICK_BITMAP, "0x"),
        (TICK_BITMAP, RefusalError(3, "execution reverted")),
        (TICKS, "0x" + word(0) * 7),
        (TICKS, "0x" + word(0) + word(2**127) + word(0) * 6),
    ],
)
def test_a_pool_that_is_none_is_left_out(chosen: bytes, lie: object) -> None:
    assert found({chosen: lie}) == {}


@pytest.mark.parametrize("lie", ["0x", "0x" + "ff" * 32, RefusalError(3, "execution reverted"), None, []])
def test_a_factory_that_is_none_is_named(lie: object) -> None:
    with pytest.raises(DiscoveryError, match=r"uniswap_v3 at 0xfafa.* is no V3 factory: getPool answers"):
        found({GET_POOL: lie})
