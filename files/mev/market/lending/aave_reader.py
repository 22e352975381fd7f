"""An Aave V3 market read from a node, every answer of one block: what is listed, what the oracle says, and what borrowers have.

Prices are asked of the market's oracle after every block: what it says need not have an event (adapters that cap a rate by time, fallbacks).
"""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

import msgspec

from mev.chain.abi import AbiError, decode_address, decode_uint, encode_call, selector
from mev.chain.abi.reader import word_array
from mev.chain.errors import MalformedAnswerError
from mev.chain.rpc import Rpc, RpcError
from mev.chain.wire import ADDRESS_BYTES, HASH_BYTES, data, encode, fixed
from mev.domain import Block
from mev.domain.market import Address, Hash
from mev.market.factory_events import FIRST_SPAN, LONGEST_SPAN, MANY_EVENTS
from mev.market.lending.aave_book import Category, Listing, Position, listed
from mev.market.lending.aave_events import BORROW, Indices, borrower

MAX_LISTINGS = 128
# Categories are numbered from 1, mostly without gaps.
EMPTY_CATEGORIES = 8
# Prices above it are nobody's: 10^18 of base currency for one whole token, with 18 decimals.
MOST_PRICE = 10**36
_RESERVE_WORDS = 15
_LAYOUT = {"threshold": 16, "bonus": 32, "decimals": 48, "active": 56, "paused": 60, "fee": 152}

_RESERVES = selector("getReservesList()")
_RESERVE = selector("getReserveData(address)")
_GRACE = selector("getLiquidationGracePeriod(address)")
_CATEGORY = selector("getEModeCategoryCollateralConfig(uint8)")
_CATEGORY_BITS = selector("getEModeCategoryCollateralBitmap(uint8)")
_PROVIDER = selector("ADDRESSES_PROVIDER()")
_ORACLE = selector("getPriceOracle()")
_CONFIGURATOR = selector("getPoolConfigurator()")
_PRICE = selector("getAssetPrice(address)")
_USER = selector("getUserConfiguration(address)")
_USER_CATEGORY = selector("getUserEMode(address)")
_SCALED = selector("scaledBalanceOf(address)")


class Places(msgspec.Struct, frozen=True, kw_only=True):
    """The contracts of one market."""

    pool: Address
    provider: Address
    configurator: Address
    oracle: Address


class _Event(msgspec.Struct, rename="camel"):
    address: str
    topics: list[str]
    data: str


async def places(rpc: Rpc, pool: Address, block: Block) -> Places:
    """Return a pool's contracts; raises AbiError and RpcError where it is no pool, and what the transport raises."""
    [provider] = await answers_of(rpc, block, [(pool, encode_call(_PROVIDER))])
    answered = decode_address(provider)
    oracle, configurator = await answers_of(
        rpc, block, [(answered, encode_call(_ORACLE)), (answered, encode_call(_CONFIGURATOR))]
    )
    return Places(
        pool=pool, provider=answered, configurator=decode_address(configurator), oracle=decode_address(oracle)
    )


async def listings(rpc: Rpc, pool: Address, block: Block) -> list[Listing]:
    """Return what a market lists, without prices; raises as `places` does."""
    [answer] = await answers_of(rpc, block, [(pool, encode_call(_RESERVES))])
    assets = [_address(word) for word in word_array(answer, 0, 0, MAX_LISTINGS)]
    answers = await answers_of(
        rpc, block, [(pool, encode_call(which, asset)) for asset in assets for which in (_RESERVE, _GRACE)]
    )
    return [_listing(asset, *answers[2 * at : 2 * at + 2]) for at, asset in enumerate(assets)]


async def categories(rpc: Rpc, pool: Address, block: Block) -> dict[int, Category]:
    """Return a market's eModes by their numbers; raises as `places` does."""
    found: dict[int, Category] = {}
    for first in range(1, 256, EMPTY_CATEGORIES):
        numbers = range(first, min(first + EMPTY_CATEGORIES, 256))
        answers = await answers_of(
            rpc, block, [(pool, encode_call(which, each)) for each in numbers for which in (_CATEGORY, _CATEGORY_BITS)]
        )
        made = {number: _category(*answers[2 * at : 2 * at + 2]) for at, number in enumerate(numbers)}
        made = {number: each for number, each in made.items() if each.liquidation_threshold}
        found |= made
        if not made:
            break
    return found


async def prices(rpc: Rpc, oracle: Address, assets: Sequence[Address], block: Block) -> dict[Address, int | str]:
    """Return what the oracle says of each asset: base currency for a whole token, or in words why that is no price. Raises what the transport raises."""
    return await prices_by(rpc, oracle, _PRICE, assets, block)


async def prices_by(
    rpc: Rpc, whom: Address, function: bytes, arguments: Sequence[Address], block: Block
) -> dict[Address, int | str]:
    """Return what a function of one address answers as a price, or in words why that is none, by the address. Raises what the transport raises."""
    pinned = {"blockHash": encode(block.hash)}
    answers = await rpc.batch(
        [
            ("eth_call", [{"to": encode(whom), "data": encode(encode_call(function, each))}, pinned])
            for each in arguments
        ]
    )
    return {each: _price(answer) for each, answer in zip(arguments, answers, strict=True)}


async def positions(
    rpc: Rpc, pool: Address, users: Sequence[Address], known: Mapping[int, Listing], block: Block
) -> dict[Address, Position]:
    """Return what users have; those who owe nothing are not asked further. Raises as `places` does."""
    answers = await answers_of(
        rpc, block, [(pool, encode_call(which, user)) for user in users for which in (_USER, _USER_CATEGORY)]
    )
    found = {
        user: Position(bits=decode_uint(answers[2 * at]), category=decode_uint(answers[2 * at + 1], bits=8), scaled={})
        for at, user in enumerate(users)
    }
    wanted = [
        (user, number)
        for user, position in found.items()
        if position.indebted
        for number in listed(position.bits)
        if number in known
    ]
    balances = await answers_of(
        rpc,
        block,
        [
            (token, encode_call(_SCALED, user))
            for user, number in wanted
            for token in (known[number].a_token, known[number].debt_token)
        ],
    )
    for at, (user, number) in enumerate(wanted):
        found[user].scaled[number] = (decode_uint(balances[2 * at]), decode_uint(balances[2 * at + 1]))
    return found


async def borrowers(rpc: Rpc, pool: Address, first: int, last: int) -> AsyncIterator[tuple[int, frozenset[Address]]]:
    """Yield, range by range, up to which block was read and who borrowed there; raises as `users_of`."""
    async for end, found in users_of(rpc, pool, [BORROW], borrower, first, last):
        yield end, found


async def users_of(
    rpc: Rpc,
    pool: Address,
    events: Sequence[Hash],
    named: Callable[[tuple[Hash, ...], bytes], Address],
    first: int,
    last: int,
) -> AsyncIterator[tuple[int, frozenset[Address]]]:
    """Yield, range by range, up to which block was read and whom a pool's events name; a range that the node refuses is halved.

    Raises RpcError where a single block is refused, and RpcUnavailableError where there is no answer or a malformed event.
    """
    begin, span = first, FIRST_SPAN
    topics = [[encode(event) for event in events]]
    while begin <= last:
        end = min(begin + span - 1, last)
        wanted = {"address": encode(pool), "topics": topics, "fromBlock": hex(begin), "toBlock": hex(end)}
        try:
            found = await rpc.call_as(list[_Event], "eth_getLogs", [wanted]) or []
        except RpcError:
            if begin == end:
                raise
            span = (end - begin + 1) // 2
            continue
        try:
            yield end, frozenset(_named(pool, event, named) for event in found)
        except AbiError as error:
            raise MalformedAnswerError(f"{rpc.node}: an event of the pool cannot be read: {error}") from None
        begin = end + 1
        span = max(1, span // 2) if len(found) > MANY_EVENTS else min(2 * span, LONGEST_SPAN)


def _named(pool: Address, event: _Event, named: Callable[[tuple[Hash, ...], bytes], Address]) -> Address:
    if fixed(event.address, ADDRESS_BYTES) != pool:
        raise AbiError("it is not this pool's")
    return named(tuple(fixed(topic, HASH_BYTES) for topic in event.topics), data(event.data))


async def answers_of(rpc: Rpc, block: Block, calls: Iterable[tuple[Address, bytes]]) -> list[bytes]:
    """Return what calls (whom, calldata) answer on the state after a block; raises RpcError where one refuses, and what the transport raises."""
    pinned = {"blockHash": encode(block.hash)}
    asked = [("eth_call", [{"to": encode(to), "data": encode(content)}, pinned]) for to, content in calls]
    answers = await rpc.batch_as(str, asked) if asked else []
    return [data(answer) for answer in answers]


def _listing(asset: Address, reserve: bytes, grace: bytes) -> Listing:
    words = [decode_uint(reserve, position, words=_RESERVE_WORDS) for position in range(_RESERVE_WORDS)]
    configuration = words[0]

    def part(name: str, bits: int) -> int:
        return configuration >> _LAYOUT[name] & (1 << bits) - 1

    return Listing(
        number=words[7],
        asset=asset,
        a_token=_address(words[8]),
        debt_token=_address(words[10]),
        decimals=part("decimals", 8),
        liquidation_threshold=part("threshold", 16),
        liquidation_bonus=part("bonus", 16),
        protocol_fee=part("fee", 16),
        active=bool(part("active", 1)) and not part("paused", 1),
        grace_until=decode_uint(grace, bits=40),
        indices=Indices(
            liquidity_index=words[1],
            liquidity_rate=words[2],
            borrow_index=words[3],
            borrow_rate=words[4],
            updated_at=words[6],
        ),
    )


def _category(configuration: bytes, bits: bytes) -> Category:
    return Category(
        liquidation_threshold=decode_uint(configuration, 1, words=3, bits=16),
        liquidation_bonus=decode_uint(configuration, 2, words=3, bits=16),
        collateral=decode_uint(bits, bits=128),
    )


def _price(answer: object) -> int | str:
    if isinstance(answer, RpcError):
        return f"the oracle refuses: {answer}"
    try:
        price = decode_uint(data(answer))
    except (AbiError, MalformedAnswerError) as error:
        return f"the oracle's answer cannot be read: {error}"
    return price if 0 < price <= MOST_PRICE else "the oracle's price is none"


def _address(word: int) -> Address:
    if word >> 8 * ADDRESS_BYTES:
        raise AbiError("an address does not fit")
    return word.to_bytes(ADDRESS_BYTES, "big")
