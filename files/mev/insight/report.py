"""What people and programs are told: plain documents with stable keys, money as strings of whole wei.

Keys that end in _wei are wei of the chain's native coin; its wrapped form counts one to one.
"""

import json
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func, select

from mev.chain.abi import checksum
from mev.domain import State
from mev.insight.analytics import Analytics, Performance
from mev.insight.breakdown import DAY_NS, Line, by_day
from mev.insight.pnl import Fill, fills, first_fill
from mev.runtime.config import Config
from mev.runtime.storage import Database
from mev.trading import switch
from mev.trading.ledger import Audit, Ledger, Switched
from mev.trading.ledger.tables import estimates, opportunities, revisions, submissions, transitions
from mev.trading.risk import killed

SECOND_NS = 10**9
UNIT = "wei of the chain's native coin; its wrapped form counts one to one"

Document = dict[str, Any]


def status(database: Database, config: Config, now_ns: int | None = None) -> Document:
    """Say how far the engine is on each configured chain, in the configuration's order."""
    now_ns = time.time_ns() if now_ns is None else now_ns
    ledger = Ledger(database)
    standpoints = ledger.standpoints()
    counted: dict[str, Counter[str]] = {name: Counter() for name in config.chains}
    for each in Analytics(database).refresh():
        if each.chain in counted:
            counted[each.chain].update({state: count for state, count in each.states.items() if count})
    chains: Document = {}
    for name, chain in config.chains.items():
        stands = standpoints.get(name)
        chains[name] = {
            "id": chain.id,
            "head": stands.block_number if stands else None,
            "head_age_seconds": round(now_ns / SECOND_NS - stands.block_timestamp, 1) if stands else None,
            "seen_seconds_ago": round((now_ns - stands.at_ns) / SECOND_NS, 1) if stands else None,
            "pools": stands.pools if stands else None,
            "cycles": stands.cycles if stands else None,
            "killed": killed(chain.risk.kill_switch),
            "in_flight": len(ledger.in_flight(name)),
            "opportunities": {state.value: counted[name][state] for state in State},
        }
    found = (switch.thrown(path, names) for path, names in switch.files(config).items())
    return {
        "mode": str(config.mode),
        "chains": chains,
        "halted": [_switched(each) for each in found if each is not None],
    }


def halts(database: Database, *, count: int, chain: str | None = None) -> list[Document]:
    """Return who halted and resumed what, newest first."""
    return [{"act": each.act, **_switched(each)} for each in Audit(database).newest(count, chain)]


def recent(database: Database, *, count: int, chain: str | None = None, state: str | None = None) -> list[Document]:
    """Return the opportunities whose state changed last, newest first."""
    step, after, later = transitions, transitions.alias(), revisions.alias()
    stands = func.coalesce(revisions.c.state, step.c.state)
    query = (
        select(opportunities, stands.label("state"), estimates, submissions.c.transaction)
        .add_columns(func.coalesce(revisions.c.reason, step.c.reason).label("reason"))
        .add_columns(func.coalesce(revisions.c.at_ns, step.c.at_ns).label("at_ns"))
        .select_from(step)
        .join(opportunities, opportunities.c.id == step.c.opportunity)
        .outerjoin(after, (after.c.opportunity == step.c.opportunity) & (after.c.previous == step.c.state))
        .outerjoin(estimates, estimates.c.opportunity == step.c.opportunity)
        .outerjoin(submissions, submissions.c.opportunity == step.c.opportunity)
        # A fate that a reorganisation took back has been revised, the newest time last.
        .outerjoin(revisions, revisions.c.opportunity == step.c.opportunity)
        .outerjoin(later, (later.c.opportunity == revisions.c.opportunity) & (later.c.turn > revisions.c.turn))
        .where(after.c.seq.is_(None), later.c.seq.is_(None))
        .order_by(step.c.seq.desc())
        .limit(count)
    )
    if chain is not None:
        query = query.where(opportunities.c.chain == chain)
    if state is not None:
        query = query.where(stands == state)
    with database.begin() as connection:
        rows = connection.execute(query).all()
    return [
        {
            "opportunity": row.id,
            "chain": row.chain,
            "strategy": row.strategy,
            "state": row.state,
            "reason": row.reason,
            "changed_at": time_text(row.at_ns),
            "block_number": row.block_number,
            "token": _address(row.token),
            "pools": [_address(pool) for pool, *_ in json.loads(row.hops)],
            "amount_in_wei": row.amount_in,
            "expected_profit_wei": str(int(row.expected_out) - int(row.amount_in)),
            "simulated_profit_wei": row.profit,
            "estimated_gas_wei": None if row.gas is None else str(row.gas * int(row.gas_price_wei)),
            "transaction": row.transaction,
        }
        for row in rows
    ]


def pnl(database: Database, *, count: int = 10, days: int = 7, now_ns: int | None = None) -> Document:
    """Say what was earned: the first fill ever, the newest ones, totals by chain and strategy, and the last days by token too."""
    now_ns = time.time_ns() if now_ns is None else now_ns
    since_ns = (now_ns // DAY_NS - (days - 1)) * DAY_NS
    first = first_fill(database)
    performances = Analytics(database).refresh()
    return {
        "unit": UNIT,
        "first_included": fill_document(first) if first else None,
        "newest_included": [fill_document(fill) for fill in fills(database, count=count)],
        "totals": [performance_document(each) for each in performances],
        "chains": _chains(performances),
        "days": [line_document(line) for line in by_day(database, since_ns=since_ns)],
    }


def line_document(line: Line) -> Document:
    """Write one day's line; base units of its token, of which the native coin is zero."""
    return {
        "day": line.day,
        "chain": line.chain,
        "strategy": line.strategy,
        "token": _address(line.token),
        "realised": str(line.realised),
        "expected": str(line.expected),
        "difference": str(line.difference),
    }


def performance_document(each: Performance) -> Document:
    """Write one strategy's totals on one chain."""
    return {
        "chain": each.chain,
        "strategy": each.strategy,
        "profit_wei": str(each.profit_wei),
        "gas_wei": str(each.gas_wei),
        "bribe_wei": str(each.bribe_wei),
        "net_wei": str(each.net_wei),
        "submitted": each.submitted,
        "success_rate": each.success_rate,
        "states": each.states,
        "reasons": each.reasons,
    }


def fill_document(fill: Fill) -> Document:
    """Write one included opportunity."""
    return {
        "chain": fill.chain,
        "strategy": fill.strategy,
        "opportunity": fill.opportunity,
        "transaction": fill.transaction,
        "block_number": fill.block_number,
        "included_at": time_text(fill.at_ns),
        "token": _address(fill.token),
        "amount_in_wei": str(fill.amount_in_wei),
        "profit_wei": str(fill.profit_wei),
        "gas_wei": str(fill.gas_wei),
        "l1_fee_wei": str(fill.l1_fee_wei),
        "bribe_wei": str(fill.bribe_wei),
        "net_wei": str(fill.net_wei),
        "expected_net_wei": str(fill.expected_net_wei),
    }


def _chains(performances: Sequence[Performance]) -> Document:
    chains: Document = {}
    for name in dict.fromkeys(each.chain for each in performances):
        own = [each for each in performances if each.chain == name]
        sums = {
            key: sum(getattr(each, key) for each in own) for key in ("profit_wei", "gas_wei", "bribe_wei", "net_wei")
        }
        chains[name] = {key: str(value) for key, value in sums.items()}
    return chains


def _address(text: str) -> str:
    return checksum(bytes.fromhex(text[2:]))


def time_text(at_ns: int) -> str:
    """Write a time: UTC, ISO 8601, milliseconds."""
    return datetime.fromtimestamp(at_ns / SECOND_NS, UTC).isoformat(timespec="milliseconds")


def _switched(act: Switched) -> Document:
    return {
        "at": time_text(act.at_ns),
        "chains": list(act.chains),
        "who": act.who,
        "origin": act.origin,
        "reason": act.reason,
        "switch": act.switch,
    }
