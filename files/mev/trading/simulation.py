"""What the chain itself says a call would do: eth_call of the executor, from its owner, pinned to one block."""

import msgspec

from mev.chain import wire
from mev.chain.abi import WORD_BYTES
from mev.chain.rpc import Rpc, RpcError
from mev.domain.market import Address, Block


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
    call = {"from": wire.encode(owner), "to": wire.encode(executor), "data": wire.encode(data)}
    pinned = {"blockHash": wire.encode(block.hash)}
    returned, gas = await rpc.batch([("eth_call", [call, pinned]), ("eth_estimateGas", [call, hex(block.number)])])
    for answer in (returned, gas):
        if isinstance(answer, RpcError):
            raise SimulationRevertedError(str(answer))
    profit = wire.data(returned)
    if len(profit) != WORD_BYTES:
        raise ExecutorAbsentError(
            f"no executor contract stands at {wire.encode(executor)}: `mev executor deploy` puts it there"
        )
    return Simulated(profit=int.from_bytes(profit, "big"), gas=wire.quantity(gas))
