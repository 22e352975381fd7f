"""Which pools there are, and what they hold at one block: read from the factories, in batches.

Only pools between configured tokens are asked for (getPair), not all that a factory ever made: mainnet's first has half
a million pairs, and a token that nobody vouches for may do anything in its transfer.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

import structlog

from mev.chain.abi import AbiError, Reserves, decode_address, decode_reserves, encode_call, selector
from mev.chain.rpc import Json, MalformedAnswerError, Rpc, RpcError
from mev.chain.wire import data, encode
from mev.domain import Block, Pool, V2State
from mev.domain.market import Address
from mev.runtime.config import FactoryConfig

GET_PAIR = selector("getPair(address,address)")
TOKEN0 = selector("token0()")
TOKEN1 = selector("token1()")
GET_RESERVES = selector("getReserves()")
NOBODY: Address = bytes(20)

log = structlog.get_logger(__name__)


class DiscoveryError(Exception):
    """A factory is not what the configuration says; the message names it."""


async def discover(
    rpc: Rpc, factories: Sequence[FactoryConfig], tokens: Iterable[Address], block: Block
) -> dict[Pool, V2State]:
    """Return every pool of the factories between two of the tokens, with its reserves as they are after `block`.

    A pool that does not answer as a V2 pair does is left out and logged. Raises DiscoveryError where a factory does not
    answer as one, RpcUnavailableError where the node does not.
    """
    return await read_pairs(rpc, await find_pairs(rpc, factories, tokens, block), block)


async def find_pairs(
    rpc: Rpc, factories: Sequence[FactoryConfig], tokens: Iterable[Address], block: Block
) -> list[Pool]:
    """Return the pools that the factories name between two of the tokens; raises as `discover`."""
    pairs = list(combinations(sorted(set(tokens)), 2))
    wanted = [(factory, pair) for factory in factories for pair in pairs]
    found = await call_at(rpc, block, [(factory.address, encode_call(GET_PAIR, *pair)) for factory, pair in wanted])
    pools: list[Pool] = []
    for (factory, (token0, token1)), answer in zip(wanted, found, strict=True):
        address = _pair_of(factory, answer)
        if address != NOBODY:
            pools.append(Pool(address, factory.name, token0, token1, factory.fee_numerator, factory.fee_denominator))
    return pools


async def read_pairs(rpc: Rpc, pools: Sequence[Pool], block: Block) -> dict[Pool, V2State]:
    """Return the reserves of pools that answer as V2 pairs do; the others are left out and logged."""
    questions = (TOKEN0, TOKEN1, GET_RESERVES)
    answers = await call_at(rpc, block, [(pool.address, question) for pool in pools for question in questions])
    states: dict[Pool, V2State] = {}
    for position, pool in enumerate(pools):
        try:
            reserves = _check(pool, answers[len(questions) * position : len(questions) * (position + 1)])
        except (AbiError, RpcError, MalformedAnswerError) as error:
            log.warning("pool left out", pool=encode(pool.address), factory=pool.factory, reason=str(error))
            continue
        states[pool] = V2State(*reserves, block.number)
    return states


def _check(pool: Pool, answers: Sequence[Json]) -> Reserves:
    token0, token1 = (decode_address(returned(answer)) for answer in answers[:2])
    if (token0, token1) != (pool.token0, pool.token1):
        raise AbiError("its tokens are not those that its factory was asked for")
    return decode_reserves(returned(answers[2]))


def _pair_of(factory: FactoryConfig, answer: Json) -> Address:
    try:
        return decode_address(returned(answer))
    except (AbiError, RpcError, MalformedAnswerError) as error:
        raise DiscoveryError(
            f"{factory.name} at {encode(factory.address)} is no V2 factory: getPair answers {error}"
        ) from None


async def call_at(rpc: Rpc, block: Block, calls: Sequence[tuple[Address, bytes]]) -> list[Json]:
    """Call contracts on the state after `block`, by its hash (EIP-1898); a refusal is an RpcError in its place."""
    pinned: Mapping[str, str] = {"blockHash": encode(block.hash)}
    return await rpc.batch(
        ("eth_call", [{"to": encode(address), "data": encode(call)}, pinned]) for address, call in calls
    )


def returned(answer: Json) -> bytes:
    """Return what a contract answered; raises RpcError where it refused, MalformedAnswerError where that is no data."""
    if isinstance(answer, RpcError):
        raise answer
    return data(answer)
