"""What may be sent: limits that are looked at in one order, each refusal with a code that never changes its meaning."""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from mev.domain import Opportunity, Pool
from mev.domain.market import Address


class Reason(StrEnum):
    """Why an opportunity went no further; written into the ledger's transitions."""

    # Before risk: what exact mathematics and the simulation say.
    NO_PROFIT = "no_profit"
    NOT_BEST = "not_best"
    EXECUTOR_MISSING = "executor_missing"
    CAPITAL_MISSING = "capital_missing"
    SIMULATION_REVERTED = "simulation_reverted"
    SIMULATION_BELOW_EXPECTED = "simulation_below_expected"
    INTERRUPTED = "interrupted"
    # Risk.
    KILL_SWITCH = "kill_switch"
    DENIED_TOKEN = "denied_token"  # noqa: S105
    STALE_BLOCK = "stale_block"
    AMOUNT_IN_OVER_LIMIT = "amount_in_over_limit"
    GAS_PRICE_OVER_CAP = "gas_price_over_cap"
    PROFIT_UNDER_MINIMUM = "profit_under_minimum"
    DAILY_LOSS = "daily_loss"
    IN_FLIGHT = "in_flight"
    MODE_OBSERVE = "mode_observe"
    MODE_PAPER = "mode_paper"
    # After submission.
    NODE_REFUSED = "node_refused"
    REVERTED = "reverted"
    NEVER_SEEN = "never_seen"
    NONCE_USED = "nonce_used"
    CANCELLED = "cancelled"


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """A chain's limits, wei of its native coin unless the name says otherwise."""

    max_amount_in_wei: int
    min_profit_wei: int
    max_gas_price_wei: int
    max_daily_loss_wei: int
    max_in_flight: int
    max_block_age_seconds: float
    deny_tokens: frozenset[Address] = frozenset()


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """What would be sent: the simulated profit before gas, and gas in units at a price in wei."""

    opportunity: Opportunity
    profit_wei: int
    gas: int
    gas_price_wei: int

    @property
    def net_wei(self) -> int:
        """Profit after gas."""
        return self.profit_wei - self.gas * self.gas_price_wei


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Where a chain stands at the moment of the decision; earned_today_wei is negative after losses."""

    killed: bool
    block_age_seconds: float
    earned_today_wei: int
    in_flight: int


def refuse(proposal: Proposal, standing: Standing, limits: Limits, pools: Mapping[Address, Pool]) -> Reason | None:
    """Say why a proposal may not be sent; None where it may.

    The loss that counts is today's with this proposal's whole gas added: a revert may cost that much.
    """
    opportunity = proposal.opportunity
    cost_wei = proposal.gas * proposal.gas_price_wei
    checks = (
        (Reason.KILL_SWITCH, standing.killed),
        (Reason.DENIED_TOKEN, not limits.deny_tokens.isdisjoint(tokens(opportunity, pools))),
        (Reason.STALE_BLOCK, standing.block_age_seconds > limits.max_block_age_seconds),
        (Reason.AMOUNT_IN_OVER_LIMIT, opportunity.amount_in > limits.max_amount_in_wei),
        (Reason.GAS_PRICE_OVER_CAP, proposal.gas_price_wei > limits.max_gas_price_wei),
        (Reason.PROFIT_UNDER_MINIMUM, proposal.net_wei < limits.min_profit_wei),
        (Reason.DAILY_LOSS, cost_wei - standing.earned_today_wei > limits.max_daily_loss_wei),
        (Reason.IN_FLIGHT, standing.in_flight >= limits.max_in_flight),
    )
    return next((reason for reason, refused in checks if refused), None)


def tokens(opportunity: Opportunity, pools: Mapping[Address, Pool]) -> frozenset[Address]:
    """Every token that a cycle passes through."""
    used = (pools[hop.pool] for hop in opportunity.cycle.hops)
    return frozenset(token for pool in used for token in (pool.token0, pool.token1))
