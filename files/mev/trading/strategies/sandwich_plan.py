"""What a transaction with several swaps exposes to a sandwich: one attack around all of it, pool by pool.

Where its swaps are one path in truth, each paid with all that the one before it gave, and one limit at the end, it is evaluated as that path
(mev.trading.strategies.sandwich). Otherwise the attack's amount is searched for with the whole plan run for each that is tried: limits anywhere in it
may refuse, and every one is held. Nothing is ever taken.
"""

from collections.abc import Callable, Iterator

from mev.domain.calls import Act, RouterAct, RouterSwap
from mev.domain.market import Address
from mev.market.amm import AmmError
from mev.search.attack import Attack
from mev.search.attack_search import GOLDEN
from mev.trading.strategies.router_plan import NATIVE, Check, Done, Leg, Plan, Unevaluated, run
from mev.trading.strategies.sandwich import Exposure, PairCurve, PathHop, SolidlyCurve, most_exposed, pool_by_pool

# The most that may be put in is known to this part of it.
PRECISION_BITS = 32
# So many halvings below the most are looked at; the best amount is known to a part whose square is what is missed of the gain.
POWERS = 24
BEST_BITS = 20
# As often a limit that is advised is held against what may still be taken, where the gain has several peaks.
ROUNDS = 3


def evaluate_plan(plan: Plan, capital: int, cost: int = 0) -> Exposure | Unevaluated:
    """Return what a plan exposes to a sandwich with at most `capital` and at a cost of `cost`, or why that cannot be said.

    Both are base units of what goes into the attacked pool; what is exposed is said of the pool in which most can be taken.
    """
    return most_exposed(plan_pool_by_pool(plan, capital, cost)) or Unevaluated.REFUSED


def plan_pool_by_pool(plan: Plan, capital: int, cost: int = 0) -> Iterator[Exposure]:
    """Yield what a plan exposes in each of its pools, a pool's work at a time; nothing where it would be refused."""
    path = _alone(plan)
    if path is None:
        unharmed = run(plan)
        if unharmed is None:
            return
        path = one_path(plan, unharmed)
        if path is None:
            yield from searched(plan, unharmed, capital, cost)
            return
    yield from pool_by_pool(*path, capital, cost)


def _alone(plan: Plan) -> tuple[list[PathHop], RouterSwap] | None:
    """Return the path of a plan that is one swap and nothing else, as most are."""
    leg = plan.steps[0]
    if len(plan.steps) > 1 or not isinstance(leg, Leg) or leg.swap.from_router or leg.managed:
        return None
    if len(plan.curves) < len(leg.pools):
        return None
    return [PathHop(address, plan.curves[address], way) for address, way in leg.pools], leg.swap


def one_path(plan: Plan, unharmed: Done) -> tuple[list[PathHop], RouterSwap] | None:
    """Return the path and the swap along it that a plan amounts to; None where it is more than one, or has limits on the way."""
    legs = plan.legs
    seen = 0
    for step in plan.steps:
        if isinstance(step, Leg):
            if seen and not _flows_on(legs[seen - 1], step, unharmed, seen):
                return None
            seen += 1
        elif seen == 0:
            # Nothing before the first swap depends on a pool.
            continue
        elif seen < len(legs) or not (step.kind in {Act.SWEEP, Act.UNWRAP} or _settles(step, legs[-1])):
            return None
    limit = _limit(plan, unharmed)
    if limit is None:
        return None
    last = legs[-1].swap
    pools = [pool for leg in legs for pool in leg.pools]
    if len({address for address, _ in pools}) < len(pools):
        return None
    hops = tuple(hop for leg in legs for hop in leg.swap.hops)
    amount = last.amount if last.exact_out else unharmed.amounts[0][0]
    swap = RouterSwap(hops, amount, limit, last.exact_out, last.recipient, last.deadline)
    return [PathHop(address, plan.curves[address], way) for address, way in pools], swap


def _limit(plan: Plan, unharmed: Done) -> int | None:
    """Return the limit that the last swap's and those of the steps after it amount to; None where one is of anything else."""
    legs = plan.legs
    last = legs[-1].swap
    limit = last.limit
    bought = None if last.hops[-1].token_out == NATIVE else last.hops[-1].token_out
    for check in unharmed.checks:
        if check.legs != len(legs) or check.name == legs[-1].name or not check.limit:
            continue
        if check.exact_out:
            # All that is owed to V4's manager is what one swap took, or it is not understood here.
            if len(legs) > 1 or check.value != unharmed.amounts[0][0]:
                return None
            limit = min(limit, check.limit) if last.exact_out else limit
            continue
        # All of it is what the last swap gave, as native coin perhaps, or it is not understood here.
        if check.value != unharmed.amounts[-1][1] or check.token not in {
            bought,
            None if bought == plan.wrapped else bought,
        }:
            return None
        if not last.exact_out:
            limit = max(limit, check.limit)
    return limit


def _settles(act: RouterAct, last: Leg) -> bool:
    """Whether V4's manager is paid all that it is owed, or gives all that is left over; of an exact input what it is owed is known before."""
    if act.kind is Act.SETTLE:
        return act.open or not last.swap.exact_out
    return act.kind is Act.TAKE and act.open


def _flows_on(before: Leg, after: Leg, unharmed: Done, seen: int) -> bool:
    """Whether all that a swap gave, and nothing else, goes into the next one, whatever it was."""
    return (
        before.keeps
        and not before.swap.limit
        and not before.swap.exact_out
        and not after.swap.exact_out
        and after.swap.whole
        and before.swap.hops[-1].token_out == after.swap.hops[0].token_in
        and unharmed.amounts[seen - 1][1] == unharmed.amounts[seen][0]
    )


def searched(plan: Plan, unharmed: Done, capital: int, cost: int) -> Iterator[Exposure]:
    """Yield what a plan exposes in each of its pools, by trying amounts."""
    ways = {pool: way for leg in plan.legs for pool, way in leg.pools}
    yield from (_exposure(plan, unharmed, pool, way, capital, cost) for pool, way in ways.items())


def _exposure(plan: Plan, unharmed: Done, pool: Address, zero_for_one: bool, capital: int, cost: int) -> Exposure:
    curve = plan.curves[pool]
    number, place = next(
        (number, place)
        for number, leg in enumerate(plan.legs)
        for place, (address, _) in enumerate(leg.pools)
        if address == pool
    )
    attacked = plan.legs[number].swap
    done: dict[int, Done] = {}

    def attack(amount: int) -> Attack | None:
        try:
            bought, moved = curve.sell(amount, zero_for_one=zero_for_one)
            after = run(plan, {**plan.curves, pool: moved})
            if after is None:
                return None
            back, _ = after.curves[pool].sell(bought, zero_for_one=not zero_for_one)
        except AmmError:
            return None
        done[amount] = after
        return Attack(back - amount, 0)

    size = unharmed.amounts[number][1 if attacked.exact_out else 0]
    best = 0
    if _pays(plan, unharmed, pool, zero_for_one=zero_for_one):
        best = _best(attack, _most(attack, size, capital))
    taken = attack(best) if best else None
    gain = max(0, taken.gain) if taken else 0
    worst = done[best] if gain else unharmed
    check, protecting = _last(unharmed, worst, number), None
    if gain > cost:
        place_of = check

        def under(limit: int) -> Callable[[int], Attack | None]:
            def bound(amount: int) -> Attack | None:
                tried = attack(amount)
                return tried if tried is not None and _bears(done[amount].checks[place_of], limit) else None

            return bound

        trying: Callable[[int], Attack | None] = attack
        at = best
        for _ in range(ROUNDS):
            least = _least(trying, at, cost)
            protecting = done[least].checks[check].value + (-1 if unharmed.checks[check].exact_out else 1)
            if not _bears(unharmed.checks[check], protecting):
                protecting = None
                break
            # Smaller amounts may pay again: the limit is held against all of them.
            trying = under(protecting)
            at = _best(trying, _most(trying, size, capital))
            again = trying(at) if at else None
            if again is None or again.gain <= cost:
                break
    else:
        protecting = unharmed.checks[check].limit
    return Exposure(
        pool=pool,
        token_in=attacked.hops[place].token_in,
        exact_out=unharmed.checks[check].exact_out,
        front_in=best if gain else 0,
        extractable=gain,
        cost=cost,
        quoted=unharmed.checks[check].value,
        attacked=worst.checks[check].value,
        limit=unharmed.checks[check].limit,
        protecting_limit=protecting,
        bound=unharmed.checks[check].name,
    )


def _pays(plan: Plan, unharmed: Done, pool: Address, *, zero_for_one: bool) -> bool:
    """Whether any amount can leave something, as far as a formula says: of a constant product the first unit tells, of other curves nothing does."""
    curve = plan.curves[pool]
    constant = isinstance(curve, PairCurve) or (isinstance(curve, SolidlyCurve) and not curve.pool.stable)
    if not constant or any(leg.swap.exact_out for leg in plan.legs):
        return True
    return curve.price(zero_for_one=zero_for_one) * unharmed.curves[pool].price(zero_for_one=not zero_for_one) > 1


def _best(attack: Callable[[int], Attack | None], most: int) -> int:
    """Return the amount of at most `most` that gains most, 0 where none gains: looked for in every power of two, then around the best of them."""

    def gain(amount: int) -> int:
        done = attack(amount)
        return -amount if done is None else done.gain

    if not most:
        return 0
    near = max((most >> bits for bits in range(POWERS) if most >> bits), key=gain)
    low, high = near // 2, min(most, 2 * near)
    left, right = high - ((high - low) * GOLDEN >> 64), low + ((high - low) * GOLDEN >> 64)
    at_left, at_right = gain(left), gain(right)
    while high - low > max(4, high >> BEST_BITS):
        if at_left < at_right:
            low, left, at_left = left, right, at_right
            right = low + ((high - low) * GOLDEN >> 64)
            at_right = gain(right)
        else:
            high, right, at_right = right, left, at_left
            left = high - ((high - low) * GOLDEN >> 64)
            at_left = gain(left)
    best = max(near, low, high, (low + high) // 2, key=gain)
    return best if gain(best) > 0 else 0


def _least(attack: Callable[[int], Attack | None], best: int, cost: int) -> int:
    """Return about the smallest amount from which on to the best one more than `cost` is gained."""

    def pays(amount: int) -> bool:
        done = attack(amount)
        return done is not None and done.gain > cost

    high = min((best >> bits for bits in range(POWERS) if pays(best >> bits)), default=best)
    low = high // 2
    while high - low > max(1, high >> PRECISION_BITS):
        middle = (low + high) // 2
        low, high = (low, middle) if pays(middle) else (middle, high)
    return high


def _last(unharmed: Done, harmed: Done, number: int) -> int:
    """Return which limit is the last that an attack comes nearer to; that of the attacked swap where none is."""
    pairs = list(zip(unharmed.checks, harmed.checks, strict=True))
    worse = [place for place, (one, other) in enumerate(pairs) if one.value != other.value]
    return worse[-1] if worse else next(place for place, (one, _) in enumerate(pairs) if one.legs == number + 1)


def _bears(check: Check, limit: int) -> bool:
    """Whether what nobody harms keeps a limit."""
    return check.value <= limit if check.exact_out else check.value >= limit


def _most(attack: Callable[[int], Attack | None], size: int, capital: int) -> int:
    """Return about the most of `capital` that nothing refuses, looked for from the size of the swap; 0 where that is nothing."""
    if attack(capital) is not None:
        return capital
    low = min(max(1, size), capital)
    while low and attack(low) is None:
        low //= 2
    if not low:
        return 0
    high = low
    while high < capital and attack(high) is not None:
        low, high = high, 2 * high
    high = min(high, capital)
    while high - low > max(1, low >> PRECISION_BITS):
        middle = (low + high) // 2
        low, high = (low, middle) if attack(middle) is None else (middle, high)
    return low
