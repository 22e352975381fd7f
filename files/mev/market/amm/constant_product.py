"""Constant-product pools (Uniswap V2 and its forks), exact as their contracts compute them.

Source: UniswapV2Library.getAmountOut / getAmountIn and UniswapV2Pair.swap (v2-periphery 1.1, v2-core 1.0). Of what is
paid in, fee_numerator / fee_denominator takes part in the swap: 997/1000 for Uniswap.
"""

from typing import NamedTuple

from mev.market.amm.errors import AmmError

UINT112_MAX = 2**112 - 1


class Swapped(NamedTuple):
    """A swap's result: base units given out, and both reserves afterwards."""

    amount_out: int
    reserve_in: int
    reserve_out: int


def amount_out(amount_in: int, reserve_in: int, reserve_out: int, fee_numerator: int, fee_denominator: int) -> int:
    """Return the most that a pool gives for exactly `amount_in`, base units, rounded down.

    Raises AmmError for no input, an empty pool, or an input after which the reserve passes 112 bits. A result of 0 is
    possible; the pool itself would refuse to give nothing.
    """
    if amount_in <= 0:
        raise AmmError("INSUFFICIENT_INPUT_AMOUNT")
    _check_liquidity(reserve_in, reserve_out)
    if reserve_in + amount_in > UINT112_MAX:
        raise AmmError("OVERFLOW")
    taking_part = amount_in * fee_numerator
    return taking_part * reserve_out // (reserve_in * fee_denominator + taking_part)


def amount_in(amount_out: int, reserve_in: int, reserve_out: int, fee_numerator: int, fee_denominator: int) -> int:
    """Return what the library asks for exactly `amount_out`, base units.

    It is at most one more than `cheapest_in`: the library adds one also where the division leaves nothing over.
    Raises AmmError for no output, for as much as the pool holds or more, and where the reserve would pass 112 bits.
    """
    _check_output(amount_out, reserve_in, reserve_out)
    asked = reserve_in * amount_out * fee_denominator // ((reserve_out - amount_out) * fee_numerator) + 1
    if reserve_in + asked > UINT112_MAX:
        raise AmmError("OVERFLOW")
    return asked


def cheapest_in(amount_out: int, reserve_in: int, reserve_out: int, fee_numerator: int, fee_denominator: int) -> int:
    """Return the smallest input for which the pool gives at least `amount_out`, base units; exact, without 112-bit limit.

    From floor(n x ro / (d ri + n x)) >= y follows x >= y d ri / (n (ro - y)). Raises AmmError as `amount_in` does.
    """
    _check_output(amount_out, reserve_in, reserve_out)
    return -(-reserve_in * amount_out * fee_denominator // ((reserve_out - amount_out) * fee_numerator))


def swap(amount_in: int, reserve_in: int, reserve_out: int, fee_numerator: int, fee_denominator: int) -> Swapped:
    """Return what a swap gives and leaves behind; raises AmmError where the pair would revert."""
    given = amount_out(amount_in, reserve_in, reserve_out, fee_numerator, fee_denominator)
    if given == 0:
        raise AmmError("INSUFFICIENT_OUTPUT_AMOUNT")
    return Swapped(given, reserve_in + amount_in, reserve_out - given)


def _check_liquidity(reserve_in: int, reserve_out: int) -> None:
    if reserve_in <= 0 or reserve_out <= 0:
        raise AmmError("INSUFFICIENT_LIQUIDITY")


def _check_output(amount_out: int, reserve_in: int, reserve_out: int) -> None:
    if amount_out <= 0:
        raise AmmError("INSUFFICIENT_OUTPUT_AMOUNT")
    _check_liquidity(reserve_in, reserve_out)
    if amount_out >= reserve_out:
        raise AmmError("INSUFFICIENT_LIQUIDITY")
