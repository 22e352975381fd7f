"""Liquidations on Aave V3 as cycles: native coin into the debt's token, the debt paid, the collateral back into native coin.

A cycle has up to three swaps beside the liquidation: as many steps as the executor takes. What is put in is searched, since the profit is, but for rounding,
concave in it. The whole of a debt can only be covered where it is in the cycle's own token: until the transaction is in a block the debt grows by
interest, so a little more is offered than is owed, and what the pool does not take has to be of use. Otherwise a part is covered that leaves the pool's least leftover on both sides.

It is paid for with the executor's capital, or on credit: the first pool of the path is paid last, or where native coin itself is owed a pool lends it. Whichever leaves more after the
gas that credit takes is chosen; without capital, credit.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from enum import IntEnum
from itertools import product
from typing import NamedTuple

from mev.domain import Block, Cycle, Flash, Hop, Opportunity, Pool, Seizure
from mev.domain.market import Address
from mev.market.amm import AmmError
from mev.market.lending.aave_book import AaveBook
from mev.market.lending.aave_market import AaveMarket
from mev.market.lending.aave_v3 import Held, health_factor, liquidate
from mev.market.lending.wad_ray import WAD, Overflowed
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
# Below it, of base currency (8 decimals), neither side of a pair pays for a transaction.
LEAST_BASE = 10 * 10**8

Way = tuple[Hop, ...]


class LeftAlone(IntEnum):
    """Why nobody's liquidation is tried although the pool would allow one: how far the best of the borrower's pairs came."""

    # Inactive, paused, or within the grace period after the sequencer was down.
    CLOSED = 0
    DUST = 1
    # The executor cannot tell what was paid from what came out, where both are one token and not the cycle's.
    ONE_TOKEN = 2
    NO_WAY = 3
    # What the ways take and the pool's rules (close factor, least leftover) allow do not meet.
    NO_SIZE = 4
    NO_PROFIT = 5


class _Pair(NamedTuple):
    """A borrower's debt and collateral."""

    position: Sequence[Held]
    debt: Held
    collateral: Held


class _Plan(NamedTuple):
    """A liquidation with its swaps, sized: `held` is what the first step is given, then what is held after each; `put_in` is more where that is lent for a fee."""

    pair: _Pair
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
        markets: Sequence[AaveMarket],
        inventory: Inventory | None = None,
    ) -> None:
        self._chain = chain
        self._token = wrapped_native
        self._state = state
        self._markets = [(market, Watch()) for market in markets]
        self._inventory = inventory or Inventory()
        self._routes = _Routes(state.pools().values())
        self._lenders = Lenders(state.pools().values(), wrapped_native)
        # By pool and borrower: what was looked at when nothing was to be had, or it was told of, and through which pools.
        self._seen: dict[tuple[Address, Address], tuple[object, frozenset[Address]]] = {}
        self._left: dict[tuple[Address, Address], LeftAlone] = {}

    def opportunities(self, block: Block, touched: Collection[Address], capital: int) -> list[Opportunity]:
        """Return for each borrower the liquidation that leaves most, where one leaves anything and something about it has changed.

        `touched` are pools, of swaps or of lending, that are to be looked at again; no amount_in exceeds `capital`, or on credit the inventory's limit.
        """
        found = []
        for market, watch in self._markets:
            book = market.book
            if book is None or book.block.hash != block.hash:
                continue
            changed, anew = market.take_changes()
            pool, below = market.config.pool, watch.liquidatable(book, changed, anew=anew)
            for borrower in below:
                plan = self._plan(book, pool, borrower, touched, capital)
                if plan is not None and plan.profit > 0:
                    found.append(self._opportunity(block, pool, borrower, plan))
            self._forget(pool, frozenset(below))
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
        self, book: AaveBook, pool: Address, borrower: Address, touched: Collection[Address], capital: int
    ) -> _Plan | None:
        try:
            position = book.position(borrower, book.block.timestamp)
        except Overflowed:
            return None
        if position is None or health_factor(position) >= WAD:
            return None
        prices = tuple(held.reserve.price for held in position)
        allowed = frozenset(each.asset for each in book.listings.values() if each.liquidatable(book.block.timestamp))
        what = (book.positions()[borrower], prices, capital, self._inventory.empty, allowed)
        seen = self._seen.get((pool, borrower))
        if seen is not None and seen[0] == what and pool not in touched and seen[1].isdisjoint(touched):
            return None
        best: _Plan | None = None
        through: set[Address] = set()
        came = LeftAlone.CLOSED
        for debt, collateral in product(position, position):
            pair = _Pair(position, debt, collateral)
            refused = _refused(pair, allowed, self._token)
            came = max(came, LeftAlone.NO_WAY if refused is None else refused)
            for into, out in () if refused is not None else self._ways(pair, capital, through):
                came = max(came, LeftAlone.NO_SIZE)
                for plan in self._funded(pair, into, out, capital):
                    if best is None or self._worth(plan, book.block) > self._worth(best, book.block):
                        best = plan
        self._seen[pool, borrower] = (what, frozenset(through))
        if best is not None and best.profit > 0:
            self._left.pop((pool, borrower), None)
        else:
            self._left[pool, borrower] = came if best is None else LeftAlone.NO_PROFIT
        return best

    def _funded(self, pair: _Pair, into: Way, out: Way, capital: int) -> Iterator[_Plan]:
        """Yield the plan with own capital, and the one on credit."""
        own = self._sized(pair, into, out, capital, None)
        if own is not None:
            yield own
        limit = self._inventory.flash_wei
        if limit and into and gives_first(giver := self._state.pools()[into[0].pool]):
            first = self._sized(pair, into, out, limit, Credit(giver, lends=False))
            if first is not None:
                yield first
        for credit in self._lenders.cheapest([hop.pool for hop in out]) if limit and not into else ():
            lent = self._sized(pair, into, out, limit, credit)
            if lent is not None and self._lenders.has(self._state, credit.pool, lent.held[0]):
                yield lent
                return

    def _worth(self, plan: _Plan, block: Block) -> tuple[bool, int]:
        """Order plans: without capital those on credit that pay come first; then by profit, less the gas that credit takes."""
        if plan.credit is None:
            return False, plan.profit
        left = plan.profit - plan.credit.more_gas * block.base_fee_wei
        return self._inventory.empty and left > 0, left

    def _ways(self, pair: _Pair, capital: int, through: set[Address]) -> Iterator[tuple[Way, Way]]:
        """Yield ways in and out that go together; adds every pool that matters to `through`."""
        debt, collateral = pair.debt.reserve.asset, pair.collateral.reserve.asset
        into, out = self._routes.between(self._token, debt), self._routes.between(collateral, self._token)
        through.update(hop.pool for way in (*into, *out) for hop in way)
        put_in = max(1, min(capital, self._middling(pair)))
        best_in = self._best(into, self._token, put_in)
        best_out = self._best(out, collateral, max(1, pair.collateral.supplied // 4))
        for first, last in product(best_in, best_out):
            pools = [hop.pool for hop in (*first, *last)]
            if len(pools) <= MOST_SWAPS and len(set(pools)) == len(pools):
                yield first, last

    def _middling(self, pair: _Pair) -> int:
        """What a quarter of the debt is in native coin, by the oracle, where native coin is on one side; a guess to compare ways at."""
        for held in pair.position:
            if held.reserve.asset == self._token and held.reserve.price:
                return pair.debt.debt_base * held.reserve.unit // (4 * held.reserve.price)
        return 10**18

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

    def _sized(self, pair: _Pair, into: Way, out: Way, limit: int, credit: Credit | None) -> _Plan | None:
        first, last = self._legs(self._token, into), self._legs(pair.collateral.reserve.asset, out)
        if first is None or last is None:
            return None

        def planned(amount: int, *, rest: bool = False) -> _Plan | None:
            put_in = amount if credit is None else credit.owed(amount)
            if put_in > limit:
                return None
            steps = _steps(pair, first, last, amount, rest=rest)
            return None if steps is None else _Plan(pair, into, out, *steps, put_in, credit)

        tried = [planned(amount) for amount in _around_peak(planned, _most(planned, limit))]
        if not into:
            tried.append(planned(pair.debt.owed * OFFER[0] // OFFER[1] + 1, rest=True))
        return max((plan for plan in tried if plan is not None), key=lambda plan: plan.profit, default=None)

    def _opportunity(self, block: Block, pool: Address, borrower: Address, plan: _Plan) -> Opportunity:
        seizure = Seizure(
            pool=pool,
            borrower=borrower,
            debt=plan.pair.debt.reserve.asset,
            collateral=plan.pair.collateral.reserve.asset,
            after=len(plan.into),
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


def _refused(pair: _Pair, allowed: Collection[Address], token: Address) -> LeftAlone | None:
    assets = (pair.debt.reserve.asset, pair.collateral.reserve.asset)
    if not {*assets} <= {*allowed}:
        return LeftAlone.CLOSED
    if pair.debt.debt_base < LEAST_BASE or pair.collateral.collateral_base < LEAST_BASE:
        return LeftAlone.DUST
    return LeftAlone.ONE_TOKEN if assets[0] == assets[1] != token else None


def _steps(
    pair: _Pair, first: Sequence[AnyLeg], last: Sequence[AnyLeg], amount: int, *, rest: bool
) -> tuple[tuple[int, ...], int] | None:
    """Return what is held along the way of an amount, and at its end; None where a pool refuses, or takes less and `rest` is not allowed."""
    try:
        before = amounts(first, amount)
        done = liquidate(pair.position, pair.collateral, pair.debt, before[-1])
        if done is None or done.collateral <= 0 or (done.debt != before[-1] and not rest):
            return None
        after = amounts(last, done.collateral)
    except (AmmError, Overflowed):
        return None
    return (*before, *after), after[-1] + before[-1] - done.debt


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
