"""The engine's figures are the ledger's steps and what its chains and nodes are, in the ledger's terms."""

import time
from collections.abc import Callable

import msgspec
import pytest
from mev.chain.health import BreakerState, NodeHealth
from mev.domain import Block, Opportunity, State
from mev.runtime.storage import Database
from mev.trading.ledger import Ledger
from mev.trading.meter import Meter
from mev.trading.reconcile import Difference
from prometheus_client import generate_latest


@pytest.fixture
def meter() -> Meter:
    return Meter()


def shown(meter: Meter) -> set[str]:
    return {line for line in generate_latest(meter.registry).decode().splitlines() if not line.startswith("#")}


def test_each_step_in_the_ledger_is_counted_once(
    meter: Meter, database: Database, opportunity: Callable[..., Opportunity]
) -> None:
    ledger = Ledger(database, stepped=meter.stepped)
    for name in ("a", "b"):
        ledger.detect(opportunity(name))
        ledger.move(name, State.SCREENED)
    # Known already: no step.
    ledger.detect(opportunity("a"))
    # Another process goes on with what this one began.
    later = Ledger(database, stepped=meter.stepped)
    later.move("a", State.DROPPED, "not_best")
    steps = {line for line in shown(meter) if line.startswith("mev_opportunity_steps_total")}
    where = 'chain="ethereum",reason="{}",state="{}",strategy="atomic_arbitrage"'
    assert {
        line.rpartition(" ")[0][len("mev_opportunity_steps_total{") : -1]: line.rpartition(" ")[2] for line in steps
    } == {
        where.format("", "detected"): "2.0",
        where.format("", "screened"): "2.0",
        where.format("not_best", "dropped"): "1.0",
    }


def test_a_lending_market_that_is_put_aside_is_told_of(meter: Meter) -> None:
    meter.lending("base", "aave_v3", positions=7, unpriced=1, given_up=0)
    where = 'chain="base",market="aave_v3"'
    assert {
        f"mev_lending_market_up{{{where}}} 1.0",
        f"mev_lending_positions{{{where}}} 7.0",
        f"mev_lending_unpriced_assets{{{where}}} 1.0",
        f"mev_lending_market_given_up_total{{{where}}} 0.0",
    } <= shown(meter)
    meter.left_alone("base", "aave_v3", {"dust": 3, "no_way": 0})
    assert f'mev_lending_left_alone{{{where},reason="dust"}} 3.0' in shown(meter)
    meter.lending("base", "aave_v3", positions=None, unpriced=0, given_up=2)
    assert {f"mev_lending_market_up{{{where}}} 0.0", f"mev_lending_market_given_up_total{{{where}}} 2.0"} <= shown(
        meter
    )


def test_blocks_nodes_and_differences_are_told_of(meter: Meter) -> None:
    meter.loaded("base", pools=7, cycles=30)
    meter.block("base", Block(5, b"\x05" * 32, b"\x04" * 32, 1700000000, 7), time.perf_counter(), 1)
    meter.reorganised("base", 3)
    meter.reconciled([Difference(chain="base", account=b"\x01" * 20, token=bytes(20), on_chain=10, in_ledger=12)])
    node = NodeHealth("h:1", "ws", BreakerState.CLOSED, "", 0.0, 5, 0, 0.25, None, 0.0, 9, 1, {"wrong_id": 2})
    meter.asked("base", [node, msgspec.structs.replace(node, state=BreakerState.OPEN, lag_blocks=4)])
    lines = shown(meter)
    first, second = '{chain="base",node="h:1",number="0"', '{chain="base",node="h:1",number="1"'
    assert {
        'mev_pools{chain="base"} 7.0',
        'mev_cycles{chain="base"} 30.0',
        'mev_head_block_number{chain="base"} 5.0',
        'mev_head_timestamp_seconds{chain="base"} 1.7e+09',
        'mev_in_flight_transactions{chain="base"} 1.0',
        'mev_block_seconds_count{chain="base"} 1.0',
        'mev_reorganisations_total{chain="base"} 1.0',
        'mev_blocks_undone_total{chain="base"} 3.0',
        f'mev_ledger_difference_wei{{account="0x{20 * "01"}",chain="base",token="0x{20 * "00"}"}} -2.0',
        f"mev_end_point_up{first}}} 1.0",
        f"mev_end_point_up{second}}} 0.0",
        f"mev_end_point_lag_blocks{second}}} 4.0",
        f'mev_end_point_latency_seconds{first},quantile="0.5"}} 0.25',
        f"mev_end_point_calls_total{first}}} 9.0",
        f"mev_end_point_hedges_total{first}}} 1.0",
        f'mev_end_point_offences_total{first},offence="wrong_id"}} 2.0',
    } <= lines
    # What there are too few answers for is not told.
    assert not any('quantile="0.95"' in line for line in lines)
