"""Who can be liquidated: the heap misses nobody that looking at everybody finds, whatever prices and time do."""

from unittest.mock import patch

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mev.market.lending.aave_book import AaveBook, Category, Position
from mev.market.lending.aave_v3 import health_factor
from mev.market.lending.wad_ray import UINT256_MAX, WAD, Overflowed
from mev.market.lending.watch import Watch

from tests.unit.mev.market.lending_books import ASSETS, DECIMALS, PRICES, USD, book, child, listings, owing

BORROWERS = st.lists(
    st.tuples(st.sampled_from(ASSETS), st.sampled_from(ASSETS), st.integers(1000, 10**6), st.integers(30, 79)),
    min_size=1,
    max_size=12,
)
# By block: how long it takes, and by how much each asset's price moves, in per mille.
BLOCKS = st.lists(st.tuples(st.integers(1, 10**6), *(st.integers(900, 1100) for _ in ASSETS)), min_size=1, max_size=12)


def drawn(borrowers: list[tuple[bytes, bytes, int, int]]) -> AaveBook:
    return book(
        {
            number.to_bytes(20, "big"): owing(
                collateral,
                dollars * USD * 10 ** DECIMALS[collateral] // PRICES[collateral],
                debt,
                dollars * part * USD * 10 ** DECIMALS[debt] // (100 * PRICES[debt]),
            )
            for number, (collateral, debt, dollars, part) in enumerate(borrowers)
        }
    )


def everybody(found: AaveBook) -> list[bytes]:
    below = []
    for user in found.positions():
        held = found.position(user, found.block.timestamp)
        if held is not None and health_factor(held) < WAD and sum(each.debt_base for each in held) >= USD:
            below.append(user)
    return sorted(below)


@settings(max_examples=60)
@given(BORROWERS, BLOCKS, st.sampled_from([0, 1, 1024]))
def test_nobody_is_missed(
    borrowers: list[tuple[bytes, bytes, int, int]], blocks: list[tuple[int, ...]], groups: int
) -> None:
    with patch("mev.market.lending.watch.MOST_GROUPS", groups):
        _nobody_is_missed(borrowers, blocks)


def _nobody_is_missed(borrowers: list[tuple[bytes, bytes, int, int]], blocks: list[tuple[int, ...]]) -> None:
    held, watch, prices = drawn(borrowers), Watch(), dict(PRICES)
    assert watch.liquidatable(held, (), anew=True) == everybody(held)
    for seconds, *moves in blocks:
        prices = {asset: price * move // 1000 for (asset, price), move in zip(prices.items(), moves, strict=True)}
        held.apply(child(held.block, seconds), listings(prices), {}, {})
        assert watch.liquidatable(held, (), anew=False) == everybody(held)


def test_what_changed_is_looked_at_and_what_is_repaid_is_not_there_any_more() -> None:
    native, dollar = ASSETS[:2]
    user = b"\x01" * 20
    held, watch = book({user: owing(native, 10**18, dollar, 1000 * 10**6)}), Watch()
    assert watch.liquidatable(held, (), anew=True) == []
    held.apply(child(held.block, 1), listings(PRICES), {}, {user: owing(native, 10**18, dollar, 1700 * 10**6)})
    assert watch.liquidatable(held, [user], anew=False) == [user]
    repaid = Position(bits=2, category=0, scaled={0: (10**18, 0)})
    held.apply(child(held.block, 1), listings(PRICES), {}, {user: repaid})
    assert watch.liquidatable(held, [user], anew=False) == []
    assert not held.positions()


def test_a_price_that_is_missing_leaves_alone_and_what_it_fell_to_shows_when_it_is_back() -> None:
    native, dollar, coin = ASSETS
    user, other = b"\x01" * 20, b"\x02" * 20
    held = book({user: owing(native, 10**18, dollar, 1500 * 10**6), other: owing(coin, 10**8, dollar, 30_000 * 10**6)})
    watch = Watch()
    assert watch.liquidatable(held, (), anew=True) == []
    silent = {native: None, dollar: PRICES[dollar], coin: PRICES[coin]}
    held.apply(child(held.block, 1), listings(silent), {}, {})
    assert watch.liquidatable(held, (), anew=False) == []
    back = {**silent, native: PRICES[native] * 9 // 10}
    held.apply(child(held.block, 1), listings(back), {}, {})
    assert watch.liquidatable(held, (), anew=False) == [user]


def test_who_is_far_from_it_is_not_looked_at_again() -> None:
    native, dollar = ASSETS[:2]
    safe = {number.to_bytes(20, "big"): owing(native, 10**18, dollar, 500 * 10**6) for number in range(100)}
    held, watch, looked = book(safe), Watch(), []
    look = watch._look
    watch._look = lambda book, user: (looked.append(user), look(book, user))[1]  # type: ignore[method-assign, func-returns-value]
    watch.liquidatable(held, (), anew=True)
    assert len(looked) == 100
    for number in range(10):
        prices = {**PRICES, native: PRICES[native] * (1000 - number) // 1000}
        held.apply(child(held.block, 12), listings(prices), {}, {})
        watch.liquidatable(held, (), anew=False)
    assert len(looked) == 100


def test_a_price_that_falls_has_only_those_looked_at_whose_collateral_it_is() -> None:
    native, dollar, coin = ASSETS
    near = {number.to_bytes(20, "big"): owing(native, 10**18, dollar, 1590 * 10**6) for number in range(3)}
    others = {number.to_bytes(20, "big"): owing(coin, 10**8, dollar, 47_900 * 10**6) for number in range(10, 110)}
    debtors = {number.to_bytes(20, "big"): owing(coin, 10**8, native, 239 * 10**17) for number in range(200, 300)}
    held, watch, looked = book(near | others | debtors), Watch(), []
    assert watch.liquidatable(held, (), anew=True) == []
    look = watch._look
    watch._look = lambda book, user: (looked.append(user), look(book, user))[1]  # type: ignore[method-assign, func-returns-value]
    held.apply(child(held.block, 12), listings({**PRICES, native: PRICES[native] * 9 // 10}), {}, {})
    assert watch.liquidatable(held, (), anew=False) == sorted(near)
    assert sorted(looked) == sorted(near)


@settings(max_examples=200)
# Dust is owed, and what is held is worth more than the pool can count.
@example(8, [(0, 1), (1, 0), (0, 0)], 0, 0, (1, 2**240, None))
@given(
    st.integers(0, 63),
    st.lists(st.tuples(st.integers(0, 10**30) | st.just(2**250), st.integers(0, 10**30)), min_size=3, max_size=3),
    st.integers(0, 10**9),
    st.integers(0, 7),
    st.tuples(*(st.integers(1, 10**14) | st.none() | st.just(2**240) for _ in ASSETS)),
)
def test_a_health_factor_is_the_position_s_own(
    bits: int, scaled: list[tuple[int, int]], seconds: int, special: int, prices: tuple[int | None, ...]
) -> None:
    user = b"\x01" * 20
    owes = Position(bits=bits | 1, category=special and 1, scaled=dict(enumerate(scaled)))
    category = Category(liquidation_threshold=9300, liquidation_bonus=10100, collateral=special)
    held = AaveBook(child(book({}).block, 0), [], {}, {user: owes})
    held.apply(
        child(held.block, seconds), listings(dict(zip(ASSETS, prices, strict=True))), {1: category}, {user: owes}
    )
    try:
        position = held.position(user, held.block.timestamp)
        # What is owed may be dust where what is held is too much for the pool: then nobody asks how much.
        small = position is not None and sum(each.debt_base for each in position) < USD
        expected = UINT256_MAX if small else None if position is None else health_factor(position)
    except Overflowed:
        with pytest.raises(Overflowed):
            held.health(user)
        return
    assert held.health(user) == expected
