"""Calldata of routers by their fixed layouts: what a pending transaction means to swap.

Known: Uniswap V2 and its forks (QuickSwap, Camelot with its referrer), Uniswap V3's SwapRouter and SwapRouter02 with their multicalls, QuickSwap
V3 (Algebra), Aerodrome and Velodrome with Slipstream, the Universal Router with V4 (mev.chain.abi.universal). Anyone may send anything: what
is not known is an UnknownCall, what does not hold together a MalformedCall, and nothing is raised. Nesting, lengths and the number of commands
are bounded, so that no call costs more than its size.
"""

from collections.abc import Callable, Sequence

from mev.chain.abi import reader, universal
from mev.chain.abi.paths import MAX_HOPS, packed_path
from mev.chain.abi.universal import MAX_BYTES, MAX_COMMANDS, Budget
from mev.chain.abi.words import WORD_BYTES, AbiError, selector
from mev.domain.calls import Act, MalformedCall, RouterAct, RouterCall, RouterHop, RouterSwap, UnknownCall, Venue
from mev.domain.market import Address

SELECTOR_BYTES = 4
NOBODY: Address = bytes(20)
_SOLIDLY_ROUTE = "(address,address,bool,address)"
_SOLIDLY_OLD_ROUTE = "(address,address,bool)"

# Takes what follows the selector, the value sent along and the budget.
_Decoder = Callable[[bytes, int, Budget], RouterCall]


def decode_call(data: bytes, value_wei: int = 0) -> RouterCall | UnknownCall | MalformedCall:
    """Return what a transaction's data ask of a router; `value_wei` is the native coin sent along."""
    known = _FUNCTIONS.get(data[:SELECTOR_BYTES])
    if known is None:
        return UnknownCall(data[:SELECTOR_BYTES] if len(data) >= SELECTOR_BYTES else b"")
    name, decode = known
    if len(data) > MAX_BYTES:
        return MalformedCall(name, f"{len(data)} bytes are more than {MAX_BYTES}")
    try:
        return decode(data[SELECTOR_BYTES:], value_wei, Budget())
    except AbiError as error:
        return MalformedCall(name, str(error))


def _v2(
    name: str, *, exact_out: bool = False, native_in: bool = False, native_out: bool = False, more: int = 1
) -> _Decoder:
    """Swap along V2 pairs; `more` is how many words follow the recipient: none, a deadline, or a referrer and a deadline."""
    amounts = 1 if native_in else 2

    def decode(data: bytes, value_wei: int, _budget: Budget) -> RouterCall:
        first = reader.uint(data, 0, 0)
        given = value_wei if native_in else reader.uint(data, 0, 1)
        # The exact amount stands first, but where the native coin is the input: there it is what was sent along.
        amount, limit = (first, given) if exact_out or not native_in else (given, first)
        path = reader.address_array(data, 0, amounts, MAX_HOPS + 1)
        recipient = reader.address(data, 0, amounts + 1)
        for extra in range(more - 1):
            reader.address(data, 0, amounts + 2 + extra)
        deadline = reader.uint(data, 0, amounts + 1 + more) if more else None
        hops = _pairs(path)
        if more:
            swap = RouterSwap(hops, amount, limit, exact_out, recipient, deadline, None, native_in, native_out)
        else:
            swap = _of_02(hops, amount, limit, exact_out, recipient, None, None)
        return RouterCall(name, (swap,))

    return decode


def _of_02(
    hops: tuple[RouterHop, ...],
    amount: int,
    limit: int,
    exact_out: bool,
    recipient: Address,
    until: int | None,
    price: int | None,
) -> RouterSwap:
    """SwapRouter02's: an amount of zero is all that the router holds, and the address two the router itself."""
    whole, kept = not amount and not exact_out, recipient == universal.ROUTER
    return RouterSwap(
        hops, amount, limit, exact_out, recipient, until, price, from_router=whole, to_router=kept, whole=whole
    )


def _kept(
    hops: tuple[RouterHop, ...],
    amount: int,
    limit: int,
    exact_out: bool,
    recipient: Address,
    until: int | None,
    price: int | None,
) -> RouterSwap:
    """The first SwapRouter's and Algebra's with the zero address as the recipient: that is the router itself."""
    return RouterSwap(hops, amount, limit, exact_out, recipient, until, price, to_router=True)


def _pairs(path: Sequence[bytes]) -> tuple[RouterHop, ...]:
    if len(path) < 2:
        raise AbiError("a path has less than two tokens")
    return tuple(RouterHop(Venue.V2, path[each], path[each + 1]) for each in range(len(path) - 1))


def _solidly(name: str, *, native_in: bool = False, native_out: bool = False, route_words: int = 4) -> _Decoder:
    amounts = 1 if native_in else 2

    def decode(data: bytes, value_wei: int, _budget: Budget) -> RouterCall:
        amount = value_wei if native_in else reader.uint(data, 0, 0)
        limit = reader.uint(data, 0, amounts - 1)
        start, count = reader.array(data, 0, amounts, route_words * WORD_BYTES, MAX_HOPS)
        if not count:
            raise AbiError("there is no route")
        hops = []
        for each in range(count):
            base = start + each * route_words * WORD_BYTES
            factory = reader.address(data, base, 3) if route_words > 3 else None
            ends = reader.address(data, base, 0), reader.address(data, base, 1)
            hops.append(RouterHop(Venue.SOLIDLY, *ends, stable=reader.flag(data, base, 2), factory=factory))
        recipient, deadline = reader.address(data, 0, amounts + 1), reader.uint(data, 0, amounts + 2)
        swap = RouterSwap(tuple(hops), amount, limit, False, recipient, deadline, None, native_in, native_out)
        return RouterCall(name, (swap,))

    return decode


def _single(
    name: str, venue: Venue, *, exact_out: bool = False, deadline: bool, fee: bool = True, deployer: bool = False
) -> _Decoder:
    """Swap through one concentrated pool: tokens, fee (or spacing, or deployer), recipient, deadline where there is one, two amounts, price limit."""

    def decode(data: bytes, _value: int, _budget: Budget) -> RouterCall:
        ends = reader.address(data, 0, 0), reader.address(data, 0, 1)
        place = 2
        chosen: dict[str, int] = {}
        if fee and venue is Venue.SLIPSTREAM:
            chosen["tick_spacing"] = reader.sint(data, 0, place, 24)
        elif fee:
            chosen["fee"] = reader.uint(data, 0, place, 24)
        place += fee
        made_by = reader.address(data, 0, place) if deployer else None
        place += deployer
        recipient = reader.address(data, 0, place)
        place += 1
        until = reader.uint(data, 0, place) if deadline else None
        place += deadline
        amount, limit = reader.uint(data, 0, place), reader.uint(data, 0, place + 1)
        price = reader.uint(data, 0, place + 2, 160)
        hop = RouterHop(venue, *ends, chosen.get("fee"), chosen.get("tick_spacing"), deployer=made_by)
        if until is not None and recipient != NOBODY:
            return RouterCall(name, (RouterSwap((hop,), amount, limit, exact_out, recipient, until, price or None),))
        kept = _of_02 if until is None else _kept
        return RouterCall(name, (kept((hop,), amount, limit, exact_out, recipient, until, price or None),))

    return decode


def _path(name: str, *, exact_out: bool = False, deadline: bool) -> _Decoder:
    """Swap along a packed path: path, recipient, deadline where there is one, two amounts."""

    def decode(data: bytes, _value: int, _budget: Budget) -> RouterCall:
        base = reader.offset(data, 0, 0)
        hops = packed_path(reader.text(data, base, 0, MAX_BYTES), backwards=exact_out)
        recipient = reader.address(data, base, 1)
        until = reader.uint(data, base, 2) if deadline else None
        amount, limit = reader.uint(data, base, 2 + deadline), reader.uint(data, base, 3 + deadline)
        if until is not None and recipient != NOBODY:
            return RouterCall(name, (RouterSwap(hops, amount, limit, exact_out, recipient, until),))
        kept = _of_02 if until is None else _kept
        return RouterCall(name, (kept(hops, amount, limit, exact_out, recipient, until, None),))

    return decode


def _multicall(name: str, *, before: int) -> _Decoder:
    """Several calls in one; `before` is how many words stand before them (a deadline, or a block's hash)."""

    def decode(data: bytes, value_wei: int, budget: Budget) -> RouterCall:
        steps: list[universal.Step] = []
        budget.deeper()
        for call in reader.text_array(data, 0, before, MAX_COMMANDS, MAX_BYTES):
            budget.spend()
            chosen = call[:SELECTOR_BYTES]
            known = _FUNCTIONS.get(chosen)
            if known is not None:
                steps += known[1](call[SELECTOR_BYTES:], value_wei, budget).steps
            elif (act := _ACTS.get(chosen)) is not None:
                steps.append(act(call[SELECTOR_BYTES:]))
            else:
                steps.append(RouterAct(Act.OTHER, f"call 0x{chosen.hex()}"))
        budget.higher()
        return RouterCall(name, tuple(steps))

    return decode


def _execute(name: str, *, deadline: int | None) -> _Decoder:
    """Commands of the Universal Router; `deadline` is the word that it stands in."""

    def decode(data: bytes, _value: int, budget: Budget) -> RouterCall:
        until = None if deadline is None else reader.uint(data, 0, deadline)
        return RouterCall(name, tuple(universal.commands(data, budget, until)))

    return decode


def _act(kind: Act, name: str, amount: int | None, token: int | None = None) -> Callable[[bytes], RouterAct]:
    """What a V3 router does with what it holds; `amount` and `token` are the words that they stand in."""

    def decode(data: bytes) -> RouterAct:
        of = None if token is None else reader.address(data, 0, token)
        # Wrapping and pulling leave it with the router, and the others take it away.
        keeps = kind in {Act.WRAP, Act.PULL}
        return RouterAct(kind, name, of, 0 if amount is None else reader.uint(data, 0, amount), to_router=keeps)

    return decode


def _acts() -> dict[bytes, Callable[[bytes], RouterAct]]:
    """Return what stands beside swaps in a multicall: Uniswap's periphery, SwapRouter02, Algebra's names for the same."""
    made = {}

    def add(kind: Act, signature: str, amount: int | None = None, token: int | None = None) -> None:
        made[selector(signature)] = _act(kind, signature.partition("(")[0], amount, token)

    for unwrap in ("unwrapWETH9", "unwrapWNativeToken"):
        add(Act.UNWRAP, f"{unwrap}(uint256,address)", 0)
        add(Act.UNWRAP, f"{unwrap}WithFee(uint256,address,uint256,address)", 0)
    add(Act.UNWRAP, "unwrapWETH9(uint256)", 0)
    add(Act.UNWRAP, "unwrapWETH9WithFee(uint256,uint256,address)", 0)
    for end in ("address)", "uint256,address)", "address,uint256,address)"):
        fee = "WithFee" if "uint256" in end else ""
        add(Act.SWEEP, f"sweepToken{fee}(address,uint256,{end}", 1, 0)
    add(Act.SWEEP, "sweepToken(address,uint256)", 1, 0)
    for refund in ("refundETH()", "refundNativeToken()"):
        add(Act.SWEEP, refund)
    add(Act.WRAP, "wrapETH(uint256)", 0)
    add(Act.PULL, "pull(address,uint256)", 1, 0)
    for permit in ("", "IfNecessary", "Allowed", "AllowedIfNecessary"):
        add(Act.PERMIT, f"selfPermit{permit}(address,uint256,uint256,uint8,bytes32,bytes32)")
    return made


def _functions() -> dict[bytes, tuple[str, _Decoder]]:
    made: dict[bytes, tuple[str, _Decoder]] = {}

    def add(signature: str, decoder: Callable[..., _Decoder], *arguments: Venue, **options: object) -> None:
        name = signature.partition("(")[0]
        made[selector(signature)] = name, decoder(name, *arguments, **options)

    tail = "address[],address,uint256)"
    add(f"swapExactTokensForTokens(uint256,uint256,{tail}", _v2)
    add(f"swapTokensForExactTokens(uint256,uint256,{tail}", _v2, exact_out=True)
    add(f"swapExactETHForTokens(uint256,{tail}", _v2, native_in=True)
    add(f"swapTokensForExactETH(uint256,uint256,{tail}", _v2, exact_out=True, native_out=True)
    add(f"swapExactTokensForETH(uint256,uint256,{tail}", _v2, native_out=True)
    add(f"swapETHForExactTokens(uint256,{tail}", _v2, exact_out=True, native_in=True)
    taxed = "SupportingFeeOnTransferTokens"
    for end, more in ((tail, 1), ("address[],address,address,uint256)", 2)):
        # Camelot's name a referrer after the recipient.
        add(f"swapExactTokensForTokens{taxed}(uint256,uint256,{end}", _v2, more=more)
        add(f"swapExactETHForTokens{taxed}(uint256,{end}", _v2, native_in=True, more=more)
        add(f"swapExactTokensForETH{taxed}(uint256,uint256,{end}", _v2, native_out=True, more=more)
    # SwapRouter02's, whose deadline is the multicall's.
    add("swapExactTokensForTokens(uint256,uint256,address[],address)", _v2, more=0)
    add("swapTokensForExactTokens(uint256,uint256,address[],address)", _v2, exact_out=True, more=0)
    for route, words in ((_SOLIDLY_ROUTE, 4), (_SOLIDLY_OLD_ROUTE, 3)):
        for kind in ("", taxed):
            end = f"{route}[],address,uint256)"
            add(f"swapExactTokensForTokens{kind}(uint256,uint256,{end}", _solidly, route_words=words)
            add(f"swapExactETHForTokens{kind}(uint256,{end}", _solidly, route_words=words, native_in=True)
            add(f"swapExactTokensForETH{kind}(uint256,uint256,{end}", _solidly, route_words=words, native_out=True)
    amounts = "uint256,uint256,uint160))"
    for direction, exact_out in (("Input", False), ("Output", True)):
        single, path = f"exact{direction}Single((address,address,", f"exact{direction}((bytes,address,"
        add(f"{single}uint24,address,uint256,{amounts}", _single, Venue.V3, exact_out=exact_out, deadline=True)
        add(f"{single}uint24,address,{amounts}", _single, Venue.V3, exact_out=exact_out, deadline=False)
        add(f"{single}int24,address,uint256,{amounts}", _single, Venue.SLIPSTREAM, exact_out=exact_out, deadline=True)
        add(f"{path}uint256,uint256,uint256))", _path, exact_out=exact_out, deadline=True)
        add(f"{path}uint256,uint256))", _path, exact_out=exact_out, deadline=False)
    # Algebra's, and Integral's, which name who deployed the pool (QuickSwap V4, Camelot V4).
    for name, exact_out in (
        ("exactInputSingle", False),
        (f"exactInputSingle{taxed}", False),
        ("exactOutputSingle", True),
    ):
        for owner, deployer in (("", False), ("address,", True)):
            called = f"{name}((address,address,{owner}address,uint256,{amounts}"
            concentrated = {"deadline": True, "fee": False, "exact_out": exact_out, "deployer": deployer}
            add(called, _single, Venue.ALGEBRA, **concentrated)
    add("multicall(bytes[])", _multicall, before=0)
    add("multicall(uint256,bytes[])", _multicall, before=1)
    add("multicall(bytes32,bytes[])", _multicall, before=1)
    add("execute(bytes,bytes[],uint256)", _execute, deadline=2)
    add("execute(bytes,bytes[])", _execute, deadline=None)
    add("executeSigned(bytes,bytes[],bytes32,bytes32,bool,bytes32,bytes,uint256)", _execute, deadline=7)
    return made


_FUNCTIONS = _functions()
_ACTS = _acts()
