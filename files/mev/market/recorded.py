"""What V2 and V3 pools did in a recorded block, from its traces alone: every swap, and each V2 pair's reserves after each change.

A pair asks both tokens what it holds whenever it changes its reserves, and takes the answers for them (UniswapV2Pair.swap, mint, burn, sync):
the last two answers within such a call are exactly what its Sync event says. Where it began follows from getReserves if somebody
asked before the first change, else from that change: what was there after it, less what was transferred in, and what went out.
Only what agrees with the constant product at a fee of 3/1000 is taken; other forks' fees cannot be told from a trace.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from mev.chain.abi import WORD_BYTES, AbiError, decode_reserves, reader, selector
from mev.chain.abi.routers import decode_call
from mev.chain.traces import Call, RecordedBlock, Transaction
from mev.domain import Pool
from mev.domain.calls import RouterCall
from mev.domain.market import Address
from mev.domain.trades import Trade
from mev.market.amm import AmmError, amount_out

V2 = "uniswap_v2"
V3 = "uniswap_v3"
FEE = (997, 1000)

V2_SWAP = selector("swap(uint256,uint256,address,bytes)")
V3_SWAP = selector("swap(address,bool,int256,uint160,bytes)")
# What else sets a pair's reserves to its balances.
V2_CHANGES = frozenset({V2_SWAP, selector("mint(address)"), selector("burn(address)"), selector("sync()")})
GET_RESERVES = selector("getReserves()")
BALANCE_OF = selector("balanceOf(address)")
TRANSFER = selector("transfer(address,uint256)")
TRANSFER_FROM = selector("transferFrom(address,address,uint256)")
SELECTOR_BYTES = 4


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A pair's reserves after something that it did in a transaction; `trade` where that was a swap in one direction."""

    position: int
    pool: Address
    reserves: tuple[int, int]
    trade: Trade | None


class RecordedMarket(msgspec.Struct, frozen=True, kw_only=True):
    """A block's pools: `start` has the V2 pairs whose reserves before the block are known, `unknown` counts the others."""

    start: dict[Pool, tuple[int, int]]
    changes: tuple[Change, ...]
    trades: tuple[Trade, ...]
    unknown: int


class _Done(NamedTuple):
    """A call with what it called itself, and what was transferred to whom before it ended: (token, receiver, amount)."""

    call: Call
    inner: list[Call]
    transferred: int


class _Pair:
    """One pair as far as it is known."""

    def __init__(self, tokens: tuple[Address, Address]) -> None:
        self.tokens = tokens
        self.start: tuple[int, int] | None = None
        self.last: tuple[int, int] | None = None
        self.sound = True


def read_market(block: RecordedBlock) -> RecordedMarket:
    """Return what a recorded block's pools did."""
    pairs: dict[Address, _Pair] = {}
    asked: dict[Address, tuple[int, int]] = {}
    changes: list[Change] = []
    trades: list[Trade] = []
    for transaction in block.transactions:
        routed = (
            isinstance(decode_call(transaction.calls[0].input, transaction.calls[0].value_wei), RouterCall)
            if transaction.calls
            else False
        )
        for found in _events(transaction, routed, pairs, asked):
            if isinstance(found, Change):
                changes.append(found)
                if found.trade is not None:
                    trades.append(found.trade)
            else:
                trades.append(found)
    known = {address: pair for address, pair in pairs.items() if pair.start is not None and pair.sound}
    return RecordedMarket(
        start={_pool(address, pair): pair.start for address, pair in known.items() if pair.start is not None},
        changes=tuple(change for change in changes if change.pool in known),
        trades=tuple(trades),
        unknown=len(pairs) - len(known),
    )


def _pool(address: Address, pair: _Pair) -> Pool:
    return Pool(address, V2, *pair.tokens, *FEE)


def _events(
    transaction: Transaction, routed: bool, pairs: dict[Address, _Pair], asked: dict[Address, tuple[int, int]]
) -> Iterator[Change | Trade]:
    transfers: list[tuple[Address, Address, int]] = []
    # How many transfers each pair had seen when its reserves were last set: what came before was counted.
    counted: dict[Address, int] = {}
    for call, inner in _ended(transaction.calls, transfers, pairs, asked):
        chosen = call.input[:SELECTOR_BYTES]
        if chosen in V2_CHANGES:
            change = _change(transaction, routed, call, inner, pairs, asked, transfers[counted.get(call.to, 0) :])
            if change is not None:
                counted[call.to] = len(transfers)
                yield change
        elif chosen == V3_SWAP:
            trade = _v3_trade(transaction, routed, call, inner)
            if trade is not None:
                yield trade


def _ended(
    calls: Sequence[Call],
    transfers: list[tuple[Address, Address, int]],
    pairs: dict[Address, _Pair],
    asked: dict[Address, tuple[int, int]],
) -> Iterator[tuple[Call, list[Call]]]:
    """Give each call when it ends, with the calls that its callee made itself; note transfers and reserves as they begin."""
    open_calls: list[tuple[Call, list[Call]]] = []
    for call in calls:
        while open_calls and call.path[: len(open_calls[-1][0].path)] != open_calls[-1][0].path:
            yield open_calls.pop()
        for caller, inner in reversed(open_calls):
            if caller.to == call.sender:
                inner.append(call)
                break
        if (moved := _transfer(call)) is not None:
            transfers.append(moved)
        first = call.input[:SELECTOR_BYTES] == GET_RESERVES and call.to not in pairs and call.to not in asked
        if first and (reserves := _reserves(call.output)) is not None:
            asked[call.to] = reserves
        open_calls.append((call, []))
    while open_calls:
        yield open_calls.pop()


def _change(
    transaction: Transaction,
    routed: bool,
    call: Call,
    inner: Iterable[Call],
    pairs: dict[Address, _Pair],
    asked: dict[Address, tuple[int, int]],
    transfers: Sequence[tuple[Address, Address, int]],
) -> Change | None:
    balances = [(each.to, held) for each in inner if (held := _balance(each, call.to)) is not None]
    if len(balances) < 2 or balances[-2][0] == balances[-1][0]:
        return None
    (token0, reserve0), (token1, reserve1) = balances[-2:]
    pair = pairs.get(call.to)
    if pair is None:
        pair = pairs[call.to] = _Pair((token0, token1))
    if pair.tokens != (token0, token1):
        pair.sound = False
        return None
    out = _v2_out(call)
    before = pair.last or asked.get(call.to)
    if before is None and out is not None:
        came = [
            sum(amount for token, to, amount in transfers if (token, to) == (each, call.to)) for each in pair.tokens
        ]
        before = (reserve0 - came[0] + out[0], reserve1 - came[1] + out[1])
    if pair.start is None:
        pair.start = before
    pair.last = (reserve0, reserve1)
    trade = None
    if before is not None and out is not None:
        trade = _v2_trade(transaction, routed, call, pair, before, (reserve0, reserve1), out)
        pair.sound &= trade is None or _agrees(trade, before)
        pair.sound &= min(before) > 0
    return Change(position=transaction.position, pool=call.to, reserves=(reserve0, reserve1), trade=trade)


def _v2_trade(
    transaction: Transaction,
    routed: bool,
    call: Call,
    pair: _Pair,
    before: tuple[int, int],
    after: tuple[int, int],
    out: tuple[int, int],
) -> Trade | None:
    came = tuple(now - was + gave for now, was, gave in zip(after, before, out, strict=True))
    zero_for_one = out[0] == 0
    first, second = (0, 1) if zero_for_one else (1, 0)
    # Both tokens out at once is no swap in one direction; some tokens come by themselves to whoever holds them.
    if out[first] or not out[second] or came[first] <= 0:
        return None
    return Trade(
        position=transaction.position,
        transaction=transaction.hash,
        sender=transaction.sender,
        target=transaction.target,
        routed=routed,
        kind=V2,
        pool=call.to,
        zero_for_one=zero_for_one,
        token_in=pair.tokens[first],
        token_out=pair.tokens[second],
        caller=call.sender,
        recipient=reader.address(call.input[SELECTOR_BYTES:], 0, 2),
        amount_in=came[first],
        amount_out=out[second],
    )


def _v3_trade(transaction: Transaction, routed: bool, call: Call, inner: Iterable[Call]) -> Trade | None:
    """Read a swap of a concentrated pool: what it returns are the amounts that it got (positive) and gave."""
    if len(call.output) < 2 * WORD_BYTES:
        return None
    amounts = [int.from_bytes(call.output[start : start + WORD_BYTES], "big", signed=True) for start in (0, WORD_BYTES)]
    try:
        recipient = reader.address(call.input[SELECTOR_BYTES:], 0, 0)
    except AbiError:
        return None
    token_in = token_out = None
    for each in inner:
        if _balance(each, call.to) is not None:
            token_in = each.to
        elif _transfer(each) is not None:
            token_out = each.to
    zero_for_one = amounts[0] > 0
    came, gave = (amounts[0], -amounts[1]) if zero_for_one else (amounts[1], -amounts[0])
    if token_in is None or token_out is None or came <= 0 or gave < 0:
        return None
    return Trade(
        position=transaction.position,
        transaction=transaction.hash,
        sender=transaction.sender,
        target=transaction.target,
        routed=routed,
        kind=V3,
        pool=call.to,
        zero_for_one=zero_for_one,
        token_in=token_in,
        token_out=token_out,
        caller=call.sender,
        recipient=recipient,
        amount_in=came,
        amount_out=gave,
    )


def _agrees(trade: Trade, before: tuple[int, int]) -> bool:
    """Whether a pair with these reserves and this fee would have given so much."""
    reserve_in, reserve_out = before if trade.zero_for_one else before[::-1]
    try:
        return trade.amount_out <= amount_out(trade.amount_in, reserve_in, reserve_out, *FEE)
    except AmmError:
        return False


def _v2_out(call: Call) -> tuple[int, int] | None:
    if call.input[:SELECTOR_BYTES] != V2_SWAP:
        return None
    try:
        content = call.input[SELECTOR_BYTES:]
        reader.address(content, 0, 2)
        return reader.uint(content, 0, 0), reader.uint(content, 0, 1)
    except AbiError:
        return None


def _balance(call: Call, holder: Address) -> int | None:
    content = call.input[SELECTOR_BYTES:]
    if call.input[:SELECTOR_BYTES] != BALANCE_OF or content[-20:] != holder or len(call.output) != WORD_BYTES:
        return None
    return int.from_bytes(call.output, "big")


def _transfer(call: Call) -> tuple[Address, Address, int] | None:
    content = call.input[SELECTOR_BYTES:]
    try:
        match call.input[:SELECTOR_BYTES]:
            case selected if selected == TRANSFER:
                return call.to, reader.address(content, 0, 0), reader.uint(content, 0, 1)
            case selected if selected == TRANSFER_FROM:
                return call.to, reader.address(content, 0, 1), reader.uint(content, 0, 2)
    except AbiError:
        pass
    return None


def _reserves(output: bytes) -> tuple[int, int] | None:
    try:
        reserves = decode_reserves(output)
    except AbiError:
        return None
    return reserves[0], reserves[1]
