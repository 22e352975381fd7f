"""Arbitrum's express lane, as a submitter that an operator who holds the lane names; nothing uses it otherwise.

    [[chains.arbitrum.submitters]]
    name = "express_lane"
    kind = "plugin"
    plugin = "mev.trading.execution.timeboost:make"
    url = "https://arb1-sequencer.arbitrum.io/rpc"   # the sequencer's
    identity = "credential:express_lane_controller"  # the key of the round's controller
    settings = { auction_contract = "0x…", offset_timestamp = "…", round_seconds = "60" }

What `offset_timestamp` and `round_seconds` (60 unless set) are, the auction contract's roundTimingInfo() says. Rounds are bid for elsewhere: in one that is somebody
else's the sequencer refuses, and then the trade goes nowhere. Source: Nitro's timeboost_sendExpressLaneTransaction (timeboost/types.go).
"""

import time
from collections.abc import Callable

from mev.chain import wire
from mev.chain.abi import keccak256
from mev.chain.relay import Relay
from mev.domain.market import Address
from mev.runtime.address import parse_address
from mev.trading.execution.identity import Identity
from mev.trading.execution.submitters import Handed, Place

METHOD = "timeboost_sendExpressLaneTransaction"
DOMAIN = keccak256(b"TIMEBOOST_BID")
# Nitro's number for what is to wait for no other one: a count of the round's own would be lost by a crash, and all after it would wait.
NO_SEQUENCE = 2**64 - 1
SETTINGS = frozenset({"auction_contract", "offset_timestamp", "round_seconds"})


def make(place: Place) -> "ExpressLane":
    """Return the submitter; raises ValueError, which names the setting that is wrong and what is allowed."""
    if place.relay is None or place.identity is None:
        raise ValueError(
            "url and identity are missing; allowed: the sequencer's URL, and the controller's key by reference"
        )
    if set(place.settings) - SETTINGS or SETTINGS - set(place.settings) - {"round_seconds"}:
        raise ValueError(
            f"settings are {', '.join(sorted(place.settings)) or 'none'}; allowed: {', '.join(sorted(SETTINGS))}"
        )
    return ExpressLane(
        place.relay,
        place.identity,
        chain_id=place.chain_id,
        auction_contract=parse_address(place.settings["auction_contract"]),
        offset_timestamp=_seconds(place, "offset_timestamp", 0),
        round_seconds=_seconds(place, "round_seconds", 1),
    )


class ExpressLane:
    """Hands transactions to the sequencer, signed by the round's controller; who signed the transaction itself does not matter."""

    def __init__(
        self,
        relay: Relay,
        controller: Identity,
        *,
        chain_id: int,
        auction_contract: Address,
        offset_timestamp: int,
        round_seconds: int,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`offset_timestamp` is when round 0 began, UTC seconds since 1970; `now` is too."""
        self._relay = relay
        self._controller = controller
        self._chain_id = chain_id
        self._auction_contract = auction_contract
        self._offset_timestamp = offset_timestamp
        self._round_seconds = round_seconds
        self._now = now

    async def send(self, handed: Handed) -> None:
        """Hand it over for the round that it is now."""
        number = max(int(self._now()) - self._offset_timestamp, 0) // self._round_seconds
        submission = {
            "chainId": hex(self._chain_id),
            "round": hex(number),
            "auctionContractAddress": wire.encode(self._auction_contract),
            "sequenceNumber": hex(NO_SEQUENCE),
            "transaction": wire.encode(handed.raw),
            "options": {},
            "signature": wire.encode(self._controller.sign(self._message(number, handed.raw))),
        }
        await self._relay.ask(METHOD, [submission])

    async def close(self) -> None:
        """Close its connections."""
        await self._relay.close()

    def _message(self, number: int, raw: bytes) -> bytes:
        return (
            DOMAIN
            + self._chain_id.to_bytes(32, "big")
            + self._auction_contract
            + number.to_bytes(8, "big")
            + NO_SEQUENCE.to_bytes(8, "big")
            + raw
        )


def _seconds(place: Place, name: str, least: int) -> int:
    text = place.settings.get(name, "60")
    if not text.isascii() or not text.isdigit() or int(text) < least:
        raise ValueError(f"settings.{name} is {text!r}; allowed: whole seconds, {least} or more")
    return int(text)
