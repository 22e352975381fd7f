"""Exchanges in Curve's pools by the executor, in stand-ins of ours and in a false one; and what opens there, found, filled and booked by the engine."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from eth_abi.abi import encode
from mev.chain.abi import checksum
from mev.chain.rpc import Rpc
from mev.domain import CurveKey, Flash
from mev.market.amm.curve import CurvePool
from mev.market.curve_read import read_curve
from mev.market.curve_state import coins, pair_of
from mev.runtime.config import CurvePoolConfig, EvmAddress
from mev.search.legs import CurveLeg
from mev.trading import erc20
from mev.trading.execution import contract

from lab.evm.rpc import RpcError
from tests.integration.mev.amm.forks import give, on
from tests.integration.mev.amm.stable import Stable
from tests.integration.mev.amm.test_executor_kinds import DEPTH, Shop
from tests.integration.mev.conftest import (
    CAPITAL_WEI,
    NATIVE_WEI,
    Account,
    Installation,
    at_rest,
    compiled,
    raw,
    text,
    wait_for,
    word,
)
from tests.integration.mev.paths import robs_nothing, through
from tests.integration.mev.test_executor import FEE, LIES, HostileMarket, amount_out, selector
from tests.integration.mev.test_v3_live import head_of

if TYPE_CHECKING:
    from mev.domain import Pool

    from lab.evm.devnode import DevNode
    from lab.evm.npm import Modules

FEE_PARTS = 10**7


class Place:
    """A token that a V2 pair sells for half a wrapped native; a pool of 2020 of it, the wrapped native and a third token, and one of the templates since of the first two, both at a price of one.

    Of wrapped native and the newer pool's LP token there is a meta pool.
    """

    def __init__(self, evm: DevNode, modules: Modules, somebody: Account, wrapped: bytes) -> None:
        self.evm, self.wrapped = evm, wrapped
        self.shop = Shop(somebody, evm, modules, wrapped)
        self.bench = on(evm, modules)
        third = raw(self.bench.token())
        self.two = [self.shop.token, wrapped]
        self.old = Stable(evm, modules, [third, *self.two], [DEPTH] * 3, 100, first=True, fee=FEE_PARTS)
        self.new = Stable(evm, modules, self.two, [DEPTH, DEPTH], 20, fee=FEE_PARTS)
        self.pools = {"old": self.old, "new": self.new}

    @property
    def config(self) -> list[CurvePoolConfig]:
        return [CurvePoolConfig(name=name, address=EvmAddress(pool.address)) for name, pool in self.pools.items()]

    def legs(self) -> dict[str, tuple[Pool, CurveLeg, CurveLeg]]:
        """What the pools give now: by name, wrapped native for the token, and back."""

        async def read() -> dict[str, tuple[Pool, CurveLeg, CurveLeg]]:
            async with Rpc(self.evm.ws, chain_id=self.evm.chain_id) as rpc:
                found = await read_curve(rpc, self.config, self.two, await head_of(rpc))
            legs = {}
            for pool, held in found.items():
                assert isinstance(held, CurvePool)
                into = pool.token0 == self.wrapped
                legs[pool.factory] = (
                    pool,
                    CurveLeg(held, *coins(pool, zero_for_one=into)),
                    CurveLeg(held, *coins(pool, zero_for_one=not into)),
                )
            return legs

        return asyncio.run(read())


@pytest.fixture
def place(evm: DevNode, modules: Modules, stranger: Account, wrapped: bytes) -> Place:
    return Place(evm, modules, stranger, wrapped)


@pytest.mark.parametrize("order", ["last", "first", "between", "alone"])
def test_the_executor_gets_what_our_mathematics_says_and_leaves_nothing(
    owner: Account, executor: bytes, wrapped: bytes, place: Place, order: str
) -> None:
    """Bought in the cheap pair or in a Curve pool, sold in one or in a pair, which is paid before its swap."""
    legs = place.legs()
    (old, *_), (new, *_) = legs["old"], legs["new"]
    shop = place.shop
    dear = shop.pair("sushi_v2", DEPTH, DEPTH // 4)
    if order == "alone":
        place.old.exchange(1, 2, DEPTH * 4 // 5)
    path = {
        "last": (shop.cheap, new),
        "first": (old, dear),
        # Sold, bought again, sold.
        "between": (shop.cheap, old, new, dear),
        "alone": (old, new),
    }[order]
    cycle, used = shop.cycle(wrapped, *path)
    amount = NATIVE_WEI // 10
    legs = place.legs()
    for hop in cycle.hops:
        pool = used[hop.pool]
        if pool.curve is not None:
            into = pool.token0 == wrapped
            _, buying, selling = legs[pool.factory]
            amount = (buying if hop.zero_for_one == into else selling).amount_out(amount)
        else:
            amount = amount_out(owner, pool, amount, zero_for_one=hop.zero_for_one)
    data = contract.encode_execute(cycle, used, NATIVE_WEI // 10, 0, 0)
    assert int.from_bytes(owner.call(executor, data), "big") == amount - NATIVE_WEI // 10 > 0
    # What was there before is not passed on with it.
    owner.send(shop.token, selector("mint(uint256)") + word(7))
    owner.send(shop.token, erc20.encode_transfer(executor, 7))
    assert owner.send(executor, data)["status"] == "0x1"
    assert owner.balance(wrapped, executor) == CAPITAL_WEI + amount - NATIVE_WEI // 10
    assert owner.balance(shop.token, executor) == 7
    for venue in place.pools.values():
        for token in place.two:
            left = owner.call(token, selector("allowance(address,address)") + word(executor) + word(venue.address))
            assert int.from_bytes(left, "big") == 0


def test_without_capital_behind_a_pair_that_is_paid_last_or_lends(owner: Account, wrapped: bytes, place: Place) -> None:
    empty = contract.address(owner.address)
    owner.send(contract.CREATE2_DEPLOYER, contract.encode_deployment(owner.address))
    pool, *_ = place.legs()["new"]
    cycle, used = place.shop.cycle(wrapped, place.shop.cheap, pool)
    last = contract.encode_execute(cycle, used, NATIVE_WEI, 0, 0, flash=Flash(pool=place.shop.cheap.address))
    profit = int.from_bytes(owner.call(empty, last), "big")
    assert owner.send(empty, last)["status"] == "0x1"
    assert owner.balance(wrapped, empty) == profit > 0
    lender = place.shop.pair("sushi_v2", DEPTH, DEPTH // 4)
    old, *_ = place.legs()["old"]
    cycle, used = place.shop.cycle(wrapped, place.shop.cheap, old)
    loan = Flash(pool=lender.address, lent=NATIVE_WEI)
    owed = -(-NATIVE_WEI * 1000 // 997)
    data = contract.encode_execute(cycle, {**used, lender.address: lender}, owed, 0, 0, flash=loan)
    more = int.from_bytes(owner.call(empty, data), "big")
    assert owner.send(empty, data)["status"] == "0x1"
    assert owner.balance(wrapped, empty) == profit + more > profit
    assert owner.balance(place.shop.token, empty) == 0


HONEST, LESS, NOTHING, MORE, KEEPS, THIEF = range(6)


@pytest.mark.parametrize("behaviour", [HONEST, LESS, NOTHING, MORE, KEEPS, THIEF])
@pytest.mark.parametrize("first", [False, True], ids=["last", "first"])
def test_a_pool_that_takes_something_else_gets_nothing(
    evm: DevNode,
    modules: Modules,
    owner: Account,
    stranger: Account,
    executor: bytes,
    wrapped: bytes,
    behaviour: int,
    first: bool,
) -> None:
    shop = Shop(stranger, evm, modules, wrapped)
    ends = (wrapped, shop.token) if first else (shop.token, wrapped)
    made = owner.create(compiled("false_curve") + encode(["address", "address"], [text(each) for each in ends]).hex())
    pool = pair_of("false", CurveKey(made, ends), 0, 1)
    give(on(evm, modules), evm, ends[1], text(made), 5 * NATIVE_WEI)
    dear = shop.pair("sushi_v2", DEPTH, DEPTH // 4)
    cycle, used = shop.cycle(wrapped, *((pool, dear) if first else (shop.cheap, pool)))
    data = contract.encode_execute(cycle, used, NATIVE_WEI, 0, 0)
    payload = data if first else contract.encode_withdraw(wrapped, CAPITAL_WEI)
    told = encode(["uint256", "bytes"], [behaviour, payload])
    owner.send(made, selector("behave(uint256,bytes)") + told)
    if behaviour in {HONEST, THIEF}:
        profit = int.from_bytes(owner.call(executor, data), "big")
        assert owner.send(executor, data)["status"] == "0x1"
        assert owner.balance(wrapped, executor) == CAPITAL_WEI + profit > CAPITAL_WEI
        tried, done = (
            int.from_bytes(owner.call(made, selector(f"{each}()")), "big") for each in ("attempts", "successes")
        )
        assert (tried, done) == (int(behaviour == THIEF), 0)
    else:
        with pytest.raises(RpcError):
            owner.call(executor, data)
        assert owner.send(executor, data)["status"] == "0x0"
        assert owner.balance(wrapped, executor) == CAPITAL_WEI
    held = owner.balance(wrapped, executor)
    for token in ends:
        taken = selector("take(address,address,uint256)") + word(token) + word(executor) + word(1)
        assert stranger.send(made, taken)["status"] == "0x0"
    assert owner.balance(wrapped, executor) == held
    assert owner.balance(shop.token, executor) == 0


class Hostile:
    """A hostile token with a Curve pool at twice the price of its V2 pair."""

    def __init__(self, evm: DevNode, modules: Modules, owner: Account, wrapped: bytes) -> None:
        self.market = HostileMarket(evm, owner, wrapped)
        bench = on(evm, modules)
        mint = selector("mint(address,uint256)") + word(raw(bench.account)) + word(10 * DEPTH)
        owner.send(self.market.token, mint)
        tokens = (wrapped, self.market.token)
        made = Stable(evm, modules, tokens, [DEPTH, DEPTH], 20, fee=FEE_PARTS)
        pair = self.market.arbitrage.pools[self.market.arbitrage.cycle.hops[0].pool]
        cycle, used = through(wrapped, pair, pair_of("curve", CurveKey(made.address, tokens), 0, 1))
        self.out = contract.encode_execute(cycle, used, NATIVE_WEI, 0, 0)


@pytest.mark.parametrize("behaviour", [LIES, FEE, "withdraw", "execute"])
def test_a_hostile_token_costs_nothing_but_gas(
    evm: DevNode, modules: Modules, owner: Account, executor: bytes, wrapped: bytes, behaviour: int | str
) -> None:
    hostile = Hostile(evm, modules, owner, wrapped)
    profit = int.from_bytes(owner.call(executor, hostile.out), "big")
    assert profit > 0
    if isinstance(behaviour, int):
        hostile.market.behave(behaviour)
        # The pool believes what it moves: of a token that keeps some of it the pool has too little, not the executor.
        assert owner.send(executor, hostile.out)["status"] == ("0x1" if behaviour == FEE else "0x0")
        left = owner.balance(wrapped, executor) - CAPITAL_WEI
        assert (0 < left < profit) if behaviour == FEE else left == 0
        assert owner.balance(hostile.market.token, executor) == 0
        return
    payload = contract.encode_withdraw(wrapped, CAPITAL_WEI) if behaviour == "withdraw" else hostile.out
    robs_nothing(owner, executor, wrapped, hostile.market, hostile.out, payload)


def test_what_opens_in_curve_s_pools_is_found_in_its_block_and_booked(
    evm: DevNode, modules: Modules, owner: Account, stranger: Account, wrapped: bytes, installation: Installation
) -> None:
    """A pool of 2020 of three coins, of which one is nobody's, and one of the templates since, from mev.toml to the books."""
    place = Place(evm, modules, stranger, wrapped)
    token = f'{{ symbol = "NEW", address = "{text(place.shop.token)}", decimals = 18 }}'
    # One that is none of these is named, and the others are traded.
    named = {**{name: pool.at for name, pool in place.pools.items()}, "none": text(place.shop.cheap.address)}
    tables = ", ".join(f'{{ name = "{name}", address = "{at}" }}' for name, at in named.items())
    installation.chain_tables = f"curve_pools = [{tables}]\n"
    installation.write()
    installation.config.write_text(installation.config.read_text().replace("\ntokens = [", f"\ntokens = [{token}, "))
    executor = bytes.fromhex(installation.mev("executor", "address", "--chain", "ethereum")["executor"][2:])
    pools = {name: pool for name, (pool, *_) in place.legs().items()}
    exchanged = "0x8b3e96f2b889fa771c53c981b40daf005f63f637f1869f707052d15a3dd97140"

    def blocks(name: str) -> set[int]:
        """In which blocks the executor exchanged in a pool."""
        wanted = {"address": place.pools[name].at, "fromBlock": "earliest"}
        logs = evm.rpc.call("eth_getLogs", {**wanted, "topics": [exchanged, text(word(executor))]})
        return {int(log["blockNumber"], 16) for log in logs}

    with installation.agent("strategy_engine"):
        wait_for("a swap in each pool", lambda: all(map(blocks, pools)), meanwhile=evm.mine)
        at_rest(installation)
        opened = []
        for name, pool in place.pools.items():
            opened.append(int(evm.rpc.call("eth_blockNumber"), 16) + 1)
            pool.exchange(len(pool.tokens) - 2, len(pool.tokens) - 1, DEPTH * 4 // 5)
            wait_for("a swap after somebody's", lambda each=name: max(blocks(each)) > opened[-1])  # type: ignore[misc]
            at_rest(installation)
    fills = installation.mev("opportunities", "--state", "included")["opportunities"]
    for name, number in zip(pools, opened, strict=True):
        # Found in the exchange's own block, and taken in the one after it.
        assert number + 1 in blocks(name)
        assert number in [fill["block_number"] for fill in fills if checksum(pools[name].address) in fill["pools"]]
    assert owner.balance(place.shop.token, executor) == 0
    earned = installation.mev("pnl")["chains"]["ethereum"]
    assert owner.balance(wrapped, executor) == CAPITAL_WEI + int(earned["profit_wei"])
    assert installation.mev("reconcile")["agrees"]
    listed = installation.mev("pools")["chains"]["ethereum"]["pools"]
    watched = {pool["factory"]: pool for pool in listed if pool["kind"].startswith("curve")}
    # The third token is not configured: one pair is all that is traded of three.
    assert {name: pool["pool_id"] for name, pool in watched.items()} == {
        name: checksum(pool.address) for name, pool in place.pools.items()
    }
    assert {(pool["fee_ppm"], pool["quarantined"]) for pool in watched.values()} == {(1000, None)}
    told = installation.mev("explain", next(fill["opportunity"] for fill in fills if fill["block_number"] == opened[0]))
    assert checksum(pools["old"].address) in [leg["pool"] for leg in told["legs"]]
    looked = installation.mev("replay", f"{opened[0] - 1}-{opened[0] + 1}")["blocks"]
    # Blocks that are past show the same one.
    assert looked[1]["best"]["opportunity"] in [fill["opportunity"] for fill in fills]
