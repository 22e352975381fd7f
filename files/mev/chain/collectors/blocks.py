"""A chain's blocks with the logs that matter, as events that always fit on each other, whatever node and network do.

collector = BlockCollector(rpc, topics=[SYNC], stall_seconds=36)
async for event in collector.events():
    match event:
        case Reset(block): ...          # read everything anew, as it is after this block; always the first event
        case Reorg(ancestor): ...       # undo everything after `ancestor`
        case NewBlock(block, logs, behind): ... # the child of the last block that was told of
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence

import msgspec
import structlog

from mev.chain.errors import (
    HostileAnswerError,
    MalformedAnswerError,
    Offence,
    RpcError,
    RpcUnavailableError,
    WrongChainError,
)
from mev.chain.messages import decode
from mev.chain.rpc import Gap, Rpc, Subscription
from mev.chain.wire import Head, Log, WireLog, encode
from mev.domain import Block
from mev.domain.market import Hash

__all__ = ["BlockCollector", "Event", "Log", "NewBlock", "Reorg", "Reset"]

# The 64 that state can undo, and the one that is left then. A gap or a reorganisation of more is answered with Reset: reading all anew is cheaper.
REMEMBERED_BLOCKS = 65
RETRY_SECONDS = 0.5
# Blocks whose logs are asked for in one message: more would make it too large for its bound.
LOGS_AT_ONCE = 8

log = structlog.get_logger(__name__)


class Reset(msgspec.Struct, frozen=True):
    """What was known is void: begin at this block."""

    block: Block


class Reorg(msgspec.Struct, frozen=True):
    """Blocks after `ancestor`, one that was told of, are no longer of the chain."""

    ancestor: Block


class NewBlock(msgspec.Struct, frozen=True):
    """The child of the last block, with the logs that were asked for, in order; `behind` where its own child is known already."""

    block: Block
    logs: tuple[Log, ...]
    behind: bool


Event = Reset | Reorg | NewBlock


class BlockCollector:
    """Follows newHeads of one node; a head is only a hint, the truth is read by hash."""

    def __init__(self, rpc: Rpc, topics: Sequence[Hash], *, stall_seconds: float) -> None:
        """Collect logs whose first topic is one of `topics`, only heads where there is none; after `stall_seconds` without a head, ask for the latest."""
        self._rpc = rpc
        self._topics = [encode(topic) for topic in topics]
        self._stall_seconds = stall_seconds
        self._known: OrderedDict[Hash, Block] = OrderedDict()

    async def events(self) -> AsyncIterator[Event]:
        """Tell of the chain for ever, through lost connections; raises WrongChainError, and RpcError where it cannot subscribe."""
        async with self._rpc.subscribe("newHeads") as heads:
            again = False
            while True:
                hint = None if again else await self._hint(heads)
                again = False
                try:
                    async for event in self._advance(hint):
                        yield event
                except WrongChainError:
                    raise
                except (RpcError, RpcUnavailableError) as error:
                    # Reading is safe to repeat; what was told stands, and the next look goes on from there.
                    log.warning("chain could not be read", node=self._rpc.node, reason=str(error))
                    await asyncio.sleep(RETRY_SECONDS)
                    # Without a connection, the next one brings a hint.
                    again = self._rpc.connected

    async def _hint(self, heads: Subscription) -> Block | None:
        """Return the newest head that the node tells of; None where only asking helps."""
        try:
            async with asyncio.timeout(self._stall_seconds):
                item = await heads.newest()
        except TimeoutError:
            return None
        if isinstance(item, Gap):
            return None
        try:
            return decode("newHeads", item, Head).block()
        except MalformedAnswerError as error:
            log.warning("head could not be read", node=self._rpc.node, reason=str(error))
            return None

    async def _advance(self, hint: Block | None) -> AsyncIterator[Event]:
        last = self._last()
        if hint is None or last is None or hint.parent_hash != last.hash:
            # A head may be old by now: only one that follows the last block is taken as it is.
            head = await self._latest()
        else:
            head = hint
        if last is None:
            yield self._begin(head)
        elif head.hash in self._known:
            if head.hash != last.hash:
                yield self._turn_back(head)
        else:
            async for event in self._catch_up(last, head):
                yield event

    async def _catch_up(self, last: Block, head: Block) -> AsyncIterator[Event]:
        branch = [head, *await self._between(last, head)]
        while branch[-1].parent_hash not in self._known:
            if len(branch) == REMEMBERED_BLOCKS or branch[-1].number == 0:
                yield self._begin(head)
                return
            branch.append(await self._parent(branch[-1]))
        ancestor = self._known[branch[-1].parent_hash]
        if ancestor.hash != last.hash:
            yield self._turn_back(ancestor)
        branch.reverse()
        for start in range(0, len(branch), LOGS_AT_ONCE):
            chunk = branch[start : start + LOGS_AT_ONCE]
            for block, logs in zip(chunk, await self._logs(chunk), strict=True):
                self._known[block.hash] = block
                if len(self._known) > REMEMBERED_BLOCKS:
                    self._known.popitem(last=False)
                yield NewBlock(block, logs, block is not head)

    async def _between(self, last: Block, head: Block) -> list[Block]:
        """Return the blocks between two, newest first, in one question; less where the chain is another one by then."""
        numbers = range(head.number - 1, last.number, -1)
        if not 0 < len(numbers) < REMEMBERED_BLOCKS:
            return []
        found: list[Block] = []
        child = head
        for answer in await self._rpc.batch_as(
            Head, [("eth_getBlockByNumber", (hex(number), False)) for number in numbers]
        ):
            if answer is None:
                break
            block = answer.block()
            if block.hash != child.parent_hash or block.number != child.number - 1:
                break
            found.append(block)
            child = block
        return found

    def _last(self) -> Block | None:
        return next(reversed(self._known.values()), None)

    def _begin(self, block: Block) -> Reset:
        self._known.clear()
        self._known[block.hash] = block
        return Reset(block)

    def _turn_back(self, ancestor: Block) -> Reorg:
        while next(reversed(self._known)) != ancestor.hash:
            self._known.popitem()
        return Reorg(ancestor)

    async def _latest(self) -> Block:
        return (await self._rpc.latest()).block()

    async def _parent(self, child: Block) -> Block:
        parent = await self._block("eth_getBlockByHash", encode(child.parent_hash))
        if parent.hash != child.parent_hash or parent.number != child.number - 1:
            raise MalformedAnswerError(f"{self._rpc.node}: the parent of block {child.number} is another block")
        return parent

    async def _block(self, method: str, which: str) -> Block:
        head = await self._rpc.call_as(Head, method, [which, False])
        if head is None:
            raise RpcUnavailableError(f"{self._rpc.node}: has no block {which}")
        return head.block()

    async def _logs(self, blocks: Sequence[Block]) -> list[tuple[Log, ...]]:
        if not self._topics:
            return [() for _ in blocks]
        # By hash (EIP-234): a number may mean another block by now.
        wanted = [{"blockHash": encode(block.hash), "topics": [self._topics]} for block in blocks]
        asked = [("eth_getLogs", (each,)) for each in wanted]
        return await self._rpc.batch_read(
            list[WireLog], asked, lambda place, found: self._checked(blocks[place], found)
        )

    def _checked(self, block: Block, found: Sequence[WireLog] | None) -> tuple[Log, ...]:
        if found is None:
            raise RpcUnavailableError(f"{self._rpc.node}: has no logs of block {block.number} yet")
        logs = sorted((item.log(block) for item in found), key=lambda item: item.index)
        if len({item.index for item in logs}) != len(logs):
            raise HostileAnswerError(
                f"eth_getLogs of block {block.number} answered with a log twice", Offence.FALSE_LOGS
            )
        return tuple(logs)
