"""Analytics from the ledger's rows: every number recomputed by hand."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mev.domain import LEGAL_NEXT, Entry, EntryKind, Opportunity, State
from mev.insight import report
from mev.insight.analytics import OPERATOR, Analytics, Performance
from mev.insight.breakdown import DAY_NS, by_day
from mev.insight.metrics import PerformanceMetrics
from mev.insight.pnl import fills, first_fill
from mev.insight.record import Recorder, performance
from mev.runtime.storage import Database
from mev.trading.ledger import Ledger
from prometheus_client import generate_latest
from sqlalchemy import select

from tests.unit.mev.trading.conftest import NATIVE, Clock, clock, database, entry, ledger, opportunity, submission

__all__ = ["clock", "database", "ledger", "opportunity"]


def take(
    ledger: Ledger, opportunity: Opportunity, fate: State, *, mark: int, profit: int = 0, gas: int = 0, reason: str = ""
) -> None:
    """Bring an opportunity through its whole life."""
    ledger.detect(opportunity)
    for state in (State.SCREENED, State.SIMULATED, State.APPROVED):
        ledger.move(opportunity.id, state)
    sent = submission(opportunity.id, mark=mark, nonce=mark, chain=opportunity.chain)
    ledger.submit(sent)

    def moved(amount: int, kind: EntryKind) -> Entry:
        return entry(amount, kind, opportunity=opportunity.id, chain=opportunity.chain, mark=mark, at_ns=1)

    booked = [moved(gas, EntryKind.GAS)]
    if fate is State.INCLUDED:
        booked.append(moved(profit, EntryKind.SWAP_PROFIT))
    ledger.settle(sent, fate, reason, booked)


@pytest.fixture
def traded(ledger: Ledger, opportunity: Callable[..., Opportunity]) -> Ledger:
    take(ledger, opportunity("a"), State.INCLUDED, mark=1, profit=2**80, gas=7)
    take(ledger, opportunity("b"), State.REVERTED, mark=2, gas=11, reason="reverted")
    take(ledger, opportunity("c", chain="base"), State.INCLUDED, mark=3, profit=100, gas=1)
    ledger.detect(opportunity("d"))
    ledger.move("d", State.DROPPED, "no_profit")
    ledger.book([entry(5, EntryKind.GAS, opportunity="operator:deploy", chain="base", mark=9)])
    ledger.book([entry(10**20, EntryKind.FUNDING, opportunity="operator:fund", chain="base", mark=10)])
    return ledger


def test_profit_success_states_and_reasons(traded: Ledger, database: Database) -> None:
    assert traded
    base, operator, ethereum = Analytics(database).refresh()
    assert (ethereum.chain, ethereum.strategy) == ("ethereum", "atomic_arbitrage")
    assert (ethereum.profit_wei, ethereum.gas_wei, ethereum.net_wei) == (2**80, 18, 2**80 - 18)
    assert ethereum.success_rate == 0.5
    assert ethereum.submitted == 2
    assert {state: count for state, count in ethereum.states.items() if count} == {
        "included": 1,
        "reverted": 1,
        "dropped": 1,
    }
    assert ethereum.reasons == {"no_profit": 1, "reverted": 1}
    assert (base.chain, base.success_rate, base.net_wei) == ("base", 1.0, 99)
    assert (operator.chain, operator.strategy, operator.net_wei, operator.success_rate) == ("base", OPERATOR, -5, None)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 8)), max_size=60))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_refreshing_often_tells_the_same_as_once(
    tmp_path: Path, opportunity: Callable[..., Opportunity], moves: list[tuple[int, int]]
) -> None:
    path = tmp_path / f"{abs(hash(tuple(moves)))}.db"
    path.unlink(missing_ok=True)
    database = Database(path)
    ledger = Ledger(database, Clock())
    often = Analytics(database)
    stands: dict[int, State] = {}
    for who, choice in moves:
        if who not in stands:
            ledger.detect(opportunity(str(who)))
            stands[who] = State.DETECTED
        elif after := sorted(LEGAL_NEXT[stands[who]]):
            stands[who] = after[choice % len(after)]
            ledger.move(str(who), stands[who])
        often.refresh()
    once = Analytics(database).refresh()
    assert often.refresh() == once
    counted = once[0].states if once else {}
    assert {state: count for state, count in counted.items() if count} == {
        state.value: list(stands.values()).count(state) for state in set(stands.values())
    }
    database.close()


def test_the_first_and_the_newest_fill(traded: Ledger, database: Database) -> None:
    assert traded
    first = first_fill(database)
    assert first is not None
    assert (first.chain, first.transaction, first.profit_wei, first.gas_wei, first.net_wei) == (
        "ethereum",
        "0x" + "01" * 32,
        2**80,
        7,
        2**80 - 7,
    )
    assert [fill.opportunity for fill in fills(database, count=5)] == ["c", "a"]
    assert [fill.opportunity for fill in fills(database, count=1)] == ["c"]


def test_days_hold_what_was_realised_against_what_was_expected(
    ledger: Ledger, database: Database, opportunity: Callable[..., Opportunity], clock: Clock
) -> None:
    clock.now_ns = 2 * DAY_NS
    for name, mark, day, profit in (("a", 1, 0, 90), ("b", 2, 1, None), ("c", 3, 1, 110)):
        ledger.detect(opportunity(name))
        ledger.move(name, State.SCREENED)
        ledger.simulated(name, 100, 10, 2)
        ledger.move(name, State.APPROVED)
        ledger.submit(submission(name, mark=mark, nonce=mark))
        booked = [entry(15, EntryKind.GAS, opportunity=name, mark=mark, at_ns=day * DAY_NS)]
        booked.append(entry(1, EntryKind.L1_FEE, opportunity=name, mark=mark, at_ns=day * DAY_NS))
        if profit:
            booked.append(entry(profit, opportunity=name, mark=mark, at_ns=day * DAY_NS))
        ledger.settle(submission(name, mark=mark), State.INCLUDED if profit else State.REVERTED, "", booked)
    found = [(line.day, line.token, line.realised, line.expected, line.difference) for line in by_day(database)]
    coin, wrapped = "0x" + "00" * 20, "0x" + NATIVE.hex()
    assert found == [
        ("1970-01-02", coin, -32, -40, 8),
        ("1970-01-02", wrapped, 110, 200, -90),
        ("1970-01-01", coin, -16, -20, 4),
        ("1970-01-01", wrapped, 90, 100, -10),
    ]
    assert len(by_day(database, since_ns=DAY_NS)) == 2
    assert len(report.pnl(database, days=1, now_ns=DAY_NS)["days"]) == 2


def test_a_ledger_without_fills_has_no_first(ledger: Ledger, database: Database) -> None:
    assert ledger
    assert first_fill(database) is None
    assert Analytics(database).refresh() == []


def test_what_changed_is_recorded_once(traded: Ledger, database: Database, tmp_path: Path, clock: Clock) -> None:
    metrics = Database(tmp_path / "performance_metrics.db")
    recorder, analytics = Recorder(metrics, clock), Analytics(database)
    assert len(recorder.record(analytics.refresh())) == 3
    assert recorder.record(analytics.refresh()) == []
    traded.book([entry(3, EntryKind.GAS, opportunity="operator:fund", chain="base", mark=11)])
    changed: list[Performance] = recorder.record(analytics.refresh())
    assert [(each.strategy, each.net_wei) for each in changed] == [(OPERATOR, -8)]
    with metrics.begin() as connection:
        rows = connection.execute(select(performance).order_by(performance.c.seq)).all()
    assert [row.net_wei for row in rows] == ["99", "-5", str(2**80 - 18), "-8"]


def test_what_analytics_knows_is_told_to_prometheus(traded: Ledger, database: Database) -> None:
    assert traded
    seen = PerformanceMetrics()
    assert "mev_profit_wei{" not in generate_latest(seen.registry).decode()
    seen.see(Analytics(database).refresh())
    lines = set(generate_latest(seen.registry).decode().splitlines())
    ethereum = 'chain="ethereum",strategy="atomic_arbitrage"'
    assert {
        f"mev_profit_wei{{{ethereum}}} {float(2**80)!r}",
        f"mev_gas_wei{{{ethereum}}} 18.0",
        f"mev_success_ratio{{{ethereum}}} 0.5",
        f"mev_opportunities_submitted_total{{{ethereum}}} 2.0",
        'mev_opportunities{chain="ethereum",state="included",strategy="atomic_arbitrage"} 1.0',
        'mev_opportunities_ended_total{chain="ethereum",reason="no_profit",strategy="atomic_arbitrage"} 1.0',
        'mev_net_wei{chain="base",strategy="operator"} -5.0',
    } <= lines
