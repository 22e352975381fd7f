"""Pools from a factory's events: every one once, whatever the node limits, and on from where it was left."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from mev.chain.abi import PAIR_CREATED, POOL_CREATED, V4_INITIALIZED
from mev.chain.rpc import MalformedAnswerError, Rpc, RpcError
from mev.chain.wire import encode
from mev.domain import Pool
from mev.market.factory_events import DiscoveryLog, FactoryEventsError, Found, V4Maker, created
from mev.market.v4_state import pool_of
from mev.runtime.config import EvmAddress, FactoryConfig, V3FactoryConfig

from tests.unit.mev.chain.node import CHAIN_ID, RefusalError, running

FACTORY = FactoryConfig(name="uniswap_v2", address=EvmAddress(b"\x5c" * 20), fee_numerator=997, fee_denominator=1000)
LAST = 30_000
# Many pools in a few blocks, few in many.
BLOCKS = [1, 2, 2, 2, 2, 3, 500, 501, 9_999, 10_000, 20_000, LAST]


def pool(number: int) -> Pool:
    return Pool((1000 + number).to_bytes(20, "big"), "uniswap_v2", bytes(19) + b"\x01", bytes(19) + b"\x02", 997, 1000)


def event(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "address": encode(FACTORY.address),
        "topics": [encode(PAIR_CREATED), "0x" + "00" * 31 + "01", "0x" + "00" * 31 + "02"],
        "data": "0x" + (1000 + number).to_bytes(32, "big").hex() + (number + 1).to_bytes(32, "big").hex(),
        "blockNumber": hex(BLOCKS[number]),
        **changes,
    }


class Logs:
    """A node's eth_getLogs that gives at most so many events and blocks at once."""

    def __init__(self, most_events: int = 100, most_blocks: int = 10**9) -> None:
        self.most_events = most_events
        self.most_blocks = most_blocks
        self.ranges: list[tuple[int, int]] = []

    def __call__(self, wanted: dict[str, Any]) -> object:
        first, last = int(wanted["fromBlock"], 16), int(wanted["toBlock"], 16)
        assert wanted["address"] == encode(FACTORY.address)
        found = [event(number) for number, block in enumerate(BLOCKS) if first <= block <= last]
        if len(found) > self.most_events or last - first >= self.most_blocks:
            return RefusalError(-32602, "query returned more than 10000 results")
        self.ranges.append((first, last))
        return found


async def found_by(rpc: Rpc, first: int = 0, last: int = LAST) -> list[Found]:
    return [found async for found in created(rpc, FACTORY, first, last)]


@pytest.mark.parametrize("logs", [Logs(), Logs(4), Logs(100, 700)])
def test_every_pool_is_found_once_whatever_the_node_limits(logs: Logs) -> None:
    async def story() -> None:
        async with running() as node, Rpc(node.url, chain_id=CHAIN_ID) as rpc:
            node.answers = {"eth_getLogs": logs}
            found = await found_by(rpc)
            pools = [each.address for part in found for each in part.pools]
            assert pools == [(1000 + number).to_bytes(20, "big") for number in range(len(BLOCKS))]
            # Ranges meet and do not overlap.
            assert logs.ranges[0][0] == 0
            assert all(after[0] == before[1] + 1 for before, after in zip(logs.ranges, logs.ranges[1:], strict=False))
            assert found[-1].through == logs.ranges[-1][1] == LAST

    asyncio.run(story())


def test_one_block_that_is_refused_is_an_error() -> None:
    async def story() -> None:
        async with running() as node, Rpc(node.url, chain_id=CHAIN_ID) as rpc:
            node.answers = {"eth_getLogs": Logs(3)}
            with pytest.raises(RpcError, match="more than"):
                await found_by(rpc)

    asyncio.run(story())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"address": encode(b"\x66" * 20)}, "not this factory's"),
        ({"removed": True}, "not this factory's"),
        ({"blockNumber": hex(LAST + 1)}, "another block"),
        ({"topics": [encode(PAIR_CREATED)]}, "1 topics and 64 bytes"),
        ({"topics": [encode(PAIR_CREATED), "0x" + "ff" * 32, "0x" + "00" * 31 + "02"]}, "more than 20 bytes"),
        ({"topics": [encode(PAIR_CREATED), "0x" + "00" * 31 + "02", "0x" + "00" * 31 + "01"]}, "not in order"),
        ({"data": "0x00"}, "3 and 64 are expected"),
        ({"data": 7}, "something else"),
    ],
)
def test_a_hostile_event_is_named(changes: dict[str, Any], said: str) -> None:
    async def story() -> None:
        async with running() as node, Rpc(node.url, chain_id=CHAIN_ID) as rpc:
            node.answers = {"eth_getLogs": [event(0, **changes)]}
            with pytest.raises(MalformedAnswerError, match=said):
                await found_by(rpc)

    asyncio.run(story())


def test_a_discovery_goes_on_where_it_was_left(tmp_path: Path) -> None:
    path = tmp_path / "uniswap_v2.pools"

    async def story() -> None:
        logs = Logs()
        async with running() as node, Rpc(node.url, chain_id=CHAIN_ID) as rpc:
            node.answers = {"eth_getLogs": logs}
            log = DiscoveryLog.open(path, 1, FACTORY)
            assert (log.next_block, log.pools) == (None, [])
            async for found in created(rpc, FACTORY, 0, LAST):
                log.append(found)
                break
            # Killed while it wrote the next line.
            with path.open("ab") as file:
                file.write(b'{"through":99999,"poo')
            again = DiscoveryLog.open(path, 1, FACTORY)
            assert (again.next_block, again.pools) == (log.next_block, log.pools)
            asked = len(logs.ranges)
            async for found in created(rpc, FACTORY, again.next_block or 0, LAST):
                again.append(found)
            assert logs.ranges[asked][0] == log.next_block
        whole = DiscoveryLog.open(path, 1, FACTORY)
        assert [each.address for each in whole.pools] == [pool(number).address for number in range(len(BLOCKS))]
        assert whole.next_block == LAST + 1

    asyncio.run(story())


def test_another_discovery_s_log_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log"
    DiscoveryLog.open(path, 1, FACTORY)
    with pytest.raises(FactoryEventsError, match="is of chain 1"):
        DiscoveryLog.open(path, 10, FACTORY)
    path.write_bytes(path.read_bytes() + b"nonsense\n")
    with pytest.raises(FactoryEventsError, match="cannot be read"):
        DiscoveryLog.open(path, 1, FACTORY)


V3 = V3FactoryConfig(name="uniswap_v3", address=FACTORY.address, fees=(500,))


def v3_event(**changes: Any) -> dict[str, Any]:
    topics = [POOL_CREATED, *(number.to_bytes(32, "big") for number in (1, 2, 500))]
    words = b"".join(number.to_bytes(32, "big") for number in (10, 1000))
    return {**event(0), "topics": [encode(topic) for topic in topics], "data": encode(words), **changes}


def test_a_v3_factory_s_pools_are_found_with_fee_and_spacing_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "uniswap_v3.pools"
    expected = Pool(
        (1000).to_bytes(20, "big"), "uniswap_v3", bytes(19) + b"\x01", bytes(19) + b"\x02", 999_500, 10**6, 10
    )

    async def story() -> None:
        async with running() as node, Rpc(node.url, chain_id=CHAIN_ID) as rpc:
            node.answers = {"eth_getLogs": [v3_event()]}
            log = DiscoveryLog.open(path, 1, V3)
            async for found in created(rpc, V3, 0, 10):
                log.append(found)
            assert log.pools == [expected]

    asyncio.run(story())
    assert DiscoveryLog.open(path, 1, V3).pools == [expected]
    # The same factory as one of pairs: what stands there is none of its pools.
    with pytest.raises(FactoryEventsError, match="is no pool of uniswap_v2"):
        DiscoveryLog.open(path, 1, FACTORY)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (event(0), "makes no pool"),
        ({"topics": [encode(POOL_CREATED)]}, "4 and 64 are expected"),
        ({"data": encode(bytes(64))}, "its pool is nobody"),
        ({"data": encode(b"\x01" + bytes(63))}, "a number does not fit"),
    ],
)
def test_a_hostile_event_of_a_v3_factory_is_named(changes: dict[str, Any], said: str) -> None:
    async def story() -> None:
        async with running() as node, Rpc(node.url, chain_id=CHAIN_ID) as rpc:
            node.answers = {"eth_getLogs": [v3_event(**changes)]}
            with pytest.raises(MalformedAnswerError, match=said):
                assert [found async for found in created(rpc, V3, 0, LAST)]

    asyncio.run(story())


WRAPPED, TOKEN, NOBODY = b"\xee" * 20, b"\x02" * 20, bytes(20)
V4 = V4Maker("uniswap_v4", FACTORY.address, WRAPPED)
# One of the native coin, whose wrapped form has the higher address, and one of two tokens.
KEYS = {
    native: pool_of("uniswap_v4", FACTORY.address, (WRAPPED if native else b"\x01" * 20, TOKEN), 500, 10, native=native)
    for native in (True, False)
}


def v4_event(*, native: bool = False, fee: int = 500, hooks: int = 0, **changes: Any) -> dict[str, Any]:
    pool = KEYS[native]
    assert pool.v4 is not None
    topics = [V4_INITIALIZED, pool.v4.id, bytes(12) + (NOBODY if native else pool.token0), bytes(12) + pool.token1]
    words = b"".join(number.to_bytes(32, "big") for number in (fee, 10, hooks, 2**96, 0))
    return {**event(0), "topics": [encode(topic) for topic in topics], "data": encode(words), **changes}


def test_a_v4_manager_s_pools_are_found_and_kept_without_those_with_hooks_or_fees_that_change(tmp_path: Path) -> None:
    path = tmp_path / "uniswap_v4.pools"
    told = [v4_event(native=True), v4_event(hooks=7), v4_event(fee=0x800000), v4_event()]

    async def story() -> None:
        async with running() as node, Rpc(node.url, chain_id=CHAIN_ID) as rpc:
            node.answers = {"eth_getLogs": told}
            log = DiscoveryLog.open(path, 1, V4)
            async for found in created(rpc, V4, 0, 10):
                log.append(found)
            assert log.pools == [KEYS[True], KEYS[False]]
            assert {pool.token0 for pool in log.pools} == {WRAPPED, b"\x01" * 20}

    asyncio.run(story())
    assert DiscoveryLog.open(path, 1, V4).pools == [KEYS[True], KEYS[False]]
    # Another one's pools have other ids only where their keys differ; a key that was changed in the file has another one.
    path.write_text(path.read_text().replace(",500,10,", ",501,10,"))
    with pytest.raises(FactoryEventsError, match="its key has another id"):
        DiscoveryLog.open(path, 1, V4)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (event(0), "makes no pool"),
        ({"topics": [encode(V4_INITIALIZED)]}, "4 and 160 are expected"),
        ({"fee": 501}, "its id is not that of its key"),
        ({"data": encode((2**200).to_bytes(160, "big"))}, "its id is not that of its key|does not fit"),
        (
            {"topics": [encode(topic) for topic in (V4_INITIALIZED, bytes(32), bytes(12) + TOKEN, bytes(12) + TOKEN)]},
            "its tokens are not in order",
        ),
    ],
)
def test_a_hostile_event_of_a_v4_manager_is_named(changes: dict[str, Any], said: str) -> None:
    async def story() -> None:
        async with running() as node, Rpc(node.url, chain_id=CHAIN_ID) as rpc:
            node.answers = {"eth_getLogs": [v4_event(**changes)]}
            with pytest.raises(MalformedAnswerError, match=said):
                assert [found async for found in created(rpc, V4, 0, LAST)]

    asyncio.run(story())
