"""Balancer V2's pools by their published contracts: read from their vault, kept by its events and their own, undone."""

from __future__ import annotations

import asyncio
from functools import partial
from itertools import permutations
from typing import TYPE_CHECKING

import pytest
from mev.chain.rpc import Rpc
from mev.market.amm.balancer import StablePool, StableRounding, WeightedPool
from mev.market.balancer_state import BALANCER_TOPICS, Paused, places, read_balancer
from mev.market.concentrated_state import Unusable
from mev.market.discovery import DiscoveryError
from mev.market.state import MarketState
from mev.runtime.config import BalancerVaultConfig, EvmAddress, PoolId

from tests.integration.mev.amm.test_algebra_live import follow
from tests.integration.mev.amm.test_curves import or_none
from tests.integration.mev.amm.vaults import COMPOSABLE_EXIT_ALL, EXIT_ALL, Vault
from tests.integration.mev.conftest import NATIVE_WEI, raw, text
from tests.integration.mev.test_v3_live import head_of

if TYPE_CHECKING:
    from mev.domain import Block, Pool
    from mev.market.balancer_state import Balancer

    from lab.evm.devnode import DevNode
    from lab.evm.npm import Modules

DEPTH = 100 * NATIVE_WEI
FEE = 3 * 10**15


class Place:
    """A vault with a pool of each kind between wrapped native and two tokens; one that nobody watches stands among them."""

    def __init__(self, evm: DevNode, modules: Modules, published: Modules, wrapped: bytes) -> None:
        self.vault = Vault(evm, modules, published)
        bench = self.vault.bench
        self.tokens = sorted((wrapped, raw(bench.token()), raw(bench.token())))
        ten = [DEPTH] * 3
        two = self.tokens[:2]
        self.pools = {
            "weighted 2021": self.vault.weighted(self.tokens, [5 * 10**17, 3 * 10**17, 2 * 10**17], FEE, ten),
            "weighted 2023": self.vault.weighted(two, [8 * 10**17, 2 * 10**17], FEE, ten[:2], newer=True),
            "stable 2021": self.vault.stable(self.tokens, 200, 10**15, [DEPTH, 2 * DEPTH, DEPTH // 2]),
            "composable 2023": self.vault.composable(self.tokens, 50, 10**14, [DEPTH, 2 * DEPTH, DEPTH // 3]),
        }

    def config(self, *identities: bytes) -> BalancerVaultConfig:
        named = tuple(PoolId(each) for each in identities or self.pools.values())
        return BalancerVaultConfig(name="balancer_v2", address=EvmAddress(raw(self.vault.vault)), pools=named)

    async def read(self, rpc: Rpc, block: Block, *identities: bytes) -> dict[Pool, Balancer]:
        return await read_balancer(rpc, [self.config(*identities)], self.tokens, block)

    def of(self, states: dict[Pool, Balancer], kind: str) -> Balancer:
        """Return what all pairs of a pool hold, one and the same."""
        [held] = {id(state): state for pool, state in states.items() if pool.whole == self.pools[kind][:20]}.values()
        return held


@pytest.fixture
def place(evm: DevNode, modules: Modules, published: Modules, wrapped: bytes) -> Place:
    return Place(evm, modules, published, wrapped)


def test_every_version_is_told_by_what_it_gives(evm: DevNode, place: Place) -> None:
    """Three pairs of three tokens; between any two of them, for amounts that reading did not ask about, what the contracts give to the wei."""

    async def story() -> dict[Pool, Balancer]:
        async with Rpc(evm.ws, chain_id=evm.chain_id) as rpc:
            wrong = BalancerVaultConfig(
                name="balancer_v2", address=EvmAddress(place.tokens[0]), pools=place.config().pools
            )
            with pytest.raises(DiscoveryError, match="no Balancer vault"):
                await read_balancer(rpc, [wrong], place.tokens, await head_of(rpc))
            return await place.read(rpc, await head_of(rpc))

    states = asyncio.run(story())
    assert len(states) == 3 + 1 + 3 + 3
    older, newer = place.of(states, "weighted 2021"), place.of(states, "weighted 2023")
    stable, composable = place.of(states, "stable 2021"), place.of(states, "composable 2023")
    assert isinstance(older, WeightedPool)
    assert isinstance(newer, WeightedPool)
    assert (older.shortcuts, newer.shortcuts) == (False, True)
    assert isinstance(stable, StablePool)
    assert isinstance(composable, StablePool)
    assert (stable.rounding, composable.rounding) == (StableRounding.UP, StableRounding.DOWN)
    query = "queryBatchSwap(uint8,(bytes32,uint256,uint256,uint256,bytes)[],address[],(address,bool,address,bool))"
    nobody = ("0x" + 40 * "1", False, "0x" + 40 * "1", False)
    calls, ours = [], []
    for pool, state in states.items():
        assert pool.balancer is not None
        assert isinstance(state, WeightedPool | StablePool)
        for zero_for_one in (True, False):
            i, j = places(pool, zero_for_one=zero_for_one)
            ends = [text(pool.balancer.tokens[i]), text(pool.balancer.tokens[j])]
            for amount in (1, 10**6 + 1, NATIVE_WEI // 3, 7 * NATIVE_WEI, 20 * NATIVE_WEI + 1):
                calls.append((place.vault.vault, query, (0, [(pool.balancer.id, 0, 1, amount, b"")], ends, nobody)))
                ours.append(or_none(partial(state.amount_out, i, j, amount)))
    answers = place.vault.bench.ask_each(["int256[]"], calls)
    assert [answer and -answer[0][1] for answer in answers] == ours
    assert sum(bool(each) for each in ours) > len(ours) // 2


def test_a_vault_s_events_and_the_pools_own_keep_what_is_read_and_go_back(evm: DevNode, place: Place) -> None:
    """Swaps in all directions, joins and exits with fees due to the protocol, other fees, another amplification, a pause; undone to the last bit."""
    vault, pools, tokens = place.vault, place.pools, place.tokens

    async def story() -> None:
        async with Rpc(evm.ws, chain_id=evm.chain_id) as rpc:
            collector = vault.bench.ask(["address"], vault.vault, "getProtocolFeesCollector()")[0]
            vault.allowed(collector, "setSwapFeePercentage(uint256)", 5 * 10**17)
            first = await head_of(rpc)
            before = await place.read(rpc, first)
            market = MarketState(first, before)
            assert market.unusable() == {}
            for kind, identity in pools.items():
                for one, other in permutations(tokens[: 2 if kind == "weighted 2023" else 3], 2):
                    vault.swap(identity, one, other, NATIVE_WEI)
            for kind in ("weighted 2021", "stable 2021"):
                vault.join(pools[kind], tokens, [NATIVE_WEI, 2 * NATIVE_WEI, 0])
                vault.exit(pools[kind], tokens, vault.shares(pools[kind]) // 3, EXIT_ALL)
            vault.exit(pools["weighted 2023"], tokens[:2], vault.shares(pools["weighted 2023"]) // 2)
            own = pools["composable 2023"][:20]
            ordered = sorted([*tokens, own])
            vault.join(pools["composable 2023"], ordered, [0 if token == own else NATIVE_WEI for token in ordered])
            shares = vault.shares(pools["composable 2023"]) // 4
            vault.exit(pools["composable 2023"], ordered, shares, COMPOSABLE_EXIT_ALL)
            # One of its tokens for its own, which is in none of the pairs.
            vault.swap(pools["composable 2023"], tokens[0], own, NATIVE_WEI)
            for identity in pools.values():
                vault.bench.send(vault.pool(identity), "setSwapFeePercentage(uint256)", 2 * 10**15)
            block = await head_of(rpc)
            there = await place.read(rpc, block)
            assert await follow(rpc, market, block, BALANCER_TOPICS) == {pool.address for pool in before}
            assert market.states() == there
            assert {state.fee for state in there.values() if not isinstance(state, Unusable)} == {2 * 10**15}
            for pool, state in there.items():
                # All pairs of one pool hold the very same.
                assert state == place.of(there, next(k for k, v in pools.items() if v[:20] == pool.whole))
            assert market.undo_to(first) == {pool.address for pool in before}
            assert market.states() == before

    asyncio.run(story())


def test_a_pool_that_is_paused_or_moves_its_amplification_is_left_alone(evm: DevNode, place: Place) -> None:
    vault, stable = place.vault, place.pools["stable 2021"]

    async def story() -> None:
        async with Rpc(evm.ws, chain_id=evm.chain_id) as rpc:
            first = await head_of(rpc)
            before = await place.read(rpc, first, stable)
            market = MarketState(first, before)
            vault.allowed(vault.pool(stable), "setPaused(bool)", True)
            # What is in it may be taken out meanwhile.
            vault.exit(stable, place.tokens, vault.shares(stable) // 2)
            block = await head_of(rpc)
            await follow(rpc, market, block, BALANCER_TOPICS)
            assert {type(held) for held in market.states().values()} == {Paused}
            assert {*market.unusable().values()} == {"it is paused"}
            assert await place.read(rpc, block, stable) == {}
            vault.bench.send(vault.pool(stable), "setPaused(bool)", False)
            await follow(rpc, market, await head_of(rpc), BALANCER_TOPICS)
            assert market.states() == await place.read(rpc, market.block, stable) != before
            begun = "startAmplificationParameterUpdate(uint256,uint256)"
            now = int(evm.rpc.call("eth_getBlockByNumber", "latest", False)["timestamp"], 16)
            vault.bench.send(vault.pool(stable), begun, 300, now + 2 * 86_400)
            await follow(rpc, market, await head_of(rpc), BALANCER_TOPICS)
            assert {*market.unusable().values()} == {
                "its amplification is moving: it has to be read anew when it stays"
            }
            assert await place.read(rpc, market.block, stable) == {}
            vault.bench.send(vault.pool(stable), "stopAmplificationParameterUpdate()")
            # Read anew, not guessed.
            there = await place.read(rpc, await head_of(rpc), stable)
            assert len(there) == 3
            market = MarketState(await head_of(rpc), there)
            vault.allowed(vault.vault, "setPaused(bool)", True)
            await follow(rpc, market, await head_of(rpc), BALANCER_TOPICS)
            assert len(market.unusable()) == 3

    asyncio.run(story())
