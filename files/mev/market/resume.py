"""The market at a block, read from the chain, or from a snapshot where there is one that still holds.

A snapshot holds if it is whole, its block is still of the chain and not too old, the logs since then can be applied, and what comes out is what the
chain itself says at the new block: of every pool, where there are few, otherwise of a sample drawn anew each time, price, liquidity and every
tick that is known, or reserves. One that does not hold is put aside (`.refused`) and named, and all is read anew.
"""

import random
from collections.abc import Iterable, Sequence
from pathlib import Path

import structlog

from mev.chain.abi import SYNC, AbiError
from mev.chain.errors import MalformedAnswerError, RpcError
from mev.chain.rpc import Rpc
from mev.chain.wire import ADDRESS_BYTES, HASH_BYTES, Head, Log, WireLog, encode, fixed, quantity
from mev.domain import Algebra, Block, Pool, V2State
from mev.domain.market import Address
from mev.market.algebra_state import find_algebra, read_algebra, read_deltas, read_now
from mev.market.amm.concentrated import ConcentratedPool
from mev.market.amm.solidly import SolidlyPool
from mev.market.balancer_state import read_balancer
from mev.market.concentrated_state import ALGEBRA_TOPICS, CONCENTRATED_TOPICS, V4_TOPICS
from mev.market.curve_read import read_curve
from mev.market.discovery import find_pairs, read_pairs
from mev.market.discovery_v3 import find_concentrated, read_concentrated, read_net, read_prices
from mev.market.snapshot import SnapshotError, load
from mev.market.solidly_state import SOLIDLY_TOPICS, find_solidly, read_solidly
from mev.market.state import MarketState, PoolState
from mev.market.v4_state import find_v4, read_v4
from mev.market.v4_state import read_net as read_v4_net
from mev.market.v4_state import read_now as read_v4_now
from mev.runtime.config import (
    AlgebraFactoryConfig,
    BalancerVaultConfig,
    CurvePoolConfig,
    FactoryConfig,
    SolidlyFactoryConfig,
    V3FactoryConfig,
    V4ManagerConfig,
)

# What is further back is quicker read anew than followed.
MOST_BLOCKS = 20_000
FIRST_SPAN = 2_000
# So many pools' logs are asked for by address; of more, by topic alone.
MOST_ADDRESSES = 1_000
SAMPLE_POOLS = 256

log = structlog.get_logger(__name__)


class _Placed(WireLog, frozen=True, kw_only=True, rename="camel"):
    block_number: str


async def market_at(
    rpc: Rpc,
    chain_id: int,
    block: Block,
    tokens: Iterable[Address],
    v2: Sequence[FactoryConfig],
    v3: Sequence[V3FactoryConfig],
    snapshot: Path | None = None,
    solidly: Sequence[SolidlyFactoryConfig] = (),
    algebra: Sequence[AlgebraFactoryConfig] = (),
    v4: Sequence[V4ManagerConfig] = (),
    wrapped_native: Address | None = None,
    balancer: Sequence[BalancerVaultConfig] = (),
    curve: Sequence[CurvePoolConfig] = (),
) -> dict[Pool, PoolState]:
    """Return every pool of the factories between two of the tokens, as it is after `block`; raises as `discover`."""
    tokens = list(tokens)
    known = await _known(rpc, chain_id, block, snapshot, solidly) if snapshot is not None else {}
    pairs = await find_pairs(rpc, v2, tokens, block)
    named = await find_concentrated(rpc, v3, tokens, block)
    curves = await find_solidly(rpc, solidly, tokens, block)
    integral = await find_algebra(rpc, algebra, tokens, block)
    managed = await find_v4(rpc, v4, tokens, block, wrapped_native)
    states: dict[Pool, PoolState] = {pool: known[pool] for pool in (*pairs, *curves, *managed) if pool in known}
    by_address = {pool.address: pool for pool in known if pool.concentrated}
    for each in named:
        pool = by_address.get(each.address)
        if pool is not None and (pool.factory, pool.fee_denominator - pool.fee_numerator) == (each.factory, each.fee):
            states[pool] = known[pool]
    for one in integral:
        pool = by_address.get(one.address)
        if pool is not None and pool.algebra is not None and pool.factory == one.factory:
            states[pool] = known[pool]
    kept = {pool.address for pool in states}
    states.update(await read_pairs(rpc, [pool for pool in pairs if pool.address not in kept], block))
    states.update(await read_concentrated(rpc, [each for each in named if each.address not in kept], block))
    states.update(await read_algebra(rpc, [one for one in integral if one.address not in kept], block))
    states.update(await read_v4(rpc, [pool for pool in managed if pool.address not in kept], block))
    states.update(await read_solidly(rpc, solidly, [pool for pool in curves if pool.address not in kept], block))
    # Not in snapshots: to check one takes as many questions as to read it.
    states.update(await read_balancer(rpc, balancer, tokens, block))
    states.update(await read_curve(rpc, curve, tokens, block))
    return states


async def _known(
    rpc: Rpc, chain_id: int, block: Block, path: Path, solidly: Sequence[SolidlyFactoryConfig]
) -> dict[Pool, PoolState]:
    """Return what a snapshot says of `block`; nothing where there is none or it does not hold, and it is put aside then."""
    if not _is_there(path):
        return {}
    try:
        states = await resume(rpc, chain_id, block, path, solidly)
    except SnapshotError as error:
        log.warning("snapshot refused: the market is read anew", file=str(_put_aside(path)), reason=str(error))
        return {}
    log.info("snapshot resumed", file=str(path), block=block.number, pools=len(states))
    return states


def _is_there(path: Path) -> bool:
    return path.exists()


def _put_aside(path: Path) -> Path:
    return path.replace(path.with_name(path.name + ".refused"))


async def resume(
    rpc: Rpc, chain_id: int, block: Block, path: Path, solidly: Sequence[SolidlyFactoryConfig] = ()
) -> dict[Pool, PoolState]:
    """Return a snapshot's pools as they are after `block`, of Solidly's those of the factories given; raises SnapshotError where it does not hold."""
    then, states = load(path, chain_id)
    setters: dict[Address, str] = {factory.address: factory.name for factory in solidly}
    states = {pool: held for pool, held in states.items() if not pool.solidly or pool.factory in setters.values()}
    behind = block.number - then.number
    if not 0 <= behind <= MOST_BLOCKS:
        raise SnapshotError(
            f"{path} is of block {then.number}, {behind} blocks before {block.number}: at most {MOST_BLOCKS}"
        )
    head = await rpc.call_as(Head, "eth_getBlockByNumber", [hex(then.number), False])
    if head is None or head.block().hash != then.hash:
        raise SnapshotError(f"{path} is of a block {then.number} that the chain does not have (any more)")
    if behind:
        state = MarketState(then, states, setters)
        try:
            logs = await _logs(rpc, then.number + 1, block.number, [*_speaking(states), *setters])
            # As one block: none of those between is gone back to.
            state.apply_block(Block(block.number, block.hash, then.hash, block.timestamp, block.base_fee_wei), logs)
        except (AbiError, RpcError, MalformedAnswerError) as error:
            raise SnapshotError(f"{path}: the logs since then cannot be read: {error}") from None
        # What contradicted itself on the way is read anew.
        unusable = state.unusable()
        states = {pool: held for pool, held in state.states().items() if pool.address not in unusable}
    try:
        wrong = await _differing(rpc, block, states, solidly)
    except (AbiError, RpcError, MalformedAnswerError) as error:
        raise SnapshotError(f"{path}: one of its pools does not answer as one: {error}") from None
    if wrong is not None:
        raise SnapshotError(f"{path}: pool {encode(wrong.address)} is not what the chain says at block {block.number}")
    return states


def _speaking(pools: Iterable[Pool]) -> set[Address]:
    """Return who tells of pools: they themselves, or V4's managers."""
    return {pool.address if pool.v4 is None else pool.v4.manager for pool in pools}


async def _logs(rpc: Rpc, first: int, last: int, pools: Sequence[Address]) -> list[Log]:
    """Return the pools' logs in order; a range that the node refuses is halved. Raises RpcError where one block is refused too."""
    wanted: dict[str, object] = {
        "topics": [
            [
                encode(topic)
                for topic in (SYNC, *sorted(CONCENTRATED_TOPICS | ALGEBRA_TOPICS | V4_TOPICS | SOLIDLY_TOPICS))
            ]
        ]
    }
    if len(pools) <= MOST_ADDRESSES:
        wanted["address"] = [encode(pool) for pool in pools]
    found: list[tuple[int, int, Log]] = []
    begin, span = first, FIRST_SPAN
    while begin <= last and pools:
        end = min(begin + span - 1, last)
        asked = {**wanted, "fromBlock": hex(begin), "toBlock": hex(end)}
        try:
            answered = await rpc.call_as(list[_Placed], "eth_getLogs", [asked])
        except RpcError:
            if begin == end:
                raise
            span = (end - begin + 1) // 2
            continue
        found += [_placed(each) for each in answered or ()]
        begin = end + 1
    return [each for *_, each in sorted(found, key=lambda placed: placed[:2])]


def _placed(each: _Placed) -> tuple[int, int, Log]:
    if each.removed:
        raise MalformedAnswerError("eth_getLogs answered with a log that was removed")
    topics, content = each.content()
    index = quantity(each.log_index)
    made = Log(fixed(each.address, ADDRESS_BYTES), topics, content, index, fixed(each.transaction_hash, HASH_BYTES))
    return quantity(each.block_number), index, made


async def _differing(
    rpc: Rpc, block: Block, states: dict[Pool, PoolState], solidly: Sequence[SolidlyFactoryConfig]
) -> Pool | None:
    """Return a pool of which the chain says something else, None where all that are asked for agree."""
    pools = list(states)
    if len(pools) > SAMPLE_POOLS:
        pools = random.sample(pools, SAMPLE_POOLS)
    curves = {pool: state for pool in pools if isinstance(state := states[pool], SolidlyPool)}
    if (there := await read_solidly(rpc, solidly, list(curves), block)) != curves:
        return next(pool for pool, state in curves.items() if there.get(pool) != state)
    pairs = [pool for pool in pools if not (pool.concentrated or pool.solidly)]
    read = await read_pairs(rpc, pairs, block)
    for pool in pairs:
        found, ours = read.get(pool), states[pool]
        if found is None or not isinstance(ours, V2State):
            return pool
        if (found.reserve0, found.reserve1) != (ours.reserve0, ours.reserve1):
            return pool
    held = {pool: state for pool in pools if isinstance(state := states[pool], ConcentratedPool)}
    return await _other_prices(rpc, block, held) or await _other_ticks(rpc, block, held)


async def _other_prices(rpc: Rpc, block: Block, held: dict[Pool, ConcentratedPool]) -> Pool | None:
    """Return a pool with concentrated liquidity that has another price or liquidity now, of Algebra's and V4's another fee, too."""
    uniswap = [pool for pool in held if _is_v3(pool)]
    for pool, price in zip(uniswap, await read_prices(rpc, [pool.address for pool in uniswap], block), strict=True):
        if price != (held[pool].sqrt_price_x96, held[pool].tick, held[pool].liquidity):
            return pool
    integral = [pool for pool in held if pool.algebra is not None]
    for pool, now in zip(integral, await read_now(rpc, integral, block), strict=True):
        ours = held[pool]
        # What no event says in time is asked for with each block.
        fee = ours.fees[0] if pool.algebra is Algebra.OWN else now.fee
        if now != (ours.sqrt_price_x96, ours.tick, ours.liquidity, fee, pool.algebra):
            return pool
    managed = [pool for pool in held if pool.v4 is not None]
    for pool, there in zip(managed, await read_v4_now(rpc, managed, block), strict=True):
        ours = held[pool]
        if there != (ours.sqrt_price_x96, ours.tick, ours.liquidity, ours.fees):
            return pool
    return None


async def _other_ticks(rpc: Rpc, block: Block, held: dict[Pool, ConcentratedPool]) -> Pool | None:
    """Return a pool of which a tick that is known has another liquidity now."""
    ticks = [(pool, tick, net) for pool, state in held.items() for tick, net in state.ticks.net.items()]
    ticks.sort(key=lambda each: (_is_integral(each[0]), each[0].v4 is not None))
    uniswap = [(pool.address, tick) for pool, tick, _ in ticks if pool.v4 is None and not _is_integral(pool)]
    managed = [(pool, tick) for pool, tick, _ in ticks if pool.v4 is not None]
    integral = [(pool.address, tick) for pool, tick, _ in ticks if _is_integral(pool)]
    nets = [
        *await read_net(rpc, uniswap, block),
        *await read_v4_net(rpc, managed, block),
        *await read_deltas(rpc, integral, block),
    ]
    return next((pool for (pool, _, net), found in zip(ticks, nets, strict=True) if net != found), None)


def _is_integral(pool: Pool) -> bool:
    """Whether its ticks are Integral's; those before are Uniswap V3's."""
    return pool.algebra not in {None, Algebra.BEFORE_INTEGRAL}


def _is_v3(pool: Pool) -> bool:
    return pool.algebra is None and pool.v4 is None
