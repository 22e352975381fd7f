"""Tokens, pools and blocks."""

from enum import Enum

import msgspec

Address = bytes
Hash = bytes


class Token(msgspec.Struct, frozen=True):
    """An ERC-20 token on one chain; amounts of it are integers of 10**-decimals."""

    address: Address
    symbol: str
    decimals: int


class Block(msgspec.Struct, frozen=True):
    """A block's head: what state is pinned to."""

    number: int
    hash: Hash
    parent_hash: Hash
    timestamp: int
    base_fee_wei: int


class Algebra(Enum):
    """Who says an Algebra pool's fee."""

    # The pool, by its events: no plugin of its has to do with fees.
    OWN = 1
    # Its plugin, which is asked for it after each block.
    PLUGIN = 2
    # Of a pool before Integral (QuickSwap V3): its own storage of the past, anew in the first swap of each block; what it would be is asked after each block.
    BEFORE_INTEGRAL = 3


class V4Key(msgspec.Struct, frozen=True):
    """Where a Uniswap V4 pool is: in which PoolManager, and under which id. Its fee is fixed, and no contract of its own is called (no hooks).

    With `native` its first currency is the chain's native coin: the pool's token0 is the wrapped form then, also where its address is the higher one.
    """

    manager: Address
    id: Hash
    native: bool = False


class BalancerKey(msgspec.Struct, frozen=True):
    """Where a Balancer V2 pool is: in which vault, under which id, and between which tokens it swaps, in its own order."""

    vault: Address
    id: Hash
    tokens: tuple[Address, ...]


class CurveKey(msgspec.Struct, frozen=True):
    """Where a Curve pool is, between which coins it swaps, in its own order, and of a meta pool the pool whose LP token is its last coin.

    `signed`: its getters count coins in int128, as those of 2020 do.
    """

    pool: Address
    coins: tuple[Address, ...]
    base: Address | None = None
    signed: bool = False


class Pool(msgspec.Struct, frozen=True):
    """A pool as its factory made it: constant product (Uniswap V2 and its forks), with a tick spacing concentrated liquidity (Uniswap V3, Algebra), or Solidly's.

    The fee stays in the pool: of amount_in, fee_numerator / fee_denominator takes part in the swap (997/1000; of 3000 millionths
    997000/1000000). A Solidly pool's fee is its factory's and may change: it is part of the pool's state, and stands here as 0/1;
    so is an Algebra pool's.
    A Uniswap V4 pool has no address of its own: the first 20 bytes of its id stand here, and fee and spacing are its key's; what the protocol
    takes beside the fee is part of its state.
    A Balancer V2 or a Curve pool may have many tokens: each two of them stand as a pool of their own here, under an address that nobody has, and all
    of one pool hold the same state, fee (0/1 here) and all.
    """

    address: Address
    factory: str
    token0: Address
    token1: Address
    fee_numerator: int
    fee_denominator: int
    # 0 where liquidity is not concentrated.
    tick_spacing: int = 0
    # Of a Solidly pool: whether its curve is the stable one; None where it is none.
    stable: bool | None = None
    # Of an Algebra pool: who says its fee; None where it is none.
    algebra: Algebra | None = None
    # Of a Uniswap V4 pool.
    v4: V4Key | None = None
    # Of two tokens of a Balancer V2 pool.
    balancer: BalancerKey | None = None
    # Of two coins of a Curve pool.
    curve: CurveKey | None = None

    @property
    def whole(self) -> Address:
        """What a swap through it changes, all of it: the pool's own address where this is two tokens of several."""
        if self.curve is not None:
            return self.curve.pool
        return self.address if self.balancer is None else self.balancer.id[:20]

    @property
    def several(self) -> bool:
        """Whether it is two tokens of a pool that may have more of them, Balancer's or Curve's, whose curve has no closed form."""
        return self.balancer is not None or self.curve is not None

    @property
    def solidly(self) -> bool:
        """Whether it is a Solidly pool (Velodrome V2, Aerodrome), stable or volatile."""
        return self.stable is not None

    @property
    def concentrated(self) -> bool:
        """Whether it is a V3 pool, Algebra's or V4's."""
        return self.tick_spacing > 0


class V2State(msgspec.Struct, frozen=True):
    """A pool's reserves after a block, in base units of token0 and token1."""

    reserve0: int
    reserve1: int
    block_number: int


class Hop(msgspec.Struct, frozen=True):
    """One swap of a cycle: through which pool, and in which direction."""

    pool: Address
    zero_for_one: bool
