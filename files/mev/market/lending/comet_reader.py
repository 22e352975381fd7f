"""A Compound V3 market read from a node, every answer of one block: what it is made of, how it stands, and what borrowers have.

Source: CometCore, CometStorage and CometMainInterface of compound-finance/comet. Who may owe is whoever ever was given collateral: nobody borrows without, and
base that is lent by a transfer between borrowers has no event at all.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from mev.chain.abi import AbiError, decode_address, decode_uint, encode_call, event_topic, selector
from mev.chain.rpc import Rpc
from mev.chain.wire import ADDRESS_BYTES, Log
from mev.domain import Block
from mev.domain.market import Address, Hash
from mev.market.lending.aave_reader import answers_of, prices_by
from mev.market.lending.compound_v3 import FACTOR_SCALE, Asset, Market

MAX_ASSETS = 24
SUPPLY_COLLATERAL = event_topic("SupplyCollateral(address,address,address,uint256)")
TRANSFER_COLLATERAL = event_topic("TransferCollateral(address,address,address,uint256)")
UPGRADED = event_topic("Upgraded(address)")
# Whose positions each changes: topics after the first. A Transfer is not among them: every token has it, so that all chain's would be read.
_USERS: dict[Hash, tuple[int, ...]] = {
    event_topic("Supply(address,address,uint256)"): (2,),
    event_topic("Withdraw(address,address,uint256)"): (1,),
    SUPPLY_COLLATERAL: (2,),
    TRANSFER_COLLATERAL: (1, 2),
    event_topic("WithdrawCollateral(address,address,address,uint256)"): (1,),
    event_topic("AbsorbDebt(address,address,uint256,uint256)"): (2,),
    event_topic("AbsorbCollateral(address,address,address,uint256,uint256)"): (2,),
}
TOPICS = frozenset({*_USERS, UPGRADED})

_BASE_WORDS = {"base": "baseToken()", "feed": "baseTokenPriceFeed()"}
_NUMBERS = ("baseScale()", "storeFrontPriceFactor()", "targetReserves()", "numAssets()")
_ASSET = selector("getAssetInfo(uint8)")
_TOTALS = selector("totalsBasic()")
_UTILIZATION = selector("getUtilization()")
_RESERVES = selector("getReserves()")
_ABSORB_PAUSED = selector("isAbsorbPaused()")
_BUY_PAUSED = selector("isBuyPaused()")
_BORROW_RATE = selector("getBorrowRate(uint256)")
_PRICE = selector("getPrice(address)")
_COLLATERAL_RESERVES = selector("getCollateralReserves(address)")
_USER = selector("userBasic(address)")
_USER_COLLATERAL = selector("userCollateral(address,address)")
_ASSET_WORDS, _TOTALS_WORDS, _USER_WORDS = 8, 8, 5
_SIGN = 1 << 255


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A collateral asset as the market lists it."""

    asset: Address
    feed: Address
    scale: int
    liquidate_collateral_factor: int
    liquidation_factor: int


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What a market is made of; another one after it was upgraded."""

    base: Address
    feed: Address
    base_scale: int
    store_front_price_factor: int
    target_reserves: int
    assets: tuple[Listed, ...]


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How it stands after a block: `market` None where the base token has no price; assets without one are not in `assets`."""

    market: Market | None
    assets: Mapping[Address, Asset]
    # What is for sale of each, base units.
    held: Mapping[Address, int]
    paused: bool
    unpriced: Mapping[Address, str]


class Owing(msgspec.Struct, frozen=True, kw_only=True):
    """A borrower: a principal below 0, and collateral by asset, base units."""

    principal: int
    collateral: dict[Address, int]


async def terms(rpc: Rpc, comet: Address, block: Block) -> Terms:
    """Return what a market is made of; raises AbiError and RpcError where it is none, and what the transport raises."""
    base, feed = (
        decode_address(answer)
        for answer in await answers_of(rpc, block, [(comet, selector(each)) for each in _BASE_WORDS.values()])
    )
    numbers = await answers_of(rpc, block, [(comet, selector(each)) for each in _NUMBERS])
    base_scale, factor, target, count = map(decode_uint, numbers)
    if count > MAX_ASSETS:
        raise AbiError(f"a market of {count} assets: at most {MAX_ASSETS} are expected")
    answers = await answers_of(rpc, block, [(comet, encode_call(_ASSET, number)) for number in range(count)])
    return Terms(
        base=base,
        feed=feed,
        base_scale=base_scale,
        store_front_price_factor=factor,
        target_reserves=target,
        assets=tuple(map(_listed, answers)),
    )


async def standing(rpc: Rpc, comet: Address, known: Terms, block: Block) -> Standing:
    """Return how a market stands after a block, its borrow index as of then; raises as `terms`."""
    asked = (_TOTALS, _UTILIZATION, _RESERVES, _ABSORB_PAUSED, _BUY_PAUSED)
    totals, utilization, reserves, *paused = await answers_of(rpc, block, [(comet, each) for each in asked])
    [rate] = await answers_of(rpc, block, [(comet, encode_call(_BORROW_RATE, decode_uint(utilization)))])
    index = decode_uint(totals, 1, words=_TOTALS_WORDS, bits=64)
    seconds = max(0, block.timestamp - decode_uint(totals, 6, words=_TOTALS_WORDS, bits=40))
    index += index * (decode_uint(rate, bits=64) * seconds) // FACTOR_SCALE
    feeds = [known.feed, *(each.feed for each in known.assets)]
    said = await prices_by(rpc, comet, _PRICE, sorted({*feeds}), block)
    held = await answers_of(
        rpc, block, [(comet, encode_call(_COLLATERAL_RESERVES, each.asset)) for each in known.assets]
    )
    base_price = said[known.feed]
    return Standing(
        market=Market(
            base_scale=known.base_scale,
            base_price=base_price,
            base_borrow_index=index,
            store_front_price_factor=known.store_front_price_factor,
            reserves=_signed(reserves, 0, 1),
            target_reserves=known.target_reserves,
        )
        if isinstance(base_price, int)
        else None,
        assets={
            each.asset: Asset(
                asset=each.asset,
                scale=each.scale,
                price=price,
                liquidate_collateral_factor=each.liquidate_collateral_factor,
                liquidation_factor=each.liquidation_factor,
            )
            for each in known.assets
            if isinstance(price := said[each.feed], int)
        },
        held={each.asset: decode_uint(answer) for each, answer in zip(known.assets, held, strict=True)},
        paused=any(decode_uint(each, bits=1) for each in paused),
        unpriced={
            asset: why
            for asset, feed in [(known.base, known.feed), *((each.asset, each.feed) for each in known.assets)]
            if isinstance(why := said[feed], str)
        },
    )


async def owing(
    rpc: Rpc, comet: Address, users: Sequence[Address], known: Terms, block: Block
) -> dict[Address, Owing | None]:
    """Return what users have; None of those who owe nothing. Raises as `terms`."""
    answers = await answers_of(rpc, block, [(comet, encode_call(_USER, user)) for user in users])
    principals = {user: _signed(answer, 0, _USER_WORDS) for user, answer in zip(users, answers, strict=True)}
    wanted = [(user, each.asset) for user in users if principals[user] < 0 for each in known.assets]
    balances = await answers_of(
        rpc, block, [(comet, encode_call(_USER_COLLATERAL, user, asset)) for user, asset in wanted]
    )
    found: dict[Address, Owing | None] = {
        user: Owing(principal=principal, collateral={}) if principal < 0 else None
        for user, principal in principals.items()
    }
    for (user, asset), answer in zip(wanted, balances, strict=True):
        owed, balance = found[user], decode_uint(answer, words=2, bits=128)
        if owed is not None and balance:
            owed.collateral[asset] = balance
    return found


def touched(logs: Iterable[Log], comet: Address) -> tuple[frozenset[Address], frozenset[Address], bool]:
    """Return whose positions a block's events changed, who of them was given collateral, and whether the market was upgraded.

    Raises AbiError where one of its own events is malformed.
    """
    users: set[Address] = set()
    given: set[Address] = set()
    upgraded = False
    for log in logs:
        if log.address != comet or not log.topics:
            continue
        upgraded |= log.topics[0] == UPGRADED
        named = [topic_address(log.topics, number) for number in _USERS.get(log.topics[0], ())]
        users.update(named)
        if log.topics[0] in (SUPPLY_COLLATERAL, TRANSFER_COLLATERAL):
            given.add(named[-1])
    return frozenset(users), frozenset(given), upgraded


def receiver(topics: tuple[Hash, ...], _: bytes) -> Address:
    """Return who was given collateral by a SupplyCollateral or TransferCollateral event; raises AbiError where it is none."""
    if not topics or topics[0] not in (SUPPLY_COLLATERAL, TRANSFER_COLLATERAL):
        raise AbiError("it is no event of collateral")
    return topic_address(topics, 2)


def topic_address(topics: Sequence[Hash], number: int) -> Address:
    """Read an indexed address; raises AbiError where there is none."""
    if len(topics) <= number or any(topics[number][:-ADDRESS_BYTES]):
        raise AbiError(f"topic {number} is no address")
    return topics[number][-ADDRESS_BYTES:]


def _listed(answer: bytes) -> Listed:
    words = [decode_uint(answer, position, words=_ASSET_WORDS) for position in range(_ASSET_WORDS)]
    _, asset, feed, scale, _, liquidate, factor, _ = words
    if max(asset, feed) >> 8 * ADDRESS_BYTES or not scale or max(liquidate, factor) > FACTOR_SCALE:
        raise AbiError("an asset's terms cannot be like that")
    return Listed(
        asset=asset.to_bytes(ADDRESS_BYTES, "big"),
        feed=feed.to_bytes(ADDRESS_BYTES, "big"),
        scale=scale,
        liquidate_collateral_factor=liquidate,
        liquidation_factor=factor,
    )


def _signed(answer: bytes, position: int, words: int) -> int:
    value = decode_uint(answer, position, words=words)
    return value - 2 * _SIGN if value >= _SIGN else value
