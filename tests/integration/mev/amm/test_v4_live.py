"""Uniswap V4's pools by the published PoolManager: read from its storage, kept by its events, swapped in by the executor, traded."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

import pytest
from mev.chain.abi import checksum
from mev.chain.rpc import Rpc
from mev.market.amm.concentrated import ConcentratedPool
from mev.market.concentrated_state import V4_TOPICS
from mev.market.discovery import DiscoveryError
from mev.market.resume import resume
from mev.market.snapshot import save
from mev.market.state import MarketState
from mev.market.v4_state import find_v4, read_v4
from mev.runtime.config import EvmAddress, V4ManagerConfig, V4PoolConfig
from mev.trading.execution import contract
from mev.trading.simulation import Method, Simulated, Simulator

from lab.evm.rpc import RpcError
from tests.integration.mev.amm.forks import PRICE_ONE, Managed
from tests.integration.mev.amm.test_algebra_live import as_it_is, follow
from tests.integration.mev.amm.test_executor_kinds import DEPTH, Shop
from tests.integration.mev.conftest import (
    CAPITAL_WEI,
    NATIVE_WEI,
    Account,
    Installation,
    at_rest,
    raw,
    text,
    wait_for,
    word,
)
from tests.integration.mev.paths import robs_nothing, through
from tests.integration.mev.test_executor import FEE, LIES, HostileMarket, amount_out, selector
from tests.integration.mev.test_v3_live import head_of

if TYPE_CHECKING:
    from pathlib import Path

    from mev.domain import Block, Pool
    from mev.market.concentrated_state import Concentrated

    from lab.evm.devnode import DevNode
    from lab.evm.npm import Modules

KIND = V4PoolConfig(fee=3000, tick_spacing=60)
FAR = 887_220


class Place:
    """A manager, a pool of it at a price of one, and a token whose V2 pair gives two of it for one wrapped native."""

    def __init__(
        self, evm: DevNode, modules: Modules, published: Modules, somebody: Account, wrapped: bytes, *, native: bool
    ) -> None:
        self.shop = Shop(somebody, evm, modules, wrapped)
        self.managed = Managed(evm, modules, published)
        self.native = native
        ends = (wrapped, self.shop.token)
        self.pool = self.managed.pool(*ends, KIND.fee, PRICE_ONE, DEPTH, FAR, KIND.tick_spacing, native=native)
        self.config = V4ManagerConfig(name="uniswap_v4", address=EvmAddress(raw(self.managed.manager)))
        self.buys = self.pool.token0 == wrapped


@pytest.fixture(params=[False, True], ids=["wrapped", "native"])
def place(
    evm: DevNode,
    modules: Modules,
    published: Modules,
    stranger: Account,
    wrapped: bytes,
    request: pytest.FixtureRequest,
) -> Place:
    return Place(evm, modules, published, stranger, wrapped, native=request.param)


async def read(rpc: Rpc, place: Place, tokens: list[bytes], block: Block) -> dict[Pool, Concentrated]:
    return await read_v4(rpc, await find_v4(rpc, [place.config], tokens, block, place.shop.wrapped), block)


def test_a_manager_s_events_keep_what_is_read_and_go_back(
    evm: DevNode, place: Place, wrapped: bytes, tmp_path: Path
) -> None:
    """Swaps across ticks, liquidity in and out, the protocol's fee, another pool's events between them; undone to the last bit."""
    tokens = [wrapped, place.shop.token]
    managed, pool = place.managed, place.pool

    async def story() -> None:
        path = tmp_path / "snapshot"
        async with Rpc(evm.ws, chain_id=evm.chain_id) as rpc:
            first = await head_of(rpc)
            before = await read(rpc, place, tokens, first)
            assert list(before) == [pool]
            save(path, evm.chain_id, first, before)
            market = MarketState(first, before)
            # One of other tokens, which nobody watches.
            managed.pool(place.shop.token, raw(managed.bench.token()), 500, PRICE_ONE, DEPTH, 600, 10)
            managed.provide(pool, -60, 120, DEPTH)
            managed.provide(pool, -600, -120, DEPTH // 3)
            managed.swap_in(pool, DEPTH, zero_for_one=True)
            managed.set_protocol_fee(pool, 1000, 250)
            managed.swap_in(pool, DEPTH // 3, zero_for_one=False)
            managed.provide(pool, -60, 120, -DEPTH // 2)
            block = await head_of(rpc)
            [there] = (await read(rpc, place, tokens, block)).values()
            [resumed] = (await resume(rpc, evm.chain_id, block, path)).values()
            assert await follow(rpc, market, block, V4_TOPICS) == {pool.address}
            held = market.concentrated(pool.address)
            assert held is not None
            assert as_it_is(there) == as_it_is(resumed) == as_it_is(held)  # type: ignore[arg-type]
            assert held.fees == (3997, 3250)
            assert market.undo_to(first) == {pool.address}
            assert as_it_is(market.held(pool.address)) == as_it_is(before[pool])  # type: ignore[arg-type]
            assert isinstance(before[pool], ConcentratedPool)
            wrong = V4ManagerConfig(name="uniswap_v4", address=EvmAddress(wrapped))
            with pytest.raises(DiscoveryError, match="no V4 manager"):
                await find_v4(rpc, [wrong], tokens, block)

    asyncio.run(story())


@pytest.mark.parametrize("order", ["last", "first", "alone on both sides"])
def test_the_executor_gets_what_our_mathematics_says_and_leaves_nothing(
    evm: DevNode, owner: Account, executor: bytes, wrapped: bytes, place: Place, order: str
) -> None:
    """Bought in the cheap pair or in a V4 pool, sold in another V4 pool or in a pair."""
    tokens = [wrapped, place.shop.token]
    ends = (wrapped, place.shop.token)
    # The other one of the two kinds.
    dear = place.managed.pool(*ends, 500, PRICE_ONE, DEPTH, FAR, 10, native=not place.native)
    path = {
        "last": (place.shop.cheap, place.pool),
        "first": (place.pool, place.shop.pair("sushi_v2", DEPTH, DEPTH // 4)),
        "alone on both sides": (place.pool, dear),
    }[order]
    if order == "alone on both sides":
        place.managed.swap_in(dear, DEPTH // 2, zero_for_one=dear.token0 == wrapped)

    async def held() -> dict[bytes, Concentrated]:
        async with Rpc(evm.ws, chain_id=evm.chain_id) as rpc:
            found = await read(rpc, place, tokens, await head_of(rpc))
            return {pool.address: state for pool, state in found.items()}

    states = asyncio.run(held())
    cycle, used = place.shop.cycle(wrapped, *path)
    amount = NATIVE_WEI
    for hop in cycle.hops:
        state = states.get(hop.pool)
        if isinstance(state, ConcentratedPool):
            amount = state.swap_exact_in(amount, zero_for_one=hop.zero_for_one).amount_out
        else:
            amount = amount_out(owner, used[hop.pool], amount, zero_for_one=hop.zero_for_one)
    data = contract.encode_execute(cycle, used, NATIVE_WEI, 0, 0)
    assert int.from_bytes(owner.call(executor, data), "big") == amount - NATIVE_WEI > 0

    async def said() -> list[Simulated]:
        async with Rpc(evm.ws, chain_id=evm.chain_id) as rpc:
            head, traced = await head_of(rpc), Simulator(rpc)
            # As of a node that has no eth_simulateV1.
            traced._without_until = math.inf
            return [await each.simulate(owner.address, executor, data, head) for each in (Simulator(rpc), traced)]

    whole, traced = asyncio.run(said())
    assert (whole.method, traced.method) == (Method.SIMULATE, Method.TRACE)
    # Native coin that is unwrapped for the pool, or wrapped that comes out of it, is nobody's gain by either.
    assert whole.changes == traced.changes == {wrapped: amount - NATIVE_WEI}
    assert whole.profit == traced.profit == amount - NATIVE_WEI
    # What was there before is not passed on with it.
    owner.send(place.shop.token, selector("mint(uint256)") + word(7))
    owner.send(place.shop.token, selector("transfer(address,uint256)") + executor.rjust(32, b"\0") + word(7))
    assert owner.send(executor, data)["status"] == "0x1"
    assert owner.balance(wrapped, executor) == CAPITAL_WEI + amount - NATIVE_WEI
    assert owner.balance(place.shop.token, executor) == 7
    assert int(evm.rpc.call("eth_getBalance", text(executor), "latest"), 16) == 0


def test_native_coin_that_nobody_asked_for_is_not_taken(
    evm: DevNode, owner: Account, executor: bytes, wrapped: bytes
) -> None:
    assert owner.send(executor, value_wei=1)["status"] == "0x0"
    assert int(evm.rpc.call("eth_getBalance", text(executor), "latest"), 16) == 0
    assert owner.balance(wrapped, executor) == CAPITAL_WEI


def test_more_than_a_pool_takes_is_refused_whole(owner: Account, executor: bytes, wrapped: bytes, place: Place) -> None:
    place.managed.provide(place.pool, -FAR, FAR, -DEPTH)
    place.managed.provide(place.pool, -60, 60, DEPTH // 100)
    data = contract.encode_execute(*place.shop.cycle(wrapped, place.shop.cheap, place.pool), NATIVE_WEI, 0, 0)
    with pytest.raises(RpcError, match="partial"):
        owner.call(executor, data)
    assert owner.send(executor, data)["status"] == "0x0"
    assert owner.balance(wrapped, executor) == CAPITAL_WEI


def unlock_callback() -> bytes:
    return selector("unlockCallback(bytes)") + word(32) + word(0)


def test_nobody_is_let_in_without_a_swap(owner: Account, stranger: Account, executor: bytes, wrapped: bytes) -> None:
    for somebody in (owner, stranger):
        with pytest.raises(RpcError, match="not the pool"):
            somebody.call(executor, unlock_callback())
    assert owner.balance(wrapped, executor) == CAPITAL_WEI


class HostileManaged:
    """A hostile token with a V4 pool at half the price of its V2 pair."""

    def __init__(self, evm: DevNode, modules: Modules, published: Modules, owner: Account, wrapped: bytes) -> None:
        self.market = HostileMarket(evm, owner, wrapped)
        self.managed = Managed(evm, modules, published)
        mint = selector("mint(address,uint256)") + word(raw(self.managed.bench.account)) + word(10 * DEPTH)
        owner.send(self.market.token, mint)
        self.managed.given.add(self.market.token)
        pool = self.managed.pool(wrapped, self.market.token, KIND.fee, PRICE_ONE, DEPTH, FAR, KIND.tick_spacing)
        pair_of = self.market.arbitrage.pools[self.market.arbitrage.cycle.hops[0].pool]
        cycle, used = through(wrapped, pair_of, pool)
        self.out = contract.encode_execute(cycle, used, NATIVE_WEI, 0, 0)


@pytest.fixture
def hostile(evm: DevNode, modules: Modules, published: Modules, owner: Account, wrapped: bytes) -> HostileManaged:
    return HostileManaged(evm, modules, published, owner, wrapped)


@pytest.mark.parametrize("behaviour", [LIES, FEE])
def test_a_token_that_keeps_what_it_moves_costs_nothing_but_gas(
    owner: Account, executor: bytes, wrapped: bytes, hostile: HostileManaged, behaviour: int
) -> None:
    """The manager wants all of what the swap took."""
    assert int.from_bytes(owner.call(executor, hostile.out), "big") > 0
    hostile.market.behave(behaviour)
    assert owner.send(executor, hostile.out)["status"] == "0x0"
    assert owner.balance(wrapped, executor) == CAPITAL_WEI


@pytest.mark.parametrize("attack", ["withdraw", "execute", "callback"])
def test_a_re_entrant_token_gets_nothing(
    owner: Account, executor: bytes, wrapped: bytes, hostile: HostileManaged, attack: str
) -> None:
    payload = {
        "withdraw": contract.encode_withdraw(wrapped, CAPITAL_WEI),
        "execute": hostile.out,
        "callback": unlock_callback(),
    }[attack]
    robs_nothing(owner, executor, wrapped, hostile.market, hostile.out, payload)


def test_what_opens_between_a_v4_pool_and_a_pair_is_found_in_its_block_and_booked(
    evm: DevNode,
    modules: Modules,
    published: Modules,
    owner: Account,
    stranger: Account,
    wrapped: bytes,
    installation: Installation,
) -> None:
    """Of the native coin, which takes the longer way through the books; its token is one that the manager's events name, and nobody configured."""
    place = Place(evm, modules, published, stranger, wrapped, native=True)
    # What can still be turned back is not looked at.
    evm.mine(70)
    installation.chain_tables = (
        f'v4_managers = [{{ name = "uniswap_v4", address = "{place.managed.manager}" }}]\n'
        f'[chains.ethereum.discovery]\ndirectory = "{installation.directory / "discovery"}"\n'
    )
    installation.write()
    executor = bytes.fromhex(installation.mev("executor", "address", "--chain", "ethereum")["executor"][2:])

    def swaps() -> list[int]:
        assert place.pool.v4 is not None
        wanted = {"address": place.managed.manager, "fromBlock": "earliest"}
        logs = evm.rpc.call("eth_getLogs", {**wanted, "topics": [None, text(place.pool.v4.id)]})
        mine = [log for log in logs if log["topics"][2] == "0x" + executor.rjust(32, b"\0").hex()]
        return [int(log["blockNumber"], 16) for log in mine]

    with installation.agent("strategy_engine"):
        wait_for("a swap in the pool", swaps)
        at_rest(installation)
        before = int(evm.rpc.call("eth_blockNumber"), 16)
        place.managed.swap_in(place.pool, DEPTH // 3, zero_for_one=place.buys)
        wait_for("a swap after somebody's", lambda: max(swaps()) > before)
        at_rest(installation)
    # Found in the swap's own block, which was the next one, and taken in the one after it.
    assert before + 2 in swaps()
    fills = installation.mev("opportunities", "--state", "included")["opportunities"]
    assert before + 1 in [fill["block_number"] for fill in fills if checksum(place.pool.address) in fill["pools"]]
    assert owner.balance(place.shop.token, executor) == 0
    earned = installation.mev("pnl")["chains"]["ethereum"]
    assert owner.balance(wrapped, executor) == CAPITAL_WEI + int(earned["profit_wei"])
    assert int(earned["bribe_wei"]) == 0
    assert installation.mev("reconcile")["agrees"]
    listed = installation.mev("pools")["chains"]["ethereum"]["pools"]
    [watched] = [pool for pool in listed if pool["factory"] == "uniswap_v4"]
    assert (watched["kind"], watched["fee_ppm"], watched["quarantined"]) == ("v4", KIND.fee, None)
    looked = installation.mev("replay", f"{before}-{before + 2}")["blocks"]
    # Blocks that are past show the same one.
    assert looked[1]["best"]["opportunity"] in [fill["opportunity"] for fill in fills]
    held = installation.mev("backtest", f"{before}-{before + 2}", "--gas", "400000")["blocks"]
    assert int(held[1]["expected_profit_wei"]) >= int(looked[1]["best"]["expected_profit_wei"]) > 0
