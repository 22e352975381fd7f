"""Arbitrage on a pool's credit: taken where it leaves more after its gas, within its own limit, and off by default."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mev.domain import Block, Opportunity, Pool, V2State
from mev.market.amm.solidly import SolidlyPool
from mev.market.state import MarketState, PoolState
from mev.search.graph import CycleIndex
from mev.trading.inventory import Inventory
from mev.trading.strategies.atomic_arbitrage import AtomicArbitrage
from mev.trading.strategies.credit import LOAN_GAS, PAID_LAST_GAS, Credit

NATIVE, TOKEN, OTHER = b"\x01" * 20, b"\x02" * 20, b"\x03" * 20
UNIT = 10**18
GENESIS = Block(0, bytes(32), bytes(32), 0, 0)
CHEAP, DEAR, LENDER = (
    Pool(bytes([number]) * 20, "uniswap_v2", NATIVE, other, 997, 1000)
    for number, other in ((0x11, TOKEN), (0x12, TOKEN), (0x13, OTHER))
)
CURVE = Pool(b"\x14" * 20, "aerodrome", NATIVE, TOKEN, 0, 1, stable=False)
# The first one sells twice as much of the token for native coin as the second one.
RESERVES: dict[Pool, PoolState] = {
    CHEAP: V2State(100 * UNIT, 200 * UNIT, 0),
    DEAR: V2State(100 * UNIT, 100 * UNIT, 0),
    LENDER: V2State(1000 * UNIT, 1000 * UNIT, 0),
}


def best(states: dict[Pool, PoolState], capital: int, inventory: Inventory, block: Block = GENESIS) -> Opportunity:
    state = MarketState(block, states)
    index = CycleIndex(state.pools().values(), [NATIVE], 3)
    arbitrage = AtomicArbitrage("ethereum", index, state, inventory=inventory)
    return arbitrage.opportunities(block, state.pools(), capital)[0]


def holding(wei: int, flash_wei: int = 0) -> Inventory:
    inventory = Inventory(arbitrage_flash_wei=flash_wei)
    inventory.capital_wei = wei
    return inventory


def test_what_is_larger_than_the_capital_is_taken_on_credit_of_the_first_pool() -> None:
    own = best(RESERVES, UNIT, holding(UNIT))
    assert (own.flash, own.amount_in) == (None, UNIT)
    credit = best(RESERVES, UNIT, holding(UNIT, 1000 * UNIT))
    assert credit.flash is not None
    assert (credit.flash.pool, credit.flash.lent) == (CHEAP.address, 0)
    assert credit.amount_in > UNIT
    assert credit.expected_profit > own.expected_profit
    # As much as if there had been capital for it, and what is held says the same.
    rich = best(RESERVES, 1000 * UNIT, holding(1000 * UNIT, 1000 * UNIT))
    assert (rich.flash, rich.amount_in, rich.expected_out) == (None, credit.amount_in, credit.expected_out)
    assert credit.held == rich.held
    assert credit.id != rich.id


def test_its_own_limit_holds_and_that_of_liquidations_does_not() -> None:
    assert best(RESERVES, UNIT, holding(UNIT, 2 * UNIT)).amount_in == 2 * UNIT
    others = Inventory(flash_wei=1000 * UNIT)
    others.capital_wei = UNIT
    assert best(RESERVES, UNIT, others).flash is None


def test_without_capital_credit_is_taken_where_it_leaves_anything_and_else_what_was_missed_is_shown() -> None:
    assert best(RESERVES, 1000 * UNIT, holding(0, 1000 * UNIT)).flash is not None
    assert best(RESERVES, 1000 * UNIT, holding(0)).flash is None
    gas_price = 10**16
    dear = Block(0, bytes(32), bytes(32), 0, gas_price)
    found = best(RESERVES, 1000 * UNIT, holding(0, 1000 * UNIT), dear)
    assert found.expected_profit < PAID_LAST_GAS * gas_price
    assert found.flash is None


def test_credit_that_adds_less_than_its_gas_is_left() -> None:
    enough = best(RESERVES, 1000 * UNIT, holding(1000 * UNIT)).amount_in
    most = enough - UNIT // 100
    own, credit = (best(RESERVES, most, holding(most, flash)) for flash in (0, 1000 * UNIT))
    assert credit.flash is not None
    more = credit.expected_profit - own.expected_profit
    dear = Block(0, bytes(32), bytes(32), 0, more // PAID_LAST_GAS + 1)
    assert best(RESERVES, most, holding(most, 1000 * UNIT), dear).flash is None


def test_where_the_first_pool_cannot_give_first_another_one_lends_for_its_fee() -> None:
    curve = SolidlyPool(reserve0=100 * UNIT, reserve1=200 * UNIT, unit0=UNIT, unit1=UNIT, stable=False, fee=30)
    states = {CURVE: curve, DEAR: RESERVES[DEAR], LENDER: RESERVES[LENDER]}
    found = best(states, UNIT, holding(0, 1000 * UNIT))
    assert found.flash is not None
    assert found.flash.pool == LENDER.address
    lender = Credit(LENDER, lends=True)
    assert found.amount_in == lender.owed(found.flash.lent)
    assert found.held[:2] == ((NATIVE, found.amount_in), (NATIVE, found.flash.lent))
    assert found.held[-1] == (NATIVE, found.expected_out)
    # No other amount leaves more once the fee is paid.
    by_hand = best(states, 1000 * UNIT, holding(1000 * UNIT))
    assert found.flash.lent < by_hand.amount_in
    assert by_hand.expected_profit - found.expected_profit > found.amount_in - found.flash.lent - UNIT // 100
    # A lender that does not have as much is none.
    poor = {**states, LENDER: V2State(UNIT, UNIT, 0)}
    assert best(poor, UNIT, holding(0, 1000 * UNIT)).flash is None
    gas_price = found.expected_profit // LOAN_GAS + 1
    assert best(states, UNIT, holding(0, 1000 * UNIT), Block(0, bytes(32), bytes(32), 0, gas_price)).flash is None


@given(st.integers(1, 10**27), st.integers(1, 999_999), st.booleans())
def test_what_is_lent_is_all_that_what_is_owed_pays_for(owed: int, fee: int, concentrated: bool) -> None:
    pool = Pool(b"\x15" * 20, "f", NATIVE, TOKEN, 10**6 - fee, 10**6, 10 if concentrated else 0)
    credit = Credit(pool, lends=True)
    lent = credit.lent(owed)
    assert credit.owed(lent) <= owed < credit.owed(lent + 1)
    assert Credit(pool, lends=False).lent(owed) == owed


@pytest.mark.parametrize("capital", [0, UNIT])
def test_a_market_without_a_gap_has_nothing_on_credit_either(capital: int) -> None:
    even = {**RESERVES, CHEAP: V2State(100 * UNIT, 100 * UNIT, 0)}
    state = MarketState(GENESIS, even)
    index = CycleIndex(state.pools().values(), [NATIVE], 3)
    arbitrage = AtomicArbitrage("ethereum", index, state, inventory=holding(capital, 1000 * UNIT))
    assert [each for each in arbitrage.opportunities(GENESIS, state.pools(), UNIT) if each.expected_profit > 0] == []
