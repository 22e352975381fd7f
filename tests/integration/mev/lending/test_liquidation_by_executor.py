"""The executor's liquidations on a real EVM: a published Aave pool and real pairs, and what only calls itself a lending pool."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from mev.domain import Cycle, Hop, Seizure
from mev.trading import erc20
from mev.trading.execution import contract

from lab.evm.rpc import RpcError
from tests.integration.mev.conftest import CAPITAL_WEI, NATIVE_WEI, Account, compiled, raw, text, word
from tests.integration.mev.test_executor import Pools, amount_out, selector

if TYPE_CHECKING:
    from lab.evm.devnode import DevNode
    from tests.integration.mev.lending.crash import Crash

HONEST, LESS, GREEDY, FREE, THIEF = range(5)
WHOLE_USDC = 10**6
MINT = selector("mint(uint256)")
ALLOWANCE = selector("allowance(address,address)")


def allowance(owner: Account, token: bytes, holder: bytes, spender: bytes) -> int:
    return int.from_bytes(owner.call(token, ALLOWANCE + word(holder) + word(spender)), "big")


def test_dollars_are_bought_the_debt_is_paid_and_native_coin_comes_back(
    crash: Crash, owner: Account, executor: bytes, wrapped: bytes
) -> None:
    crash.dollars_owed()
    cycle = Cycle(wrapped, (Hop(crash.pair.address, crash.pair.token0 == wrapped),))
    seizure = crash.seizure(crash.usdc, crash.weth, 1)
    data = contract.encode_execute(cycle, {crash.pair.address: crash.pair}, NATIVE_WEI, 0, 0, seizure)
    paid = amount_out(owner, crash.pair, NATIVE_WEI, zero_for_one=cycle.hops[0].zero_for_one)
    # For each dollar 1.05 dollars of native coin at the oracle's price, and a tenth of the bonus is the protocol's.
    least = paid * 10**20 // (crash.price * 90 // 100) * 10_450 // 10_000 - NATIVE_WEI
    before = owner.balance(wrapped, executor)
    returned = int.from_bytes(owner.call(executor, data), "big")
    assert owner.send(executor, data)["status"] == "0x1"
    assert owner.balance(wrapped, executor) - before == returned
    assert abs(returned - least) < 10**12
    assert returned > 0
    assert owner.balance(raw(crash.usdc), executor) == 0
    assert allowance(owner, raw(crash.usdc), executor, raw(crash.aave.pool)) == 0


def test_native_coin_pays_the_debt_and_the_collateral_is_sold_to_a_pair(
    crash: Crash, owner: Account, executor: bytes, wrapped: bytes
) -> None:
    """More is offered than may be covered: the rest is the cycle's own token and stays."""
    crash.native_owed()
    cycle = Cycle(wrapped, (Hop(crash.pair.address, crash.pair.token0 == raw(crash.usdc)),))
    seizure = crash.seizure(crash.weth, crash.usdc, 0)
    data = contract.encode_execute(cycle, {crash.pair.address: crash.pair}, 5 * NATIVE_WEI, 0, 0, seizure)
    returned = int.from_bytes(owner.call(executor, data), "big")
    assert owner.send(executor, data)["status"] == "0x1"
    assert owner.balance(wrapped, executor) == CAPITAL_WEI + returned
    assert returned > 0
    assert owner.balance(raw(crash.usdc), executor) == 0
    assert allowance(owner, wrapped, executor, raw(crash.aave.pool)) == 0


def test_more_dollars_than_the_pool_takes_do_not_stay_behind(
    crash: Crash, owner: Account, executor: bytes, wrapped: bytes
) -> None:
    crash.dollars_owed()
    cycle = Cycle(wrapped, (Hop(crash.pair.address, crash.pair.token0 == wrapped),))
    seizure = crash.seizure(crash.usdc, crash.weth, 1)
    data = contract.encode_execute(cycle, {crash.pair.address: crash.pair}, 9 * NATIVE_WEI, 0, 0, seizure)
    with pytest.raises(RpcError, match="partial"):
        owner.call(executor, data)


def test_who_is_healthy_is_not_liquidated_and_a_stranger_liquidates_nobody(
    crash: Crash, owner: Account, stranger: Account, executor: bytes, wrapped: bytes
) -> None:
    crash.dollars_owed()
    cycle = Cycle(wrapped, (Hop(crash.pair.address, crash.pair.token0 == wrapped),))
    seizure = crash.seizure(crash.usdc, crash.weth, 1)
    data = contract.encode_execute(cycle, {crash.pair.address: crash.pair}, NATIVE_WEI, 0, 0, seizure)
    with pytest.raises(RpcError, match="not owner"):
        stranger.call(executor, data)
    crash.aave.price(crash.weth, crash.price)
    assert owner.send(executor, data)["status"] == "0x0"
    assert owner.balance(wrapped, executor) == CAPITAL_WEI


class FalseLending:
    """A false lending pool that is to be paid dollars and holds two native coins."""

    def __init__(self, evm: DevNode, owner: Account, wrapped: bytes, pools: Pools) -> None:
        self.owner = owner
        self.address = owner.create(compiled("false_lending"))
        self.usdc = raw(evm.deployment.token("USDC").address)
        pair = pools["uniswap_v2", frozenset({"WETH", "USDC"})]
        owner.send(wrapped, erc20.encode_deposit(), 2 * NATIVE_WEI)
        owner.send(wrapped, erc20.encode_transfer(self.address, 2 * NATIVE_WEI))
        seizure = Seizure(pool=self.address, borrower=b"\x0b" * 20, debt=self.usdc, collateral=wrapped, after=1)
        cycle = Cycle(wrapped, (Hop(pair.address, pair.token0 == wrapped),))
        self.data = contract.encode_execute(cycle, {pair.address: pair}, NATIVE_WEI, 0, 0, seizure)

    def behave(self, behaviour: int, payload: bytes = b"") -> None:
        padded = payload + bytes(-len(payload) % 32)
        data = word(behaviour) + word(64) + word(len(payload)) + padded
        assert self.owner.send(self.address, selector("behave(uint256,bytes)") + data)["status"] == "0x1"

    def count(self, what: str) -> int:
        return int.from_bytes(self.owner.call(self.address, selector(f"{what}()")), "big")


@pytest.fixture
def false(evm: DevNode, owner: Account, wrapped: bytes, pools: Pools) -> FalseLending:
    return FalseLending(evm, owner, wrapped, pools)


def test_an_honest_false_lending_pool_pays(
    owner: Account, executor: bytes, wrapped: bytes, false: FalseLending
) -> None:
    false.behave(HONEST)
    assert owner.send(executor, false.data)["status"] == "0x1"
    assert owner.balance(wrapped, executor) == CAPITAL_WEI + NATIVE_WEI


@pytest.mark.parametrize(
    ("behaviour", "why"),
    # What takes and gives nothing leaves less than there was: the contract's own subtraction refuses, or the profit's check.
    [(LESS, "partial"), (GREEDY, "profit"), (FREE, "partial")],
)
def test_a_false_lending_pool_gets_nothing(
    owner: Account, executor: bytes, wrapped: bytes, false: FalseLending, behaviour: int, why: str
) -> None:
    false.behave(behaviour)
    with pytest.raises(RpcError, match=why):
        owner.call(executor, false.data)
    assert owner.send(executor, false.data)["status"] == "0x0"
    assert owner.balance(wrapped, executor) == CAPITAL_WEI
    assert owner.balance(false.usdc, executor) == 0


@pytest.mark.parametrize("attack", ["withdraw", "execute", "callback"])
def test_a_re_entrant_lending_pool_gets_nothing(
    owner: Account, executor: bytes, wrapped: bytes, false: FalseLending, attack: str
) -> None:
    callback = selector("uniswapV3SwapCallback(int256,int256,bytes)")
    payload = {
        "withdraw": contract.encode_withdraw(wrapped, CAPITAL_WEI),
        "execute": false.data,
        "callback": callback + word(NATIVE_WEI) + word(0) + word(96) + word(0),
    }[attack]
    false.behave(THIEF, payload)
    assert owner.send(executor, false.data)["status"] == "0x1"
    assert (false.count("attempts"), false.count("successes")) == (1, 0)
    assert owner.balance(wrapped, executor) == CAPITAL_WEI + NATIVE_WEI


def test_nothing_can_be_taken_later(owner: Account, executor: bytes, wrapped: bytes, false: FalseLending) -> None:
    """Given dollars afterwards, the executor still has them: no allowance outlives the call."""
    false.behave(HONEST)
    assert owner.send(executor, false.data)["status"] == "0x1"
    owner.send(false.usdc, MINT + word(5))
    owner.send(false.usdc, erc20.encode_transfer(executor, 5))
    assert allowance(owner, false.usdc, executor, false.address) == 0
    take = selector("take(address,address,uint256)") + word(false.usdc) + word(executor) + word(1)
    with pytest.raises(RpcError):
        owner.call(false.address, take)
    assert text(false.usdc) != text(wrapped)
    assert owner.balance(false.usdc, executor) == 5
