"""Pools that give before they are paid: the first one of a path for nothing beside its swap, any other one for its fee.

A swap that is paid last costs what it costs paid first. A loan is a V2 pair's flash swap of one token against itself, or a V3 pool's flash().
"""

from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from mev.domain import Flash, Pool
from mev.domain.market import Address
from mev.market.amm import AmmError
from mev.market.state import MarketState

# Measured on the published contracts: 4,364 and 5,392 more than paid first; 65,723 of a V3 pool, 94,129 of a V2 pair more than without a loan.
PAID_LAST_GAS = 6_000
LOAN_GAS = 95_000
# Of those who could lend, so many are asked, the cheapest first.
LENDERS = 3


class Credit(NamedTuple):
    """A pool that gives first; `lends` where it is not the first one of the path."""

    pool: Pool
    lends: bool

    def owed(self, amount: int) -> int:
        """Return what the pool is paid at the end for what the path begins with, base units."""
        if not self.lends:
            return amount
        kept, whole = self.pool.fee_numerator, self.pool.fee_denominator
        # A V3 pool's fee is on what is lent, a V2 pair's on what is given back.
        return amount - (-amount * (whole - kept) // whole) if self.pool.concentrated else -(-amount * whole // kept)

    def lent(self, owed: int) -> int:
        """Return the most that a pool lends and is owed no more than `owed` for, base units."""
        kept, whole = self.pool.fee_numerator, self.pool.fee_denominator
        if not self.lends:
            return owed
        return owed * whole // (2 * whole - kept) if self.pool.concentrated else owed * kept // whole

    @property
    def more_gas(self) -> int:
        """What it takes beyond the same path with own capital, units."""
        return LOAN_GAS if self.lends else PAID_LAST_GAS

    def flash(self, amount: int) -> Flash:
        """Return how the executor is told of it."""
        return Flash(pool=self.pool.address, lent=amount if self.lends else 0)


def gives_first(pool: Pool) -> bool:
    """Whether the executor can pay a pool last: Solidly's, Algebra's and V4's call back by names that it does not have, or not for that."""
    return not pool.solidly and pool.algebra is None and pool.v4 is None and pool.fee_numerator > 0


class Lenders:
    """Who could lend a token, of the pools that are watched."""

    def __init__(self, pools: Collection[Pool], token: Address) -> None:
        self._token = token
        having = (pool for pool in pools if token in (pool.token0, pool.token1) and gives_first(pool))
        # A ten-thousandth of the token is enough to tell fees apart.
        self._cheapest = sorted(having, key=lambda pool: Credit(pool, lends=True).owed(10**18))

    def cheapest(self, without: Iterable[Address]) -> Iterator[Credit]:
        """Yield the cheapest few but for some."""
        passed_over = {*without}
        others = (pool for pool in self._cheapest if pool.address not in passed_over)
        return (Credit(pool, lends=True) for pool in islice(others, LENDERS))

    def has(self, state: MarketState, lender: Pool, amount: int) -> bool:
        """Whether a pool surely holds as much: what a V3 pool can sell it has."""
        first = lender.token0 == self._token
        try:
            if not lender.concentrated:
                reserves = state.v2(lender.address)
                return amount < (reserves.reserve0 if first else reserves.reserve1)
            found = state.concentrated(lender.address)
            return found is not None and found.swap_exact_out(amount, zero_for_one=not first).amount_out == amount
        except AmmError:
            return False
