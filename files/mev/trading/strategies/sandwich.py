"""What a pending swap exposes: the most that a sandwich could take from it, and the limit that would have protected it.

Evaluation only: nothing here builds or sends a transaction, and the product has no sender of front-runs. A sandwich of a swap buys the same
token before it, moves its price as far as the swap's own limit allows, and sells again after it. How much that is is computed in closed form for
pairs (mev.search.attack), and searched for in other pools (mev.search.attack_search). Of transactions with several swaps: router_plan.
"""

from collections.abc import Iterable, Iterator, Sequence
from math import inf
from typing import NamedTuple, Protocol

import msgspec

from mev.domain.calls import RouterSwap
from mev.domain.market import Address
from mev.market.amm import AmmError, amount_in, swap
from mev.market.amm.concentrated import ConcentratedPool
from mev.market.amm.solidly import FEE_DENOMINATOR as SOLIDLY_FEE_DENOMINATOR
from mev.market.amm.solidly import SolidlyPool
from mev.market.amm.ticks import FEE_DENOMINATOR
from mev.search.attack import Attack, PairAttack, furthest
from mev.search.attack_search import Range, SearchedAttack

NAME = "sandwich"
MILLION = 10**6
Q96 = 96


class HopSwap(NamedTuple):
    """What a swap asks of one pool: exactly `amount` in for at least `bound` out, or with exact_out `amount` out for at most `bound` in."""

    exact_out: bool
    amount: int
    bound: int


class Sizes(Protocol):
    """How much to put in before a swap; base units."""

    def pays(self) -> bool:
        """Whether any amount can leave something, rounding apart."""

    def most(self, capital: int) -> int:
        """Return the most of `capital` that the pool and the swap's limit allow; 0 where that is nothing."""

    def best(self, most: int) -> int:
        """Return the amount of at most `most` that gains most, 0 where none gains."""

    def least(self, best: int, cost: int) -> int:
        """Return about the smallest amount that gains more than `cost`, as `best` does."""


class Curve(Protocol):
    """A pool that can be asked what a swap gives and leaves behind; both raise AmmError where the pool would refuse."""

    def sell(self, amount: int, *, zero_for_one: bool) -> tuple[int, "Curve"]:
        """Return what comes out for exactly `amount`, and the pool afterwards."""

    def buy(self, amount: int, *, zero_for_one: bool) -> tuple[int, "Curve"]:
        """Return what has to go in for exactly `amount`, and the pool afterwards."""

    def attacked(self, swapped: HopSwap, *, zero_for_one: bool) -> Sizes:
        """Return how much goes into a sandwich of a swap in this pool."""

    def price(self, *, zero_for_one: bool) -> float:
        """Return what the first unit put in gives, after the fee, before rounding."""

    def present_range(self, *, zero_for_one: bool) -> Range | None:
        """Return the constant product that the pool amounts to at its price, its fee kept out of it; None where it is none."""


class PairCurve(msgspec.Struct, frozen=True):
    """A constant-product pair; base units of token0 and token1."""

    reserve0: int
    reserve1: int
    fee_numerator: int
    fee_denominator: int

    def sell(self, amount: int, *, zero_for_one: bool) -> "tuple[int, PairCurve]":
        """Swap exactly `amount` in."""
        reserves = (self.reserve0, self.reserve1) if zero_for_one else (self.reserve1, self.reserve0)
        done = swap(amount, *reserves, self.fee_numerator, self.fee_denominator)
        return done.amount_out, self._with(done.reserve_in, done.reserve_out, zero_for_one=zero_for_one)

    def buy(self, amount: int, *, zero_for_one: bool) -> "tuple[int, PairCurve]":
        """Swap for exactly `amount` out, paying what the router computes."""
        reserves = (self.reserve0, self.reserve1) if zero_for_one else (self.reserve1, self.reserve0)
        paid = amount_in(amount, *reserves, self.fee_numerator, self.fee_denominator)
        return paid, self._with(reserves[0] + paid, reserves[1] - amount, zero_for_one=zero_for_one)

    def attacked(self, swapped: HopSwap, *, zero_for_one: bool) -> Sizes:
        """Return how much goes into a sandwich of a swap in this pair."""
        reserves = (self.reserve0, self.reserve1) if zero_for_one else (self.reserve1, self.reserve0)
        return PairAttack(
            *reserves, self.fee_numerator, self.fee_denominator, swapped.exact_out, swapped.amount, swapped.bound
        )

    def price(self, *, zero_for_one: bool) -> float:
        """Return the reserves' ratio after the fee."""
        now = self.present_range(zero_for_one=zero_for_one)
        return now.fee_numerator * now.reserve_out / (now.fee_denominator * now.reserve_in)

    def present_range(self, *, zero_for_one: bool) -> Range:
        """Return its reserves: that its fee stays in them makes little difference."""
        reserves = (self.reserve0, self.reserve1) if zero_for_one else (self.reserve1, self.reserve0)
        return Range(*reserves, self.fee_numerator, self.fee_denominator)

    def _with(self, reserve_in: int, reserve_out: int, *, zero_for_one: bool) -> "PairCurve":
        reserves = (reserve_in, reserve_out) if zero_for_one else (reserve_out, reserve_in)
        return PairCurve(*reserves, self.fee_numerator, self.fee_denominator)


class ConcentratedCurve(msgspec.Struct, frozen=True):
    """A pool with concentrated liquidity."""

    pool: ConcentratedPool

    def sell(self, amount: int, *, zero_for_one: bool) -> "tuple[int, ConcentratedCurve]":
        """Swap exactly `amount` in; a pool that cannot take all of it refuses here."""
        moved = self.pool.swap_exact_in(amount, zero_for_one=zero_for_one)
        if moved.amount_in != amount or not moved.amount_out:
            raise AmmError("INSUFFICIENT_LIQUIDITY")
        return moved.amount_out, ConcentratedCurve(self.pool.after(moved))

    def buy(self, amount: int, *, zero_for_one: bool) -> "tuple[int, ConcentratedCurve]":
        """Swap for exactly `amount` out."""
        moved = self.pool.swap_exact_out(amount, zero_for_one=zero_for_one)
        if moved.amount_out != amount:
            raise AmmError("INSUFFICIENT_LIQUIDITY")
        return moved.amount_in, ConcentratedCurve(self.pool.after(moved))

    def attacked(self, swapped: HopSwap, *, zero_for_one: bool) -> Sizes:
        """Return how much goes into a sandwich of a swap in this pool."""

        def run(amount: int) -> Attack | None:
            try:
                bought, moved = self.sell(amount, zero_for_one=zero_for_one)
                happens = moved.buy if swapped.exact_out else moved.sell
                victim, after = happens(swapped.amount, zero_for_one=zero_for_one)
                back, _ = after.sell(bought, zero_for_one=not zero_for_one)
            except AmmError:
                return None
            return Attack(back - amount, victim)

        return SearchedAttack(
            run,
            self.present_range(zero_for_one=zero_for_one),
            self._leaves(swapped, zero_for_one=zero_for_one),
            swapped.exact_out,
            swapped.amount,
            swapped.bound,
            self._beyond(swapped, zero_for_one=zero_for_one),
        )

    def _leaves(self, swapped: HopSwap, *, zero_for_one: bool) -> float | None:
        if swapped.exact_out:
            return None
        moved = self.pool.swap_exact_in(swapped.amount, zero_for_one=zero_for_one)
        ratio = moved.sqrt_price_x96 / self.pool.sqrt_price_x96
        fees = (FEE_DENOMINATOR - self.pool.fees[0]) * (FEE_DENOMINATOR - self.pool.fees[1]) / FEE_DENOMINATOR**2
        return fees * (1 / ratio if zero_for_one else ratio) ** 2

    def _beyond(self, swapped: HopSwap, *, zero_for_one: bool) -> float:
        """Return what no attack can gain more than if it and the swap leave the present range: what the swap puts in less what it gets, and the fee.

        The curve itself keeps nothing, so what the attacker gains and the fees come out of what the swap pays over the first price; and to the
        range's end both put in `end`.
        """
        now, here = self.present_range(zero_for_one=zero_for_one), self.pool.segment(0, zero_for_one=zero_for_one)
        if now is None or here is None:
            return inf
        fee = 1 - now.fee_numerator / now.fee_denominator
        return swapped.amount - swapped.bound * now.reserve_in / now.reserve_out - fee * here.end

    def price(self, *, zero_for_one: bool) -> float:
        """Return the price of the pool after the fee."""
        root = self.pool.sqrt_price_x96 / (1 << Q96)
        part = 1 - self.pool.fees[0 if zero_for_one else 1] / FEE_DENOMINATOR
        return part * (root * root if zero_for_one else 1 / (root * root))

    def present_range(self, *, zero_for_one: bool) -> Range | None:
        """Return the virtual reserves of the range that the price is in."""
        price, liquidity = self.pool.sqrt_price_x96, self.pool.liquidity
        reserves = (liquidity << Q96) // price, liquidity * price >> Q96
        part = FEE_DENOMINATOR - self.pool.fees[0 if zero_for_one else 1]
        if not (part and all(reserves)):
            return None
        return Range(*(reserves if zero_for_one else reserves[::-1]), part, FEE_DENOMINATOR)


class SolidlyCurve(msgspec.Struct, frozen=True):
    """A Solidly pool, stable or volatile; its fee leaves it, and nobody can ask it for an exact output."""

    pool: SolidlyPool

    def sell(self, amount: int, *, zero_for_one: bool) -> "tuple[int, SolidlyCurve]":
        """Swap exactly `amount` in."""
        done = self.pool.swap(amount, zero_for_one=zero_for_one)
        return done.amount_out, SolidlyCurve(done.pool)

    def buy(self, amount: int, *, zero_for_one: bool) -> "tuple[int, SolidlyCurve]":
        """Refuse."""
        raise AmmError(f"a Solidly pool does not sell exactly {amount} of token{int(zero_for_one)}")

    def attacked(self, swapped: HopSwap, *, zero_for_one: bool) -> Sizes:
        """Return how much goes into a sandwich of a swap in this pool."""

        def run(amount: int) -> Attack | None:
            try:
                bought, moved = self.sell(amount, zero_for_one=zero_for_one)
                victim, after = moved.sell(swapped.amount, zero_for_one=zero_for_one)
                back, _ = after.sell(bought, zero_for_one=not zero_for_one)
            except AmmError:
                return None
            return Attack(back - amount, victim)

        _, after = self.sell(swapped.amount, zero_for_one=zero_for_one)
        # A stable curve bends ever more: what does not pay near its middle may pay further out.
        leaves = None
        if not self.pool.stable:
            leaves = self.price(zero_for_one=zero_for_one) * after.price(zero_for_one=not zero_for_one)
        now = self.present_range(zero_for_one=zero_for_one)
        return SearchedAttack(run, now, leaves, False, swapped.amount, swapped.bound)

    def price(self, *, zero_for_one: bool) -> float:
        """Return the slope of its curve after the fee."""
        pool = self.pool
        x, y = pool.reserve0 / pool.unit0, pool.reserve1 / pool.unit1
        units = pool.unit1 / pool.unit0
        slope = (3 * x * x * y + y * y * y) / (x * x * x + 3 * x * y * y) if pool.stable else y / x
        part = 1 - pool.fee / SOLIDLY_FEE_DENOMINATOR
        return part * (slope * units if zero_for_one else 1 / (slope * units))

    def present_range(self, *, zero_for_one: bool) -> Range | None:
        """Return a volatile pool's reserves; a stable one's curve is no constant product."""
        pool = self.pool
        if pool.stable or pool.fee >= SOLIDLY_FEE_DENOMINATOR:
            return None
        reserves = (pool.reserve0, pool.reserve1) if zero_for_one else (pool.reserve1, pool.reserve0)
        return Range(*reserves, SOLIDLY_FEE_DENOMINATOR - pool.fee, SOLIDLY_FEE_DENOMINATOR)


class PathHop(NamedTuple):
    """One pool of a swap's path, as it is before the swap."""

    address: Address
    curve: Curve
    zero_for_one: bool


class Exposure(msgspec.Struct, frozen=True, kw_only=True):
    """What one swap exposes, by the pool of its path in which most can be taken.

    `front_in`, `extractable` and `cost` are base units of `token_in`, what goes into that pool; `extractable` is before `cost`. `quoted` is what the swap
    would get (of its last token) or, with exact_out, pay (of its first) if nobody came before it, and `attacked` what it gets or pays at worst;
    `limit` is its own. `protecting_limit` is the loosest limit that leaves no more than `cost` to take, but for what rounding a unit of each token is worth; None where even the quote
    itself does not: only a private way to the block helps then, or a smaller trade. Where a transaction has several limits, `bound` names the step whose
    limit is meant: the last one that such an attack makes worse.
    """

    pool: Address
    token_in: Address
    exact_out: bool
    front_in: int
    extractable: int
    cost: int
    quoted: int
    attacked: int
    limit: int
    protecting_limit: int | None
    bound: str = ""

    @property
    def paper_profit(self) -> int:
        """What would have been left of it, base units of `token_in`; nothing is ever taken."""
        return max(0, self.extractable - self.cost)

    @property
    def slippage_ppm(self) -> int:
        """How far the swap's limit is from its quote, millionths of the quote."""
        return abs(self.quoted - self.limit) * MILLION // max(1, self.quoted)


def evaluate(path: Sequence[PathHop], swapped: RouterSwap, capital: int, cost: int = 0) -> Exposure | None:
    """Return what a swap along `path` exposes to a sandwich with at most `capital` and at a cost of `cost`.

    Both are base units of what goes into the attacked pool. None where the swap would not go through even if nobody came before it, or goes through one
    pool twice.
    """
    return most_exposed(pool_by_pool(path, swapped, capital, cost))


def pool_by_pool(path: Sequence[PathHop], swapped: RouterSwap, capital: int, cost: int = 0) -> Iterator[Exposure]:
    """Yield what a swap exposes in each pool of its path, a pool's work at a time; nothing where `evaluate` returns None."""
    unharmed = None if len({hop.address for hop in path}) < len(path) else _victim(path, swapped)
    if unharmed is not None:
        yield from (_exposure(path, number, swapped, unharmed, capital, cost) for number in range(len(path)))


def most_exposed(exposures: Iterable[Exposure]) -> Exposure | None:
    """Return that of the pool in which most can be taken; None where there is none."""
    return max(exposures, key=lambda exposure: exposure.paper_profit, default=None)


def _exposure(
    path: Sequence[PathHop], number: int, swapped: RouterSwap, unharmed: list[int], capital: int, cost: int
) -> Exposure:
    end = 0 if swapped.exact_out else -1
    sizes = path[number].curve.attacked(_here(path, number, swapped, unharmed), zero_for_one=path[number].zero_for_one)
    best = sizes.best(sizes.most(capital)) if sizes.pays() else 0
    done = _attack(path, number, swapped, best) if best else None
    gain = max(0, done.gain) if done else 0
    protecting: int | None = swapped.limit
    if done is not None and gain > cost:
        least = _attack(path, number, swapped, sizes.least(best, cost)) or done
        refused = least.victim + (-1 if swapped.exact_out else 1)
        beyond = refused < unharmed[0] if swapped.exact_out else refused > unharmed[-1]
        protecting = None if beyond else refused
    return Exposure(
        pool=path[number].address,
        token_in=swapped.hops[number].token_in,
        exact_out=swapped.exact_out,
        front_in=best if gain else 0,
        extractable=gain,
        cost=cost,
        quoted=unharmed[end],
        attacked=done.victim if done is not None and gain else unharmed[end],
        limit=swapped.limit,
        protecting_limit=protecting,
    )


def _here(path: Sequence[PathHop], number: int, swapped: RouterSwap, unharmed: list[int]) -> HopSwap:
    """Return what the swap asks of one pool of its path: pools only give less for less, so its limit at the end is one here."""
    if swapped.exact_out:
        before = path[:number]
        most = unharmed[number]
        if not before:
            return HopSwap(exact_out=True, amount=unharmed[number + 1], bound=swapped.limit)

        def affordable(amount: int) -> bool:
            paid = _paid(before, amount)
            return paid is not None and paid <= swapped.limit

        near = _given(before, swapped.limit) or most
        return HopSwap(exact_out=True, amount=unharmed[number + 1], bound=furthest(affordable, most, near))
    after = path[number + 1 :]
    if not after:
        return HopSwap(exact_out=False, amount=unharmed[number], bound=max(1, swapped.limit))

    def too_little(amount: int) -> bool:
        given = _given(after, amount) if amount else None
        return given is None or given < swapped.limit

    near = _paid(after, max(1, swapped.limit)) or 1
    most = unharmed[number + 1]
    return HopSwap(
        exact_out=False, amount=unharmed[number], bound=furthest(too_little, 0, min(near - 1, most - 1), most) + 1
    )


def _given(path: Sequence[PathHop], amount: int) -> int | None:
    try:
        for hop in path:
            amount = hop.curve.sell(amount, zero_for_one=hop.zero_for_one)[0]
    except AmmError:
        return None
    return amount


def _paid(path: Sequence[PathHop], amount: int) -> int | None:
    try:
        for hop in reversed(path):
            amount = hop.curve.buy(amount, zero_for_one=hop.zero_for_one)[0]
    except AmmError:
        return None
    return amount


def _victim(path: Sequence[PathHop], swapped: RouterSwap) -> list[int] | None:
    """Return what the swap holds before its first hop and after each; None where a pool or its own limit refuses."""
    try:
        if swapped.exact_out:
            held = [swapped.amount]
            for hop in reversed(path):
                held.insert(0, hop.curve.buy(held[0], zero_for_one=hop.zero_for_one)[0])
            return held if held[0] <= swapped.limit else None
        held = [swapped.amount]
        for hop in path:
            held.append(hop.curve.sell(held[-1], zero_for_one=hop.zero_for_one)[0])
    except AmmError:
        return None
    return held if held[-1] >= swapped.limit else None


def _attack(path: Sequence[PathHop], number: int, swapped: RouterSwap, amount: int) -> Attack | None:
    """Buy before, let the whole swap happen, sell after; None where a pool or the swap's limit refuses."""
    hop = path[number]
    try:
        bought, moved = hop.curve.sell(amount, zero_for_one=hop.zero_for_one)
        held = _victim([*path[:number], hop._replace(curve=moved), *path[number + 1 :]], swapped)
        if held is None:
            return None
        if swapped.exact_out:
            _, after = moved.buy(held[number + 1], zero_for_one=hop.zero_for_one)
        else:
            _, after = moved.sell(held[number], zero_for_one=hop.zero_for_one)
        back, _ = after.sell(bought, zero_for_one=not hop.zero_for_one)
    except AmmError:
        return None
    return Attack(back - amount, held[0 if swapped.exact_out else -1])
