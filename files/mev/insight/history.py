"""What `mev replay`, `mev backtest` and `mev sandwiches` tell: documents with stable keys, money as strings of whole wei."""

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mev.chain.rpc import Rpc
from mev.chain.traces import read_recorded
from mev.domain import Opportunity
from mev.domain.market import Address
from mev.insight.exposures import ExposedSwap, exposures_of
from mev.insight.replay import Covered, Detected, replay_range, replay_recorded
from mev.insight.report import UNIT
from mev.insight.sandwiches import Sandwich, find_sandwiches
from mev.market.recorded import read_market
from mev.runtime.address import checksum
from mev.runtime.config import ChainConfig, Config
from mev.trading.execution import fees
from mev.trading.risk import Limits, Proposal, Standing, refuse

MAX_BLOCKS = 100_000
# Capital of a sandwich on paper: more than any pool holds.
UNLIMITED = 2**112
_RANGE = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18}))?")
_RECORDED = re.compile(r"[0-9]+\.json(\.gz)?")

Document = dict[str, Any]
# Called with how many blocks are done, of how many.
Progress = Callable[[int, int], None]


class HistoryError(Exception):
    """What was asked for are no blocks; the message says what is wrong and what is allowed."""


def replay(config: Config, chain: str, blocks: Sequence[str], progress: Progress) -> Document:
    """Say what the live detectors find in past blocks, block by block."""
    rows: list[Document] = []
    total = best = together = 0
    covered = Covered(pools=0, cycles=0, unknown_pools=0)
    for detected, seen in _detections(config.chains[chain], chain, blocks, progress):
        covered = _sum(covered, seen) if _is_files(blocks) else seen
        top = detected.opportunities[0] if detected.opportunities else None
        rows.append(
            {
                **_block(detected),
                "opportunities": len(detected.opportunities),
                "best_expected_profit_wei": str(top.expected_profit if top else 0),
                "together_wei": str(detected.together_wei),
                "best": _opportunity(top) if top else None,
            }
        )
        total += len(detected.opportunities)
        best = max(best, top.expected_profit if top else 0)
        together += detected.together_wei
    return {
        "chain": chain,
        "unit": UNIT,
        "source": "files" if _is_files(blocks) else "node",
        "covers": _covers(rows, covered),
        "blocks": rows,
        "totals": {
            "opportunities": total,
            "best_expected_profit_wei": str(best),
            "together_wei": str(together),
        },
    }


def backtest(config: Config, chain: str, blocks: Sequence[str], gas: int, progress: Progress) -> Document:
    """Say what the chain's limits would have let through of what is found, at `gas` units a transaction."""
    settings = config.chains[chain]
    limits = _limits(settings)
    rows: list[Document] = []
    reasons: Counter[str] = Counter()
    covered = Covered(pools=0, cycles=0, unknown_pools=0)
    net = gross = sent = 0
    for detected, seen in _detections(settings, chain, blocks, progress):
        covered = _sum(covered, seen) if _is_files(blocks) else seen
        price = fees.offer(detected.block.base_fee_wei, 0, limits.max_gas_price_wei).next_price_wei
        taken: list[Proposal] = []
        through: frozenset[Address] = frozenset()
        # Not of those together alone: where the better one of two through a pool is refused, the other one is sent.
        for each in detected.opportunities:
            proposal = Proposal(opportunity=each, profit_wei=each.expected_profit, gas=gas, gas_price_wei=price)
            standing = Standing(killed=False, block_age_seconds=0, in_flight=len(taken), pools_in_flight=through)
            if (reason := refuse(proposal, standing, limits, detected.pools)) is None:
                taken.append(proposal)
                # Two tokens of several are a pool each here; a swap through one changes all of the whole.
                wholes = {detected.pools[hop.pool].whole for hop in each.cycle.hops}
                through |= {address for address, pool in detected.pools.items() if pool.whole in wholes}
            else:
                reasons[reason] += 1
        rows.append(
            {
                **_block(detected),
                "gas_price_wei": str(price),
                "opportunities": len(detected.opportunities),
                "together": len(detected.together),
                "taken": len(taken),
                "expected_profit_wei": str(sum(each.profit_wei for each in taken)),
                "expected_net_wei": str(sum(each.net_wei for each in taken)),
            }
        )
        sent += len(taken)
        gross += sum(each.profit_wei for each in taken)
        net += sum(each.net_wei for each in taken)
    return {
        "chain": chain,
        "unit": UNIT,
        "source": "files" if _is_files(blocks) else "node",
        "gas_units": gas,
        "covers": _covers(rows, covered),
        "blocks": rows,
        "refused": dict(sorted(reasons.items())),
        "totals": {"taken": sent, "expected_profit_wei": str(gross), "expected_net_wei": str(net)},
    }


def sandwiches(blocks: Sequence[str], progress: Progress) -> Document:
    """Say which sandwiches recorded blocks hold, and what each swap of theirs exposed."""
    if not _is_files(blocks):
        raise HistoryError(
            "mev sandwiches takes files of recorded blocks; allowed: paths of FILE.json[.gz] or directories"
        )
    files = _files(blocks)
    rows: list[Document] = []
    for number, path in enumerate(files, 1):
        recorded = read_recorded(path)
        market = read_market(recorded)
        exposed = exposures_of(recorded, market, UNLIMITED)
        rows.append(
            {
                "block_number": recorded.number,
                "trades": len(market.trades),
                "sandwiches": [_sandwich(each) for each in find_sandwiches(market.trades)],
                "swaps_evaluated": sum(each.swaps for each in exposed.evaluated),
                "swaps_not_evaluated": exposed.others,
                "not_evaluated": exposed.not_evaluated,
                "exposed": [_exposed(each) for each in exposed.evaluated if each.exposure.paper_profit],
                "paper_profit": {checksum(token): str(amount) for token, amount in exposed.paper_profit.items()},
            }
        )
        progress(number, len(files))
    return {
        "unit": "base units of the token that is named; before gas; nothing was sent",
        "blocks": rows,
        "totals": {
            "sandwiches": sum(len(row["sandwiches"]) for row in rows),
            "swaps_evaluated": sum(row["swaps_evaluated"] for row in rows),
            "swaps_exposed": sum(len(row["exposed"]) for row in rows),
        },
    }


def _detections(
    config: ChainConfig, chain: str, blocks: Sequence[str], progress: Progress
) -> Iterator[tuple[Detected, Covered]]:
    if _is_files(blocks):
        files = _files(blocks)
        for number, path in enumerate(files, 1):
            detected, covered, _ = replay_recorded(path, chain, config)
            yield detected, covered
            progress(number, len(files))
        return
    if len(blocks) != 1:
        raise HistoryError(f"{len(blocks)} ranges of blocks are given; allowed: one, FIRST-LAST, or files")
    first, last = _range(blocks[0])

    async def fetch() -> list[tuple[Detected, Covered]]:
        found: list[tuple[Detected, Covered]] = []
        async with Rpc(config.end_points, chain_id=config.id) as rpc:
            async for each in replay_range(rpc, chain, config, first, last):
                found.append(each)
                progress(len(found), last - first + 1)
        return found

    yield from asyncio.run(fetch())


def _is_files(blocks: Sequence[str]) -> bool:
    return not all(_RANGE.fullmatch(each) for each in blocks)


def _range(text: str) -> tuple[int, int]:
    found = _RANGE.fullmatch(text)
    if found is None:
        raise HistoryError(f"{text!r} is no range of blocks; allowed: FIRST-LAST, or one number")
    first, last = int(found[1]), int(found[2] or found[1])
    if not first <= last < first + MAX_BLOCKS:
        raise HistoryError(
            f"{text} are no blocks; allowed: FIRST-LAST, FIRST not after LAST, at most {MAX_BLOCKS} blocks"
        )
    return first, last


def _files(blocks: Sequence[str]) -> list[Path]:
    files: list[Path] = []
    for each in map(Path, blocks):
        if each.is_dir():
            files += sorted(path for path in each.iterdir() if _RECORDED.fullmatch(path.name))
        elif each.is_file():
            files.append(each)
        else:
            raise HistoryError(
                f"{each} is neither blocks nor a file; allowed: FIRST-LAST, files of recorded blocks, directories"
            )
    if not files:
        raise HistoryError(
            f"{', '.join(blocks)} holds no recorded block; allowed: files named NUMBER.json or NUMBER.json.gz"
        )
    return files


def _sum(one: Covered, other: Covered) -> Covered:
    return Covered(
        pools=one.pools + other.pools,
        cycles=one.cycles + other.cycles,
        unknown_pools=one.unknown_pools + other.unknown_pools,
    )


def _covers(rows: Sequence[Document], covered: Covered) -> Document:
    return {
        "first_block": rows[0]["block_number"] if rows else None,
        "last_block": rows[-1]["block_number"] if rows else None,
        "blocks": len(rows),
        "pools": covered.pools,
        "cycles": covered.cycles,
        "unknown_pools": covered.unknown_pools,
        "strategies": ["atomic_arbitrage"],
    }


def _block(detected: Detected) -> Document:
    return {
        "block_number": detected.block.number,
        "base_fee_wei": str(detected.block.base_fee_wei),
        "steps": detected.steps,
        "pools_touched": detected.touched,
    }


def _opportunity(each: Opportunity) -> Document:
    return {
        "opportunity": each.id,
        "strategy": each.strategy,
        "token": checksum(each.cycle.token),
        "pools": [checksum(hop.pool) for hop in each.cycle.hops],
        "amount_in_wei": str(each.amount_in),
        "expected_profit_wei": str(each.expected_profit),
    }


def _sandwich(each: Sandwich) -> Document:
    return {
        "party": checksum(each.party),
        "pool": checksum(each.front.pool),
        "front": "0x" + each.front.transaction.hex(),
        "victims": ["0x" + victim.transaction.hex() for victim in each.victims],
        "back": "0x" + each.back.transaction.hex(),
        "profit_token": checksum(each.front.token_in),
        "profit": str(each.profit),
    }


def _exposed(each: ExposedSwap) -> Document:
    exposure = each.exposure
    advised = exposure.protecting_limit
    return {
        "transaction": "0x" + each.transaction.hex(),
        "pool": checksum(exposure.pool),
        "token": checksum(exposure.token_in),
        "front_in": str(exposure.front_in),
        "extractable": str(exposure.extractable),
        "exact_out": exposure.exact_out,
        "quoted": str(exposure.quoted),
        "limit": str(exposure.limit),
        "slippage_ppm": exposure.slippage_ppm,
        "protecting_limit": None if advised is None else str(advised),
    }


def _limits(config: ChainConfig) -> Limits:
    """The chain's limits on one trade; those of a day have no meaning in blocks that are past."""
    return Limits(
        max_amount_in_wei=config.risk.max_amount_in_wei,
        min_profit_wei=config.risk.min_profit_wei,
        max_gas_price_wei=config.risk.max_gas_price_wei,
        max_daily_loss_wei=UNLIMITED,
        max_in_flight=config.risk.max_in_flight,
        max_block_age_seconds=config.allowed_lag_seconds,
        deny_tokens=frozenset(config.risk.deny_tokens),
        max_gas=config.risk.max_gas,
    )
