"""An opportunity's story, told from what the ledger holds."""

from collections.abc import Callable

import pytest
from mev.domain import EntryKind, Opportunity, State
from mev.insight.explain import STATES, WHY, UnknownOpportunityError, explain
from mev.runtime.storage import Database
from mev.trading.ledger import Ledger
from mev.trading.risk import Reason

from tests.unit.mev.trading.conftest import NATIVE, STABLE, clock, database, entry, ledger, opportunity, submission

__all__ = ["clock", "database", "ledger", "opportunity"]

IDENTITY = "abcdef0123456789"


@pytest.fixture
def found(ledger: Ledger, opportunity: Callable[..., Opportunity]) -> Opportunity:
    held = ((NATIVE, 10**18), (STABLE, 3_000), (NATIVE, 10**18 + 10**15))
    made = opportunity(IDENTITY, held=held)
    ledger.detect(made)
    ledger.move(IDENTITY, State.SCREENED)
    return made


def test_what_was_dropped_says_why_leg_by_leg(ledger: Ledger, database: Database, found: Opportunity) -> None:
    ledger.simulated(found.id, 900, 10, 95)
    ledger.move(found.id, State.DROPPED, Reason.PROFIT_UNDER_MINIMUM)
    told = explain(database, IDENTITY[:8])
    assert (told["state"], told["reason"]) == ("dropped", "profit_under_minimum")
    assert told["why"] == "after gas it leaves less than risk.min_profit_wei"
    assert told["simulation"]["net_wei"] == "-50"
    first, second = told["legs"]
    assert (first["amount_in"], first["amount_out"]) == (str(10**18), "3000")
    assert (second["amount_in"], second["amount_out"]) == ("3000", str(10**18 + 10**15))
    assert first["token_out"] == second["token_in"] != first["token_in"] == second["token_out"]
    assert [step["state"] for step in told["steps"]] == ["detected", "screened", "simulated", "dropped"]
    assert told["transactions"] == told["postings"] == []


def test_what_was_sent_shows_its_transactions_and_postings(
    ledger: Ledger, database: Database, found: Opportunity
) -> None:
    ledger.simulated(found.id, 900, 10, 5)
    ledger.move(found.id, State.APPROVED)
    ledger.submit(submission(found.id))
    ledger.replace(submission(found.id), submission(found.id, mark=2))
    ledger.settle(
        submission(found.id), State.EXPIRED, Reason.CANCELLED, [entry(7, EntryKind.GAS, opportunity=found.id)]
    )
    told = explain(database, IDENTITY)
    assert "took its nonce" in told["why"]
    original, replacement = told["transactions"]
    assert (original["replaces"], replacement["replaces"]) == (None, original["transaction"])
    assert {each["account"]: each["amount"] for each in told["postings"]} == {"gas": "7", "signer": "-7"}


def test_one_of_a_release_that_kept_no_amounts_has_its_legs_still(
    ledger: Ledger, database: Database, opportunity: Callable[..., Opportunity]
) -> None:
    ledger.detect(opportunity("without-amounts"))
    assert [leg["amount_in"] for leg in explain(database, "without-amounts")["legs"]] == [None, None]


@pytest.mark.parametrize("name", ["zzzzzzzz", "ab", "abcdef", "", "%%%%%%%%"])
def test_what_is_not_known_is_one_sentence(
    ledger: Ledger, database: Database, found: Opportunity, opportunity: Callable[..., Opportunity], name: str
) -> None:
    ledger.detect(opportunity(found.id[:-1] + "x"))
    with pytest.raises(UnknownOpportunityError, match="allowed: an id as"):
        explain(database, name)


def test_every_code_and_every_state_is_explained() -> None:
    assert set(WHY) == set(Reason)
    assert set(STATES) == set(State) - {State.REVERTED, State.EXPIRED, State.DROPPED}
