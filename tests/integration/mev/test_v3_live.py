"""V3 pools on a real chain: their state as it is read and as events keep it, through reorganisations across ticks, and the engine's fills through them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from mev.chain.abi import SYNC
from mev.chain.collectors import BlockCollector, NewBlock, Reorg, Reset
from mev.chain.rpc import Rpc
from mev.chain.wire import Head
from mev.market.concentrated_state import CONCENTRATED_TOPICS
from mev.market.discovery import DiscoveryError, discover
from mev.market.discovery_v3 import discover_concentrated
from mev.market.state import MarketState
from mev.runtime.config import EvmAddress, V3FactoryConfig

from lab.evm import devnode
from tests.integration.mev.conftest import (
    CAPITAL_WEI,
    NATIVE_WEI,
    PATIENCE_SECONDS,
    Account,
    Installation,
    at_rest,
    filled,
    raw,
    word,
)
from tests.integration.mev.test_executor import selector
from tests.integration.mev.test_executor_v3 import push
from tests.integration.mev.test_market import factories, tokens

if TYPE_CHECKING:
    from mev.domain import Block

    from lab.evm.devnode import DevNode

SWAP = "0xc42079f94a6350d7e6235f29174924f928cc2ac818eb64fed8004e115fbcca67"


def v3_factories(evm: DevNode) -> list[V3FactoryConfig]:
    made = evm.deployment.factory("uniswap_v3")
    return [V3FactoryConfig(name=made.name, address=EvmAddress(raw(made.address)), fees=(500, 3000))]


async def head_of(rpc: Rpc) -> Block:
    head = await rpc.call_as(Head, "eth_getBlockByNumber", ["latest", False])
    assert head is not None
    return head.block()


async def read(evm: DevNode, rpc: Rpc, block: Block) -> MarketState:
    pairs = await discover(rpc, factories(evm), tokens(evm), block)
    return MarketState(block, {**pairs, **await discover_concentrated(rpc, v3_factories(evm), tokens(evm), block)})


def seen(state: MarketState) -> dict[bytes, object]:
    """Everything that a pool's quotes depend on."""
    found: dict[bytes, object] = {}
    for address, pool in state.pools().items():
        if pool.concentrated:
            held = state.concentrated(address)
            assert held is not None, state.unusable()
            found[address] = (held.sqrt_price_x96, held.tick, held.liquidity, dict(held.ticks.net), held.fees)
        else:
            found[address] = (state.v2(address).reserve0, state.v2(address).reserve1)
    return found


class Follower:
    """The market as the engine keeps it: read once, then by events."""

    def __init__(self, evm: DevNode, rpc: Rpc) -> None:
        self.evm, self.rpc = evm, rpc
        self.state: MarketState | None = None
        self.kinds: list[type] = []
        self.moved = asyncio.Event()

    async def until_head(self) -> MarketState:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.state is None or self.state.block != await head_of(self.rpc):
                await self.moved.wait()
                self.moved.clear()
        return self.state

    async def follow(self) -> None:
        topics = [SYNC, *CONCENTRATED_TOPICS]
        async for event in BlockCollector(self.rpc, topics, stall_seconds=1).events():
            self.kinds.append(type(event))
            match event:
                case Reset(block):
                    self.state = await read(self.evm, self.rpc, block)
                case Reorg(ancestor) if self.state is not None:
                    self.state.undo_to(ancestor)
                case NewBlock(block, logs, _) if self.state is not None:
                    self.state.apply_block(block, logs)
            self.moved.set()


def mint(
    evm: DevNode, owner: Account, wrapped: bytes, fee: int, ticks: tuple[int, int], amounts: dict[bytes, int]
) -> int:
    """Add liquidity to the WETH/USDC pool of a fee as anyone would; returns the position's number."""
    usdc = raw(evm.deployment.token("USDC").address)
    manager = manager_of(evm)
    owner.send(wrapped, selector("deposit()"), amounts[wrapped])
    owner.send(usdc, selector("mint(uint256)") + word(amounts[usdc]))
    for token in (wrapped, usdc):
        owner.send(token, selector("approve(address,uint256)") + word(manager) + word(amounts[token]))
    token0, token1 = sorted((wrapped, usdc))
    words = [word(token0), word(token1), word(fee), *(word(tick % 2**256) for tick in ticks)]
    words += [word(amounts[token0]), word(amounts[token1]), word(0), word(0), word(owner.address), word(2**64)]
    called = "mint((address,address,uint24,int24,int24,uint256,uint256,uint256,uint256,address,uint256))"
    receipt = owner.send(manager, selector(called) + b"".join(words))
    assert receipt["status"] == "0x1"
    own = [log for log in receipt["logs"] if raw(log["address"]) == manager]
    increased = [log for log in own if len(log["topics"]) == 2]
    return int(increased[-1]["topics"][1], 16)


def burn(evm: DevNode, owner: Account, position: int) -> None:
    """Take half of a position's liquidity out."""
    manager = manager_of(evm)
    answer = owner.call(manager, selector("positions(uint256)") + word(position))
    liquidity = int.from_bytes(answer[7 * 32 : 8 * 32], "big")
    words = (position, liquidity // 2, 0, 0, 2**64)
    called = "decreaseLiquidity((uint256,uint128,uint256,uint256,uint256))"
    assert owner.send(manager, selector(called) + b"".join(word(each) for each in words))["status"] == "0x1"


def manager_of(evm: DevNode) -> bytes:
    """The position manager, which is the only one that the factory's deployment names nowhere: it made the seed's positions."""
    pool = next(pool for pool in evm.deployment.pools if pool.version == 3)
    minted = "0x7a53080ba414158be7ec69b987b5fb7d07dee101fe85488f0853ae16239d0bde"
    logs = evm.rpc.call("eth_getLogs", {"address": pool.address, "topics": [minted], "fromBlock": "0x0"})
    return raw(logs[0]["topics"][1])[12:]


def test_events_keep_what_is_read_also_across_ticks_and_back(evm: DevNode, owner: Account, wrapped: bytes) -> None:
    async def story() -> None:
        async with Rpc(evm.ws, chain_id=evm.chain_id) as rpc:
            follower = Follower(evm, rpc)
            task = asyncio.create_task(follower.follow())
            begun = await follower.until_head()
            address = next(raw(p.address) for p in evm.deployment.pools if (p.fee, p.version) == (500, 3))
            first = begun.concentrated(address)
            assert first is not None
            assert len(first.ticks.net) == 4
            before = seen(begun)
            # What is turned back: new ticks in the way of a large swap, the swap through them, and half of them gone again.
            snapshot = evm.rpc.call("evm_snapshot")
            low, high = ((first.tick // 10 + offset) * 10 for offset in (-5, 5))
            usdc = raw(evm.deployment.token("USDC").address)
            amounts = {wrapped: 5 * NATIVE_WEI, usdc: 15_000 * 10**6}
            position = await asyncio.to_thread(mint, evm, owner, wrapped, 500, (low, high), amounts)
            await asyncio.to_thread(push, evm, owner, wrapped, 500, 120 * NATIVE_WEI)
            await asyncio.to_thread(burn, evm, owner, position)
            for _ in range(4):
                await asyncio.to_thread(evm.trade)
            state = await follower.until_head()
            now = state.concentrated(address)
            assert now is not None
            assert len(now.ticks.net) == 6
            assert not low <= now.tick < high
            assert seen(state) == seen(await read(evm, rpc, state.block)) != before
            # The chain turns round: it is as if none of it had been, and goes on otherwise.
            await asyncio.to_thread(devnode.revert, evm.rpc, snapshot)
            state = await follower.until_head()
            if Reorg in follower.kinds:
                assert seen(state) == before
            await asyncio.to_thread(push, evm, owner, wrapped, 3000, 90 * NATIVE_WEI)
            state = await follower.until_head()
            assert Reorg in follower.kinds
            assert follower.kinds.count(Reset) == 1
            assert seen(state) == seen(await read(evm, rpc, state.block)) != before
            task.cancel()

    asyncio.run(story())


def test_what_is_no_v3_factory_is_named(evm: DevNode) -> None:
    async def story() -> None:
        async with Rpc(evm.ws, chain_id=evm.chain_id) as rpc:
            block = await head_of(rpc)
            for address in (evm.deployment.wrapped_native, evm.deployment.factory("uniswap_v2").address):
                wrong = V3FactoryConfig(name="wrong", address=EvmAddress(raw(address)))
                with pytest.raises(DiscoveryError, match=r"wrong at 0x.* is no V3 factory: getPool answers"):
                    await discover_concentrated(rpc, [wrong], tokens(evm), block)

    asyncio.run(story())


def test_a_gap_between_a_v2_pair_and_a_v3_pool_is_found_taken_and_booked_to_the_wei(
    evm: DevNode, owner: Account, stranger: Account, installation: Installation, wrapped: bytes
) -> None:
    installation.v3_fees = (500, 3000)
    installation.write()
    with installation.agent("strategy_engine"):
        filled(installation)
        at_rest(installation)
        # The pool of 500 alone is moved, through its seeded ticks' inner range.
        push(evm, stranger, wrapped, 500, 40 * NATIVE_WEI)
        at_rest(installation)
        for _ in range(2):
            evm.trade()
        at_rest(installation)
    fills = installation.mev("opportunities", "--state", "included")["opportunities"]
    kinds = set()
    assert all(fill["simulated_profit_wei"] == fill["expected_profit_wei"] for fill in fills), fills
    for fill in fills[:5]:
        (sent,) = installation.mev("explain", fill["opportunity"])["transactions"]
        receipt = evm.rpc.call("eth_getTransactionReceipt", sent["transaction"])
        # What has two indexed fields and more than one word: the Swaps of both kinds.
        logs = [log for log in receipt["logs"] if len(log["topics"]) == 3 and len(log["data"]) > 66]
        swaps = [log["topics"][0] == SWAP for log in logs]
        kinds.add((sum(swaps), len(swaps)))
    assert any(v3 for v3, _ in kinds), kinds
    assert any(v3 < count for v3, count in kinds), kinds
    books = installation.mev("reconcile")
    assert books["agrees"], books
    earned = installation.mev("pnl")["chains"]["ethereum"]
    executor = installation.mev("executor", "address", "--chain", "ethereum")["executor"]
    assert owner.balance(wrapped, raw(executor)) == CAPITAL_WEI + int(earned["profit_wei"])
    for symbol in ("USDC", "DAI"):
        assert owner.balance(raw(evm.deployment.token(symbol).address), raw(executor)) == 0
