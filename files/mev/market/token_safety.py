"""What a token does when it is moved: simulated on the node (eth_simulateV1), on one block's state, before anything is traded.

A holder that has some, a pool say, sends a little to an account that never was, and that account sends it back; then the holder's
balance is looked at a month later. A token that keeps a part, refuses, moves nothing or changes balances by itself is told from one
that does none of it. SAFE says that nothing was found: a token can know that it is simulated, so the executor checks its balance on
the chain all the same.
"""

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from mev.chain.abi import AbiError, decode_uint, encode_call, selector
from mev.chain.errors import MalformedAnswerError
from mev.chain.rpc import Rpc
from mev.chain.wire import data, encode, quantity
from mev.domain import Block
from mev.domain.market import Address

BALANCE_OF = selector("balanceOf(address)")
TRANSFER = selector("transfer(address,uint256)")
# No key has it, and no token knows it: the first bytes of a hash of what it is for.
RECIPIENT: Address = bytes.fromhex("6d65762d746f6b656e2d7361666574792d636865")
# A part of what the holder has: some tokens limit what one transfer may move.
PART = 100
LATER_SECONDS = 30 * 86400
PPM = 10**6
CALL_GAS = 2_000_000


class Verdict(StrEnum):
    """What was found; only a token that is SAFE may be traded."""

    SAFE = "safe"
    TRANSFER_TAX = "transfer_tax"
    TRANSFER_BLOCKED = "transfer_blocked"
    MOVES_NOTHING = "moves_nothing"
    REBASING = "rebasing"
    NOT_HELD = "not_held"
    UNREADABLE = "unreadable"


class Finding(msgspec.Struct, frozen=True):
    """One token's verdict on one block; `tax_ppm` is the larger of what both transfers lost, in millionths."""

    token: Address
    verdict: Verdict
    reason: str
    tax_ppm: int = 0


class SimulatedCall(msgspec.Struct, rename="camel"):
    """What one simulated call answered; `status` is 0x1 unless it reverted."""

    status: str
    return_data: str


class Simulated(msgspec.Struct):
    """One block of eth_simulateV1's answer."""

    calls: list[SimulatedCall]


class _UnreadableError(Exception):
    """It does not answer as a token does."""


async def examine(rpc: Rpc, token: Address, holder: Address, block: Block) -> Finding:
    """Return what a token does with what `holder` has of it after `block`.

    Raises RpcError where the node cannot simulate, RpcUnavailableError where it does not answer: neither says anything of the
    token, which is not to be traded then.
    """
    try:
        return await _examine(rpc, token, holder, block)
    except _UnreadableError as error:
        return Finding(token, Verdict.UNREADABLE, str(error))


async def _examine(rpc: Rpc, token: Address, holder: Address, block: Block) -> Finding:
    before = await _simulate(rpc, block, [(holder, token, _balance_of(holder))])
    held = _amount(before[0], "balanceOf")
    if not held:
        return Finding(token, Verdict.NOT_HELD, "the holder has none of it")
    amount = max(1, held // PART)
    there = await _simulate(
        rpc,
        block,
        [
            (holder, token, _balance_of(RECIPIENT)),
            (holder, token, encode_call(TRANSFER, RECIPIENT, amount)),
            (holder, token, _balance_of(RECIPIENT)),
            (holder, token, _balance_of(holder)),
        ],
    )
    had, got, left = (_amount(there[place], "balanceOf") for place in (0, 2, 3))
    if not _moved(there[1]):
        return Finding(token, Verdict.TRANSFER_BLOCKED, "a transfer out of the holder is refused")
    received = got - had
    if received <= 0:
        return Finding(token, Verdict.MOVES_NOTHING, f"a transfer of {amount} arrives as {received}")
    lost = max(amount - received, held - left - amount)
    if lost > 0:
        return _taxed(token, lost, amount, "out of the holder")
    back = await _simulate(
        rpc,
        block,
        [
            (holder, token, encode_call(TRANSFER, RECIPIENT, amount)),
            (RECIPIENT, token, encode_call(TRANSFER, holder, amount)),
            (holder, token, _balance_of(holder)),
        ],
        [(holder, token, _balance_of(holder))],
    )
    if not _moved(back[1]):
        return Finding(token, Verdict.TRANSFER_BLOCKED, "who receives it cannot send it on")
    returned = _amount(back[2], "balanceOf")
    if returned < held:
        return _taxed(token, held - returned, amount, "back to the holder")
    later = _amount(back[3], "balanceOf")
    if received > amount or returned > held or later != returned:
        return Finding(token, Verdict.REBASING, f"a balance of {held} becomes {later} without a transfer")
    return Finding(token, Verdict.SAFE, "")


def _taxed(token: Address, lost: int, amount: int, where: str) -> Finding:
    ppm = -(-lost * PPM // amount)
    return Finding(token, Verdict.TRANSFER_TAX, f"a transfer {where} loses {ppm} millionths", ppm)


async def _simulate(rpc: Rpc, block: Block, *blocks: Sequence[tuple[Address, Address, bytes]]) -> list[SimulatedCall]:
    """Return what calls (from, to, data) answer, one after the other; a second list is a month later."""
    state_calls: list[dict[str, object]] = [
        {
            "calls": [
                {"from": encode(sender), "to": encode(to), "data": encode(payload), "gas": hex(CALL_GAS)}
                for sender, to, payload in calls
            ]
        }
        for calls in blocks
    ]
    for later in state_calls[1:]:
        later["blockOverrides"] = {"time": hex(block.timestamp + LATER_SECONDS)}
    found = await rpc.call_as(list[Simulated], "eth_simulateV1", [{"blockStateCalls": state_calls}, encode(block.hash)])
    answers = [call for each in found or () for call in each.calls]
    if len(answers) != sum(map(len, blocks)):
        raise MalformedAnswerError(f"{rpc.node}: eth_simulateV1 answered {len(answers)} calls")
    return answers


def _balance_of(holder: Address) -> bytes:
    return encode_call(BALANCE_OF, holder)


def _amount(call: SimulatedCall, what: str) -> int:
    if quantity(call.status) != 1:
        raise _UnreadableError(f"{what} reverts")
    try:
        return decode_uint(data(call.return_data))
    except AbiError as error:
        raise _UnreadableError(f"{what} answers no number: {error}") from None


def _moved(call: SimulatedCall) -> bool:
    """Whether a transfer says that it took place: it does not revert, and returns true or, as old tokens do, nothing."""
    if quantity(call.status) != 1:
        return False
    returned = data(call.return_data)
    return not returned or int.from_bytes(returned[:32], "big") == 1
