"""What a bridge does on one chain, in one form for all bridges; each bridge's adapter reads its own contracts' events.

There is no adapter yet: this is what they will be held to.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from enum import StrEnum
from typing import Protocol

import msgspec
import structlog

from mev.chain.abi import AbiError
from mev.chain.collectors.blocks import BlockCollector, NewBlock, Reorg, Reset
from mev.chain.wire import Log, encode
from mev.domain import Block
from mev.domain.market import Address, Hash

logger = structlog.get_logger(__name__)


class BridgeEventKind(StrEnum):
    """deposited: taken in on the chain it leaves. filled: paid out on the chain it reaches. refunded: given back where it left."""

    DEPOSITED = "deposited"
    FILLED = "filled"
    REFUNDED = "refunded"


class BridgeEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One step of one transfer; `amount` is base units of `token` on the chain of `block`, after fees where they are known."""

    bridge: str
    kind: BridgeEventKind
    # The same on both chains.
    transfer: bytes
    origin_chain_id: int
    destination_chain_id: int
    token: Address
    amount: int
    sender: Address | None
    recipient: Address
    block: Block
    transaction: Hash
    log_index: int


class BridgeAdapter(Protocol):
    """One bridge on one chain."""

    def decode(self, block: Block, log: Log) -> BridgeEvent | None:
        """Return what a log says; None for another contract's; raises AbiError, and nothing else, for a malformed one."""


class BridgeCollector:
    """The bridges' events of one chain; a Reset or Reorg says, as for blocks, that later events are void.

    A malformed event is named in the log and counted, and the ones after it are told of.
    """

    def __init__(self, blocks: BlockCollector, adapters: Sequence[BridgeAdapter]) -> None:
        """Read a collector of blocks whose topics are the adapters'."""
        self._blocks = blocks
        self._adapters = adapters
        # Events that bore a bridge's topic and not its layout.
        self.malformed = 0

    async def events(self) -> AsyncIterator[BridgeEvent | Reset | Reorg]:
        """Tell of each step in the chain's order."""
        async for event in self._blocks.events():
            if not isinstance(event, NewBlock):
                yield event
                continue
            for log in event.logs:
                for step in self._decoded(event.block, log):
                    yield step

    def _decoded(self, block: Block, log: Log) -> Iterator[BridgeEvent]:
        for adapter in self._adapters:
            try:
                step = adapter.decode(block, log)
            except AbiError as error:
                self.malformed += 1
                logger.warning(
                    "malformed bridge event",
                    contract=encode(log.address),
                    block=block.number,
                    index=log.index,
                    reason=str(error),
                )
                continue
            if step is not None:
                yield step
