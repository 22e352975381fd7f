"""The chain against the ledger: what accounts hold must be what the entries add up to, to the wei."""

import time

import msgspec

from mev.chain import wire
from mev.chain.rpc import Rpc
from mev.domain import Entry, EntryKind
from mev.domain.market import Address
from mev.trading import erc20
from mev.trading.execution.accounts import Accounts
from mev.trading.execution.receipt import NATIVE
from mev.trading.ledger import Ledger
from mev.trading.ledger.ledger import OPENING


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One account's balance of one token (native is zero), base units, on the chain and by the ledger."""

    chain: str
    account: Address
    token: Address
    on_chain: int
    in_ledger: int

    @property
    def difference(self) -> int:
        """What the chain has more than the ledger; not zero means that something moved which the ledger did not see."""
        return self.on_chain - self.in_ledger


async def open_books(rpc: Rpc, accounts: Accounts, ledger: Ledger) -> None:
    """Book what the accounts hold before the first transaction of ours; a chain's books open once."""
    if ledger.opened(accounts.chain):
        return
    block_number, native, wrapped = await _balances(rpc, accounts)
    at_ns = time.time_ns()
    ledger.book(
        Entry(
            chain=accounts.chain,
            opportunity="operator:opening",
            kind=EntryKind.FUNDING,
            token=token,
            amount=amount,
            transaction=OPENING,
            block_number=block_number,
            at_ns=at_ns,
        )
        for token, amount in ((NATIVE, native), (accounts.wrapped_native, wrapped))
    )


async def reconcile(rpc: Rpc, accounts: Accounts, ledger: Ledger) -> list[Difference]:
    """Compare both balances; while a transaction is in flight they may differ by it."""
    _, native, wrapped = await _balances(rpc, accounts)
    held = ((accounts.signer, NATIVE, native), (accounts.executor, accounts.wrapped_native, wrapped))
    return [
        Difference(
            chain=accounts.chain,
            account=account,
            token=token,
            on_chain=amount,
            in_ledger=ledger.balance(accounts.chain, token),
        )
        for account, token, amount in held
    ]


async def _balances(rpc: Rpc, accounts: Accounts) -> tuple[int, int, int]:
    """Return a block's number, and at that block the signer's native coin and the executor's wrapped one, wei."""
    at = await rpc.call("eth_blockNumber")
    native = await rpc.call("eth_getBalance", [wire.encode(accounts.signer), at])
    data = wire.encode(erc20.encode_balance_of(accounts.executor))
    wrapped = await rpc.call("eth_call", [{"to": wire.encode(accounts.wrapped_native), "data": data}, at])
    return wire.quantity(at), wire.quantity(native), erc20.decode_amount(wrapped)
