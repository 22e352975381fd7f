# pragma version 0.4.3
# pragma evm-version cancun
"""
@title Swaps and adds liquidity on concentrated pools, and says what became of them
@dev Pays what the pools' callbacks ask for from what it holds. A swap returns its two deltas, and the pool's price, tick and liquidity after
     it, so that a call that is not sent shows what a swap would leave behind.
"""

interface Token:
    def transfer(receiver: address, amount: uint256) -> bool: nonpayable
    def approve(spender: address, amount: uint256) -> bool: nonpayable

interface Pool:
    def token0() -> address: view
    def token1() -> address: view
    def liquidity() -> uint128: view
    def swap(recipient: address, zero_for_one: bool, amount: int256, limit: uint160, data: Bytes[32]) -> (int256, int256): nonpayable

interface UniswapV3:
    def mint(recipient: address, lower: int24, upper: int24, amount: uint128, data: Bytes[32]) -> (uint256, uint256): nonpayable
    def burn(lower: int24, upper: int24, amount: uint128) -> (uint256, uint256): nonpayable

interface Algebra:
    def mint(
        sender: address, recipient: address, lower: int24, upper: int24, amount: uint128, data: Bytes[32]
    ) -> (uint256, uint256, uint128): nonpayable
    def burn(lower: int24, upper: int24, amount: uint128, data: Bytes[32]) -> (uint256, uint256): nonpayable

struct Key:
    currency0: address
    currency1: address
    fee: uint24
    tick_spacing: int24
    hooks: address

struct SwapParams:
    zero_for_one: bool
    amount_specified: int256
    limit: uint160

struct Settings:
    take_claims: bool
    settle_using_burn: bool

interface V4Router:
    def swap(key: Key, params: SwapParams, settings: Settings, data: Bytes[32]) -> int256: payable

interface V4Manager:
    def extsload(slot: bytes32) -> bytes32: view


@external
def approve(token: address, spender: address):
    extcall Token(token).approve(spender, max_value(uint256))


@external
def mint_v3(pool: address, lower: int24, upper: int24, amount: uint128):
    extcall UniswapV3(pool).mint(self, lower, upper, amount, b"")


@external
def burn_v3(pool: address, lower: int24, upper: int24, amount: uint128):
    extcall UniswapV3(pool).burn(lower, upper, amount)


@external
def mint_algebra(pool: address, lower: int24, upper: int24, amount: uint128):
    extcall Algebra(pool).mint(self, self, lower, upper, amount, b"")


@external
def burn_algebra(pool: address, lower: int24, upper: int24, amount: uint128):
    extcall Algebra(pool).burn(lower, upper, amount, b"")


@external
def swap(pool: address, state: Bytes[4], zero_for_one: bool, amount: int256, limit: uint160) -> (int256, int256, uint256, int256, uint256):
    """@notice `state` is the selector of the pool's slot0() or globalState(), which begin with price and tick"""
    amount0: int256 = 0
    amount1: int256 = 0
    amount0, amount1 = extcall Pool(pool).swap(self, zero_for_one, amount, limit, b"")
    now: Bytes[64] = raw_call(pool, state, max_outsize=64, is_static_call=True)
    return (
        amount0,
        amount1,
        convert(slice(now, 0, 32), uint256),
        convert(convert(slice(now, 32, 32), bytes32), int256),
        convert(staticcall Pool(pool).liquidity(), uint256),
    )


@external
def swap_v4(
    router: address, manager: address, slot: bytes32, key: Key, zero_for_one: bool, amount: int256, limit: uint160
) -> (int256, uint256, uint256):
    """@return The two deltas in one word, the pool's first word (price, tick and fees) and its liquidity"""
    params: SwapParams = SwapParams(zero_for_one=zero_for_one, amount_specified=amount, limit=limit)
    settings: Settings = Settings(take_claims=False, settle_using_burn=False)
    delta: int256 = extcall V4Router(router).swap(key, params, settings, b"")
    liquidity: bytes32 = convert(convert(slot, uint256) + 3, bytes32)
    return (
        delta,
        convert(staticcall V4Manager(manager).extsload(slot), uint256),
        convert(staticcall V4Manager(manager).extsload(liquidity), uint256),
    )


@external
def uniswapV3MintCallback(amount0: uint256, amount1: uint256, data: Bytes[32]):
    self._pay(convert(amount0, int256), convert(amount1, int256))


@external
def uniswapV3SwapCallback(amount0: int256, amount1: int256, data: Bytes[32]):
    self._pay(amount0, amount1)


@external
def pancakeV3MintCallback(amount0: uint256, amount1: uint256, data: Bytes[32]):
    self._pay(convert(amount0, int256), convert(amount1, int256))


@external
def pancakeV3SwapCallback(amount0: int256, amount1: int256, data: Bytes[32]):
    self._pay(amount0, amount1)


@external
def algebraMintCallback(amount0: uint256, amount1: uint256, data: Bytes[32]):
    self._pay(convert(amount0, int256), convert(amount1, int256))


@external
def algebraSwapCallback(amount0: int256, amount1: int256, data: Bytes[32]):
    self._pay(amount0, amount1)


@internal
def _pay(amount0: int256, amount1: int256):
    if amount0 > 0:
        extcall Token(staticcall Pool(msg.sender).token0()).transfer(msg.sender, convert(amount0, uint256))
    if amount1 > 0:
        extcall Token(staticcall Pool(msg.sender).token1()).transfer(msg.sender, convert(amount1, uint256))
