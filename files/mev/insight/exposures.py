"""What the swaps of a recorded block exposed to a sandwich, each on the reserves as they were before its transaction.

A router's calldata says what a call wanted and its limits (mev.chain.abi.routers); through which pairs it went is what its transaction did. Looked
at are swaps of V2 pairs alone whose reserves are known: traces do not tell a V3 pool's ticks. Functions for tokens that tax transfers are left
out: what such a swap would get cannot be computed from reserves.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import msgspec

from mev.chain.abi.routers import decode_call
from mev.chain.traces import RecordedBlock, Transaction
from mev.domain import Pool
from mev.domain.calls import Act, RouterAct, RouterCall, RouterHop, RouterSwap, Venue
from mev.domain.market import Address, Hash
from mev.domain.trades import Trade
from mev.insight.replay import state_before, steps_of
from mev.market.recorded import RecordedMarket
from mev.market.state import MarketState
from mev.trading.strategies.router_plan import UNKEPT, Unevaluated, plan_of
from mev.trading.strategies.sandwich import Exposure, PairCurve, PathHop
from mev.trading.strategies.sandwich_plan import evaluate_plan

TAXED = "SupportingFeeOnTransferTokens"


class ExposedSwap(msgspec.Struct, frozen=True, kw_only=True):
    """A transaction's swaps, so many, and what they exposed."""

    transaction: Hash
    position: int
    swaps: int
    exposure: Exposure


class Exposures(msgspec.Struct, frozen=True, kw_only=True):
    """A block's swaps through routers: those that were evaluated, and by why they were not, how many were not."""

    evaluated: tuple[ExposedSwap, ...]
    not_evaluated: dict[str, int]

    @property
    def others(self) -> int:
        """How many swaps were not evaluated."""
        return sum(self.not_evaluated.values())

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
    others: Counter[str] = Counter()
    for transaction in recorded.transactions:
        call = _call(transaction)
        if call is not None and call.swaps:
            found = _evaluated(
                call, transaction, _resolver(trades.get(transaction.position, ()), pools, state), capital
            )
            if isinstance(found, Unevaluated):
                others[found.value] += len(call.swaps)
            else:
                evaluated.append(
                    ExposedSwap(
                        transaction=transaction.hash,
                        position=transaction.position,
                        swaps=len(call.swaps),
                        exposure=found,
                    )
                )
        if transaction.hash in steps:
            state.apply_block(*steps[transaction.hash])
    return Exposures(evaluated=tuple(evaluated), not_evaluated=dict(others))


def _call(transaction: Transaction) -> RouterCall | None:
    if not transaction.calls:
        return None
    call = decode_call(transaction.calls[0].input, transaction.calls[0].value_wei)
    return call if isinstance(call, RouterCall) else None


def _evaluated(
    call: RouterCall,
    transaction: Transaction,
    resolve: Callable[[RouterHop], PathHop | Unevaluated],
    capital: int,
) -> Exposure | Unevaluated:
    if TAXED in call.function:
        return Unevaluated.TAXED
    first = transaction.calls[0]
    plan = plan_of(call, resolve, first.to, _wrapped(call), first.value_wei)
    return plan if isinstance(plan, Unevaluated) else evaluate_plan(plan, capital)


def _wrapped(call: RouterCall) -> Address | None:
    """Return the wrapped native coin as a call shows it: what the router swaps once it has wrapped, or what it swaps for before it unwraps."""
    before: RouterSwap | None = None
    wraps = False
    for step in call.steps:
        if isinstance(step, RouterAct):
            wraps |= step.kind is Act.WRAP and step.to_router
            if step.kind is Act.UNWRAP and before is not None and before.to_router:
                return before.hops[-1].token_out
        else:
            if wraps and step.from_router:
                return step.hops[0].token_in
            before = step
    return None


def _resolver(
    trades: Sequence[Trade], pools: Mapping[Address, Pool], state: MarketState
) -> Callable[[RouterHop], PathHop | Unevaluated]:
    """Say through which pair a transaction made a hop, as far as that is known."""

    def resolve(hop: RouterHop) -> PathHop | Unevaluated:
        through = [each for each in trades if (each.token_in, each.token_out) == (hop.token_in, hop.token_out)]
        if hop.venue is not Venue.V2 or len(through) != 1 or through[0].pool not in pools:
            return UNKEPT.get(hop.venue, Unevaluated.UNWATCHED_POOL)
        trade, pool = through[0], pools[through[0].pool]
        held = state.v2(pool.address)
        curve = PairCurve(held.reserve0, held.reserve1, pool.fee_numerator, pool.fee_denominator)
        return PathHop(pool.address, curve, trade.zero_for_one)

    return resolve
