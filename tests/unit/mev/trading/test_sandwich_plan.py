"""Transactions with several swaps: what they do is done step by step, and what they expose is what trying amounts finds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mev.domain.calls import Act, RouterAct, RouterCall, RouterHop, RouterSwap, Venue
from mev.market.amm import AmmError
from mev.market.amm.solidly import SolidlyPool
from mev.trading.strategies.router_plan import MAX_HOPS, Plan, Unevaluated, plan_of, run
from mev.trading.strategies.sandwich import (
    ConcentratedCurve,
    Curve,
    Exposure,
    PairCurve,
    PathHop,
    SolidlyCurve,
    evaluate,
    most_exposed,
)
from mev.trading.strategies.sandwich_plan import evaluate_plan, one_path, searched

from tests.unit.mev.trading.test_sandwich import concentrated

if TYPE_CHECKING:
    from collections.abc import Callable

WRAPPED, A, B, C = (bytes([number]) * 20 for number in (0xEE, 0xA, 0xB, 0xC))
ROUTER, SENDER, ITSELF = b"\x77" * 20, b"\x88" * 20, (2).to_bytes(20, "big")
WEI = 10**18
CAPITAL = 10**25


@dataclass
class Pools:
    """Pools by the hop that they are for; in each of them the first token is token0."""

    curves: dict[tuple[bytes, bytes], Curve] = field(default_factory=dict)

    def resolve(self, hop: RouterHop) -> PathHop | Unevaluated:
        for number, (ends, curve) in enumerate(self.curves.items(), start=1):
            if ends in {(hop.token_in, hop.token_out), (hop.token_out, hop.token_in)}:
                return PathHop(bytes([number]) * 20, curve, ends[0] == hop.token_in)
        return Unevaluated.UNWATCHED_POOL


def pair(reserve0: int = 1000 * WEI, reserve1: int = 1000 * WEI) -> PairCurve:
    return PairCurve(reserve0, reserve1, 997, 1000)


def swap(*tokens: bytes, amount: int = 0, limit: int = 0, keeps: bool = False, **more: object) -> RouterSwap:
    hops = tuple(RouterHop(Venue.V2, tokens[at], tokens[at + 1]) for at in range(len(tokens) - 1))
    whole = not amount
    given_ = {"from_router": whole, "whole": whole, "to_router": keeps, "exact_out": False, **more}
    return RouterSwap(hops, amount, limit, recipient=SENDER, **given_)  # type: ignore[arg-type]


def planned(pools: Pools, *steps: RouterSwap | RouterAct, value: int = 0) -> Plan:
    made = plan_of(RouterCall("execute", steps), pools.resolve, ROUTER, WRAPPED, value)
    assert isinstance(made, Plan), made
    return made


def exposed(plan: Plan, cost: int = 0) -> Exposure:
    found = evaluate_plan(plan, CAPITAL, cost)
    assert isinstance(found, Exposure), found
    return found


def test_amounts_flow_from_step_to_step() -> None:
    pools = Pools({(WRAPPED, A): pair(), (A, B): pair(500 * WEI, 700 * WEI)})
    plan = planned(
        pools,
        RouterAct(Act.PERMIT, "permit"),
        RouterAct(Act.WRAP, "wrap", amount=10 * WEI, to_router=True),
        swap(WRAPPED, A, keeps=True),
        swap(A, B, keeps=True),
        RouterAct(Act.PORTION, "portion", B, 100, SENDER),
        RouterAct(Act.SWEEP, "sweep", B, 5 * WEI),
        RouterAct(Act.SWEEP, "refund"),
        value=11 * WEI,
    )
    first, _ = pair().sell(10 * WEI, zero_for_one=True)
    second, _ = pair(500 * WEI, 700 * WEI).sell(first, zero_for_one=True)
    done = run(plan)
    assert done is not None
    assert done.amounts == [(10 * WEI, first), (first, second)]
    left = second - second // 100
    assert [(check.name, check.value, check.limit) for check in done.checks] == [
        ("swap 1", first, 0),
        ("swap 2", second, 0),
        ("sweep", left, 5 * WEI),
        ("refund", WEI, 0),
    ]


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param((swap(A, B, amount=WEI, limit=WEI),), id="a swap's own limit"),
        pytest.param((swap(A, B, amount=WEI, keeps=True), RouterAct(Act.SWEEP, "s", B, WEI)), id="what is swept"),
        pytest.param((swap(A, B, amount=WEI, from_router=True),), id="the router holds nothing"),
        pytest.param((swap(A, B),), id="the router has nothing to swap"),
        pytest.param((RouterAct(Act.WRAP, "w", amount=WEI, to_router=True), swap(A, B, amount=1)), id="no coin to wrap"),
        pytest.param((swap(A, B, amount=WEI), RouterAct(Act.UNWRAP, "u", amount=1)), id="nothing to unwrap"),
        pytest.param((swap(A, B, amount=WEI), RouterAct(Act.PAY, "p", B, 1)), id="nothing to pay"),
        pytest.param((swap(A, B, amount=WEI, keeps=True), RouterAct(Act.PORTION, "p", B, 10_001)), id="more than all"),
        pytest.param((swap(A, B, amount=1000 * WEI, limit=1, exact_out=True),), id="more than the pool has"),
        pytest.param((swap(A, B, amount=WEI, limit=WEI, exact_out=True),), id="it costs more"),
    ],
)  # fmt: skip
def test_what_would_be_refused(steps: tuple[RouterSwap | RouterAct, ...]) -> None:
    plan = planned(Pools({(A, B): pair()}), *steps)
    assert run(plan) is None
    assert evaluate_plan(plan, CAPITAL) is Unevaluated.REFUSED


def test_what_is_named_rather_than_guessed() -> None:
    pools = Pools({(A, B): pair(), (B, C): pair()})
    slipstream = RouterSwap((RouterHop(Venue.SLIPSTREAM, A, B),), WEI, 1, False, None)
    cases: dict[Unevaluated, tuple[RouterSwap | RouterAct, ...]] = {
        Unevaluated.STEP: (swap(A, B, amount=WEI), RouterAct(Act.OTHER, "command 0x0e")),
        Unevaluated.MAY_FAIL: (swap(A, B, amount=WEI, may_fail=True),),
        Unevaluated.PRICE_LIMIT: (swap(A, B, amount=WEI, price_limit=7),),
        Unevaluated.HOP_LIMITS: (swap(A, B, amount=WEI, hop_limits=True),),
        Unevaluated.ALREADY_PAID: (swap(A, B, whole=False),),
        Unevaluated.UNWATCHED_POOL: (swap(A, C, amount=WEI),),
        Unevaluated.VENUE_SLIPSTREAM: (swap(A, B, amount=WEI), slipstream),
        Unevaluated.BOTH_WAYS: (swap(A, B, amount=WEI), swap(B, A, amount=WEI)),
        Unevaluated.TOO_LONG: tuple(swap(A, B, amount=WEI) for _ in range(MAX_HOPS + 1)),
        Unevaluated.EXACT_OUT: (RouterSwap((RouterHop(Venue.SOLIDLY, A, B, stable=True),), WEI, 2 * WEI, True, None),),
    }
    for reason, steps in cases.items():
        assert plan_of(RouterCall("execute", steps), pools.resolve, ROUTER, WRAPPED, 0) is reason
    wraps = (RouterAct(Act.WRAP, "wrap", amount=1), swap(A, B, amount=WEI))
    assert plan_of(RouterCall("execute", wraps), pools.resolve, ROUTER, None, 1) is Unevaluated.STEP
    sweeps = (swap(A, B, amount=WEI), RouterAct(Act.SWEEP, "sweep", may_fail=True))
    assert plan_of(RouterCall("execute", sweeps), pools.resolve, ROUTER, WRAPPED, 0) is Unevaluated.MAY_FAIL


def managed(*tokens: bytes, amount: int = 0, limit: int = 0, exact_out: bool = False) -> RouterSwap:
    hops = tuple(RouterHop(Venue.V4, tokens[at], tokens[at + 1]) for at in range(len(tokens) - 1))
    return RouterSwap(hops, amount, limit, exact_out, None, whole=not amount)


def settle(
    token: bytes | None, amount: int = 2**256 - 1, *, everything: bool = True, from_router: bool = False
) -> RouterAct:
    return RouterAct(Act.SETTLE, "settle", token, amount, from_router=from_router, open=everything)


def take(token: bytes | None, amount: int = 0) -> RouterAct:
    return RouterAct(Act.TAKE, "take", token, amount, SENDER, open=True)


NATIVE = bytes(20)
UNLOCK = RouterAct(Act.UNLOCK, "V4_SWAP")


def test_what_goes_through_v4_s_manager_is_settled_and_taken() -> None:
    pools = Pools({(NATIVE, A): pair(), (A, B): pair(500 * WEI, 700 * WEI)})
    first, _ = pair().sell(10 * WEI, zero_for_one=True)
    second, _ = pair(500 * WEI, 700 * WEI).sell(first, zero_for_one=True)
    plan = planned(
        pools,
        settle(None, 10 * WEI, everything=False, from_router=True),
        managed(NATIVE, A),
        managed(A, B),
        RouterAct(Act.TAKE_PORTION, "portion", B, 100, SENDER),
        take(B, 5 * WEI),
        value=10 * WEI,
    )
    done = run(plan)
    assert done is not None
    assert done.amounts == [(10 * WEI, first), (first, second)]
    assert [(check.name, check.value, check.limit) for check in done.checks] == [
        ("swap 1", first, 0),
        ("swap 2", second, 0),
        ("take", second - second // 100, 5 * WEI),
    ]
    # And backwards: what is wanted, what that costs, and all of it paid.
    paid, _ = pair().buy(first, zero_for_one=True)
    back = planned(
        pools,
        managed(NATIVE, A, amount=first, exact_out=True, limit=2 * paid),
        settle(None, 11 * WEI),
        take(A),
        value=11 * WEI,
    )
    done = run(back)
    assert done is not None
    assert done.amounts == [(paid, first)]
    both = planned(
        pools,
        managed(A, B, amount=second, exact_out=True, limit=10**30),
        managed(NATIVE, A, exact_out=True, limit=10**30),
        settle(None, from_router=True),
        take(B),
        value=11 * WEI,
    )
    done = run(both)
    assert done is not None
    assert done.amounts[0][0] == done.amounts[1][1]


def test_two_commands_that_each_settle_are_two_swaps_of_one_pool() -> None:
    one = (managed(A, B, amount=WEI), settle(A), take(B))
    plan = planned(Pools({(A, B): pair()}), *one, UNLOCK, *one)
    done = run(plan)
    assert done is not None
    together = planned(Pools({(A, B): pair()}), *one, *one)
    assert done == run(together), "where each is settled, it is no matter"
    assert not isinstance(evaluate_plan(plan, CAPITAL), Unevaluated)


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param((managed(A, B, amount=WEI),), id="nothing is paid"),
        pytest.param((managed(A, B, amount=WEI), settle(A)), id="nothing is taken"),
        pytest.param((managed(A, B, amount=WEI), settle(A), take(B, amount=WEI)), id="less than the least"),
        pytest.param((managed(A, B, amount=WEI), settle(A, WEI - 1), take(B)), id="more than the most"),
        pytest.param(
            (managed(A, B, amount=WEI), settle(A, WEI - 1, everything=False), take(B)), id="too little is paid"
        ),
        pytest.param((managed(A, B, amount=WEI), settle(A, WEI + 1, everything=False), take(B)), id="too much is paid"),
        pytest.param((managed(A, B, amount=WEI), settle(A), take(A)), id="the wrong token is taken"),
        pytest.param((managed(A, B, amount=WEI), settle(A, from_router=True), take(B)), id="the router has none"),
        pytest.param((managed(A, B, amount=WEI), settle(B), take(A)), id="the wrong way round"),
        pytest.param((managed(A, B), settle(A), take(B)), id="nothing to swap"),
        pytest.param((managed(A, B, exact_out=True), settle(A), take(B)), id="nothing is owed"),
        pytest.param(
            (managed(A, B, amount=WEI), swap(A, B, amount=WEI), settle(A), take(B)), id="paid only after others"
        ),
        pytest.param(
            (managed(A, B, amount=WEI), RouterAct(Act.SWEEP, "s", B), settle(A), take(B)), id="swept in between"
        ),
        pytest.param((managed(A, B, amount=WEI), UNLOCK, settle(A), take(B)), id="settled by another command"),
        pytest.param((managed(A, B, amount=WEI), settle(A), UNLOCK, take(B)), id="taken by another command"),
    ],
)
def test_what_v4_s_manager_would_refuse(steps: tuple[RouterSwap | RouterAct, ...]) -> None:
    plan = planned(Pools({(A, B): pair()}), *steps)
    assert run(plan) is None
    assert evaluate_plan(plan, CAPITAL) is Unevaluated.REFUSED


@pytest.mark.parametrize("exact_out", [False, True])
def test_a_swap_that_v4_s_manager_is_paid_for_is_a_path_with_the_tightest_of_its_limits(exact_out: bool) -> None:
    pools = Pools({(A, B): pair()})
    amount = 50 * WEI
    other = pair().buy(amount, zero_for_one=True)[0] if exact_out else pair().sell(amount, zero_for_one=True)[0]
    loose, tight = (other * 2, other * 11 // 10) if exact_out else (other // 2, other * 9 // 10)
    plain = planned(pools, swap(A, B, amount=amount, limit=tight, exact_out=exact_out))
    expected = exposed(plain)
    assert expected.extractable > 0
    for own, outer in ((tight, loose), (loose, tight)):
        limits = (outer, 0) if exact_out else (2**256 - 1, outer)
        v4 = managed(A, B, amount=amount, limit=own, exact_out=exact_out)
        plan = planned(pools, v4, settle(A, limits[0]), take(B, limits[1]))
        done = run(plan)
        assert done is not None
        assert one_path(plan, done) is not None
        assert exposed(plan) == expected
    # A portion that somebody else takes is another matter.
    shared = planned(pools, v4, settle(A), RouterAct(Act.TAKE_PORTION, "p", B, 100, SENDER), take(B))
    done = run(shared)
    assert done is not None
    assert one_path(shared, done) is None
    assert exposed(shared).pool == b"\1" * 20


AMOUNTS = st.integers(10**15, 300 * WEI)
SLIPPAGE = st.floats(1e-4, 0.4)
RESERVES = st.tuples(st.integers(10**20, 10**23), st.integers(10**20, 10**23))


@settings(max_examples=25, derandomize=True)
@given(RESERVES, RESERVES, AMOUNTS, SLIPPAGE)
def test_a_path_in_two_commands_is_the_path(
    one: tuple[int, int], other: tuple[int, int], amount: int, slippage: float
) -> None:
    """Native coin wrapped, two swaps, unwrapped with the limit there: as one swap along both; trying amounts finds the same."""
    pools = Pools({(WRAPPED, A): pair(*one), (A, B): pair(*other)})
    steps: list[RouterSwap | RouterAct] = [
        RouterAct(Act.WRAP, "wrap", amount=amount, to_router=True),
        swap(WRAPPED, A, keeps=True),
        swap(A, B, keeps=True),
    ]
    free = run(planned(pools, *steps, value=amount))
    assert free is not None
    limit = int(free.amounts[-1][1] * (1 - slippage))
    plan = planned(pools, *steps, RouterAct(Act.SWEEP, "sweep", B, limit), value=amount)
    found = exposed(plan)
    path = [pools.resolve(hop) for hop in swap(WRAPPED, A, B).hops]
    assert found == evaluate(path, swap(WRAPPED, A, B, amount=amount, limit=limit), CAPITAL)  # type: ignore[arg-type]
    unharmed = run(plan)
    assert unharmed is not None
    tried = most_exposed(searched(plan, unharmed, CAPITAL, 0))
    assert tried is not None
    # To a part in 2^30, and what rounding is worth.
    assert abs(tried.extractable - found.extractable) <= (found.extractable >> 30) + 10**9
    if tried.extractable > 10**12:
        assert tried.bound == "sweep"
        assert (tried.quoted, tried.limit) == (found.quoted, found.limit)


def gains(plan: Plan, pool: bytes, amount: int) -> int | None:
    """What an attack leaves, step by step."""
    way = next(way for leg in plan.legs for address, way in leg.pools if address == pool)
    try:
        bought, moved = plan.curves[pool].sell(amount, zero_for_one=way)
        done = run(plan, {**plan.curves, pool: moved})
        return None if done is None else done.curves[pool].sell(bought, zero_for_one=not way)[0] - amount
    except AmmError:
        return None


def split(one: Curve, other: Curve, amounts: tuple[int, int], least: int) -> Plan:
    """Half of it through one pool, half through two others, and one limit on what comes together."""
    pools = Pools({(A, B): one, (A, C): other, (C, B): pair(3000 * WEI, 2000 * WEI)})
    return planned(
        pools,
        swap(A, B, amount=amounts[0], keeps=True),
        swap(A, C, amount=amounts[1], keeps=True),
        swap(C, B, keeps=True),
        RouterAct(Act.SWEEP, "sweep", B, least),
    )


def volatile(reserve0: int, reserve1: int) -> SolidlyCurve:
    return SolidlyCurve(SolidlyPool(reserve0, reserve1, WEI, WEI, 30, False))


def stable(reserve0: int, reserve1: int) -> SolidlyCurve:
    return SolidlyCurve(SolidlyPool(reserve0, reserve1, WEI, WEI, 5, True))


def ranges(reserve0: int, reserve1: int) -> ConcentratedCurve:
    return ConcentratedCurve(concentrated([(-100, 100, reserve0), (-3, 4, reserve1)], 500))


@pytest.mark.parametrize("kind", [pair, volatile, stable, ranges])
# What has several peaks is searched for, not found for certain: the same cases each time.
@settings(max_examples=20, derandomize=True)
@given(RESERVES, RESERVES, AMOUNTS, AMOUNTS, SLIPPAGE)
def test_nothing_that_is_tried_takes_more_of_a_split_than_is_found(
    kind: Callable[[int, int], Curve],
    one: tuple[int, int],
    other: tuple[int, int],
    first: int,
    second: int,
    slippage: float,
) -> None:
    try:
        free = run(split(kind(*one), pair(*other), (first, second), 0))
    except AmmError:
        return
    if free is None:
        return
    plan = split(kind(*one), pair(*other), (first, second), int(free.checks[-1].value * (1 - slippage)))
    found = exposed(plan)
    for pool in plan.curves:
        tried = [gains(plan, pool, amount * 10**part) for part in range(14, 25) for amount in (1, 3)]
        best = max((gain for gain in tried if gain is not None), default=0)
        assert found.extractable >= best - (best >> 20) - 10**9
    if not found.extractable:
        return
    assert gains(plan, found.pool, found.front_in) == found.extractable
    assert found.bound == "sweep"
    assert found.attacked >= found.limit
    if found.protecting_limit is None:
        # Even next to the quote itself something is left to take.
        near = found.quoted - (found.quoted >> 24)
        assert exposed(split(kind(*one), pair(*other), (first, second), near)).extractable > 0
        return
    assert found.limit < found.protecting_limit <= found.quoted
    protected = exposed(split(kind(*one), pair(*other), (first, second), found.protecting_limit))
    assert protected.extractable <= 10**9 + (found.extractable >> 20)


def test_of_swaps_on_their_own_the_limit_of_the_attacked_one_is_told() -> None:
    pools = Pools({(A, B): pair(), (B, C): pair(10**27, 10**27)})
    plan = planned(pools, swap(B, C, amount=WEI, limit=1), swap(A, B, amount=100 * WEI, limit=80 * WEI))
    found = exposed(plan)
    alone = evaluate([PathHop(b"\1" * 20, pair(), True)], swap(A, B, amount=100 * WEI, limit=80 * WEI), CAPITAL)
    assert alone is not None
    assert (found.bound, found.pool, found.limit) == ("swap 2", b"\1" * 20, 80 * WEI)
    assert abs(found.extractable - alone.extractable) <= alone.extractable >> 30
    assert found.protecting_limit is not None
    assert alone.protecting_limit is not None
    assert abs(found.protecting_limit - alone.protecting_limit) <= alone.protecting_limit >> 20


def test_exact_outputs_among_several_swaps() -> None:
    pools = Pools({(A, B): pair(), (A, C): pair()})
    plan = planned(
        pools,
        swap(A, B, amount=50 * WEI, limit=60 * WEI, exact_out=True),
        swap(A, C, amount=WEI, limit=WEI * 99 // 100),
    )
    found = exposed(plan)
    assert (found.bound, found.exact_out, found.limit) == ("swap 1", True, 60 * WEI)
    assert gains(plan, found.pool, found.front_in) == found.extractable > 0
    assert found.quoted < found.attacked <= 60 * WEI
    assert found.protecting_limit is not None
    assert found.quoted <= found.protecting_limit < found.limit


TOKENS = st.sampled_from([A, B, C, WRAPPED])
NUMBERS = st.one_of(st.integers(0, 10**21), st.sampled_from([0, 1, 2**112 - 1, 2**128, 2**255, 2**256 - 1]))


@st.composite
def anything(draw: st.DrawFn) -> RouterSwap | RouterAct:
    if draw(st.booleans()):
        tokens = draw(st.lists(TOKENS, min_size=2, max_size=3))
        flags = {name: draw(st.booleans()) for name in ("from_router", "to_router", "whole", "exact_out")}
        return swap(*tokens, amount=draw(NUMBERS), limit=draw(NUMBERS), **flags)
    kind = draw(st.sampled_from([each for each in Act if each is not Act.OTHER]))
    token = draw(st.one_of(st.none(), TOKENS))
    return RouterAct(kind, "act", token, draw(NUMBERS), SENDER, draw(st.booleans()), draw(st.booleans()))


@settings(max_examples=150)
@given(st.lists(anything(), min_size=1, max_size=6), NUMBERS, st.integers(0, 2**112 - 1), st.integers(0, 2**112 - 1))
def test_calls_that_nobody_means_are_evaluated_or_named(
    steps: list[RouterSwap | RouterAct], value: int, reserve0: int, reserve1: int
) -> None:
    pools = Pools({
        (A, B): PairCurve(reserve0, reserve1, 997, 1000), (B, C): stable(reserve0, reserve1),
        (A, C): ranges(10**20, 10**21), (WRAPPED, A): volatile(reserve1, reserve0), (WRAPPED, B): pair(),
    })  # fmt: skip
    if not any(isinstance(step, RouterSwap) for step in steps):
        steps = [*steps, swap(A, B, amount=WEI)]
    plan = plan_of(RouterCall("execute", tuple(steps)), pools.resolve, ROUTER, WRAPPED, value)
    if isinstance(plan, Plan):
        found = evaluate_plan(plan, CAPITAL)
        assert isinstance(found, Exposure | Unevaluated)
        unharmed = run(plan)
        assert unharmed is None or one_path(plan, unharmed) is None or isinstance(found, Exposure)
