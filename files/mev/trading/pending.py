"""What each pending swap exposes to a sandwich, as it is heard of: reported in the log and in the metrics, and never acted on.

The configuration says of which factories a router's pools are (`routers`: the Universal Router cannot be asked), or the router itself (`factory()`, as Uniswap's V2
and V3 routers and their forks have it); a swap whose pools are all watched is evaluated on the market as the last block left it. Others are counted. A chain whose nodes tell of no pending transactions has none.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import structlog

from mev.chain.abi import AbiError, checksum, decode_address, selector
from mev.chain.abi.routers import decode_call
from mev.chain.collectors.pending import PendingCollector, PendingTransaction
from mev.chain.errors import MalformedAnswerError, RpcError, RpcUnavailableError
from mev.chain.rpc import Rpc
from mev.chain.wire import data, encode
from mev.domain import Pool
from mev.domain.calls import RouterCall, RouterHop, RouterSwap, Venue
from mev.domain.market import Address
from mev.market.state import MarketState
from mev.runtime.config import ChainConfig
from mev.trading.meter import Meter
from mev.trading.strategies.sandwich import ConcentratedCurve, Exposure, PairCurve, PathHop, evaluate

FACTORY = selector("factory()")
# Anyone may send to new addresses for ever.
REMEMBERED_ROUTERS = 4096
MILLION = 10**6
TAXED = "SupportingFeeOnTransferTokens"
# After a fault that nobody foresaw: so long until the next try, twice as long after each, and the first again once it went well for the longest.
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0

log = structlog.get_logger(__name__)


class _Key(NamedTuple):
    """What makes a pool the only one: its factory, its tokens in order, and a V3 pool's fee (millionths; 0 for a pair)."""

    factory: str
    token0: Address
    token1: Address
    fee: int


class PendingExposures:
    """Follows one chain's pending transactions; `market` gives its pools as they are now, None while there are none."""

    def __init__(
        self, chain: str, config: ChainConfig, rpc: Rpc, market: Callable[[], MarketState | None], meter: Meter
    ) -> None:
        self._chain = chain
        self._capital = config.risk.max_amount_in_wei
        self._rpc = rpc
        self._market = market
        self._meter = meter
        makers: list[tuple[Address, str, Venue]] = [(made.address, made.name, Venue.V2) for made in config.v2_factories]
        makers += [(made.address, made.name, Venue.V3) for made in config.v3_factories]
        self._venues: dict[Address, dict[Venue, str]] = {address: {venue: name} for address, name, venue in makers}
        by_name = {name: venue for _, name, venue in makers}
        self._declared: dict[Address, dict[Venue, str]] = {
            router.address: {by_name[name]: name for name in router.factories} for router in config.routers
        }
        self._routers: dict[Address, dict[Venue, str]] = {}
        # Of the market that was seen last; a market's pools stay the same, another one takes its place.
        self._known: tuple[MarketState, dict[_Key, Pool]] | None = None

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
        async for transaction in PendingCollector(self._rpc).events():
            try:
                await self.take(transaction)
            except RpcUnavailableError as error:
                log.warning("not evaluated", chain=self._chain, transaction=encode(transaction.hash), reason=str(error))
            except Exception:
                # Anyone may send anything: one transaction that trips it up is named, and those after it are evaluated.
                self._meter.pending_fault(self._chain)
                log.exception("not evaluated", chain=self._chain, transaction=encode(transaction.hash))

    async def take(self, transaction: PendingTransaction) -> Exposure | None:
        """Evaluate one transaction's swap; None where it is none, or not one that can be."""
        call = decode_call(transaction.data, transaction.value_wei)
        if transaction.to is None or not isinstance(call, RouterCall) or not call.swaps:
            return None
        market = self._market()
        exposure = None
        # Of several swaps each changes what the next one finds; a taxed token's cannot be computed from its pool.
        if market is not None and len(call.swaps) == 1 and TAXED not in call.function:
            path = self._path(call.swaps[0], await self._factories(transaction.to), market)
            exposure = evaluate(path, call.swaps[0], self._capital) if path else None
        self._meter.evaluated(self._chain, exposure)
        if exposure is not None and exposure.extractable:
            advised = exposure.protecting_limit
            log.info(
                "exposed",
                chain=self._chain,
                transaction=encode(transaction.hash),
                pool=checksum(exposure.pool),
                token=checksum(exposure.token_in),
                extractable=str(exposure.extractable),
                limit=str(exposure.limit),
                quoted=str(exposure.quoted),
                protecting_limit=None if advised is None else str(advised),
            )
        return exposure

    async def _factories(self, router: Address) -> dict[Venue, str]:
        """Return through whose pools of each kind a router swaps, by name; nothing where that is not known."""
        if router in self._declared:
            return self._declared[router]
        if router not in self._routers:
            if len(self._routers) >= REMEMBERED_ROUTERS:
                self._routers.clear()
            try:
                answer = await self._rpc.call("eth_call", [{"to": encode(router), "data": encode(FACTORY)}, "latest"])
                self._routers[router] = self._venues.get(decode_address(data(answer)), {})
            except (RpcError, MalformedAnswerError, AbiError):
                self._routers[router] = {}
        return self._routers[router]

    def _path(self, swapped: RouterSwap, factories: dict[Venue, str], market: MarketState) -> list[PathHop]:
        if not factories:
            return []
        if self._known is None or self._known[0] is not market:
            self._known = market, {_key(pool): pool for pool in market.pools().values()}
        pools = self._known[1]
        path = [_hop(hop, factories, pools, market) for hop in swapped.hops]
        return [hop for hop in path if hop is not None] if None not in path else []


def _key(pool: Pool) -> _Key:
    fee = (pool.fee_denominator - pool.fee_numerator) * MILLION // pool.fee_denominator if pool.concentrated else 0
    return _Key(pool.factory, pool.token0, pool.token1, fee)


def _hop(hop: RouterHop, factories: dict[Venue, str], pools: dict[_Key, Pool], market: MarketState) -> PathHop | None:
    factory = factories.get(hop.venue)
    if factory is None:
        return None
    token0, token1 = sorted((hop.token_in, hop.token_out))
    pool = pools.get(_Key(factory, token0, token1, (hop.fee or 0) if hop.venue is Venue.V3 else 0))
    if pool is None or pool.algebra is not None or pool.v4 is not None or pool.concentrated != (hop.venue is Venue.V3):
        return None
    zero_for_one = hop.token_in == pool.token0
    if pool.concentrated:
        now = market.concentrated(pool.address)
        return None if now is None else PathHop(pool.address, ConcentratedCurve(now), zero_for_one)
    held = market.v2(pool.address)
    curve = PairCurve(held.reserve0, held.reserve1, pool.fee_numerator, pool.fee_denominator)
    return PathHop(pool.address, curve, zero_for_one)
