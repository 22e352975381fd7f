"""The few contract calls that the trader makes, as ABI words. Standard library only: the world container runs this.

Selectors are the first four bytes of keccak-256 of the signature; the standard library has no keccak, so they stand
here and the tests derive them again.
"""

from __future__ import annotations

SELECTORS = {
    "allowance(address,address)": "dd62ed3e",
    "balanceOf(address)": "70a08231",
    "deposit()": "d0e30db0",
    "exactInputSingle((address,address,uint24,address,uint256,uint256,uint256,uint160))": "414bf389",
    "getReserves()": "0902f1ac",
    "mint(uint256)": "a0712d68",
    "slot0()": "3850c7bd",
    "swapExactTokensForTokens(uint256,uint256,address[],address,uint256)": "38ed1739",
}

WORD_BYTES = 32

# A deadline that no block reaches.
NEVER = 2**64


def call_data(signature: str, *words: int | str) -> str:
    """Return the data of a call whose arguments are all one word: numbers, or addresses as hex."""
    return "0x" + SELECTORS[signature] + "".join(_word(word) for word in words)


def swap_v2_data(amount_in: int, token_in: str, token_out: str, to: str) -> str:
    """Return the data of UniswapV2Router02's swap of exactly `amount_in` base units along one pool, at any price."""
    offset_of_path = 5 * WORD_BYTES
    return call_data(
        "swapExactTokensForTokens(uint256,uint256,address[],address,uint256)",
        *(amount_in, 0, offset_of_path, to, NEVER),
        *(2, token_in, token_out),
    )


def swap_v3_data(amount_in: int, token_in: str, token_out: str, fee: int, to: str) -> str:
    """Return the data of Uniswap V3 SwapRouter's swap of exactly `amount_in` base units in one pool, at any price.

    `fee` is in millionths.
    """
    return call_data(
        "exactInputSingle((address,address,uint24,address,uint256,uint256,uint256,uint160))",
        *(token_in, token_out, fee, to, NEVER, amount_in, 0, 0),
    )


def words(data: str) -> list[int]:
    """Return the 32-byte words of hex `data` as unsigned integers."""
    digits = data.removeprefix("0x")
    size = 2 * WORD_BYTES
    return [int(digits[start : start + size], 16) for start in range(0, len(digits), size)]


def _word(value: int | str) -> str:
    number = int(value, 16) if isinstance(value, str) else value
    return f"{number:0{2 * WORD_BYTES}x}"
