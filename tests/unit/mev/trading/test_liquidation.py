"""The strategy's liquidations: what trying amounts finds, through the pools' own arithmetic and the lending pool's rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mev.domain import Flash, Opportunity, Pool
from mev.market.lending.aave_book import AaveBook
from mev.market.lending.aave_market import AaveMarket
from mev.market.lending.aave_v3 import liquidate
from mev.market.lending.takings import LeftAlone
from mev.runtime.config import EvmAddress, LendingConfig
from mev.trading.execution import contract
from mev.trading.inventory import Inventory
from mev.trading.strategies.liquidation import NAME, Liquidations

from tests.unit.mev.market.lending_books import PRICES, book, child, listings, owing
from tests.unit.mev.search.markets import COIN, DOLLAR, GENESIS, NATIVE, market, pool

if TYPE_CHECKING:
    from mev.market.lending.aave_book import Position
    from mev.market.state import MarketState

WEI = 10**18
LENDING = EvmAddress(b"\xaa" * 20)
USER = b"\x01" * 20
CAPITAL = 1000 * WEI
FALLEN = {**PRICES, NATIVE: 1800 * 10**8}
RISEN = {**PRICES, NATIVE: 2200 * 10**8}


def strategy(state: MarketState, held: AaveBook, inventory: Inventory | None = None) -> Liquidations:
    followed = AaveMarket("ethereum", None, LendingConfig(name="aave_v3", pool=LENDING))  # type: ignore[arg-type]
    followed.book = held
    return Liquidations("ethereum", NATIVE, state, [followed], inventory)


def pair(number: int, one: bytes, other: bytes, per_one: int, depth: int) -> tuple[Pool, tuple[int, int]]:
    """A pool with `depth` base units of `one`, and so many base units of `other` for each 10^18 of it."""
    made = pool(number, one, other)
    held = (depth, depth * per_one // WEI)
    return made, held if made.token0 == one else held[::-1]


def state(*pairs: tuple[Pool, tuple[int, int]]) -> MarketState:
    return market([made for made, _ in pairs], [held for _, held in pairs])


def found(
    state: MarketState,
    positions: dict[bytes, Position],
    prices: dict[bytes, int],
    capital: int = CAPITAL,
    inventory: Inventory | None = None,
) -> list[Opportunity]:
    return strategy(state, book(positions, prices), inventory).opportunities(GENESIS, (), capital)


DEEP = pair(1, NATIVE, DOLLAR, 1800 * 10**6, 10**24)


def test_dollars_owed_are_bought_with_native_coin_and_the_collateral_is_native_coin() -> None:
    positions = {USER: owing(NATIVE, 100 * WEI, DOLLAR, 150_000 * 10**6)}
    (one,) = found(state(DEEP), positions, FALLEN)
    assert one.strategy == NAME
    assert one.seizure is not None
    assert (one.seizure.pool, one.seizure.borrower, one.seizure.after) == (LENDING, USER, 1)
    assert (one.seizure.debt, one.seizure.collateral) == (DOLLAR, NATIVE)
    assert [token for token, _ in one.held] == [NATIVE, DOLLAR, NATIVE]
    held = book(positions, FALLEN).position(USER, 0)
    assert held is not None
    collateral, debt = (next(each for each in held if each.reserve.asset == asset) for asset in (NATIVE, DOLLAR))
    done = liquidate(held, collateral, debt, one.held[1][1])
    assert done is not None
    assert (done.debt, done.collateral) == (one.held[1][1], one.held[2][1])
    # Half of the debt: its health factor is 0.96.
    assert 74_000 * 10**6 < done.debt <= 75_000 * 10**6
    assert one.expected_out == one.held[-1][1] > one.amount_in
    assert one.pools == {DEEP[0].address, LENDING}


def test_the_whole_of_a_small_debt_in_native_coin_is_covered_and_a_little_more_is_offered() -> None:
    positions = {USER: owing(DOLLAR, 2000 * 10**6, NATIVE, 75 * WEI // 100)}
    (one,) = found(state(DEEP), positions, RISEN)
    assert one.seizure is not None
    assert one.seizure.after == 0
    assert one.amount_in == 75 * WEI // 100 * 1001 // 1000 + 1
    # What is offered and not taken is still there.
    assert one.expected_out == one.held[-1][1] + one.amount_in - 75 * WEI // 100


def test_a_small_debt_in_another_token_is_left_alone() -> None:
    """A part would leave dust, and of the whole something would stay behind."""
    assert found(state(DEEP), {USER: owing(NATIVE, 6 * WEI // 10, DOLLAR, 900 * 10**6)}, FALLEN) == []


def test_debt_and_collateral_in_other_tokens_take_two_swaps_and_never_one_pool_twice() -> None:
    coins = pair(2, NATIVE, COIN, 1800 * 10**8 // 60_000, 10**24)
    positions = {USER: owing(COIN, 10 * 10**8, DOLLAR, 490_000 * 10**6)}
    (one,) = found(state(DEEP, coins), positions, FALLEN)
    assert one.seizure is not None
    assert [hop.pool for hop in one.cycle.hops] == [DEEP[0].address, coins[0].address]
    assert [token for token, _ in one.held] == [NATIVE, DOLLAR, COIN, NATIVE]
    data = contract.encode_execute(
        one.cycle, {each.address: each for each in (DEEP[0], coins[0])}, 1, 0, 0, one.seizure
    )
    steps = [data[4 + 32 * (5 + 6 * step) :][:192] for step in range(3)]
    assert [step[12:32] for step in steps] == [DEEP[0].address, LENDING, coins[0].address]
    assert steps[1][96:128] == USER.rjust(32, b"\0")
    assert steps[1][128:] == bytes(64)


def test_nothing_is_told_twice_until_something_changes() -> None:
    held = book({USER: owing(NATIVE, 100 * WEI, DOLLAR, 150_000 * 10**6)}, FALLEN)
    watching = strategy(state(DEEP), held)
    assert len(watching.opportunities(GENESIS, (), CAPITAL)) == 1
    assert watching.opportunities(GENESIS, (), CAPITAL) == []
    assert len(watching.opportunities(GENESIS, {DEEP[0].address}, CAPITAL)) == 1
    assert len(watching.opportunities(GENESIS, {LENDING}, CAPITAL)) == 1
    later = child(GENESIS, 12)
    held.apply(later, listings({**FALLEN, NATIVE: 1790 * 10**8}), {}, {})
    assert len(watching.opportunities(later, (), CAPITAL)) == 1
    # A book that is not of this block says nothing about it.
    assert watching.opportunities(child(later, 12), {LENDING}, CAPITAL) == []


def test_who_is_healthy_what_cannot_be_swapped_and_what_may_not_be_liquidated_is_left_alone() -> None:
    positions = {USER: owing(NATIVE, 100 * WEI, DOLLAR, 150_000 * 10**6)}
    assert found(state(DEEP), positions, PRICES) == []
    assert found(state(pair(2, NATIVE, COIN, 10**6, 10**24)), positions, FALLEN) == []
    # A dollar costs a fifth more than the oracle says.
    assert found(state(pair(1, NATIVE, DOLLAR, 1500 * 10**6, 10**24)), positions, FALLEN) == []
    held = book(positions, FALLEN)
    closed = [msgspec.structs.replace(each, active=each.asset != NATIVE) for each in held.listings.values()]
    later = child(GENESIS, 12)
    held.apply(later, closed, {}, {})
    assert strategy(state(DEEP), held).opportunities(later, (), CAPITAL) == []


@settings(max_examples=15, deadline=None)
@given(st.integers(10**19, 10**22), st.integers(1500, 1830), st.integers(100, 10_000))
def test_no_amount_that_is_tried_leaves_more(depth: int, price: int, supply: int) -> None:
    """Slippage weighed against the bonus, in shallow pools too."""
    made = pair(1, NATIVE, DOLLAR, price * 10**6, depth)
    positions = {USER: owing(NATIVE, supply * WEI // 10, DOLLAR, supply * 150 * 10**6)}
    given_state = state(made)
    best = max((each.expected_profit for each in found(given_state, positions, FALLEN)), default=0)
    held = book(positions, FALLEN).position(USER, 0)
    assert held is not None
    collateral, debt = (next(each for each in held if each.reserve.asset == asset) for asset in (NATIVE, DOLLAR))
    reserves = given_state.v2(made[0].address)
    native, dollars = (
        (reserves.reserve0, reserves.reserve1) if made[0].token0 == NATIVE else (reserves.reserve1, reserves.reserve0)
    )
    for part in range(1, 400):
        amount = part * supply * WEI // 4000
        paid = amount * 997 * dollars // (native * 1000 + amount * 997)
        done = liquidate(held, collateral, debt, paid)
        if done is not None and done.debt == paid:
            assert done.collateral - amount <= best


BIG = {USER: owing(NATIVE, 100 * WEI, DOLLAR, 150_000 * 10**6)}
OWED = {USER: owing(DOLLAR, 200_000 * 10**6, NATIVE, 75 * WEI)}
OTHER = pair(2, NATIVE, DOLLAR, 2200 * 10**6, 10**24)


def credit(capital: int, limit: int = CAPITAL) -> Inventory:
    made = Inventory(limit)
    made.capital_wei = capital
    return made


def test_with_enough_capital_nothing_is_taken_on_credit() -> None:
    """It is the same liquidation, and credit takes more gas."""
    own = found(state(DEEP), BIG, FALLEN)
    assert found(state(DEEP), BIG, FALLEN, CAPITAL, credit(CAPITAL)) == own
    assert own[0].flash is None


def test_where_capital_is_short_the_first_pool_is_paid_last() -> None:
    (own,) = found(state(DEEP), BIG, FALLEN)
    (few,) = found(state(DEEP), BIG, FALLEN, WEI)
    (one,) = found(state(DEEP), BIG, FALLEN, WEI, credit(WEI))
    assert one.flash == Flash(pool=DEEP[0].address)
    assert (one.amount_in, one.expected_profit, one.held) == (own.amount_in, own.expected_profit, own.held)
    assert few.flash is None
    assert few.amount_in <= WEI < one.amount_in
    assert few.expected_profit < one.expected_profit
    assert one.id not in (own.id, few.id)


def test_credit_is_bound_by_its_own_limit_and_zero_is_never() -> None:
    (one,) = found(state(DEEP), BIG, FALLEN, CAPITAL, credit(0, 2 * WEI))
    assert one.flash is not None
    assert one.amount_in <= 2 * WEI
    # What is missed without capital is shown still.
    (missed,) = found(state(DEEP), BIG, FALLEN, CAPITAL, credit(0, 0))
    assert missed.flash is None


def test_credit_that_does_not_pay_for_its_gas_is_not_taken() -> None:
    dear = msgspec.structs.replace(GENESIS, base_fee_wei=10**17)
    held = AaveBook(dear, listings(FALLEN), {}, BIG)
    (one,) = strategy(state(DEEP), held, credit(WEI)).opportunities(dear, (), WEI)
    assert one.flash is None


def test_native_coin_is_lent_by_the_cheapest_pool_that_has_as_much_and_is_not_swapped_through() -> None:
    cheap = pool(3, NATIVE, COIN, (9995, 10_000))
    empty = pool(4, NATIVE, COIN, (9999, 10_000))
    market_state = state(OTHER, (cheap, (10**24, 10**24)), (empty, (10**10, 10**10)))
    (own,) = found(market_state, OWED, RISEN)
    (one,) = found(market_state, OWED, RISEN, CAPITAL, credit(0))
    assert one.flash is not None
    assert (one.flash.pool, one.flash.lent) == (cheap.address, own.amount_in)
    fee = one.amount_in - one.flash.lent
    assert one.expected_profit == own.expected_profit - fee
    # The least that gives as much by the pair's own rule.
    assert one.amount_in * 9995 // 10_000 == one.flash.lent > (one.amount_in - 1) * 9995 // 10_000
    assert one.held[:2] == ((NATIVE, one.amount_in), (NATIVE, one.flash.lent))
    assert cheap.address in one.pools
    data = contract.encode_execute(
        one.cycle, {each.address: each for each in (OTHER[0], cheap)}, one.amount_in, 0, 0, one.seizure, one.flash
    )
    steps = [data[4 + 32 * (5 + 6 * step) :][:192] for step in range(3)]
    assert [step[12:32] for step in steps] == [cheap.address, LENDING, OTHER[0].address]
    assert [step[44:64] for step in steps] == [NATIVE, NATIVE, DOLLAR]


@pytest.mark.parametrize(
    ("why", "pairs", "position", "closed"),
    [
        (LeftAlone.CLOSED, [DEEP], BIG[USER], True),
        (LeftAlone.DUST, [DEEP], owing(NATIVE, 5 * 10**15, DOLLAR, 9 * 10**6), False),
        (LeftAlone.ONE_TOKEN, [DEEP], owing(DOLLAR, 1000 * 10**6, DOLLAR, 900 * 10**6), False),
        (LeftAlone.NO_WAY, [pair(2, NATIVE, COIN, 10**6, 10**24)], BIG[USER], False),
        (LeftAlone.NO_SIZE, [DEEP], owing(NATIVE, 6 * WEI // 10, DOLLAR, 900 * 10**6), False),
        (LeftAlone.NO_PROFIT, [pair(1, NATIVE, DOLLAR, 1500 * 10**6, 10**24)], BIG[USER], False),
    ],
)
def test_who_is_left_alone_is_counted_by_the_reason(
    why: LeftAlone, pairs: list[tuple[Pool, tuple[int, int]]], position: Position, closed: bool
) -> None:
    held = book({USER: position}, FALLEN)
    if closed:
        # The grace period's last second is not over yet.
        in_grace = [msgspec.structs.replace(each, grace_until=12) for each in held.listings.values()]
        held = AaveBook(GENESIS, in_grace, {}, {USER: position})
    watching = strategy(state(*pairs), held)
    assert watching.opportunities(GENESIS, (), CAPITAL) == []
    assert watching.left_alone(LENDING) == {why: 1}
    assert watching.left_alone(EvmAddress(b"\xab" * 20)) == {}


def test_who_waits_for_the_grace_period_is_looked_at_when_it_is_over_and_who_recovers_is_forgotten() -> None:
    in_grace = [msgspec.structs.replace(each, grace_until=12) for each in listings(FALLEN, rate=0)]
    held = AaveBook(GENESIS, in_grace, {}, BIG)
    watching = strategy(state(DEEP), held)
    assert watching.opportunities(GENESIS, (), CAPITAL) == []
    last = child(GENESIS, 12)
    held.apply(last, in_grace, {}, {})
    assert watching.opportunities(last, (), CAPITAL) == []
    over = child(last, 1)
    held.apply(over, in_grace, {}, {})
    assert len(watching.opportunities(over, (), CAPITAL)) == 1
    assert watching.left_alone(LENDING) == {}
    risen = child(over, 12)
    held.apply(risen, listings(PRICES, rate=0), {}, {})
    assert watching.opportunities(risen, (), CAPITAL) == []
    assert watching.left_alone(LENDING) == {}
    fallen = child(risen, 12)
    held.apply(fallen, listings(FALLEN, rate=0), {}, {})
    assert len(watching.opportunities(fallen, (), CAPITAL)) == 1
