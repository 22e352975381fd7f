"""Concentrated pools against the published contracts on a real EVM: amounts, price, tick and liquidity after each swap, to the last bit."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from mev.market.amm import AmmError
from mev.market.amm.concentrated import ConcentratedPool, v4_swap_fee
from mev.market.amm.tick_math import MAX_SQRT_PRICE, MAX_TICK, MIN_SQRT_PRICE, MIN_TICK, sqrt_price_at, usable
from mev.market.amm.ticks import Ticks

from tests.integration.mev.amm.venues import V3, V4, FirstAlgebra, Integral, Seen, Swap

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.evm.npm import Modules
    from tests.integration.mev.amm.conftest import Bench

QUOTES = 60
SWAPS = 6


@pytest.fixture(scope="module", params=[V3, V4, Integral, FirstAlgebra], ids=lambda venue: venue.__name__)
def venue(request: pytest.FixtureRequest, bench: Bench, published: Modules) -> V3:
    made: V3 = request.param(bench, published)
    return made


def quoted(pool: ConcentratedPool, swap: Swap) -> Seen | None:
    """Return what our mathematics says; None where it refuses."""
    try:
        if swap.amount > 0:
            moved = pool.swap_exact_in(swap.amount, zero_for_one=swap.zero_for_one, sqrt_price_limit_x96=swap.limit)
        else:
            moved = pool.swap_exact_out(-swap.amount, zero_for_one=swap.zero_for_one, sqrt_price_limit_x96=swap.limit)
    except AmmError:
        return None
    return Seen(*moved)


class Market:
    """One pool on the chain and in our arithmetic."""

    def __init__(self, venue: V3, draw: random.Random, *, tick: int, fee: int) -> None:
        self.venue, self.draw = venue, draw
        self.spacing = venue.SPACINGS[fee]
        price = sqrt_price_at(tick)
        if draw.random() < 0.7 and tick < MAX_TICK - 1:
            price = draw.randrange(price, sqrt_price_at(tick + 1))
        self.address = venue.create(fee, price)
        fees = venue.fees(self.address, fee)
        if isinstance(venue, V4):
            fees = (v4_swap_fee(fees[0], fee), v4_swap_fee(fees[1], fee))
        self.pool = ConcentratedPool(
            Ticks({}, self.spacing, words=venue.words),
            sqrt_price_x96=price,
            tick=tick,
            liquidity=0,
            fees=fees,
            largest_amount=venue.largest,
        )

    def provide(self, lower: int, upper: int, liquidity: int) -> None:
        self.venue.mint(self.address, lower, upper, liquidity)
        self.pool = self.pool.with_liquidity(lower, upper, liquidity)

    def provide_at_random(self, positions: int) -> None:
        least, greatest = usable(self.spacing)
        for _ in range(positions):
            reach = self.spacing * int(2 ** self.draw.uniform(0, 12))
            ends = {
                min(
                    max((self.pool.tick + self.draw.randint(-reach, reach)) // self.spacing * self.spacing, least),
                    greatest,
                )
                for _ in range(2)
            }
            if self.draw.random() < 0.2:
                ends = {least, greatest}
            if len(ends) == 2:
                self.provide(min(ends), max(ends), int(2 ** self.draw.uniform(8, 90)))

    def questions(self, count: int) -> list[Swap]:
        return [self.question() for _ in range(count)]

    def question(self) -> Swap:
        zero_for_one = self.draw.random() < 0.5
        amount = int(2 ** self.draw.uniform(0, self.draw.choice([30, 70, 100, 140]))) * self.draw.choice([1, -1])
        way = -1 if zero_for_one else 1
        near = self.pool.tick + way * int(2 ** self.draw.uniform(0, 16))
        choice = self.draw.random()
        if choice < 0.5:
            limit = MIN_SQRT_PRICE + 1 if zero_for_one else MAX_SQRT_PRICE - 1
        elif choice < 0.75 and self.pool.ticks.net:
            limit = sqrt_price_at(self.draw.choice(list(self.pool.ticks.net)))
        else:
            limit = sqrt_price_at(min(max(near, MIN_TICK), MAX_TICK)) + self.draw.choice([0, 0, 1, -1])
        return Swap(zero_for_one, amount, limit)

    def compare(self, swaps: list[Swap]) -> int:
        """Hold each answer against the contract's; return how many swaps the contract carried out."""
        answers = self.venue.ask(self.address, swaps)
        for swap, expected in zip(swaps, answers, strict=True):
            assert quoted(self.pool, swap) == expected, (swap, self.pool.tick, self.pool.ticks.net)
            whole = swap.amount > 0 and swap.limit in {MIN_SQRT_PRICE + 1, MAX_SQRT_PRICE - 1}
            if whole and expected is not None:
                assert self.pool.amount_out(swap.amount, zero_for_one=swap.zero_for_one) == expected.amount_out
        return sum(answer is not None for answer in answers)

    def move(self, swap: Swap) -> None:
        """Carry out a swap on both sides, if it can be."""
        expected = quoted(self.pool, swap)
        if expected is None:
            return
        self.venue.swap(self.address, swap)
        self.pool = self.pool.at(*expected[2:])
        assert self.venue.now(self.address) == expected[2:]


@pytest.mark.parametrize("seed", range(6))
def test_random_pools_swap_as_the_contract_does(venue: V3, seed: int) -> None:
    draw = random.Random(seed)  # noqa: S311
    tick = draw.choice([0, draw.randint(-200_000, 200_000), draw.randint(-80, 80), draw.choice([-1, 1]) * 880_000])
    market = Market(venue, draw, tick=tick, fee=draw.choice(list(venue.SPACINGS)))
    market.provide_at_random(draw.randint(1, 8))
    carried_out = market.compare(market.questions(QUOTES))
    for _ in range(SWAPS):
        market.move(market.question())
        carried_out += market.compare(market.questions(QUOTES // 6))
    assert carried_out > QUOTES // 4


def at_the_edge(market: Market) -> None:
    """The price exactly on an initialised tick, reached from above (the tick is one less) and then from below."""
    market.provide(-2 * market.spacing, market.spacing, 10**18)
    market.provide(-market.spacing, 3 * market.spacing, 10**20)
    market.move(Swap(True, 10**30, sqrt_price_at(-market.spacing)))
    assert market.pool.tick == -market.spacing - 1
    market.compare(market.questions(QUOTES))
    market.move(Swap(False, 10**30, sqrt_price_at(market.spacing)))
    assert market.pool.tick == market.spacing
    market.compare(market.questions(QUOTES))


def across_a_gap(market: Market) -> None:
    """Liquidity on both sides of a gap, and the price in it and beside it."""
    market.provide(-9 * market.spacing, -7 * market.spacing, 10**19)
    market.provide(4 * market.spacing, 40_000 // market.spacing * market.spacing, 3 * 10**17)
    market.compare(market.questions(QUOTES))
    for zero_for_one in (True, False, True):
        limit = MIN_SQRT_PRICE + 1 if zero_for_one else MAX_SQRT_PRICE - 1
        market.move(Swap(zero_for_one, 10**15, limit))
        market.compare(market.questions(QUOTES))


def empty(market: Market) -> None:
    """No liquidity at all: a swap moves the price to its limit and nothing else."""
    market.compare(market.questions(QUOTES))
    market.move(Swap(True, 1, MIN_SQRT_PRICE + 1))
    assert market.pool.tick == MIN_TICK
    market.compare(market.questions(QUOTES))


def to_both_ends(market: Market) -> None:
    """Everything is bought up: the price comes to the ends of what there is, and back."""
    market.provide(*usable(market.spacing), 10**12)
    for zero_for_one in (True, False, True):
        limit = MIN_SQRT_PRICE + 1 if zero_for_one else MAX_SQRT_PRICE - 1
        market.move(Swap(zero_for_one, 2**126, limit))
        market.compare(market.questions(QUOTES))


def smallest_and_largest(market: Market) -> None:
    """One unit of liquidity, and as much as a tick takes."""
    market.provide(-market.spacing, market.spacing, 1)
    market.compare(market.questions(QUOTES))
    market.provide(-market.spacing, market.spacing, 10**32)
    market.compare(market.questions(QUOTES))


@pytest.mark.parametrize("state", [at_the_edge, across_a_gap, empty, to_both_ends, smallest_and_largest])
def test_odd_pools_swap_as_the_contract_does(venue: V3, state: Callable[[Market], None]) -> None:
    fee = next(fee for fee, spacing in venue.SPACINGS.items() if spacing == 60)
    state(Market(venue, random.Random(state.__name__), tick=0, fee=fee))  # noqa: S311


def test_burns_take_ticks_away_again(bench: Bench, published: Modules) -> None:
    venue = V3(bench, published)
    market = Market(venue, random.Random(1), tick=100, fee=3000)  # noqa: S311
    market.provide(-600, 600, 10**18)
    market.provide(-60, 120, 10**18)
    bench.send(venue.driver, "burn_v3(address,int24,int24,uint128)", market.address, -60, 120, 10**18)
    market.pool = market.pool.with_liquidity(-60, 120, -(10**18))
    assert list(market.pool.ticks.net) == [-600, 600]
    assert market.compare(market.questions(QUOTES)) > QUOTES // 4


@pytest.mark.parametrize("fee", [fee for fee, spacing in V4.SPACINGS.items() if spacing != 60])
def test_every_fee_of_v4(bench: Bench, published: Modules, fee: int) -> None:
    market = Market(V4(bench, published), random.Random(fee), tick=7, fee=fee)  # noqa: S311
    market.provide_at_random(5)
    market.compare(market.questions(QUOTES))


def test_a_fee_that_changes_between_blocks(bench: Bench, published: Modules) -> None:
    venue = Integral(bench, published)
    market = Market(venue, random.Random(2), tick=0, fee=500)  # noqa: S311
    market.provide_at_random(5)
    for fee in (0, 1, 15_000, 65_535):
        bench.send(market.address, "setFee(uint16)", fee)
        market.pool = market.pool.at(
            market.pool.sqrt_price_x96, market.pool.tick, market.pool.liquidity, fees=(fee, fee)
        )
        market.compare(market.questions(QUOTES // 2))
        market.move(market.question())
