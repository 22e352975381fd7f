"""What a receipt says happened, in exact wei: the only source of the ledger's entries."""

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from mev.chain import wire
from mev.chain.abi import event_topic
from mev.chain.errors import MalformedAnswerError
from mev.chain.wire import ADDRESS_BYTES, HASH_BYTES
from mev.domain import Account, Entry, EntryKind
from mev.domain.market import Address, Hash
from mev.trading.execution.accounts import Accounts

TRANSFER = event_topic("Transfer(address,address,uint256)")
NATIVE: Address = bytes(20)
TOPICS_OF_TRANSFER = 3
# WETH9's own events: it emits no Transfer where native coin becomes wrapped or wrapped becomes native.
DEPOSIT = event_topic("Deposit(address,uint256)")
WITHDRAWAL = event_topic("Withdrawal(address,uint256)")
TOPICS_OF_WRAPPING = 2
# The executor's own: native coin that a V4 pool was paid.
NATIVE_PAID = event_topic("NativePaid(uint256)")


class Log(msgspec.Struct, frozen=True):
    """An event as the node sends it, hex."""

    address: str
    topics: list[str]
    data: str


class Receipt(msgspec.Struct, frozen=True, rename="camel"):
    """A transaction receipt as the node sends it, hex quantities.

    A rollup of the OP stack charges its data on the parent chain apart, in `l1Fee`; Arbitrum has it in gasUsed.
    """

    transaction_hash: str
    block_number: str
    block_hash: str
    status: str
    gas_used: str
    effective_gas_price: str
    logs: list[Log]
    l1_fee: str | None = None

    @property
    def succeeded(self) -> bool:
        """Whether the call did not revert."""
        return wire.quantity(self.status) == 1

    @property
    def gas_wei(self) -> int:
        """What the sender paid the chain for it, wei of the native coin."""
        return wire.quantity(self.gas_used) * wire.quantity(self.effective_gas_price)

    @property
    def l1_fee_wei(self) -> int:
        """What the sender paid for its data on the parent chain, where that is charged apart."""
        return wire.quantity(self.l1_fee or "0x0")

    def balance_change(self, token: Address, account: Address) -> int:
        """How much of a token an account has more afterwards, base units, by the token's Transfer events."""
        change = 0
        for log in self.logs:
            # A pair's or another token's events say nothing about this token; an anonymous event has no topics.
            if (
                wire.data(log.address) != token
                or len(log.topics) != TOPICS_OF_TRANSFER
                or wire.data(log.topics[0]) != TRANSFER
            ):
                continue
            amount = wire.quantity(log.data)
            change += amount * ((_account(log.topics[2]) == account) - (_account(log.topics[1]) == account))
        return change

    def wrapped(self, wrapped_native: Address, account: Address) -> int:
        """How much native coin an account turned into wrapped, wei, by WETH9's Deposit events."""
        return self._said(DEPOSIT, wrapped_native, account)

    def unwrapped(self, wrapped_native: Address, account: Address) -> int:
        """How much wrapped coin an account turned into native, wei, by WETH9's Withdrawal events."""
        return self._said(WITHDRAWAL, wrapped_native, account)

    def paid_native(self, executor: Address) -> int:
        """How much native coin an executor paid to V4 pools, wei, by its own events."""
        return sum(
            wire.quantity(log.data)
            for log in self.logs
            if wire.data(log.address) == executor and [wire.data(topic) for topic in log.topics] == [NATIVE_PAID]
        )

    def _said(self, topic: Hash, wrapped_native: Address, account: Address) -> int:
        return sum(
            wire.quantity(log.data)
            for log in self.logs
            if wire.data(log.address) == wrapped_native
            and len(log.topics) == TOPICS_OF_WRAPPING
            and wire.data(log.topics[0]) == topic
            and _account(log.topics[1]) == account
        )


def parse(answer: object) -> Receipt:
    """Take what eth_getTransactionReceipt answered; raises MalformedAnswerError where it is no receipt."""
    try:
        return msgspec.convert(answer, Receipt)
    except msgspec.ValidationError as error:
        raise MalformedAnswerError(f"eth_getTransactionReceipt answered with something else: {error}") from None


def contradict(one: Receipt | None, other: Receipt | None) -> bool:
    """Whether two nodes' receipts of one transaction cannot both be true: a block's hash decides all that is in it."""
    return one is not None and other is not None and one.block_hash == other.block_hash and one != other


def entries(receipt: Receipt, accounts: Accounts, opportunity: str, at_ns: int, *, operators: bool) -> list[Entry]:
    """Book a receipt: fees always; then an opportunity's profit, or what an operator's act put in or took out."""
    paid = (
        _Move(EntryKind.GAS, NATIVE, receipt.gas_wei, Account.SIGNER, Account.GAS),
        _Move(EntryKind.L1_FEE, NATIVE, receipt.l1_fee_wei, Account.SIGNER, Account.L1_FEE),
    )
    moved = _funded(receipt, accounts) if operators else _traded(receipt, accounts)
    return [
        Entry(
            chain=accounts.chain,
            opportunity=opportunity,
            kind=move.kind,
            token=move.token,
            # A balance that fell went the other way.
            amount=abs(move.amount),
            credit=move.credit if move.amount >= 0 else move.debit,
            debit=move.debit if move.amount >= 0 else move.credit,
            transaction=wire.fixed(receipt.transaction_hash, HASH_BYTES),
            block_number=wire.quantity(receipt.block_number),
            block_hash=wire.fixed(receipt.block_hash, HASH_BYTES),
            at_ns=at_ns,
        )
        for move in (*paid, *moved)
        if move.amount or move.kind is EntryKind.GAS
    ]


class _Move(NamedTuple):
    kind: EntryKind
    token: Address
    amount: int
    credit: Account
    debit: Account


def _traded(receipt: Receipt, accounts: Accounts) -> Iterator[_Move]:
    token = accounts.wrapped_native
    # WETH9 tells by its own events what becomes native and comes back; where a wrapped coin tells it by Transfer there are none of these.
    unwrapped = receipt.unwrapped(token, accounts.executor)
    paid = min(unwrapped, receipt.paid_native(accounts.executor))
    profit = receipt.balance_change(token, accounts.executor) + receipt.wrapped(token, accounts.executor) - paid
    yield _Move(EntryKind.SWAP_PROFIT, token, profit, Account.MARKET, Account.EXECUTOR)
    # The executor keeps no native coin: what it unwraps while it trades and pays to no pool, it pays to the block's producer.
    bribe = unwrapped - paid
    yield _Move(EntryKind.BRIBE, token, bribe, Account.EXECUTOR, Account.BRIBE)
    given = receipt.balance_change(token, accounts.signer)
    yield _Move(EntryKind.FUNDING, token, given, Account.EQUITY, Account.SIGNER)


def _funded(receipt: Receipt, accounts: Accounts) -> Iterator[_Move]:
    token = accounts.wrapped_native
    wrapped = receipt.wrapped(token, accounts.signer)
    yield _Move(EntryKind.FUNDING, NATIVE, wrapped, Account.SIGNER, Account.WRAPPER)
    yield _Move(EntryKind.FUNDING, token, wrapped, Account.WRAPPER, Account.SIGNER)
    into_executor = receipt.balance_change(token, accounts.executor)
    yield _Move(EntryKind.FUNDING, token, into_executor, Account.SIGNER, Account.EXECUTOR)
    # What the signer got or gave beyond its transfers with the executor was somebody else's.
    beyond = receipt.balance_change(token, accounts.signer) + into_executor
    yield _Move(EntryKind.FUNDING, token, beyond, Account.EQUITY, Account.SIGNER)


def _account(topic: str) -> Address:
    return wire.data(topic)[-ADDRESS_BYTES:]
