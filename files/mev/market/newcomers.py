"""Tokens that nobody configured: read from the factories' events, and only those that a simulation finds nothing wrong with.

A token comes into question where two pools or more trade it against configured tokens, V3 pools of the fees that are watched among them, and V4's of the kinds that are: with one there is no cycle. The events are read once and kept in
a file a factory (mev.market.factory_events), final blocks only; every token is examined once a run (mev.market.token_safety), with one of its pools as holder.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import structlog

from mev.chain.rpc import Rpc, RpcError
from mev.chain.wire import encode
from mev.domain import Block, Pool
from mev.domain.market import Address
from mev.market.factory_events import FEE_DENOMINATOR, AnyFactory, DiscoveryLog, FactoryEventsError, V4Maker, created
from mev.market.state import UNDO_BLOCKS
from mev.market.token_safety import Verdict, examine
from mev.runtime.config import ChainConfig, DiscoveryConfig, V3FactoryConfig

LEAST_POOLS = 2
# A pool may be empty: so many of a token's are asked whether they hold some of it.
HOLDERS = 4

log = structlog.get_logger(__name__)


class Newcomers:
    """One chain's tokens beside the configured ones; remembers what it has examined."""

    def __init__(self, name: str, chain: ChainConfig, settings: DiscoveryConfig, *, kept: bool = True) -> None:
        """Write what is found to the settings' directory; where that is not `kept` it is only read: the engine writes it."""
        self._kept = kept
        self._name = name
        self._chain = chain
        self._settings = settings
        # By token, of this run.
        self.verdicts: dict[Address, Verdict] = {}

    async def safe(self, rpc: Rpc, block: Block) -> list[Address]:
        """Return the tokens that may be traded, those with most pairs first; raises RpcUnavailableError where the node does not answer.

        What cannot be read or examined is logged, and left out.
        """
        makers: list[AnyFactory] = [
            *self._chain.v2_factories,
            *self._chain.v3_factories,
            *self._chain.solidly_factories,
            *self._chain.algebra_factories,
            *(V4Maker(each.name, each.address, self._chain.wrapped_native) for each in self._chain.v4_managers),
        ]
        pools = [pool for factory in makers for pool in await self._created(rpc, factory, block)]
        known: set[Address] = {self._chain.wrapped_native, *(token.address for token in self._chain.tokens)}
        denied = set(self._chain.risk.deny_tokens)
        found = {token: held for token, held in _candidates(pools, known).items() if token not in denied}
        order = sorted(found, key=lambda token: (-len(found[token]), token))[: self._settings.max_tokens]
        for token in order:
            if token not in self.verdicts and not await self._examine(rpc, token, found[token], block):
                break
        safe = [token for token in order if self.verdicts.get(token) is Verdict.SAFE]
        log.info(
            "newcomers", chain=self._name, pools=len(pools), tokens=len(found), examined=len(order), safe=len(safe)
        )
        return safe

    async def _examine(self, rpc: Rpc, token: Address, holders: list[Address], block: Block) -> bool:
        """Find a token's verdict; False where the node cannot simulate at all."""
        try:
            # V4's pools have one holder, their manager.
            for holder in [*dict.fromkeys(holders)][:HOLDERS]:
                finding = await examine(rpc, token, holder, block)
                if finding.verdict is not Verdict.NOT_HELD:
                    break
        except RpcError as error:
            log.warning("tokens cannot be examined: none of them is traded", chain=self._name, reason=str(error))
            return False
        self.verdicts[token] = finding.verdict
        if finding.verdict is not Verdict.SAFE:
            log.info(
                "token not traded",
                chain=self._name,
                token=encode(token),
                verdict=finding.verdict,
                reason=finding.reason,
            )
        return True

    async def _created(self, rpc: Rpc, factory: AnyFactory, block: Block) -> list[Pool]:
        """Return a factory's pools up to the last block that can no longer be turned back; what is new is written down."""
        path = self._settings.directory / f"{self._name}.{factory.name}.pairs"
        try:
            known = await asyncio.to_thread(self._open, path, factory)
            begin = self._settings.first_block if known.next_block is None else known.next_block
            async for found in created(rpc, factory, begin, block.number - UNDO_BLOCKS):
                await asyncio.to_thread(known.append, found)
        except (OSError, RpcError, FactoryEventsError) as error:
            log.warning("pairs cannot be discovered", chain=self._name, factory=factory.name, reason=str(error))
            return []
        if isinstance(factory, V3FactoryConfig):
            # Of another fee they are not read.
            watched = {FEE_DENOMINATOR - fee for fee in factory.fees}
            return [pool for pool in known.pools if pool.fee_numerator in watched]
        if isinstance(factory, V4Maker):
            [kinds] = [each.pools for each in self._chain.v4_managers if each.name == factory.name]
            of = {(FEE_DENOMINATOR - kind.fee, kind.tick_spacing) for kind in kinds}
            return [pool for pool in known.pools if (pool.fee_numerator, pool.tick_spacing) in of]
        return known.pools

    def _open(self, path: Path, factory: AnyFactory) -> DiscoveryLog:
        if not self._kept:
            return DiscoveryLog.open(path, self._chain.id, factory, kept=False)
        path.parent.mkdir(mode=0o750, exist_ok=True)
        try:
            return DiscoveryLog.open(path, self._chain.id, factory)
        except FactoryEventsError as error:
            aside = path.replace(path.with_name(path.name + ".refused"))
            log.warning("discovery begins anew", chain=self._name, file=str(aside), reason=str(error))
            return DiscoveryLog.open(path, self._chain.id, factory)


async def newcomers_of(name: str, rpc: Rpc, chain: ChainConfig, block: Block) -> list[Address]:
    """Return the tokens that the engine would trade beside the configured ones, and write nothing; raises as `Newcomers.safe`."""
    if chain.discovery is None:
        return []
    return await Newcomers(name, chain, chain.discovery, kept=False).safe(rpc, block)


def _candidates(pools: Iterable[Pool], known: set[Address]) -> dict[Address, list[Address]]:
    """Return the tokens that are not known, each with who holds it for each of its pools against known ones, where it has enough of them."""
    found: defaultdict[Address, list[Address]] = defaultdict(list)
    for pool in pools:
        if (pool.token0 in known) != (pool.token1 in known):
            holder = pool.address if pool.v4 is None else pool.v4.manager
            found[pool.token1 if pool.token0 in known else pool.token0].append(holder)
    return {token: held for token, held in found.items() if len(held) >= LEAST_POOLS}
