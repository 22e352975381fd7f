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

    Amounts are base units. `native_in` and `native_out` where the path's ends are the wrapped native coin and the native one is paid or received.
    `deadline` is seconds since 1970, `price_limit` a square root in Q64.96. Between several swaps amounts may flow on: with `to_router` what comes
    out stays with the router, with `from_router` the router pays, and with `whole` it pays all that it holds, whatever `amount` says. V4's swaps neither pay nor
    receive: what they owe and leave over is settled and taken by other steps, and with `whole` such a swap is of all that the ones before it left over, or owe.
    `may_fail` where the other steps happen even if this one is refused, `hop_limits` where each hop has a limit of its own, which is not read.
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
    from_router: bool = False
    to_router: bool = False
    whole: bool = False
    may_fail: bool = False
    hop_limits: bool = False


class Act(StrEnum):
    """What a router does between swaps."""

    # Native coin that it holds, into wrapped: `amount` of it.
    WRAP = "wrap"
    # All wrapped coin that it holds, at least `amount`, into native.
    UNWRAP = "unwrap"
    # All that it holds of a token, at least `amount`, away from it.
    SWEEP = "sweep"
    # `amount` of a token away from it.
    PAY = "pay"
    # `amount` ten-thousandths of what it holds of a token away from it.
    PORTION = "portion"
    # `amount` of a token from the sender.
    PULL = "pull"
    # Within V4's manager: `amount` of a token to it, or with `open` all that the swaps there left it to be owed, at most `amount`.
    SETTLE = "settle"
    # `amount` of a token out of it, or with `open` all that the swaps there left over, at least `amount`.
    TAKE = "take"
    # `amount` ten-thousandths of what the swaps there left over.
    TAKE_PORTION = "take_portion"
    # V4's manager is asked anew: whoever asked before has left it nothing to pay or to take, or all is refused.
    UNLOCK = "unlock"
    # Nothing that moves a token: a permit.
    PERMIT = "permit"
    # Whatever it is: what follows cannot be computed.
    OTHER = "other"


class RouterAct(msgspec.Struct, frozen=True):
    """A step of a router's call that is no swap; `name` is the command's, `token` None for native coin, `amount` base units.

    `to_router` where what moves stays with the router, `from_router` where the router pays rather than the sender, `whole` where that is all that it holds.
    """

    kind: Act
    name: str
    token: Address | None = None
    amount: int = 0
    recipient: Address | None = None
    to_router: bool = False
    whole: bool = False
    may_fail: bool = False
    from_router: bool = False
    open: bool = False


class RouterCall(msgspec.Struct, frozen=True):
    """A call that was understood: its steps in their order."""

    function: str
    steps: tuple[RouterSwap | RouterAct, ...]

    @property
    def swaps(self) -> tuple[RouterSwap, ...]:
        """Its swaps, in their order."""
        return tuple(step for step in self.steps if isinstance(step, RouterSwap))

    @property
    def others(self) -> int:
        """How many of its steps are no swaps."""
        return len(self.steps) - len(self.swaps)


class UnknownCall(msgspec.Struct, frozen=True):
    """A call of a function that is none of the routers'; empty where there is no selector."""

    selector: bytes


class MalformedCall(msgspec.Struct, frozen=True):
    """A call with a router's selector whose data the router itself would refuse, or that asks for more than anyone means."""

    function: str
    reason: str
