"""Analytics from the ledger's rows: every number recomputed by hand."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mev.domain import LEGAL_NEXT, Entry, EntryKind, Opportunity, State
from mev.insight.analytics import OPERATOR, Analytics, Performance
from mev.insight.pnl import fills, first_fill
from mev.insight.record import Recorder, performance
from mev.runtime.storage import Database
from mev.trading.ledger import Ledger
from sqlalchemy import select

from tests.unit.mev.trading.conftest import NATIVE, Clock, clock, database, ledger, opportunity, submission

__all__ = ["clock", "database", "ledger", "opportunity"]

ZERO = bytes(20)


def take(
    ledger: Ledger, opportunity: Opportunity, fate: State, *, mark: int, profit: int = 0, gas: int = 0, reason: str = ""
) -> None:
    """Bring an opportunity through its whole life."""
    ledger.detect(opportunity)
    for state in (State.SCREENED, State.SIMULATED, State.APPROVED):
        ledger.move(opportunity.id, state)
    sent = submission(opportunity.id, mark=mark, nonce=mark, chain=opportunity.chain)
    ledger.submit(sent)
    booked = [Entry(opportunity.chain, opportunity.id, EntryKind.GAS, ZERO, -gas, bytes([mark]) * 32, 9, 1)]
    if fate is State.INCLUDED:
        booked.append(
            Entry(opportunity.chain, opportunity.id, EntryKind.SWAP_PROFIT, NATIVE, profit, bytes([mark]) * 32, 9, 1)
        )
    ledger.settle(sent, fate, reason, booked)


@pytest.fixture
def traded(ledger: Ledger, opportunity: Callable[..., Opportunity]) -> Ledger:
    take(ledger, opportunity("a"), State.INCLUDED, mark=1, profit=2**80, gas=7)
    take(ledger, opportunity("b"), State.REVERTED, mark=2, gas=11, reason="reverted")
    take(ledger, opportunity("c", chain="base"), State.INCLUDED, mark=3, profit=100, gas=1)
    ledger.detect(opportunity("d"))
    ledger.move("d", State.DROPPED, "no_profit")
    ledger.book([Entry("base", "operator:deploy", EntryKind.GAS, ZERO, -5, b"\x09" * 32, 1, 1)])
    ledger.book([Entry("base", "operator:fund", EntryKind.FUNDING, NATIVE, 10**20, b"\x0a" * 32, 1, 1)])
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


def test_a_ledger_without_fills_has_no_first(ledger: Ledger, database: Database) -> None:
    assert ledger
    assert first_fill(database) is None
    assert Analytics(database).refresh() == []


def test_what_changed_is_recorded_once(traded: Ledger, database: Database, tmp_path: Path, clock: Clock) -> None:
    metrics = Database(tmp_path / "performance_metrics.db")
    recorder, analytics = Recorder(metrics, clock), Analytics(database)
    assert len(recorder.record(analytics.refresh())) == 3
    assert recorder.record(analytics.refresh()) == []
    traded.book([Entry("base", "operator:fund", EntryKind.GAS, ZERO, -3, b"\x0b" * 32, 1, 1)])
    changed: list[Performance] = recorder.record(analytics.refresh())
    assert [(each.strategy, each.net_wei) for each in changed] == [(OPERATOR, -8)]
    with metrics.begin() as connection:
        rows = connection.execute(select(performance).order_by(performance.c.seq)).all()
    assert [row.net_wei for row in rows] == ["99", "-5", str(2**80 - 18), "-8"]
