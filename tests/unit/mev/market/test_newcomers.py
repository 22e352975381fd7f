"""Which tokens come into question, and what becomes of them where files or nodes fail; real tokens are in tests/integration."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from mev.chain.abi import PAIR_CREATED, POOL_CREATED
from mev.chain.rpc import Rpc
from mev.chain.wire import encode
from mev.domain import Block
from mev.market.newcomers import Newcomers
from mev.market.token_safety import Verdict
from mev.runtime.config import (
    ChainConfig,
    DiscoveryConfig,
    EvmAddress,
    FactoryConfig,
    RiskConfig,
    TokenConfig,
    Url,
    V3FactoryConfig,
)
from structlog.testing import capture_logs

from tests.unit.mev.chain.node import CHAIN_ID, RefusalError, running

FACTORY = FactoryConfig(name="uniswap_v2", address=EvmAddress(b"\x5c" * 20), fee_numerator=997, fee_denominator=1000)
KNOWN = [EvmAddress(bytes([number]) * 20) for number in (1, 2)]
ONE, TWO, THREE, DENIED = (bytes([number]) * 20 for number in (3, 4, 5, 6))
# One has a pair against each known token, two has three pairs, three only one against a known token.
PAIRS = [
    (KNOWN[0], ONE),
    (KNOWN[1], ONE),
    *[(KNOWN[0], TWO)] * 3,
    (KNOWN[0], THREE),
    (ONE, THREE),
    (KNOWN[0], DENIED),
    (KNOWN[1], DENIED),
    (KNOWN[0], KNOWN[1]),
]
BLOCK = Block(1_000, b"\x07" * 32, b"\x06" * 32, 0, 0)


def events(wanted: dict[str, Any]) -> list[dict[str, Any]]:
    assert int(wanted["toBlock"], 16) <= BLOCK.number - 64
    return [
        {
            "address": encode(FACTORY.address),
            "topics": [encode(PAIR_CREATED), *(encode(bytes(12) + token) for token in pair)],
            "data": "0x" + (1000 + number).to_bytes(32, "big").hex() + (number + 1).to_bytes(32, "big").hex(),
            "blockNumber": wanted["fromBlock"],
        }
        for number, pair in enumerate(PAIRS)
    ]


def simulated(wanted: dict[str, Any], _: object) -> list[Any]:
    """Whatever is asked answers 10**6: of a transfer that is no yes."""
    return [
        {"calls": [{"status": "0x1", "returnData": "0x" + (10**6).to_bytes(32, "big").hex()} for _ in part["calls"]]}
        for part in wanted["blockStateCalls"]
    ]


def newcomers(
    directory: Path, max_tokens: int = 10, *, kept: bool = True, v3: tuple[V3FactoryConfig, ...] = ()
) -> Newcomers:
    chain = ChainConfig(
        id=CHAIN_ID,
        ws=Url("ws://127.0.0.1:1"),
        block_seconds=1.0,
        wrapped_native=KNOWN[0],
        tokens=tuple(TokenConfig(address, f"T{address[0]}", 18) for address in KNOWN),
        v2_factories=(FACTORY,),
        v3_factories=v3,
        risk=RiskConfig(
            max_amount_in_wei=1,
            min_profit_wei=1,
            max_daily_loss_wei=1,
            max_gas_price_wei=1,
            deny_tokens=(EvmAddress(DENIED),),
        ),
    )
    settings = DiscoveryConfig(directory=directory, first_block=3, max_tokens=max_tokens)
    return Newcomers("base", chain, settings, kept=kept)


def told(made: Newcomers, **answers: object) -> tuple[list[bytes], list[Any], list[str]]:
    """What is safe, what was logged, and which methods were asked for."""

    async def story() -> tuple[list[bytes], list[Any], list[str]]:
        async with running() as node, Rpc(node.url, chain_id=CHAIN_ID) as rpc:
            node.answers = {"eth_getLogs": events, "eth_simulateV1": simulated, **answers}
            with capture_logs() as logs:
                safe = await made.safe(rpc, BLOCK)
            return safe, logs, [method for method, _ in node.calls]

    return asyncio.run(story())


def test_tokens_with_two_pairs_are_examined_once_those_with_most_first(tmp_path: Path) -> None:
    made = newcomers(tmp_path / "discovery")
    safe, _, _ = told(made)
    assert safe == []
    assert list(made.verdicts.items()) == [(TWO, Verdict.TRANSFER_BLOCKED), (ONE, Verdict.TRANSFER_BLOCKED)]
    # Neither events nor tokens are looked at a second time.
    _, _, methods = told(made)
    assert not {"eth_getLogs", "eth_simulateV1"} & set(methods)


def test_no_more_are_examined_than_the_configuration_allows(tmp_path: Path) -> None:
    made = newcomers(tmp_path, 1)
    told(made)
    assert list(made.verdicts) == [TWO]


def test_a_node_that_cannot_simulate_finds_none_safe(tmp_path: Path) -> None:
    safe, logs, methods = told(newcomers(tmp_path), eth_simulateV1=RefusalError(-32601, "the method does not exist"))
    assert safe == []
    assert "tokens cannot be examined: none of them is traded" in [each["event"] for each in logs]
    assert methods.count("eth_simulateV1") == 1


@pytest.mark.parametrize("harm", ["node", "disk"])
def test_what_cannot_be_read_or_kept_is_said_and_stops_nothing(tmp_path: Path, harm: str) -> None:
    directory = tmp_path / "discovery"
    if harm == "disk":
        directory.write_text("no directory")
    safe, logs, _ = told(
        newcomers(directory), **({"eth_getLogs": RefusalError(-32000, "no")} if harm == "node" else {})
    )
    assert safe == []
    assert "pairs cannot be discovered" in [each["event"] for each in logs]


def test_another_chain_s_file_is_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "base.uniswap_v2.pairs"
    path.write_text('{"version":1,"chain_id":1,"factory":"0x"}\n')
    _, logs, _ = told(newcomers(tmp_path))
    assert "discovery begins anew" in [each["event"] for each in logs]
    assert path.with_name(path.name + ".refused").exists()
    assert len(path.read_text().splitlines()) > 1


def test_who_only_looks_finds_the_same_and_writes_nothing(tmp_path: Path) -> None:
    nowhere = tmp_path / "discovery"
    made = newcomers(nowhere, kept=False)
    told(made)
    assert list(made.verdicts) == [TWO, ONE]
    assert not nowhere.exists()
    told(newcomers(tmp_path))
    path = tmp_path / "base.uniswap_v2.pairs"
    # The engine is in the middle of a line.
    with path.open("a") as file:
        file.write('{"through":')
    there = path.read_bytes()
    after = newcomers(tmp_path, kept=False)
    told(after)
    assert list(after.verdicts) == [TWO, ONE]
    assert path.read_bytes() == there


def test_who_only_looks_leaves_another_chain_s_file_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "base.uniswap_v2.pairs"
    path.write_text('{"version":1,"chain_id":1,"factory":"0x"}\n')
    _, logs, _ = told(newcomers(tmp_path, kept=False))
    assert "pairs cannot be discovered" in [each["event"] for each in logs]
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


V3 = V3FactoryConfig(name="uniswap_v3", address=EvmAddress(b"\x5d" * 20), fees=(500, 3000))


def both(wanted: dict[str, Any]) -> list[dict[str, Any]]:
    """Three has a pair, and V3 pools of a fee that is watched and of one that is not."""
    if wanted["address"] == encode(FACTORY.address):
        return events(wanted)
    fees = {500: (KNOWN[0], THREE), 10_000: (KNOWN[1], THREE), 3000: (KNOWN[0], DENIED)}
    return [
        {
            "address": encode(V3.address),
            "topics": [
                encode(POOL_CREATED),
                *(encode(bytes(12) + token) for token in pair),
                encode(fee.to_bytes(32, "big")),
            ],
            "data": encode((10).to_bytes(32, "big") + (5000 + fee).to_bytes(32, "big")),
            "blockNumber": wanted["fromBlock"],
        }
        for fee, pair in fees.items()
    ]


def test_a_v3_pool_of_a_watched_fee_counts_as_a_pair_does(tmp_path: Path) -> None:
    made = newcomers(tmp_path, v3=(V3,))
    told(made, eth_getLogs=both)
    assert list(made.verdicts) == [TWO, ONE, THREE]
    # Of the fee of 500 alone it has one pool and a pair; without it, a pair alone.
    without = newcomers(tmp_path / "other", v3=(V3FactoryConfig(name="uniswap_v3", address=V3.address, fees=(3000,)),))
    told(without, eth_getLogs=both)
    assert list(without.verdicts) == [TWO, ONE]


def test_an_empty_pool_is_not_the_last_one_asked(tmp_path: Path) -> None:
    """Its holder has none: the token's next pool is asked, and no more than a few."""
    asked: list[str] = []

    def empty(wanted: dict[str, Any], _: object) -> list[Any]:
        calls = [call for part in wanted["blockStateCalls"] for call in part["calls"]]
        asked.append(calls[0]["from"])
        return [{"calls": [{"status": "0x1", "returnData": "0x" + bytes(32).hex()} for _ in calls]}]

    made = newcomers(tmp_path, max_tokens=1)
    told(made, eth_simulateV1=empty)
    assert made.verdicts == {TWO: Verdict.NOT_HELD}
    assert asked == [encode((1000 + number).to_bytes(20, "big")) for number in (2, 3, 4)]
