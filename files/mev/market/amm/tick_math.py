"""Ticks and square-root prices, bit for bit as Uniswap's TickMath gives them.

A price is sqrt(token1 / token0) in Q64.96; tick t stands for 1.0001**(t / 2). Source: v3-core 1.0.1, TickMath; V4 and Algebra have
the same numbers.
"""

from functools import lru_cache
from math import floor, log

from mev.market.amm.errors import AmmError

MIN_TICK = -887272
MAX_TICK = -MIN_TICK
MIN_SQRT_PRICE = 4295128739
MAX_SQRT_PRICE = 1461446703485210103287273052203988822378723970342

_UINT256_MAX = 2**256 - 1
_BITS = MAX_TICK.bit_length()
_Q128 = 128
# 1.0001**(-2**bit / 2) in Q128.128, rounded as the contract has it.
_FACTORS = (
    0xFFFCB933BD6FAD37AA2D162D1A594001,
    0xFFF97272373D413259A46990580E213A,
    0xFFF2E50F5F656932EF12357CF3C7FDCC,
    0xFFE5CACA7E10E4E61C3624EAA0941CD0,
    0xFFCB9843D60F6159C9DB58835C926644,
    0xFF973B41FA98C081472E6896DFB254C0,
    0xFF2EA16466C96A3843EC78B326B52861,
    0xFE5DEE046A99A2A811C461F1969C3053,
    0xFCBE86C7900A88AEDCFFC83B479AA3A4,
    0xF987A7253AC413176F2B074CF7815E54,
    0xF3392B0822B70005940C7A398E4B70F3,
    0xE7159475A2C29B7443B29C7FA6E889D9,
    0xD097F3BDFD2022B8845AD8F792AA5825,
    0xA9F746462D870FDF8A65DC1F90E061E5,
    0x70D869A156D2A1B890BB3DF62BAF32F7,
    0x31BE135F97D08FD981231505542FCFA6,
    0x9AA508B5B7A84E1C677DE54F3E99BC9,
    0x5D6AF8DEDB81196699C329225EE604,
    0x2216E584F5FA1EA926041BEDFE98,
    0x48A170391F7DC42444E8FA2,
)
# The logarithm to base sqrt(1.0001): its scale, and what its error may be on either side.
_LOG_SCALE = 255738958999603826347141
_LOG_ERROR_BELOW = 3402992956809132418596140100660247210
_LOG_ERROR_ABOVE = 291339464771989622907027621153398088495
_LOG_BITS = 14
# The same in float64, which is wrong by less than a millionth of a tick; a price's own rounding is at most five of these, where it is lowest.
_LOG_ONE = 96 * log(2)
_TICKS_A_UNIT = 2 / log(1.0001)
_MARGIN = 1e-4


@lru_cache(maxsize=1 << 16)
def sqrt_price_at(tick: int) -> int:
    """Return the price of a tick, Q64.96, rounded up from Q128.128; raises AmmError outside the ticks that exist."""
    distance = abs(tick)
    if distance > MAX_TICK:
        raise AmmError("T")
    ratio = _FACTORS[0] if distance & 1 else 1 << _Q128
    for bit in range(1, _BITS):
        if distance >> bit & 1:
            ratio = ratio * _FACTORS[bit] >> _Q128
    if tick > 0:
        ratio = _UINT256_MAX // ratio
    return -(-ratio >> 32)


def tick_at(sqrt_price_x96: int) -> int:
    """Return the greatest tick whose price is not above this one; raises AmmError outside [MIN_SQRT_PRICE, MAX_SQRT_PRICE)."""
    if not MIN_SQRT_PRICE <= sqrt_price_x96 < MAX_SQRT_PRICE:
        raise AmmError("R")
    near = (log(sqrt_price_x96) - _LOG_ONE) * _TICKS_A_UNIT
    tick = floor(near)
    return tick if _MARGIN < near - tick < 1 - _MARGIN else exact_tick_at(sqrt_price_x96)


def exact_tick_at(sqrt_price_x96: int) -> int:
    """Return the same as `tick_at` as the contract computes it, of a price within the bounds."""
    ratio = sqrt_price_x96 << 32
    msb = ratio.bit_length() - 1
    mantissa = ratio >> msb - 127 if msb >= _Q128 else ratio << 127 - msb
    log2 = msb - _Q128 << 64
    for bit in range(_LOG_BITS):
        mantissa = mantissa * mantissa >> 127
        carry = mantissa >> _Q128
        log2 |= carry << 63 - bit
        mantissa >>= carry
    scaled = log2 * _LOG_SCALE
    low = scaled - _LOG_ERROR_BELOW >> _Q128
    high = scaled + _LOG_ERROR_ABOVE >> _Q128
    return high if low == high or sqrt_price_at(high) <= sqrt_price_x96 else low


def usable(tick_spacing: int) -> tuple[int, int]:
    """Return the least and the greatest tick that a position may end at."""
    greatest = MAX_TICK // tick_spacing * tick_spacing
    return -greatest, greatest
