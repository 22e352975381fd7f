"""What pools of Algebra's first version (QuickSwap V3) would take in the block after one: told of by no event, and foreseen to the millionth.

In its first action in a block such a pool writes down what was swapped in the last one (DataStorageOperator's `write`) and has the fee computed of its past (`getFee`).
Both are simulated in the pool's name on the state after a block, as if a second later; what it will write down lies beside its liquidity. Blocks that come later than
that may find another fee: the simulation before a trade is the judge.
"""

from collections.abc import Sequence

import msgspec
import structlog

from mev.chain.abi import AbiError, decode_address, decode_uint, encode_call, selector
from mev.chain.rpc import Json, MalformedAnswerError, Rpc, RpcError
from mev.chain.wire import data, encode, quantity
from mev.domain import Block
from mev.domain.market import Address
from mev.market.amm.concentrated import ConcentratedPool
from mev.market.discovery import returned
from mev.market.discovery_v3 import LIQUIDITY_BITS, UINT256
from mev.market.state import MarketState
from mev.market.token_safety import Simulated

GLOBAL_STATE = selector("globalState()")
OPERATOR = selector("dataStorageOperator()")
WRITE = selector("write(uint16,uint32,int24,uint128,uint128)")
FEE_AT = selector("getFee(uint32,int24,uint16,uint128)")
STATE_WORDS = 7
FEE_BITS = INDEX_BITS = 16
# Where a pool keeps its liquidity, and above it what was swapped since it wrote down last.
LIQUIDITY_SLOT = 3
QUESTIONS = 3
CALL_GAS = 2_000_000

log = structlog.get_logger(__name__)


async def foreseen(rpc: Rpc, state: MarketState, pools: Sequence[Address], block: Block) -> dict[Address, int]:
    """Return the fees, millionths, of a first swap in the second after `block`, the market's own; those that do not answer are left out and logged.

    Raises RpcUnavailableError where the node does not answer at all.
    """
    held = {pool: now for pool in pools if isinstance(now := state.held(pool), ConcentratedPool)}
    pinned = {"blockHash": encode(block.hash)}
    answers = await rpc.batch(
        asked
        for pool in held
        for asked in (
            ("eth_call", [{"to": encode(pool), "data": encode(GLOBAL_STATE)}, pinned]),
            ("eth_call", [{"to": encode(pool), "data": encode(OPERATOR)}, pinned]),
            ("eth_getStorageAt", [encode(pool), hex(LIQUIDITY_SLOT), pinned]),
        )
    )
    calls: dict[Address, list[dict[str, str]]] = {}
    for place, (pool, now) in enumerate(held.items()):
        try:
            calls[pool] = _calls(pool, now, block, answers[QUESTIONS * place : QUESTIONS * (place + 1)])
        except (AbiError, RpcError, MalformedAnswerError) as error:
            _tell(block, pool, error)
    simulated = await rpc.batch(
        ("eth_simulateV1", [{"blockStateCalls": [{"calls": asked}]}, encode(block.hash)]) for asked in calls.values()
    )
    fees = {}
    for pool, answer in zip(calls, simulated, strict=True):
        try:
            fees[pool] = _fee(answer)
        except (AbiError, RpcError, MalformedAnswerError) as error:
            _tell(block, pool, error)
    return fees


def _calls(pool: Address, held: ConcentratedPool, block: Block, answers: Sequence[Json]) -> list[dict[str, str]]:
    """Return what the pool would ask its storage."""
    index = decode_uint(returned(answers[0]), 3, words=STATE_WORDS, bits=INDEX_BITS)
    operator = decode_address(returned(answers[1]))
    word = decode_uint(returned(answers[2]))
    if word & (1 << LIQUIDITY_BITS) - 1 != held.liquidity:
        raise AbiError("its storage is laid out otherwise")
    when, tick = (block.timestamp + 1) % 2**32, held.tick % UINT256
    return [
        {"from": encode(pool), "to": encode(operator), "data": encode(asked), "gas": hex(CALL_GAS)}
        for asked in (
            encode_call(WRITE, index, when, tick, held.liquidity, word >> LIQUIDITY_BITS),
            encode_call(FEE_AT, when, tick, (index + 1) % 2**INDEX_BITS, held.liquidity),
        )
    ]


def _fee(answer: Json) -> int:
    if isinstance(answer, RpcError):
        raise answer
    try:
        calls = [call for each in msgspec.convert(answer, list[Simulated]) for call in each.calls]
    except msgspec.ValidationError as error:
        raise MalformedAnswerError(f"eth_simulateV1 answered otherwise: {error}") from None
    if [quantity(call.status) for call in calls] != [1, 1]:
        raise AbiError("its storage refuses")
    return decode_uint(data(calls[1].return_data), bits=FEE_BITS)


def _tell(block: Block, pool: Address, error: Exception) -> None:
    log.warning("fee not said", block=block.number, pool=encode(pool), reason=str(error))
