"""Books of a lending market for tests: three assets, borrowers whose balances a test draws."""

from collections.abc import Mapping

from mev.domain import Block
from mev.market.lending.aave_book import AaveBook, Listing, Position
from mev.market.lending.aave_events import Indices
from mev.market.lending.wad_ray import RAY

from tests.unit.mev.search.markets import COIN, DOLLAR, GENESIS, NATIVE

USD = 10**8
PRICES = {NATIVE: 2000 * USD, DOLLAR: USD, COIN: 60_000 * USD}
ASSETS = (NATIVE, DOLLAR, COIN)
DECIMALS = {NATIVE: 18, DOLLAR: 6, COIN: 8}
RATE = RAY // 20


def listings(prices: Mapping[bytes, int | None], rate: int = RATE) -> list[Listing]:
    return [
        Listing(
            number=number,
            asset=asset,
            a_token=bytes([0xA0 + number]) * 20,
            debt_token=bytes([0xD0 + number]) * 20,
            decimals=DECIMALS[asset],
            liquidation_threshold=8000,
            liquidation_bonus=10500,
            protocol_fee=1000,
            active=True,
            # The tests begin at second 0.
            grace_until=-1,
            indices=Indices(
                liquidity_rate=rate // 2, borrow_rate=rate, liquidity_index=RAY, borrow_index=RAY, updated_at=0
            ),
            price=prices[asset],
        )
        for number, asset in enumerate(ASSETS)
    ]


def owing(collateral: bytes, supplied: int, debt: bytes, owed: int) -> Position:
    into, out = ASSETS.index(collateral), ASSETS.index(debt)
    scaled = {into: (supplied, 0)}
    scaled[out] = (scaled.get(out, (0, 0))[0], owed)
    return Position(bits=1 << 2 * into + 1 | 1 << 2 * out, category=0, scaled=scaled)


def book(positions: Mapping[bytes, Position], prices: Mapping[bytes, int | None] = PRICES) -> AaveBook:
    return AaveBook(GENESIS, listings(prices), {}, positions)


def child(parent: Block, seconds: int) -> Block:
    number = parent.number + 1
    return Block(number, number.to_bytes(32, "big"), parent.hash, parent.timestamp + seconds, 0)
