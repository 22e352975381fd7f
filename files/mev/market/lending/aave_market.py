"""One Aave V3 market in step with its chain: read once, then followed by its events, and read anew where they cannot be trusted.

market = AaveMarket("ethereum", rpc, config)
await market.load(block)                    # at the beginning, and after whatever cannot be undone
await market.follow(block, logs)            # each child of the last block, with the logs of aave_events.TOPICS
market.undo_to(ancestor)                    # a reorganisation
market.book                                 # None while nothing is known: then nothing is liquidated
"""

from collections.abc import Iterable, Mapping

import msgspec
import structlog

from mev.chain.abi import AbiError
from mev.chain.rpc import Rpc, RpcError, RpcUnavailableError
from mev.chain.wire import Log, encode
from mev.domain import Block
from mev.domain.market import Address
from mev.market.lending import aave_reader
from mev.market.lending.aave_book import AaveBook, Category, Listing, Position
from mev.market.lending.aave_events import Indices, changes
from mev.market.state import StateError
from mev.runtime.config import LendingConfig

# So many users are asked for in one go.
USERS_AT_ONCE = 500

log = structlog.get_logger(__name__)


class AaveMarket:
    """Keeps one book; whatever goes wrong with it stops nothing else on its chain."""

    # What is seized is given by the call that pays the debt.
    absorbs = False

    def __init__(self, chain: str, rpc: Rpc, config: LendingConfig) -> None:
        self._chain = chain
        self._rpc = rpc
        self.config = config
        self.book: AaveBook | None = None
        # How often nothing was known any more, or could not be read.
        self.given_up = 0
        # Whoever ever borrowed, by the events of blocks up to and with `_through`.
        self._borrowers: set[Address] = set()
        self._through = config.first_block - 1
        self._places: aave_reader.Places | None = None
        self._unpriced: frozenset[Address] = frozenset()
        # Since somebody took them: whose positions changed, and whether anything else may have.
        self._changed: set[Address] = set()
        self._anew = True
        # After a reorganisation what is configured may be what an undone block made of it.
        self._turned = False

    async def load(self, block: Block) -> None:
        """Read the market as it is after a block; where that fails, `book` stays None and the log says why."""
        self.book = None
        try:
            await self._load(block)
        except (AbiError, RpcError, RpcUnavailableError) as error:
            self._quarantine(block, error)
        else:
            log.info("lending market loaded", **self._named(block), borrowers=len(self._borrowers), **self._size())

    async def follow(self, block: Block, logs: Iterable[Log]) -> bool:
        """Take in the next block; return whether a price or a position is another one, or all was read anew.

        Where the block does not fit, an event is malformed or the node does not answer, the book is given up and read anew with the next block.
        """
        if self.book is None:
            await self.load(block)
            return self.book is not None
        try:
            return await self._follow(self.book, block, logs)
        except (AbiError, RpcError, RpcUnavailableError, StateError) as error:
            self.book = None
            self._quarantine(block, error)
            return False

    def undo_to(self, ancestor: Block) -> None:
        """Go back to what was after a block that was told of; where that is too far back the book is given up."""
        # Who borrowed in a block that is undone owes nothing, or will be read again.
        self._through = min(self._through, ancestor.number)
        self._turned = self._anew = True
        if self.book is None:
            return
        try:
            self.book.undo_to(ancestor)
        except StateError as error:
            self.book = None
            self._quarantine(ancestor, error)

    def take_changes(self) -> tuple[frozenset[Address], bool]:
        """Return whose positions changed since the last time, and whether everybody is to be looked at: all was read anew, configured or undone."""
        taken = frozenset(self._changed), self._anew
        self._changed, self._anew = set(), False
        return taken

    async def _load(self, block: Block) -> None:
        pool = self.config.pool
        async for through, found in aave_reader.borrowers(self._rpc, pool, self._through + 1, block.number):
            self._borrowers |= found
            self._through = through
        self._places = await aave_reader.places(self._rpc, pool, block)
        listings = await self._priced(await aave_reader.listings(self._rpc, pool, block), block)
        categories = await aave_reader.categories(self._rpc, pool, block)
        known = {listing.number: listing for listing in listings}
        users = sorted(self._borrowers)
        positions: dict[Address, Position] = {}
        for first in range(0, len(users), USERS_AT_ONCE):
            some = users[first : first + USERS_AT_ONCE]
            positions |= await aave_reader.positions(self._rpc, pool, some, known, block)
        self.book = AaveBook(block, listings, categories, positions)
        self._anew = True

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
        self._borrowers |= said.borrowers
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
        return [
            msgspec.structs.replace(each, price=price if isinstance(price := said[each.asset], int) else None)
            for each in read
        ]

    @property
    def unpriced(self) -> int:
        """How many listed assets the oracle gave no price for when it was asked last."""
        return len(self._unpriced)

    def _quarantine(self, block: Block, error: Exception) -> None:
        self.given_up += 1
        log.warning("lending market given up: it is read anew", **self._named(block), reason=str(error))

    def _named(self, block: Block) -> dict[str, object]:
        return {"chain": self._chain, "market": self.config.name, "block": block.number}

    def _size(self) -> dict[str, object]:
        book = self.book
        return {} if book is None else {"positions": len(book.positions()), "assets": len(book.listings)}


def _updated(listing: Listing, indices: Indices | None) -> Listing:
    return listing if indices is None else msgspec.structs.replace(listing, indices=indices)
