"""The sequencer's feed against a stand-in server: in order, once each, gaps named, hostile bytes counted."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from eth_account import Account
from hypothesis import given, settings
from hypothesis import strategies as st
from mev.chain import nitro
from mev.chain.collectors.sequencer import FeedGap, SequencedMessage, SequencerFeed
from mev.chain.errors import MalformedAnswerError, Offence, WrongChainError
from mev.chain.health import Breaker
from mev.chain.transactions import decode_signed

from tests.unit.mev.chain.feed import Feed, batch, feed_message, feeding

KEY = "0x" + "17" * 32
CHAIN_ID = 42161


def signed(nonce: int, **changes: Any) -> bytes:
    plain: dict[str, Any] = {
        "chainId": CHAIN_ID,
        "nonce": nonce,
        "to": b"\xaa" * 20,
        "value": 5,
        "gas": 21000,
        "maxFeePerGas": 10**9,
        "maxPriorityFeePerGas": 7,
        "data": b"\x01\x02",
    }
    plain |= changes
    whole = {key: value for key, value in plain.items() if value is not ...}
    return bytes(Account.sign_transaction(whole, KEY).raw_transaction)


def follower(feed: Feed, **options: Any) -> AsyncIterator[SequencedMessage | FeedGap]:
    breaker = Breaker(quarantine_seconds=0.02)
    return SequencerFeed(feed.url, chain_id=CHAIN_ID, breaker=breaker, **options).events()


async def take(events: AsyncIterator[SequencedMessage | FeedGap], count: int) -> list[SequencedMessage | FeedGap]:
    async with asyncio.timeout(60):
        return [await anext(events) for _ in range(count)]


def numbers(events: list[SequencedMessage | FeedGap]) -> list[object]:
    return [event.sequence_number if isinstance(event, SequencedMessage) else event for event in events]


def test_transactions_come_in_the_sequencer_s_order() -> None:
    async def story() -> None:
        async with feeding() as feed:
            await feed.add(feed_message(7, b"\x04" + signed(0)))
            events = follower(feed)
            inner = batch(b"\x04" + signed(2), b"\x06", b"\x04no transaction", b"\x01contract")
            first = (await take(events, 1))[0]
            await feed.add(feed_message(8, batch(b"\x04" + signed(1), inner)))
            await feed.add(feed_message(9, b"retryable", kind=9))
            second, third = await take(events, 2)
            assert isinstance(first, SequencedMessage)
            assert isinstance(second, SequencedMessage)
            assert isinstance(third, SequencedMessage)
            assert [each.nonce for each in (*first.transactions, *second.transactions)] == [0, 1, 2]
            assert (first.undecoded, second.undecoded, third.undecoded) == (0, 2, 1)
            assert first.block_hash == (7).to_bytes(32, "big")
            assert first.transactions[0].sender == bytes.fromhex(Account.from_key(KEY).address[2:])
            assert third.transactions == ()

    asyncio.run(story())


def test_a_cut_connection_goes_on_where_it_was_and_repeats_nothing() -> None:
    async def story() -> None:
        async with feeding() as feed:
            await feed.add(feed_message(1, b"\x06"))
            events = follower(feed)
            assert numbers(await take(events, 1)) == [1]
            for turn in range(3):
                following = asyncio.ensure_future(take(events, 2))
                await feed.until_heard(turn + 1)
                await feed.drop()
                await feed.add(feed_message(2 * turn + 2, b"\x06"), tell=False)
                await feed.until_heard(turn + 2)
                await feed.send(json.dumps({"version": 1, "messages": feed.backlog}))
                await feed.add(feed_message(2 * turn + 3, b"\x06"))
                assert numbers(await following) == [2 * turn + 2, 2 * turn + 3]
            assert feed.requested == [None, "2", "4", "6"]

    asyncio.run(story())


def test_what_is_missing_is_named() -> None:
    async def story() -> None:
        async with feeding() as feed:
            await feed.add(feed_message(1, b"\x06"))
            events = follower(feed)
            await take(events, 1)
            await feed.add(feed_message(5, b"\x06"))
            assert numbers(await take(events, 2)) == [FeedGap(2, 4), 5]

    asyncio.run(story())


def test_a_feed_of_another_chain_is_refused() -> None:
    async def story() -> None:
        async with feeding() as feed:
            feed.chain_id = 1
            with pytest.raises(WrongChainError, match=f"chain {CHAIN_ID} is expected"):
                await take(follower(feed), 1)

    asyncio.run(story())


HOSTILE = {
    "": Offence.NOT_JSON_RPC,
    "[": Offence.NOT_JSON_RPC,
    '{"version": 2}': Offence.NOT_JSON_RPC,
    '{"version": 1, "messages": 7}': Offence.NOT_JSON_RPC,
    '{"version": 1, "messages": ' + "[" * 50_000: Offence.NOT_JSON_RPC,
    json.dumps({"version": 1, "messages": [feed_message(2**40, b"\x06")]}): Offence.HEAD_JUMP,
    json.dumps({"version": 1, "messages": [feed_message(2, bytes(300_000))]}): Offence.TOO_LARGE,
}


@pytest.mark.parametrize(("frame", "offence"), HOSTILE.items())
def test_a_hostile_frame_is_named_and_the_feed_goes_on(frame: str, offence: Offence) -> None:
    async def story() -> None:
        async with feeding() as feed:
            await feed.add(feed_message(1, b"\x06"))
            breaker = Breaker(quarantine_seconds=0.02)
            events = SequencerFeed(feed.url, chain_id=CHAIN_ID, breaker=breaker).events()
            await take(events, 1)
            following = asyncio.ensure_future(take(events, 1))
            await feed.until_heard()
            await feed.send(frame)
            await feed.until_heard(2)
            await feed.add(feed_message(2, b"\x06"))
            assert numbers(await following) == [2]
            assert breaker.offences == {offence: 1}

    asyncio.run(story())


def test_a_silent_feed_is_asked_again() -> None:
    async def story() -> None:
        async with feeding() as feed:
            await feed.add(feed_message(1, b"\x06"))
            events = follower(feed, silence_seconds=0.1)
            await take(events, 1)
            following = asyncio.ensure_future(take(events, 1))
            await feed.until_heard(2)
            await feed.add(feed_message(2, b"\x06"))
            assert numbers(await following) == [2]

    asyncio.run(story())


@given(st.binary(max_size=200) | st.binary(max_size=60).map(lambda inner: batch(b"\x04" + inner, inner)))
@settings(max_examples=300)
def test_any_l2_message_is_read_or_counted(message: bytes) -> None:
    (read,) = nitro.read(json.dumps({"version": 1, "messages": [feed_message(1, message)]}))
    assert len(read.transactions) + read.undecoded >= (0 if message[:1] in {b"\x03", b"\x06"} else 1)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"to": ..., "data": b"\x60" * 300},
        {"maxFeePerGas": ..., "maxPriorityFeePerGas": ..., "gasPrice": 9},
        {"maxFeePerGas": ..., "maxPriorityFeePerGas": ..., "gasPrice": 9, "chainId": ...},
        {
            "maxFeePerGas": ...,
            "maxPriorityFeePerGas": ...,
            "gasPrice": 9,
            "accessList": [{"address": "0x" + "11" * 20, "storageKeys": ["0x" + "01" * 32]}],
        },
    ],
)
def test_signed_bytes_say_who_sent_what(changes: dict[str, Any]) -> None:
    raw = signed(300, **changes)
    found = decode_signed(raw)
    assert found.sender == bytes.fromhex(Account.from_key(KEY).address[2:])
    assert (found.nonce, found.value_wei, found.gas_limit) == (300, 5, 21000)
    assert found.to == (None if changes.get("to") is ... else b"\xaa" * 20)
    assert found.chain_id == (None if changes.get("chainId") is ... else CHAIN_ID)
    assert found.max_fee_wei == (9 if "gasPrice" in changes else 10**9)
    for cut in (raw[:-1], raw + b"\0", raw[:1] + raw):
        with pytest.raises(MalformedAnswerError):
            decode_signed(cut)


@given(st.binary(max_size=300))
@settings(max_examples=300)
def test_any_bytes_are_a_transaction_or_malformed(raw: bytes) -> None:
    try:
        decode_signed(raw)
    except MalformedAnswerError:
        return
