"""One Aave V3 market in step with its chain: read once, then followed by its events, and read anew where they cannot be trusted.

Used as mev.market.lending.followed says, with the logs of aave_events.TOPICS.
"""

from collections.abc import Iterable, Mapping

import msgspec
import structlog

from mev.chain.rpc import Rpc
from mev.chain.wire import Log, encode
from mev.domain import Block
from mev.domain.market import Address
from mev.market.lending import aave_reader
from mev.market.lending.aave_book import AaveBook, Category, Listing, Position
from mev.market.lending.aave_events import Indices, changes
from mev.market.lending.followed import USERS_AT_ONCE, FollowedMarket
from mev.market.state import StateError
from mev.runtime.config import LendingConfig

log = structlog.get_logger(__name__)


class AaveMarket(FollowedMarket[AaveBook]):
    """Whoever ever borrowed may owe."""

    # What is seized is given by the call that pays the debt.
    absorbs = False

    def __init__(self, chain: str, rpc: Rpc, config: LendingConfig) -> None:
        super().__init__(chain, rpc, config)
        self._places: aave_reader.Places | None = None
        self._unpriced: frozenset[Address] = frozenset()

    async def _load(self, block: Block) -> AaveBook:
        pool = self.config.pool
        async for through, found in aave_reader.borrowers(self._rpc, pool, self._through + 1, block.number):
            self._users |= found
            self._through = through
        self._places = await aave_reader.places(self._rpc, pool, block)
        listings = await self._priced(await aave_reader.listings(self._rpc, pool, block), block)
        categories = await aave_reader.categories(self._rpc, pool, block)
        known = {listing.number: listing for listing in listings}
        users = sorted(self._users)
        positions: dict[Address, Position] = {}
        for first in range(0, len(users), USERS_AT_ONCE):
            some = users[first : first + USERS_AT_ONCE]
            positions |= await aave_reader.positions(self._rpc, pool, some, known, block)
        return AaveBook(block, listings, categories, positions)

    async def _follow(self, book: AaveBook, block: Block, logs: Iterable[Log]) -> bool:
        places = self._places
        if places is None:
            raise StateError("the market's contracts are not known")
        listings: Mapping[int, Listing] = book.listings
        categories: Mapping[int, Category] = book.categories
        tokens = frozenset(listing.a_token for listing in listings.values())
        said = changes(logs, places.pool, tokens, (places.provider, places.configurator), block.timestamp)
        if said.configuration or self._turned:
            places = self._places = await aave_reader.places(self._rpc, places.pool, block)
            read = await aave_reader.listings(self._rpc, places.pool, block)
            categories = await aave_reader.categories(self._rpc, places.pool, block)
            self._turned = False
            self._anew = True
        else:
            read = [_updated(listing, said.indices.get(listing.asset)) for listing in listings.values()]
        now = await self._priced(read, block)
        self._users |= said.borrowers
        self._through = max(self._through, block.number)
        asked = sorted(said.users & (book.positions().keys() | said.borrowers))
        positions = await aave_reader.positions(
            self._rpc, places.pool, asked, {listing.number: listing for listing in now}, block
        )
        moved = said.configuration or any(
            listing.price != before.price for listing in now if (before := listings.get(listing.number)) is not None
        )
        changed = book.apply(block, now, categories, positions)
        self._changed |= changed
        return bool(changed) or moved

    async def _priced(self, read: Iterable[Listing], block: Block) -> list[Listing]:
        read = list(read)
        if self._places is None:
            raise StateError("the market's contracts are not known")
        said = await aave_reader.prices(self._rpc, self._places.oracle, [each.asset for each in read], block)
        unpriced = {asset: price for asset, price in said.items() if isinstance(price, str)}
        for asset in unpriced.keys() - self._unpriced:
            log.warning(
                "asset without a price: who has any of it is left alone",
                **self._named(block),
                asset=encode(asset),
                reason=unpriced[asset],
            )
        self._unpriced = frozenset(unpriced)
        self.unpriced = len(unpriced)
        return [
            msgspec.structs.replace(each, price=price if isinstance(price := said[each.asset], int) else None)
            for each in read
        ]


def _updated(listing: Listing, indices: Indices | None) -> Listing:
    return listing if indices is None else msgspec.structs.replace(listing, indices=indices)
