"""Compound V3 live, against a stand-in with its functions, events and formulas: followed, absorbed, bought, booked; with own capital and without."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from mev.chain.rpc import Rpc
from mev.domain import Cycle, Flash, Hop
from mev.market.lending.comet_market import CometMarket
from mev.market.lending.comet_reader import TOPICS
from mev.market.lending.compound_v3 import borrowed
from mev.market.lending.wad_ray import WAD
from mev.runtime.config import EvmAddress, LendingConfig
from mev.trading.execution import contract

from lab.evm import devnode
from lab.evm.rpc import RpcError
from tests.integration.mev.conftest import (
    CAPITAL_WEI,
    NATIVE_WEI,
    PATIENCE_SECONDS,
    Account,
    Installation,
    at_rest,
    filled,
    raw,
)
from tests.integration.mev.lending.comet import CometCrash
from tests.integration.mev.lending.follower import Followed
from tests.integration.mev.lending.test_liquidation_by_executor import allowance

if TYPE_CHECKING:
    from lab.evm.devnode import DevNode
    from lab.evm.npm import Modules
    from tests.integration.mev.test_executor import Pools


@pytest.fixture
def comet(evm: DevNode, modules: Modules, owner: Account, pools: Pools) -> CometCrash:
    return CometCrash(evm, modules, owner, pools)


def follower(rpc: Rpc, comet: str) -> Followed[CometMarket]:
    config = LendingConfig(name="usdc", pool=EvmAddress(raw(comet)))
    return Followed(rpc, CometMarket("ethereum", rpc, config), TOPICS)


def agrees(followed: Followed[CometMarket], comet: CometCrash) -> int:
    """Hold every borrower and a price of what is for sale against the contract's own word; return how many can be absorbed."""
    book = followed.market.book
    assert book is not None
    market = book.standing.market
    assert market is not None
    below = 0
    for user in comet.users:
        [owed] = comet.bench.ask(["uint256"], comet.comet, "borrowBalanceOf(address)", user)
        position = book.positions().get(raw(user))
        # A call on the newest block is of that block's time or a second later.
        assert (0 if position is None else borrowed(position.principal, market)) == pytest.approx(
            owed, abs=2 + owed // 10**8
        )
        if position is not None:
            health = book.health(raw(user))
            assert health is not None
            assert (health < WAD) == comet.liquidatable(user)
            below += health < WAD
    indebted = [raw(user) for user in comet.users if raw(user) in book.positions()]
    for told in (book.takings(user, raw(comet.weth)) for user in indebted):
        for taking in () if told is None else told.found:
            done = taking.take(1000 * 10**6)
            assert done is not None
            assert done == (
                1000 * 10**6,
                comet.bench.ask(["uint256"], comet.comet, "quoteCollateral(address,uint256)", comet.weth, 1000 * 10**6)[
                    0
                ],
            )
    return below


def test_borrowers_are_followed_from_events_over_a_reorganisation_too(comet: CometCrash) -> None:
    rpc = comet.bench.rpc
    comet.borrower(79)

    async def story() -> None:
        async with Rpc(rpc.url.replace("http", "ws"), chain_id=int(rpc.call("eth_chainId"), 16)) as hot:
            followed = follower(hot, comet.comet)
            await followed.catch_up()
            assert agrees(followed, comet) == 0
            comet.borrower(70)
            comet.borrower(60)
            await followed.catch_up()
            assert agrees(followed, comet) == 0
            snapshot = str(rpc.call("evm_snapshot"))
            comet.falls(80)
            comet.bench.send(comet.comet, "absorb(address,address[])", comet.bench.account, [comet.users[0]])
            await followed.catch_up()
            assert agrees(followed, comet) == 1
            book = followed.market.book
            assert book is not None
            assert raw(comet.users[0]) not in book.positions()
            # What was absorbed is for sale.
            assert book.sellers() == (raw(comet.comet),)
            devnode.revert(rpc, snapshot)
            comet.evm.mine(4)
            await followed.catch_up()
            assert agrees(followed, comet) == 0
            assert followed.market.book is not None
            assert followed.market.book.sellers() == ()
            assert followed.market.given_up == 0

    asyncio.run(asyncio.wait_for(story(), PATIENCE_SECONDS))


@pytest.mark.parametrize("flash", [False, True])
def test_the_executor_absorbs_and_buys_with_capital_and_without(
    owner: Account, stranger: Account, executor: bytes, wrapped: bytes, comet: CometCrash, flash: bool
) -> None:
    user = comet.borrower(79)
    cycle = Cycle(wrapped, (Hop(comet.pair.address, comet.pair.token0 == wrapped),))
    credit = Flash(pool=comet.pair.address) if flash else None
    data = contract.encode_execute(
        cycle, {comet.pair.address: comet.pair}, NATIVE_WEI, 0, 0, comet.seizure(user), credit
    )
    with pytest.raises(RpcError, match="NotLiquidatable"):
        owner.call(executor, data)
    comet.falls()
    with pytest.raises(RpcError, match="not owner"):
        stranger.call(executor, data)
    profit = int.from_bytes(owner.call(executor, data), "big")
    assert profit > 0
    with pytest.raises(RpcError, match="profit"):
        owner.call(executor, contract.with_min_profit(data, profit + 1))
    assert owner.send(executor, data)["status"] == "0x1"
    assert owner.balance(wrapped, executor) == CAPITAL_WEI + profit
    assert owner.balance(raw(comet.usdc), executor) == 0
    assert allowance(owner, raw(comet.usdc), executor, raw(comet.comet)) == 0
    # The rest is for sale, and nobody is to be absorbed for it.
    rest = contract.encode_execute(
        cycle, {comet.pair.address: comet.pair}, NATIVE_WEI, 0, 0, comet.seizure(comet.comet), credit
    )
    assert owner.send(executor, rest)["status"] == "0x1"
    assert owner.balance(wrapped, executor) > CAPITAL_WEI + profit
    comet.bench.send(comet.comet, "pause(bool,uint256)", True, 10**30)
    with pytest.raises(RpcError, match="Paused"):
        owner.call(executor, rest)


def test_a_price_falls_and_the_engine_absorbs_buys_and_books_within_one_block(
    evm: DevNode, owner: Account, installation: Installation, wrapped: bytes, comet: CometCrash
) -> None:
    installation.chain_tables = f'[[chains.ethereum.compound_v3]]\nname = "usdc"\npool = "{comet.comet}"'
    installation.write()
    content = installation.config.read_text()
    installation.config.write_text(content.replace('mode = "live"', 'mode = "live"\nstrategies = ["liquidation"]'))
    user = comet.borrower(79)
    comet.borrower(60)
    with installation.agent("strategy_engine"):
        at_rest(installation)
        comet.falls()
        fallen = int(evm.rpc.call("eth_blockNumber"), 16)
        first = filled(installation)
        at_rest(installation)
    found = min(installation.mev("opportunities")["opportunities"], key=lambda each: each["block_number"])
    assert (found["strategy"], found["block_number"], found["state"]) == ("liquidation", fallen, "included")
    assert found["simulated_profit_wei"] == found["expected_profit_wei"]
    assert int(first["net_wei"]) > 0
    books = installation.mev("reconcile")
    assert books["agrees"], books
    executor = raw(installation.mev("executor", "address", "--chain", "ethereum")["executor"])
    earned = int(installation.mev("pnl")["chains"]["ethereum"]["profit_wei"])
    assert owner.balance(wrapped, executor) == CAPITAL_WEI + earned
    assert owner.balance(raw(comet.usdc), executor) == 0
    legs = installation.mev("explain", found["opportunity"])["legs"]
    assert [leg["borrower"] and raw(leg["borrower"]) for leg in legs] == [None, raw(user)]
