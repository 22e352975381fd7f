"""What an Aave V3 market's events say has changed, and what malformed ones are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mev.chain.abi import AbiError, event_topic
from mev.chain.wire import Log
from mev.market.lending.aave_events import TOPICS, Indices, borrower, changes

POOL, TOKEN, PROVIDER, OTHER = (bytes([number]) * 20 for number in (1, 2, 3, 4))
ASSET, ALICE, BOB, CAROL = (bytes([number]) * 20 for number in (5, 6, 7, 8))
RAY = 10**27


def word(value: int | bytes) -> bytes:
    return value.rjust(32, b"\0") if isinstance(value, bytes) else value.to_bytes(32, "big")


def event(address: bytes, signature: str, topics: list[int | bytes], *data: int | bytes) -> Log:
    return Log(
        address=address,
        topics=(event_topic(signature), *map(word, topics)),
        data=b"".join(map(word, data)),
        index=0,
        transaction=bytes(32),
    )


SUPPLY = event(POOL, "Supply(address,address,address,uint256,uint16)", [ASSET, ALICE, 0], CAROL, 5)
BORROW = event(POOL, "Borrow(address,address,address,uint256,uint8,uint256,uint16)", [ASSET, BOB, 0], CAROL, 5, 2, 7)
REPAY = event(POOL, "Repay(address,address,address,uint256,bool)", [ASSET, ALICE, BOB], 5, 0)
UPDATED = event(
    POOL, "ReserveDataUpdated(address,uint256,uint256,uint256,uint256,uint256)", [ASSET], 1, 0, 3, RAY + 4, RAY + 5
)
MOVED = event(TOKEN, "BalanceTransfer(address,address,uint256,uint256)", [ALICE, CAROL], 5, RAY)
LIQUIDATED = event(
    POOL,
    "LiquidationCall(address,address,address,uint256,uint256,address,bool)",
    [ASSET, ASSET, ALICE],
    5,
    6,
    CAROL,
    1,
)
CONFIGURED = event(PROVIDER, "PriceOracleUpdated(address,address)", [OTHER, ALICE])


def said(*logs: Log) -> object:
    found = changes(logs, POOL, {TOKEN}, {PROVIDER}, 1000)
    return found.users, found.borrowers, found.indices, found.configuration


@pytest.mark.parametrize(
    ("log", "users", "borrowers"),
    [
        (SUPPLY, {ALICE}, set()),
        (BORROW, {BOB}, {BOB}),
        (REPAY, {ALICE, BOB}, set()),
        (MOVED, {ALICE, CAROL}, set()),
        (LIQUIDATED, {ALICE, CAROL}, set()),
    ],
)
def test_whose_position_changed(log: Log, users: set[bytes], borrowers: set[bytes]) -> None:
    assert said(log) == (users, borrowers, {}, False)
    # The same of another contract says nothing about this market.
    foreign = Log(address=OTHER, topics=log.topics, data=log.data, index=0, transaction=bytes(32))
    assert said(foreign) == (set(), set(), {}, False)


def test_indices_are_the_last_update_s_and_of_the_block_s_time() -> None:
    later = event(
        POOL, "ReserveDataUpdated(address,uint256,uint256,uint256,uint256,uint256)", [ASSET], 1, 0, 3, RAY + 8, RAY + 9
    )
    indices = Indices(liquidity_rate=1, borrow_rate=3, liquidity_index=RAY + 8, borrow_index=RAY + 9, updated_at=1000)
    assert said(UPDATED, later) == (set(), set(), {ASSET: indices}, False)


def test_what_governs_the_market_asks_for_reading_it_anew() -> None:
    assert said(CONFIGURED) == (set(), set(), {}, True)


@pytest.mark.parametrize("log", [SUPPLY, BORROW, REPAY, UPDATED, MOVED, LIQUIDATED])
def test_a_malformed_event_of_the_market_s_own_is_named(log: Log) -> None:
    for topics, data in (
        (log.topics[:-1], log.data),
        ((*log.topics, bytes(32)), log.data),
        (log.topics, log.data[:-1]),
        (log.topics, log.data + bytes(32)),
    ):
        with pytest.raises(AbiError, match="are expected"):
            said(Log(address=log.address, topics=topics, data=data, index=0, transaction=bytes(32)))


def test_an_address_of_more_than_twenty_bytes_and_an_index_of_nothing_are_named() -> None:
    long = Log(
        address=POOL, topics=(*SUPPLY.topics[:2], b"\1" * 32, bytes(32)), data=SUPPLY.data, index=0, transaction=b""
    )
    with pytest.raises(AbiError, match="Supply: an address"):
        said(long)
    with pytest.raises(AbiError, match="an index or a rate"):
        said(Log(address=POOL, topics=UPDATED.topics, data=bytes(160), index=0, transaction=b""))


@given(
    st.sampled_from(sorted(TOPICS)),
    st.lists(st.binary(min_size=32, max_size=32), max_size=3),
    st.binary(max_size=300),
    st.sampled_from([POOL, TOKEN, PROVIDER]),
)
def test_hostile_bytes_raise_nothing_else(topic: bytes, topics: list[bytes], data: bytes, address: bytes) -> None:
    log = Log(address=address, topics=(topic, *topics), data=data, index=0, transaction=bytes(32))
    try:
        said(log)
        borrower(log.topics, log.data)
    except AbiError:
        pass
