"""What the chain itself says a call would do: eth_call of the executor, from its owner, pinned to one block."""

from typing import Any

import msgspec

from mev.chain.rpc import Rpc, RpcError
from mev.domain.market import Address, Block

WORD_BYTES = 32


class Simulated(msgspec.Struct, frozen=True):
    """A call that would succeed: what it returns as profit, base units of the cycle's token, and its gas in units."""

    profit: int
    gas: int


class SimulationRevertedError(Exception):
    """The call would revert; the message is the node's."""


class ExecutorAbsentError(SimulationRevertedError):
    """No contract stands at the executor's address."""


async def simulate(rpc: Rpc, owner: Address, executor: Address, data: bytes, block: Block) -> Simulated:
    """Run a call of execute() on the state after `block` (EIP-1898), without sending it.

    Raises SimulationRevertedError where it reverts, ExecutorAbsentError where there is nothing to call, and the
    transport's own errors where the node does not answer.
    """
    call = {"from": "0x" + owner.hex(), "to": "0x" + executor.hex(), "data": "0x" + data.hex()}
    pinned = {"blockHash": "0x" + block.hash.hex()}
    returned, gas = await rpc.batch([("eth_call", [call, pinned]), ("eth_estimateGas", [call, hex(block.number)])])
    for answer in (returned, gas):
        if isinstance(answer, RpcError):
            raise SimulationRevertedError(str(answer))
    profit = bytes.fromhex(returned[2:])
    if len(profit) != WORD_BYTES:
        raise ExecutorAbsentError(f"no executor contract stands at 0x{executor.hex()}: `mev executor deploy` puts it there")
    return Simulated(profit=int.from_bytes(profit, "big"), gas=_quantity(gas))


def _quantity(answer: Any) -> int:
    return int(answer, 16)
