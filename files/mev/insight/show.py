"""Documents as tables in a terminal; programs take the documents themselves."""

import json
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

Document = dict[str, Any]


def status(console: Console, document: Document) -> None:
    """Show how far the engine is."""
    table = Table(
        "Chain", "Head", "Age s", "Seen s ago", "Pools", "Cycles", "In flight", "Included", "Dropped", "Killed"
    )
    for name, chain in document["chains"].items():
        counts = chain["opportunities"]
        cells = [chain[key] for key in ("head", "head_age_seconds", "seen_seconds_ago", "pools", "cycles", "in_flight")]
        cells += [counts["included"], counts["dropped"], "yes" if chain["killed"] else "no"]
        table.add_row(name, *("-" if cell is None else str(cell) for cell in cells))
    console.print(f"Mode: {document['mode']}")
    console.print(table)
    for each in document["halted"]:
        chains = ", ".join(each["chains"])
        said = f"Halted since {each['at']}: {chains}, by {each['who'] or 'nobody known'} {each['origin']}: {each['reason']}"
        console.print(said, highlight=False, markup=False, soft_wrap=True)


def halts(console: Console, document: Document) -> None:
    """Show who halted and resumed, a row an act."""
    table = Table("At", "Act", "Chains", "Who", "Origin", "Reason")
    for each in document["halts"]:
        cells = (each["at"], each["act"], ", ".join(each["chains"]), each["who"] or "-", each["origin"], each["reason"])
        # What somebody wrote is text, not the terminal's markup.
        table.add_row(*(Text(cell) for cell in cells))
    console.print(table)


def opportunities(console: Console, document: Document) -> None:
    """Show opportunities, a row each."""
    table = Table("Changed", "Chain", "State", "Reason", "Amount in wei", "Expected profit wei", "Opportunity")
    keys = ("changed_at", "chain", "state", "reason", "amount_in_wei", "expected_profit_wei", "opportunity")
    for each in document["opportunities"]:
        table.add_row(*(each[key] for key in keys))
    console.print(table)


def pnl(console: Console, document: Document) -> None:
    """Show what was earned."""
    table = Table("Chain", "Strategy", "Profit wei", "Gas wei", "Net wei", "Submitted", "Included", "Success")
    for each in document["totals"]:
        rate = "-" if each["success_rate"] is None else f"{each['success_rate']:.1%}"
        table.add_row(
            *(each[key] for key in ("chain", "strategy", "profit_wei", "gas_wei", "net_wei")),
            str(each["submitted"]),
            str(each["states"]["included"]),
            rate,
        )
    console.print(table)
    first = document["first_included"]
    if first is None:
        console.print("First arbitrage: none yet")
    else:
        console.print(f"First arbitrage: {first['net_wei']} wei net on {first['chain']}, {first['transaction']}")


def doctor(console: Console, document: Document) -> None:
    """Show what was looked at."""
    table = Table("", "Check", "Seen")
    for finding in document["findings"]:
        table.add_row("well" if finding["well"] else "NOT WELL", finding["check"], finding["seen"])
    console.print(table)


def document(console: Console, document: Document) -> None:
    """Show a document as it is, a key a line."""
    for key, value in document.items():
        shown = value if isinstance(value, str | int | bool) else json.dumps(value, indent=2)
        console.print(f"{key}: {shown}", highlight=False, soft_wrap=True)


def pools(console: Console, document: Document) -> None:
    """Show each chain's pools."""
    for name, chain in document["chains"].items():
        table = Table("Pool", "Factory", "Kind", "Tokens", "Fee ppm", "Price", "Holds", "Quarantined")
        for each in chain["pools"]:
            tokens = f"{each['symbol0']}/{each['symbol1']}"
            held = (
                f"{each['reserve0']} / {each['reserve1']}" if each["kind"] == "v2" else f"liquidity {each['liquidity']}"
            )
            cells = (each["pool"], each["factory"], each["kind"], tokens, str(each["fee_ppm"]), each["price"] or "-")
            table.add_row(*cells, held, each["quarantined"] or "")
        console.print(f"{name}: {len(chain['pools'])} pools at block {chain['block_number']}", highlight=False)
        console.print(table)


def replay(console: Console, document: Document) -> None:
    """Show what each block opened."""
    table = Table("Block", "Steps", "Pools touched", "Opportunities", "Best expected profit wei", "Together wei")
    for row in document["blocks"]:
        if row["opportunities"]:
            keys = (
                "block_number",
                "steps",
                "pools_touched",
                "opportunities",
                "best_expected_profit_wei",
                "together_wei",
            )
            table.add_row(*(str(row[key]) for key in keys))
    console.print(table)
    _covered(console, document)


def backtest(console: Console, document: Document) -> None:
    """Show what limits would have let through."""
    table = Table(
        "Block", "Gas price wei", "Opportunities", "Together", "Taken", "Expected profit wei", "Expected net wei"
    )
    for row in document["blocks"]:
        if row["opportunities"]:
            keys = ("block_number", "gas_price_wei", "opportunities", "together", "taken")
            table.add_row(*(str(row[key]) for key in (*keys, "expected_profit_wei", "expected_net_wei")))
    console.print(table)
    console.print(f"Gas: {document['gas_units']} units a transaction")
    console.print(
        f"Refused: {', '.join(f'{reason} {count}' for reason, count in document['refused'].items()) or 'none'}"
    )
    _covered(console, document)


def sandwiches(console: Console, document: Document) -> None:
    """Show sandwiches, and what swaps exposed."""
    table = Table("Block", "Party", "Pool", "Victims", "Profit token", "Profit")
    exposed = Table("Block", "Swap", "Token", "Extractable", "Slippage ppm", "Limit", "Protecting limit")
    for row in document["blocks"]:
        for each in row["sandwiches"]:
            keys = (each["party"], each["pool"], str(len(each["victims"])), each["profit_token"], each["profit"])
            table.add_row(str(row["block_number"]), *keys)
        for each in row["exposed"]:
            cells = (each["transaction"], each["token"], each["extractable"], str(each["slippage_ppm"]), each["limit"])
            exposed.add_row(str(row["block_number"]), *cells, each["protecting_limit"] or "none: send it privately")
    console.print(table)
    console.print(exposed)
    for key, value in document["totals"].items():
        console.print(f"{key}: {value}", highlight=False)


def _covered(console: Console, document: Document) -> None:
    """Show what was looked at, and the sums; blocks that opened nothing have no row."""
    covers = document["covers"]
    console.print(
        f"Covers: {covers['blocks']} blocks ({covers['first_block']} to {covers['last_block']}) from {document['source']}, "
        f"{covers['pools']} pools, {covers['cycles']} cycles, {covers['unknown_pools']} pools that could not be followed",
        highlight=False,
    )
    for key, value in document["totals"].items():
        console.print(f"{key}: {value}", highlight=False)
