"""The executor contract on a real EVM, against real Uniswap V2 pairs and hostile tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from mev.chain.abi import keccak256
from mev.domain import Cycle, Hop, Pool
from mev.trading import erc20
from mev.trading.execution import contract

from lab.evm.rpc import RpcError
from tests.integration.mev.conftest import CAPITAL_WEI, NATIVE_WEI, Account, compiled, raw, text, word

if TYPE_CHECKING:
    from lab.evm.devnode import DevNode

Pools = dict[tuple[str, frozenset[str]], Pool]

HONEST, FEE, LIES, THIEF, BOMB = range(5)


def selector(signature: str) -> bytes:
    return keccak256(signature.encode())[:4]


def reserves(owner: Account, pool: Pool) -> tuple[int, int]:
    answer = owner.call(pool.address, selector("getReserves()"))
    return int.from_bytes(answer[:32], "big"), int.from_bytes(answer[32:64], "big")


def amount_out(owner: Account, pool: Pool, amount_in: int, *, zero_for_one: bool) -> int:
    """UniswapV2Library.getAmountOut, written again from its source."""
    reserve_in, reserve_out = reserves(owner, pool)[:: 1 if zero_for_one else -1]
    effective = amount_in * pool.fee_numerator
    return effective * reserve_out // (reserve_in * pool.fee_denominator + effective)


class Arbitrage:
    """The better direction through two pools of one pair, with what exact mathematics makes of it."""

    def __init__(self, owner: Account, token: bytes, first: Pool, second: Pool, amount_in: int) -> None:
        self.pools = {first.address: first, second.address: second}
        self.amount_in = amount_in
        options = [self._through(owner, token, *order) for order in ((first, second), (second, first))]
        self.profit, self.cycle = max(options, key=lambda option: option[0])
        self.loss, self.wrong_way = min(options, key=lambda option: option[0])

    def _through(self, owner: Account, token: bytes, first: Pool, second: Pool) -> tuple[int, Cycle]:
        hops = (Hop(first.address, first.token0 == token), Hop(second.address, second.token1 == token))
        middle = amount_out(owner, first, self.amount_in, zero_for_one=hops[0].zero_for_one)
        out = amount_out(owner, second, middle, zero_for_one=hops[1].zero_for_one)
        return out - self.amount_in, Cycle(token, hops)

    def data(self, min_profit: int = 0, deadline: int = 0, cycle: Cycle | None = None) -> bytes:
        return contract.encode_execute(cycle or self.cycle, self.pools, self.amount_in, min_profit, deadline)


@pytest.fixture
def arbitrage(owner: Account, wrapped: bytes, pools: Pools) -> Arbitrage:
    pair = frozenset({"WETH", "USDC"})
    found = Arbitrage(owner, wrapped, pools["uniswap_v2", pair], pools["sushi_v2", pair], NATIVE_WEI)
    assert found.profit > 0
    return found


def test_the_address_is_where_create2_puts_it(evm: DevNode, owner: Account, executor: bytes) -> None:
    assert evm.rpc.call("eth_getCode", text(executor), "latest") != "0x"
    assert owner.call(executor, selector("owner()"))[12:] == owner.address


def test_a_real_arbitrage_pays_what_exact_mathematics_says(
    owner: Account, executor: bytes, wrapped: bytes, arbitrage: Arbitrage
) -> None:
    assert int.from_bytes(owner.call(executor, arbitrage.data()), "big") == arbitrage.profit
    receipt = owner.send(executor, arbitrage.data(min_profit=arbitrage.profit))
    assert receipt["status"] == "0x1"
    assert owner.balance(wrapped, executor) - CAPITAL_WEI == arbitrage.profit


def test_three_hops(owner: Account, executor: bytes, wrapped: bytes, pools: Pools) -> None:
    path = [("uniswap_v2", {"WETH", "USDC"}), ("sushi_v2", {"USDC", "DAI"}), ("sushi_v2", {"WETH", "DAI"})]
    token, amount, hops, used = wrapped, NATIVE_WEI // 10, [], {}
    for factory, pair in path:
        pool = pools[factory, frozenset(pair)]
        zero_for_one = pool.token0 == token
        amount = amount_out(owner, pool, amount, zero_for_one=zero_for_one)
        hops.append(Hop(pool.address, zero_for_one))
        used[pool.address] = pool
        token = pool.token1 if zero_for_one else pool.token0
    assert token == wrapped
    # A gift makes the balance grow whichever way the prices lie, so that the path's own arithmetic is what is compared.
    data = contract.encode_execute(Cycle(wrapped, tuple(hops)), used, NATIVE_WEI // 10, 0, 0)
    profit = amount - NATIVE_WEI // 10
    if profit >= 0:
        assert int.from_bytes(owner.call(executor, data), "big") == profit
    else:
        with pytest.raises(RpcError, match="profit"):
            owner.call(executor, data)


def test_only_the_owner_executes_and_withdraws(
    owner: Account, stranger: Account, executor: bytes, wrapped: bytes, arbitrage: Arbitrage
) -> None:
    for data in (arbitrage.data(), contract.encode_withdraw(wrapped, 1)):
        with pytest.raises(RpcError, match="not owner"):
            stranger.call(executor, data)
        assert stranger.send(executor, data)["status"] == "0x0"
    assert owner.balance(wrapped, executor) == CAPITAL_WEI


def test_below_the_minimum_nothing_happens(
    owner: Account, executor: bytes, wrapped: bytes, arbitrage: Arbitrage
) -> None:
    too_much = arbitrage.data(min_profit=arbitrage.profit + 1)
    with pytest.raises(RpcError, match="profit"):
        owner.call(executor, too_much)
    assert owner.send(executor, too_much)["status"] == "0x0"
    with pytest.raises(RpcError, match="profit"):
        owner.call(executor, arbitrage.data(cycle=arbitrage.wrong_way))
    assert owner.balance(wrapped, executor) == CAPITAL_WEI


def test_after_the_deadline_nothing_happens(
    evm: DevNode, owner: Account, executor: bytes, arbitrage: Arbitrage
) -> None:
    head = int(evm.rpc.call("eth_blockNumber"), 16)
    late = arbitrage.data(deadline=head)
    assert owner.send(executor, late)["status"] == "0x0"
    assert owner.send(executor, arbitrage.data(deadline=head + 2))["status"] == "0x1"
    with pytest.raises(RpcError, match="deadline"):
        owner.call(executor, arbitrage.data(deadline=head + 1))


def test_a_path_that_is_no_cycle_is_refused(owner: Account, executor: bytes, arbitrage: Arbitrage) -> None:
    one = Cycle(arbitrage.cycle.token, arbitrage.cycle.hops[:1])
    with pytest.raises(RpcError, match="no cycle"):
        owner.call(executor, arbitrage.data(cycle=one))


def test_the_owner_withdraws_to_itself(owner: Account, executor: bytes, wrapped: bytes) -> None:
    assert owner.send(executor, contract.encode_withdraw(wrapped, CAPITAL_WEI))["status"] == "0x1"
    assert owner.balance(wrapped, executor) == 0
    assert owner.balance(wrapped, owner.address) == CAPITAL_WEI
    with pytest.raises(RpcError):
        owner.call(executor, contract.encode_withdraw(wrapped, 1))


def test_a_token_without_return_value_can_be_withdrawn(owner: Account, executor: bytes) -> None:
    token = owner.create(compiled("silent_token"))
    owner.send(token, selector("mint(address,uint256)") + word(executor) + word(5))
    assert owner.send(executor, contract.encode_withdraw(token, 5))["status"] == "0x1"
    assert owner.balance(token, owner.address) == 5


def test_withdrawing_what_is_no_token_is_refused(owner: Account, stranger: Account, executor: bytes) -> None:
    with pytest.raises(RpcError):
        owner.call(executor, contract.encode_withdraw(stranger.address, 1))


class HostileMarket:
    """A hostile token with a pool against wrapped native on both exchanges, priced apart so that a cycle should pay."""

    def __init__(self, evm: DevNode, owner: Account, wrapped: bytes) -> None:
        self.owner = owner
        self.token = owner.create(compiled("hostile_token"))
        owner.send(wrapped, erc20.encode_deposit(), 300 * NATIVE_WEI)
        made = []
        for name, amount in (("uniswap_v2", 100), ("sushi_v2", 120)):
            factory = raw(evm.deployment.factory(name).address)
            owner.send(
                factory, selector("createPair(address,address)") + word(wrapped) + word(self.token), gas=6_000_000
            )
            pair = owner.call(factory, selector("getPair(address,address)") + word(wrapped) + word(self.token))[12:]
            owner.send(wrapped, erc20.encode_transfer(pair, 100 * NATIVE_WEI))
            owner.send(self.token, selector("mint(address,uint256)") + word(pair) + word(amount * NATIVE_WEI))
            assert owner.send(pair, selector("mint(address)") + word(owner.address))["status"] == "0x1"
            token0, token1 = sorted((wrapped, self.token))
            made.append(Pool(pair, name, token0, token1, 997, 1000))
        self.arbitrage = Arbitrage(owner, wrapped, made[0], made[1], NATIVE_WEI)
        assert self.arbitrage.profit > 0

    def behave(self, behaviour: int, target: bytes = bytes(20), payload: bytes = b"") -> None:
        padded = payload.ljust(-(-len(payload) // 32) * 32, b"\0")
        data = word(behaviour) + word(target) + word(96) + word(len(payload)) + padded
        assert self.owner.send(self.token, selector("behave(uint256,address,bytes)") + data)["status"] == "0x1"

    def count(self, name: str) -> int:
        return int.from_bytes(self.owner.call(self.token, selector(f"{name}()")), "big")


@pytest.fixture
def hostile(evm: DevNode, owner: Account, wrapped: bytes) -> HostileMarket:
    return HostileMarket(evm, owner, wrapped)


def test_an_honest_token_of_the_same_kind_pays(
    owner: Account, executor: bytes, wrapped: bytes, hostile: HostileMarket
) -> None:
    assert owner.send(executor, hostile.arbitrage.data())["status"] == "0x1"
    assert owner.balance(wrapped, executor) - CAPITAL_WEI == hostile.arbitrage.profit


@pytest.mark.parametrize("behaviour", [LIES, BOMB])
def test_a_token_that_does_not_move_costs_nothing_but_gas(
    owner: Account, executor: bytes, wrapped: bytes, hostile: HostileMarket, behaviour: int
) -> None:
    hostile.behave(behaviour, executor, selector("owner()"))
    assert owner.send(executor, hostile.arbitrage.data())["status"] == "0x0"
    assert owner.balance(wrapped, executor) == CAPITAL_WEI


def test_a_fee_on_transfer_lowers_the_profit_and_the_minimum_holds(
    owner: Account, executor: bytes, wrapped: bytes, hostile: HostileMarket
) -> None:
    hostile.behave(FEE)
    taken = int.from_bytes(owner.call(executor, hostile.arbitrage.data()), "big")
    assert 0 < taken < hostile.arbitrage.profit
    assert owner.send(executor, hostile.arbitrage.data(min_profit=hostile.arbitrage.profit))["status"] == "0x0"
    assert owner.balance(wrapped, executor) == CAPITAL_WEI
    assert owner.send(executor, hostile.arbitrage.data(min_profit=taken))["status"] == "0x1"
    assert owner.balance(wrapped, executor) == CAPITAL_WEI + taken


@pytest.mark.parametrize("attack", ["withdraw", "execute"])
def test_a_re_entrant_token_gets_nothing(
    owner: Account, executor: bytes, wrapped: bytes, hostile: HostileMarket, attack: str
) -> None:
    payload = contract.encode_withdraw(wrapped, CAPITAL_WEI) if attack == "withdraw" else hostile.arbitrage.data()
    hostile.behave(THIEF, executor, payload)
    assert owner.send(executor, hostile.arbitrage.data())["status"] == "0x1"
    assert hostile.count("attempts") > 0
    assert hostile.count("successes") == 0
    assert owner.balance(wrapped, executor) == CAPITAL_WEI + hostile.arbitrage.profit


def test_a_token_that_trades_against_us_while_we_trade_is_held_to_the_minimum(
    owner: Account, executor: bytes, wrapped: bytes, hostile: HostileMarket
) -> None:
    """In our first swap's transfer it makes the second pool forget its price, by sync() after taking its tokens."""
    second = hostile.arbitrage.cycle.hops[1].pool
    hostile.behave(THIEF, second, selector("sync()"))
    owner.send(hostile.token, selector("mint(address,uint256)") + word(second) + word(10_000 * NATIVE_WEI))
    hostile.behave(THIEF, second, selector("sync()"))
    assert owner.send(executor, hostile.arbitrage.data(min_profit=1), gas=2_000_000)["status"] == "0x0"
    assert owner.balance(wrapped, executor) == CAPITAL_WEI


@pytest.mark.parametrize("token", ["hostile", "wrapped"])
def test_withdraw_is_locked_while_a_token_runs(
    owner: Account, executor: bytes, wrapped: bytes, hostile: HostileMarket, token: str
) -> None:
    owner.send(hostile.token, selector("mint(address,uint256)") + word(executor) + word(10))
    hostile.behave(THIEF, executor, contract.encode_withdraw(hostile.token if token == "hostile" else wrapped, 1))
    assert owner.send(executor, contract.encode_withdraw(hostile.token, 10))["status"] == "0x1"
    assert hostile.count("successes") == 0
    assert owner.balance(wrapped, executor) == CAPITAL_WEI
