"""What the swaps of a recorded block exposed to a sandwich, each on the reserves as they were before its transaction.

A router's calldata says what a swap wanted and its limit (mev.chain.abi.routers); through which pairs it went is what its transaction did. Looked
at are swaps of V2 pairs alone whose reserves are known: traces do not tell a V3 pool's ticks. Functions for tokens that tax transfers are left
out: what such a swap would get cannot be computed from reserves.
"""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from mev.chain.abi.routers import decode_call
from mev.chain.traces import RecordedBlock, Transaction
from mev.domain import Pool
from mev.domain.calls import RouterCall, RouterSwap, Venue
from mev.domain.market import Address, Hash
from mev.domain.trades import Trade
from mev.insight.replay import state_before, steps_of
from mev.market.recorded import RecordedMarket
from mev.market.state import MarketState
from mev.trading.strategies.sandwich import Exposure, PairCurve, PathHop, evaluate

TAXED = "SupportingFeeOnTransferTokens"


class ExposedSwap(msgspec.Struct, frozen=True, kw_only=True):
    """A transaction's swap and what it exposed."""

    transaction: Hash
    position: int
    swap: RouterSwap
    exposure: Exposure


class Exposures(msgspec.Struct, frozen=True, kw_only=True):
    """A block's swaps through routers: those that were evaluated, and how many were not."""

    evaluated: tuple[ExposedSwap, ...]
    others: int

    @property
    def paper_profit(self) -> dict[Address, int]:
        """What could have been taken of them all, by the token that a sandwich puts in, base units, before gas; nothing was."""
        sums: dict[Address, int] = {}
        for each in self.evaluated:
            if each.exposure.paper_profit:
                token = each.exposure.token_in
                sums[token] = sums.get(token, 0) + each.exposure.paper_profit
        return sums


def exposures_of(recorded: RecordedBlock, market: RecordedMarket, capital: int) -> Exposures:
    """Evaluate every swap of a block that can be; `capital` bounds what goes into a sandwich, base units of any token."""
    pools = {pool.address: pool for pool in market.start}
    trades: dict[int, list[Trade]] = {}
    for trade in market.trades:
        trades.setdefault(trade.position, []).append(trade)
    state = state_before(recorded, market)
    steps = {block.hash: (block, logs) for block, logs in steps_of(recorded, market)}
    evaluated: list[ExposedSwap] = []
    others = 0
    for transaction in recorded.transactions:
        swaps = _swaps(transaction)
        # Of several swaps in one transaction each changes what the next one finds.
        if len(swaps) == 1:
            path = _path(swaps[0], trades.get(transaction.position, ()), pools, state)
            exposure = evaluate(path, swaps[0], capital) if path else None
            if exposure is not None:
                evaluated.append(
                    ExposedSwap(
                        transaction=transaction.hash, position=transaction.position, swap=swaps[0], exposure=exposure
                    )
                )
            else:
                others += 1
        else:
            others += len(swaps)
        if transaction.hash in steps:
            state.apply_block(*steps[transaction.hash])
    return Exposures(evaluated=tuple(evaluated), others=others)


def _swaps(transaction: Transaction) -> Sequence[RouterSwap]:
    if not transaction.calls:
        return ()
    call = decode_call(transaction.calls[0].input, transaction.calls[0].value_wei)
    return call.swaps if isinstance(call, RouterCall) and TAXED not in call.function else ()


def _path(
    swap: RouterSwap, trades: Sequence[Trade], pools: Mapping[Address, Pool], state: MarketState
) -> list[PathHop] | None:
    """Return the pairs that a swap went through; None where one of them is not known or is of another kind."""
    found = list(_hops(swap, trades, pools, state))
    return found if len(found) == len(swap.hops) else None


def _hops(
    swap: RouterSwap, trades: Sequence[Trade], pools: Mapping[Address, Pool], state: MarketState
) -> Iterator[PathHop]:
    for hop in swap.hops:
        through = [each for each in trades if (each.token_in, each.token_out) == (hop.token_in, hop.token_out)]
        if hop.venue is not Venue.V2 or len(through) != 1 or through[0].pool not in pools:
            return
        trade, pool = through[0], pools[through[0].pool]
        held = state.v2(pool.address)
        curve = PairCurve(held.reserve0, held.reserve1, pool.fee_numerator, pool.fee_denominator)
        yield PathHop(pool.address, curve, trade.zero_for_one)
