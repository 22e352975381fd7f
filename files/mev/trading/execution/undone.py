"""Which booked transactions a reorganisation took: the chain does not have them any more, or has them in another block."""

from collections.abc import Mapping

from mev.chain import wire
from mev.chain.rpc import Rpc
from mev.chain.wire import HASH_BYTES
from mev.domain.market import Hash
from mev.trading.execution import receipt as receipts
from mev.trading.ledger import Booked, Ledger

# Deeper than any reorganisation that the engine follows.
BLOCKS_LOOKED_AT = 128


async def undone(rpc: Rpc, chain: str, ledger: Ledger) -> list[Hash]:
    """Return booked transactions that are not in the block that they were booked in, oldest first.

    Only what is booked in the newest BLOCKS_LOOKED_AT blocks is looked for: nodes forget old receipts.
    """
    head = wire.quantity(await rpc.call("eth_blockNumber"))
    booked = ledger.booked_after(chain, head - BLOCKS_LOOKED_AT)
    answers = await rpc.batch(("eth_getTransactionReceipt", [wire.encode(each.transaction)]) for each in booked)
    return [each.transaction for each, answer in zip(booked, answers, strict=True) if not _stands(each, answer)]


def _stands(booked: Booked, answer: object) -> bool:
    if not isinstance(answer, Mapping):
        return False
    receipt = receipts.parse(answer)
    if booked.block_hash is None:
        return wire.quantity(receipt.block_number) == booked.block_number
    return wire.fixed(receipt.block_hash, HASH_BYTES) == booked.block_hash
