"""Every limit refuses what passes it and nothing that only reaches it, with its own code."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mev.domain import Flash, Opportunity, Seizure
from mev.trading.ledger import Today, Usage
from mev.trading.risk import Allowance, Limits, Proposal, Reason, Standing, killed, refuse, tokens

from tests.unit.mev.trading.conftest import NATIVE, POOLS, STABLE

USED = Usage(trades=4, amount_in_wei=9 * 10**18, earned_wei=-6_000, at_risk_wei=4_000)
STANDING = Standing(
    killed=False,
    block_age_seconds=30,
    in_flight=0,
    today=Today(
        earned_wei=-5_000,
        fees_wei=15_000,
        reverts=1,
        waiting=1,
        at_risk_wei=5_000,
        missed=6,
        paths={frozenset({b"\x01" * 20}): USED, frozenset({b"\x09" * 20}): Usage(trades=1000)},
        strategies={"atomic_arbitrage": USED},
    ),
)
# Exactly used up by the proposal.
ALLOWANCE = Allowance(
    max_amount_in_wei=10**18, max_daily_amount_in_wei=10**19, max_daily_loss_wei=20_000, max_daily_trades=5
)
TIGHTER = [
    msgspec.structs.replace(ALLOWANCE, **{key: value - 1}) for key, value in msgspec.structs.asdict(ALLOWANCE).items()
]
LIMITS = Limits(
    max_amount_in_wei=10**18,
    min_profit_wei=100,
    max_gas_price_wei=50,
    max_daily_loss_wei=20_000,
    max_in_flight=1,
    max_block_age_seconds=30,
    max_gas=200,
    max_daily_gas_wei=30_000,
    max_daily_reverts=3,
    max_daily_missed=7,
    tokens={STABLE: ALLOWANCE},
    strategies={"atomic_arbitrage": ALLOWANCE},
)


@pytest.fixture
def proposal(opportunity: Callable[..., Opportunity]) -> Proposal:
    """Exactly on every limit: 200 units of gas at 50 wei leave 100 of 10,100."""
    return Proposal(opportunity=opportunity(), profit_wei=10_100, gas=200, gas_price_wei=50)


def test_exactly_on_every_limit_is_allowed(proposal: Proposal) -> None:
    assert proposal.net_wei == LIMITS.min_profit_wei
    assert refuse(proposal, STANDING, LIMITS, POOLS) is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"standing": {"killed": True}}, Reason.KILL_SWITCH),
        ({"limits": {"deny_tokens": frozenset({STABLE})}}, Reason.DENIED_TOKEN),
        ({"standing": {"block_age_seconds": 30.1}}, Reason.STALE_BLOCK),
        ({"standing": {"block_age_seconds": -30.1}}, Reason.CLOCK_BEHIND),
        ({"opportunity": {"amount_in": 10**18 + 1}}, Reason.AMOUNT_IN_OVER_LIMIT),
        # On credit another limit holds, and without one nothing is allowed.
        ({"opportunity": {"flash": Flash(pool=b"\x01" * 20)}}, Reason.AMOUNT_IN_OVER_LIMIT),
        ({"proposal": {"gas_price_wei": 51}}, Reason.GAS_PRICE_OVER_CAP),
        ({"proposal": {"profit_wei": 10_099}}, Reason.PROFIT_UNDER_MINIMUM),
        ({"today": {"earned_wei": -5_001}}, Reason.DAILY_LOSS),
        ({"today": {"at_risk_wei": 5_001}}, Reason.DAILY_LOSS),
        ({"standing": {"circuit_open": True}}, Reason.CIRCUIT_OPEN),
        ({"limits": {"max_gas": 199}}, Reason.GAS_OVER_CAP),
        ({"today": {"fees_wei": 15_001}}, Reason.DAILY_GAS),
        ({"today": {"reverts": 2}}, Reason.REVERT_BUDGET),
        ({"today": {"waiting": 2}}, Reason.REVERT_BUDGET),
        ({"today": {"missed": 7}}, Reason.MISSED_BUDGET),
        *(({"limits": {"tokens": {STABLE: tight}}}, Reason.TOKEN_LIMIT) for tight in TIGHTER),
        *(({"limits": {"strategies": {"atomic_arbitrage": tight}}}, Reason.STRATEGY_LIMIT) for tight in TIGHTER),
        ({"standing": {"in_flight": 1}}, Reason.IN_FLIGHT),
        ({"standing": {"pools_in_flight": frozenset({b"\x02" * 20})}}, Reason.POOL_IN_FLIGHT),
    ],
)
def test_one_past_a_limit_is_refused_with_its_code(
    proposal: Proposal, change: dict[str, dict[str, object]], reason: Reason
) -> None:
    opportunity = msgspec.structs.replace(proposal.opportunity, **change.get("opportunity", {}))
    changed = msgspec.structs.replace(proposal, opportunity=opportunity, **change.get("proposal", {}))
    today = msgspec.structs.replace(STANDING.today, **change.get("today", {}))
    standing = msgspec.structs.replace(STANDING, today=today, **change.get("standing", {}))
    limits = msgspec.structs.replace(LIMITS, **change.get("limits", {}))
    assert refuse(changed, standing, limits, POOLS) is reason


@given(st.integers(0, 2**90), st.integers(0, 10**7), st.integers(0, 10**12), st.integers(-(2**70), 2**70))
def test_what_is_allowed_keeps_the_minimum_and_the_day_s_loss(profit: int, gas: int, price: int, earned: int) -> None:
    opportunity = Opportunity("a", "ethereum", "s", None, 1, b"", 1, 1)  # type: ignore[arg-type]
    proposal = Proposal(opportunity=opportunity, profit_wei=profit, gas=gas, gas_price_wei=price)
    standing = msgspec.structs.replace(STANDING, today=Today(earned_wei=earned))
    limits = msgspec.structs.replace(LIMITS, max_gas_price_wei=10**12, max_gas=None, max_daily_gas_wei=None)
    cycle = type("Cycle", (), {"hops": ()})()
    allowed = msgspec.structs.replace(proposal, opportunity=msgspec.structs.replace(opportunity, cycle=cycle))
    if refuse(allowed, standing, limits, {}) is None:
        assert profit - gas * price >= LIMITS.min_profit_wei
        assert earned - gas * price >= -LIMITS.max_daily_loss_wei


def test_the_codes_never_change() -> None:
    assert {reason.value for reason in Reason} == {
        "no_profit",
        "not_best",
        "executor_missing",
        "capital_missing",
        "simulation_reverted",
        "simulation_below_expected",
        "simulation_assets_differ",
        "simulation_stale",
        "simulation_unconfirmed",
        "interrupted",
        "kill_switch",
        "denied_token",
        "stale_block",
        "clock_behind",
        "amount_in_over_limit",
        "gas_price_over_cap",
        "profit_under_minimum",
        "daily_loss",
        "in_flight",
        "pool_in_flight",
        "borrower_in_flight",
        "gas_over_cap",
        "daily_gas",
        "revert_budget",
        "missed_budget",
        "circuit_open",
        "token_limit",
        "strategy_limit",
        "mode_observe",
        "mode_paper",
        "node_refused",
        "reverted",
        "never_seen",
        "nonce_used",
        "cancelled",
        "reorganised",
        "bundle_missed",
        "submitter_refused",
        "submitter_unavailable",
        "mined_after_all",
        "signer_unanswered",
        "signer_refused",
        "signer_lied",
    }


def test_another_pool_in_flight_or_its_own_lender_is_in_nobody_s_way(proposal: Proposal) -> None:
    lender = b"\x08" * 20
    standing = msgspec.structs.replace(STANDING, in_flight=1, pools_in_flight=frozenset({b"\x09" * 20, lender}))
    lent = msgspec.structs.replace(proposal.opportunity, flash=Flash(pool=lender))
    limits = msgspec.structs.replace(LIMITS, max_in_flight=2, max_arbitrage_flash_wei=10**18)
    assert refuse(msgspec.structs.replace(proposal, opportunity=lent), standing, limits, POOLS) is None


def test_no_second_liquidation_of_one_borrower_in_one_lending_pool(proposal: Proposal) -> None:
    lending, borrower = b"\x0a" * 20, b"\x0b" * 20
    seizure = Seizure(pool=lending, borrower=borrower, debt=NATIVE, collateral=STABLE, after=0)
    again = msgspec.structs.replace(
        proposal, opportunity=msgspec.structs.replace(proposal.opportunity, seizure=seizure)
    )
    limits = msgspec.structs.replace(LIMITS, max_in_flight=2)

    def told(asked: Proposal, *held: tuple[bytes, bytes]) -> Reason | None:
        standing = msgspec.structs.replace(STANDING, in_flight=1, borrowers_in_flight=frozenset(held))
        return refuse(asked, standing, limits, POOLS)

    assert told(again, (lending, borrower)) is Reason.BORROWER_IN_FLIGHT
    assert told(again, (lending, b"\x0c" * 20), (b"\x0d" * 20, borrower)) is None, "another's debt, and one elsewhere"
    assert told(proposal, (lending, borrower)) is None, "an arbitrage takes from nobody"


def test_a_cycle_s_tokens(opportunity: Callable[..., Opportunity]) -> None:
    assert tokens(opportunity(), POOLS) == {NATIVE, STABLE}


def test_a_switch_that_cannot_be_looked_at_is_thrown(tmp_path: Path) -> None:
    switch = tmp_path / "kill"
    assert not killed(None)
    assert not killed(switch)
    switch.symlink_to("nowhere")
    assert killed(switch)
    assert killed(tmp_path / ("x" * 300))
