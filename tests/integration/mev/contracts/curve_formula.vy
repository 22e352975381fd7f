# pragma version 0.4.3
# pragma evm-version cancun
"""
@title StableSwap by its published formulas, written anew
@dev No contract of Curve's: a second implementation, in the language of the first, whose arithmetic is checked by the EVM. `version` is 1
     without precision in A, 2 with two digits of it, 3 for StableSwap-NG.
"""

ONE: constant(uint256) = 10**18
FEE_ONE: constant(uint256) = 10**10
COINS: constant(uint256) = 5

struct Pool:
    version: uint256
    balances: DynArray[uint256, COINS]
    rates: DynArray[uint256, COINS]
    amplification: uint256
    fee: uint256
    admin_fee: uint256
    multiplier: uint256
    supply: uint256


@pure
@external
def exchange(pool: Pool, i: uint256, j: uint256, dx: uint256) -> (uint256, DynArray[uint256, COINS]):
    xp: DynArray[uint256, COINS] = self._xp(pool)
    x: uint256 = xp[i] + dx * pool.rates[i] // ONE
    d: uint256 = self._d(pool, xp)
    moved: DynArray[uint256, COINS] = xp
    moved[i] = x
    y: uint256 = self._y(pool, moved, j, d)
    gross: uint256 = xp[j] - y - 1
    fee: uint256 = pool.fee
    if pool.version == 3 and pool.multiplier > FEE_ONE:
        a: uint256 = (xp[i] + x) // 2
        b: uint256 = (xp[j] + y) // 2
        fee = pool.multiplier * pool.fee // ((pool.multiplier - FEE_ONE) * 4 * a * b // ((a + b) * (a + b)) + FEE_ONE)
    charged: uint256 = gross * fee // FEE_ONE
    dy: uint256 = (gross - charged) * ONE // pool.rates[j]
    balances: DynArray[uint256, COINS] = pool.balances
    balances[i] += dx
    balances[j] -= dy + charged * pool.admin_fee // FEE_ONE * ONE // pool.rates[j]
    return dy, balances


@pure
@external
def add_liquidity(pool: Pool, amounts: DynArray[uint256, COINS]) -> (uint256, DynArray[uint256, COINS]):
    n: uint256 = len(amounts)
    d0: uint256 = self._d(pool, self._xp(pool))
    grown: Pool = pool
    for k: uint256 in range(n, bound=COINS):
        grown.balances[k] += amounts[k]
    d1: uint256 = self._d(grown, self._xp(grown))
    kept: DynArray[uint256, COINS] = grown.balances
    fee: uint256 = pool.fee * n // (4 * (n - 1))
    for k: uint256 in range(n, bound=COINS):
        ideal: uint256 = d1 * pool.balances[k] // d0
        off: uint256 = max(ideal, grown.balances[k]) - min(ideal, grown.balances[k])
        charged: uint256 = fee * off // FEE_ONE
        kept[k] = grown.balances[k] - charged * pool.admin_fee // FEE_ONE
        grown.balances[k] -= charged
    d2: uint256 = self._d(grown, self._xp(grown))
    return pool.supply * (d2 - d0) // d0, kept


@pure
@external
def remove_liquidity_one_coin(pool: Pool, tokens: uint256, i: uint256) -> (uint256, DynArray[uint256, COINS]):
    n: uint256 = len(pool.balances)
    xp: DynArray[uint256, COINS] = self._xp(pool)
    d0: uint256 = self._d(pool, xp)
    d1: uint256 = d0 - tokens * d0 // pool.supply
    y: uint256 = self._y(pool, xp, i, d1)
    without_fee: uint256 = (xp[i] - y) * ONE // pool.rates[i]
    fee: uint256 = pool.fee * n // (4 * (n - 1))
    reduced: DynArray[uint256, COINS] = xp
    for k: uint256 in range(n, bound=COINS):
        expected: uint256 = 0
        if k == i:
            expected = xp[k] * d1 // d0 - y
        else:
            expected = xp[k] - xp[k] * d1 // d0
        reduced[k] -= fee * expected // FEE_ONE
    dy: uint256 = (reduced[i] - self._y(pool, reduced, i, d1) - 1) * ONE // pool.rates[i]
    balances: DynArray[uint256, COINS] = pool.balances
    balances[i] -= dy + (without_fee - dy) * pool.admin_fee // FEE_ONE
    return dy, balances


@pure
@internal
def _xp(pool: Pool) -> DynArray[uint256, COINS]:
    xp: DynArray[uint256, COINS] = pool.balances
    for k: uint256 in range(len(pool.balances), bound=COINS):
        xp[k] = pool.balances[k] * pool.rates[k] // ONE
    return xp


@pure
@internal
def _precision(pool: Pool) -> uint256:
    if pool.version == 1:
        return 1
    return 100


@pure
@internal
def _d(pool: Pool, xp: DynArray[uint256, COINS]) -> uint256:
    n: uint256 = len(xp)
    s: uint256 = 0
    for x: uint256 in xp:
        s += x
    ann: uint256 = pool.amplification * n
    p: uint256 = self._precision(pool)
    d: uint256 = s
    for step: uint256 in range(255):
        dp: uint256 = d
        for x: uint256 in xp:
            if pool.version == 3:
                dp = dp * d // x
            else:
                dp = dp * d // (x * n)
        if pool.version == 3:
            dp //= pow_mod256(n, n)
        before: uint256 = d
        d = (ann * s // p + dp * n) * d // ((ann - p) * d // p + (n + 1) * dp)
        if max(d, before) - min(d, before) <= 1:
            return d
    raise "no convergence"


@pure
@internal
def _y(pool: Pool, xp: DynArray[uint256, COINS], j: uint256, d: uint256) -> uint256:
    n: uint256 = len(xp)
    ann: uint256 = pool.amplification * n
    p: uint256 = self._precision(pool)
    c: uint256 = d
    s: uint256 = 0
    for k: uint256 in range(n, bound=COINS):
        if k != j:
            s += xp[k]
            c = c * d // (xp[k] * n)
    c = c * d * p // (ann * n)
    b: uint256 = s + d * p // ann
    y: uint256 = d
    for step: uint256 in range(255):
        before: uint256 = y
        y = (y * y + c) // (2 * y + b - d)
        if max(y, before) - min(y, before) <= 1:
            return y
    raise "no convergence"
