"""One Compound V3 market in step with its chain: read once, then followed by its events, and read anew where they cannot be trusted.

Used as mev.market.lending.aave_market. Prices, the borrow index and what is for sale are asked after every block. A transfer of base between two borrowers has no event:
after each block some of those who may owe are read again, so that nobody is stale for long.
"""

from collections.abc import Iterable

import structlog

from mev.chain.abi import AbiError
from mev.chain.rpc import Rpc, RpcError, RpcUnavailableError
from mev.chain.wire import Log, encode
from mev.domain import Block
from mev.domain.market import Address
from mev.market.lending import comet_reader
from mev.market.lending.aave_market import USERS_AT_ONCE
from mev.market.lending.aave_reader import users_of
from mev.market.lending.comet_book import CometBook
from mev.market.lending.comet_reader import SUPPLY_COLLATERAL, TRANSFER_COLLATERAL, Owing, Terms
from mev.market.state import StateError
from mev.runtime.config import LendingConfig

# So many of those who may owe are read again after each block, whatever events say.
READ_AGAIN = 20

log = structlog.get_logger(__name__)


class CometMarket:
    """Keeps one book; whatever goes wrong with it stops nothing else on its chain."""

    # A borrower is taken over first, and what was taken over is bought.
    absorbs = True

    def __init__(self, chain: str, rpc: Rpc, config: LendingConfig) -> None:
        self._chain = chain
        self._rpc = rpc
        self.config = config
        self.book: CometBook | None = None
        # How often nothing was known any more, or could not be read; and assets without a price when they were asked last.
        self.given_up = 0
        self.unpriced = 0
        # Whoever was ever given collateral, by the events of blocks up to and with `_through`; and who is read again next.
        self._given: set[Address] = set()
        self._through = config.first_block - 1
        self._waiting: list[Address] = []
        self._changed: set[Address] = set()
        self._anew = True
        # After a reorganisation the terms may be what an undone upgrade made of them.
        self._turned = False

    async def load(self, block: Block) -> None:
        """Read the market as it is after a block; where that fails, `book` stays None and the log says why."""
        self.book = None
        try:
            await self._load(block)
        except (AbiError, RpcError, RpcUnavailableError) as error:
            self._quarantine(block, error)

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
        """Return whose positions changed since the last time, and whether everybody is to be looked at."""
        taken = frozenset(self._changed), self._anew
        self._changed, self._anew = set(), False
        return taken

    async def _load(self, block: Block) -> None:
        comet, events = self.config.pool, (SUPPLY_COLLATERAL, TRANSFER_COLLATERAL)
        first = self._through + 1
        async for through, found in users_of(self._rpc, comet, events, comet_reader.receiver, first, block.number):
            self._given |= found
            self._through = through
        known = await comet_reader.terms(self._rpc, comet, block)
        standing = await comet_reader.standing(self._rpc, comet, known, block)
        positions = await self._owing(sorted(self._given), known, block)
        self.book = CometBook(comet, block, known, standing, positions)
        self.unpriced = len(standing.unpriced)
        self._anew, self._turned = True, False
        log.info("lending market loaded", **self._named(block), borrowers=len(self.book.positions()))

    async def _follow(self, book: CometBook, block: Block, logs: Iterable[Log]) -> bool:
        comet = self.config.pool
        users, given, upgraded = comet_reader.touched(logs, comet)
        if upgraded or self._turned:
            # Its assets may be others now.
            await self._load(block)
            return True
        standing = await comet_reader.standing(self._rpc, comet, book.terms, block)
        self._given |= given
        self._through = max(self._through, block.number)
        asked = (users & self._given) | self._next_waiting()
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
            self._waiting = sorted(self._given)
        taken = set(self._waiting[-READ_AGAIN:])
        del self._waiting[-READ_AGAIN:]
        return taken

    async def _owing(self, users: list[Address], known: Terms, block: Block) -> dict[Address, Owing | None]:
        found: dict[Address, Owing | None] = {}
        for first in range(0, len(users), USERS_AT_ONCE):
            some = users[first : first + USERS_AT_ONCE]
            found |= await comet_reader.owing(self._rpc, self.config.pool, some, known, block)
        return found

    def _quarantine(self, block: Block, error: Exception) -> None:
        self.given_up += 1
        log.warning("lending market given up: it is read anew", **self._named(block), reason=str(error))

    def _named(self, block: Block) -> dict[str, object]:
        return {"chain": self._chain, "market": self.config.name, "block": block.number}
