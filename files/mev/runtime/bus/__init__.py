"""What agents tell each other: in one process by default, across hosts through Redis Streams.

    bus = connect(config.bus)
    await bus.publish("settlements", transaction, data)         # once for each id, however often it is called
    await bus.join("settlements", "analytics")                  # a group gets every message once among its consumers
    for message in await bus.take("settlements", "analytics", "host1", wait_seconds=3):
        ...
        await bus.done(message)

A message that was taken and not done with, because its consumer died, is delivered again: to the same consumer when it is back, to
another of the group after `claim_seconds`. A stream keeps its newest `max_length` messages: what must not be lost is in the ledger.
"""

import asyncio

from mev.runtime.bus.memory import MemoryBus
from mev.runtime.bus.message import SETTLEMENTS, Bus, BusError, BusRefusedError, Message
from mev.runtime.bus.outbox import Outbox
from mev.runtime.bus.streams import RedisBus, RedisLocation

__all__ = [
    "SETTLEMENTS",
    "Bus",
    "BusError",
    "BusRefusedError",
    "MemoryBus",
    "Message",
    "Outbox",
    "RedisBus",
    "RedisLocation",
    "connect",
    "introduce",
]


def connect(location: RedisLocation | None, *, max_length: int) -> Bus:
    """Return the bus of a configuration: through Redis where a location is given, else within this process."""
    if location is None:
        return MemoryBus(max_length=max_length)
    return RedisBus(location, max_length=max_length)


def introduce(location: RedisLocation | None) -> None:
    """Before an agent begins: raises BusRefusedError where the bus does not take it. A bus that is gone stops no agent."""
    if location is not None:
        asyncio.run(_introduced(location))


async def _introduced(location: RedisLocation) -> None:
    bus = RedisBus(location, max_length=1)
    try:
        await bus.ping()
    except BusRefusedError:
        raise
    except BusError:
        # It comes back, or the agent says in its state that it has not.
        pass
    finally:
        await bus.close()
