"""What bridges' adapters read is told in order, and a malformed event ends nothing."""

import asyncio
from collections.abc import AsyncIterator
from typing import cast

from hypothesis import given
from hypothesis import strategies as st
from mev.chain.abi import AbiError
from mev.chain.collectors import BlockCollector, Event, NewBlock, Reorg, Reset
from mev.chain.collectors.bridges import BridgeCollector, BridgeEvent, BridgeEventKind
from mev.chain.wire import Log
from mev.domain import Block

GENESIS = Block(0, bytes(32), bytes(32), 0, 0)
BRIDGE = b"\xb1" * 20


class Blocks:
    """A collector that tells of what it was given."""

    def __init__(self, *events: Event) -> None:
        self._given = events

    async def events(self) -> AsyncIterator[Event]:
        for event in self._given:
            yield event


class Adapter:
    """Reads an amount of 32 bytes from its contract's logs."""

    def decode(self, block: Block, log: Log) -> BridgeEvent | None:
        if log.address != BRIDGE:
            return None
        if len(log.data) != 32:
            raise AbiError(f"{len(log.data)} bytes")
        return BridgeEvent(
            bridge="one",
            kind=BridgeEventKind.DEPOSITED,
            transfer=b"",
            origin_chain_id=1,
            destination_chain_id=2,
            token=bytes(20),
            amount=int.from_bytes(log.data, "big"),
            sender=None,
            recipient=bytes(20),
            block=block,
            transaction=log.transaction,
            log_index=log.index,
        )


def told(collector: BridgeCollector) -> list[BridgeEvent | Reset | Reorg]:
    async def read() -> list[BridgeEvent | Reset | Reorg]:
        return [event async for event in collector.events()]

    return asyncio.run(read())


def collector(*events: Event) -> BridgeCollector:
    return BridgeCollector(cast("BlockCollector", Blocks(*events)), [Adapter()])


@given(
    st.lists(
        st.tuples(
            st.sampled_from([BRIDGE, bytes(20)]), st.one_of(st.binary(max_size=40), st.binary(min_size=32, max_size=32))
        )
    )
)
def test_every_sound_event_is_told_of_whatever_stands_between(logs: list[tuple[bytes, bytes]]) -> None:
    given_logs = tuple(Log(who, (), data, index, bytes(32)) for index, (who, data) in enumerate(logs))
    reading = collector(Reset(GENESIS), NewBlock(GENESIS, given_logs, behind=False), Reorg(GENESIS))
    first, *steps, last = told(reading)
    assert (first, last) == (Reset(GENESIS), Reorg(GENESIS))
    sound = [log for log in given_logs if log.address == BRIDGE and len(log.data) == 32]
    assert [(step.log_index, step.amount) for step in steps if isinstance(step, BridgeEvent)] == [
        (log.index, int.from_bytes(log.data, "big")) for log in sound
    ]
    assert len(steps) == len(sound)
    assert reading.malformed == sum(log.address == BRIDGE for log in given_logs) - len(sound)
