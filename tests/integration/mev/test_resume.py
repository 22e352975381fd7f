"""The market from a snapshot: what holds is gone on with, what does not is put aside and said, on a real chain."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from mev.chain.rpc import Rpc
from mev.domain import Pool, V2State
from mev.market.amm.concentrated import ConcentratedPool
from mev.market.resume import MOST_BLOCKS, market_at, resume
from mev.market.snapshot import SnapshotError, save
from mev.market.state import MarketState, PoolState
from structlog.testing import capture_logs

from lab.evm import devnode
from tests.integration.mev.conftest import NATIVE_WEI, Account, Installation, at_rest, wait_for
from tests.integration.mev.test_executor_v3 import push
from tests.integration.mev.test_market import factories, tokens
from tests.integration.mev.test_v3_live import head_of, read, seen, v3_factories

if TYPE_CHECKING:
    from collections.abc import Callable

    from mev.domain import Block

    from lab.evm.devnode import DevNode


async def market(evm: DevNode, rpc: Rpc, path: Path) -> MarketState:
    block = await head_of(rpc)
    states = await market_at(rpc, evm.chain_id, block, tokens(evm), factories(evm), v3_factories(evm), path)
    return MarketState(block, states)


def test_what_was_written_is_gone_on_with(evm: DevNode, owner: Account, wrapped: bytes, tmp_path: Path) -> None:
    async def story() -> None:
        path = tmp_path / "ethereum.snapshot"
        async with Rpc(evm.ws, chain_id=evm.chain_id) as rpc:
            begun = await market(evm, rpc, path)
            save(path, evm.chain_id, begun.block, begun.states())
            for fee in (500, 3000):
                await asyncio.to_thread(push, evm, owner, wrapped, fee, 90 * NATIVE_WEI)
            await asyncio.to_thread(evm.trade)
            now = await market(evm, rpc, path)
            assert path.exists()
            assert seen(now) == seen(await read(evm, rpc, now.block)) != seen(begun)
            # No tick was read: those are the snapshot's.
            states = await resume(rpc, evm.chain_id, now.block, path)
            assert len(states) == len(now.pools())
            # With nothing in between as well.
            save(path, evm.chain_id, now.block, now.states())
            assert seen(await market(evm, rpc, path)) == seen(now)

    asyncio.run(story())


def wrong_reserves(states: dict[Pool, PoolState]) -> dict[Pool, PoolState]:
    pool = next(pool for pool, state in states.items() if isinstance(state, V2State))
    return {**states, pool: V2State(5, 7, 1)}


def wrong_price(states: dict[Pool, PoolState]) -> dict[Pool, PoolState]:
    pool, state = next((pool, state) for pool, state in states.items() if isinstance(state, ConcentratedPool))
    return {**states, pool: state.after(state.swap_exact_in(10**15, zero_for_one=True))}


def wrong_ticks(states: dict[Pool, PoolState]) -> dict[Pool, PoolState]:
    pool, state = next((pool, state) for pool, state in states.items() if isinstance(state, ConcentratedPool))
    first, second, *_ = state.ticks.net
    return {**states, pool: state.with_liquidity(first, second, 1)}


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (wrong_reserves, "is not what the chain says at block"),
        (wrong_price, "is not what the chain says at block"),
        (wrong_ticks, "is not what the chain says at block"),
        (None, "damaged: its digest is another one"),
    ],
)
def test_what_lies_is_put_aside_and_all_is_read(
    evm: DevNode, tmp_path: Path, harm: Callable[[dict[Pool, PoolState]], dict[Pool, PoolState]] | None, why: str
) -> None:
    async def story() -> None:
        path = tmp_path / "ethereum.snapshot"
        async with Rpc(evm.ws, chain_id=evm.chain_id) as rpc:
            begun = await market(evm, rpc, path)
            save(path, evm.chain_id, begun.block, harm(begun.states()) if harm else begun.states())
            if harm is None:
                content = bytearray(path.read_bytes())
                content[-100] ^= 1
                path.write_bytes(content)
            with capture_logs() as logs:
                assert seen(await market(evm, rpc, path)) == seen(begun)
            (said,) = (each for each in logs if each["log_level"] == "warning")
            assert said["event"] == "snapshot refused: the market is read anew"
            assert why in said["reason"]
            assert not path.exists()
            assert path.with_name("ethereum.snapshot.refused").exists()

    asyncio.run(story())


def test_a_snapshot_of_a_block_that_is_gone_or_far_away_does_not_hold(
    evm: DevNode, tmp_path: Path, owner: Account, wrapped: bytes
) -> None:
    async def story() -> None:
        path = tmp_path / "ethereum.snapshot"
        async with Rpc(evm.ws, chain_id=evm.chain_id) as rpc:
            begun = await market(evm, rpc, path)
            states = begun.states()

            async def refused(block: Block, match: str) -> None:
                save(path, evm.chain_id, block, states)
                with pytest.raises(SnapshotError, match=match):
                    await resume(rpc, evm.chain_id, await head_of(rpc), path)

            gone = begun.block.__class__(begun.block.number, b"\x05" * 32, b"\x04" * 32, 0, 0)
            await refused(gone, "that the chain does not have")
            ahead = begun.block.__class__(begun.block.number + 1, b"\x05" * 32, b"\x04" * 32, 0, 0)
            await refused(ahead, "-1 blocks before")
            assert begun.block.number < MOST_BLOCKS
            # Turned back and gone on with otherwise.
            snapshot = evm.rpc.call("evm_snapshot")
            await asyncio.to_thread(push, evm, owner, wrapped, 500, NATIVE_WEI)
            turned = await market(evm, rpc, tmp_path / "none")
            await asyncio.to_thread(devnode.revert, evm.rpc, snapshot)
            await asyncio.to_thread(push, evm, owner, wrapped, 3000, NATIVE_WEI)
            await asyncio.to_thread(evm.mine, 8)
            await refused(turned.block, "that the chain does not have")

    asyncio.run(story())


def test_a_pool_that_is_not_in_the_snapshot_is_read(evm: DevNode, tmp_path: Path) -> None:
    async def story() -> None:
        path = tmp_path / "ethereum.snapshot"
        async with Rpc(evm.ws, chain_id=evm.chain_id) as rpc:
            begun = await market(evm, rpc, path)
            states = begun.states()
            some = {pool: states[pool] for pool in list(states)[::2]}
            save(path, evm.chain_id, begun.block, some)
            assert seen(await market(evm, rpc, path)) == seen(begun)
            assert path.exists()

    asyncio.run(story())


def test_the_engine_writes_at_its_stop_and_begins_from_there(
    evm: DevNode, installation: Installation, tmp_path: Path
) -> None:
    installation.mode, installation.v3_fees = "observe", (500, 3000)
    installation.more = f'[snapshots]\ndirectory = "{tmp_path}/snapshots"\n'
    installation.write()
    log = installation.directory / "strategy_engine.log"
    with installation.agent("strategy_engine"):
        at_rest(installation)
    path = tmp_path / "snapshots" / "ethereum.snapshot"
    assert path.exists()
    assert "snapshot resumed" not in log.read_text()
    evm.trade()
    with installation.agent("strategy_engine"):
        wait_for("a resumed snapshot", lambda: "snapshot resumed" in log.read_text())
        at_rest(installation)
    # Where it cannot be written, that is said and stops nothing.
    path.unlink()
    path.parent.rmdir()
    path.parent.write_text("no directory")
    with installation.agent("strategy_engine") as engine:
        at_rest(installation)
    assert engine.process.returncode == 0
    assert "snapshot not written" in log.read_text()
