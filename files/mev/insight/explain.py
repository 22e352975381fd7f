"""One opportunity's whole story from the ledger: why it was taken or dropped, leg by leg, and what came of it."""

import json
from itertools import pairwise
from typing import Any

from sqlalchemy import Connection, Row, select

from mev.chain.abi import checksum
from mev.domain import State
from mev.insight.report import time_text
from mev.runtime.storage import Database
from mev.trading.ledger.records import REBIDS, replaces
from mev.trading.ledger.tables import (
    entries,
    estimates,
    opportunities,
    postings,
    revisions,
    submissions,
    transitions,
)
from mev.trading.risk import Reason

Document = dict[str, Any]

SHORTEST_PREFIX = 6

WHY: dict[str, str] = {
    Reason.NO_PROFIT: "in exact integers the cycle leaves nothing",
    Reason.NOT_BEST: "the same block had better opportunities, and only the best few are simulated",
    Reason.EXECUTOR_MISSING: "no executor contract stands at its address (mev executor deploy)",
    Reason.CAPITAL_MISSING: "the executor holds no capital (mev executor fund)",
    Reason.SIMULATION_REVERTED: "on the state after its block the call reverts",
    Reason.SIMULATION_BELOW_EXPECTED: "the simulation returned less than the mathematics: the model is wrong about one of its pools",
    Reason.SIMULATION_ASSETS_DIFFER: "in the simulation other assets moved than the profit that the executor returned: one of its tokens lies",
    Reason.SIMULATION_STALE: "its block was no longer the chain's head when it could have been sent: it is looked for again on the next one",
    Reason.SIMULATION_UNCONFIRMED: "no more than half of the chain's nodes said the same of it: the log says which says what, and it is looked for again on the next block",
    Reason.INTERRUPTED: "the engine was stopped, or its node failed, before it was decided",
    Reason.KILL_SWITCH: "the kill switch is thrown (mev resume takes it back)",
    Reason.DENIED_TOKEN: "it passes through a token of risk.deny_tokens",
    Reason.STALE_BLOCK: "its block was older than allowed_lag_seconds, or this host's clock went forward by as much",
    Reason.CLOCK_BEHIND: "its block was from later than now by more than allowed_lag_seconds: this host's clock or the chain's is wrong",
    Reason.AMOUNT_IN_OVER_LIMIT: "it puts in more than risk.max_amount_in_wei, or on credit more than risk.max_flash_wei (a liquidation) or risk.max_arbitrage_flash_wei (an arbitrage)",
    Reason.GAS_PRICE_OVER_CAP: "gas could cost more than risk.max_gas_price_wei",
    Reason.GAS_OVER_CAP: "it takes more gas than risk.max_gas",
    Reason.PROFIT_UNDER_MINIMUM: "after gas it leaves less than risk.min_profit_wei",
    Reason.DAILY_LOSS: "with its gas lost, and that of what is in flight, the last 24 hours would have lost more than risk.max_daily_loss_wei",
    Reason.DAILY_GAS: "with its gas, and that of what is in flight, the last 24 hours would have paid more than risk.max_daily_gas_wei",
    Reason.REVERT_BUDGET: "one more revert would pass risk.max_daily_reverts, were all that is in flight to revert too",
    Reason.MISSED_BUDGET: "one more bundle that its block passes by would pass risk.max_daily_missed",
    Reason.CIRCUIT_OPEN: "too many failed in a row (risk.breaker_failures), and risk.breaker_seconds are not over",
    Reason.TOKEN_LIMIT: "it would pass a limit of risk.tokens for a token on its way",
    Reason.STRATEGY_LIMIT: "it would pass a limit of risk.strategies for its strategy",
    Reason.IN_FLIGHT: "as many transactions were in flight as risk.max_in_flight allows",
    Reason.POOL_IN_FLIGHT: "a trade in flight swaps at one of its pools: behind that one it would have reverted, and it is looked for again on the next block",
    Reason.BORROWER_IN_FLIGHT: "a liquidation in flight takes from the same borrower: behind that one it may have found nothing to take, and it is looked for again on the next block",
    Reason.MODE_OBSERVE: "the mode is observe: nothing is simulated or sent",
    Reason.MODE_PAPER: "the mode is paper: nothing is sent",
    Reason.NODE_REFUSED: "the node refused the transaction",
    Reason.REVERTED: "the transaction is in a block and reverted: its gas is lost",
    Reason.NEVER_SEEN: "its deadline passed and the node never knew it",
    Reason.NONCE_USED: "another transaction used its nonce",
    Reason.REORGANISED: "a reorganisation took its block back, and what was booked for it was reversed: it is in flight again",
    Reason.BUNDLE_MISSED: "the one block that its bundle was for does not have it: that cost nothing, and its nonce is free again",
    Reason.SUBMITTER_REFUSED: "every private submitter that it reached refused it: the log says why, and it was sent nowhere else",
    Reason.SUBMITTER_UNAVAILABLE: "no private submitter could be reached, and it was sent nowhere else",
    Reason.MINED_AFTER_ALL: "it was given up, and is on the chain all the same: somebody kept it, or a reorganisation brought its block back",
    Reason.SIGNER_UNANSWERED: "the remote signer did not sign it in time: nothing was sent, and it is looked for again on the next block",
    Reason.SIGNER_REFUSED: "the remote signer refused to sign it: the log says why",
    Reason.SIGNER_LIED: "what the remote signer gave back was not the transaction that it was asked to sign, or not signed by the configured address",
    Reason.CANCELLED: "it was in no block in time, and a transaction that does nothing took its nonce",
}
# What a state means where it has no reason of its own.
STATES: dict[str, str] = {
    State.DETECTED: "a block left its pools out of line, or a borrower below the threshold",
    State.SCREENED: "in exact integers it leaves a profit",
    State.SIMULATED: "the chain itself, asked on its block, agrees",
    State.APPROVED: "no limit refuses it",
    State.SUBMITTED: "it was written, signed, and sent",
    State.INCLUDED: "it is in a block and did what it should",
}


class UnknownOpportunityError(Exception):
    """There is no such opportunity, or more than one; one sentence."""


def explain(database: Database, identity: str) -> Document:
    """Return an opportunity's story; `identity` may be its beginning. Raises UnknownOpportunityError."""
    with database.begin() as connection:
        row = _find(connection, identity)
        own = row.id
        steps = connection.execute(
            select(transitions).where(transitions.c.opportunity == own).order_by(transitions.c.seq)
        ).all()
        steps = [
            *steps,
            *connection.execute(
                select(revisions).where(revisions.c.opportunity == own).order_by(revisions.c.seq)
            ).all(),
        ]
        estimate = connection.execute(select(estimates).where(estimates.c.opportunity == own)).one_or_none()
        sent = connection.execute(select(submissions).where(submissions.c.opportunity == own)).all()
        for each in sent:
            query = select(submissions).where(submissions.c.opportunity.in_(replaces(each.transaction)))
            sent = [*sent, *connection.execute(query.order_by(submissions.c.seq)).all()]
        moved = connection.execute(
            select(postings, entries.c.turn)
            .join(entries, entries.c.seq == postings.c.entry)
            .where(entries.c.opportunity == own)
            .order_by(postings.c.entry)
        ).all()
    last = steps[-1]
    return {
        "opportunity": own,
        "chain": row.chain,
        "strategy": row.strategy,
        "state": last.state,
        "reason": last.reason,
        "why": _why(last),
        "block_number": row.block_number,
        "block_hash": row.block_hash,
        "expected_profit_wei": str(int(row.expected_out) - int(row.amount_in)),
        "legs": _legs(row),
        "simulation": None if estimate is None else _simulation(estimate),
        "steps": [
            {"state": step.state, "reason": step.reason, "at": time_text(step.at_ns), "why": _why(step)}
            for step in steps
        ],
        "transactions": [
            {
                "transaction": each.transaction,
                "nonce": each.nonce,
                "deadline_block": each.deadline_block,
                "max_fee_wei": each.max_fee_wei,
                "max_priority_fee_wei": each.max_priority_fee_wei,
                "way": each.way,
                # The same trade for a higher fee; what replaces it otherwise does nothing but take its nonce.
                "rebid": each.opportunity.startswith(REBIDS),
                "replaces": None if each.opportunity == own else each.opportunity.rpartition(":")[2],
            }
            for each in sent
        ],
        "postings": [
            {
                "account": each.account,
                "token": _address(each.token),
                "amount": each.amount,
                "kind": each.kind,
                # What a reorganisation took back.
                "reversal": each.turn % 2 == 1,
            }
            for each in moved
        ],
    }


def _find(connection: Connection, identity: str) -> Row[Any]:
    exact = connection.execute(select(opportunities).where(opportunities.c.id == identity)).one_or_none()
    if exact is not None:
        return exact
    if len(identity) < SHORTEST_PREFIX:
        raise UnknownOpportunityError(
            f"there is no opportunity {identity!r}; allowed: an id as `mev opportunities` shows it, or its first "
            f"{SHORTEST_PREFIX} characters or more"
        )
    beginning = opportunities.c.id.startswith(identity, autoescape=True)
    found = connection.execute(select(opportunities).where(beginning).limit(2)).all()
    if len(found) != 1:
        many = "several opportunities begin" if found else "no opportunity begins"
        raise UnknownOpportunityError(f"{many} with {identity!r}; allowed: an id as `mev opportunities` shows it")
    return found[0]


def _legs(row: Row[Any]) -> list[Document]:
    """Each hop's pool, direction, and, where it was kept, what goes in and comes out."""
    hops = json.loads(row.hops)
    held = json.loads(row.held) if row.held else []
    # Where swaps stand side by side, each one's own.
    amounts = list(zip(held[::2], held[1::2], strict=True)) if len(held) == 2 * len(hops) else list(pairwise(held))
    amounts = amounts or [((None, None), (None, None))] * len(hops)
    return [
        {
            "pool": _address(pool),
            # A liquidation is no swap: it has a borrower in the direction's place.
            "zero_for_one": direction if isinstance(direction, bool) else None,
            "borrower": None if isinstance(direction, bool) else _address(direction),
            # Its pool gives first and is paid last; where both tokens are one, it lends.
            "flash": bool(how),
            "token_in": into[0] and _address(into[0]),
            "amount_in": into[1],
            "token_out": out[0] and _address(out[0]),
            "amount_out": out[1],
        }
        for (pool, direction, *how), (into, out) in zip(hops, amounts, strict=True)
    ]


def _simulation(estimate: Row[Any]) -> Document:
    cost = estimate.gas * int(estimate.gas_price_wei)
    return {
        "profit_wei": estimate.profit,
        "gas": estimate.gas,
        "gas_price_wei": estimate.gas_price_wei,
        "gas_wei": str(cost),
        "net_wei": str(int(estimate.profit) - cost),
    }


def _why(step: Row[Any]) -> str:
    return WHY.get(step.reason) or STATES.get(step.state, "")


def _address(text: str) -> str:
    return checksum(bytes.fromhex(text[2:]))
