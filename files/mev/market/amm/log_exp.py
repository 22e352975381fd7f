"""Balancer's powers of 18-decimal numbers, bit for bit: LogExpMath.pow and FixedPoint's roundings of it.

Natural logarithm and exponential by table and series, in 20 decimals, near one in 36. Divisions of signed numbers round to zero. Source:
balancer-v2-monorepo, solidity-utils 2.0.0 and 4.0.0 (LogExpMath, FixedPoint).
"""

from mev.market.amm.errors import AmmError

ONE = 10**18
TWO = 2 * ONE
FOUR = 4 * ONE

_ONE_20 = 10**20
_ONE_36 = 10**36
_LEAST_EXPONENT = -41 * ONE
_GREATEST_EXPONENT = 130 * ONE
_NEAR_ONE = 10**17
_MILD_EXPONENT = 2**254 // _ONE_20
# FixedPoint adds or takes off what the power may be wrong by: 10**-14 of it, and one.
_POW_ERROR = 10_000
# 2**k and e**(2**k): two without decimals, the rest in 20 decimals.
_LARGE = (
    (128 * ONE, 38877084059945950922200000000000000000000000000000000000),
    (64 * ONE, 6235149080811616882910000000),
)
_SMALL = (
    (3200000000000000000000, 7896296018268069516100000000000000),
    (1600000000000000000000, 888611052050787263676000000),
    (800000000000000000000, 298095798704172827474000),
    (400000000000000000000, 5459815003314423907810),
    (200000000000000000000, 738905609893065022723),
    (100000000000000000000, 271828182845904523536),
    (50000000000000000000, 164872127070012814685),
    (25000000000000000000, 128402541668774148407),
    (12500000000000000000, 113314845306682631683),
    (6250000000000000000, 106449445891785942956),
)
# The exponential leaves the last two of the table to its series.
_SMALL_IN_EXP = 8
_EXP_TERMS = 12
_LN_TERMS = (3, 5, 7, 9, 11)
_LN_36_TERMS = (3, 5, 7, 9, 11, 13, 15)


def mul_down(a: int, b: int) -> int:
    """Return a b, 18 decimals, rounded down."""
    return _fits(a * b) // ONE


def mul_up(a: int, b: int) -> int:
    """Return a b, 18 decimals, rounded up."""
    return -(-_fits(a * b) // ONE)


def div_down(a: int, b: int) -> int:
    """Return a / b, 18 decimals, rounded down; raises AmmError for b = 0."""
    if b == 0:
        raise AmmError("ZERO_DIVISION")
    return _fits(a * ONE) // b


def div_up(a: int, b: int) -> int:
    """Return a / b, 18 decimals, rounded up; raises AmmError for b = 0."""
    if b == 0:
        raise AmmError("ZERO_DIVISION")
    return -(-_fits(a * ONE) // b)


def pow_up(base: int, exponent: int, *, shortcuts: bool) -> int:
    """Return base**exponent, never too small; with `shortcuts`, exponents 1, 2 and 4 are multiplied out, as contracts since 2022 do."""
    if shortcuts:
        if exponent == ONE:
            return base
        if exponent == TWO:
            return mul_up(base, base)
        if exponent == FOUR:
            square = mul_up(base, base)
            return mul_up(square, square)
    raw = power(base, exponent)
    return raw + mul_up(raw, _POW_ERROR) + 1


def power(base: int, exponent: int) -> int:
    """Return base**exponent, 18 decimals, within 10**-14 of it; raises AmmError where LogExpMath reverts."""
    if exponent == 0:
        return ONE
    if base == 0:
        return 0
    if base >> 255:
        raise AmmError("X_OUT_OF_BOUNDS")
    if exponent >= _MILD_EXPONENT:
        raise AmmError("Y_OUT_OF_BOUNDS")
    if ONE - _NEAR_ONE < base < ONE + _NEAR_ONE:
        log = _ln_36(base)
        whole = _divided(log, ONE)
        product = whole * exponent + _divided((log - whole * ONE) * exponent, ONE)
    else:
        product = _ln(base) * exponent
    product = _divided(product, ONE)
    if not _LEAST_EXPONENT <= product <= _GREATEST_EXPONENT:
        raise AmmError("PRODUCT_OUT_OF_BOUNDS")
    return _exp(product)


def _exp(x: int) -> int:
    if x < 0:
        return ONE * ONE // _exp(-x)
    first = 1
    for exponent, value in _LARGE:
        if x >= exponent:
            x -= exponent
            first = value
            break
    x *= 100
    product = _ONE_20
    for exponent, value in _SMALL[:_SMALL_IN_EXP]:
        if x >= exponent:
            x -= exponent
            product = product * value // _ONE_20
    series = term = _ONE_20
    for number in range(1, _EXP_TERMS + 1):
        term = term * x // _ONE_20 // number
        series += term
    return product * series // _ONE_20 * first // 100


def _ln(a: int) -> int:
    if a < ONE:
        return -_ln(ONE * ONE // a)
    total = 0
    for exponent, value in _LARGE:
        if a >= value * ONE:
            a //= value
            total += exponent
    total *= 100
    a *= 100
    for exponent, value in _SMALL:
        if a >= value:
            a = a * _ONE_20 // value
            total += exponent
    z = (a - _ONE_20) * _ONE_20 // (a + _ONE_20)
    square = z * z // _ONE_20
    series = term = z
    for number in _LN_TERMS:
        term = term * square // _ONE_20
        series += term // number
    return (total + 2 * series) // 100


def _ln_36(x: int) -> int:
    x *= ONE
    z = _divided((x - _ONE_36) * _ONE_36, x + _ONE_36)
    square = z * z // _ONE_36
    series = term = z
    for number in _LN_36_TERMS:
        term = _divided(term * square, _ONE_36)
        series += _divided(term, number)
    return 2 * series


def _divided(a: int, b: int) -> int:
    return a // b if a >= 0 else -(-a // b)


def _fits(value: int) -> int:
    if value >> 256:
        raise AmmError("MUL_OVERFLOW")
    return value
