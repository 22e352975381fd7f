"""A ledger on a real database of each kind, and opportunities and entries to put in it."""

from collections.abc import Callable, Iterator

import pytest
from mev.domain import Account, Cycle, Entry, EntryKind, Hop, Opportunity, Pool
from mev.runtime.storage import Database, Location
from mev.trading.ledger import Ledger, Submission

NATIVE = b"\xee" * 20
STABLE = b"\x5a" * 20
SIGNER = b"\x51" * 20
POOLS = {
    bytes([number]) * 20: Pool(
        address=bytes([number]) * 20,
        factory="uniswap_v2",
        token0=STABLE,
        token1=NATIVE,
        fee_numerator=997,
        fee_denominator=1000,
    )
    for number in (1, 2)
}


class Clock:
    """Time that stands still until it is set; nanoseconds."""

    def __init__(self) -> None:
        self.now_ns = 1_000_000_000_000

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(location: Location) -> Iterator[Database]:
    made = Database(location)
    yield made
    made.close()


@pytest.fixture
def ledger(database: Database, clock: Clock) -> Ledger:
    return Ledger(database, clock)


@pytest.fixture
def opportunity() -> Callable[..., Opportunity]:
    def make(identity: str = "a", **changes: object) -> Opportunity:
        values: dict[str, object] = {
            "id": identity,
            "chain": "ethereum",
            "strategy": "atomic_arbitrage",
            "cycle": Cycle(NATIVE, (Hop(b"\x01" * 20, zero_for_one=False), Hop(b"\x02" * 20, zero_for_one=True))),
            "block_number": 7,
            "block_hash": b"\x07" * 32,
            "amount_in": 10**18,
            "expected_out": 10**18 + 10**15,
        }
        return Opportunity(**{**values, **changes})  # type: ignore[arg-type]

    return make


def submission(opportunity: str = "a", *, nonce: int = 0, mark: int = 1, chain: str = "ethereum") -> Submission:
    return Submission(
        opportunity=opportunity,
        chain=chain,
        sender=SIGNER,
        nonce=nonce,
        deadline_block=11,
        max_priority_fee_wei=1,
        max_fee_wei=2,
        hash=bytes([mark]) * 32,
        raw=b"\x02\xc0",
    )


WAYS = {
    EntryKind.SWAP_PROFIT: (Account.MARKET, Account.EXECUTOR),
    EntryKind.GAS: (Account.SIGNER, Account.GAS),
    EntryKind.L1_FEE: (Account.SIGNER, Account.L1_FEE),
    EntryKind.BRIBE: (Account.EXECUTOR, Account.BRIBE),
    EntryKind.FUNDING: (Account.EQUITY, Account.EXECUTOR),
}


def entry(
    amount: int,
    kind: EntryKind = EntryKind.SWAP_PROFIT,
    *,
    opportunity: str = "a",
    chain: str = "ethereum",
    mark: int = 1,
    at_ns: int = 0,
) -> Entry:
    """An entry of a kind on its usual way; fees are in native coin."""
    credit, debit = WAYS[kind]
    return Entry(
        chain=chain,
        opportunity=opportunity,
        kind=kind,
        token=bytes(20) if credit is Account.SIGNER else NATIVE,
        amount=amount,
        credit=credit,
        debit=debit,
        transaction=bytes([mark]) * 32,
        block_number=9,
        at_ns=at_ns,
    )
