"""Events of pools and factories by their fixed layouts.

A log is what anyone may have emitted. One whose first topic is none of ours is an UnknownLog; one that bears a topic of ours and not its layout
is a MalformedLog; nothing is raised. An event's fixed fields are one run of words, its indexed ones first, so each has a place of its own.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from mev.chain.abi.reader import int_array, word_array
from mev.chain.abi.words import WORD_BYTES, AbiError, event_topic
from mev.domain.events import (
    AlgebraPoolCreated,
    AmplificationUpdateStarted,
    AmplificationUpdateStopped,
    BalancerBalanceChanged,
    BalancerBalanceManaged,
    BalancerFeeSet,
    BalancerSwap,
    CurveExchange,
    CurveFeesSet,
    CurveLiquidity,
    CurveRampStarted,
    CurveRampStopped,
    CurveWithdrawal,
    CustomFeeSet,
    FeeChanged,
    FeesChanged,
    MalformedLog,
    PairBurn,
    PairCreated,
    PairFees,
    PairMint,
    PairSwap,
    PancakePoolSwap,
    PausedStateChanged,
    PluginConfigured,
    PoolBurn,
    PoolCreated,
    PoolEvent,
    PoolInitialized,
    PoolMint,
    PoolSwap,
    SolidlyPoolCreated,
    Sync,
    UnknownLog,
    V4Initialized,
    V4LiquidityModified,
    V4ProtocolFeeSet,
    V4Swap,
)
from mev.domain.market import Hash

# More coins than any pool of these has.
MAX_COINS = 64

_PADDING = bytes(12)
_PADDING_112 = bytes(18)
_PADDING_128 = bytes(16)
_INT24 = 2**23
_number = int.from_bytes
_UNSIGNED, _SIGNED, _ADDRESS, _HASH, _FLAG, _ARRAY = range(6)


class _Field(NamedTuple):
    """Where a field is in the run of words, what it is, and the bound of its value (an array: how many words)."""

    start: int
    kind: int
    bound: int


class _Layout(NamedTuple):
    """How an event is laid out; `make` takes its fields in the signature's order."""

    name: str
    make: Callable[..., PoolEvent]
    topics: int
    size: int
    fields: tuple[_Field, ...]


def decode_log(topics: Sequence[Hash], data: bytes) -> PoolEvent | UnknownLog | MalformedLog:
    """Return what a log says."""
    if not topics:
        return UnknownLog(b"")
    topic = topics[0]
    hot = _HOT.get(topic)
    if hot is not None:
        event = hot(topics, data)
        if event is not None:
            return event
    layout = _FIXED.get(topic)
    if layout is None:
        dynamic = _DYNAMIC.get(topic)
        return UnknownLog(topic) if dynamic is None else _dynamic(dynamic, topics, data)
    name, make, count, size, fields = layout
    words = b"".join(topics[1:]) + data
    if len(topics) != count or len(data) != size or len(words) != size + WORD_BYTES * (count - 1):
        return MalformedLog(name, f"{len(topics)} topics and {len(data)} bytes: {count} and {size} are expected")
    values: list[Any] = []
    for start, kind, bound in fields:
        end = start + WORD_BYTES
        if kind == _ADDRESS:
            if words[start : start + 12] != _PADDING:
                return MalformedLog(name, "an address has more than 20 bytes")
            values.append(words[start + 12 : end])
            continue
        if kind == _HASH:
            values.append(words[start:end])
            continue
        if kind == _ARRAY:
            values.append(tuple(_unsigned(words, start + WORD_BYTES * each) for each in range(bound)))
            continue
        value = int.from_bytes(words[start:end], "big", signed=kind == _SIGNED)
        if value >= bound or value < -bound:
            return MalformedLog(name, "a number does not fit its type")
        values.append(value == 1 if kind == _FLAG else value)
    return make(*values)


def _sync(topics: Sequence[Hash], data: bytes) -> Sync | None:
    if len(topics) != 1 or len(data) != 2 * WORD_BYTES or data[:18] != _PADDING_112 or data[32:50] != _PADDING_112:
        return None
    return Sync(_number(data[18:32], "big"), _number(data[50:64], "big"))


def _pair_swap(topics: Sequence[Hash], data: bytes) -> PairSwap | None:
    if len(topics) != 3 or len(data) != 4 * WORD_BYTES:
        return None
    _, sender, receiver = topics
    if not len(sender) == len(receiver) == WORD_BYTES or not sender[:12] == receiver[:12] == _PADDING:
        return None
    return PairSwap(
        sender[12:],
        _number(data[:32], "big"),
        _number(data[32:64], "big"),
        _number(data[64:96], "big"),
        _number(data[96:], "big"),
        receiver[12:],
    )


def _pool_swap(topics: Sequence[Hash], data: bytes) -> PoolSwap | None:
    if len(topics) != 3 or len(data) != 5 * WORD_BYTES or data[64:76] != _PADDING or data[96:112] != _PADDING_128:
        return None
    _, sender, recipient = topics
    if not len(sender) == len(recipient) == WORD_BYTES or not sender[:12] == recipient[:12] == _PADDING:
        return None
    tick = _number(data[128:], "big", signed=True)
    if not -_INT24 <= tick < _INT24:
        return None
    return PoolSwap(
        sender[12:],
        recipient[12:],
        _number(data[:32], "big", signed=True),
        _number(data[32:64], "big", signed=True),
        _number(data[76:96], "big"),
        _number(data[112:128], "big"),
        tick,
    )


def known_topics() -> frozenset[Hash]:
    """Return the first topics of all events that `decode_log` knows: what a node is asked for."""
    return frozenset(_FIXED) | frozenset(_DYNAMIC)


def _unsigned(words: bytes, start: int) -> int:
    return int.from_bytes(words[start : start + WORD_BYTES], "big")


def _dynamic(
    event: tuple[str, Callable[[Sequence[Hash], bytes], PoolEvent]], topics: Sequence[Hash], data: bytes
) -> PoolEvent | MalformedLog:
    name, decode = event
    try:
        return decode(topics, data)
    except AbiError as error:
        return MalformedLog(name, str(error))


def _balance_changed(topics: Sequence[Hash], data: bytes) -> BalancerBalanceChanged:
    provider = _indexed_address(topics, 3, 2)
    tokens = word_array(data, 0, 0, MAX_COINS)
    if any(token >> 160 for token in tokens):
        raise AbiError("an address has more than 20 bytes")
    deltas = int_array(data, 0, 1, MAX_COINS)
    fees = word_array(data, 0, 2, MAX_COINS)
    if not len(tokens) == len(deltas) == len(fees):
        raise AbiError("there are not as many deltas and fees as tokens")
    return BalancerBalanceChanged(
        topics[1], provider, tuple(token.to_bytes(20, "big") for token in tokens), deltas, fees
    )


def _ng_liquidity(*, added: bool) -> Callable[[Sequence[Hash], bytes], CurveLiquidity]:
    """StableSwap-NG's events have arrays of as many coins as the pool has; the last word is the supply."""

    def decode(topics: Sequence[Hash], data: bytes) -> CurveLiquidity:
        provider = _indexed_address(topics, 2, 1)
        heads = 4 if added else 3
        if len(data) < heads * WORD_BYTES:
            raise AbiError(f"{len(data)} bytes are too few")
        amounts, fees = word_array(data, 0, 0, MAX_COINS), word_array(data, 0, 1, MAX_COINS)
        return CurveLiquidity(provider, amounts, fees, _unsigned(data, (heads - 1) * WORD_BYTES), added)

    return decode


def _indexed_address(topics: Sequence[Hash], count: int, position: int) -> bytes:
    if len(topics) != count or any(len(topic) != WORD_BYTES for topic in topics):
        raise AbiError(f"{count} topics are expected, not {len(topics)}")
    if topics[position][:12] != _PADDING:
        raise AbiError("an address has more than 20 bytes")
    return topics[position][12:]


def _pair_swap_of_solidly(
    sender: bytes, receiver: bytes, amount0_in: int, amount1_in: int, amount0_out: int, amount1_out: int
) -> PairSwap:
    return PairSwap(sender, amount0_in, amount1_in, amount0_out, amount1_out, receiver)


def _pair_burn_of_solidly(sender: bytes, receiver: bytes, amount0: int, amount1: int) -> PairBurn:
    return PairBurn(sender, amount0, amount1, receiver)


def _underlying(buyer: bytes, sold: int, amount_sold: int, bought: int, amount_bought: int) -> CurveExchange:
    return CurveExchange(buyer, sold, amount_sold, bought, amount_bought, underlying=True)


def _deposit(
    provider: bytes, amounts: tuple[int, ...], fees: tuple[int, ...], _invariant: int, supply: int
) -> CurveLiquidity:
    return CurveLiquidity(provider, amounts, fees, supply, added=True)


def _withdrawal(provider: bytes, amounts: tuple[int, ...], fees: tuple[int, ...], supply: int) -> CurveLiquidity:
    return CurveLiquidity(provider, amounts, fees, supply, added=False)


def _imbalanced(
    provider: bytes, amounts: tuple[int, ...], fees: tuple[int, ...], _invariant: int, supply: int
) -> CurveLiquidity:
    return CurveLiquidity(provider, amounts, fees, supply, added=False)


def _one_coin(provider: bytes, tokens: int, amount: int, *_: int) -> CurveWithdrawal:
    return CurveWithdrawal(provider, tokens, amount)


def _one_coin_of_ng(provider: bytes, coin: int, tokens: int, amount: int, _supply: int) -> CurveWithdrawal:
    return CurveWithdrawal(provider, tokens, amount, coin)


def _layout(signature: str, make: Callable[..., PoolEvent], indexed: Sequence[int]) -> tuple[Hash, _Layout]:
    """Lay out an event; `indexed` are the positions of the fields that are topics."""
    types = signature[signature.index("(") + 1 : -1].split(",")
    fields: list[_Field | None] = [None] * len(types)
    place = 0
    for position in [*indexed, *(each for each in range(len(types)) if each not in indexed)]:
        field = _field(types[position], place)
        fields[position] = field
        place += WORD_BYTES * (field.bound if field.kind == _ARRAY else 1)
    size = place - WORD_BYTES * len(indexed)
    laid = tuple(field for field in fields if field is not None)
    return event_topic(signature), _Layout(signature.partition("(")[0], make, len(indexed) + 1, size, laid)


def _field(kind: str, start: int) -> _Field:
    if kind == "address":
        return _Field(start, _ADDRESS, 0)
    if kind == "bytes32":
        return _Field(start, _HASH, 0)
    if kind == "bool":
        return _Field(start, _FLAG, 2)
    if kind.endswith("]"):
        return _Field(start, _ARRAY, int(kind[kind.index("[") + 1 : -1]))
    if kind.startswith("uint"):
        return _Field(start, _UNSIGNED, 1 << int(kind[4:]))
    return _Field(start, _SIGNED, 1 << int(kind[3:]) - 1)


def _curve_layouts() -> list[tuple[Hash, _Layout]]:
    made = []
    for coins in range(2, 9):
        arrays = f"uint256[{coins}],uint256[{coins}]"
        made += [
            _layout(f"AddLiquidity(address,{arrays},uint256,uint256)", _deposit, [0]),
            _layout(f"RemoveLiquidity(address,{arrays},uint256)", _withdrawal, [0]),
            _layout(f"RemoveLiquidityImbalance(address,{arrays},uint256,uint256)", _imbalanced, [0]),
        ]
    return made


_CONCENTRATED_SWAP = "address,address,int256,int256,uint160,uint128,int24"
_FIXED: dict[Hash, _Layout] = dict(
    [
        _layout("Sync(uint112,uint112)", Sync, []),
        _layout("Sync(uint256,uint256)", Sync, []),
        _layout("Swap(address,uint256,uint256,uint256,uint256,address)", PairSwap, [0, 5]),
        _layout("Swap(address,address,uint256,uint256,uint256,uint256)", _pair_swap_of_solidly, [0, 1]),
        _layout("Mint(address,uint256,uint256)", PairMint, [0]),
        _layout("Burn(address,uint256,uint256,address)", PairBurn, [0, 3]),
        _layout("Burn(address,address,uint256,uint256)", _pair_burn_of_solidly, [0, 1]),
        _layout("Fees(address,uint256,uint256)", PairFees, [0]),
        _layout("PairCreated(address,address,address,uint256)", PairCreated, [0, 1]),
        _layout("PoolCreated(address,address,bool,address,uint256)", SolidlyPoolCreated, [0, 1, 2]),
        _layout("SetCustomFee(address,uint256)", CustomFeeSet, [0]),
        _layout("Initialize(uint160,int24)", PoolInitialized, []),
        _layout(f"Swap({_CONCENTRATED_SWAP})", PoolSwap, [0, 1]),
        _layout(f"Swap({_CONCENTRATED_SWAP},uint128,uint128)", PancakePoolSwap, [0, 1]),
        _layout("Mint(address,address,int24,int24,uint128,uint256,uint256)", PoolMint, [1, 2, 3]),
        _layout("Burn(address,int24,int24,uint128,uint256,uint256)", PoolBurn, [0, 1, 2]),
        _layout("Fee(uint16)", FeeChanged, []),
        _layout("Fee(uint16,uint16)", FeesChanged, []),
        _layout("PluginConfig(uint8)", PluginConfigured, []),
        _layout("Pool(address,address,address)", AlgebraPoolCreated, [0, 1]),
        _layout("PoolCreated(address,address,uint24,int24,address)", PoolCreated, [0, 1, 2]),
        _layout("Initialize(bytes32,address,address,uint24,int24,address,uint160,int24)", V4Initialized, [0, 1, 2]),
        _layout("ProtocolFeeUpdated(bytes32,uint24)", V4ProtocolFeeSet, [0]),
        _layout("ModifyLiquidity(bytes32,address,int24,int24,int256,bytes32)", V4LiquidityModified, [0, 1]),
        _layout("Swap(bytes32,address,int128,int128,uint160,uint128,int24,uint24)", V4Swap, [0, 1]),
        _layout("TokenExchange(address,int128,uint256,int128,uint256)", CurveExchange, [0]),
        _layout("TokenExchange(address,uint256,uint256,uint256,uint256)", CurveExchange, [0]),
        _layout("TokenExchangeUnderlying(address,int128,uint256,int128,uint256)", _underlying, [0]),
        _layout("RemoveLiquidityOne(address,uint256,uint256)", _one_coin, [0]),
        _layout("RemoveLiquidityOne(address,uint256,uint256,uint256)", _one_coin, [0]),
        _layout("RemoveLiquidityOne(address,int128,uint256,uint256,uint256)", _one_coin_of_ng, [0]),
        _layout("RampA(uint256,uint256,uint256,uint256)", CurveRampStarted, []),
        _layout("StopRampA(uint256,uint256)", CurveRampStopped, []),
        _layout("NewFee(uint256,uint256)", CurveFeesSet, []),
        _layout("ApplyNewFee(uint256)", CurveFeesSet, []),
        _layout("Swap(bytes32,address,address,uint256,uint256)", BalancerSwap, [0, 1, 2]),
        _layout("PoolBalanceManaged(bytes32,address,address,int256,int256)", BalancerBalanceManaged, [0, 1, 2]),
        _layout("SwapFeePercentageChanged(uint256)", BalancerFeeSet, []),
        _layout("AmpUpdateStarted(uint256,uint256,uint256,uint256)", AmplificationUpdateStarted, []),
        _layout("AmpUpdateStopped(uint256)", AmplificationUpdateStopped, []),
        _layout("PausedStateChanged(bool)", PausedStateChanged, []),
        *_curve_layouts(),
    ]
)
# What most logs are, written out; where one of these gives up, the layout above says what is wrong.
_HOT: dict[Hash, Callable[[Sequence[Hash], bytes], PoolEvent | None]] = {
    event_topic("Sync(uint112,uint112)"): _sync,
    event_topic("Swap(address,uint256,uint256,uint256,uint256,address)"): _pair_swap,
    event_topic(f"Swap({_CONCENTRATED_SWAP})"): _pool_swap,
}
_DYNAMIC: dict[Hash, tuple[str, Callable[[Sequence[Hash], bytes], PoolEvent]]] = {
    event_topic("PoolBalanceChanged(bytes32,address,address[],int256[],uint256[])"): (
        "PoolBalanceChanged",
        _balance_changed,
    ),
    event_topic("AddLiquidity(address,uint256[],uint256[],uint256,uint256)"): (
        "AddLiquidity",
        _ng_liquidity(added=True),
    ),
    event_topic("RemoveLiquidity(address,uint256[],uint256[],uint256)"): (
        "RemoveLiquidity",
        _ng_liquidity(added=False),
    ),
}
