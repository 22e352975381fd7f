"""Curve's pools by stand-ins of ours: read by what they answer, kept by their events, asked where these say too little, undone."""

from __future__ import annotations

import asyncio
from functools import partial
from itertools import permutations
from typing import TYPE_CHECKING

import pytest
from mev.chain.rpc import Rpc
from mev.market.amm.curve import CurvePool, Version
from mev.market.curve_read import read_curve
from mev.market.curve_state import CURVE_TOPICS, Unread
from mev.market.state import MarketState
from mev.runtime.config import CurvePoolConfig, EvmAddress
from structlog.testing import capture_logs

from tests.integration.mev.amm.forks import on
from tests.integration.mev.amm.stable import Stable
from tests.integration.mev.amm.test_algebra_live import follow
from tests.integration.mev.amm.test_curves import or_none
from tests.integration.mev.conftest import NATIVE_WEI, raw, text
from tests.integration.mev.test_v3_live import head_of

if TYPE_CHECKING:
    from mev.domain import Block, Pool
    from mev.market.curve_state import Curve

    from lab.evm.devnode import DevNode
    from lab.evm.npm import Modules

MANY = 10**6
HOUR = 3_600


class Place:
    """A pool of 2020 of three coins of different decimals, one of the templates since, and a meta pool over each of these."""

    def __init__(self, evm: DevNode, modules: Modules) -> None:
        self.evm, self.bench = evm, on(evm, modules)
        make = partial(Stable, evm, modules)
        decimals = (18, 6, 8)
        self.tokens = [raw(self.bench.token(each)) for each in decimals]
        self.extra = raw(self.bench.token(6))
        whole = [MANY * 10**each for each in decimals]
        self.old = make(self.tokens, [whole[0], 2 * whole[1], whole[2] // 2], 100, first=True)
        self.new = make(self.tokens[:2], [whole[0], 3 * whole[1]], 50, fee=3 * 10**7)
        ends = [MANY * 10**6 // 3, MANY * NATIVE_WEI // 2]
        self.metas = [make([self.extra, base.address], ends, 150, base=base) for base in (self.old, self.new)]
        self.pools = {"old": self.old, "new": self.new, "meta of old": self.metas[0], "meta of new": self.metas[1]}

    def config(self, *names: str) -> list[CurvePoolConfig]:
        named = names or tuple(self.pools)
        return [
            CurvePoolConfig(name=name.replace(" ", "_"), address=EvmAddress(self.pools[name].address)) for name in named
        ]

    async def read(self, rpc: Rpc, block: Block, *names: str) -> dict[Pool, Curve]:
        tokens = [*self.tokens, self.extra, *(base.address for base in (self.old, self.new))]
        return await read_curve(rpc, self.config(*names), tokens, block)

    def of(self, states: dict[Pool, Curve], name: str) -> CurvePool:
        """Return what all pairs of a pool hold, one and the same."""
        [held] = {id(state): state for pool, state in states.items() if pool.whole == self.pools[name].address}.values()
        assert isinstance(held, CurvePool)
        return held

    def move(self) -> None:
        """Exchange in all directions, put in and take out in every way, set other fees: in every pool."""
        for pool in self.pools.values():
            count = len(pool.tokens)
            [*held] = [
                pool.bench.ask(["uint256"], text(token), "balanceOf(address)", pool.at)[0] for token in pool.tokens
            ]
            for i, j in permutations(range(count), 2):
                pool.exchange(i, j, held[i] // 50)
            pool.add(*(each // 10 if k == 0 else each // 1000 for k, each in enumerate(held)))
            pool.remove(pool.shares() // 7)
            pool.remove_imbalance(*(each // (20 + 30 * k) for k, each in enumerate(held)))
            pool.send("set_fee(uint256,uint256)", 10**6, 10**9)
            pool.exchange(0, 1, held[0] // 90)


@pytest.fixture
def place(evm: DevNode, modules: Modules) -> Place:
    return Place(evm, modules)


def test_what_is_read_gives_what_the_pools_give(evm: DevNode, place: Place) -> None:
    """For amounts that reading did not ask about, in every direction of plain and meta pools of both kinds."""

    async def story() -> dict[Pool, Curve]:
        async with Rpc(evm.ws, chain_id=evm.chain_id) as rpc:
            return await place.read(rpc, await head_of(rpc))

    states = asyncio.run(story())
    assert len(states) == 3 + 1 + 1 + 1
    assert {place.of(states, name).version for name in ("old", "meta of old")} == {Version.FIRST, Version.SECOND}
    calls, ours = [], []
    for name, pool in place.pools.items():
        held = place.of(states, name)
        for i, j in permutations(range(len(pool.tokens)), 2):
            for part in (3, 10, 10**2, 10**4 + 1, 10**9):
                amount = held.balances[i] // part + 1
                calls.append((pool.at, "get_dy(int128,int128,uint256)", (i, j, amount)))
                ours.append(or_none(partial(held.get_dy, i, j, amount)))
    answers = place.bench.ask_each(["uint256"], calls)
    assert [answer and answer[0] for answer in answers] == ours
    assert sum(bool(each) for each in ours) > len(ours) * 3 // 4
    # What an exchange gives, which in a pool of 2020 may be a unit off what it says.
    for name, pool in place.pools.items():
        held = place.of(states, name)
        [before] = place.bench.ask(["uint256"], text(pool.tokens[1]), "balanceOf(address)", place.bench.account)
        pool.exchange(0, 1, held.balances[0] // 7 + 1)
        [after] = place.bench.ask(["uint256"], text(pool.tokens[1]), "balanceOf(address)", place.bench.account)
        assert after - before == held.amount_out(0, 1, held.balances[0] // 7 + 1)


def test_events_keep_what_is_read_and_go_back(evm: DevNode, place: Place) -> None:
    async def story() -> None:
        async with Rpc(evm.ws, chain_id=evm.chain_id) as rpc:
            first = await head_of(rpc)
            before = await place.read(rpc, first)
            market = MarketState(first, before)
            assert market.unusable() == {}
            every = {pool.address for pool in before}
            await asyncio.to_thread(place.move)
            block = await head_of(rpc)
            there = await place.read(rpc, block)
            assert await follow(rpc, market, block, CURVE_TOPICS) == every
            assert market.states() == there
            assert {place.of(there, name).fee for name in place.pools} == {10**6}
            # A withdrawal in one coin does not say in which.
            for pool in place.pools.values():
                pool.remove_one(pool.shares() // 9, 1)
            middle = await head_of(rpc)
            assert await follow(rpc, market, middle, CURVE_TOPICS) == every
            assert market.states() == await place.read(rpc, middle) != there
            # What the meta pools remember of their bases' prices is forgotten after ten minutes, which no event says either.
            place.evm.rpc.call("evm_increaseTime", 700)
            place.evm.mine()
            metas = {pool.address for pool in before if pool.curve is not None and pool.curve.base is not None}
            assert await follow(rpc, market, await head_of(rpc), CURVE_TOPICS) == metas
            assert market.states() == await place.read(rpc, market.block)
            assert market.undo_to(block) == every
            assert market.states() == there
            assert market.undo_to(first) == every
            assert market.states() == before

    asyncio.run(story())


def test_a_plain_pool_s_events_alone_are_enough_but_for_withdrawals_in_one_coin(evm: DevNode, place: Place) -> None:
    """Blocks that are behind ask nobody."""

    async def story() -> None:
        async with Rpc(evm.ws, chain_id=evm.chain_id) as rpc:
            first = await head_of(rpc)
            market = MarketState(first, await place.read(rpc, first, "old", "new"))
            await asyncio.to_thread(place.move)
            mute = Mute(rpc)
            await follow(mute, market, await head_of(rpc), CURVE_TOPICS)  # type: ignore[arg-type]
            assert market.states() == await place.read(rpc, market.block, "old", "new")
            place.old.remove_one(place.old.shares() // 9, 2)
            with capture_logs() as told:
                await follow(mute, market, await head_of(rpc), CURVE_TOPICS)  # type: ignore[arg-type]
            assert [each["event"] for each in told] == ["curve pools not asked"]
            left_alone = {pool.address for pool in market.pools().values() if pool.whole == place.old.address}
            assert market.unusable() == dict.fromkeys(left_alone, "the node did not say what it holds")
            assert {type(market.held(each)) for each in left_alone} == {Unread}
            # Asked again after the next block.
            place.evm.mine()
            await follow(rpc, market, await head_of(rpc), CURVE_TOPICS)
            assert market.states() == await place.read(rpc, market.block, "old", "new")

    asyncio.run(story())


class Mute:
    """A node that answers everything but calls of contracts."""

    def __init__(self, rpc: Rpc) -> None:
        self.call_as = rpc.call_as

    async def batch(self, calls: object) -> list[object]:
        from mev.chain.rpc import RpcUnavailableError  # noqa: PLC0415

        raise RpcUnavailableError(str(calls))


def test_an_amplification_on_its_way_is_another_one_in_each_block(evm: DevNode, place: Place) -> None:
    async def story() -> None:
        async with Rpc(evm.ws, chain_id=evm.chain_id) as rpc:
            first = await head_of(rpc)
            before = await place.read(rpc, first)
            market = MarketState(first, before)
            now = int(evm.rpc.call("eth_getBlockByNumber", "latest", False)["timestamp"], 16)
            for pool in place.pools.values():
                pool.send("ramp_A(uint256,uint256)", 300, now + HOUR)
            seen = set()
            for _ in range(3):
                # Nothing is told of it.
                place.evm.rpc.call("anvil_mine", hex(2), hex(15))
                await follow(rpc, market, await head_of(rpc), CURVE_TOPICS)
                there = await place.read(rpc, market.block)
                assert market.states() == there
                seen.add(place.of(there, "new").amplification)
            assert len(seen) > 1
            assert all(place.of(there, name).ramp is not None for name in place.pools)
            place.new.exchange(0, 1, NATIVE_WEI)
            for pool in place.pools.values():
                pool.send("stop_ramp_A()")
            await follow(rpc, market, await head_of(rpc), CURVE_TOPICS)
            assert market.states() == await place.read(rpc, market.block)
            assert not any(place.of(market.states(), name).ramp for name in place.pools)  # type: ignore[arg-type]
            market.undo_to(first)
            assert market.states() == before

    asyncio.run(story())
