"""Markets for the tests of search: pools between few tokens, whose reserves a test draws."""

from collections.abc import Sequence

from mev.domain import Block, Pool, V2State
from mev.market.state import MarketState

NATIVE, DOLLAR, EURO, COIN = (bytes([number]) * 20 for number in (0x11, 0x22, 0x33, 0x44))
GENESIS = Block(0, bytes(32), bytes(32), 0, 0)


def pool(number: int, one: bytes, other: bytes, fee: tuple[int, int] = (997, 1000)) -> Pool:
    token0, token1 = sorted((one, other))
    return Pool(number.to_bytes(20, "big"), "uniswap_v2", token0, token1, *fee)


def market(pools: Sequence[Pool], reserves: Sequence[tuple[int, int]]) -> MarketState:
    return MarketState(GENESIS, {one: V2State(*held, 0) for one, held in zip(pools, reserves, strict=True)})
