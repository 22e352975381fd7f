"""A lending market in step with its chain, whichever protocol's: read once, then followed by its events, and read anew where they cannot be trusted.

market = AaveMarket("ethereum", rpc, config)    # or CometMarket
await market.load(block)                        # at the beginning, and after whatever cannot be undone
await market.follow(block, logs)                # each child of the last block, with the logs of its protocol's topics
market.undo_to(ancestor)                        # a reorganisation
market.book                                     # None while nothing is known: then nothing is liquidated
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Generic, Protocol, TypeVar

import structlog

from mev.chain.abi import AbiError
from mev.chain.rpc import Rpc, RpcError, RpcUnavailableError
from mev.chain.wire import Log
from mev.domain import Block
from mev.domain.market import Address
from mev.market.state import StateError
from mev.runtime.config import LendingConfig

# So many users are asked for in one go.
USERS_AT_ONCE = 500

log = structlog.get_logger(__name__)


class Book(Protocol):
    """Who owes what in one market after a block."""

    def positions(self) -> Mapping[Address, object]:
        """Everybody who owes anything."""
        ...

    def undo_to(self, ancestor: Block) -> None:
        """Go back to what was after a block; raises StateError, and changes nothing, where that is too far back."""
        ...


B = TypeVar("B", bound=Book)


class FollowedMarket(ABC, Generic[B]):
    """Keeps one book; whatever goes wrong with it stops nothing else on its chain."""

    def __init__(self, chain: str, rpc: Rpc, config: LendingConfig) -> None:
        self._chain = chain
        self._rpc = rpc
        self.config = config
        self.book: B | None = None
        # How often nothing was known any more, or could not be read; and assets without a price when they were asked last.
        self.given_up = 0
        self.unpriced = 0
        # Whoever may owe anything, by the events of blocks up to and with `_through`.
        self._users: set[Address] = set()
        self._through = config.first_block - 1
        # Since somebody took them: whose positions changed, and whether anything else may have.
        self._changed: set[Address] = set()
        self._anew = True
        # After a reorganisation what is configured may be what an undone block made of it.
        self._turned = False

    async def load(self, block: Block) -> None:
        """Read the market as it is after a block; where that fails, `book` stays None and the log says why."""
        self.book = None
        try:
            self.book = await self._load(block)
        except (AbiError, RpcError, RpcUnavailableError) as error:
            self._quarantine(block, error)
        else:
            self._anew, self._turned = True, False
            log.info(
                "lending market loaded",
                **self._named(block),
                users=len(self._users),
                borrowers=len(self.book.positions()),
            )

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
        # Who came to owe in a block that is undone owes nothing, or will be read again.
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

    @abstractmethod
    async def _load(self, block: Block) -> B:
        """Read everything; raises AbiError, RpcError, RpcUnavailableError."""

    @abstractmethod
    async def _follow(self, book: B, block: Block, logs: Iterable[Log]) -> bool:
        """As follow(); raises what it catches."""

    def _quarantine(self, block: Block, error: Exception) -> None:
        self.given_up += 1
        log.warning("lending market given up: it is read anew", **self._named(block), reason=str(error))

    def _named(self, block: Block) -> dict[str, object]:
        return {"chain": self._chain, "market": self.config.name, "block": block.number}
