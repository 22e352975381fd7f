"""The chain against the ledger: what accounts hold must be what the entries add up to, to the wei."""

import time

import msgspec

from mev.chain import wire
from mev.chain.rpc import Rpc
from mev.domain import Account, Entry, EntryKind
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
    """Book what each account holds before the first transaction of ours; each account's books open once.

    Nothing is booked while a transaction is in flight: whether its effect is in the balance is not known.
    """
    opened = ledger.opened(accounts.chain)
    if opened >= {(account, token) for account, token in _followed(accounts)} or ledger.in_flight(accounts.chain):
        return
    block_number, held = await _balances(rpc, accounts)
    at_ns = time.time_ns()
    ledger.book(
        Entry(
            chain=accounts.chain,
            opportunity="operator:opening",
            kind=EntryKind.FUNDING,
            token=token,
            amount=amount,
            credit=Account.EQUITY,
            debit=account,
            transaction=OPENING,
            block_number=block_number,
            at_ns=at_ns,
        )
        for (account, token), amount in held.items()
        if (account, token) not in opened
    )


async def reconcile(rpc: Rpc, accounts: Accounts, ledger: Ledger) -> list[Difference]:
    """Compare all balances; while a transaction is in flight they may differ by it."""
    _, held = await _balances(rpc, accounts)
    return [
        Difference(
            chain=accounts.chain,
            account=_address(accounts, account),
            token=token,
            on_chain=amount,
            in_ledger=ledger.balance(accounts.chain, account, token),
        )
        for (account, token), amount in held.items()
    ]


def _followed(accounts: Accounts) -> list[tuple[Account, Address]]:
    return [
        (Account.SIGNER, NATIVE),
        (Account.EXECUTOR, accounts.wrapped_native),
        (Account.SIGNER, accounts.wrapped_native),
    ]


def _address(accounts: Accounts, account: Account) -> Address:
    return accounts.signer if account is Account.SIGNER else accounts.executor


async def _balances(rpc: Rpc, accounts: Accounts) -> tuple[int, dict[tuple[Account, Address], int]]:
    """Return a block's number, and at that block what each account holds of what is followed in it, base units."""
    at = await rpc.call("eth_blockNumber")
    held = {}
    for account, token in _followed(accounts):
        address = _address(accounts, account)
        if token == NATIVE:
            held[account, token] = wire.quantity(await rpc.call("eth_getBalance", [wire.encode(address), at]))
        else:
            call = {"to": wire.encode(token), "data": wire.encode(erc20.encode_balance_of(address))}
            held[account, token] = erc20.decode_amount(await rpc.call("eth_call", [call, at]))
    return wire.quantity(at), held
