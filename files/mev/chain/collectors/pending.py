"""Pending transactions of a node's pool, whole: told so where the node can, else fetched by their hashes in batches."""

from collections import OrderedDict
from collections.abc import AsyncIterator

import msgspec
import structlog

from mev.chain.errors import MalformedAnswerError, RpcError, RpcUnavailableError
from mev.chain.messages import decode
from mev.chain.rpc import Gap, Rpc, Subscription
from mev.chain.transactions import MAX_TRANSACTION_BYTES, PendingTransaction, WireTransaction
from mev.chain.wire import HASH_BYTES, encode, fixed

__all__ = ["PendingCollector", "PendingTransaction"]

# A pool tells of a transaction again when it is re-announced, and after each reconnect.
REMEMBERED_HASHES = 65536
FETCHED_AT_ONCE = 50

log = structlog.get_logger(__name__)


class PendingCollector:
    """Follows newPendingTransactions; each transaction is told once. `malformed` and `vanished` count what was not."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc
        self._seen: OrderedDict[bytes, None] = OrderedDict()
        self.malformed = 0
        # Mined, replaced or dropped before they could be fetched.
        self.vanished = 0

    async def events(self) -> AsyncIterator[PendingTransaction]:
        """Tell of transactions for ever; raises WrongChainError, and RpcError where no node has a pool to tell of.

        What is missed while there is no connection stays missed: a pool has no history.
        """
        # Geth, Erigon and Nethermind take `true` for whole transactions; others refuse it or go on with hashes.
        try:
            async with self._rpc.subscribe("newPendingTransactions", True) as pending:
                async for transaction in self._follow(pending):
                    yield transaction
        except RpcError as refusal:
            log.info("whole pending transactions are refused", node=self._rpc.node, reason=str(refusal))
        async with self._rpc.subscribe("newPendingTransactions") as pending:
            async for transaction in self._follow(pending):
                yield transaction

    async def _follow(self, pending: Subscription) -> AsyncIterator[PendingTransaction]:
        while True:
            items = [await pending.next()]
            while len(items) < FETCHED_AT_ONCE and (more := pending.next_now()) is not None:
                items.append(more)
            for transaction in await self._read([item for item in items if not isinstance(item, Gap)]):
                yield transaction

    async def _read(self, items: list[msgspec.Raw]) -> list[PendingTransaction]:
        found: list[PendingTransaction] = []
        hashes: list[bytes] = []
        for item in items:
            try:
                if bytes(item).startswith(b'"'):
                    name = fixed(decode("newPendingTransactions", item, str), HASH_BYTES)
                    if self._is_new(name):
                        hashes.append(name)
                elif (
                    transaction := self._decoded(decode("newPendingTransactions", item, WireTransaction))
                ) is not None:
                    found.append(transaction)
            except MalformedAnswerError as error:
                self._name(error)
        return found + await self._fetch(hashes)

    async def _fetch(self, hashes: list[bytes]) -> list[PendingTransaction]:
        if not hashes:
            return []
        try:
            answers = await self._rpc.batch(("eth_getTransactionByHash", (encode(name),)) for name in hashes)
        except RpcUnavailableError as error:
            self.vanished += len(hashes)
            log.warning("pending transactions not fetched", node=self._rpc.node, reason=str(error))
            return []
        found = []
        for name, answer in zip(hashes, answers, strict=True):
            if answer is None or isinstance(answer, RpcError):
                self.vanished += 1
                continue
            try:
                wire = msgspec.convert(answer, WireTransaction)
                transaction = wire.transaction()
            except (MalformedAnswerError, msgspec.ValidationError) as error:
                self._name(error)
                continue
            if transaction.hash != name:
                self._name(MalformedAnswerError("a transaction with another hash than it was asked by"))
            elif wire.block_hash is not None:
                self.vanished += 1
            else:
                found.append(transaction)
        return found

    def _decoded(self, wire: WireTransaction) -> PendingTransaction | None:
        if len(wire.input) > 2 * MAX_TRANSACTION_BYTES:
            raise MalformedAnswerError("a transaction that is larger than any pool takes")
        transaction = wire.transaction()
        return transaction if self._is_new(transaction.hash) else None

    def _is_new(self, name: bytes) -> bool:
        if name in self._seen:
            return False
        self._seen[name] = None
        if len(self._seen) > REMEMBERED_HASHES:
            self._seen.popitem(last=False)
        return True

    def _name(self, error: Exception) -> None:
        self.malformed += 1
        log.warning("pending transaction could not be read", node=self._rpc.node, reason=str(error)[:400])
