"""A router's call as what it does to pools, step by step: each swap finds the pools as the ones before it left them, and amounts flow on.

A router is taken to hold nothing before its call but the native coin that comes with it: what it holds belongs to whoever comes first. What cannot
be computed is named (Unevaluated), never guessed.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import NamedTuple

from mev.domain.calls import Act, RouterAct, RouterCall, RouterHop, RouterSwap, Venue
from mev.domain.market import Address
from mev.market.amm import AmmError
from mev.trading.strategies.sandwich import Curve, PathHop

# More hops than that nobody means, and each is attacked.
MAX_HOPS = 8
BIPS = 10_000
NATIVE: Address = bytes(20)


class Unevaluated(StrEnum):
    """Why a call was not evaluated."""

    # The calldata do not hold together.
    MALFORMED = "malformed"
    # The chain's market is not loaded.
    NO_MARKET = "no_market"
    # It is not known whose pools the router swaps through.
    UNKNOWN_ROUTER = "unknown_router"
    # A pool of the path is none that is watched.
    UNWATCHED_POOL = "unwatched_pool"
    # A pool of the path has no price, or contradicted itself.
    UNUSABLE_POOL = "unusable_pool"
    # Pools of kinds that are not followed here; of V4's those of recorded blocks, of Algebra's those whose plugin or past says the fee.
    VENUE_V4 = "venue_v4"
    VENUE_SLIPSTREAM = "venue_slipstream"
    VENUE_ALGEBRA = "venue_algebra"
    # A step between the swaps is not understood, or depends on what somebody else holds.
    STEP = "step"
    # A step may fail without the others.
    MAY_FAIL = "may_fail"
    # A swap may end at a price, half done.
    PRICE_LIMIT = "price_limit"
    # A swap has a limit for each of its hops.
    HOP_LIMITS = "hop_limits"
    # A pair is said to have been paid before.
    ALREADY_PAID = "already_paid"
    # An exact output of a pool that sells none.
    EXACT_OUT = "exact_out"
    # One pool in both directions: what an attack would do there is not one number.
    BOTH_WAYS = "both_ways"
    TOO_LONG = "too_long"
    # A function for tokens that tax transfers, where nobody knows whether its tokens do.
    TAXED = "taxed"
    # It would be refused as the market stands.
    REFUSED = "refused"


UNKEPT = {
    Venue.V4: Unevaluated.VENUE_V4,
    Venue.SLIPSTREAM: Unevaluated.VENUE_SLIPSTREAM,
}


class Leg(NamedTuple):
    """A swap and the pools that it goes through, each with its direction (zero for one)."""

    name: str
    swap: RouterSwap
    pools: tuple[tuple[Address, bool], ...]
    keeps: bool
    # Within V4's manager, which is paid and gives afterwards.
    managed: bool = False


class Plan(NamedTuple):
    """What a call does; `curves` are its pools before it, `value_wei` the native coin that comes with it."""

    steps: tuple[Leg | RouterAct, ...]
    curves: Mapping[Address, Curve]
    router: Address
    wrapped: Address | None
    value_wei: int

    @property
    def legs(self) -> tuple[Leg, ...]:
        """Its swaps."""
        return tuple(step for step in self.steps if isinstance(step, Leg))


class Check(NamedTuple):
    """A limit of a step, and what is held against it: at least, or with exact_out at most `limit`; base units."""

    name: str
    token: Address | None
    value: int
    limit: int
    exact_out: bool
    # How many swaps there were up to it.
    legs: int


class Done(NamedTuple):
    """What a call came to: its pools after it, what went into each swap and came out of it, and its limits."""

    curves: dict[Address, Curve]
    amounts: list[tuple[int, int]]
    checks: list[Check]


def plan_of(
    call: RouterCall,
    resolve: Callable[[RouterHop], PathHop | Unevaluated],
    router: Address,
    wrapped: Address | None,
    value_wei: int,
) -> Plan | Unevaluated:
    """Return a call's plan, or why there is none; `resolve` gives each hop's pool as it is before the call."""
    steps: list[Leg | RouterAct] = []
    curves: dict[Address, Curve] = {}
    ways: dict[Address, bool] = {}
    hops = 0
    for step in call.steps:
        if isinstance(step, RouterAct):
            if step.kind is Act.OTHER or (wrapped is None and step.kind in {Act.WRAP, Act.UNWRAP}):
                return Unevaluated.STEP
            if step.kind is not Act.PERMIT:
                if step.may_fail:
                    return Unevaluated.MAY_FAIL
                steps.append(step)
            continue
        reason = _refusal(step)
        if reason is not None:
            return reason
        hops += len(step.hops)
        if hops > MAX_HOPS:
            return Unevaluated.TOO_LONG
        pools: list[tuple[Address, bool]] = []
        for hop in step.hops:
            found = resolve(hop)
            if isinstance(found, Unevaluated):
                return found
            if step.exact_out and hop.venue is Venue.SOLIDLY:
                return Unevaluated.EXACT_OUT
            if ways.setdefault(found.address, found.zero_for_one) != found.zero_for_one:
                return Unevaluated.BOTH_WAYS
            curves[found.address] = found.curve
            pools.append((found.address, found.zero_for_one))
        name = f"swap {sum(isinstance(each, Leg) for each in steps) + 1}"
        managed = step.hops[0].venue is Venue.V4
        steps.append(Leg(name, step, tuple(pools), step.to_router or step.recipient == router, managed))
    return Plan(tuple(steps), curves, router, wrapped, value_wei)


def _refusal(swap: RouterSwap) -> Unevaluated | None:
    if any(hop.venue is Venue.SLIPSTREAM for hop in swap.hops):
        return Unevaluated.VENUE_SLIPSTREAM
    if swap.may_fail:
        return Unevaluated.MAY_FAIL
    if swap.price_limit is not None:
        return Unevaluated.PRICE_LIMIT
    if swap.hop_limits:
        return Unevaluated.HOP_LIMITS
    if not (swap.amount or swap.whole):
        return Unevaluated.ALREADY_PAID
    return None


def run(plan: Plan, curves: Mapping[Address, Curve] | None = None) -> Done | None:
    """Do a plan on its pools, or on these instead; None where a pool, a limit or what the router holds refuses."""
    work = _Run(plan, dict(plan.curves if curves is None else curves))
    try:
        for step in plan.steps:
            if not (work.swap(step) if isinstance(step, Leg) else work.act(step)):
                return None
    except AmmError:
        return None
    return Done(work.curves, work.amounts, work.checks) if work.settled() else None


_MANAGED = frozenset({Act.SETTLE, Act.TAKE, Act.TAKE_PORTION})


def _currency(token: Address) -> Address | None:
    return None if token == NATIVE else token


class _Run:
    """A plan on its way; tokens that the router holds by their address, native coin by None."""

    def __init__(self, plan: Plan, curves: dict[Address, Curve]) -> None:
        self._plan = plan
        self.curves = curves
        self.amounts: list[tuple[int, int]] = []
        self.checks: list[Check] = []
        self._held: dict[Address | None, int] = {None: plan.value_wei}
        # What swaps within V4's manager left over, or below zero owe.
        self._deltas: dict[Address | None, int] = {}

    def settled(self) -> bool:
        """Whether V4's manager owes nothing and is owed nothing."""
        return not any(self._deltas.values())

    def swap(self, leg: Leg) -> bool:
        """Do a swap; False where it is refused."""
        if leg.managed:
            return self._within(leg)
        if not self.settled():
            return False
        swap, first = leg.swap, leg.swap.hops[0].token_in
        if swap.exact_out:
            given, taken = swap.amount, self._buy(leg, swap.amount)
        else:
            taken = self._held.get(first, 0) if swap.whole else swap.amount
            given = self._sell(leg, taken)
        if swap.from_router and not self._pay(first, taken):
            return False
        self.amounts.append((taken, given))
        if leg.keeps:
            last = swap.hops[-1].token_out
            self._held[last] = self._held.get(last, 0) + given
        if swap.exact_out:
            return self._check(leg.name, first, taken, swap.limit, exact_out=True)
        return self._check(leg.name, swap.hops[-1].token_out, given, swap.limit)

    def _within(self, leg: Leg) -> bool:
        swap = leg.swap
        first, last = (_currency(token) for token in (swap.hops[0].token_in, swap.hops[-1].token_out))
        amount = swap.amount
        if swap.whole:
            amount = -self._deltas.get(last, 0) if swap.exact_out else self._deltas.get(first, 0)
        if amount <= 0:
            return False
        if swap.exact_out:
            taken, given = self._buy(leg, amount), amount
        else:
            taken, given = amount, self._sell(leg, amount)
        self._deltas[first] = self._deltas.get(first, 0) - taken
        self._deltas[last] = self._deltas.get(last, 0) + given
        self.amounts.append((taken, given))
        if swap.exact_out:
            return self._check(leg.name, first, taken, swap.limit, exact_out=True)
        return self._check(leg.name, last, given, swap.limit)

    def _manage(self, act: RouterAct) -> bool:
        """Pay V4's manager, or have it pay."""
        delta = self._deltas.get(act.token, 0)
        if act.kind is Act.SETTLE:
            amount = self._held.get(act.token, 0) if act.whole else -delta if act.open else act.amount
            if amount < 0 or ((act.token is None or act.from_router) and not self._pay(act.token, amount)):
                return False
            self._deltas[act.token] = delta + amount
            return not act.open or self._check(act.name, act.token, amount, act.amount, exact_out=True)
        if act.kind is Act.TAKE_PORTION:
            amount = delta * act.amount // BIPS if act.amount <= BIPS else -1
        else:
            amount = delta if act.open else act.amount
        if amount < 0:
            return False
        self._deltas[act.token] = delta - amount
        self._keep(act, act.token, amount)
        return not (act.open and act.amount) or self._check(act.name, act.token, amount, act.amount)

    def act(self, act: RouterAct) -> bool:
        """Do what is no swap; False where it is refused."""
        if act.kind in _MANAGED:
            return self._manage(act)
        if not self.settled():
            return False
        held = self._held.get(act.token, 0)
        amount = held if act.whole else act.amount
        match act.kind:
            case Act.WRAP:
                return self._pay(None, amount) and self._keep(act, self._plan.wrapped, amount)
            case Act.UNWRAP:
                held = self._held.pop(self._plan.wrapped, 0)
                return self._check(act.name, self._plan.wrapped, held, act.amount) and self._keep(act, None, held)
            case Act.SWEEP:
                self._held[act.token] = 0
                return self._check(act.name, act.token, held, act.amount) and self._keep(act, act.token, held)
            case Act.PAY:
                return self._pay(act.token, amount) and self._keep(act, act.token, amount)
            case Act.PORTION:
                part = held * amount // BIPS
                return amount <= BIPS and self._pay(act.token, part) and self._keep(act, act.token, part)
            case Act.PULL:
                return self._keep(act, act.token, amount)
            case Act.UNLOCK:
                return True
        return False

    def _sell(self, leg: Leg, amount: int) -> int:
        for pool, zero_for_one in leg.pools:
            amount, self.curves[pool] = self.curves[pool].sell(amount, zero_for_one=zero_for_one)
        return amount

    def _buy(self, leg: Leg, amount: int) -> int:
        for pool, zero_for_one in reversed(leg.pools):
            amount, self.curves[pool] = self.curves[pool].buy(amount, zero_for_one=zero_for_one)
        return amount

    def _pay(self, token: Address | None, amount: int) -> bool:
        left = self._held.get(token, 0) - amount
        self._held[token] = left
        return left >= 0

    def _keep(self, act: RouterAct, token: Address | None, amount: int) -> bool:
        if act.to_router or act.recipient == self._plan.router:
            self._held[token] = self._held.get(token, 0) + amount
        return True

    def _check(self, name: str, token: Address | None, value: int, limit: int, *, exact_out: bool = False) -> bool:
        self.checks.append(Check(name, token, value, limit, exact_out, len(self.amounts)))
        return value <= limit if exact_out else value >= limit
