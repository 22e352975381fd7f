"""Sandwiches by their definition: on trades made up for each of its clauses, and on recorded blocks against their labels."""

from __future__ import annotations

import gzip
import json
from functools import cache
from typing import Any

import msgspec
import pytest
from mev.chain.traces import read_recorded
from mev.domain.trades import Trade
from mev.insight.sandwiches import find_sandwiches
from mev.market.recorded import RecordedMarket, read_market

from tests.recorded import BLOCKS, needs_recorded_blocks

POOL, OTHER_POOL, ROUTER = b"\x01" * 20, b"\x02" * 20, b"\x0f" * 20
BOT, VICTIM, STRANGER = b"\xb0" * 20, b"\xc0" * 20, b"\xd0" * 20
CONTRACT = b"\xcc" * 20
TOKENS = (b"\xaa" * 20, b"\xbb" * 20)


def trade(position: int, sender: bytes, amount_in: int, amount_out: int, *, buys: bool = True, **changes: Any) -> Trade:
    made = Trade(
        position=position,
        transaction=bytes([position]) * 32,
        sender=sender,
        target=ROUTER,
        routed=True,
        kind="uniswap_v2",
        pool=POOL,
        zero_for_one=buys,
        token_in=TOKENS[not buys],
        token_out=TOKENS[buys],
        caller=ROUTER,
        recipient=sender,
        amount_in=amount_in,
        amount_out=amount_out,
    )
    return msgspec.structs.replace(made, **changes)


FRONT = trade(0, BOT, 100, 50)
HARMED = trade(1, VICTIM, 200, 80)
BACK = trade(2, BOT, 50, 120, buys=False)
OF_CONTRACT: dict[str, Any] = {"target": CONTRACT, "routed": False, "caller": CONTRACT, "recipient": CONTRACT}


def test_the_same_signer_before_and_after_a_victim() -> None:
    (found,) = find_sandwiches([FRONT, HARMED, BACK])
    assert (found.party, found.front, found.victims, found.back, found.profit) == (BOT, FRONT, (HARMED,), BACK, 20)


def test_several_victims_are_one_sandwich() -> None:
    second = trade(2, STRANGER, 10, 3)
    (found,) = find_sandwiches([FRONT, HARMED, second, msgspec.structs.replace(BACK, position=3)])
    assert found.victims == (HARMED, second)


def test_two_signers_of_one_contract_are_one_party() -> None:
    front, back = trade(0, BOT, 100, 50, **OF_CONTRACT), trade(2, STRANGER, 50, 120, buys=False, **OF_CONTRACT)
    (found,) = find_sandwiches([front, HARMED, back])
    assert found.party == CONTRACT


@pytest.mark.parametrize(
    "trades",
    [
        pytest.param([FRONT, BACK], id="nobody between"),
        pytest.param([FRONT, trade(1, VICTIM, 9, 9, buys=False), BACK], id="the one between goes the other way"),
        pytest.param([FRONT, trade(1, VICTIM, 200, 80, pool=OTHER_POOL), BACK], id="the one between is elsewhere"),
        pytest.param([FRONT, trade(1, BOT, 200, 80), BACK], id="the one between is of the party"),
        pytest.param([FRONT, HARMED, trade(2, STRANGER, 50, 120, buys=False)], id="others through the same router"),
        pytest.param([FRONT, HARMED, trade(2, BOT, 50, 120)], id="the second goes on buying"),
        pytest.param([FRONT, msgspec.structs.replace(HARMED, position=0), BACK], id="in the front's own transaction"),
        pytest.param(
            [
                trade(0, BOT, 100, 50, **OF_CONTRACT),
                trade(1, VICTIM, 200, 80, **OF_CONTRACT),
                trade(2, STRANGER, 50, 120, buys=False, **OF_CONTRACT),
            ],
            id="a contract that the victim uses too is a router",
        ),
        pytest.param(
            [
                trade(0, BOT, 100, 50, **OF_CONTRACT),
                HARMED,
                trade(2, STRANGER, 20, 60, buys=False, **OF_CONTRACT),
            ],
            id="another amount through a shared contract",
        ),
    ],
)
def test_what_is_no_sandwich(trades: list[Trade]) -> None:
    assert find_sandwiches(trades) == []


@cache
def labels() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(gzip.decompress((BLOCKS / "labels.json.gz").read_bytes()))
    return found


@cache
def market(number: str) -> RecordedMarket:
    return read_market(read_recorded(BLOCKS / f"{number}.json.gz"))


Named = tuple[str, str, str, tuple[str, ...], int]


def labelled_sandwiches() -> set[Named]:
    """What an independent inspector labels, by front, back, pool, victims and profit."""
    return {
        (
            each["frontrun_swap"]["transaction_hash"],
            each["backrun_swap"]["transaction_hash"],
            each["frontrun_swap"]["contract_address"],
            tuple(swap["transaction_hash"] for swap in each["sandwiched_swaps"]),
            each["profit_amount"],
        )
        for block in labels().values()
        for each in block["sandwiches"]
    }


def found_sandwiches() -> set[Named]:
    """What is found in the same blocks, named alike."""
    return {
        (
            "0x" + each.front.transaction.hex(),
            "0x" + each.back.transaction.hex(),
            "0x" + each.front.pool.hex(),
            tuple("0x" + victim.transaction.hex() for victim in each.victims),
            each.profit,
        )
        for number in labels()
        for each in find_sandwiches(market(number).trades)
    }


@needs_recorded_blocks
def test_recall_and_precision_on_recorded_blocks(capsys: pytest.CaptureFixture[str]) -> None:
    labelled, found = labelled_sandwiches(), found_sandwiches()
    right = len(labelled & found)
    with capsys.disabled():
        print(f"\nsandwiches: recall {right}/{len(labelled)}, precision {right}/{len(found)}")
    assert found == labelled


@needs_recorded_blocks
def test_every_swap_of_a_recorded_block_is_read_to_the_wei() -> None:
    """Labels have reverted transactions' swaps too, and what was sent where a token's tax let less arrive."""
    missing = surplus = total = 0
    for number, block in labels().items():
        carried_out = {"0x" + each.hash.hex() for each in read_recorded(BLOCKS / f"{number}.json.gz").transactions}
        wanted = {
            (each["transaction_hash"], each["contract_address"], each["token_in_address"], each["token_out_amount"])
            for each in block["swaps"]
            if each["protocol"] in {"uniswap_v2", "uniswap_v3"} and each["transaction_hash"] in carried_out
        }
        got = {
            (
                "0x" + each.transaction.hex(),
                "0x" + each.pool.hex(),
                "0x" + each.token_in.hex(),
                each.amount_out,
            )
            for each in market(number).trades
        }
        missing, surplus, total = missing + len(wanted - got), surplus + len(got - wanted), total + len(wanted)
    assert total > 0
    assert (missing, surplus) == (0, 0)
