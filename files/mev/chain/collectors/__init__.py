"""What is heard of chains, as typed events: blocks with their logs, pending transactions, the sequencer's feed, bridges.

A collector is whatever has the one method `events`; who reads it does not know what it reads from.
"""

from collections.abc import AsyncIterator
from typing import Protocol, TypeVar

from mev.chain.collectors.blocks import REMEMBERED_BLOCKS, BlockCollector, Event, Log, NewBlock, Reorg, Reset

__all__ = ["REMEMBERED_BLOCKS", "BlockCollector", "Collector", "Event", "Log", "NewBlock", "Reorg", "Reset"]

E_co = TypeVar("E_co", covariant=True)


class Collector(Protocol[E_co]):
    """Tells of one subject for ever, through lost connections."""

    def events(self) -> AsyncIterator[E_co]:
        """Begin to tell; raises where there will never be anything (a node of another chain, a refused subscription)."""
