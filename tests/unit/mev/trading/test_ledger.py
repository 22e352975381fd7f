"""The ledger: only legal steps, nothing altered, no nonce twice, nothing booked twice."""

from collections.abc import Callable
from itertools import pairwise

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mev.domain import LEGAL_NEXT, Account, Cycle, EntryKind, Hop, Opportunity, Seizure, State
from mev.insight.analytics import Analytics
from mev.insight.explain import explain
from mev.insight.report import recent
from mev.runtime.storage import Database, Location
from mev.trading.ledger import IllegalTransitionError, Ledger, NonceTakenError, Usage, tables
from sqlalchemy import Table, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from tests.unit.mev.trading.conftest import NATIVE, Clock, entry, submission

ZERO = bytes(20)
TO_SUBMITTED = [State.SCREENED, State.SIMULATED, State.APPROVED]


def reach(ledger: Ledger, opportunity: Opportunity, *states: State) -> None:
    assert ledger.detect(opportunity)
    for state in states:
        ledger.move(opportunity.id, state)


def test_an_opportunity_is_detected_once(ledger: Ledger, opportunity: Callable[..., Opportunity]) -> None:
    assert ledger.detect(opportunity())
    assert not ledger.detect(opportunity())
    assert ledger.state("a") is State.DETECTED


@given(st.lists(st.sampled_from(list(State)), max_size=8))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_only_legal_steps_are_taken(
    ledger: Ledger, opportunity: Callable[..., Opportunity], asked: list[State]
) -> None:
    identity = "-".join(asked) or "none"
    ledger.detect(opportunity(identity))
    stands = State.DETECTED
    for state in asked[: 8 if ledger.state(identity) is State.DETECTED else 0]:
        if state in LEGAL_NEXT[stands]:
            ledger.move(identity, state)
            stands = state
        else:
            with pytest.raises(IllegalTransitionError):
                ledger.move(identity, state)
        assert ledger.state(identity) is stands


def test_an_unknown_opportunity_takes_no_step(ledger: Ledger) -> None:
    with pytest.raises(IllegalTransitionError, match="unknown"):
        ledger.move("nobody", State.SCREENED)


@pytest.mark.parametrize(
    ("previous", "state"),
    [("detected", "submitted"), ("screened", "simulated"), (None, "screened"), ("included", "detected")],
)
def test_the_database_itself_refuses_an_illegal_step(
    ledger: Ledger, database: Database, opportunity: Callable[..., Opportunity], previous: str | None, state: str
) -> None:
    reach(ledger, opportunity())
    with pytest.raises(IntegrityError), database.begin() as connection:
        connection.execute(
            insert(tables.transitions).values(opportunity="a", previous=previous, state=state, reason="", at_ns=1)
        )


@pytest.mark.parametrize("table", tables.APPEND_ONLY, ids=lambda table: str(table.name))
@pytest.mark.parametrize("verb", ["update", "delete", "replace"])
def test_what_is_written_stays(
    ledger: Ledger, database: Database, opportunity: Callable[..., Opportunity], table: Table, verb: str
) -> None:
    reach(ledger, opportunity(), State.SCREENED)
    ledger.simulated("a", 1, 2, 3)
    ledger.move("a", State.APPROVED)
    ledger.submit(submission())
    ledger.settle(submission(), State.INCLUDED, booked=[entry(5)])
    ledger.take_back("ethereum", submission().hash, "reorganised")
    act = {"switch": "/stop", "act": "halt", "chains": "[]", "mark": "1", "who": "", "origin": "", "reason": ""}
    with database.begin() as connection:
        connection.execute(insert(tables.switched).values(at_ns=1, **act))
        before = connection.execute(select(table)).all()
    row = before[0]._asdict()
    last = list(table.columns)[-1]
    replace = insert(table).prefix_with("OR REPLACE") if database.name.startswith("/") else update(table)
    change = {
        "update": update(table).values({last: 9}),
        "delete": delete(table),
        "replace": replace.values({**row, last.name: 9}),
    }[verb]
    with pytest.raises(IntegrityError, match=f"{table.name} is append-only"), database.begin() as connection:
        connection.execute(change)
    with database.begin() as connection:
        assert connection.execute(select(table)).all() == before


def test_a_nonce_in_flight_is_taken(ledger: Ledger, opportunity: Callable[..., Opportunity]) -> None:
    reach(ledger, opportunity("a"), *TO_SUBMITTED)
    reach(ledger, opportunity("b"), *TO_SUBMITTED)
    ledger.submit(submission("a", mark=1))
    with pytest.raises(NonceTakenError, match="nonce 0"):
        ledger.submit(submission("b", mark=2))
    assert ledger.state("b") is State.APPROVED
    assert [each.opportunity for each in ledger.in_flight("ethereum")] == ["a"]
    ledger.settle(submission("a", mark=1), State.EXPIRED, "never_seen")
    ledger.submit(submission("b", mark=2))
    assert ledger.in_flight("ethereum") == [submission("b", mark=2)]


def test_the_pools_in_flight_are_those_of_one_chain_s_trades_without_a_fate(
    ledger: Ledger, opportunity: Callable[..., Opportunity]
) -> None:
    other = Cycle(NATIVE, (Hop(b"\x03" * 20, zero_for_one=False), Hop(b"\x04" * 20, zero_for_one=True)))
    reach(ledger, opportunity("a"), *TO_SUBMITTED)
    reach(ledger, opportunity("b", cycle=other), *TO_SUBMITTED)
    reach(ledger, opportunity("c", chain="base"), *TO_SUBMITTED)
    assert ledger.pools_in_flight("ethereum") == frozenset()
    ledger.submit(submission("b", mark=2))
    ledger.submit(submission("c", mark=3, chain="base"))
    assert ledger.pools_in_flight("ethereum") == {b"\x03" * 20, b"\x04" * 20}
    ledger.submit(submission("a", nonce=1))
    assert ledger.pools_in_flight("ethereum") == {bytes([each]) * 20 for each in (1, 2, 3, 4)}
    ledger.settle(submission("b", mark=2), State.EXPIRED, "never_seen")
    assert ledger.pools_in_flight("ethereum") == {b"\x01" * 20, b"\x02" * 20}


def test_whose_debt_is_paid_in_flight_is_known_from_the_ledger(
    ledger: Ledger, opportunity: Callable[..., Opportunity]
) -> None:
    lending, borrower = b"\x0a" * 20, b"\x0b" * 20
    seizure = Seizure(pool=lending, borrower=borrower, debt=NATIVE, collateral=b"\x0c" * 20, after=1)
    reach(ledger, opportunity("a", seizure=seizure), *TO_SUBMITTED)
    reach(ledger, opportunity("b"), *TO_SUBMITTED)
    ledger.submit(submission("b", mark=2))
    assert ledger.borrowers_in_flight("ethereum") == frozenset(), "an arbitrage pays nobody's debt"
    ledger.submit(submission("a", nonce=1))
    assert ledger.borrowers_in_flight("ethereum") == {(lending, borrower)}
    assert ledger.borrowers_in_flight("base") == frozenset()
    ledger.settle(submission("a", nonce=1), State.REVERTED, "reverted")
    assert ledger.borrowers_in_flight("ethereum") == frozenset()


def test_a_missed_bundle_is_an_attempt_and_no_trade_until_it_is_found_on_the_chain(
    ledger: Ledger, clock: Clock, opportunity: Callable[..., Opportunity]
) -> None:
    reach(ledger, opportunity("a"), State.SCREENED)
    ledger.simulated("a", 1, 100, 7)
    ledger.move("a", State.APPROVED)
    sent = submission("a")
    ledger.submit(sent)
    risked = ledger.today("ethereum", 0)
    assert (risked.waiting, risked.at_risk_wei, risked.missed) == (1, 700, 0)
    used = Usage(trades=1, amount_in_wei=10**18, at_risk_wei=700)
    assert risked.strategies == {"atomic_arbitrage": used}
    assert set(risked.paths.values()) == {used}
    ledger.settle(sent, State.EXPIRED, "bundle_missed")
    missed = ledger.today("ethereum", 0)
    assert (missed.waiting, missed.at_risk_wei, missed.missed, missed.reverts) == (0, 0, 1, 0)
    assert (missed.strategies, missed.paths) == ({}, {})
    assert ledger.today("ethereum", clock.now_ns + 1).missed == 0
    ledger.reopen(sent, "mined_after_all")
    assert ledger.today("ethereum", 0).missed == 0
    ledger.settle(sent, State.REVERTED, "reverted")
    late = ledger.today("ethereum", 0)
    assert (late.waiting, late.missed, late.reverts) == (0, 0, 1)
    assert late.strategies == {"atomic_arbitrage": Usage(trades=1, amount_in_wei=10**18)}


def test_what_was_bid_up_may_cost_what_was_bid(ledger: Ledger, opportunity: Callable[..., Opportunity]) -> None:
    reach(ledger, opportunity("a"), State.SCREENED)
    ledger.simulated("a", 1, 100, 7)
    ledger.move("a", State.APPROVED)
    ledger.submit(submission("a"))
    higher = msgspec.structs.replace(submission("a", mark=2), max_fee_wei=9)
    ledger.replace(submission("a"), higher, rebid=True)
    assert ledger.today("ethereum", 0).at_risk_wei == 900
    ledger.replace(submission("a"), msgspec.structs.replace(submission("a", mark=3), max_fee_wei=90))
    assert ledger.today("ethereum", 0).at_risk_wei == 900, "what takes the nonce does nothing"


def test_two_chains_share_nonces(ledger: Ledger, opportunity: Callable[..., Opportunity]) -> None:
    reach(ledger, opportunity("a"), *TO_SUBMITTED)
    reach(ledger, opportunity("b", chain="base"), *TO_SUBMITTED)
    ledger.submit(submission("a", mark=1))
    ledger.submit(submission("b", mark=2, chain="base"))
    assert [each.opportunity for each in ledger.in_flight("base")] == ["b"]


def test_a_receipt_read_twice_books_once(ledger: Ledger) -> None:
    for _ in range(2):
        ledger.settle(submission("operator:fund"), State.INCLUDED, booked=[entry(5, EntryKind.FUNDING)])
    assert ledger.balance("ethereum", Account.EXECUTOR, NATIVE) == 5


def test_sums_pass_64_bits(ledger: Ledger) -> None:
    ledger.book([entry(2**200), entry(2**199, EntryKind.BRIBE)])
    assert ledger.balance("ethereum", Account.EXECUTOR, NATIVE) == 2**199
    assert ledger.balance("ethereum", Account.MARKET, NATIVE) == -(2**200)


def test_earned_counts_profit_and_fees_since_a_time_and_no_funding(ledger: Ledger) -> None:
    ledger.book(
        [
            entry(7, EntryKind.FUNDING, at_ns=5),
            entry(9, at_ns=5),
            entry(3, EntryKind.GAS, at_ns=6),
            entry(1, EntryKind.L1_FEE, at_ns=6),
            entry(2, EntryKind.BRIBE, at_ns=6),
        ]
    )
    earned = {since: ledger.today("ethereum", since).earned_wei for since in (5, 6, 7)}
    assert earned == {5: 3, 6: -6, 7: 0}
    assert ledger.today("ethereum", 6).fees_wei == 4
    assert ledger.today("base", 0).earned_wei == 0


def test_today_is_what_was_submitted_reverted_earned_and_paid(
    ledger: Ledger, opportunity: Callable[..., Opportunity], clock: Clock
) -> None:
    fates = (State.INCLUDED, State.REVERTED, State.INCLUDED)
    for number, fate in enumerate(fates, 1):
        clock.now_ns = number * 100
        name = str(number)
        reach(ledger, opportunity(name), *TO_SUBMITTED)
        ledger.submit(submission(name, mark=number, nonce=number))
        booked = [entry(2, EntryKind.GAS, opportunity=name, mark=number, at_ns=clock.now_ns)]
        booked += [entry(7, opportunity=name, mark=number, at_ns=clock.now_ns)] if fate is State.INCLUDED else []
        ledger.settle(submission(name, mark=number), fate, "", booked)
    whole, later = ledger.today("ethereum", 0), ledger.today("ethereum", 300)
    assert (whole.reverts, whole.fees_wei, whole.earned_wei) == (1, 6, 8)
    used = Usage(trades=3, amount_in_wei=3 * 10**18, earned_wei=8)
    assert whole.strategies == {"atomic_arbitrage": used}
    assert whole.paths == {frozenset({b"\x01" * 20, b"\x02" * 20}): used}
    assert (later.reverts, later.strategies["atomic_arbitrage"].trades) == (0, 1)


def test_failures_in_a_row_are_those_since_the_last_inclusion(
    ledger: Ledger, opportunity: Callable[..., Opportunity], clock: Clock
) -> None:
    fates = (State.REVERTED, State.INCLUDED, State.EXPIRED, State.REVERTED)
    seen = []
    for number, fate in enumerate(fates, 1):
        clock.now_ns = number
        name = str(number)
        reach(ledger, opportunity(name), *TO_SUBMITTED)
        ledger.submit(submission(name, mark=number, nonce=number))
        ledger.settle(submission(name, mark=number), fate)
        seen.append((ledger.failing_since("ethereum", 1), ledger.failing_since("ethereum", 2)))
    assert seen == [(1, None), (None, None), (3, None), (4, 4)]


@given(st.lists(st.tuples(st.sampled_from(EntryKind), st.integers(0, 2**120)), max_size=20))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_event_s_postings_add_up_to_nothing(
    ledger: Ledger, database: Database, moves: list[tuple[EntryKind, int]]
) -> None:
    ledger.book([entry(amount, kind, mark=number + 1) for number, (kind, amount) in enumerate(moves)])
    with database.begin() as connection:
        rows = connection.execute(select(tables.postings)).all()
    events: dict[tuple[str, str, str], int] = {}
    accounts: dict[tuple[str, str], int] = {}
    for row in rows:
        event, posted = (row.chain, row.transaction, row.token), (row.account, row.token)
        events[event] = events.get(event, 0) + int(row.amount)
        accounts[posted] = accounts.get(posted, 0) + int(row.amount)
    assert set(events.values()) <= {0}
    for (account, token), held in accounts.items():
        assert ledger.balance("ethereum", Account(account), bytes.fromhex(token[2:])) == held


@pytest.mark.parametrize("change", [{"amount": "-1"}, {"debit": "market"}])
def test_the_database_itself_refuses_an_entry_that_is_none(
    ledger: Ledger, database: Database, change: dict[str, str]
) -> None:
    ledger.book([entry(1)])
    with database.begin() as connection:
        row = connection.execute(select(tables.entries)).one()._asdict()
    with pytest.raises(IntegrityError), database.begin() as connection:
        connection.execute(insert(tables.entries).values({**row, "seq": 2, "transaction": "0x02", **change}))


def test_what_a_crash_interrupted_is_found(ledger: Ledger, opportunity: Callable[..., Opportunity]) -> None:
    states = [State.DETECTED, *TO_SUBMITTED]
    for count, state in enumerate(states):
        reach(ledger, opportunity(state.value), *states[1 : count + 1])
    reach(ledger, opportunity("done"), State.DROPPED)
    reach(ledger, opportunity("elsewhere", chain="base"))
    assert set(ledger.unfinished("ethereum")) == {state.value for state in states}


def test_a_ledger_opened_again_goes_on(
    location: Location, ledger: Ledger, clock: Clock, opportunity: Callable[..., Opportunity]
) -> None:
    reach(ledger, opportunity(), *TO_SUBMITTED)
    ledger.submit(submission())
    again = Ledger(Database(location), clock)
    assert again.in_flight("ethereum") == [submission()]
    assert not again.detect(opportunity())


def test_a_replacement_has_the_same_nonce(ledger: Ledger, opportunity: Callable[..., Opportunity]) -> None:
    reach(ledger, opportunity(), *TO_SUBMITTED)
    ledger.submit(submission())
    ledger.replace(submission(), submission(mark=2))
    with pytest.raises(ValueError, match="another nonce"):
        ledger.replace(submission(), submission(mark=3, nonce=1))
    assert [each.hash for each in ledger.replacements(submission())] == [b"\x02" * 32]
    assert [each.hash for each in ledger.in_flight("ethereum")] == [b"\x01" * 32]


def test_every_path_of_the_state_machine_ends() -> None:
    final = {state for state, after in LEGAL_NEXT.items() if not after}
    path = [State.DETECTED, *TO_SUBMITTED, State.SUBMITTED, State.INCLUDED]
    assert all(after in LEGAL_NEXT[before] for before, after in pairwise(path))
    assert final == {State.INCLUDED, State.REVERTED, State.EXPIRED, State.DROPPED}


def test_what_is_taken_back_is_booked_the_other_way_round_and_again_by_its_next_fate(
    ledger: Ledger, database: Database, opportunity: Callable[..., Opportunity]
) -> None:
    reach(ledger, opportunity(), *TO_SUBMITTED)
    ledger.submit(submission())
    ledger.replace(submission(), submission(mark=2))
    ledger.settle(submission(), State.EXPIRED, "cancelled", [entry(3, EntryKind.GAS, mark=2)])
    assert ledger.take_back("ethereum", b"\x09" * 32, "reorganised") is None, "nothing is booked for it"
    # What is booked is the replacement's; what is in flight again is the opportunity's own.
    assert ledger.take_back("ethereum", b"\x02" * 32, "reorganised") == submission()
    assert ledger.take_back("ethereum", b"\x02" * 32, "reorganised") is None
    assert (ledger.state("a"), ledger.in_flight("ethereum")) == (State.SUBMITTED, [submission()])
    assert ledger.balance("ethereum", Account.GAS, ZERO) == 0
    assert ledger.booked_after("ethereum", 0) == []
    ledger.settle(submission(), State.INCLUDED, "", [entry(7), entry(4, EntryKind.GAS)])
    assert (ledger.state("a"), ledger.in_flight("ethereum")) == (State.INCLUDED, [])
    assert ledger.balance("ethereum", Account.GAS, ZERO) == 4
    assert ledger.balance("ethereum", Account.EXECUTOR, NATIVE) == 7
    assert ledger.today("ethereum", 0).reverts == 0
    (now,) = Analytics(database).refresh()
    assert (now.states["included"], now.states["expired"], now.submitted, now.success_rate) == (1, 0, 1, 1.0)
    assert (now.profit_wei, now.gas_wei) == (7, 4)
    (listed,) = recent(database, count=9)
    assert (listed["state"], listed["reason"]) == ("included", "")
    assert recent(database, count=9, state="expired") == []
    told = explain(database, "a")
    assert [each["state"] for each in told["steps"][-3:]] == ["expired", "submitted", "included"]
    assert [each["reversal"] for each in told["postings"]] == [False, False, True, True, False, False, False, False]


def test_a_taken_nonce_leaves_the_books_as_they_are(ledger: Ledger, opportunity: Callable[..., Opportunity]) -> None:
    for name, mark in (("a", 1), ("b", 2)):
        reach(ledger, opportunity(name), *TO_SUBMITTED)
        ledger.submit(submission(name, mark=mark))
        if name == "a":
            ledger.settle(submission("a"), State.REVERTED, "reverted", [entry(3, EntryKind.GAS)])
    with pytest.raises(NonceTakenError):
        ledger.take_back("ethereum", submission("a").hash, "reorganised")
    assert ledger.balance("ethereum", Account.GAS, ZERO) == 3
    assert ledger.state("a") is State.REVERTED
