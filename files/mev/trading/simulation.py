"""What the chain itself says a call would do, on the state after one block and no other.

`eth_simulateV1` where the node has it: it also tells which assets move, so that what a contract returns and what its tokens
say can be held against each other to the wei. A node without it is asked by `debug_traceCall`, whose calls and events tell the same, and one
without both by `eth_call`, and the result says so.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum

import msgspec
import structlog

from mev.chain import wire
from mev.chain.abi import WORD_BYTES
from mev.chain.errors import MalformedAnswerError
from mev.chain.rpc import DisputedError, Json, Rpc, RpcError
from mev.chain.wire import ADDRESS_BYTES, HASH_BYTES, Head
from mev.domain.market import Address, Block
from mev.trading import revert
from mev.trading.execution.receipt import (
    DEPOSIT,
    NATIVE,
    TOPICS_OF_TRANSFER,
    TOPICS_OF_WRAPPING,
    TRANSFER,
    WITHDRAWAL,
    Log,
)

# JSON-RPC's code for a method that is not there; nodes that know it and will not answer it use the second one.
NO_METHOD_CODES = frozenset({-32601, -32004})
# A node that was upgraded, or another one of several, may have it by then.
ASK_AGAIN_SECONDS = 300.0
# How long other nodes may take to say the same: the next block is near.
CONFIRM_SECONDS = 2.0
# Another client's estimate may be a little more; a transaction's limit has that much room over the simulation's.
GAS_ROOM = (5, 4)
# As which token eth_simulateV1 tells of native coin that moves (traceTransfers).
TRACED_NATIVE: Address = bytes.fromhex("ee" * ADDRESS_BYTES)

# What becomes wrapped and what becomes native again, to and from whom WETH9 says.
WRAPPING = {DEPOSIT: 1, WITHDRAWAL: -1}

log = structlog.get_logger(__name__)


class Method(StrEnum):
    """How the node was asked."""

    SIMULATE = "eth_simulateV1"
    TRACE = "debug_traceCall"
    CALL = "eth_call"


# By token, base units; the native coin is the zero address.
Changes = Mapping[Address, int]


class Simulated(msgspec.Struct, frozen=True, kw_only=True):
    """A call that would succeed after `block`: what it returns as profit, base units of the cycle's token, and its gas in units.

    `changes` is what owner and executor together have more of each token afterwards, without gas, by the tokens' own events; None where the node
    could not say (eth_call).
    """

    block: Block
    method: Method
    profit: int
    gas: int
    changes: Changes | None

    def agrees(self, token: Address) -> bool:
        """Whether what moved is the profit in `token`, to the wei, and nothing else; True where nothing is known of it."""
        return self.changes is None or self.changes == ({token: self.profit} if self.profit else {})


class SimulationRevertedError(Exception):
    """The call would revert; the message is its reason."""


class ExecutorAbsentError(SimulationRevertedError):
    """No contract stands at the executor's address."""


class StaleSimulationError(Exception):
    """The block that was simulated on is not the chain's head: another one followed, or took its place."""


class UnconfirmedSimulationError(Exception):
    """Of several nodes, no more than half say that the call does what one node's simulation said."""


class _Said(msgspec.Struct, frozen=True):
    """What a node says of a call: its head, the profit (None where the call is refused, for the reason beside it), and its gas."""

    head: Block
    profit: int | None
    refusal: str
    gas: int

    def __eq__(self, other: object) -> bool:
        # Estimates of gas differ between clients, and so do the words of a refusal.
        return isinstance(other, _Said) and (self.head, self.profit) == (other.head, other.profit)

    def __hash__(self) -> int:
        return hash((self.head.hash, self.profit))

    def __str__(self) -> str:
        what = f"refused ({self.refusal})" if self.profit is None else f"profit {self.profit}"
        return f"{what} at head {self.head.number} {wire.encode(self.head.hash)}"

    def contradicts(self, other: "_Said") -> bool:
        """Whether both cannot be true: what a call returns follows from the hash of the block that it is made on."""
        return None not in (self.profit, other.profit) and self.profit != other.profit


class _Failure(msgspec.Struct, frozen=True):
    message: str = ""
    data: object = None


class _Call(msgspec.Struct, frozen=True, rename="camel"):
    """One call of what eth_simulateV1 answers."""

    return_data: str
    status: str
    gas_used: str
    logs: list[Log] = []
    error: _Failure | None = None


class _Block(msgspec.Struct, frozen=True):
    calls: list[_Call]


class _Frame(msgspec.Struct, frozen=True, rename="camel"):
    """One call of what debug_traceCall answers with the tracer of calls and their events; what failed has an error."""

    type: str
    from_: str = msgspec.field(name="from")
    to: str | None = None
    value: str | None = None
    output: str | None = None
    error: str | None = None
    revert_reason: str | None = None
    logs: list[Log] = []
    calls: list["_Frame"] = []


# Calls whose value is their caller's own, and moves nothing.
_VALUELESS = frozenset({"DELEGATECALL", "CALLCODE", "STATICCALL"})
_TRACER = {"tracer": "callTracer", "tracerConfig": {"withLog": True}}


class Simulator:
    """Asks one chain's nodes."""

    def __init__(self, rpc: Rpc, now_seconds: Callable[[], float] = time.monotonic) -> None:
        self._rpc = rpc
        self._now_seconds = now_seconds
        self._without_until = 0.0
        self._untraced_until = 0.0

    async def simulate(self, owner: Address, executor: Address, data: bytes, block: Block) -> Simulated:
        """Run a call of execute() on the state after `block` (EIP-1898), without sending it.

        Raises SimulationRevertedError where it reverts, ExecutorAbsentError where there is nothing to call,
        StaleSimulationError where the block is no longer the head, and the transport's own errors where the node does not answer.
        """
        call = {"from": wire.encode(owner), "to": wire.encode(executor), "data": wire.encode(data)}
        if self._now_seconds() >= self._without_until:
            asked = {"blockStateCalls": [{"calls": [call]}], "traceTransfers": True}
            answer, gas = await self._ask(Method.SIMULATE, asked, call, block)
            if not (isinstance(answer, RpcError) and answer.code in NO_METHOD_CODES):
                return await self._whole(answer, gas, {owner, executor}, executor, block)
            self._without_until = self._now_seconds() + ASK_AGAIN_SECONDS
        if self._now_seconds() >= self._untraced_until:
            answer, gas = await self._ask(Method.TRACE, call, call, block, _TRACER)
            if not (isinstance(answer, RpcError) and answer.code in NO_METHOD_CODES):
                return await self._traced(answer, gas, {owner, executor}, executor, block)
            self._untraced_until = self._now_seconds() + ASK_AGAIN_SECONDS
            log.warning(
                "the node has neither eth_simulateV1 nor debug_traceCall: eth_call instead, moved assets are not seen",
                node=self._rpc.node,
            )
        returned, gas = await self._ask(Method.CALL, call, call, block)
        if isinstance(returned, RpcError):
            await self.require_head(block)
            raise SimulationRevertedError(_refusal(returned))
        profit = _profit(wire.data(returned), executor)
        return Simulated(block=block, method=Method.CALL, profit=profit, gas=await self._gas(gas, block), changes=None)

    async def require_head(self, block: Block) -> None:
        """Raise StaleSimulationError unless `block` is the chain's head at this moment."""
        head = (await self._rpc.latest()).block()
        if head.hash != block.hash:
            what = "was reorganised away" if head.number <= block.number else f"is followed by block {head.number}"
            raise StaleSimulationError(f"block {block.number} {what}")

    async def confirm(self, owner: Address, executor: Address, data: bytes, simulated: Simulated) -> None:
        """Have more than half of the connected nodes say that the block is the head and that the call returns this profit on it, for no more gas.

        Raises StaleSimulationError, or UnconfirmedSimulationError where they say otherwise or do not agree. With one node
        configured only the head is asked for.
        """
        block = simulated.block
        if not self._rpc.several:
            await self.require_head(block)
            return
        said = await self._agreed(owner, executor, data, block)
        if said.head != block:
            raise StaleSimulationError(f"block {block.number} is not the head of most nodes: {said.head.number} is")
        if said.profit != simulated.profit:
            raise UnconfirmedSimulationError(f"one node says profit {simulated.profit}, most of them {said}")
        if said.gas * GAS_ROOM[1] > simulated.gas * GAS_ROOM[0]:
            raise UnconfirmedSimulationError(f"one node says {simulated.gas} of gas, others {said.gas}")

    async def reverts(self, owner: Address, executor: Address, data: bytes, block: Block) -> bool:
        """Whether more than half of the connected nodes refuse the call on a block; raises UnconfirmedSimulationError where they do not agree."""
        return (await self._agreed(owner, executor, data, block)).profit is None

    async def _agreed(self, owner: Address, executor: Address, data: bytes, block: Block) -> _Said:
        call = {"from": wire.encode(owner), "to": wire.encode(executor), "data": wire.encode(data)}
        asked = [
            ("eth_getBlockByNumber", ("latest", False)),
            (Method.CALL, (call, {"blockHash": wire.encode(block.hash)})),
            ("eth_estimateGas", (call, hex(block.number))),
        ]
        seen: list[_Said] = []

        def read(answers: Sequence[Json]) -> _Said:
            latest, returned, gas = answers
            head = _head(latest)
            refusal = next((each for each in (returned, gas) if isinstance(each, RpcError)), None)
            if refusal is not None:
                return _Said(head, None, _refusal(refusal), 0)
            said = _Said(head, int.from_bytes(wire.data(returned), "big"), "", wire.quantity(gas))
            seen.append(said)
            return said

        try:
            said = await self._rpc.agreed(asked, read, _Said.contradicts, timeout_seconds=CONFIRM_SECONDS)
        except DisputedError as disputed:
            raise UnconfirmedSimulationError(str(disputed)) from None
        return msgspec.structs.replace(said, gas=max((each.gas for each in seen if each == said), default=0))

    async def _ask(self, method: Method, asked: object, call: object, block: Block, *more: object) -> list[object]:
        pinned = {"blockHash": wire.encode(block.hash)}
        # What a transaction needs at once is more than what it has used in the end.
        return await self._rpc.batch([(method, [asked, pinned, *more]), ("eth_estimateGas", [call, hex(block.number)])])

    async def _whole(
        self, answer: object, gas: object, own: set[Address], executor: Address, block: Block
    ) -> Simulated:
        if isinstance(answer, RpcError):
            # No call of ours that reverted: the node does not have this block, or will not.
            await self.require_head(block)
            raise SimulationRevertedError(str(answer))
        called = _only(answer)
        returned = wire.data(called.return_data)
        if wire.quantity(called.status) != 1:
            raise SimulationRevertedError(_why(called, returned))
        return Simulated(
            block=block,
            method=Method.SIMULATE,
            profit=_profit(returned, executor),
            gas=await self._gas(gas, block),
            changes=moved(called.logs, own),
        )

    async def _traced(
        self, answer: object, gas: object, own: set[Address], executor: Address, block: Block
    ) -> Simulated:
        if isinstance(answer, RpcError):
            await self.require_head(block)
            raise SimulationRevertedError(str(answer))
        frame = _frame(answer)
        returned = wire.data(frame.output or "0x")
        if frame.error is not None:
            raise SimulationRevertedError(revert.reason(returned) if returned else frame.error)
        changes = dict(moved(_events(frame), own))
        if native := sum(_values(frame, own)):
            changes[NATIVE] = changes.get(NATIVE, 0) + native
        return Simulated(
            block=block,
            method=Method.TRACE,
            profit=_profit(returned, executor),
            gas=await self._gas(gas, block),
            changes={token: change for token, change in changes.items() if change},
        )

    async def _gas(self, answer: object, block: Block) -> int:
        if isinstance(answer, RpcError):
            # The estimate is of a block's number, and the call of its hash: they disagree where the block has changed.
            await self.require_head(block)
            raise SimulationRevertedError(_refusal(answer))
        return wire.quantity(answer)


def moved(logs: Iterable[Log], own: set[Address]) -> Changes:
    """Add up what some accounts together get and give by tokens' Transfer events, and WETH9's Deposit and Withdrawal; tokens that balance out are left out."""
    changes: dict[Address, int] = {}
    for each in logs:
        topics = [wire.fixed(topic, HASH_BYTES) for topic in each.topics]
        if len(topics) == TOPICS_OF_WRAPPING and topics[0] in WRAPPING and topics[1][-ADDRESS_BYTES:] in own:
            token = wire.fixed(each.address, ADDRESS_BYTES)
            changes[token] = changes.get(token, 0) + WRAPPING[topics[0]] * wire.quantity(each.data)
            continue
        if len(topics) != TOPICS_OF_TRANSFER or topics[0] != TRANSFER:
            continue
        token = wire.fixed(each.address, ADDRESS_BYTES)
        sender, receiver = (topic[-ADDRESS_BYTES:] for topic in topics[1:])
        if (direction := (receiver in own) - (sender in own)) == 0:
            continue
        token = NATIVE if token == TRACED_NATIVE else token
        changes[token] = changes.get(token, 0) + direction * wire.quantity(each.data)
    return {token: change for token, change in changes.items() if change}


def _frame(answer: object) -> _Frame:
    try:
        return msgspec.convert(answer, _Frame)
    except (msgspec.ValidationError, RecursionError) as error:
        raise MalformedAnswerError(f"debug_traceCall answered with something else: {error}") from None


def _frames(whole: _Frame) -> Iterator[_Frame]:
    """Go through what came to pass, a call and all that it called; not by recursion, for a contract says how deep that is."""
    waiting = [whole]
    while waiting:
        frame = waiting.pop()
        if frame.error is None:
            yield frame
            waiting += frame.calls


def _events(whole: _Frame) -> Iterator[Log]:
    return (each for frame in _frames(whole) for each in frame.logs)


def _values(whole: _Frame, own: set[Address]) -> Iterator[int]:
    for frame in _frames(whole):
        if frame.type in _VALUELESS or not frame.value or frame.to is None:
            continue
        sender, receiver = (wire.fixed(each, ADDRESS_BYTES) for each in (frame.from_, frame.to))
        yield ((receiver in own) - (sender in own)) * wire.quantity(frame.value)


def _head(answer: Json) -> Block:
    try:
        return msgspec.convert(answer, Head).block()
    except msgspec.ValidationError as error:
        raise MalformedAnswerError(f"eth_getBlockByNumber answered with something else: {error}") from None


def _only(answer: object) -> _Call:
    try:
        (block,) = msgspec.convert(answer, list[_Block])
        (called,) = block.calls
    except (msgspec.ValidationError, ValueError) as error:
        raise MalformedAnswerError(f"eth_simulateV1 answered with something else: {error}") from None
    return called


def _profit(returned: bytes, executor: Address) -> int:
    if len(returned) != WORD_BYTES:
        raise ExecutorAbsentError(
            f"no executor contract stands at {wire.encode(executor)}: `mev executor deploy` puts it there"
        )
    return int.from_bytes(returned, "big")


def _why(called: _Call, returned: bytes) -> str:
    """What a node says of a call that failed: nodes put the revert's data here or there, some in neither place."""
    data = called.error.data if called.error is not None else None
    for content in (returned, _bytes(data)):
        if content:
            return revert.reason(content)
    return (called.error.message if called.error is not None else "") or revert.reason(b"")


def _refusal(refused: RpcError) -> str:
    content = _bytes(refused.data)
    return revert.reason(content) if content else str(refused)


def _bytes(data: object) -> bytes:
    try:
        return wire.data(data)
    except MalformedAnswerError:
        return b""
