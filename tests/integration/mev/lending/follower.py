"""A lending market's book that is kept by the code that runs in the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from mev.chain.collectors import BlockCollector, NewBlock, Reorg, Reset
from mev.market.lending.followed import FollowedMarket

if TYPE_CHECKING:
    from collections.abc import Collection

    from mev.chain.rpc import Rpc
    from mev.domain import Block

M = TypeVar("M", bound=FollowedMarket[Any])


class Followed(Generic[M]):
    """Follows `market` by the events of its protocol's topics; `turned` counts reorganisations."""

    def __init__(self, rpc: Rpc, market: M, topics: Collection[bytes]) -> None:
        self.rpc = rpc
        self.market = market
        self._events = BlockCollector(rpc, sorted(topics), stall_seconds=1).events()
        self.head: Block | None = None
        self.turned = 0

    async def catch_up(self) -> Block:
        """Follow to the head, and return it."""
        latest = (await self.rpc.latest()).block()
        while self.head is None or self.head.hash != latest.hash:
            match await anext(self._events):
                case Reset(block):
                    await self.market.load(block)
                    self.head = block
                case NewBlock(block, logs, _):
                    await self.market.follow(block, logs)
                    self.head = block
                case Reorg(ancestor):
                    self.market.undo_to(ancestor)
                    self.head = ancestor
                    self.turned += 1
        return self.head
