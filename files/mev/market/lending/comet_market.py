"""One Compound V3 market in step with its chain: read once, then followed by its events, and read anew where they cannot be trusted.

Used as mev.market.lending.followed says. Prices, the borrow index and what is for sale are asked after every block. A transfer of base between two borrowers has no event:
after each block some of those who may owe are read again, so that nobody is stale for long.
"""

from collections.abc import Iterable

import structlog

from mev.chain.rpc import Rpc
from mev.chain.wire import Log, encode
from mev.domain import Block
from mev.domain.market import Address
from mev.market.lending import comet_reader
from mev.market.lending.aave_reader import users_of
from mev.market.lending.comet_book import CometBook
from mev.market.lending.comet_reader import SUPPLY_COLLATERAL, TRANSFER_COLLATERAL, Owing, Terms
from mev.market.lending.followed import USERS_AT_ONCE, FollowedMarket
from mev.runtime.config import LendingConfig

# So many of those who may owe are read again after each block, whatever events say.
READ_AGAIN = 20

log = structlog.get_logger(__name__)


class CometMarket(FollowedMarket[CometBook]):
    """Whoever was ever given collateral may owe."""

    # A borrower is taken over first, and what was taken over is bought.
    absorbs = True

    def __init__(self, chain: str, rpc: Rpc, config: LendingConfig) -> None:
        super().__init__(chain, rpc, config)
        # Who is read again next.
        self._waiting: list[Address] = []

    async def _load(self, block: Block) -> CometBook:
        comet, events = self.config.pool, (SUPPLY_COLLATERAL, TRANSFER_COLLATERAL)
        first = self._through + 1
        async for through, found in users_of(self._rpc, comet, events, comet_reader.receiver, first, block.number):
            self._users |= found
            self._through = through
        known = await comet_reader.terms(self._rpc, comet, block)
        standing = await comet_reader.standing(self._rpc, comet, known, block)
        positions = await self._owing(sorted(self._users), known, block)
        self.unpriced = len(standing.unpriced)
        return CometBook(comet, block, known, standing, positions)

    async def _follow(self, book: CometBook, block: Block, logs: Iterable[Log]) -> bool:
        comet = self.config.pool
        users, given, upgraded = comet_reader.touched(logs, comet)
        if upgraded or self._turned:
            # Its assets may be others now.
            self.book = await self._load(block)
            self._anew, self._turned = True, False
            return True
        standing = await comet_reader.standing(self._rpc, comet, book.terms, block)
        self._users |= given
        self._through = max(self._through, block.number)
        asked = (users & self._users) | self._next_waiting()
        positions = await self._owing(sorted(asked), book.terms, block)
        before = book.standing
        changed = book.apply(block, standing, positions)
        self._changed |= changed
        self.unpriced = len(standing.unpriced)
        if standing.unpriced.keys() - before.unpriced.keys():
            said = {encode(asset): why for asset, why in standing.unpriced.items()}
            log.warning("assets without a price: who has any is left alone", **self._named(block), assets=said)
        return bool(changed) or (standing.assets, standing.held) != (before.assets, before.held)

    def _next_waiting(self) -> set[Address]:
        if not self._waiting:
            self._waiting = sorted(self._users)
        taken = set(self._waiting[-READ_AGAIN:])
        del self._waiting[-READ_AGAIN:]
        return taken

    async def _owing(self, users: list[Address], known: Terms, block: Block) -> dict[Address, Owing | None]:
        found: dict[Address, Owing | None] = {}
        for first in range(0, len(users), USERS_AT_ONCE):
            some = users[first : first + USERS_AT_ONCE]
            found |= await comet_reader.owing(self._rpc, self.config.pool, some, known, block)
        return found
