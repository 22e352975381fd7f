"""What a pending swap exposes: the most that a sandwich could take from it, and the limit that would have protected it.

Evaluation only: nothing here builds or sends a transaction, and the product has no sender of front-runs. A sandwich of a swap buys the same
token before it, moves its price as far as the swap's own limit allows, and sells again after it. Its gain is, but for the integers' rounding,
concave in what is put in; what the swap still gets only falls with it. So the most that the limit allows is found by halving, and the best
amount below it by a ternary search.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import msgspec

from mev.domain.calls import RouterSwap
from mev.domain.market import Address
from mev.market.amm import AmmError, amount_in, swap
from mev.market.amm.concentrated import ConcentratedPool

NAME = "sandwich"
MILLION = 10**6
# Around what the search arrives at, so many amounts are tried: it is misled by no more than rounding.
NEIGHBOURS = 2


class Curve(Protocol):
    """A pool that can be asked what a swap gives and leaves behind; both raise AmmError where the pool would refuse."""

    def sell(self, amount: int, *, zero_for_one: bool) -> tuple[int, "Curve"]:
        """Return what comes out for exactly `amount`, and the pool afterwards."""

    def buy(self, amount: int, *, zero_for_one: bool) -> tuple[int, "Curve"]:
        """Return what has to go in for exactly `amount`, and the pool afterwards."""


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
    itself does not: only a private way to the block helps then, or a smaller trade.
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

    @property
    def paper_profit(self) -> int:
        """What would have been left of it, base units of `token_in`; nothing is ever taken."""
        return max(0, self.extractable - self.cost)

    @property
    def slippage_ppm(self) -> int:
        """How far the swap's limit is from its quote, millionths of the quote."""
        return abs(self.quoted - self.limit) * MILLION // self.quoted


class _Attack(NamedTuple):
    gain: int
    # What the swap gets, or pays, then.
    victim: int


def evaluate(path: Sequence[PathHop], swapped: RouterSwap, capital: int, cost: int = 0) -> Exposure | None:
    """Return what a swap along `path` exposes to a sandwich with at most `capital` and at a cost of `cost`.

    Both are base units of what goes into the attacked pool. None where the swap would not go through even if nobody came before it, or goes through one
    pool twice.
    """
    if len({hop.address for hop in path}) < len(path):
        return None
    unharmed = _victim(path, swapped)
    if unharmed is None:
        return None
    exposures = [_exposure(path, number, swapped, unharmed, capital, cost) for number in range(len(path))]
    return max(exposures, key=lambda exposure: exposure.paper_profit)


def _exposure(
    path: Sequence[PathHop], number: int, swapped: RouterSwap, unharmed: list[int], capital: int, cost: int
) -> Exposure:
    end = 0 if swapped.exact_out else -1

    def attack(amount: int) -> _Attack | None:
        return _attack(path, number, swapped, amount)

    most = _most(attack, capital)
    best = _best(attack, most)
    done = attack(best) if best else None
    gain = max(0, done.gain) if done else 0
    protecting: int | None = swapped.limit
    if done is not None and gain > cost:
        least = _least(attack, best, cost)
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


def _attack(path: Sequence[PathHop], number: int, swapped: RouterSwap, amount: int) -> _Attack | None:
    """Buy before, let the swap happen, sell after; None where a pool or the swap's limit refuses."""
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
    return _Attack(back - amount, held[0 if swapped.exact_out else -1])


class _Attacks(Protocol):
    def __call__(self, amount: int) -> _Attack | None: ...


def _most(attack: _Attacks, capital: int) -> int:
    """Return the most that can be put in before the swap is refused; 0 where that is nothing.

    Too little to get anything out is refused as well: so the search goes up by doubling first.
    """
    low = 1
    while low <= capital and attack(low) is None:
        low *= 2
    if low > capital:
        return 0
    high = capital
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if attack(middle) is not None else (low, middle - 1)
    return low


def _best(attack: _Attacks, most: int) -> int:
    """Return which amount of at most `most` gains most."""

    def gain(amount: int) -> int:
        done = attack(amount)
        return done.gain if done is not None else -amount

    low, high = 0, most
    while high - low > 2 * NEIGHBOURS:
        third = (high - low) // 3
        if gain(low + third) < gain(high - third):
            low += third
        else:
            high -= third
    around = range(max(0, low - NEIGHBOURS), min(most, high + NEIGHBOURS) + 1)
    return max(around, key=gain) if most else 0


def _least(attack: _Attacks, best: int, cost: int) -> _Attack:
    """Return the attack with the smallest amount that gains more than `cost`; the best one does."""
    low, high = 0, best
    while high - low > 1:
        middle = (low + high) // 2
        done = attack(middle)
        low, high = (low, middle) if done is not None and done.gain > cost else (middle, high)
    done = attack(high)
    if done is None:
        raise AssertionError("the best attack is one")
    return done
