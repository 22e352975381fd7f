"""Fixed-point arithmetic of Aave V3's libraries, with each function's own rounding.

Source: WadRayMath, PercentageMath, MathUtils of aave-v3-origin (3.5 and later). Inputs are never negative; where a contract would overflow 256 bits
and revert, Overflowed is raised.
"""

WAD = 10**18
RAY = 10**27
PERCENT = 10**4
SECONDS_PER_YEAR = 365 * 24 * 3600
UINT256_MAX = 2**256 - 1


class Overflowed(ArithmeticError):  # noqa: N818
    """The contract would revert: a product passes 256 bits, or something is divided by zero."""


def wad_div(a: int, b: int) -> int:
    """Return a / b in wad, half up."""
    return _divided(a * WAD + b // 2, b)


def ray_mul(a: int, b: int) -> int:
    """Return a * b in ray, half up."""
    return _divided(a * b + RAY // 2, RAY)


def ray_mul_floor(a: int, b: int) -> int:
    """Return a * b in ray, down."""
    return _divided(a * b, RAY)


def ray_mul_ceil(a: int, b: int) -> int:
    """Return a * b in ray, up."""
    return mul_div_ceil(a, b, RAY)


def percent_mul(value: int, percentage: int) -> int:
    """Return a part of a value, in ten-thousandths, half up."""
    return _divided(value * percentage + PERCENT // 2, PERCENT)


def percent_div(value: int, percentage: int) -> int:
    """Return what a value is a part of, half up."""
    return _divided(value * PERCENT + percentage // 2, percentage)


def percent_div_ceil(value: int, percentage: int) -> int:
    """Return what a value is a part of, up."""
    return mul_div_ceil(value, PERCENT, percentage)


def mul_div_ceil(a: int, b: int, c: int) -> int:
    """Return a * b / c, up."""
    product = a * b
    return _divided(product, c) + bool(product % c)


def linear_interest(rate: int, seconds: int) -> int:
    """Return the factor by which supply grows at a yearly rate (ray), in ray."""
    return RAY + _divided(rate * seconds, SECONDS_PER_YEAR)


def compounded_interest(rate: int, seconds: int) -> int:
    """Return the factor by which debt grows at a yearly rate (ray), in ray: e^x by its first four terms, as the contract does."""
    if seconds == 0:
        return RAY
    x = rate * seconds // SECONDS_PER_YEAR
    return RAY + x + ray_mul(x, x // 2 + ray_mul(x, x // 6))


def _divided(numerator: int, denominator: int) -> int:
    if denominator == 0 or numerator > UINT256_MAX:
        raise Overflowed
    return numerator // denominator
