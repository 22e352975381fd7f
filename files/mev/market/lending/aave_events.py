"""What the events of an Aave V3 market say has changed: whose positions, which reserves' indices, or what is configured.

Amounts in them are not used: since version 3.5 the pool rounds what it books in several directions, so a position that changed is read again
(mev.market.lending.aave_reader). Reserves' indices and rates are taken as they stand in the event.

Source: IPool, IPoolConfigurator, IPoolAddressesProvider and IScaledBalanceToken of aave-v3-origin 3.6; the same signatures since 3.0 or later.
"""

from collections.abc import Collection, Iterable
from typing import NamedTuple

import msgspec

from mev.chain.abi import AbiError, event_topic
from mev.chain.abi.words import WORD_BYTES
from mev.chain.wire import ADDRESS_BYTES, Log
from mev.domain.market import Address, Hash

_ADDRESS_BOUND = 1 << 8 * ADDRESS_BYTES
_INDEX_BOUND = 1 << 128


class Indices(msgspec.Struct, frozen=True, kw_only=True):
    """A reserve after an update: indices and yearly rates in ray, and when, in seconds of the chain's time."""

    liquidity_rate: int
    borrow_rate: int
    liquidity_index: int
    borrow_index: int
    updated_at: int


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """What a block's events ask for: whom to read again, who may have borrowed for the first time, and the last indices of each asset."""

    users: frozenset[Address] = frozenset()
    borrowers: frozenset[Address] = frozenset()
    indices: dict[Address, Indices] = {}
    configuration: bool = False


class _Layout(NamedTuple):
    """Topics beside the first, words of data, and which words of the two together are users."""

    name: str
    topics: int
    words: int
    users: tuple[int, ...]


def _layouts(*events: tuple[str, int, tuple[int, ...]]) -> dict[Hash, _Layout]:
    """Take each event's signature, how many of its arguments are topics, and where users stand, topics first."""
    made = {}
    for signature, topics, users in events:
        count = signature.count(",") + 1
        made[event_topic(signature)] = _Layout(signature.partition("(")[0], topics, count - topics, users)
    return made


BORROW = event_topic("Borrow(address,address,address,uint256,uint8,uint256,uint16)")
RESERVE_DATA = event_topic("ReserveDataUpdated(address,uint256,uint256,uint256,uint256,uint256)")
_BORROWER = 1
_POOL = _layouts(
    ("Supply(address,address,address,uint256,uint16)", 3, (1,)),
    ("Withdraw(address,address,address,uint256)", 3, (1,)),
    ("Borrow(address,address,address,uint256,uint8,uint256,uint16)", 3, (_BORROWER,)),
    ("Repay(address,address,address,uint256,bool)", 3, (1, 2)),
    # The liquidator may be given the collateral's aTokens.
    ("LiquidationCall(address,address,address,uint256,uint256,address,bool)", 3, (2, 5)),
    ("ReserveUsedAsCollateralEnabled(address,address)", 2, (1,)),
    ("ReserveUsedAsCollateralDisabled(address,address)", 2, (1,)),
    ("UserEModeSet(address,uint8)", 1, (0,)),
    ("DeficitCreated(address,address,uint256)", 2, (0,)),
    ("ReserveDataUpdated(address,uint256,uint256,uint256,uint256,uint256)", 1, ()),
)
# Of an aToken, `value` scaled: who sent and who received.
_TOKEN = _layouts(("BalanceTransfer(address,address,uint256,uint256)", 2, (0, 1)))
# Whatever these say, all that is configured is read again.
CONFIGURATION_TOPICS = frozenset(
    event_topic(signature)
    for signature in (
        "ReserveInitialized(address,address,address,address,address)",
        "ReserveDropped(address)",
        "ReserveActive(address,bool)",
        "ReservePaused(address,bool)",
        "CollateralConfigurationChanged(address,uint256,uint256,uint256)",
        "LiquidationProtocolFeeChanged(address,uint256,uint256)",
        "LiquidationGracePeriodChanged(address,uint40)",
        "LiquidationGracePeriodDisabled(address)",
        "AssetCollateralInEModeChanged(address,uint8,bool)",
        "EModeCategoryAdded(uint8,uint256,uint256,uint256,address,string)",
        "PriceOracleUpdated(address,address)",
    )
)
TOPICS = frozenset({*_POOL, *_TOKEN, *CONFIGURATION_TOPICS})


def changes(
    logs: Iterable[Log], pool: Address, tokens: Collection[Address], governing: Collection[Address], timestamp: int
) -> Changes:
    """Sum up a block's logs; those of other contracts are passed over.

    `tokens` are the market's aTokens, `governing` its configurator and its addresses' provider, `timestamp` the block's. Raises AbiError where one of the market's own
    events is malformed.
    """
    users: set[Address] = set()
    borrowers: set[Address] = set()
    indices: dict[Address, Indices] = {}
    configuration = False
    for log in logs:
        topic = log.topics[0] if log.topics else b""
        if log.address in governing:
            configuration |= topic in CONFIGURATION_TOPICS
            continue
        layout = _POOL.get(topic) if log.address == pool else _TOKEN.get(topic) if log.address in tokens else None
        if layout is None:
            continue
        words = _words(layout, log)
        named = [_address(layout, words[position]) for position in layout.users]
        users.update(named)
        if topic == BORROW:
            borrowers.update(named)
        elif topic == RESERVE_DATA:
            indices[_address(layout, words[0])] = _indices(layout, words, timestamp)
    return Changes(users=frozenset(users), borrowers=frozenset(borrowers), indices=indices, configuration=configuration)


def borrower(topics: tuple[Hash, ...], data: bytes) -> Address:
    """Return who borrowed by a Borrow event; raises AbiError where it is none."""
    layout = _POOL[BORROW]
    if not topics or topics[0] != BORROW:
        raise AbiError("it is no Borrow")
    words = _words(layout, Log(address=b"", topics=topics, data=data, index=0, transaction=b""))
    return _address(layout, words[_BORROWER])


def _words(layout: _Layout, log: Log) -> list[int]:
    if len(log.topics) != layout.topics + 1 or len(log.data) != layout.words * WORD_BYTES:
        raise AbiError(
            f"{layout.name}: {len(log.topics)} topics and {len(log.data)} bytes: "
            f"{layout.topics + 1} and {layout.words * WORD_BYTES} are expected"
        )
    run = b"".join(log.topics[1:]) + log.data
    return [int.from_bytes(run[start : start + WORD_BYTES], "big") for start in range(0, len(run), WORD_BYTES)]


def _address(layout: _Layout, word: int) -> Address:
    if word >= _ADDRESS_BOUND:
        raise AbiError(f"{layout.name}: an address has more than {ADDRESS_BYTES} bytes")
    return word.to_bytes(ADDRESS_BYTES, "big")


def _indices(layout: _Layout, words: list[int], timestamp: int) -> Indices:
    _, liquidity_rate, _, borrow_rate, liquidity_index, borrow_index = words
    if max(words[1:]) >= _INDEX_BOUND or not liquidity_index or not borrow_index:
        raise AbiError(f"{layout.name}: an index or a rate cannot be like that")
    return Indices(
        liquidity_rate=liquidity_rate,
        borrow_rate=borrow_rate,
        liquidity_index=liquidity_index,
        borrow_index=borrow_index,
        updated_at=timestamp,
    )
