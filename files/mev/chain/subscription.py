"""What a reader of notifications holds: a bounded queue that says where something may be missing."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from types import TracebackType
from typing import Self

import msgspec

from mev.chain.errors import RpcError

# What a node may make us keep: 32 MiB a subscription.
QUEUED_NOTIFICATIONS = 128
MAX_NOTIFICATION_BYTES = 256 * 1024


class Gap(msgspec.Struct, frozen=True):
    """Everything before this moment may have been missed: the subscription is new, new again, or was not read in time."""

    reason: str


class Subscription:
    """Notifications of one kind, in order; Gap stands wherever some may be missing, and first of all."""

    def __init__(
        self,
        params: Sequence[object],
        opens: "Callable[[Subscription], Awaitable[None]]",
        closes: "Callable[[Subscription], Awaitable[None]]",
    ) -> None:
        """Made by Rpc.subscribe; `opens` and `closes` begin and end it at a node."""
        self.params = params
        # What nodes answered that would not have it, by their names.
        self.refusals: dict[str, RpcError] = {}
        self._opens = opens
        self._closes = closes
        self._items: asyncio.Queue[msgspec.Raw | Gap | Exception] = asyncio.Queue(QUEUED_NOTIFICATIONS)

    @property
    def of_heads(self) -> bool:
        """Whether its notifications are block headers."""
        return tuple(self.params) == ("newHeads",)

    async def __aenter__(self) -> Self:
        await self._opens(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._closes(self)

    async def __aiter__(self) -> AsyncIterator[msgspec.Raw | Gap]:
        while True:
            yield await self.next()

    async def next(self) -> msgspec.Raw | Gap:
        """Wait for the next item; raises RpcError where nodes refuse to subscribe, WrongChainError as calls do."""
        item = await self._items.get()
        if isinstance(item, Exception):
            raise item
        return item

    def next_now(self) -> msgspec.Raw | Gap | None:
        """Return the next item if it is there already; raises as `next` does."""
        if self._items.empty():
            return None
        item = self._items.get_nowait()
        if isinstance(item, Exception):
            raise item
        return item

    async def newest(self) -> msgspec.Raw | Gap:
        """Wait for an item and return the last of those that are there by then; raises as `next` does."""
        item = await self.next()
        while not self._items.empty():
            item = await self.next()
        return item

    def put(self, notification: msgspec.Raw) -> None:
        """Take one notification; where the reader is too slow, everything unread becomes one Gap."""
        if self._items.full():
            self.restart(Gap("notifications were not read in time"))
        else:
            self._items.put_nowait(notification.copy())

    def restart(self, first: Gap | Exception) -> None:
        """Forget what is unread and begin with `first`."""
        while not self._items.empty():
            self._items.get_nowait()
        self._items.put_nowait(first)

    fail = restart
