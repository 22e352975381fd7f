"""What a transaction asks of a router, before it is known whether it will be carried out."""

from enum import StrEnum

import msgspec

from mev.domain.market import Address


class Venue(StrEnum):
    """What kind of pool a hop goes through."""

    V2 = "v2"
    SOLIDLY = "solidly"
    V3 = "v3"
    SLIPSTREAM = "slipstream"
    ALGEBRA = "algebra"
    V4 = "v4"


class RouterHop(msgspec.Struct, frozen=True):
    """One swap of a path.

    `fee` is millionths (V3, V4), `tick_spacing` Slipstream's and V4's, `stable` and `factory` Solidly's (the zero address means the router's own),
    `hooks` V4's, `deployer` Algebra Integral's (the zero address means the factory's own pool).
    """

    venue: Venue
    token_in: Address
    token_out: Address
    fee: int | None = None
    tick_spacing: int | None = None
    stable: bool | None = None
    factory: Address | None = None
    hooks: Address | None = None
    deployer: Address | None = None


class RouterSwap(msgspec.Struct, frozen=True):
    """A swap along a path: exactly `amount` in for at least `limit` out, or with `exact_out`, exactly `amount` out for at most `limit` in.

    Amounts are base units as given: a router may have special values for what it holds. `native_in` and `native_out` where the path's ends are
    the wrapped native coin and the native one is paid or received. `deadline` is seconds since 1970, `price_limit` a square root in Q64.96.
    """

    hops: tuple[RouterHop, ...]
    amount: int
    limit: int
    exact_out: bool
    recipient: Address | None
    deadline: int | None = None
    price_limit: int | None = None
    native_in: bool = False
    native_out: bool = False


class RouterCall(msgspec.Struct, frozen=True):
    """A call that was understood: its swaps in their order; `others` counts the commands in it that are no swaps."""

    function: str
    swaps: tuple[RouterSwap, ...]
    others: int = 0


class UnknownCall(msgspec.Struct, frozen=True):
    """A call of a function that is none of the routers'; empty where there is no selector."""

    selector: bytes


class MalformedCall(msgspec.Struct, frozen=True):
    """A call with a router's selector whose data the router itself would refuse, or that asks for more than anyone means."""

    function: str
    reason: str
