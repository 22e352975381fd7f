"""Discovery among contracts that are not what they seem; what real ones answer is in tests/integration."""

import asyncio
from typing import Any

import pytest
from mev.chain.rpc import BATCH_CALLS, Rpc
from mev.chain.wire import encode
from mev.domain import Block, V2State
from mev.market.discovery import GET_PAIR, GET_RESERVES, TOKEN0, DiscoveryError, discover
from mev.runtime.config import EvmAddress, FactoryConfig

from tests.unit.mev.chain.node import CHAIN_ID, Node, RefusalError, running

BLOCK = Block(7, b"\x07" * 32, b"\x06" * 32, 0, 0)
FACTORY = FactoryConfig(name="uniswap_v2", address=EvmAddress(b"\xfa" * 20), fee_numerator=997, fee_denominator=1000)
TOKENS = [bytes([number]) * 20 for number in range(1, 17)]


def word(value: int | bytes) -> str:
    number = int.from_bytes(value, "big") if isinstance(value, bytes) else value
    return f"{number:064x}"


class Contracts:
    """A factory that has a pool for each pair of tokens; `lies` are answers of single pools, by selector."""

    def __init__(self, node: Node) -> None:
        self.lies: dict[tuple[bytes, bytes], object] = {}
        self.pairs: dict[bytes, tuple[bytes, bytes]] = {}
        node.answers["eth_call"] = self.call

    def call(self, call: dict[str, str], block: dict[str, str]) -> Any:
        assert block == {"blockHash": encode(BLOCK.hash)}
        to, sent = bytes.fromhex(call["to"][2:]), bytes.fromhex(call["data"][2:])
        chosen = sent[:4]
        if (to, chosen) in self.lies:
            return self.lies[to, chosen]
        if to == FACTORY.address and chosen == GET_PAIR:
            token0, token1 = sent[16:36], sent[48:68]
            pool = bytes([token0[0], token1[0]]).rjust(20, b"\xcc")
            self.pairs[pool] = (token0, token1)
            return "0x" + word(pool)
        if to not in self.pairs:
            return "0x"
        if chosen == GET_RESERVES:
            return "0x" + word(to[18]) + word(to[19]) + word(1)
        return "0x" + word(self.pairs[to][0 if chosen == TOKEN0 else 1])


def pool_of(one: int, other: int) -> bytes:
    return bytes([one, other]).rjust(20, b"\xcc")


def test_more_pools_than_a_batch_holds() -> None:
    async def story() -> None:
        async with running() as node, Rpc(node.url, chain_id=CHAIN_ID) as rpc:
            Contracts(node)
            states = await discover(rpc, [FACTORY], [*TOKENS, TOKENS[0]], BLOCK)
            assert len(states) == 16 * 15 // 2 > BATCH_CALLS
            assert {pool.address: state for pool, state in states.items()} == {
                pool_of(one, other): V2State(one, other, 7) for one in range(1, 17) for other in range(one + 1, 17)
            }

    asyncio.run(story())


@pytest.mark.parametrize(
    ("chosen", "lie"),
    [
        (GET_RESERVES, "0x"),
        (GET_RESERVES, "0x" + word(2**112) + word(1) + word(1)),
        (GET_RESERVES, RefusalError(3, "execution reverted")),
        (GET_RESERVES, 7),
        (GET_RESERVES, None),
        (TOKEN0, "0x" + word(TOKENS[5])),
        (TOKEN0, "0x" + "ff" * 32),
    ],
)
def test_a_pool_that_is_none_is_left_out(chosen: bytes, lie: object) -> None:
    async def story() -> None:
        async with running() as node, Rpc(node.url, chain_id=CHAIN_ID) as rpc:
            Contracts(node).lies[pool_of(1, 2), chosen] = lie
            states = await discover(rpc, [FACTORY], TOKENS[:3], BLOCK)
            assert {pool.address for pool in states} == {pool_of(1, 3), pool_of(2, 3)}

    asyncio.run(story())


@pytest.mark.parametrize(
    "lie", ["0x", "0x" + "ff" * 32, RefusalError(3, "execution reverted"), None, [], "0x" + word(1) * 2]
)
def test_a_factory_that_is_none_is_named(lie: object) -> None:
    async def story() -> None:
        async with running() as node, Rpc(node.url, chain_id=CHAIN_ID) as rpc:
            Contracts(node).lies[FACTORY.address, GET_PAIR] = lie
            with pytest.raises(DiscoveryError, match=r"uniswap_v2 at 0xfafa.* is no V2 factory: getPair answers"):
                await discover(rpc, [FACTORY], TOKENS[:2], BLOCK)

    asyncio.run(story())


def test_pairs_that_were_never_made_are_no_pools() -> None:
    async def story() -> None:
        async with running() as node, Rpc(node.url, chain_id=CHAIN_ID) as rpc:
            Contracts(node).lies[FACTORY.address, GET_PAIR] = "0x" + word(0)
            assert await discover(rpc, [FACTORY], TOKENS, BLOCK) == {}

    asyncio.run(story())
