# pragma version 0.4.3
# pragma evm-version cancun
"""
@title A stand-in for Compound V3's Comet with one collateral asset
@dev No registry has the published contracts: this keeps their functions, events and formulas, strictly, as far as liquidating needs them, and nothing
     else (one collateral, no rewards, no permissions, a constant rate). Supplied base is the market's own: nobody is paid for it.
"""

from ethereum.ercs import IERC20


interface PriceFeed:
    def latestAnswer() -> int256: view


struct AssetInfo:
    offset: uint8
    asset: address
    priceFeed: address
    scale: uint64
    borrowCollateralFactor: uint64
    liquidateCollateralFactor: uint64
    liquidationFactor: uint64
    supplyCap: uint128


struct TotalsBasic:
    baseSupplyIndex: uint64
    baseBorrowIndex: uint64
    trackingSupplyIndex: uint64
    trackingBorrowIndex: uint64
    totalSupplyBase: uint104
    totalBorrowBase: uint104
    lastAccrualTime: uint40
    pauseFlags: uint8


struct UserBasic:
    principal: int104
    baseTrackingIndex: uint64
    baseTrackingAccrued: uint64
    assetsIn: uint16
    _reserved: uint8


struct UserCollateral:
    balance: uint128
    _reserved: uint128


event Withdraw:
    src: indexed(address)
    to: indexed(address)
    amount: uint256


event SupplyCollateral:
    _from: indexed(address)
    dst: indexed(address)
    asset: indexed(address)
    amount: uint256


event AbsorbCollateral:
    absorber: indexed(address)
    borrower: indexed(address)
    asset: indexed(address)
    collateralAbsorbed: uint256
    usdValue: uint256


event AbsorbDebt:
    absorber: indexed(address)
    borrower: indexed(address)
    basePaidOut: uint256
    usdValue: uint256


event BuyCollateral:
    buyer: indexed(address)
    asset: indexed(address)
    baseAmount: uint256
    collateralAmount: uint256


FACTOR_SCALE: constant(uint256) = 10**18
INDEX_SCALE: constant(uint256) = 10**15

baseToken: public(immutable(address))
baseTokenPriceFeed: public(immutable(address))
baseScale: public(immutable(uint256))
COLLATERAL: immutable(address)
FEED: immutable(address)
SCALE: immutable(uint256)
BORROW_FACTOR: constant(uint256) = 8 * 10**17
LIQUIDATE_FACTOR: constant(uint256) = 85 * 10**16
LIQUIDATION_FACTOR: constant(uint256) = 93 * 10**16
RATE: constant(uint256) = 10**9
storeFrontPriceFactor: public(constant(uint256)) = 6 * 10**17
targetReserves: public(uint256)
numAssets: public(constant(uint8)) = 1

totals: TotalsBasic
users: HashMap[address, UserBasic]
collateral: HashMap[address, uint256]
total_collateral: uint256
isBuyPaused: public(bool)
isAbsorbPaused: public(bool)


@deploy
def __init__(base: address, base_feed: address, base_scale: uint256, asset: address, feed: address, scale: uint256):
    baseToken = base
    baseTokenPriceFeed = base_feed
    baseScale = base_scale
    COLLATERAL = asset
    FEED = feed
    SCALE = scale
    self.targetReserves = 10**30
    self.totals.baseBorrowIndex = convert(INDEX_SCALE, uint64)
    self.totals.baseSupplyIndex = convert(INDEX_SCALE, uint64)
    self.totals.lastAccrualTime = convert(block.timestamp, uint40)


@external
def pause(buying: bool, target_reserves: uint256):
    self.isBuyPaused = buying
    self.targetReserves = target_reserves


@external
@view
def getAssetInfo(number: uint8) -> AssetInfo:
    assert number == 0, "BadAsset"
    return AssetInfo(
        offset=0,
        asset=COLLATERAL,
        priceFeed=FEED,
        scale=convert(SCALE, uint64),
        borrowCollateralFactor=convert(BORROW_FACTOR, uint64),
        liquidateCollateralFactor=convert(LIQUIDATE_FACTOR, uint64),
        liquidationFactor=convert(LIQUIDATION_FACTOR, uint64),
        supplyCap=max_value(uint128),
    )


@external
@view
def totalsBasic() -> TotalsBasic:
    return self.totals


@external
@view
def userBasic(user: address) -> UserBasic:
    return self.users[user]


@external
@view
def userCollateral(user: address, asset: address) -> UserCollateral:
    assert asset == COLLATERAL
    return UserCollateral(balance=convert(self.collateral[user], uint128), _reserved=0)


@external
@view
def getUtilization() -> uint256:
    return FACTOR_SCALE // 2


@external
@view
def getBorrowRate(utilization: uint256) -> uint64:
    return convert(RATE, uint64)


@external
@view
def getPrice(feed: address) -> uint256:
    return self._price(feed)


@external
@view
def getReserves() -> int256:
    return self._reserves()


@external
@view
def getCollateralReserves(asset: address) -> uint256:
    return self._for_sale(asset)


@external
@view
def isLiquidatable(user: address) -> bool:
    return self._is_liquidatable(user, self._index())


@external
@view
def borrowBalanceOf(user: address) -> uint256:
    return self._owed(user, self._index())


@external
@view
def quoteCollateral(asset: address, base_amount: uint256) -> uint256:
    return self._quote(asset, base_amount)


@external
def supply(asset: address, amount: uint256):
    assert asset == COLLATERAL
    assert extcall IERC20(asset).transferFrom(msg.sender, self, amount)
    self.collateral[msg.sender] += amount
    self.total_collateral += amount
    log SupplyCollateral(_from=msg.sender, dst=msg.sender, asset=asset, amount=amount)


@external
def withdraw(asset: address, amount: uint256):
    """
    @dev Of base alone: what a user withdraws he borrows.
    """
    assert asset == baseToken
    self._accrue()
    index: uint256 = convert(self.totals.baseBorrowIndex, uint256)
    balance: uint256 = self._owed(msg.sender, index) + amount
    self._borrow(msg.sender, self._ceil(balance * INDEX_SCALE, index))
    worth: uint256 = self.collateral[msg.sender] * self._price(FEED) // SCALE * BORROW_FACTOR // FACTOR_SCALE
    assert worth >= balance * self._price(baseTokenPriceFeed) // baseScale, "NotCollateralized"
    assert extcall IERC20(asset).transfer(msg.sender, amount)
    log Withdraw(src=msg.sender, to=msg.sender, amount=amount)


@external
def absorb(absorber: address, accounts: DynArray[address, 1]):
    assert not self.isAbsorbPaused, "Paused"
    self._accrue()
    for account: address in accounts:
        index: uint256 = convert(self.totals.baseBorrowIndex, uint256)
        assert self._is_liquidatable(account, index), "NotLiquidatable"
        owed: uint256 = self._owed(account, index)
        seized: uint256 = self.collateral[account]
        self.collateral[account] = 0
        self.total_collateral -= seized
        value: uint256 = seized * self._price(FEED) // SCALE
        log AbsorbCollateral(absorber=absorber, borrower=account, asset=COLLATERAL, collateralAbsorbed=seized, usdValue=value)
        base_price: uint256 = self._price(baseTokenPriceFeed)
        credit: uint256 = value * LIQUIDATION_FACTOR // FACTOR_SCALE * baseScale // base_price
        # What is credited beyond the debt is the borrower's base.
        beyond: uint256 = credit - owed if credit > owed else 0
        self._borrow(account, 0)
        self.users[account].principal = convert(beyond, int104)
        self.totals.totalSupplyBase += convert(beyond, uint104)
        paid: uint256 = owed + beyond
        log AbsorbDebt(absorber=absorber, borrower=account, basePaidOut=paid, usdValue=paid * base_price // baseScale)


@external
def buyCollateral(asset: address, min_amount: uint256, base_amount: uint256, recipient: address):
    assert not self.isBuyPaused, "Paused"
    reserves: int256 = self._reserves()
    assert reserves < 0 or convert(reserves, uint256) < self.targetReserves, "NotForSale"
    assert extcall IERC20(baseToken).transferFrom(msg.sender, self, base_amount)
    bought: uint256 = self._quote(asset, base_amount)
    assert bought >= min_amount, "TooMuchSlippage"
    assert bought <= self._for_sale(asset), "InsufficientReserves"
    assert extcall IERC20(asset).transfer(recipient, bought)
    log BuyCollateral(buyer=msg.sender, asset=asset, baseAmount=base_amount, collateralAmount=bought)


@internal
@view
def _price(feed: address) -> uint256:
    answer: int256 = staticcall PriceFeed(feed).latestAnswer()
    assert answer > 0, "BadPrice"
    return convert(answer, uint256)


@internal
@view
def _index() -> uint256:
    index: uint256 = convert(self.totals.baseBorrowIndex, uint256)
    return index + index * (RATE * (block.timestamp - convert(self.totals.lastAccrualTime, uint256))) // FACTOR_SCALE


@internal
def _accrue():
    self.totals.baseBorrowIndex = convert(self._index(), uint64)
    self.totals.lastAccrualTime = convert(block.timestamp, uint40)


@internal
@view
def _owed(user: address, index: uint256) -> uint256:
    principal: int104 = self.users[user].principal
    return convert(-principal, uint256) * index // INDEX_SCALE if principal < 0 else 0


@internal
def _borrow(user: address, principal: uint256):
    before: int104 = self.users[user].principal
    if before < 0:
        self.totals.totalBorrowBase -= convert(-before, uint104)
    self.totals.totalBorrowBase += convert(principal, uint104)
    self.users[user].principal = -convert(principal, int104)


@internal
@view
def _is_liquidatable(user: address, index: uint256) -> bool:
    if self.users[user].principal >= 0:
        return False
    debt: uint256 = self._owed(user, index) * self._price(baseTokenPriceFeed) // baseScale
    return self.collateral[user] * self._price(FEED) // SCALE * LIQUIDATE_FACTOR // FACTOR_SCALE < debt


@internal
@view
def _reserves() -> int256:
    balance: uint256 = staticcall IERC20(baseToken).balanceOf(self)
    lent: uint256 = convert(self.totals.totalBorrowBase, uint256) * self._index() // INDEX_SCALE
    return convert(balance + lent, int256) - convert(self.totals.totalSupplyBase, int256)


@internal
@view
def _for_sale(asset: address) -> uint256:
    assert asset == COLLATERAL
    return staticcall IERC20(asset).balanceOf(self) - self.total_collateral


@internal
@view
def _quote(asset: address, base_amount: uint256) -> uint256:
    assert asset == COLLATERAL
    discount: uint256 = storeFrontPriceFactor * (FACTOR_SCALE - LIQUIDATION_FACTOR) // FACTOR_SCALE
    discounted: uint256 = self._price(FEED) * (FACTOR_SCALE - discount) // FACTOR_SCALE
    return self._price(baseTokenPriceFeed) * base_amount * SCALE // discounted // baseScale


@internal
@pure
def _ceil(a: uint256, b: uint256) -> uint256:
    return (a + b - 1) // b
