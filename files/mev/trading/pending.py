"""What each pending swap exposes to a sandwich, as it is heard of: reported in the log and in the metrics, and never acted on.

The configuration says of which factories a router's pools are (`routers`: the Universal Router cannot be asked), or the router itself (`factory()`, as Uniswap's V2
and V3 routers and their forks have it, and Aerodrome's `defaultFactory()`); a call whose pools are all watched is evaluated on the market as the last block left it, each
of its swaps on what the ones before it left. Others are counted, by why they are not. A chain whose nodes tell of no pending transactions has none.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple

import structlog

from mev.chain.abi import AbiError, checksum, decode_address, selector
from mev.chain.abi.routers import decode_call
from mev.chain.collectors.pending import PendingCollector, PendingTransaction
from mev.chain.errors import MalformedAnswerError, RpcError, RpcUnavailableError
from mev.chain.rpc import Rpc
from mev.chain.wire import data, encode
from mev.domain import Algebra, Pool, V2State
from mev.domain.calls import Act, MalformedCall, RouterAct, RouterCall, RouterHop, Venue
from mev.domain.market import Address
from mev.market.amm.concentrated import ConcentratedPool
from mev.market.amm.solidly import SolidlyPool
from mev.market.state import MarketState
from mev.runtime.config import ChainConfig
from mev.trading.meter import Meter
from mev.trading.strategies.router_plan import Unevaluated, plan_of
from mev.trading.strategies.sandwich import (
    ConcentratedCurve,
    Exposure,
    PairCurve,
    PathHop,
    SolidlyCurve,
    most_exposed,
)
from mev.trading.strategies.sandwich_plan import plan_pool_by_pool

# Whom a router has its pools from, unless a hop says another: Uniswap's and its forks', Velodrome's, and V4's.
QUESTIONS = (selector("factory()"), selector("defaultFactory()"), selector("poolManager()"))
NOBODY = bytes(20)
# Anyone may send to new addresses for ever.
REMEMBERED_ROUTERS = 4096
MILLION = 10**6
# After a fault that nobody foresaw: so long until the next try, twice as long after each, and the first again once it went well for the longest.
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0

log = structlog.get_logger(__name__)


class _Key(NamedTuple):
    """What makes a pool the only one: its factory, its tokens in order, a V3 or V4 pool's fee (millionths; 0 for others), which curve a Solidly pool has, and of a V4 pool its spacing and whether it is the native coin's."""

    factory: str
    token0: Address
    token1: Address
    fee: int
    stable: bool | None
    tick_spacing: int = 0
    native: bool = False


class PendingExposures:
    """Follows one chain's pending transactions; `market` gives its pools as they are now, None while there are none."""

    def __init__(
        self,
        chain: str,
        config: ChainConfig,
        rpc: Rpc,
        market: Callable[[], MarketState | None],
        meter: Meter,
        heard: Callable[[], AsyncIterator[PendingTransaction]] | None = None,
    ) -> None:
        """`heard` tells of transactions in the place of the nodes' pools."""
        self._chain = chain
        self._capital = config.risk.max_amount_in_wei
        self._wrapped = config.wrapped_native
        self._rpc = rpc
        self._market = market
        self._meter = meter
        self._heard = heard
        makers: list[tuple[Address, str, Venue]] = [(made.address, made.name, Venue.V2) for made in config.v2_factories]
        makers += [(made.address, made.name, Venue.V3) for made in config.v3_factories]
        makers += [(made.address, made.name, Venue.SOLIDLY) for made in config.solidly_factories]
        makers += [(made.address, made.name, Venue.ALGEBRA) for made in config.algebra_factories]
        makers += [(made.address, made.name, Venue.V4) for made in config.v4_managers]
        self._venues: dict[Address, dict[Venue, str]] = {address: {venue: name} for address, name, venue in makers}
        by_name = {name: venue for _, name, venue in makers}
        self._declared: dict[Address, dict[Venue, str]] = {
            router.address: {by_name[name]: name for name in router.factories} for router in config.routers
        }
        self._routers: dict[Address, dict[Venue, str]] = {}
        # Of the market that was seen last; a market's pools stay the same but for new ones, another market takes its place.
        self._known: tuple[MarketState, int, dict[_Key, Pool]] | None = None

    async def run(
        self, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        """Evaluate for ever, through faults; returns only where no node tells of pending transactions."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            began = clock()
            self._meter.evaluating(self._chain, on=True)
            try:
                await self._follow()
            except RpcError as refusal:
                self._meter.evaluating(self._chain, on=False)
                log.warning("pending swaps are not evaluated", chain=self._chain, reason=str(refusal))
                return
            except Exception:
                self._meter.evaluating(self._chain, on=False)
                self._meter.pending_fault(self._chain)
                pause = FIRST_PAUSE_SECONDS if clock() - began > LONGEST_PAUSE_SECONDS else pause
                log.exception("pending swaps are followed again", chain=self._chain, in_seconds=pause)
            await sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    async def _follow(self) -> None:
        async for transaction in (self._heard or PendingCollector(self._rpc).events)():
            try:
                await self.take(transaction)
            except RpcUnavailableError as error:
                log.warning("not evaluated", chain=self._chain, transaction=encode(transaction.hash), reason=str(error))
            except Exception:
                # Anyone may send anything: one transaction that trips it up is named, and those after it are evaluated.
                self._meter.pending_fault(self._chain)
                log.exception("not evaluated", chain=self._chain, transaction=encode(transaction.hash))

    async def take(self, transaction: PendingTransaction) -> Exposure | Unevaluated | None:
        """Evaluate one transaction's swaps; None where it has none."""
        call = decode_call(transaction.data, transaction.value_wei)
        if transaction.to is None or not isinstance(call, RouterCall | MalformedCall):
            return None
        if isinstance(call, RouterCall) and not call.swaps:
            return None
        found = await self._evaluated(call, transaction.to, transaction.value_wei)
        self._meter.evaluated(self._chain, found)
        named = {"chain": self._chain, "transaction": encode(transaction.hash)}
        if isinstance(found, Unevaluated):
            log.debug("not evaluated", **named, reason=found.value, detail=_detail(call))
        elif found.extractable:
            advised = found.protecting_limit
            log.info(
                "exposed",
                **named,
                pool=checksum(found.pool),
                token=checksum(found.token_in),
                extractable=str(found.extractable),
                limit=str(found.limit),
                quoted=str(found.quoted),
                protecting_limit=None if advised is None else str(advised),
                **({"bound": found.bound} if found.bound else {}),
            )
        return found

    async def _evaluated(
        self, call: RouterCall | MalformedCall, router: Address, value_wei: int
    ) -> Exposure | Unevaluated:
        market = self._market()
        if isinstance(call, MalformedCall):
            return Unevaluated.MALFORMED
        if market is None:
            return Unevaluated.NO_MARKET
        factories = await self._factories(router)
        watched = market.pools()
        if self._known is None or self._known[0] is not market or self._known[1] != len(watched):
            self._known = market, len(watched), {_key(pool): pool for pool in watched.values()}
        pools = self._known[2]

        def resolve(hop: RouterHop) -> PathHop | Unevaluated:
            named = self._venues.get(hop.factory, {}) if hop.factory and hop.factory != NOBODY else factories
            factory = named.get(hop.venue)
            if factory is None:
                return Unevaluated.UNKNOWN_ROUTER
            return _hop(hop, factory, pools, market, self._wrapped)

        plan = plan_of(call, resolve, router, self._wrapped, value_wei)
        if isinstance(plan, Unevaluated):
            return plan
        found: list[Exposure] = []
        for exposure in plan_pool_by_pool(plan, self._capital):
            found.append(exposure)
            # Anyone may send a call that takes long: what else there is to do is not kept waiting for all of it.
            if len(plan.curves) > 1:
                await asyncio.sleep(0)
        return most_exposed(found) or Unevaluated.REFUSED

    async def _factories(self, router: Address) -> dict[Venue, str]:
        """Return through whose pools of each kind a router swaps, by name; nothing where that is not known."""
        if router in self._declared:
            return self._declared[router]
        if router not in self._routers:
            if len(self._routers) >= REMEMBERED_ROUTERS:
                self._routers.clear()
            self._routers[router] = await self._asked(router)
        return self._routers[router]

    async def _asked(self, router: Address) -> dict[Venue, str]:
        for question in QUESTIONS:
            try:
                answer = await self._rpc.call("eth_call", [{"to": encode(router), "data": encode(question)}, "latest"])
                known = self._venues.get(decode_address(data(answer)))
            except (RpcError, MalformedAnswerError, AbiError):
                continue
            if known is not None:
                return known
        return {}


def _detail(call: RouterCall | MalformedCall) -> str:
    """What is said of a call that was not evaluated, beside the reason."""
    if isinstance(call, MalformedCall):
        return f"{call.function}: {call.reason}"
    others = [step.name for step in call.steps if isinstance(step, RouterAct) and step.kind is Act.OTHER]
    return f"{call.function}: {len(call.swaps)} swaps{''.join(f', {name}' for name in others[:4])}"


def _venue(pool: Pool) -> Venue:
    if pool.algebra is not None:
        return Venue.ALGEBRA
    if pool.solidly:
        return Venue.SOLIDLY
    if pool.v4 is not None:
        return Venue.V4
    return Venue.V3 if pool.concentrated else Venue.V2


def _key(pool: Pool) -> _Key:
    fee = 0
    if pool.concentrated and pool.algebra is None:
        fee = (pool.fee_denominator - pool.fee_numerator) * MILLION // pool.fee_denominator
    if pool.v4 is not None:
        return _Key(pool.factory, pool.token0, pool.token1, fee, None, pool.tick_spacing, pool.v4.native)
    return _Key(pool.factory, pool.token0, pool.token1, fee, pool.stable)


def _key_of(hop: RouterHop, factory: str, wrapped: Address) -> _Key | None:
    """Return the key of the pool that a hop goes through, None where no such pool is ever watched: one with hooks."""
    token0, token1 = sorted((hop.token_in, hop.token_out))
    if hop.venue is not Venue.V4:
        return _Key(factory, token0, token1, (hop.fee or 0) if hop.venue is Venue.V3 else 0, hop.stable)
    if hop.hooks != NOBODY:
        return None
    native = token0 == NOBODY
    return _Key(factory, wrapped if native else token0, token1, hop.fee or 0, None, hop.tick_spacing or 0, native)


def _hop(
    hop: RouterHop, factory: str, pools: dict[_Key, Pool], market: MarketState, wrapped: Address
) -> PathHop | Unevaluated:
    key = _key_of(hop, factory, wrapped)
    pool = None if key is None else pools.get(key)
    if pool is None or _venue(pool) is not hop.venue:
        return Unevaluated.UNWATCHED_POOL
    # A plugin may take another fee of each swap, a pool before Integral of each block's; pools of other deployers are not watched.
    if pool.algebra not in {None, Algebra.OWN}:
        return Unevaluated.VENUE_ALGEBRA
    if hop.deployer and hop.deployer != NOBODY:
        return Unevaluated.UNWATCHED_POOL
    zero_for_one = hop.token_in == (NOBODY if pool.v4 is not None and pool.v4.native else pool.token0)
    match market.held(pool.address):
        case V2State(reserve0, reserve1):
            curve = PairCurve(reserve0, reserve1, pool.fee_numerator, pool.fee_denominator)
            return PathHop(pool.address, curve, zero_for_one)
        case ConcentratedPool() as now:
            return PathHop(pool.address, ConcentratedCurve(now), zero_for_one)
        case SolidlyPool() as solidly:
            return PathHop(pool.address, SolidlyCurve(solidly), zero_for_one)
    return Unevaluated.UNUSABLE_POOL
