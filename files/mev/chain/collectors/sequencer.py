"""Arbitrum's sequencer feed: what it has ordered, before it is a block anywhere else.

The feed's signatures are not verified: what it tells is a hint, and the node's blocks are the truth.
"""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import structlog
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.frames import CloseCode

from mev.chain.errors import HostileAnswerError, Offence, RpcUnavailableError, WrongChainError
from mev.chain.health import Breaker
from mev.chain.messages import reason_of
from mev.chain.nitro import SequencedMessage, read
from mev.chain.transports import PING_SECONDS, name_of

__all__ = ["FeedGap", "SequencedMessage", "SequencerFeed"]

CLIENT_VERSION = "2"
MAX_MESSAGE_BYTES = 32 * 2**20
# What a feed sends after a connection may be this large, and each of its transactions has a signature that is recovered: larger ones are read beside the loop.
READ_AT_ONCE_BYTES = 64 * 1024
CONNECT_SECONDS = 10.0
# The sequencer makes a message at least every few seconds; a feed that is silent for longer is not there.
SILENCE_SECONDS = 60.0
# Of Arbitrum's four a second, that is three days: no feed skips so many.
MAX_JUMP = 2**20

log = structlog.get_logger(__name__)


class FeedGap(msgspec.Struct, frozen=True):
    """Messages `first` to `last`, both included, were not told; the node's blocks have them."""

    first: int
    last: int


class SequencerFeed:
    """Follows a feed's WebSocket; each sequence number is told once, in order, and what is missing is named."""

    def __init__(
        self, url: str, *, chain_id: int, silence_seconds: float = SILENCE_SECONDS, breaker: Breaker | None = None
    ) -> None:
        """Take a ws:// or wss:// URL; a feed that says that it is of another chain is refused."""
        self._url = url
        self._chain_id = chain_id
        self._silence_seconds = silence_seconds
        self._next: int | None = None
        self.node = name_of(url)
        self.breaker = breaker or Breaker()
        # Told again by the feed, as it does after each connection.
        self.repeated = 0

    async def events(self) -> AsyncIterator[SequencedMessage | FeedGap]:
        """Tell of messages for ever; raises WrongChainError."""
        while True:
            self.breaker.attempt()
            try:
                async with connect(
                    self._url,
                    additional_headers=self._headers(),
                    open_timeout=CONNECT_SECONDS,
                    close_timeout=1,
                    ping_interval=PING_SECONDS,
                    ping_timeout=PING_SECONDS,
                    max_size=MAX_MESSAGE_BYTES,
                    compression=None,
                    proxy=None,
                ) as connection:
                    self._check(connection)
                    self.breaker.close()
                    while True:
                        async with asyncio.timeout(self._silence_seconds):
                            received = await connection.recv(decode=False)
                        for message in await _read(received):
                            for event in self._take(message):
                                yield event
            except WrongChainError:
                raise
            except ConnectionClosed as error:
                too_big = error.sent is not None and error.sent.code == CloseCode.MESSAGE_TOO_BIG
                self._lose(reason_of(error), Offence.TOO_LARGE if too_big else None)
            except TimeoutError:
                self._lose("it is silent", None)
            except HostileAnswerError as error:
                self._lose(str(error), error.offence)
            except RpcUnavailableError as error:
                self._lose(str(error), Offence.NOT_JSON_RPC)
            except (OSError, EOFError, WebSocketException) as error:
                self._lose(reason_of(error), None)
            await asyncio.sleep(self.breaker.wait_seconds)

    def _headers(self) -> dict[str, str]:
        headers = {"Arbitrum-Feed-Client-Version": CLIENT_VERSION}
        if self._next is not None:
            headers["Arbitrum-Requested-Sequence-Number"] = str(self._next)
        return headers

    def _check(self, connection: ClientConnection) -> None:
        said = connection.response.headers.get("Arbitrum-Chain-Id") if connection.response else None
        if said is not None and said != str(self._chain_id):
            shown = ascii(said)[:40]
            raise WrongChainError(f"{self.node} is a feed of chain {shown}: chain {self._chain_id} is expected")

    def _take(self, message: SequencedMessage) -> list[SequencedMessage | FeedGap]:
        number, expected = message.sequence_number, self._next
        if expected is not None:
            if number < expected:
                self.repeated += 1
                return []
            if number - expected > MAX_JUMP:
                raise HostileAnswerError(f"the feed jumps from {expected} to {number}", Offence.HEAD_JUMP)
        self._next = number + 1
        if expected is not None and number > expected:
            return [FeedGap(expected, number - 1), message]
        return [message]

    def _lose(self, reason: str, offence: Offence | None) -> None:
        self.breaker.open(reason, offence)
        log.warning("feed lost", node=self.node, reason=reason)


async def _read(received: bytes) -> list[SequencedMessage]:
    if len(received) <= READ_AT_ONCE_BYTES:
        return read(received)
    return await asyncio.to_thread(read, received)
