"""What goes over a bus, and what a bus does."""

from typing import Protocol

import msgspec

CLAIM_SECONDS = 30.0
# The stream on which the strategy engine says what became of each transaction.
SETTLEMENTS = "mev:settlements"
TAKEN_AT_ONCE = 100


class BusError(Exception):
    """The bus cannot be used now; one sentence names it and what is wrong."""


class BusRefusedError(BusError):
    """The bus is there and does not take the password, or its user may not do this: waiting mends nothing."""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was published; `place` is where the stream has it, `deliveries` how often this group got it, 1 at first."""

    stream: str
    group: str
    place: str
    id: str
    data: bytes
    deliveries: int


class Bus(Protocol):
    """Streams of messages; every method raises BusError where the bus is gone."""

    # What was wrong when it was used last, one sentence; empty while it is well. Any thread may read it.
    problem: str

    async def ping(self) -> None:
        """Ask whether the bus is there and takes this agent."""

    async def publish(self, stream: str, identity: str, data: bytes) -> bool:
        """Append a message; False, and nothing appended, where the stream's newest messages had this id already."""

    async def join(self, stream: str, group: str) -> None:
        """Make a group that gets what a stream keeps and all that comes; nothing where there is one."""

    async def take(self, stream: str, group: str, consumer: str, *, wait_seconds: float) -> list[Message]:
        """Return what this consumer is to do now, oldest first; waits for the first message, and returns none in the end."""

    async def done(self, message: Message) -> None:
        """Say that a message need not be delivered again."""

    async def close(self) -> None:
        """Let go of what the bus holds."""
