"""Liquidations on Aave V3 and Compound V3 as cycles: native coin into the debt's token, the debt paid, the collateral back into native coin.

A cycle has up to three swaps beside the liquidation: as many steps as the executor takes. What is put in is searched, since the profit is, but for rounding,
concave in it. The whole of a debt can only be covered where it is in the cycle's own token: until the transaction is in a block the debt grows by
interest, so a little more is offered than is owed, and what the pool does not take has to be of use. Otherwise a part is covered that leaves the pool's least leftover on both sides.

It is paid for with the executor's capital, or on credit: the first pool of the path is paid last, or where native coin itself is owed a pool lends it. Whichever leaves more after the
gas that credit takes is chosen; without capital, credit.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import product
from typing import NamedTuple

from mev.domain import Block, Cycle, Flash, Hop, Opportunity, Pool, Seizure
from mev.domain.market import Address
from mev.market.amm import AmmError
from mev.market.lending.aave_market import AaveMarket
from mev.market.lending.comet_market import CometMarket
from mev.market.lending.takings import LeftAlone, Taking, Watched
from mev.market.lending.wad_ray import Overflowed
from mev.market.lending.watch import Watch
from mev.market.state import MarketState
from mev.search.legs import AnyLeg, amounts, legs_of
from mev.trading.inventory import Inventory
from mev.trading.strategies.credit import Credit, Lenders, gives_first

NAME = "liquidation"
MOST_SWAPS = 3
# Of the ways into a debt's token and out of a collateral's, the best few at a middling amount are tried with each other.
WAYS = 3
NEIGHBOURS = 2
# What a debt may grow by until the transaction is in a block: what is offered more than is owed.
OFFER = (1001, 1000)

Way = tuple[Hop, ...]
LendingMarket = AaveMarket | CometMarket


class _Plan(NamedTuple):
    """A liquidation with its swaps, sized: `held` is what the first step is given, then what is held after each; `put_in` is more where that is lent for a fee."""

    taking: Taking
    into: Way
    out: Way
    held: tuple[int, ...]
    back: int
    put_in: int
    credit: Credit | None

    @property
    def profit(self) -> int:
        return self.back - self.put_in


class Liquidations:
    """Looks at the borrowers of a chain's markets after every block."""

    def __init__(
        self,
        chain: str,
        wrapped_native: Address,
        state: MarketState,
        markets: Sequence[LendingMarket],
        inventory: Inventory | None = None,
    ) -> None:
        self._chain = chain
        self._token = wrapped_native
        self._state = state
        self._markets = [(market, Watch()) for market in markets]
        self._inventory = inventory or Inventory()
        self._routes, self._known = _Routes(state.pools().values()), len(state.pools())
        self._lenders = Lenders(state.pools().values(), wrapped_native)
        # By pool and borrower: what was looked at when nothing was to be had, or it was told of, and through which pools.
        self._seen: dict[tuple[Address, Address], tuple[object, frozenset[Address]]] = {}
        self._left: dict[tuple[Address, Address], LeftAlone] = {}

    def opportunities(self, block: Block, touched: Collection[Address], capital: int) -> list[Opportunity]:
        """Return for each borrower the liquidation that leaves most, where one leaves anything and something about it has changed.

        `touched` are pools, of swaps or of lending, that are to be looked at again; no amount_in exceeds `capital`, or on credit the inventory's limit.
        """
        if len(self._state.pools()) > self._known:
            self._routes, self._known = _Routes(self._state.pools().values()), len(self._state.pools())
            self._lenders = Lenders(self._state.pools().values(), self._token)
        found = []
        for market, watch in self._markets:
            book = market.book
            if book is None or book.block.hash != block.hash:
                continue
            changed, anew = market.take_changes()
            below = [*watch.liquidatable(book, changed, anew=anew), *book.sellers()]
            for borrower in below:
                plan = self._plan(book, market.config.pool, borrower, touched, capital)
                if plan is not None and plan.profit > 0:
                    found.append(self._opportunity(block, market, borrower, plan))
            self._forget(market.config.pool, frozenset(below))
        return sorted(found, key=lambda opportunity: opportunity.expected_profit, reverse=True)

    def left_alone(self, pool: Address) -> Counter[LeftAlone]:
        """Count a market's borrowers below the threshold for whom there is nothing to send, by the reason."""
        return Counter(why for (of, _), why in self._left.items() if of == pool)

    def _forget(self, pool: Address, below: Collection[Address]) -> None:
        """Drop what was kept of borrowers who are above the threshold again, or gone."""
        for of, borrower in [*self._seen]:
            if of == pool and borrower not in below:
                del self._seen[of, borrower]
                self._left.pop((of, borrower), None)

    def _plan(
        self, book: Watched, pool: Address, borrower: Address, touched: Collection[Address], capital: int
    ) -> _Plan | None:
        told = book.takings(borrower, self._token)
        if told is None:
            return None
        what = (told.what, capital, self._inventory.empty)
        seen = self._seen.get((pool, borrower))
        if seen is not None and seen[0] == what and pool not in touched and seen[1].isdisjoint(touched):
            return None
        best: _Plan | None = None
        through: set[Address] = set()
        came = told.came
        for taking in told.found:
            for into, out in self._ways(taking, capital, through):
                came = max(came, LeftAlone.NO_SIZE)
                for plan in self._funded(taking, into, out, capital):
                    if best is None or self._worth(plan, book.block) > self._worth(best, book.block):
                        best = plan
        self._seen[pool, borrower] = (what, frozenset(through))
        if best is not None and best.profit > 0:
            self._left.pop((pool, borrower), None)
        else:
            self._left[pool, borrower] = came if best is None else LeftAlone.NO_PROFIT
        return best

    def _funded(self, taking: Taking, into: Way, out: Way, capital: int) -> Iterator[_Plan]:
        """Yield the plan with own capital, and the one on credit."""
        own = self._sized(taking, into, out, capital, None)
        if own is not None:
            yield own
        limit = self._inventory.flash_wei
        if limit and into and gives_first(giver := self._state.pools()[into[0].pool]):
            first = self._sized(taking, into, out, limit, Credit(giver, lends=False))
            if first is not None:
                yield first
        for credit in self._lenders.cheapest([hop.pool for hop in out]) if limit and not into else ():
            lent = self._sized(taking, into, out, limit, credit)
            if lent is not None and self._lenders.has(self._state, credit.pool, lent.held[0]):
                yield lent
                return

    def _worth(self, plan: _Plan, block: Block) -> tuple[bool, int]:
        """Order plans: without capital those on credit that pay come first; then by profit, less the gas that credit takes."""
        if plan.credit is None:
            return False, plan.profit
        left = plan.profit - plan.credit.more_gas * block.base_fee_wei
        return self._inventory.empty and left > 0, left

    def _ways(self, taking: Taking, capital: int, through: set[Address]) -> Iterator[tuple[Way, Way]]:
        """Yield ways in and out that go together; adds every pool that matters to `through`."""
        debt, collateral = taking.debt, taking.collateral
        into, out = self._routes.between(self._token, debt), self._routes.between(collateral, self._token)
        through.update(hop.pool for way in (*into, *out) for hop in way)
        put_in = max(1, min(capital, taking.middling or 10**18))
        best_in = self._best(into, self._token, put_in)
        best_out = self._best(out, collateral, max(1, taking.supplied // 4))
        for first, last in product(best_in, best_out):
            pools = [self._state.pools()[hop.pool].whole for hop in (*first, *last)]
            if len(pools) <= MOST_SWAPS and len(set(pools)) == len(pools):
                yield first, last

    def _best(self, ways: Sequence[Way], token: Address, amount: int) -> list[Way]:
        def given(way: Way) -> int:
            legs = self._legs(token, way)
            try:
                return amounts(legs, amount)[-1] if legs is not None else 0
            except AmmError:
                return 0

        return sorted(ways, key=given, reverse=True)[:WAYS] if len(ways) > 1 else list(ways)

    def _legs(self, token: Address, way: Way) -> list[AnyLeg] | None:
        try:
            return legs_of(Cycle(token, way), self._state)
        except AmmError:
            return None

    def _sized(self, taking: Taking, into: Way, out: Way, limit: int, credit: Credit | None) -> _Plan | None:
        first, last = self._legs(self._token, into), self._legs(taking.collateral, out)
        if first is None or last is None:
            return None

        def planned(amount: int, *, rest: bool = False) -> _Plan | None:
            put_in = amount if credit is None else credit.owed(amount)
            if put_in > limit:
                return None
            steps = _steps(taking, first, last, amount, rest=rest)
            return None if steps is None else _Plan(taking, into, out, *steps, put_in, credit)

        tried = [planned(amount) for amount in _around_peak(planned, _most(planned, limit))]
        if not into and taking.whole:
            tried.append(planned(taking.whole * OFFER[0] // OFFER[1] + 1, rest=True))
        return max((plan for plan in tried if plan is not None), key=lambda plan: plan.profit, default=None)

    def _opportunity(self, block: Block, market: LendingMarket, borrower: Address, plan: _Plan) -> Opportunity:
        seizure = Seizure(
            pool=market.config.pool,
            borrower=borrower,
            debt=plan.taking.debt,
            collateral=plan.taking.collateral,
            after=len(plan.into),
            absorbs=market.absorbs,
        )
        pools = self._state.pools()
        tokens = [
            self._token,
            *(_token_out(pools[hop.pool], hop) for hop in plan.into),
            seizure.collateral,
            *(_token_out(pools[hop.pool], hop) for hop in plan.out),
        ]
        cycle = Cycle(self._token, (*plan.into, *plan.out))
        flash = None if plan.credit is None else plan.credit.flash(plan.held[0])
        held = tuple(zip(tokens, plan.held, strict=True))
        return Opportunity(
            id=identity(self._chain, block, cycle, seizure, flash),
            chain=self._chain,
            strategy=NAME,
            cycle=cycle,
            block_number=block.number,
            block_hash=block.hash,
            amount_in=plan.put_in,
            expected_out=plan.back,
            # What is lent is a step of its own.
            held=((self._token, plan.put_in), *held) if flash is not None and flash.lent else held,
            seizure=seizure,
            flash=flash,
        )


def identity(chain: str, block: Block, cycle: Cycle, seizure: Seizure, flash: Flash | None = None) -> str:
    """Name an opportunity by what it is, so that seeing a block twice finds it known already."""
    digest = hashlib.sha256(f"{NAME}:{chain}:".encode() + block.hash)
    for part in (seizure.pool, seizure.borrower, seizure.debt, seizure.collateral, bytes([seizure.after])):
        digest.update(part)
    for hop in cycle.hops:
        digest.update(hop.pool + bytes([hop.zero_for_one]))
    digest.update(b"" if flash is None else flash.pool)
    return digest.hexdigest()[:32]


class _Routes:
    """Ways of one or two swaps between tokens."""

    def __init__(self, pools: Collection[Pool]) -> None:
        self._from: dict[Address, list[tuple[Hop, Address]]] = {}
        for pool in pools:
            self._from.setdefault(pool.token0, []).append((Hop(pool.address, zero_for_one=True), pool.token1))
            self._from.setdefault(pool.token1, []).append((Hop(pool.address, zero_for_one=False), pool.token0))

    def between(self, start: Address, end: Address) -> list[Way]:
        """Return every way; the empty one alone where both are the same token."""
        if start == end:
            return [()]
        ways: list[Way] = []
        for first, middle in self._from.get(start, ()):
            if middle == end:
                ways.append((first,))
                continue
            ways += [(first, second) for second, token in self._from.get(middle, ()) if token == end]
        return ways


def _steps(
    taking: Taking, first: Sequence[AnyLeg], last: Sequence[AnyLeg], amount: int, *, rest: bool
) -> tuple[tuple[int, ...], int] | None:
    """Return what is held along the way of an amount, and at its end; None where a pool refuses, or takes less and `rest` is not allowed."""
    try:
        before = amounts(first, amount)
        done = taking.take(before[-1])
        if done is None:
            return None
        paid, received = done
        if received <= 0 or (paid != before[-1] and not rest):
            return None
        after = amounts(last, received)
    except (AmmError, Overflowed):
        return None
    return (*before, *after), after[-1] + before[-1] - paid


def _most(planned: Callable[[int], _Plan | None], capital: int) -> int:
    """Return the greatest amount that can be planned; from some amount on none can."""
    low, high = 0, capital
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if planned(middle) is not None else (low, middle - 1)
    return low


def _around_peak(planned: Callable[[int], _Plan | None], most: int) -> range:
    def profit(amount: int) -> int:
        plan = planned(amount)
        return -amount if plan is None else plan.profit

    low, high = 0, most
    while high - low > 2 * NEIGHBOURS:
        third = (high - low) // 3
        if profit(low + third) < profit(high - third):
            low += third
        else:
            high -= third
    return range(max(1, low - NEIGHBOURS), min(most, high + NEIGHBOURS) + 1)


def _token_out(pool: Pool, hop: Hop) -> Address:
    return pool.token1 if hop.zero_for_one else pool.token0
