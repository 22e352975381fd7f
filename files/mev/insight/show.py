"""Documents as tables in a terminal; programs take the documents themselves."""

import json
from typing import Any

from rich.console import Console

from mev.insight.tables import show

Document = dict[str, Any]
# Of an opportunity's id so many characters are shown; `mev explain` takes them for it.
ID_CHARACTERS = 12


def status(console: Console, document: Document) -> None:
    """Show how far the engine is."""
    headers = ("Chain", "Head", "Age s", "Seen s ago", "Pools", "Cycles", "In flight", "Included", "Dropped", "Killed")
    rows = []
    for name, chain in document["chains"].items():
        counts = chain["opportunities"]
        cells = [chain[key] for key in ("head", "head_age_seconds", "seen_seconds_ago", "pools", "cycles", "in_flight")]
        cells += [counts["included"], counts["dropped"], "yes" if chain["killed"] else "no"]
        rows.append([name, *("-" if cell is None else str(cell) for cell in cells)])
    console.print(f"Mode: {document['mode']}")
    show(console, headers, rows)
    for each in document["halted"]:
        chains = ", ".join(each["chains"])
        said = f"Halted since {each['at']}: {chains}, by {each['who'] or 'nobody known'} {each['origin']}: {each['reason']}"
        console.print(said, highlight=False, markup=False, soft_wrap=True)


def halts(console: Console, document: Document) -> None:
    """Show who halted and resumed, a row an act."""
    rows = [
        (
            _second(each["at"]),
            each["act"],
            ", ".join(each["chains"]),
            each["who"] or "-",
            each["origin"],
            each["reason"],
        )
        for each in document["halts"]
    ]
    show(console, ("At (UTC)", "Act", "Chains", "Who", "Origin", "Reason"), rows)


def opportunities(console: Console, document: Document) -> None:
    """Show opportunities, a row each, by the first characters of their ids."""
    keys = ("chain", "state", "reason", "amount_in_wei", "expected_profit_wei")
    rows = [
        (_second(each["changed_at"]), *(each[key] for key in keys), each["opportunity"][:ID_CHARACTERS])
        for each in document["opportunities"]
    ]
    headers = ("Changed (UTC)", "Chain", "State", "Reason", "Amount in wei", "Expected profit wei", "Opportunity")
    show(console, headers, rows)


def pnl(console: Console, document: Document) -> None:
    """Show what was earned."""
    headers = ("Chain", "Strategy", "Profit wei", "Gas wei", "Net wei", "Submitted", "Included", "Success")
    rows = []
    for each in document["totals"]:
        rate = "-" if each["success_rate"] is None else f"{each['success_rate']:.1%}"
        amounts = [each[key] for key in ("chain", "strategy", "profit_wei", "gas_wei", "net_wei")]
        rows.append([*amounts, str(each["submitted"]), str(each["states"]["included"]), rate])
    show(console, headers, rows)
    first = document["first_included"]
    if first is None:
        console.print("First arbitrage: none yet")
    else:
        told = f"First arbitrage: {first['net_wei']} wei net on {first['chain']}, {first['transaction']}"
        console.print(told, soft_wrap=True)


def doctor(console: Console, document: Document) -> None:
    """Show what was looked at."""
    rows = [("well" if each["well"] else "NOT WELL", each["check"], each["seen"]) for each in document["findings"]]
    show(console, ("", "Check", "Seen"), rows)


def document(console: Console, document: Document) -> None:
    """Show a document as it is, a key a line."""
    for key, value in document.items():
        shown = value if isinstance(value, str | int | bool) else json.dumps(value, indent=2)
        console.print(f"{key}: {shown}", highlight=False, soft_wrap=True)


def pools(console: Console, document: Document) -> None:
    """Show each chain's pools."""
    for name, chain in document["chains"].items():
        headers = ("Pool", "Factory", "Kind", "Tokens", "Fee ppm", "Price", "Holds", "Quarantined")
        rows = []
        for each in chain["pools"]:
            tokens = f"{each['symbol0']}/{each['symbol1']}"
            cells = (each["pool"], each["factory"], each["kind"], tokens, str(each["fee_ppm"]), each["price"] or "-")
            rows.append([*cells, _holds(each), each["quarantined"] or ""])
        console.print(f"{name}: {len(chain['pools'])} pools at block {chain['block_number']}", highlight=False)
        show(console, headers, rows)


def replay(console: Console, document: Document) -> None:
    """Show what each block opened."""
    headers = ("Block", "Steps", "Pools touched", "Opportunities", "Best expected profit wei", "Together wei")
    rows = []
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
            rows.append([str(row[key]) for key in keys])
    show(console, headers, rows)
    _covered(console, document)


def backtest(console: Console, document: Document) -> None:
    """Show what limits would have let through."""
    headers = (
        "Block",
        "Gas price wei",
        "Opportunities",
        "Together",
        "Taken",
        "Expected profit wei",
        "Expected net wei",
    )
    rows = []
    for row in document["blocks"]:
        if row["opportunities"]:
            keys = ("block_number", "gas_price_wei", "opportunities", "together", "taken")
            rows.append([str(row[key]) for key in (*keys, "expected_profit_wei", "expected_net_wei")])
    show(console, headers, rows)
    console.print(f"Gas: {document['gas_units']} units a transaction")
    console.print(
        f"Refused: {', '.join(f'{reason} {count}' for reason, count in document['refused'].items()) or 'none'}"
    )
    _covered(console, document)


def sandwiches(console: Console, document: Document) -> None:
    """Show sandwiches, and what swaps exposed."""
    found, exposed = [], []
    for row in document["blocks"]:
        for each in row["sandwiches"]:
            keys = (each["party"], each["pool"], str(len(each["victims"])), each["profit_token"], each["profit"])
            found.append([str(row["block_number"]), *keys])
        for each in row["exposed"]:
            cells = (each["transaction"], each["token"], each["extractable"], str(each["slippage_ppm"]), each["limit"])
            protecting = each["protecting_limit"] or "none: send it privately"
            exposed.append([str(row["block_number"]), *cells, protecting])
    show(console, ("Block", "Party", "Pool", "Victims", "Profit token", "Profit"), found)
    headers = ("Block", "Swap", "Token", "Extractable", "Slippage ppm", "Limit", "Protecting limit")
    show(console, headers, exposed)
    for key, value in document["totals"].items():
        console.print(f"{key}: {value}", highlight=False)


def _holds(pool: Document) -> str:
    if pool["reserve0"] is not None:
        return f"{pool['reserve0']} / {pool['reserve1']}"
    return "-" if pool["liquidity"] is None else f"liquidity {pool['liquidity']}"


def _second(at: str) -> str:
    """Write a document's time to the second, as two words."""
    return at[:19].replace("T", " ")


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
