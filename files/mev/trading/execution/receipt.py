"""What a receipt says happened, in exact wei: the only source of the ledger's entries."""

import msgspec

from mev.chain import wire
from mev.chain.abi import event_topic
from mev.chain.errors import MalformedAnswerError
from mev.chain.wire import ADDRESS_BYTES, HASH_BYTES
from mev.domain import Entry, EntryKind
from mev.domain.market import Address
from mev.trading.execution.accounts import Accounts

TRANSFER = event_topic("Transfer(address,address,uint256)")
NATIVE: Address = bytes(20)
TOPICS_OF_TRANSFER = 3
# WETH9's own events: it emits no Transfer where native coin becomes wrapped.
DEPOSIT = event_topic("Deposit(address,uint256)")


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
        """What the sender paid for it, wei of the native coin."""
        return wire.quantity(self.gas_used) * wire.quantity(self.effective_gas_price) + wire.quantity(
            self.l1_fee or "0x0"
        )

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
        return sum(
            wire.quantity(log.data)
            for log in self.logs
            if wire.data(log.address) == wrapped_native
            and [wire.data(topic) for topic in log.topics[:1]] == [DEPOSIT]
            and _account(log.topics[1]) == account
        )


def parse(answer: object) -> Receipt:
    """Take what eth_getTransactionReceipt answered; raises MalformedAnswerError where it is no receipt."""
    try:
        return msgspec.convert(answer, Receipt)
    except msgspec.ValidationError as error:
        raise MalformedAnswerError(f"eth_getTransactionReceipt answered with something else: {error}") from None


def entries(receipt: Receipt, accounts: Accounts, opportunity: str, at_ns: int, *, operators: bool) -> list[Entry]:
    """Book a receipt: gas always; then an opportunity's profit, or what an operator's act put in or took out."""
    moved: list[tuple[EntryKind, Address, int]] = [(EntryKind.GAS, NATIVE, -receipt.gas_wei)]
    in_executor = receipt.balance_change(accounts.wrapped_native, accounts.executor)
    if operators:
        wrapped = receipt.wrapped(accounts.wrapped_native, accounts.signer)
        moved += [(EntryKind.FUNDING, NATIVE, -wrapped)] if wrapped else []
        moved += [(EntryKind.FUNDING, accounts.wrapped_native, in_executor)] if in_executor else []
    elif receipt.succeeded:
        moved.append((EntryKind.SWAP_PROFIT, accounts.wrapped_native, in_executor))
    return [
        Entry(
            chain=accounts.chain,
            opportunity=opportunity,
            kind=kind,
            token=token,
            amount=amount,
            transaction=wire.fixed(receipt.transaction_hash, HASH_BYTES),
            block_number=wire.quantity(receipt.block_number),
            at_ns=at_ns,
        )
        for kind, token, amount in moved
    ]


def _account(topic: str) -> Address:
    return wire.data(topic)[-ADDRESS_BYTES:]
