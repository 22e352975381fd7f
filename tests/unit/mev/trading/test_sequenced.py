"""A sequencer's feed in the place of pending transactions: what is new is told, what is old counted, another chain's refused, a node's blocks measured against it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from mev.chain.health import Breaker
from mev.chain.rpc import Rpc
from mev.domain import Block
from mev.runtime.config import ConfigError, load
from mev.trading import pending, sequenced
from mev.trading.meter import Meter
from mev.trading.sequenced import SequencedTransactions

from tests.unit.mev.chain.feed import Feed, batch, feed_message, feeding
from tests.unit.mev.chain.test_sequencer import CHAIN_ID, signed
from tests.unit.mev.trading.test_cli import config

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

__all__ = ["config"]

# When the stand-in's messages are of.
NOW = 1_700_000_000


class Follower:
    """The feed's transactions as they are told; `paused` has how long it waited because of another chain's."""

    def __init__(self, config: Path, url: str, now: float = NOW + 1) -> None:
        config.write_text(config.read_text().replace("id = 1\n", f'id = {CHAIN_ID}\nsequencer_feed = "{url}"\n'))
        self.chain = load(config).chains["ethereum"]
        self.meter = Meter()
        self.paused: list[float] = []
        self.refused = asyncio.Event()
        self.transactions = SequencedTransactions(
            "ethereum",
            self.chain,
            self.meter.feed,
            breaker=Breaker(quarantine_seconds=0.02),
            now=lambda: now,
            sleep=self._sleep,
        )
        self.events = self.transactions.events()

    async def _sleep(self, seconds: float) -> None:
        self.paused.append(seconds)
        self.refused.set()
        await asyncio.sleep(0.01)

    async def take(self, count: int) -> list[int]:
        async with asyncio.timeout(10):
            return [(await anext(self.events)).nonce for _ in range(count)]

    def figure(self, name: str, **labels: str) -> float | None:
        return self.meter.registry.get_sample_value(f"mev_feed_{name}", {"chain": "ethereum", **labels})


def story(config: Path, told: Callable[[Feed, Follower], Awaitable[None]], **options: Any) -> None:
    async def run() -> None:
        async with feeding() as feed:
            await told(feed, Follower(config, feed.url, **options))

    asyncio.run(run())


def test_transactions_are_told_once_in_order_and_all_else_is_counted(config: Path) -> None:
    async def told(feed: Feed, follower: Follower) -> None:
        await feed.add(feed_message(7, batch(b"\x04" + signed(0), b"\x04rubbish", b"\x01call")))
        assert await follower.take(1) == [0]
        await feed.add(feed_message(8, b"\x04" + signed(1)))
        await feed.add(feed_message(11, b"\x04" + signed(2)))
        assert await follower.take(2) == [1, 2]
        assert follower.figure("messages_total") == 3
        assert follower.figure("missed_messages_total") == 2
        assert follower.figure("transactions_total", outcome="told") == 3
        assert follower.figure("transactions_total", outcome="undecoded") == 2
        assert follower.figure("transactions_total", outcome="late") == 0
        assert (follower.figure("age_seconds"), follower.figure("up"), follower.figure("offences")) == (1, 1, 0)

    story(config, told)


def test_what_a_feed_tells_of_the_past_is_not_pending(config: Path) -> None:
    async def told(feed: Feed, follower: Follower) -> None:
        await feed.add(feed_message(1, b"\x04" + signed(0)))
        fresh = feed_message(2, b"\x04" + signed(1))
        fresh["message"]["message"]["header"]["timestamp"] = NOW + 31  # type: ignore[index]
        await feed.add(fresh)
        assert await follower.take(1) == [1]
        assert follower.figure("transactions_total", outcome="late") == 1

    story(config, told, now=NOW + 31)


def test_hostile_frames_cost_the_connection_and_are_counted(config: Path) -> None:
    async def told(feed: Feed, follower: Follower) -> None:
        await feed.add(feed_message(1, b"\x04" + signed(0)))
        assert await follower.take(1) == [0]
        await feed.until_heard()
        await feed.send(b'{"version": 1, "messages": ' + b"[" * 100_000)
        await feed.add(feed_message(2, b"\x04" + signed(1)), tell=False)
        assert await follower.take(1) == [1]
        assert follower.figure("offences") == 1
        assert follower.figure("up") == 1

    story(config, told)


def test_a_feed_of_another_chain_is_asked_again_and_nothing_of_it_told(config: Path) -> None:
    async def told(feed: Feed, follower: Follower) -> None:
        feed.chain_id = 1
        await feed.add(feed_message(1, b"\x04" + signed(0)))
        asked = asyncio.create_task(follower.take(1))
        await asyncio.wait_for(follower.refused.wait(), 10)
        assert follower.figure("up") == 0
        assert follower.figure("messages_total") == 0
        feed.chain_id = CHAIN_ID
        assert await asked == [0]
        assert set(follower.paused) == {sequenced.WRONG_CHAIN_SECONDS}

    story(config, told)


def test_how_far_it_is_ahead_of_the_nodes_is_measured_by_the_block_s_hash(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequenced, "REMEMBERED_BLOCKS", 2)

    async def told(feed: Feed, follower: Follower) -> None:
        for number in (7, 8, 9):
            await feed.add(feed_message(number, b"\x04" + signed(number)))
        await follower.take(3)
        for number in (7, 8, 9, 10, 9):
            follower.transactions.block(Block(number, number.to_bytes(32, "big"), bytes(32), NOW, 1))
        # The first is forgotten, the fourth was never told of, and the last is told twice by the nodes.
        assert follower.figure("lead_seconds_count") == 2

    story(config, told)


def test_pending_swaps_are_those_of_the_feed_where_there_is_one(config: Path) -> None:
    async def told(feed: Feed, follower: Follower) -> None:
        taken: list[int] = []
        both = asyncio.Event()
        exposures = pending.PendingExposures(
            "ethereum", follower.chain, Rpc("ws://127.0.0.1:9"), lambda: None, follower.meter, lambda: follower.events
        )

        async def take(transaction: Any) -> None:
            taken.append(transaction.nonce)
            if len(taken) > 1:
                both.set()

        exposures.take = take  # type: ignore[method-assign]
        await feed.add(feed_message(1, batch(b"\x04" + signed(0), b"\x04" + signed(1))))
        following = asyncio.create_task(exposures.run())
        await asyncio.wait_for(both.wait(), 10)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        assert taken == [0, 1]

    story(config, told)


@pytest.mark.parametrize("url", ["ws://192.0.2.1:9642", "ws://feed.example", "http://127.0.0.1:9642"])
def test_a_feed_from_afar_is_not_heard_in_clear_text(config: Path, url: str) -> None:
    config.write_text(config.read_text().replace("id = 1\n", f'id = 1\nsequencer_feed = "{url}"\n'))
    match = "sequencer_feed is no feed; allowed: wss://HOST, or ws:// with localhost"
    with pytest.raises(ConfigError, match=match) as told:
        load(config)
    assert url not in str(told.value)
