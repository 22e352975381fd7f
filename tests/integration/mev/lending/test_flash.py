"""Liquidations without capital: the executor pays the first pool of its path last, or is lent what the debt is paid with."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest
from mev.domain import Cycle, Flash, Hop, Pool
from mev.trading.execution import contract

from lab.evm.rpc import RpcError
from tests.integration.mev.conftest import CAPITAL_WEI, NATIVE_WEI, Account, raw, word
from tests.integration.mev.lending.test_liquidation_by_executor import HONEST, THIEF, FalseLending, allowance
from tests.integration.mev.paths import seeded_v3
from tests.integration.mev.test_executor import FEE, LIES, Arbitrage, HostileMarket, Pools, selector
from tests.integration.mev.test_executor import HONEST as SOUND
from tests.integration.mev.test_executor import THIEF as ROBBER
from tests.integration.mev.test_executor_v3 import (
    ACCOMPLICE,
    FREE,
    GREEDY,
    LESS,
    MORE,
    TWICE,
    FalseMarket,
    callback,
)

if TYPE_CHECKING:
    from lab.evm.devnode import DevNode
    from tests.integration.mev.lending.crash import Crash

V2_CALL = selector("uniswapV2Call(address,uint256,uint256,bytes)")
FLASH_CALLBACK = selector("uniswapV3FlashCallback(uint256,uint256,bytes)")


def v2_call(executor: bytes) -> bytes:
    return V2_CALL + word(executor) + word(NATIVE_WEI) + word(0) + word(128) + word(0)


def flash_callback(lent: int) -> bytes:
    return FLASH_CALLBACK + word(lent) + word(0) + word(96) + word(0)


@pytest.fixture
def bare(owner: Account, executor: bytes, wrapped: bytes) -> bytes:
    """The owner's executor, without any capital."""
    assert owner.send(executor, contract.encode_withdraw(wrapped, CAPITAL_WEI))["status"] == "0x1"
    return executor


@pytest.fixture
def v3(evm: DevNode) -> dict[int, Pool]:
    """The seeded V3 pools of native coin and dollars by their fee."""
    return {fee: pool for (fee, pair), pool in seeded_v3(evm).items() if pair == {"WETH", "USDC"}}


class Story(NamedTuple):
    """What is done without capital, and through which token it passes."""

    data: bytes
    between: bytes


def dollars(crash: Crash, first: Pool, amount_in: int) -> Story:
    """Dollars are owed: a pool gives them, they pay the debt, and of the native coin that is seized the pool gets its part."""
    crash.dollars_owed()
    weth, usdc = raw(crash.weth), raw(crash.usdc)
    cycle = Cycle(weth, (Hop(first.address, first.token0 == weth),))
    seizure = crash.seizure(crash.usdc, crash.weth, 1)
    flash = Flash(pool=first.address)
    return Story(contract.encode_execute(cycle, {first.address: first}, amount_in, 0, 0, seizure, flash), usdc)


def native(crash: Crash, lender: Pool, out: Pool, lent: int) -> Story:
    """Native coin is owed: a pool lends it, it pays the debt, the dollars are sold, and the pool gets it back with its fee."""
    crash.native_owed()
    weth, usdc = raw(crash.weth), raw(crash.usdc)
    cycle = Cycle(weth, (Hop(out.address, out.token0 == usdc),))
    if lender.concentrated:
        owed = lent - (-lent * (10**6 - lender.fee_numerator) // 10**6)
    else:
        owed = -(-lent * lender.fee_denominator // lender.fee_numerator)
    used = {each.address: each for each in (lender, out)}
    seizure, flash = crash.seizure(crash.weth, crash.usdc, 0), Flash(pool=lender.address, lent=lent)
    return Story(contract.encode_execute(cycle, used, owed, 0, 0, seizure, flash), usdc)


@pytest.fixture(params=["v2 swap", "v3 swap", "v2 loan", "v3 loan"])
def story(request: pytest.FixtureRequest, crash: Crash, pools: Pools, v3: dict[int, Pool]) -> Story:
    """Each of the ways in which a pool gives first."""
    pair = frozenset({"WETH", "USDC"})
    match request.param:
        case "v2 swap":
            return dollars(crash, crash.pair, NATIVE_WEI)
        case "v3 swap":
            return dollars(crash, v3[500], NATIVE_WEI)
        case "v2 loan":
            return native(crash, pools["sushi_v2", pair], crash.pair, NATIVE_WEI)
        case _:
            return native(crash, v3[500], crash.pair, NATIVE_WEI)


def test_without_capital_a_borrower_is_liquidated_and_nothing_stays_behind(
    owner: Account, stranger: Account, bare: bytes, wrapped: bytes, crash: Crash, story: Story
) -> None:
    with pytest.raises(RpcError, match="not owner"):
        stranger.call(bare, story.data)
    profit = int.from_bytes(owner.call(bare, story.data), "big")
    assert profit > 0
    # The contract itself holds out for the minimum.
    with pytest.raises(RpcError, match="profit"):
        owner.call(bare, contract.with_min_profit(story.data, profit + 1))
    assert owner.send(bare, contract.with_min_profit(story.data, profit))["status"] == "0x1"
    assert owner.balance(wrapped, bare) == profit
    assert owner.balance(story.between, bare) == 0
    for token in (wrapped, story.between):
        assert allowance(owner, token, bare, raw(crash.aave.pool)) == 0


def test_what_is_held_is_not_put_in(
    owner: Account, executor: bytes, wrapped: bytes, crash: Crash, v3: dict[int, Pool]
) -> None:
    """A path that brings less than its first pool is owed reverts, however much the contract holds."""
    story = dollars(crash, v3[500], NATIVE_WEI)
    crash.aave.price(crash.weth, crash.price * 98 // 100)
    with pytest.raises(RpcError):
        owner.call(executor, story.data)
    assert owner.send(executor, story.data)["status"] == "0x0"
    assert owner.balance(wrapped, executor) == CAPITAL_WEI


def test_an_arbitrage_without_capital_pays_what_it_pays_with(
    owner: Account, bare: bytes, wrapped: bytes, pools: Pools
) -> None:
    pair = frozenset({"WETH", "USDC"})
    found = Arbitrage(owner, wrapped, pools["uniswap_v2", pair], pools["sushi_v2", pair], NATIVE_WEI)
    flash = Flash(pool=found.cycle.hops[0].pool)
    data = contract.encode_execute(found.cycle, found.pools, NATIVE_WEI, found.profit, 0, None, flash)
    assert owner.send(bare, data)["status"] == "0x1"
    assert owner.balance(wrapped, bare) == found.profit


def test_a_loss_of_the_path_is_not_made_up_from_what_is_held(
    owner: Account, executor: bytes, wrapped: bytes, pools: Pools
) -> None:
    pair = frozenset({"WETH", "USDC"})
    found = Arbitrage(owner, wrapped, pools["uniswap_v2", pair], pools["sushi_v2", pair], NATIVE_WEI)
    flash = Flash(pool=found.wrong_way.hops[0].pool)
    data = contract.encode_execute(found.wrong_way, found.pools, NATIVE_WEI, 0, 0, None, flash)
    with pytest.raises(RpcError, match="profit"):
        owner.call(executor, data)
    assert owner.balance(wrapped, executor) == CAPITAL_WEI


def test_nobody_is_paid_who_has_given_nothing(
    owner: Account, stranger: Account, executor: bytes, wrapped: bytes
) -> None:
    for who in (owner, stranger):
        for data in (v2_call(executor), flash_callback(NATIVE_WEI)):
            with pytest.raises(RpcError, match="not the pool"):
                who.call(executor, data)
    assert owner.balance(wrapped, executor) == CAPITAL_WEI


def test_a_lone_step_and_a_lending_pool_first_are_no_cycle(
    owner: Account, executor: bytes, wrapped: bytes, crash: Crash
) -> None:
    crash.native_owed()
    seizure = crash.seizure(crash.weth, crash.weth, 0)
    data = contract.encode_execute(Cycle(wrapped, ()), {}, NATIVE_WEI, 0, 0, seizure)
    lone = contract.EXECUTE_FLASH + data[4:]
    with pytest.raises(RpcError, match="no cycle"):
        owner.call(executor, lone)


@pytest.fixture
def false(evm: DevNode, owner: Account, wrapped: bytes, pools: Pools) -> FalseMarket:
    """A false V3 pool that gives first, before a real pair."""
    made = FalseMarket(evm, owner, wrapped, pools)
    made.data = contract.EXECUTE_FLASH + made.data[4:]
    return made


def test_an_honest_false_pool_is_paid_once(owner: Account, executor: bytes, wrapped: bytes, false: FalseMarket) -> None:
    false.behave(SOUND)
    assert owner.send(executor, false.data)["status"] == "0x1"
    assert owner.balance(wrapped, false.address) == NATIVE_WEI
    assert owner.balance(wrapped, executor) > CAPITAL_WEI


@pytest.mark.parametrize(
    ("behaviour", "why"),
    [
        (TWICE, "not the pool"),
        (MORE, "partial"),
        (LESS, "partial"),
        (ACCOMPLICE, "not the pool"),
        (GREEDY, "INSUFFICIENT"),
    ],
)
def test_a_false_pool_that_gives_first_gets_nothing(
    owner: Account, executor: bytes, wrapped: bytes, false: FalseMarket, behaviour: int, why: str
) -> None:
    false.behave(behaviour)
    with pytest.raises(RpcError, match=why):
        owner.call(executor, false.data)
    assert owner.send(executor, false.data)["status"] == "0x0"
    assert owner.balance(wrapped, executor) == CAPITAL_WEI
    assert owner.balance(false.usdc, executor) == 0


def test_what_was_not_asked_for_in_time_is_not_paid_later(
    owner: Account, executor: bytes, wrapped: bytes, false: FalseMarket
) -> None:
    """It gave and never called back: the gift stays, and no later call finds the path open."""
    false.behave(FREE)
    assert owner.send(executor, false.data)["status"] == "0x1"
    ask = selector("ask(address,int256,int256)") + word(executor) + 2 * word(NATIVE_WEI)
    with pytest.raises(RpcError, match="not the pool"):
        owner.call(false.address, ask)
    assert owner.balance(wrapped, executor) == CAPITAL_WEI


@pytest.mark.parametrize("attack", ["withdraw", "execute", "flash", "v3 callback", "v2 callback", "loan callback"])
def test_a_re_entrant_lending_pool_gets_nothing(
    evm: DevNode, owner: Account, executor: bytes, wrapped: bytes, pools: Pools, attack: str
) -> None:
    lending = FalseLending(evm, owner, wrapped, pools)
    flash = contract.EXECUTE_FLASH + lending.data[4:]
    payload = {
        "withdraw": contract.encode_withdraw(wrapped, CAPITAL_WEI),
        "execute": lending.data,
        "flash": flash,
        "v3 callback": callback(NATIVE_WEI, -1),
        "v2 callback": v2_call(executor),
        "loan callback": flash_callback(NATIVE_WEI),
    }[attack]
    lending.behave(THIEF, payload)
    assert owner.send(executor, flash)["status"] == "0x1"
    assert (lending.count("attempts"), lending.count("successes")) == (1, 0)
    assert owner.balance(wrapped, executor) == CAPITAL_WEI + NATIVE_WEI
    lending.behave(HONEST)


@pytest.mark.parametrize("attack", ["withdraw", "flash", "v3 callback", "v2 callback", "loan callback"])
def test_a_re_entrant_token_gets_nothing(
    evm: DevNode, owner: Account, executor: bytes, wrapped: bytes, attack: str
) -> None:
    """The token in the middle calls while the first pool waits for its pay."""
    market = HostileMarket(evm, owner, wrapped)
    found = market.arbitrage
    flash = Flash(pool=found.cycle.hops[0].pool)
    data = contract.encode_execute(found.cycle, found.pools, NATIVE_WEI, 0, 0, None, flash)
    payload = {
        "withdraw": contract.encode_withdraw(wrapped, CAPITAL_WEI),
        "flash": data,
        "v3 callback": callback(NATIVE_WEI, -1),
        "v2 callback": v2_call(executor),
        "loan callback": flash_callback(NATIVE_WEI),
    }[attack]
    market.behave(ROBBER, executor, payload)
    assert owner.send(executor, data)["status"] == "0x1"
    assert market.count("attempts") > 0
    assert market.count("successes") == 0
    assert owner.balance(wrapped, executor) == CAPITAL_WEI + found.profit


@pytest.mark.parametrize("behaviour", [FEE, LIES])
def test_a_token_that_keeps_what_it_moves_costs_nothing_but_gas(
    evm: DevNode, owner: Account, executor: bytes, wrapped: bytes, behaviour: int
) -> None:
    market = HostileMarket(evm, owner, wrapped)
    found = market.arbitrage
    flash = Flash(pool=found.cycle.hops[0].pool)
    data = contract.encode_execute(found.cycle, found.pools, NATIVE_WEI, found.profit, 0, None, flash)
    market.behave(behaviour)
    assert owner.send(executor, data)["status"] == "0x0"
    assert owner.balance(wrapped, executor) == CAPITAL_WEI
