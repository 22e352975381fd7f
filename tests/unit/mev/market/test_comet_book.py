"""A Compound V3 market's book: who can be absorbed and what is sold, over blocks and back, and events of hostile bytes."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mev.chain.abi import AbiError
from mev.chain.wire import Log
from mev.market.lending import comet_reader
from mev.market.lending.comet_book import CometBook
from mev.market.lending.comet_reader import (
    SUPPLY_COLLATERAL,
    TOPICS,
    TRANSFER_COLLATERAL,
    UPGRADED,
    Listed,
    Owing,
    Standing,
    Terms,
)
from mev.market.lending.compound_v3 import FACTOR_SCALE, INDEX_SCALE, Asset, Market, is_liquidatable
from mev.market.lending.takings import LeftAlone
from mev.market.lending.wad_ray import UINT256_MAX, WAD
from mev.market.lending.watch import Watch
from mev.market.state import StateError

from tests.unit.mev.market.lending_books import child
from tests.unit.mev.search.markets import COIN, DOLLAR, GENESIS, NATIVE

COMET = b"\xc0" * 20
USER = b"\x01" * 20
USD = 10**8
SCALES = {NATIVE: 10**18, COIN: 10**8}
PRICES = {NATIVE: 2000 * USD, COIN: 60_000 * USD}
TERMS = Terms(
    base=DOLLAR,
    feed=b"\xfe" * 20,
    base_scale=10**6,
    store_front_price_factor=FACTOR_SCALE * 6 // 10,
    target_reserves=10**12,
    assets=tuple(
        Listed(
            asset=asset,
            feed=bytes([0xF0 + number]) * 20,
            scale=scale,
            liquidate_collateral_factor=FACTOR_SCALE * 85 // 100,
            liquidation_factor=FACTOR_SCALE * 93 // 100,
        )
        for number, (asset, scale) in enumerate(SCALES.items())
    ),
)
OWED = Owing(principal=-17_000 * 10**6, collateral={NATIVE: 10 * WAD})
FALLEN = {**PRICES, NATIVE: 1999 * USD}


def standing(
    prices: dict[bytes, int] = PRICES,
    index: int = INDEX_SCALE,
    held: dict[bytes, int] | None = None,
    reserves: int = 0,
    *,
    paused: bool = False,
) -> Standing:
    return Standing(
        market=Market(
            base_scale=TERMS.base_scale,
            base_price=USD,
            base_borrow_index=index,
            store_front_price_factor=TERMS.store_front_price_factor,
            reserves=reserves,
            target_reserves=TERMS.target_reserves,
        ),
        assets={
            each.asset: Asset(
                asset=each.asset,
                scale=each.scale,
                price=prices[each.asset],
                liquidate_collateral_factor=each.liquidate_collateral_factor,
                liquidation_factor=each.liquidation_factor,
            )
            for each in TERMS.assets
            if each.asset in prices
        },
        held=held or {NATIVE: 0, COIN: 0},
        paused=paused,
        unpriced={},
    )


def book(stands: Standing, *owing: Owing) -> CometBook:
    return CometBook(
        COMET, GENESIS, TERMS, stands, {bytes([number + 1]) * 20: each for number, each in enumerate(owing)}
    )


def test_below_one_is_exactly_where_the_contract_absorbs() -> None:
    # Ten coins of 2000 dollars count for 17,000.
    assert book(standing(), OWED).health(USER) == WAD
    below = book(standing(FALLEN), OWED).health(USER)
    assert below is not None
    assert below < WAD
    assert book(standing(), Owing(principal=-(10**6) + 1, collateral={})).health(USER) == UINT256_MAX
    assert book(standing({COIN: USD}), OWED).health(USER) is None


def test_what_is_bought_is_the_borrower_s_and_what_was_there() -> None:
    told = book(standing(FALLEN, held={NATIVE: WAD, COIN: 0}), OWED).takings(USER, NATIVE)
    assert told is not None
    (taking,) = told.found
    assert (taking.debt, taking.collateral, taking.whole) == (DOLLAR, NATIVE, 0)
    assert taking.supplied == 11 * WAD
    # 1999 less six tenths of seven hundredths.
    discounted = 1999 * USD * (FACTOR_SCALE - FACTOR_SCALE * 42 // 1000) // FACTOR_SCALE
    assert taking.take(1000 * 10**6) == (1000 * 10**6, USD * 1000 * 10**6 * WAD // discounted // 10**6)
    most = 11 * WAD * discounted // USD // 10**12
    assert taking.take(most) is not None
    assert taking.take(most + 10**6) is None
    assert taking.take(0) is None


@pytest.mark.parametrize(
    ("stands", "why"),
    [
        (standing(FALLEN, paused=True), LeftAlone.CLOSED),
        # Absorbing leaves the reserves above their target still.
        (standing(FALLEN, reserves=TERMS.target_reserves + 17_000 * 10**6), LeftAlone.CLOSED),
        (standing({**PRICES, NATIVE: 5 * USD // 10}), LeftAlone.DUST),
    ],
)
def test_what_is_not_sold_is_left_alone(stands: Standing, why: LeftAlone) -> None:
    told = book(stands, OWED).takings(USER, NATIVE)
    assert told is not None
    assert (told.found, told.came) == ([], why)


def test_the_market_itself_sells_what_it_took_over() -> None:
    assert book(standing()).sellers() == ()
    assert book(standing(held={NATIVE: WAD, COIN: 0}, reserves=TERMS.target_reserves)).sellers() == ()
    selling = book(standing(held={NATIVE: WAD, COIN: 0}))
    assert selling.sellers() == (COMET,)
    told = selling.takings(COMET, NATIVE)
    assert told is not None
    assert [each.supplied for each in told.found] == [WAD]
    # Nobody is liquidated who is healthy.
    assert book(standing(), OWED).takings(USER, NATIVE) is None


def test_blocks_are_undone() -> None:
    held = book(standing(), OWED)
    first, second = child(GENESIS, 12), child(child(GENESIS, 12), 12)
    assert held.apply(first, standing(FALLEN), {USER: OWED, b"\x02" * 20: OWED}) == {b"\x02" * 20}
    assert held.apply(second, standing(FALLEN, index=2 * INDEX_SCALE), {USER: None}) == {USER}
    assert USER not in held.positions()
    with pytest.raises(StateError):
        held.apply(second, standing(), {})
    held.undo_to(first)
    assert held.positions()[USER] == OWED
    assert held.standing == standing(FALLEN)
    held.undo_to(GENESIS)
    assert dict(held.positions()) == {USER: OWED}
    with pytest.raises(StateError):
        held.undo_to(first)


moves = st.tuples(st.integers(800, 1200), st.integers(800, 1200), st.integers(1000, 1010), st.integers(0, 7))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(10**4, 10**7), st.integers(1000, 1600), st.booleans()), min_size=8, max_size=8),
    st.lists(moves, min_size=1, max_size=8),
)
def test_a_watch_misses_nobody(people: list[tuple[int, int, bool]], steps: list[tuple[int, int, int, int]]) -> None:
    def owing(dollars: int, health: int, native: bool) -> Owing:
        asset = NATIVE if native else COIN
        amount = dollars * health * SCALES[asset] * USD * 100 // (85 * 1000 * PRICES[asset])
        return Owing(principal=-dollars * 10**6, collateral={asset: amount})

    held, watch, block = book(standing(), *(owing(*each) for each in people)), Watch(), GENESIS
    prices, index = dict(PRICES), INDEX_SCALE
    watch.liquidatable(held, (), anew=True)
    for native, coin, interest, changed in steps:
        prices = {NATIVE: prices[NATIVE] * native // 1000, COIN: prices[COIN] * coin // 1000}
        index = index * interest // 1000
        block = child(block, 12)
        user = bytes([changed + 1]) * 20
        users = held.apply(block, standing(prices, index), {user: owing(*people[changed])})
        found = watch.liquidatable(held, users, anew=False)
        market = held.standing.market
        assert market is not None
        assert found == sorted(
            user
            for user, each in held.positions().items()
            if is_liquidatable(
                each.principal,
                [(held.standing.assets[asset], amount) for asset, amount in each.collateral.items()],
                market,
            )
        )


def log(address: bytes, *topics: bytes) -> Log:
    return Log(address=address, topics=topics, data=bytes(32), index=0, transaction=b"")


def test_events_name_whose_position_changed_and_who_was_given_collateral() -> None:
    one, other = (each.rjust(32, b"\0") for each in (USER, b"\x02" * 20))
    logs = [
        log(COMET, SUPPLY_COLLATERAL, one, other, bytes(32)),
        log(b"\xc1" * 20, TRANSFER_COLLATERAL, one, one, bytes(32)),
        log(COMET),
    ]
    assert comet_reader.touched(logs, COMET) == (frozenset({b"\x02" * 20}), frozenset({b"\x02" * 20}), False)
    moved = [log(COMET, TRANSFER_COLLATERAL, one, other, bytes(32)), log(COMET, UPGRADED, one)]
    assert comet_reader.touched(moved, COMET) == (frozenset({USER, b"\x02" * 20}), frozenset({b"\x02" * 20}), True)
    with pytest.raises(AbiError, match="no address"):
        comet_reader.touched([log(COMET, SUPPLY_COLLATERAL, one)], COMET)
    with pytest.raises(AbiError, match="no address"):
        comet_reader.receiver((SUPPLY_COLLATERAL, one, b"\xff" * 32), b"")


@given(st.lists(st.one_of(st.sampled_from(sorted(TOPICS)), st.binary(min_size=32, max_size=32)), max_size=5))
def test_hostile_topics_raise_nothing_else(topics: list[bytes]) -> None:
    with contextlib.suppress(AbiError):
        comet_reader.touched([log(COMET, *topics)], COMET)
    with contextlib.suppress(AbiError):
        comet_reader.receiver(tuple(topics), b"")
