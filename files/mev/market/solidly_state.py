"""Solidly pools (Velodrome V2, Aerodrome), volatile and stable: which there are, what they hold at one block, and how their events change that.

A pool's fee is its factory's, which may give it one of its own at any time and says so (SetCustomFee); a change of the factory's common fee is told of by
nothing: a pool whose fee we have wrong is found out by the simulation before a trade, as the executor has the pool itself say what it gives.
"""

from collections.abc import Iterable, Sequence
from itertools import combinations

import structlog

from mev.chain.abi import AbiError, decode_address, decode_uint, encode_call, event_topic, selector
from mev.chain.abi.logs import decode_log
from mev.chain.rpc import MalformedAnswerError, Rpc, RpcError
from mev.chain.wire import Log, encode
from mev.domain import Block, Pool
from mev.domain.events import CustomFeeSet, MalformedLog, Sync
from mev.domain.market import Address
from mev.market.amm.solidly import FEE_DENOMINATOR, SolidlyPool
from mev.market.concentrated_state import Unusable
from mev.market.discovery import NOBODY, DiscoveryError, call_at, returned
from mev.runtime.config import SolidlyFactoryConfig

SOLIDLY_SYNC = event_topic("Sync(uint256,uint256)")
CUSTOM_FEE = event_topic("SetCustomFee(address,uint256)")
SOLIDLY_TOPICS = frozenset({SOLIDLY_SYNC, CUSTOM_FEE})
GET_POOL = selector("getPool(address,address,bool)")
GET_FEE = selector("getFee(address,bool)")
METADATA = selector("metadata()")
METADATA_WORDS = 7
# What a factory writes for a fee of nothing; 0 is the common one again.
NO_FEE = 420
COMMON_FEE = Unusable("its fee is its factory's common one again, which no event says: it has to be read anew")
MOST_DECIMALS = 36

Solidly = SolidlyPool | Unusable

log = structlog.get_logger(__name__)


def followed(state: Solidly, event_log: Log) -> Solidly:
    """Return a pool's state after one of its own logs; raises AbiError where the log is malformed."""
    event = _event(event_log)
    return (
        state.at(event.reserve0, event.reserve1)
        if isinstance(state, SolidlyPool) and isinstance(event, Sync)
        else state
    )


def fee_of(event_log: Log) -> tuple[Address, int | None]:
    """Return whose fee a factory's log sets, and the fee in ten-thousandths; None is the factory's common one again. Raises AbiError."""
    event = _event(event_log)
    if not isinstance(event, CustomFeeSet):
        raise AbiError("it sets no fee")
    if event.fee == NO_FEE:
        return event.pool, 0
    if event.fee > FEE_DENOMINATOR:
        raise AbiError(f"a fee of {event.fee} ten-thousandths is none")
    return event.pool, event.fee or None


def with_fee(state: Solidly, fee: int | None) -> Solidly:
    """Return a pool with another fee; one whose fee nothing says is not traded on."""
    if isinstance(state, Unusable):
        return state
    return COMMON_FEE if fee is None else state._replace(fee=fee)


def _event(event_log: Log) -> object:
    event = decode_log(event_log.topics, event_log.data)
    if isinstance(event, MalformedLog):
        raise AbiError(f"{event.event}: {event.reason}")
    return event


async def find_solidly(
    rpc: Rpc, factories: Sequence[SolidlyFactoryConfig], tokens: Iterable[Address], block: Block
) -> list[Pool]:
    """Return the pools, volatile and stable, that the factories name between two of the tokens.

    Raises DiscoveryError where a factory does not answer as one, RpcUnavailableError where the node does not.
    """
    pairs = list(combinations(sorted(set(tokens)), 2))
    wanted = [(factory, pair, stable) for factory in factories for pair in pairs for stable in (False, True)]
    found = await call_at(
        rpc, block, [(factory.address, encode_call(GET_POOL, *pair, int(stable))) for factory, pair, stable in wanted]
    )
    return [
        Pool(address, factory.name, *pair, 0, 1, stable=stable)
        for (factory, pair, stable), answer in zip(wanted, found, strict=True)
        if (address := _pool_of(factory, answer)) != NOBODY
    ]


async def read_solidly(
    rpc: Rpc, factories: Sequence[SolidlyFactoryConfig], pools: Sequence[Pool], block: Block
) -> dict[Pool, SolidlyPool]:
    """Return what pools of these factories hold after `block`; those that do not answer as Solidly pools do are left out and logged."""
    makers = {factory.name: factory.address for factory in factories}
    asked = [
        call
        for pool in pools
        for call in (
            (pool.address, METADATA),
            (makers[pool.factory], encode_call(GET_FEE, pool.address, int(bool(pool.stable)))),
        )
    ]
    answers = await call_at(rpc, block, asked)
    states: dict[Pool, SolidlyPool] = {}
    for place, pool in enumerate(pools):
        try:
            states[pool] = _read(pool, returned(answers[2 * place]), returned(answers[2 * place + 1]))
        except (AbiError, RpcError, MalformedAnswerError) as error:
            log.warning("pool left out", pool=encode(pool.address), factory=pool.factory, reason=str(error))
    return states


def _read(pool: Pool, metadata: bytes, fee: bytes) -> SolidlyPool:
    unit0, unit1, reserve0, reserve1, stable, *tokens = (
        decode_uint(metadata, word, words=METADATA_WORDS) for word in range(METADATA_WORDS)
    )
    if tokens != [int.from_bytes(token, "big") for token in (pool.token0, pool.token1)] or stable != pool.stable:
        raise AbiError("its tokens or its curve are not those that its factory was asked for")
    for unit in (unit0, unit1):
        if unit not in _UNITS:
            raise AbiError(f"{unit} base units are no whole token")
    taken = decode_uint(fee)
    if taken > FEE_DENOMINATOR:
        raise AbiError(f"a fee of {taken} ten-thousandths is none")
    return SolidlyPool(reserve0, reserve1, unit0, unit1, taken, bool(stable))


def _pool_of(factory: SolidlyFactoryConfig, answer: object) -> Address:
    try:
        return decode_address(returned(answer))
    except (AbiError, RpcError, MalformedAnswerError) as error:
        raise DiscoveryError(
            f"{factory.name} at {encode(factory.address)} is no Solidly factory: getPool answers {error}"
        ) from None


_UNITS = frozenset(10**decimals for decimals in range(MOST_DECIMALS + 1))
