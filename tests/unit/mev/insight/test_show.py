"""What the mev command shows in a terminal: every value whole, however narrow it is."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from mev.insight import show, tables
from rich.console import Console

WEI = "123456789012345678901"
ADDRESS = "0x" + "aB" * 20
HASH = "0x" + "cd" * 32
CHAINS = ("ethereum", "optimism", "arbitrum", "sepolia", "polygon", "base")
AT = "2026-11-30T22:01:03.123+00:00"

STATUS = {
    "mode": "observe",
    "halted": [],
    "chains": {
        name: {
            "head": 123_456_789,
            "head_age_seconds": 12.3,
            "seen_seconds_ago": 1.2,
            "pools": 12_345,
            "cycles": 234_567,
            "in_flight": 1,
            "killed": name == "base",
            "opportunities": {"included": 12_345, "dropped": 1_234_567},
        }
        for name in CHAINS
    },
}
OPPORTUNITIES = {
    "opportunities": [
        {
            "changed_at": AT,
            "chain": name,
            "state": "included",
            "reason": "simulation_below_expected",
            "amount_in_wei": WEI,
            "expected_profit_wei": "-" + WEI,
            "opportunity": "0123456789abcdef" * 2,
        }
        for name in CHAINS
    ]
}
PNL = {
    "totals": [
        {
            "chain": "ethereum",
            "strategy": "atomic_arbitrage",
            "profit_wei": WEI,
            "gas_wei": WEI,
            "net_wei": "-" + WEI,
            "submitted": 1234,
            "states": {"included": 1234},
            "success_rate": 0.5,
        }
    ],
    "first_included": {"net_wei": WEI, "chain": "ethereum", "transaction": HASH},
}
HALTS = {
    "halts": [
        {
            "at": AT,
            "act": "resume",
            "chains": [*CHAINS],
            "who": "a.very.long.name",
            "origin": "over HTTP from 192.0.2.1",
            "reason": "[red]the oracle[/red] \x1b[2Jis off",
        }
    ]
}
DOCTOR = {
    "findings": [
        {"well": False, "check": "contracts of ethereum", "seen": f"no contract at tokens: USDC ({ADDRESS})"},
        {
            "well": True,
            "check": "database performance",
            "seen": "/data/blockchain/nodes/logs/performance_metrics.db: well",
        },
    ]
}
POOLS = {
    "chains": {
        "ethereum": {
            "block_number": 1,
            "pools": [
                {
                    "pool": ADDRESS,
                    "factory": "pancakeswap_v3",
                    "kind": "v2",
                    "symbol0": "WETH",
                    "symbol1": "USDC",
                    "fee_ppm": 3000,
                    "price": "0.000384615384615",
                    "reserve0": WEI,
                    "reserve1": WEI,
                    "quarantined": "reserves_absurd",
                }
            ],
        }
    }
}
COVERED = {
    "covers": {"blocks": 1, "first_block": 1, "last_block": 1, "pools": 1, "cycles": 1, "unknown_pools": 0},
    "source": "the node",
    "totals": {"opportunities": 1},
}
REPLAY = {
    **COVERED,
    "blocks": [
        {
            "block_number": 123_456_789,
            "steps": 1,
            "pools_touched": 12,
            "opportunities": 3,
            "best_expected_profit_wei": WEI,
            "together_wei": WEI,
        }
    ],
}
BACKTEST = {
    **COVERED,
    "gas_units": 1,
    "refused": {},
    "blocks": [
        {
            "block_number": 123_456_789,
            "gas_price_wei": WEI,
            "opportunities": 3,
            "together": 2,
            "taken": 1,
            "expected_profit_wei": WEI,
            "expected_net_wei": WEI,
        }
    ],
}
SANDWICHES = {
    "blocks": [
        {
            "block_number": 123_456_789,
            "sandwiches": [
                {"party": ADDRESS, "pool": ADDRESS, "victims": [HASH], "profit_token": ADDRESS, "profit": WEI}
            ],
            "exposed": [
                {
                    "transaction": HASH,
                    "token": ADDRESS,
                    "extractable": WEI,
                    "slippage_ppm": 5000,
                    "limit": WEI,
                    "protecting_limit": None,
                }
            ],
        }
    ],
    "totals": {"sandwiches": 1},
}
ALL: list[tuple[Callable[..., None], Any, set[str]]] = [
    (show.status, STATUS, {*CHAINS, "123456789", "1234567", "12345", "234567"}),
    (
        show.opportunities,
        OPPORTUNITIES,
        {*CHAINS, "simulation_below_expected", WEI, "-" + WEI, "0123456789ab", "22:01:03"},
    ),
    (show.pnl, PNL, {"ethereum", "atomic_arbitrage", WEI, "-" + WEI, HASH}),
    (show.halts, HALTS, {"a.very.long.name", "[red]the", "oracle[/red]", "192.0.2.1", "22:01:03"}),
    (show.doctor, DOCTOR, {f"({ADDRESS})", "WELL", "/data/blockchain/nodes/logs/performance_metrics.db:"}),
    (show.pools, POOLS, {ADDRESS, WEI, "pancakeswap_v3", "reserves_absurd", "WETH/USDC"}),
    (show.replay, REPLAY, {"123456789", WEI}),
    (show.backtest, BACKTEST, {"123456789", WEI}),
    (show.sandwiches, SANDWICHES, {ADDRESS, HASH, WEI, "privately"}),
]


def test_what_a_pool_holds_is_shown_whatever_its_kind_is() -> None:
    """What has reserves shows them: Solidly's, Balancer's and Curve's as well; what holds neither shows nothing."""
    ethereum: Any = POOLS["chains"]["ethereum"]
    [pair] = ethereum["pools"]
    empty = {"reserve0": None, "reserve1": None, "liquidity": None}
    ones = [
        {**pair, "kind": "curve", "reserve0": "1001", "reserve1": "1002", "liquidity": None},
        {**pair, **empty, "kind": "v3", "liquidity": "1003"},
        {**pair, **empty, "kind": "curve_meta"},
    ]
    document = {"chains": {"ethereum": {**ethereum, "pools": ones}}}
    text = shown(lambda console: show.pools(console, document), 250)
    assert "1001 / 1002" in text
    assert "liquidity 1003" in text
    assert "None" not in text


def shown(told: Callable[[Console], None], width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    told(console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [40, 80, 120, 200])
@pytest.mark.parametrize(("told", "document", "whole"), ALL, ids=[each[0].__name__ for each in ALL])
def test_no_value_is_cut(told: Callable[..., None], document: Any, whole: set[str], width: int) -> None:
    text = shown(lambda console: told(console, document), width)
    assert "…" not in text
    assert whole <= set(text.replace("│", " ").split())
    assert "\x1b" not in text


@pytest.mark.parametrize("told", ["status"])
def test_six_chains_are_a_table_in_80_columns(told: str) -> None:
    text = shown(lambda console: getattr(show, told)(console, STATUS), 80)
    rows = [line for line in text.splitlines() if line.startswith(CHAINS)]
    assert len(rows) == len(CHAINS)
    assert max(len(line) for line in text.splitlines()) <= 80


def test_a_table_is_wide_then_narrow_then_lines() -> None:
    def of(width: int) -> list[str]:
        rows = [("ethereum", "123456789"), ("base", "1")]
        return shown(lambda console: tables.show(console, ("Chain", "Head"), rows), width).splitlines()

    # 17 characters; two columns with lines take 7 more, without them 2.
    assert of(24)[0].startswith("┏")
    assert of(23)[1].split() == ["ethereum", "123456789"]
    assert of(19)[1].split() == ["ethereum", "123456789"]
    assert of(18) == ["Chain: ethereum", "Head: 123456789", "", "Chain: base", "Head: 1", ""]


def test_a_table_without_rows_is_its_headers() -> None:
    assert shown(lambda console: tables.show(console, ("Chain", "Head"), []), 80).split("\n")[1].split("┃")[1:3] == [
        " Chain ",
        " Head ",
    ]
