"""Pools as a swap through them in one direction sees them: what comes out, what has to go in, and the curve near an amount.

Near any amount a pool gives y = (a x + b) / (c x + d): a constant-product pair everywhere, a V3 pool as long as the price stays in one range of
constant liquidity. A *piece* is that map and the input up to which it holds; pieces along a path compose to one of the same form.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mev.domain import Cycle, Hop
from mev.market.amm import UINT112_MAX, AmmError, cheapest_in, swap
from mev.market.amm.balancer import StablePool, WeightedPool
from mev.market.amm.concentrated import ConcentratedPool
from mev.market.amm.curve import CurvePool
from mev.market.amm.solidly import FEE_DENOMINATOR as SOLIDLY_DENOMINATOR
from mev.market.amm.solidly import SolidlyPool
from mev.market.amm.ticks import FEE_DENOMINATOR
from mev.market.balancer_state import places
from mev.market.curve_state import coins
from mev.market.state import MarketState

Q96 = 96
# A V3 pool's own exact-output answer may be this much more than the least that gives as much.
NEARLY = 4
# As many base units as tokens of 6 and of 18 decimals lie apart are 2 ** 40.
MOST_DOUBLINGS = 48


class Map(NamedTuple):
    """x -> (a x + b) / (c x + d), before rounding."""

    a: int
    b: int
    c: int
    d: int

    def then(self, after: "Map") -> "Map":
        """Return the map of both, this one first."""
        return Map(
            after.a * self.a + after.b * self.c,
            after.a * self.b + after.b * self.d,
            after.c * self.a + after.d * self.c,
            after.c * self.b + after.d * self.d,
        )

    def reaches(self, y: int) -> int | None:
        """Return the greatest whole input that gives at most y; None where no input gives more."""
        slope = self.a - self.c * y
        return (self.d * y - self.b) // slope if slope > 0 else None


IDENTITY = Map(1, 0, 0, 1)


class Piece(NamedTuple):
    """A pool's map near an amount, and the greatest input for which it is that."""

    map: Map
    end: int


class Leg(NamedTuple):
    """A constant-product hop's pair."""

    reserve_in: int
    reserve_out: int
    fee_numerator: int
    fee_denominator: int

    def amount_out(self, amount_in: int) -> int:
        """Return what comes out; raises AmmError where the pair would revert."""
        return swap(amount_in, *self).amount_out

    def cheapest_in(self, amount_out: int) -> int:
        """Return the least input that gives as much; raises AmmError where there is none."""
        return cheapest_in(amount_out, *self)

    def piece(self, amount_in: int) -> Piece | None:
        """Return the map at an amount; None where that is more than the pair takes."""
        most = UINT112_MAX - self.reserve_in
        if amount_in > most or not (self.reserve_in and self.reserve_out):
            return None
        part = self.fee_numerator
        return Piece(Map(part * self.reserve_out, 0, part, self.fee_denominator * self.reserve_in), most)


@dataclass(frozen=True, slots=True)
class ConcentratedLeg:
    """A hop through a V3 pool."""

    pool: ConcentratedPool
    zero_for_one: bool

    def amount_out(self, amount_in: int) -> int:
        """Return what comes out; raises AmmError where nothing does, or not all can go in: the executor would leave some behind."""
        moved = self.pool.swap_exact_in(amount_in, zero_for_one=self.zero_for_one)
        if moved.amount_in != amount_in:
            raise AmmError("the pool takes only a part of it")
        if moved.amount_out <= 0:
            raise AmmError("nothing comes out")
        return moved.amount_out

    def cheapest_in(self, amount_out: int) -> int:
        """Return the least input that gives as much, or one that is a few base units more; raises AmmError where there is none."""
        moved = self.pool.swap_exact_out(amount_out, zero_for_one=self.zero_for_one)
        if moved.amount_out != amount_out:
            raise AmmError("the pool does not hold as much")
        amount = moved.amount_in
        for _ in range(NEARLY):
            if amount <= 1 or self.pool.amount_out(amount - 1, zero_for_one=self.zero_for_one) < amount_out:
                break
            amount -= 1
        return amount

    def piece(self, amount_in: int) -> Piece | None:
        """Return the map at an amount, of the whole input; None where the pool takes no more."""
        found = self.pool.segment(amount_in, zero_for_one=self.zero_for_one)
        if found is None:
            return None
        part = FEE_DENOMINATOR - self.pool.fees[0 if self.zero_for_one else 1]
        price, liquidity = found.sqrt_price_x96, found.liquidity
        c = part * price << Q96
        if self.zero_for_one:
            a, d = part * liquidity * price * price, FEE_DENOMINATOR * liquidity << 2 * Q96
        else:
            a, d = part * liquidity << 2 * Q96, FEE_DENOMINATOR * liquidity * price * price
        # What went in and came out before this range moves the curve along both axes.
        d -= c * found.amount_in
        return Piece(Map(found.amount_out * c + a, found.amount_out * d - a * found.amount_in, c, d), found.end)


@dataclass(frozen=True, slots=True)
class SolidlyLeg:
    """A hop through a Solidly pool."""

    pool: SolidlyPool
    zero_for_one: bool

    def amount_out(self, amount_in: int) -> int:
        """Return what comes out; raises AmmError where the pool would revert."""
        if amount_in <= 0:
            raise AmmError("nothing goes in")
        return self.pool.swap(amount_in, zero_for_one=self.zero_for_one).amount_out

    def cheapest_in(self, amount_out: int) -> int:
        """Return the least input that gives as much; raises AmmError where there is none."""
        held = self._inward()[1]
        if not 0 < amount_out < held:
            raise AmmError("the pool does not hold as much")
        low, high = 0, 1
        while self._gives(high) < amount_out:
            if high > UINT112_MAX:
                raise AmmError("the pool does not give as much")
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._gives(middle) >= amount_out else (middle, high)
        return high

    def piece(self, amount_in: int) -> Piece | None:
        """Return a volatile pool's map at an amount; None where that is more than it takes, and for a stable pool, which has none."""
        reserve_in, reserve_out = self._inward()
        if self.pool.stable or amount_in > UINT112_MAX or not (reserve_in and reserve_out):
            return None
        part = SOLIDLY_DENOMINATOR - self.pool.fee
        return Piece(Map(part * reserve_out, 0, part, SOLIDLY_DENOMINATOR * reserve_in), UINT112_MAX)

    def _inward(self) -> tuple[int, int]:
        reserves = (self.pool.reserve0, self.pool.reserve1)
        return reserves if self.zero_for_one else reserves[::-1]

    def _gives(self, amount_in: int) -> int:
        return self.pool.amount_out(amount_in, zero_for_one=self.zero_for_one)


@dataclass(frozen=True, slots=True)
class BalancerLeg:
    """A hop between two tokens of a Balancer pool, by their numbers in it."""

    pool: WeightedPool | StablePool
    token_in: int
    token_out: int

    def amount_out(self, amount_in: int) -> int:
        """Return what comes out; raises AmmError where the pool or its vault would revert, or nothing does."""
        if amount_in <= 0 or self.pool.balances[self.token_in] + amount_in > UINT112_MAX:
            raise AmmError("nothing goes in, or more than the vault can hold")
        given = self.pool.amount_out(self.token_in, self.token_out, amount_in)
        if not 0 < given <= self.pool.balances[self.token_out]:
            raise AmmError("nothing comes out, or more than the pool has")
        return given

    def cheapest_in(self, amount_out: int) -> int:
        """Return what the pool itself asks for as much, which may be a little more than the least; raises AmmError where it has not as much."""
        asked = self.pool.amount_in(self.token_in, self.token_out, amount_out)
        # An invariant that is one off makes it ask for less than it takes, of a token with more decimals much less.
        for doublings in range(MOST_DOUBLINGS):
            amount = asked + (1 << doublings) - 1
            if self.amount_out(amount) >= amount_out:
                return amount
        raise AmmError("the pool does not give as much for what it asks")

    def piece(self, amount_in: int) -> Piece | None:  # noqa: ARG002
        """Return None: powers and stable curves have no such map."""
        return None


@dataclass(frozen=True, slots=True)
class CurveLeg:
    """A hop between two coins of a Curve pool, by their numbers in it."""

    pool: CurvePool
    coin_in: int
    coin_out: int

    def amount_out(self, amount_in: int) -> int:
        """Return what comes out; raises AmmError where the pool would revert, or nothing does."""
        if amount_in <= 0:
            raise AmmError("nothing goes in")
        given = self.pool.amount_out(self.coin_in, self.coin_out, amount_in)
        if given <= 0:
            raise AmmError("nothing comes out")
        return given

    def cheapest_in(self, amount_out: int) -> int:
        """Return the least input that gives as much; raises AmmError where there is none."""
        if not 0 < amount_out < self.pool.balances[self.coin_out]:
            raise AmmError("the pool does not hold as much")
        low, high = 0, 1
        while not self._gives(high, amount_out):
            if high > UINT112_MAX:
                raise AmmError("the pool does not give as much")
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._gives(middle, amount_out) else (middle, high)
        return high

    def piece(self, amount_in: int) -> Piece | None:  # noqa: ARG002
        """Return None: stable curves have no such map."""
        return None

    def _gives(self, amount_in: int, amount_out: int) -> bool:
        # Of next to nothing a pool has less than nothing to give, and reverts.
        try:
            return self.pool.amount_out(self.coin_in, self.coin_out, amount_in) >= amount_out
        except AmmError:
            return False


AnyLeg = Leg | ConcentratedLeg | SolidlyLeg | BalancerLeg | CurveLeg


def legs_of(cycle: Cycle, state: MarketState) -> list[AnyLeg]:
    """Return a cycle's pools as they are now; raises AmmError where one is not usable."""
    return [leg_of(state, hop) for hop in cycle.hops]


def amounts(legs: Sequence[AnyLeg], amount_in: int) -> list[int]:
    """Return what is put in, what is held after each hop, and so at the end what comes out; raises AmmError as the pools."""
    held = [amount_in]
    for leg in legs:
        held.append(leg.amount_out(held[-1]))
    return held


def leg_of(state: MarketState, hop: Hop) -> AnyLeg:
    """Return a hop's pool as it is now; raises AmmError where it is not usable."""
    pool = state.pools()[hop.pool]
    if pool.concentrated:
        found = state.concentrated(hop.pool)
        if found is None:
            raise AmmError("the pool is not usable")
        return ConcentratedLeg(found, hop.zero_for_one)
    if pool.balancer is not None:
        several = state.balancer(hop.pool)
        if several is None:
            raise AmmError("the pool is not usable")
        return BalancerLeg(several, *places(pool, zero_for_one=hop.zero_for_one))
    if pool.curve is not None:
        coined = state.curve(hop.pool)
        if coined is None:
            raise AmmError("the pool is not usable")
        return CurveLeg(coined, *coins(pool, zero_for_one=hop.zero_for_one))
    if pool.solidly:
        curve = state.solidly(hop.pool)
        if curve is None:
            raise AmmError("the pool is not usable")
        return SolidlyLeg(curve, hop.zero_for_one)
    reserves = state.v2(hop.pool)
    inward = (reserves.reserve0, reserves.reserve1) if hop.zero_for_one else (reserves.reserve1, reserves.reserve0)
    return Leg(*inward, pool.fee_numerator, pool.fee_denominator)
