"""The Universal Router's commands and Uniswap V4's actions, each as a step: a swap, or what is done with what the router holds.

A command that this does not know is a step of the kind OTHER. Source: universal-router 2.1.0 (Commands, Dispatcher, Payments), v4-periphery
1.0.3 (Actions, IV4Router, PathKey); Velodrome's and Aerodrome's router (Dispatcher, V2Path), whose paths have other forms.
"""

from collections.abc import Callable

from mev.chain.abi import reader
from mev.chain.abi.paths import MAX_HOPS, packed_path
from mev.chain.abi.words import WORD_BYTES, AbiError
from mev.domain.calls import Act, RouterAct, RouterHop, RouterSwap, Venue
from mev.domain.market import Address
from mev.runtime.address import ADDRESS_BYTES

MAX_BYTES = 2**17
MAX_COMMANDS = 64
MAX_DEPTH = 4
MAX_CALLS = 256

# What the router takes for itself, and the zero address for native coin.
ROUTER: Address = (2).to_bytes(20, "big")
NATIVE: Address = bytes(20)

# The highest bit lets a command fail.
_COMMAND_MASK = 0x7F
# As an amount: all that the router holds.
_WHOLE = 1 << 255
_NO_LIMIT = (1 << 256) - 1
_V3_EXACT_IN, _V3_EXACT_OUT, _V2_EXACT_IN, _V2_EXACT_OUT = 0x00, 0x01, 0x08, 0x09
_PULL_BATCH, _V4_SWAP, _SUB_PLAN = 0x0D, 0x10, 0x21
_EXACT_IN_SINGLE, _EXACT_IN, _EXACT_OUT_SINGLE, _EXACT_OUT = 0x06, 0x07, 0x08, 0x09
_SETTLE, _SETTLE_ALL, _TAKE, _TAKE_ALL, _TAKE_PORTION = 0x0B, 0x0C, 0x0E, 0x0F, 0x10
_SWAPS = frozenset({_V3_EXACT_IN, _V3_EXACT_OUT, _V2_EXACT_IN, _V2_EXACT_OUT})
_POOL_KEY_WORDS = 5
_ROUTE_WORDS, _TRANSFER_WORDS = 3, 4
# Where a dynamic field begins behind so many words.
_PATH_AT = slice(3 * WORD_BYTES, 4 * WORD_BYTES)
_FIVE_WORDS, _SIX_WORDS = 5 * WORD_BYTES, (6 * WORD_BYTES).to_bytes(WORD_BYTES, "big")
_HOOK_DATA, _HOOK_DATA_PRICED = 9 * WORD_BYTES, 10 * WORD_BYTES

Step = RouterSwap | RouterAct


class Budget:
    """How much more of one call may be decoded: arrays may point many times at the same bytes."""

    def __init__(self) -> None:
        self._calls = MAX_CALLS
        self._depth = 0
        self._unlocked = False

    def unlock(self) -> bool:
        """Whether V4's manager was asked before, by whichever command of the call."""
        before, self._unlocked = self._unlocked, True
        return before

    def spend(self) -> None:
        """Take one command off; raises AbiError where there are too many."""
        self._calls -= 1
        if self._calls < 0:
            raise AbiError(f"there are more than {MAX_CALLS} commands")

    def deeper(self) -> None:
        """Go one level down; raises AbiError where that is too deep."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise AbiError(f"calls are nested deeper than {MAX_DEPTH}")

    def higher(self) -> None:
        """Come back from it; what raised ends the whole call, so there is no need to come back from that."""
        self._depth -= 1


def commands(data: bytes, budget: Budget, deadline: int | None, *, may_fail: bool = False) -> list[Step]:
    """Read (bytes commands, bytes[] inputs): each command's steps; with `may_fail` others go on where these are refused."""
    codes = reader.text(data, 0, 0, MAX_COMMANDS)
    inputs = reader.text_array(data, 0, 1, MAX_COMMANDS, MAX_BYTES)
    if len(codes) != len(inputs):
        raise AbiError(f"{len(codes)} commands have {len(inputs)} inputs")
    steps: list[Step] = []
    budget.deeper()
    for code, given in zip(codes, inputs, strict=True):
        budget.spend()
        command, optional = code & _COMMAND_MASK, may_fail or code > _COMMAND_MASK
        if command in _SWAPS:
            steps.append(_swap(command, given, deadline, optional))
        elif command == _V4_SWAP:
            # Each such command is an unlock of its own: nothing is owed from one to the next.
            steps += [RouterAct(Act.UNLOCK, "V4_SWAP")] if budget.unlock() else []
            steps += _actions(given, budget, deadline, optional)
        elif command == _SUB_PLAN:
            steps += commands(given, budget, deadline, may_fail=optional)
        elif command == _PULL_BATCH:
            steps += _pulls(given, budget, optional)
        else:
            decode = _ACTS.get(command)
            steps.append(decode(given, optional) if decode else RouterAct(Act.OTHER, f"command 0x{command:02x}"))
    budget.higher()
    return steps


def _swap(command: int, data: bytes, deadline: int | None, may_fail: bool) -> RouterSwap:
    """Read (address recipient, uint256 amount, uint256 limit, path, bool payer), and what forks put behind it."""
    exact_out = command in {_V3_EXACT_OUT, _V2_EXACT_OUT}
    recipient = reader.address(data, 0, 0)
    amount, limit = reader.uint(data, 0, 1), reader.uint(data, 0, 2)
    by_router = not reader.flag(data, 0, 4)
    hop_limits = velodrome = False
    # The path begins behind the head: six words have Velodrome's flag there, or (since 2.1.1) where each hop's least price is.
    if data[_PATH_AT] == _SIX_WORDS:
        if reader.uint(data, 0, 5) > 1:
            hop_limits = bool(reader.array(data, 0, 5, WORD_BYTES, MAX_HOPS)[1])
        else:
            velodrome = True
    if velodrome:
        hops = _velodrome(reader.text(data, 0, 3, MAX_BYTES), command, uniswap=reader.flag(data, 0, 5))
    elif command in {_V3_EXACT_IN, _V3_EXACT_OUT}:
        hops = packed_path(reader.text(data, 0, 3, MAX_BYTES), backwards=exact_out)
    else:
        hops = _pairs(data)
    if not (by_router or may_fail or hop_limits or recipient == ROUTER):
        return RouterSwap(hops, amount, limit, exact_out, recipient, deadline)
    return RouterSwap(
        hops,
        amount,
        limit,
        exact_out,
        recipient,
        deadline,
        from_router=by_router,
        to_router=recipient == ROUTER,
        whole=not exact_out and by_router and amount == _WHOLE,
        may_fail=may_fail,
        hop_limits=hop_limits,
    )


def _pairs(data: bytes) -> tuple[RouterHop, ...]:
    """Read address[], or Velodrome's (address from, address to, bool stable)[]: told apart by how long the input is."""
    start, count = reader.array(data, 0, 3, WORD_BYTES, MAX_HOPS + 1)
    if count and len(data) == start + count * _ROUTE_WORDS * WORD_BYTES:
        hops = []
        for base in range(start, len(data), _ROUTE_WORDS * WORD_BYTES):
            ends = reader.address(data, base, 0), reader.address(data, base, 1)
            hops.append(RouterHop(Venue.SOLIDLY, *ends, stable=reader.flag(data, base, 2), factory=NATIVE))
        return tuple(hops)
    path = [reader.address(data, start, each) for each in range(count)]
    if len(path) < 2:
        raise AbiError("a path has less than two tokens")
    return tuple(RouterHop(Venue.V2, path[each], path[each + 1]) for each in range(len(path) - 1))


def _velodrome(path: bytes, command: int, *, uniswap: bool) -> tuple[RouterHop, ...]:
    """Read a packed path of Velodrome's router: its own pools (stable or not, tick spacing), or with `uniswap` Uniswap's."""
    if command in {_V3_EXACT_IN, _V3_EXACT_OUT}:
        hops = packed_path(path, backwards=command == _V3_EXACT_OUT)
        if uniswap:
            return hops
        return tuple(
            RouterHop(Venue.SLIPSTREAM, hop.token_in, hop.token_out, tick_spacing=_signed(hop.fee or 0)) for hop in hops
        )
    step = ADDRESS_BYTES if uniswap else ADDRESS_BYTES + 1
    count, rest = divmod(len(path) - ADDRESS_BYTES, step)
    if rest or not 0 < count <= MAX_HOPS:
        raise AbiError(f"{len(path)} bytes are no path")
    hops_found = []
    for start in range(0, count * step, step):
        ends = path[start : start + ADDRESS_BYTES], path[start + step : start + step + ADDRESS_BYTES]
        if uniswap:
            hops_found.append(RouterHop(Venue.V2, *ends))
        else:
            stable = bool(path[start + ADDRESS_BYTES])
            hops_found.append(RouterHop(Venue.SOLIDLY, *ends, stable=stable, factory=NATIVE))
    return tuple(hops_found)


def _signed(spacing: int) -> int:
    return spacing - (spacing >> 23 << 24)


def _act(kind: Act, name: str) -> Callable[[bytes, bool], RouterAct]:
    """Read (token, recipient, amount), or where the kind says which token, (recipient, amount)."""
    coin = kind in {Act.WRAP, Act.UNWRAP}

    def decode(data: bytes, may_fail: bool) -> RouterAct:
        token = None if coin else reader.address(data, 0, 0)
        recipient = reader.address(data, 0, 0 if coin else 1)
        amount = reader.uint(data, 0, 1 if coin else 2, 160 if kind in {Act.SWEEP, Act.PULL} else 256)
        whole = amount == _WHOLE and (kind is Act.WRAP or (kind is Act.PAY and token != NATIVE))
        held = None if token == NATIVE else token
        return RouterAct(kind, name, held, amount, recipient, recipient == ROUTER, whole, may_fail)

    return decode


def _permit(_data: bytes, may_fail: bool) -> RouterAct:
    return RouterAct(Act.PERMIT, "PERMIT2_PERMIT", may_fail=may_fail)


def _pulls(data: bytes, budget: Budget, may_fail: bool) -> list[RouterAct]:
    """Read (address from, address to, uint160 amount, address token)[]; nobody is named by a number here."""
    start, count = reader.array(data, 0, 0, _TRANSFER_WORDS * WORD_BYTES, MAX_COMMANDS)
    acts = []
    for base in range(start, start + _TRANSFER_WORDS * WORD_BYTES * count, _TRANSFER_WORDS * WORD_BYTES):
        budget.spend()
        reader.address(data, base, 0)
        token, amount, to = (
            reader.address(data, base, 3),
            reader.uint(data, base, 2, 160),
            reader.address(data, base, 1),
        )
        acts.append(RouterAct(Act.PULL, "PERMIT2_TRANSFER_FROM_BATCH", token, amount, to, may_fail=may_fail))
    return acts


def _actions(data: bytes, budget: Budget, deadline: int | None, may_fail: bool) -> list[Step]:
    """Read (bytes actions, bytes[] params) of V4."""
    codes = reader.text(data, 0, 0, MAX_COMMANDS)
    params = reader.text_array(data, 0, 1, MAX_COMMANDS, MAX_BYTES)
    if len(codes) != len(params):
        raise AbiError(f"{len(codes)} actions have {len(params)} parameters")
    steps: list[Step] = []
    for code, given in zip(codes, params, strict=True):
        budget.spend()
        if decode := _V4.get(code):
            steps.append(decode(given, deadline, may_fail))
        elif decode_act := _V4_ACTS.get(code):
            steps.append(decode_act(given, may_fail))
        else:
            steps.append(RouterAct(Act.OTHER, f"V4 action 0x{code:02x}", may_fail=may_fail))
    return steps


def _settle(data: bytes, may_fail: bool) -> RouterAct:
    """Read (address currency, uint256 amount, bool payerIsUser): an amount of 0 is all that is owed, the highest bit all that the router holds."""
    token, amount = _currency(data), reader.uint(data, 0, 1)
    by_router = not reader.flag(data, 0, 2)
    amount, is_open = (amount, False) if amount else (_NO_LIMIT, True)
    whole = amount == _WHOLE
    return RouterAct(
        Act.SETTLE, "SETTLE", token, amount, whole=whole, may_fail=may_fail, from_router=by_router, open=is_open
    )


def _settle_all(data: bytes, may_fail: bool) -> RouterAct:
    """Read (address currency, uint256 most)."""
    return RouterAct(Act.SETTLE, "SETTLE_ALL", _currency(data), reader.uint(data, 0, 1), may_fail=may_fail, open=True)


def _take(data: bytes, may_fail: bool) -> RouterAct:
    """Read (address currency, address recipient, uint256 amount): an amount of 0 is all that is left over."""
    recipient, amount = reader.address(data, 0, 1), reader.uint(data, 0, 2)
    kept = recipient == ROUTER
    return RouterAct(Act.TAKE, "TAKE", _currency(data), amount, recipient, kept, may_fail=may_fail, open=not amount)


def _take_all(data: bytes, may_fail: bool) -> RouterAct:
    """Read (address currency, uint256 least)."""
    return RouterAct(Act.TAKE, "TAKE_ALL", _currency(data), reader.uint(data, 0, 1), may_fail=may_fail, open=True)


def _take_portion(data: bytes, may_fail: bool) -> RouterAct:
    """Read (address currency, address recipient, uint256 bips)."""
    recipient, part = reader.address(data, 0, 1), reader.uint(data, 0, 2)
    kept = recipient == ROUTER
    return RouterAct(Act.TAKE_PORTION, "TAKE_PORTION", _currency(data), part, recipient, kept, may_fail=may_fail)


def _currency(data: bytes) -> Address | None:
    token = reader.address(data, 0, 0)
    return None if token == NATIVE else token


def _single(*, exact_out: bool) -> Callable[[bytes, int | None, bool], RouterSwap]:
    """Read ((currency0, currency1, fee, spacing, hooks), bool zeroForOne, uint128 amount, uint128 limit, bytes hookData).

    Since universal-router 2.1.1 a least price stands before hookData: where that begins tells the two apart.
    """

    def decode(data: bytes, deadline: int | None, may_fail: bool) -> RouterSwap:
        base = reader.offset(data, 0, 0)
        ends = reader.address(data, base, 0), reader.address(data, base, 1)
        zero_for_one = reader.flag(data, base, _POOL_KEY_WORDS)
        hop = RouterHop(
            Venue.V4,
            *(ends if zero_for_one else ends[::-1]),
            fee=reader.uint(data, base, 2, 24),
            tick_spacing=reader.sint(data, base, 3, 24),
            hooks=reader.address(data, base, 4),
        )
        amount = reader.uint(data, base, _POOL_KEY_WORDS + 1, 128)
        limit = reader.uint(data, base, _POOL_KEY_WORDS + 2, 128)
        place = _POOL_KEY_WORDS + 3
        priced = (
            reader.uint(data, base, place) != _HOOK_DATA and reader.uint(data, base, place + 1) == _HOOK_DATA_PRICED
        )
        reader.text(data, base, place + priced, MAX_BYTES)
        bound = priced and bool(reader.uint(data, base, place))
        more = {"whole": not amount, "may_fail": may_fail, "hop_limits": bound}
        return RouterSwap((hop,), amount, limit, exact_out, None, deadline, **more)

    return decode


def _path(*, exact_out: bool) -> Callable[[bytes, int | None, bool], RouterSwap]:
    """Read (currency, (currency, fee, spacing, hooks, hookData)[] path, uint128 amount, uint128 limit), written towards the end of it.

    Since universal-router 2.1.1 least prices, uint256[], stand before the amounts: five words before the path tell that.
    """

    def decode(data: bytes, deadline: int | None, may_fail: bool) -> RouterSwap:
        base = reader.offset(data, 0, 0)
        currency = reader.address(data, base, 0)
        start, count = reader.array(data, base, 1, WORD_BYTES, MAX_HOPS)
        if not count:
            raise AbiError("a path has no hops")
        hops = []
        for each in _order(count, backwards=exact_out):
            key = reader.offset(data, start, each)
            other = reader.address(data, key, 0)
            ends = (other, currency) if exact_out else (currency, other)
            fee, spacing = reader.uint(data, key, 1), reader.sint(data, key, 2, 24)
            reader.text(data, key, 4, MAX_BYTES)
            hops.append(RouterHop(Venue.V4, *ends, fee=fee, tick_spacing=spacing, hooks=reader.address(data, key, 3)))
            currency = other
        if exact_out:
            hops.reverse()
        priced = reader.uint(data, base, 1) == _FIVE_WORDS
        bound = priced and bool(reader.array(data, base, 2, WORD_BYTES, MAX_HOPS)[1])
        amount, limit = reader.uint(data, base, 2 + priced, 128), reader.uint(data, base, 3 + priced, 128)
        more = {"whole": not amount, "may_fail": may_fail, "hop_limits": bound}
        return RouterSwap(tuple(hops), amount, limit, exact_out, None, deadline, **more)

    return decode


def _order(count: int, *, backwards: bool) -> range:
    return range(count - 1, -1, -1) if backwards else range(count)


_V4 = {
    _EXACT_IN_SINGLE: _single(exact_out=False),
    _EXACT_IN: _path(exact_out=False),
    _EXACT_OUT_SINGLE: _single(exact_out=True),
    _EXACT_OUT: _path(exact_out=True),
}

_V4_ACTS: dict[int, Callable[[bytes, bool], RouterAct]] = {
    _SETTLE: _settle,
    _SETTLE_ALL: _settle_all,
    _TAKE: _take,
    _TAKE_ALL: _take_all,
    _TAKE_PORTION: _take_portion,
}

_ACTS: dict[int, Callable[[bytes, bool], RouterAct]] = {
    0x02: _act(Act.PULL, "PERMIT2_TRANSFER_FROM"),
    0x03: _permit,
    0x04: _act(Act.SWEEP, "SWEEP"),
    0x05: _act(Act.PAY, "TRANSFER"),
    0x06: _act(Act.PORTION, "PAY_PORTION"),
    0x0A: _permit,
    0x0B: _act(Act.WRAP, "WRAP_ETH"),
    0x0C: _act(Act.UNWRAP, "UNWRAP_WETH"),
}
