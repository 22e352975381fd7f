"""The Universal Router's commands and Uniswap V4's actions.

A command that is no swap is counted and passed over; so is one that this does not know. Source: universal-router 2.1.0 (Commands, Dispatcher),
v4-periphery 1.0.3 (Actions, IV4Router, PathKey).
"""

from collections.abc import Callable

from mev.chain.abi import reader
from mev.chain.abi.paths import MAX_HOPS, packed_path
from mev.chain.abi.words import WORD_BYTES, AbiError
from mev.domain.calls import RouterHop, RouterSwap, Venue

MAX_BYTES = 2**17
MAX_COMMANDS = 64
MAX_DEPTH = 4
MAX_CALLS = 256

# The highest bit lets a command fail.
_COMMAND_MASK = 0x7F
_V3_EXACT_IN, _V3_EXACT_OUT, _V2_EXACT_IN, _V2_EXACT_OUT = 0x00, 0x01, 0x08, 0x09
_V4_SWAP, _SUB_PLAN = 0x10, 0x21
_EXACT_IN_SINGLE, _EXACT_IN, _EXACT_OUT_SINGLE, _EXACT_OUT = 0x06, 0x07, 0x08, 0x09
_POOL_KEY_WORDS = 5


class Budget:
    """How much more of one call may be decoded: arrays may point many times at the same bytes."""

    def __init__(self) -> None:
        self._calls = MAX_CALLS
        self._depth = 0

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


def commands(data: bytes, budget: Budget, deadline: int | None) -> tuple[list[RouterSwap], int]:
    """Read (bytes commands, bytes[] inputs): the swaps, and how many commands are none."""
    codes = reader.text(data, 0, 0, MAX_COMMANDS)
    inputs = reader.text_array(data, 0, 1, MAX_COMMANDS, MAX_BYTES)
    if len(codes) != len(inputs):
        raise AbiError(f"{len(codes)} commands have {len(inputs)} inputs")
    swaps: list[RouterSwap] = []
    others = 0
    budget.deeper()
    for code, given in zip(codes, inputs, strict=True):
        budget.spend()
        command = code & _COMMAND_MASK
        found: list[RouterSwap] = []
        more = 0
        if command in {_V3_EXACT_IN, _V3_EXACT_OUT, _V2_EXACT_IN, _V2_EXACT_OUT}:
            found = [_swap(command, given, deadline)]
        elif command == _V4_SWAP:
            found, more = _actions(given, budget, deadline)
        elif command == _SUB_PLAN:
            found, more = commands(given, budget, deadline)
        else:
            more = 1
        swaps += found
        others += more
    budget.higher()
    return swaps, others


def _swap(command: int, data: bytes, deadline: int | None) -> RouterSwap:
    """Read (address recipient, uint256 amount, uint256 limit, path, bool payer)."""
    exact_out = command in {_V3_EXACT_OUT, _V2_EXACT_OUT}
    recipient = reader.address(data, 0, 0)
    amount, limit = reader.uint(data, 0, 1), reader.uint(data, 0, 2)
    reader.flag(data, 0, 4)
    if command in {_V3_EXACT_IN, _V3_EXACT_OUT}:
        hops = packed_path(reader.text(data, 0, 3, MAX_BYTES), backwards=exact_out)
    else:
        path = reader.address_array(data, 0, 3, MAX_HOPS + 1)
        if len(path) < 2:
            raise AbiError("a path has less than two tokens")
        hops = tuple(RouterHop(Venue.V2, path[each], path[each + 1]) for each in range(len(path) - 1))
    return RouterSwap(hops, amount, limit, exact_out, recipient, deadline)


def _actions(data: bytes, budget: Budget, deadline: int | None) -> tuple[list[RouterSwap], int]:
    """Read (bytes actions, bytes[] params) of V4."""
    codes = reader.text(data, 0, 0, MAX_COMMANDS)
    params = reader.text_array(data, 0, 1, MAX_COMMANDS, MAX_BYTES)
    if len(codes) != len(params):
        raise AbiError(f"{len(codes)} actions have {len(params)} parameters")
    swaps: list[RouterSwap] = []
    for code, given in zip(codes, params, strict=True):
        budget.spend()
        decode = _V4.get(code)
        if decode is not None:
            swaps.append(decode(given, deadline))
    return swaps, len(codes) - len(swaps)


def _single(*, exact_out: bool) -> Callable[[bytes, int | None], RouterSwap]:
    """Read ((currency0, currency1, fee, spacing, hooks), bool zeroForOne, uint128 amount, uint128 limit, bytes hookData)."""

    def decode(data: bytes, deadline: int | None) -> RouterSwap:
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
        reader.text(data, base, _POOL_KEY_WORDS + 3, MAX_BYTES)
        return RouterSwap((hop,), amount, limit, exact_out, None, deadline)

    return decode


def _path(*, exact_out: bool) -> Callable[[bytes, int | None], RouterSwap]:
    """Read (currency, (currency, fee, spacing, hooks, hookData)[] path, uint128 amount, uint128 limit), written towards the end of it."""

    def decode(data: bytes, deadline: int | None) -> RouterSwap:
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
        amount, limit = reader.uint(data, base, 2, 128), reader.uint(data, base, 3, 128)
        return RouterSwap(tuple(hops), amount, limit, exact_out, None, deadline)

    return decode


def _order(count: int, *, backwards: bool) -> range:
    return range(count - 1, -1, -1) if backwards else range(count)


_V4 = {
    _EXACT_IN_SINGLE: _single(exact_out=False),
    _EXACT_IN: _path(exact_out=False),
    _EXACT_OUT_SINGLE: _single(exact_out=True),
    _EXACT_OUT: _path(exact_out=True),
}
