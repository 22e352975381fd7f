"""Aave V3's book against the published pool: health factors to the wei, whatever happened, and what a liquidation takes and gives."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING

import pytest
from mev.chain.rpc import Rpc
from mev.chain.wire import Log
from mev.market.lending.aave_events import BORROW, TOPICS
from mev.market.lending.aave_market import AaveMarket
from mev.market.lending.aave_v3 import health_factor, liquidate
from mev.market.lending.wad_ray import WAD
from mev.runtime.config import EvmAddress, LendingConfig

from lab.evm import devnode
from lab.evm.rpc import RpcError
from tests.integration.mev.conftest import PATIENCE_SECONDS, raw
from tests.integration.mev.lending.aave import UNLIMITED
from tests.integration.mev.lending.follower import Followed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from mev.domain import Block

    from tests.integration.mev.amm.conftest import Bench
    from tests.integration.mev.lending.aave import Aave

STEPS = 40
DOLLAR = 10**8
DAY = 24 * 3600
PRICES = (2000 * DOLLAR, 60_000 * DOLLAR, DOLLAR)


def account(bench: Bench, number: int) -> str:
    """An account that needs no key, with native coin."""
    address = f"0x{0xACC0 + number:040x}"
    bench.rpc.call("anvil_impersonateAccount", address)
    bench.rpc.call("anvil_setBalance", address, hex(10**20))
    return address


class Market:
    """Three assets, four users who have plenty of each, and a bank that supplies what they borrow."""

    def __init__(self, aave: Aave) -> None:
        bench = aave.bench
        self.aave = aave
        self.assets = [bench.token(decimals) for decimals in (18, 8, 6)]
        for asset, price in zip(self.assets, PRICES, strict=True):
            aave.list(asset, price)
        aave.category(1, (9000, 9300, 10200), *self.assets[:2])
        self.bank, *self.users, self.newcomer = [account(bench, number) for number in range(6)]
        for user in (self.bank, *self.users):
            for asset in self.assets:
                bench.send(asset, "transfer(address,uint256)", user, 10**40)
        for asset in self.assets:
            aave.supply(self.bank, asset, 10**30)
        # Each supplies 20,000 dollars of one asset and owes 12,000 of another, two of them with a third one beside it.
        for at, user in enumerate(self.users):
            aave.supply(user, self.assets[at % 3], self.whole(self.assets[at % 3], 20_000))
            aave.borrow(user, self.assets[(at + 1) % 3], self.whole(self.assets[(at + 1) % 3], 14_500))
            if at % 2:
                aave.supply(user, self.assets[(at + 2) % 3], self.whole(self.assets[(at + 2) % 3], 3_000))

    def whole(self, asset: str, dollars: int) -> int:
        """So many dollars' worth of an asset at its first price, base units."""
        at = self.assets.index(asset)
        return dollars * DOLLAR * 10 ** (18, 8, 6)[at] // PRICES[at]


@pytest.fixture(scope="module")
def market(aave: Aave) -> Market:
    return Market(aave)


@pytest.fixture
def fresh(market: Market) -> Iterator[Market]:
    """The market as it was made, whatever the tests before did."""
    rpc = market.aave.bench.rpc
    snapshot = rpc.call("evm_snapshot")
    yield market
    devnode.revert(rpc, snapshot)


def follower(rpc: Rpc, aave: Aave) -> Followed[AaveMarket]:
    config = LendingConfig(name="aave_v3", pool=EvmAddress(raw(aave.pool)))
    return Followed(rpc, AaveMarket("ethereum", rpc, config), TOPICS)


def told(bench: Bench, aave: Aave, story: Callable[[Followed[AaveMarket]], Awaitable[None]]) -> None:
    async def tell() -> None:
        url = bench.rpc.url.replace("http", "ws")
        async with Rpc(url, chain_id=int(bench.rpc.call("eth_chainId"), 16)) as rpc:
            followed = follower(rpc, aave)
            await followed.catch_up()
            await story(followed)

    asyncio.run(asyncio.wait_for(tell(), PATIENCE_SECONDS))


def agrees(followed: Followed[AaveMarket], aave: Aave, users: list[str], block: Block) -> int:
    """Hold everybody's account against the pool's own word; return how many owe something."""
    book = followed.market.book
    assert book is not None
    assert book.block == block
    indebted = 0
    for user in users:
        collateral, debt, health = aave.account(user)
        if raw(user) not in book.positions():
            assert debt == 0
            continue
        held = book.position(raw(user), block.timestamp)
        assert held is not None
        mine = (sum(each.collateral_base for each in held), sum(each.debt_base for each in held), health_factor(held))
        assert mine == (collateral, debt, health)
        indebted += 1
    return indebted


def act(market: Market, draw: random.Random) -> None:
    """Do something that may be refused, as one's own transactions may."""
    aave, user, asset = market.aave, draw.choice(market.users), draw.choice(market.assets)
    amount = market.whole(asset, draw.randint(1, 20_000)) + draw.randint(0, 1000)
    deeds: list[Callable[[], None]] = [
        lambda: aave.supply(user, asset, amount),
        lambda: aave.supply(user, asset, 3 * amount),
        lambda: aave.borrow(user, asset, amount),
        lambda: aave.borrow(user, asset, amount),
        lambda: aave.repay(user, asset, draw.choice([amount, UNLIMITED])),
        lambda: aave.withdraw(user, asset, draw.choice([amount, UNLIMITED])),
        lambda: aave.bench.send(
            aave.a_token(asset), "transfer(address,uint256)", draw.choice(market.users), amount, sender=user
        ),
        lambda: aave.bench.send(
            aave.pool, "setUserUseReserveAsCollateral(address,bool)", asset, draw.random() < 0.7, sender=user
        ),
        lambda: aave.bench.send(aave.pool, "setUserEMode(uint8)", draw.choice([0, 1]), sender=user),
        lambda: aave.price(asset, PRICES[market.assets.index(asset)] * draw.randint(80, 120) // 100),
        lambda: aave.bench.rpc.call("evm_increaseTime", draw.randint(1, 30 * DAY)),
    ]
    # A refusal costs a block and changes nothing.
    with contextlib.suppress(RpcError):
        draw.choice(deeds)()


def test_the_book_is_the_pool_s_to_the_wei_whatever_happens(fresh: Market) -> None:
    aave = fresh.aave
    draw = random.Random(7)  # noqa: S311

    async def story(followed: Followed[AaveMarket]) -> None:
        seen = 0
        for _ in range(STEPS):
            await asyncio.to_thread(act, fresh, draw)
            block = await followed.catch_up()
            seen += await asyncio.to_thread(agrees, followed, aave, fresh.users, block)
        # So that it did not agree on nothing.
        assert seen > 2 * STEPS

    told(aave.bench, aave, story)


def test_a_reorganisation_undoes_positions_prices_and_settings(fresh: Market) -> None:
    """What a block brought, another one in its place does not: debts, an eMode, a price, a new borrower, a new threshold."""
    aave, rpc = fresh.aave, fresh.aave.bench.rpc
    weth, btc, usdc = fresh.assets
    user, newcomer = fresh.users[0], fresh.newcomer

    async def story(followed: Followed[AaveMarket]) -> None:
        before = followed.market.book
        assert before is not None
        position, threshold = before.positions()[raw(user)], before.listings[0].liquidation_threshold

        def one_way() -> str:
            snapshot = str(rpc.call("evm_snapshot"))
            aave.bench.send(weth, "transfer(address,uint256)", newcomer, 10**20)
            aave.supply(newcomer, weth, 10**19)
            aave.borrow(newcomer, usdc, 10**9)
            aave.repay(user, btc, UNLIMITED)
            aave.price(weth, 1500 * DOLLAR)
            terms = (7000, 7500, 11000)
            aave.bench.send(
                aave.configurator, "configureReserveAsCollateral(address,uint256,uint256,uint256)", weth, *terms
            )
            return snapshot

        snapshot = await asyncio.to_thread(one_way)
        await followed.catch_up()
        book = followed.market.book
        assert book is not None
        assert raw(newcomer) in book.positions()
        assert raw(user) not in book.positions()
        assert (book.listings[0].price, book.listings[0].liquidation_threshold) == (1500 * DOLLAR, 7500)

        def the_other_way() -> None:
            devnode.revert(rpc, snapshot)
            for _ in range(8):
                rpc.call("evm_mine")

        await asyncio.to_thread(the_other_way)
        block = await followed.catch_up()
        assert followed.turned == 1
        # Undone, not read anew.
        assert followed.market.book is book
        assert raw(newcomer) not in book.positions()
        assert book.positions()[raw(user)] == position
        assert (book.listings[0].price, book.listings[0].liquidation_threshold) == (2000 * DOLLAR, threshold)
        assert await asyncio.to_thread(agrees, followed, aave, fresh.users, block) == len(fresh.users)

    told(aave.bench, aave, story)


def test_an_oracle_that_lies_or_is_silent_leaves_those_alone_who_have_the_asset(fresh: Market) -> None:
    aave = fresh.aave
    weth, btc, _ = fresh.assets

    async def story(followed: Followed[AaveMarket]) -> None:
        def lie() -> None:
            aave.price(weth, 2**200)
            aave.bench.send(aave.feeds[btc], "break_off()")

        await asyncio.to_thread(lie)
        block = await followed.catch_up()
        book = followed.market.book
        assert book is not None
        assert [listing.price for listing in book.listings.values()] == [None, None, DOLLAR]
        assert followed.market.unpriced == 2
        assert all(book.position(user, block.timestamp) is None for user in book.positions())
        await asyncio.to_thread(aave.price, weth, 1900 * DOLLAR)
        await followed.catch_up()
        assert book.listings[0].price == 1900 * DOLLAR

    told(aave.bench, aave, story)


def test_a_malformed_event_puts_the_market_aside_and_it_is_read_anew(fresh: Market) -> None:
    aave, rpc = fresh.aave, fresh.aave.bench.rpc

    async def story(followed: Followed[AaveMarket]) -> None:
        head = followed.head
        assert head is not None
        await asyncio.to_thread(aave.price, fresh.assets[0], 1800 * DOLLAR)
        child = (await followed.rpc.latest()).block()
        malformed = Log(address=raw(aave.pool), topics=(BORROW,), data=b"", index=0, transaction=bytes(32))
        assert not await followed.market.follow(child, [malformed])
        assert followed.market.book is None
        assert followed.market.given_up == 1
        await asyncio.to_thread(rpc.call, "evm_mine")
        block = await followed.catch_up()
        assert followed.market.book is not None
        assert await asyncio.to_thread(agrees, followed, aave, fresh.users, block) == len(fresh.users)

    told(aave.bench, aave, story)


# By how much in per cent the collateral's price falls, and which part of the debt is offered, in per cent; None: more than all.
FALLS = [(10, 40), (10, 90), (15, 60), (15, 99), (15, None), (40, None)]


@pytest.mark.parametrize(("fall", "part"), FALLS)
def test_a_liquidation_takes_and_gives_what_the_arithmetic_says(fresh: Market, fall: int, part: int | None) -> None:
    """Half of the debt, a part of it, all of it with dust forbidden, and more debt than collateral."""
    aave, bench = fresh.aave, fresh.aave.bench
    weth, btc, _ = fresh.assets
    user = fresh.users[0]

    async def story(followed: Followed[AaveMarket]) -> None:
        await asyncio.to_thread(aave.price, weth, PRICES[0] * (100 - fall) // 100)
        await followed.catch_up()
        book = followed.market.book
        assert book is not None

        def call() -> None:
            held = book.position(
                raw(user), int(bench.rpc.call("eth_getBlockByNumber", "latest", False)["timestamp"], 16)
            )
            assert held is not None
            assert health_factor(held) < WAD
            owed = next(each.owed for each in held if each.owed)
            offered = UNLIMITED if part is None else owed * part // 100
            before = [bench.ask(["uint256"], asset, "balanceOf(address)", fresh.bank)[0] for asset in (weth, btc)]
            bench.send(btc, "approve(address,uint256)", aave.pool, UNLIMITED, sender=fresh.bank)
            called = "liquidationCall(address,address,address,uint256,bool)"
            arguments = (weth, btc, user, offered, False)
            then = int(bench.rpc.call("eth_getBlockByNumber", "latest", False)["timestamp"], 16) + 5
            expected_held = book.position(raw(user), then)
            assert expected_held is not None
            collateral = next(each for each in expected_held if each.reserve.asset == raw(weth))
            debt = next(each for each in expected_held if each.reserve.asset == raw(btc))
            expected = liquidate(expected_held, collateral, debt, offered)
            bench.rpc.call("evm_setNextBlockTimestamp", then)
            if expected is None:
                with pytest.raises(RpcError):
                    bench.send(aave.pool, called, *arguments, sender=fresh.bank)
                return
            bench.send(aave.pool, called, *arguments, sender=fresh.bank)
            after = [bench.ask(["uint256"], asset, "balanceOf(address)", fresh.bank)[0] for asset in (weth, btc)]
            assert after[0] - before[0] == expected.collateral
            assert before[1] - after[1] == expected.debt

        await asyncio.to_thread(call)
        block = await followed.catch_up()
        await asyncio.to_thread(agrees, followed, aave, fresh.users, block)

    told(bench, aave, story)
