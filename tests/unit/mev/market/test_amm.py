"""Constant-product mathematics: what the pair's own requirements say, for any numbers."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from mev.market.amm import UINT112_MAX, AmmError, amount_in, amount_out, cheapest_in, swap

reserves = st.integers(1, UINT112_MAX)
amounts = st.integers(1, UINT112_MAX)
fees = st.sampled_from([(997, 1000), (9975, 10000), (998, 1000), (1, 1), (1, 1000)])


def test_the_library_s_own_numbers() -> None:
    # UniswapV2Router01's tests: getAmountOut(2, 100, 100) and getAmountIn(1, 100, 100).
    assert amount_out(2, 100, 100, 997, 1000) == 1
    assert amount_in(1, 100, 100, 997, 1000) == 2


@given(amounts, reserves, reserves, fees)
def test_k_never_decreases(paid: int, reserve_in: int, reserve_out: int, fee: tuple[int, int]) -> None:
    assume(reserve_in + paid <= UINT112_MAX)
    given_out = amount_out(paid, reserve_in, reserve_out, *fee)
    numerator, denominator = fee
    # UniswapV2Pair.swap: balances less the fee, multiplied, must not be under the reserves multiplied.
    adjusted = (reserve_in + paid) * denominator - paid * (denominator - numerator)
    assert adjusted * (reserve_out - given_out) >= reserve_in * reserve_out * denominator
    assert 0 <= given_out < reserve_out


@given(amounts, reserves, reserves, fees)
def test_one_unit_more_out_would_break_k(paid: int, reserve_in: int, reserve_out: int, fee: tuple[int, int]) -> None:
    assume(reserve_in + paid <= UINT112_MAX)
    numerator, denominator = fee
    too_much = amount_out(paid, reserve_in, reserve_out, *fee) + 1
    adjusted = reserve_in * denominator + paid * numerator
    assert adjusted * (reserve_out - too_much) < reserve_in * reserve_out * denominator


@given(amounts, amounts, reserves, reserves, fees)
def test_more_in_never_gives_less(
    one: int, other: int, reserve_in: int, reserve_out: int, fee: tuple[int, int]
) -> None:
    less, more = sorted((one, other))
    assume(reserve_in + more <= UINT112_MAX)
    assert amount_out(less, reserve_in, reserve_out, *fee) <= amount_out(more, reserve_in, reserve_out, *fee)


@given(amounts, reserves, reserves, fees)
def test_the_cheapest_input_is_enough_and_one_less_is_not(
    wanted: int, reserve_in: int, reserve_out: int, fee: tuple[int, int]
) -> None:
    assume(wanted < reserve_out)
    cheapest = cheapest_in(wanted, reserve_in, reserve_out, *fee)
    assume(reserve_in + cheapest <= UINT112_MAX)
    assert amount_out(cheapest, reserve_in, reserve_out, *fee) >= wanted
    if cheapest > 1:
        assert amount_out(cheapest - 1, reserve_in, reserve_out, *fee) < wanted


@given(amounts, reserves, reserves, fees)
def test_the_library_asks_for_one_more_at_most(
    wanted: int, reserve_in: int, reserve_out: int, fee: tuple[int, int]
) -> None:
    assume(wanted < reserve_out)
    cheapest = cheapest_in(wanted, reserve_in, reserve_out, *fee)
    assume(reserve_in + cheapest < UINT112_MAX)
    assert amount_in(wanted, reserve_in, reserve_out, *fee) - cheapest in {0, 1}


@given(amounts, reserves, reserves, fees)
def test_a_swap_moves_both_reserves_by_what_moved(
    paid: int, reserve_in: int, reserve_out: int, fee: tuple[int, int]
) -> None:
    try:
        swapped = swap(paid, reserve_in, reserve_out, *fee)
    except AmmError:
        return
    assert swapped.reserve_in - reserve_in == paid
    assert reserve_out - swapped.reserve_out == swapped.amount_out > 0


@pytest.mark.parametrize(
    ("paid", "reserve_in", "reserve_out", "why"),
    [
        (0, 1, 1, "INSUFFICIENT_INPUT_AMOUNT"),
        (-1, 1, 1, "INSUFFICIENT_INPUT_AMOUNT"),
        (1, 0, 1, "INSUFFICIENT_LIQUIDITY"),
        (1, 1, 0, "INSUFFICIENT_LIQUIDITY"),
        (1, UINT112_MAX, 1, "OVERFLOW"),
        (1, 1000, 1, "INSUFFICIENT_OUTPUT_AMOUNT"),
    ],
)
def test_what_the_pair_refuses(paid: int, reserve_in: int, reserve_out: int, why: str) -> None:
    with pytest.raises(AmmError, match=why):
        swap(paid, reserve_in, reserve_out, 997, 1000)


@pytest.mark.parametrize("wanted", [0, 5, 6])
def test_outputs_that_no_input_gives(wanted: int) -> None:
    with pytest.raises(AmmError):
        amount_in(wanted, 5, 5, 997, 1000)
    with pytest.raises(AmmError):
        cheapest_in(wanted, 5, 5, 997, 1000)


def test_the_last_amount_that_112_bits_hold() -> None:
    assert swap(1, UINT112_MAX - 1, 10**6 * UINT112_MAX, 1, 1).reserve_in == UINT112_MAX
