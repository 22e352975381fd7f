"""What a move of the price costs within one range of liquidity, rounded as Uniswap's SqrtPriceMath rounds.

Prices are square roots in Q64.96, liquidity is 128 bits, amounts are base units. Token0 moves the price down and token1 up when they are
put in. Source: v3-core 1.0.1, SqrtPriceMath; V4's and Algebra's give the same numbers.
"""

from mev.market.amm.errors import AmmError

Q96 = 96
UINT160_MAX = 2**160 - 1
UINT256_MAX = 2**256 - 1


def amount0_delta(lower: int, upper: int, liquidity: int, *, round_up: bool) -> int:
    """Return how much token0 lies between two prices, `lower` <= `upper`."""
    numerator = (liquidity << Q96) * (upper - lower)
    if round_up:
        return -(-numerator // upper // lower)
    return numerator // upper // lower


def amount1_delta(lower: int, upper: int, liquidity: int, *, round_up: bool) -> int:
    """Return how much token1 lies between two prices, `lower` <= `upper`."""
    product = liquidity * (upper - lower)
    return -(-product >> Q96) if round_up else product >> Q96


def price_after_input(price: int, liquidity: int, amount_in: int, *, zero_for_one: bool) -> int:
    """Return the price after `amount_in`, fee already taken off; never further than the amount carries it."""
    if not zero_for_one:
        after = price + (amount_in << Q96) // liquidity
        if after > UINT160_MAX:
            raise AmmError("SafeCast: the price passes 160 bits")
        return after
    return _after_token0_in(price, liquidity, amount_in)


def price_after_output(price: int, liquidity: int, amount_out: int, *, zero_for_one: bool) -> int:
    """Return the price after `amount_out` has left; never less far than the amount asks. Raises AmmError where there is not as much."""
    if zero_for_one:
        step = -(-(amount_out << Q96) // liquidity)
        if step >= price:
            raise AmmError("the range holds less token1")
        return price - step
    shifted, product = liquidity << Q96, amount_out * price
    if product > UINT256_MAX or product >= shifted:
        raise AmmError("the range holds less token0")
    after = -(-shifted * price // (shifted - product))
    if after > UINT160_MAX:
        raise AmmError("SafeCast: the price passes 160 bits")
    return after


def _after_token0_in(price: int, liquidity: int, amount_in: int) -> int:
    shifted = liquidity << Q96
    denominator = shifted + amount_in * price
    if denominator <= UINT256_MAX:
        return -(-shifted * price // denominator)
    # Where 256 bits do not hold the denominator, the contract divides first, which is less exact.
    return -(-shifted // (shifted // price + amount_in))
