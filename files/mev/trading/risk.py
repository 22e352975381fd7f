"""What may be sent: limits that are looked at in one order, each refusal with a code that never changes its meaning."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

import msgspec

from mev.domain import Opportunity, Pool
from mev.domain.market import Address
from mev.trading.ledger import MISSED, Today, Usage


class Reason(StrEnum):
    """Why an opportunity went no further; written into the ledger's transitions."""

    # Before risk: what exact mathematics and the simulation say.
    NO_PROFIT = "no_profit"
    NOT_BEST = "not_best"
    EXECUTOR_MISSING = "executor_missing"
    CAPITAL_MISSING = "capital_missing"
    SIMULATION_REVERTED = "simulation_reverted"
    SIMULATION_BELOW_EXPECTED = "simulation_below_expected"
    SIMULATION_ASSETS_DIFFER = "simulation_assets_differ"
    SIMULATION_STALE = "simulation_stale"
    SIMULATION_UNCONFIRMED = "simulation_unconfirmed"
    INTERRUPTED = "interrupted"
    # Risk.
    KILL_SWITCH = "kill_switch"
    DENIED_TOKEN = "denied_token"  # noqa: S105
    STALE_BLOCK = "stale_block"
    CLOCK_BEHIND = "clock_behind"
    AMOUNT_IN_OVER_LIMIT = "amount_in_over_limit"
    GAS_PRICE_OVER_CAP = "gas_price_over_cap"
    PROFIT_UNDER_MINIMUM = "profit_under_minimum"
    DAILY_LOSS = "daily_loss"
    IN_FLIGHT = "in_flight"
    POOL_IN_FLIGHT = "pool_in_flight"
    BORROWER_IN_FLIGHT = "borrower_in_flight"
    GAS_OVER_CAP = "gas_over_cap"
    DAILY_GAS = "daily_gas"
    REVERT_BUDGET = "revert_budget"
    MISSED_BUDGET = "missed_budget"
    CIRCUIT_OPEN = "circuit_open"
    TOKEN_LIMIT = "token_limit"  # noqa: S105
    STRATEGY_LIMIT = "strategy_limit"
    MODE_OBSERVE = "mode_observe"
    MODE_PAPER = "mode_paper"
    # After submission.
    NODE_REFUSED = "node_refused"
    REVERTED = "reverted"
    NEVER_SEEN = "never_seen"
    NONCE_USED = "nonce_used"
    CANCELLED = "cancelled"
    REORGANISED = "reorganised"
    BUNDLE_MISSED = MISSED
    SUBMITTER_REFUSED = "submitter_refused"
    SUBMITTER_UNAVAILABLE = "submitter_unavailable"
    MINED_AFTER_ALL = "mined_after_all"
    # Before submission: a remote signer.
    SIGNER_UNANSWERED = "signer_unanswered"
    SIGNER_REFUSED = "signer_refused"
    SIGNER_LIED = "signer_lied"


class Allowance(msgspec.Struct, frozen=True, kw_only=True):
    """What one token or one strategy may use up; None is no limit of its own."""

    max_amount_in_wei: int | None = None
    max_daily_amount_in_wei: int | None = None
    max_daily_loss_wei: int | None = None
    max_daily_trades: int | None = None

    def allows(self, proposal: "Proposal", used: Usage) -> bool:
        """Whether a proposal stays within it, its whole gas counted as lost."""
        amount_in = proposal.opportunity.amount_in
        wanted = (
            (self.max_amount_in_wei, amount_in),
            (self.max_daily_amount_in_wei, used.amount_in_wei + amount_in),
            (self.max_daily_loss_wei, proposal.cost_wei + used.at_risk_wei - used.earned_wei),
            (self.max_daily_trades, used.trades + 1),
        )
        return all(limit is None or value <= limit for limit, value in wanted)


NO_LIMIT = Allowance()


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """A chain's limits, wei of its native coin unless the name says otherwise."""

    max_amount_in_wei: int
    min_profit_wei: int
    max_gas_price_wei: int
    max_daily_loss_wei: int
    max_in_flight: int
    max_block_age_seconds: float
    # What a pool may be owed within one liquidation, or one arbitrage, that puts nothing in; 0 is never.
    max_flash_wei: int = 0
    max_arbitrage_flash_wei: int = 0
    deny_tokens: frozenset[Address] = frozenset()
    max_gas: int | None = None
    max_daily_gas_wei: int | None = None
    max_daily_reverts: int | None = None
    max_daily_missed: int | None = None
    tokens: Mapping[Address, Allowance] = {}
    strategies: Mapping[str, Allowance] = {}


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """What would be sent: the simulated profit before gas, and gas in units at a price in wei."""

    opportunity: Opportunity
    profit_wei: int
    gas: int
    gas_price_wei: int

    @property
    def cost_wei(self) -> int:
        """What its gas may cost."""
        return self.gas * self.gas_price_wei

    @property
    def net_wei(self) -> int:
        """Profit after gas."""
        return self.profit_wei - self.cost_wei


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Where a chain stands at the moment of the decision; `today` is the last 24 hours."""

    killed: bool
    block_age_seconds: float
    in_flight: int
    pools_in_flight: frozenset[Address] = frozenset()
    # Each with the lending pool that its debt is in: (pool, borrower).
    borrowers_in_flight: frozenset[tuple[Address, Address]] = frozenset()
    circuit_open: bool = False
    today: Today = Today()


def refuse(proposal: Proposal, standing: Standing, limits: Limits, pools: Mapping[Address, Pool]) -> Reason | None:
    """Say why a proposal may not be sent; None where it may.

    The loss that counts is today's with this proposal's whole gas added, and that of trades that have no fate yet: each may revert and cost that much.
    What a bundle missed has cost nothing, and counts as an attempt alone.
    """
    opportunity, today = proposal.opportunity, standing.today
    used = tokens(opportunity, pools)
    by_token = (
        limits.tokens[token].allows(proposal, _used(token, today, pools)) for token in used & limits.tokens.keys()
    )
    most = limits.max_amount_in_wei
    if opportunity.flash is not None:
        most = limits.max_arbitrage_flash_wei if opportunity.seizure is None else limits.max_flash_wei
    of_strategy = limits.strategies.get(opportunity.strategy, NO_LIMIT)
    checks = (
        (Reason.KILL_SWITCH, standing.killed),
        (Reason.CIRCUIT_OPEN, standing.circuit_open),
        (Reason.DENIED_TOKEN, not limits.deny_tokens.isdisjoint(used)),
        # A day's limits are counted by this host's clock: set back, it would have a day end twice.
        (Reason.CLOCK_BEHIND, standing.block_age_seconds < -limits.max_block_age_seconds),
        (Reason.STALE_BLOCK, standing.block_age_seconds > limits.max_block_age_seconds),
        (Reason.AMOUNT_IN_OVER_LIMIT, opportunity.amount_in > most),
        (Reason.GAS_PRICE_OVER_CAP, proposal.gas_price_wei > limits.max_gas_price_wei),
        (Reason.GAS_OVER_CAP, _over(proposal.gas, limits.max_gas)),
        (Reason.PROFIT_UNDER_MINIMUM, proposal.net_wei < limits.min_profit_wei),
        (Reason.DAILY_LOSS, proposal.cost_wei + today.at_risk_wei - today.earned_wei > limits.max_daily_loss_wei),
        (Reason.DAILY_GAS, _over(today.fees_wei + today.at_risk_wei + proposal.cost_wei, limits.max_daily_gas_wei)),
        (Reason.REVERT_BUDGET, _over(today.reverts + today.waiting + 1, limits.max_daily_reverts)),
        (Reason.MISSED_BUDGET, _over(today.missed + 1, limits.max_daily_missed)),
        (Reason.TOKEN_LIMIT, not all(by_token)),
        (Reason.STRATEGY_LIMIT, not of_strategy.allows(proposal, today.strategies.get(opportunity.strategy, Usage()))),
        (Reason.IN_FLIGHT, standing.in_flight >= limits.max_in_flight),
        (Reason.POOL_IN_FLIGHT, swaps_through(opportunity, standing.pools_in_flight)),
        (Reason.BORROWER_IN_FLIGHT, seizes_from(opportunity, standing.borrowers_in_flight)),
    )
    return next((reason for reason, refused in checks if refused), None)


def killed(switch: Path | None) -> bool:
    """Whether somebody has thrown the switch; one that cannot be looked at counts as thrown."""
    if switch is None:
        return False
    try:
        switch.lstat()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True


def _used(token: Address, today: Today, pools: Mapping[Address, Pool]) -> Usage:
    """Add up what went through a token today; a pool that is no longer watched is nobody's."""
    through = frozenset(address for address, pool in pools.items() if token in (pool.token0, pool.token1))
    return sum((use for path, use in today.paths.items() if not path.isdisjoint(through)), Usage())


def _over(value: int, limit: int | None) -> bool:
    return limit is not None and value > limit


def swaps_through(opportunity: Opportunity, pools: frozenset[Address]) -> bool:
    """Whether one of its swaps is at one of these pools: a trade before it would leave it another price than it was sized for.

    A liquidation's lending pool and a lender price no swap, and serve one trade after another.
    """
    return any(hop.pool in pools for hop in opportunity.cycle.hops)


def seizes_from(opportunity: Opportunity, borrowers: frozenset[tuple[Address, Address]]) -> bool:
    """Whether it liquidates one of these, (lending pool, borrower): the liquidation before it may leave nothing to take, or less than this one offers for.

    The same borrower's debt in another lending pool is another debt.
    """
    seizure = opportunity.seizure
    return seizure is not None and (seizure.pool, seizure.borrower) in borrowers


def tokens(opportunity: Opportunity, pools: Mapping[Address, Pool]) -> frozenset[Address]:
    """Every token that a cycle passes through."""
    used = (pools[hop.pool] for hop in opportunity.cycle.hops)
    seizure = opportunity.seizure
    # With no swap at all there is still the token that is put in.
    seized = () if seizure is None else (opportunity.cycle.token, seizure.debt, seizure.collateral)
    return frozenset((*seized, *(token for pool in used for token in (pool.token0, pool.token1))))
