# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize gas
"""
@title Executor
@license MIT
@notice Takes a cycle of swaps through V2 and Solidly pairs, V3, V4, Balancer and Curve pools from its own inventory, all of it or nothing.
@dev Only the cycle's own token leaves the contract before the last check, so
     whatever a pair or a token of the path does, the call ends with the promised profit or is as if it never was.
     No token is ever approved but to the lending pool of a liquidation, to Balancer's vault and to a Curve pool, for the time of its one call, and no more than it is to take.
     What a hop passes on is what really arrived, not what was promised: a token that takes a fee on transfer lowers
     the profit, and the last check judges it.
     What is held may be split over hops that give the same token: those but the last take their part, the last one the rest.
     A V3 pool gives its output first and asks for its input in a callback. Nobody may call back but the one pool
     that is being swapped, once, for exactly the amount that was put into its swap.
     A V4 pool is a part of its manager, which calls back once it is unlocked: there the swap is made, its input paid and its output taken.
     A step may also be a liquidation on Aave V3: what is held of the debt's token pays a borrower's debt, and the collateral goes on. Or one on
     Compound V3: a borrower is absorbed, and what is held of the base token buys of the collateral that Comet then has for sale.
     With execute_flash() the first hop is paid last, in its pool's callback, out of what the others have brought: then no capital is needed,
     and the last check sees to it that none is used. What the pool gives is measured, and the path was kept here, not brought back by it.
"""

from ethereum.ercs import IERC20


interface Pair:
    def getReserves() -> (uint256, uint256, uint256): view
    def getAmountOut(amount_in: uint256, token_in: address) -> uint256: view
    def swap(amount0_out: uint256, amount1_out: uint256, to: address, data: Bytes[1]): nonpayable


interface Concentrated:
    def swap(
        recipient: address, zero_for_one: bool, amount: int256, sqrt_price_limit_x96: uint160, data: Bytes[1]
    ) -> (int256, int256): nonpayable
    def flash(recipient: address, amount0: uint256, amount1: uint256, data: Bytes[32]): nonpayable


interface LendingPool:
    def liquidationCall(
        collateral: address, debt: address, borrower: address, debt_to_cover: uint256, receive_a_token: bool
    ): nonpayable


interface Comet:
    def absorb(absorber: address, accounts: DynArray[address, 1]): nonpayable
    def buyCollateral(asset: address, min_amount: uint256, base_amount: uint256, recipient: address): nonpayable


struct SingleSwap:
    pool_id: bytes32
    # 0: given in.
    kind: uint8
    asset_in: address
    asset_out: address
    amount: uint256
    user_data: Bytes[1]


struct Funds:
    sender: address
    from_internal_balance: bool
    recipient: address
    to_internal_balance: bool


interface Vault:
    def swap(single: SingleSwap, funds: Funds, limit: uint256, deadline: uint256) -> uint256: nonpayable


# What an older pool gives back of its exchange, nothing or a number, is not read.
interface Exchange:
    def exchange(i: int128, j: int128, dx: uint256, min_dy: uint256): nonpayable


# How a V4 manager knows a pool; hooks are nobody: no code but the manager's runs.
struct PoolKey:
    currency0: address
    currency1: address
    fee: uint24
    tick_spacing: int24
    hooks: address


struct SwapParams:
    zero_for_one: bool
    amount_specified: int256
    sqrt_price_limit_x96: uint160


interface Wrapped:
    def deposit(): payable
    def withdraw(amount: uint256): nonpayable


interface Manager:
    def unlock(data: Bytes[1]) -> Bytes[1]: nonpayable
    def swap(key: PoolKey, params: SwapParams, hook_data: Bytes[1]) -> int256: nonpayable
    def sync(currency: address): nonpayable
    def settle() -> uint256: payable
    def take(currency: address, to: address, amount: uint256): nonpayable


# Native coin that was unwrapped for a V4 pool: what is unwrapped for anything else is not the pool's.
event NativePaid:
    amount: uint256


# One swap. Of what a V2 pair receives, fee_numerator / fee_denominator takes part (997/1000 for Uniswap V2); with a fee_numerator of 0 the pair is
# asked itself what it gives (Solidly: fee and curve are its own). A fee_denominator of 0 marks a V3 pool, which knows its own fee. `part` is how
# much of what is held this hop takes where the next one takes of it too, base units; 0 for all that is left. With a fee_denominator of 0, a fee_numerator that is not 0 marks a
# liquidation: `pair` is Aave's pool, token_in the debt's token, and fee_numerator the borrower's address; the next token is the collateral.
# A fee_denominator of MANAGED marks a V4 pool: `pair` is its manager, fee_numerator the pool's fee from bit 24 on its ticks' spacing,
# and bit 48 whether its first currency is the native coin, of which this contract holds the wrapped form.
# A fee_denominator of VAULTED marks a Balancer pool: `pair` is its vault, and fee_numerator the pool's id.
# A fee_denominator of EXCHANGED marks a Curve pool, and fee_numerator has the number of its coin that goes in, and from bit 8 on of the one that comes out.
# With zero_for_one `pair` is a Comet, and where it is the borrower too nobody is absorbed: what it has for sale already is bought.
# Of execute_flash(), a first hop whose next token is its own is a loan for a fee: zero_for_one says that it is the pool's token1, and of a V3
# pool fee_numerator is how much is lent.
struct Hop:
    pair: address
    token_in: address
    zero_for_one: bool
    fee_numerator: uint256
    fee_denominator: uint256
    part: uint256


MAX_HOPS: constant(uint256) = 8
# More than any pair's fee_denominator.
MANAGED: constant(uint256) = 2**128
VAULTED: constant(uint256) = 2**129
EXCHANGED: constant(uint256) = 2**130
# The prices next to the ends of what a V3 pool can have: no limit.
LOWEST_PRICE: constant(uint160) = 4295128740
HIGHEST_PRICE: constant(uint160) = 1461446703485210103287273052203988822378723970341

owner: public(immutable(address))

# Who may call back, and for what; set for the time of one swap alone.
swapping: transient(address)
owed_token: transient(address)
owed: transient(uint256)
# Of a V4 pool's swap until its manager calls back: the hop, the token that it gives, and who gets that.
managed: transient(Hop)
managed_out: transient(address)
managed_to: transient(address)
# While native coin may come in.
native_due: transient(bool)
# Of execute_flash() until its pool calls back: the path, and what was held of its second token before.
flashing: transient(bool)
path: transient(DynArray[Hop, MAX_HOPS])
held: transient(uint256)


@deploy
def __init__(owner_: address):
    """
    @param owner_ Who alone may execute and withdraw; an argument, because a CREATE2 deployer is the creator.
    """
    assert owner_ != empty(address), "owner is zero"
    owner = owner_


@external
@nonreentrant
def execute(amount_in: uint256, min_profit: uint256, deadline_block: uint256, hops: DynArray[Hop, MAX_HOPS]) -> uint256:
    """
    @notice Swap `amount_in` of the first hop's token through `hops` back to this contract.
    @param amount_in Base units of the cycle's token, out of this contract's balance.
    @param min_profit Base units that the balance must have grown by, or everything reverts.
    @param deadline_block The last block in which this may happen; 0 for no limit.
    @param hops The path; its last hop gives the first hop's token.
    @return How much the balance has grown.
    """
    return self._execute(amount_in, min_profit, deadline_block, hops, False)


@external
@nonreentrant
def execute_flash(amount_in: uint256, min_profit: uint256, deadline_block: uint256, hops: DynArray[Hop, MAX_HOPS]) -> uint256:
    """
    @notice As execute(), but nothing is put in: the first hop's pool gives first, and gets `amount_in` out of what the other hops bring.
    """
    return self._execute(amount_in, min_profit, deadline_block, hops, True)


@external
def uniswapV3SwapCallback(amount0_delta: int256, amount1_delta: int256, data: Bytes[32]):
    """
    @notice Pay a V3 pool for the swap that this contract has just asked it for.
    @param amount0_delta What the pool asks for of its token0, base units; negative for what it has given.
    @param amount1_delta The same of its token1.
    @param data Not used: nothing that a caller brings is believed.
    """
    assert msg.sender == self.swapping, "not the pool"
    # Less than all of it would leave some of a token behind.
    assert max(amount0_delta, amount1_delta) == convert(self.owed, int256), "partial"
    self._pay()


@external
def pancakeV3SwapCallback(amount0_delta: int256, amount1_delta: int256, data: Bytes[32]):
    """
    @notice As uniswapV3SwapCallback(), by the name that PancakeSwap V3's pools call.
    """
    assert msg.sender == self.swapping, "not the pool"
    assert max(amount0_delta, amount1_delta) == convert(self.owed, int256), "partial"
    self._pay()


@external
def algebraSwapCallback(amount0_delta: int256, amount1_delta: int256, data: Bytes[32]):
    """
    @notice As uniswapV3SwapCallback(), by the name that Algebra's pools call.
    """
    assert msg.sender == self.swapping, "not the pool"
    assert max(amount0_delta, amount1_delta) == convert(self.owed, int256), "partial"
    self._pay()


@external
def uniswapV3FlashCallback(fee0: uint256, fee1: uint256, data: Bytes[32]):
    """
    @notice Give back to a V3 pool what it has lent, with its fee.
    """
    assert msg.sender == self.swapping, "not the pool"
    assert self.path[0].fee_numerator + max(fee0, fee1) == self.owed, "partial"
    self._pay()


@external
def pancakeV3FlashCallback(fee0: uint256, fee1: uint256, data: Bytes[32]):
    """
    @notice As uniswapV3FlashCallback(), by the name that PancakeSwap V3's pools call.
    """
    assert msg.sender == self.swapping, "not the pool"
    assert self.path[0].fee_numerator + max(fee0, fee1) == self.owed, "partial"
    self._pay()


@external
def uniswapV2Call(sender: address, amount0: uint256, amount1: uint256, data: Bytes[32]):
    """
    @notice Pay a V2 pair for what it has just given.
    """
    self._pay()


@external
def unlockCallback(data: Bytes[32]) -> Bytes[1]:
    """
    @notice Swap in a V4 pool, as this contract has just asked its manager to be let.
    @param data Not used: nothing that a caller brings is believed.
    @return Nothing that anybody needs.
    """
    assert msg.sender == self.swapping, "not the pool"
    # Before anything else runs: it is let in once.
    self.swapping = empty(address)
    hop: Hop = self.managed
    token_out: address = self.managed_out
    native: bool = hop.fee_numerator >> 48 != 0
    currency_in: address = empty(address) if native and hop.zero_for_one else hop.token_in
    currency_out: address = empty(address) if native and not hop.zero_for_one else token_out
    key: PoolKey = PoolKey(
        currency0=currency_in if hop.zero_for_one else currency_out,
        currency1=currency_out if hop.zero_for_one else currency_in,
        fee=convert(hop.fee_numerator & (2**24 - 1), uint24),
        tick_spacing=convert((hop.fee_numerator >> 24) & (2**24 - 1), int24),
        hooks=empty(address),
    )
    amount: int256 = convert(self.owed, int256)
    delta: int256 = extcall Manager(msg.sender).swap(
        key,
        SwapParams(
            zero_for_one=hop.zero_for_one,
            amount_specified=-amount,
            sqrt_price_limit_x96=LOWEST_PRICE if hop.zero_for_one else HIGHEST_PRICE,
        ),
        b"",
    )
    # Two numbers of 128 bits, token0's above: negative is owed to the manager.
    delta0: int256 = delta >> 128
    delta1: int256 = (delta << 128) >> 128
    # Less than all of it would leave some of a token behind.
    assert (delta0 if hop.zero_for_one else delta1) == -amount, "partial"
    extcall Manager(msg.sender).sync(currency_in)
    if currency_in == empty(address):
        self.native_due = True
        extcall Wrapped(hop.token_in).withdraw(self.owed)
        self.native_due = False
        extcall Manager(msg.sender).settle(value=self.owed)
        log NativePaid(amount=self.owed)
    else:
        assert extcall IERC20(hop.token_in).transfer(msg.sender, self.owed, default_return_value=True), "transfer"
        extcall Manager(msg.sender).settle()
    given: uint256 = convert(delta1 if hop.zero_for_one else delta0, uint256)
    if currency_out != empty(address):
        extcall Manager(msg.sender).take(currency_out, self.managed_to, given)
        return b""
    self.native_due = True
    extcall Manager(msg.sender).take(currency_out, self, given)
    self.native_due = False
    extcall Wrapped(token_out).deposit(value=given)
    if self.managed_to != self:
        assert extcall IERC20(token_out).transfer(self.managed_to, given, default_return_value=True), "transfer"
    return b""


@external
@payable
def __default__():
    """
    @notice Take the native coin that this contract unwraps, or takes from a V4 manager, on its way; nobody else's: it could not be given back.
    """
    assert self.native_due, "no coin"


@external
@nonreentrant
def withdraw(token: address, amount: uint256):
    """
    @notice Give `amount` base units of `token` back to the owner.
    """
    assert msg.sender == owner, "not owner"
    assert extcall IERC20(token).transfer(owner, amount, default_return_value=True), "transfer"


@internal
def _execute(
    amount_in: uint256, min_profit: uint256, deadline_block: uint256, hops: DynArray[Hop, MAX_HOPS], flash: bool
) -> uint256:
    assert msg.sender == owner, "not owner"
    assert deadline_block == 0 or block.number <= deadline_block, "deadline"
    # A liquidation whose collateral is the debt's own token is a cycle by itself.
    assert len(hops) >= 2 or (len(hops) == 1 and not flash and self._is_liquidation(hops[0])), "no cycle"
    # Of what is split, the last hop's rest would stay behind; what is owed is owed by one pool.
    assert hops[len(hops) - 1].part == 0 and not (flash and hops[0].part != 0), "rest"

    token: address = hops[0].token_in
    balance_before: uint256 = staticcall IERC20(token).balanceOf(self)
    if flash:
        self._take(hops, amount_in)
    else:
        self._follow(hops, 0, amount_in)
    balance_after: uint256 = staticcall IERC20(token).balanceOf(self)
    assert balance_after >= balance_before + min_profit, "profit"
    return balance_after - balance_before


@internal
def _take(hops: DynArray[Hop, MAX_HOPS], amount_in: uint256):
    hop: Hop = hops[0]
    lent: bool = hops[1].token_in == hop.token_in
    self.flashing = True
    self.path = hops
    self.held = staticcall IERC20(hops[1].token_in).balanceOf(self)
    self.swapping = hop.pair
    self.owed_token = hop.token_in
    self.owed = amount_in
    if hop.fee_denominator != 0:
        self._swap(hop, self, amount_in, lent)
    elif lent:
        amount0: uint256 = 0 if hop.zero_for_one else hop.fee_numerator
        extcall Concentrated(hop.pair).flash(self, amount0, hop.fee_numerator - amount0, b"")
    else:
        self._swap_concentrated(hop, amount_in, self)
    # One that never called back must not be able to later.
    self.swapping = empty(address)
    self.flashing = False


@internal
def _pay():
    assert msg.sender == self.swapping, "not the pool"
    # Before anything else runs: it is paid once. And what runs may have another pool to pay.
    self.swapping = empty(address)
    token: address = self.owed_token
    amount: uint256 = self.owed
    if self.flashing:
        self.flashing = False
        hops: DynArray[Hop, MAX_HOPS] = self.path
        self._follow(hops, 1, staticcall IERC20(hops[1].token_in).balanceOf(self) - self.held)
    assert extcall IERC20(token).transfer(msg.sender, amount, default_return_value=True), "transfer"


@internal
def _follow(hops: DynArray[Hop, MAX_HOPS], first: uint256, amount_in: uint256):
    token: address = hops[0].token_in
    count: uint256 = len(hops)
    # What is held of the token at hand and no hop has taken; a pair that has been paid by the hop before it looks itself.
    amount: uint256 = amount_in
    paid: bool = False
    # Of a split under way: the hop after it, that one's token, and what was held of it before.
    split: bool = False
    following: uint256 = 0
    next_token: address = empty(address)
    held: uint256 = 0
    for i: uint256 in range(first, count, bound=MAX_HOPS):
        to: address = self
        if split:
            assert hops[i].token_in == hops[i - 1].token_in, "split"
        else:
            following = i + 1
            for j: uint256 in range(i, count, bound=MAX_HOPS):
                if hops[j].part == 0:
                    following = j + 1
                    break
            next_token = empty(address)
            if following < count:
                if following == i + 1 and self._is_pair(hops[following]) and hops[following].part == 0:
                    # A pair is paid before its swap, by the hop before it.
                    to = hops[following].pair
                else:
                    next_token = hops[following].token_in
                    held = staticcall IERC20(next_token).balanceOf(self)
        split = hops[i].part != 0
        taken: uint256 = hops[i].part if split else amount
        amount -= taken

        if hops[i].fee_denominator == MANAGED:
            self._swap_managed(hops[i], taken, token if following == count else hops[following].token_in, to)
        elif hops[i].fee_denominator == VAULTED:
            self._swap_vaulted(hops[i], taken, token if following == count else hops[following].token_in, to)
        elif hops[i].fee_denominator == EXCHANGED:
            self._exchange(hops[i], taken, token if following == count else hops[following].token_in, to)
        elif hops[i].fee_denominator != 0:
            if not paid:
                assert extcall IERC20(hops[i].token_in).transfer(hops[i].pair, taken, default_return_value=True), "transfer"
            self._swap(hops[i], to, 0, False)
        elif self._is_liquidation(hops[i]):
            self._liquidate(hops[i], taken, token if following == count else hops[following].token_in, to, token)
        else:
            self._swap_concentrated(hops[i], taken, to)
        paid = to != self
        if not split and next_token != empty(address):
            amount = staticcall IERC20(next_token).balanceOf(self) - held


@internal
@pure
def _is_pair(hop: Hop) -> bool:
    return hop.fee_denominator != 0 and hop.fee_denominator < MANAGED


@internal
@pure
def _is_liquidation(hop: Hop) -> bool:
    return hop.fee_denominator == 0 and hop.fee_numerator != 0


@internal
def _liquidate(hop: Hop, amount: uint256, collateral: address, to: address, cycle_token: address):
    held: uint256 = staticcall IERC20(hop.token_in).balanceOf(self)
    collateral_before: uint256 = staticcall IERC20(collateral).balanceOf(self)
    assert extcall IERC20(hop.token_in).approve(hop.pair, amount, default_return_value=True), "approve"
    borrower: address = convert(convert(hop.fee_numerator, uint160), address)
    if not hop.zero_for_one:
        extcall LendingPool(hop.pair).liquidationCall(collateral, hop.token_in, borrower, amount, False)
    else:
        if borrower != hop.pair:
            extcall Comet(hop.pair).absorb(self, [borrower])
        extcall Comet(hop.pair).buyCollateral(collateral, 0, amount, self)
    # Whatever the pool took of it: nobody may take anything later.
    assert extcall IERC20(hop.token_in).approve(hop.pair, 0, default_return_value=True), "approve"
    if hop.token_in != cycle_token:
        # A pool that takes less would leave some of it behind; of the cycle's own token the last check knows.
        assert held - staticcall IERC20(hop.token_in).balanceOf(self) == amount, "partial"
    if to != self:
        # The next one is a V2 pair, which is paid before its swap.
        received: uint256 = staticcall IERC20(collateral).balanceOf(self) - collateral_before
        assert extcall IERC20(collateral).transfer(to, received, default_return_value=True), "transfer"


@internal
def _swap(hop: Hop, to: address, owed: uint256, lent: bool):
    reserve0: uint256 = 0
    reserve1: uint256 = 0
    updated_at: uint256 = 0
    reserve0, reserve1, updated_at = staticcall Pair(hop.pair).getReserves()
    reserve_in: uint256 = reserve0 if hop.zero_for_one else reserve1
    reserve_out: uint256 = reserve1 if hop.zero_for_one else reserve0

    # What is owed comes last, and the pair calls back for it.
    data: Bytes[1] = b""
    received: uint256 = owed
    if owed == 0:
        received = staticcall IERC20(hop.token_in).balanceOf(hop.pair) - reserve_in
    else:
        data = b"\x01"
    effective: uint256 = received * hop.fee_numerator
    amount_out: uint256 = effective // hop.fee_denominator
    if hop.fee_numerator == 0:
        amount_out = staticcall Pair(hop.pair).getAmountOut(received, hop.token_in)
    elif not lent:
        amount_out = effective * reserve_out // (reserve_in * hop.fee_denominator + effective)
    if hop.zero_for_one:
        extcall Pair(hop.pair).swap(0, amount_out, to, data)
    else:
        extcall Pair(hop.pair).swap(amount_out, 0, to, data)


@internal
def _swap_concentrated(hop: Hop, amount: uint256, to: address):
    self.swapping = hop.pair
    self.owed_token = hop.token_in
    self.owed = amount
    extcall Concentrated(hop.pair).swap(
        to,
        hop.zero_for_one,
        convert(amount, int256),
        LOWEST_PRICE if hop.zero_for_one else HIGHEST_PRICE,
        b"",
    )
    # One that gave something and asked for nothing must not be able to ask later.
    self.swapping = empty(address)


@internal
def _swap_managed(hop: Hop, amount: uint256, token_out: address, to: address):
    self.swapping = hop.pair
    self.owed = amount
    self.managed = hop
    self.managed_out = token_out
    self.managed_to = to
    extcall Manager(hop.pair).unlock(b"")
    # One that never called back must not be able to later.
    self.swapping = empty(address)


@internal
def _swap_vaulted(hop: Hop, amount: uint256, token_out: address, to: address):
    held: uint256 = staticcall IERC20(hop.token_in).balanceOf(self)
    assert extcall IERC20(hop.token_in).approve(hop.pair, amount, default_return_value=True), "approve"
    extcall Vault(hop.pair).swap(
        SingleSwap(
            pool_id=convert(hop.fee_numerator, bytes32),
            kind=0,
            asset_in=hop.token_in,
            asset_out=token_out,
            amount=amount,
            user_data=b"",
        ),
        Funds(sender=self, from_internal_balance=False, recipient=to, to_internal_balance=False),
        0,
        block.timestamp,
    )
    # Whatever the vault took of it: nobody may take anything later.
    assert extcall IERC20(hop.token_in).approve(hop.pair, 0, default_return_value=True), "approve"
    # Less than all of it would leave some of a token behind.
    assert held - staticcall IERC20(hop.token_in).balanceOf(self) == amount, "partial"


@internal
def _exchange(hop: Hop, amount: uint256, token_out: address, to: address):
    held: uint256 = staticcall IERC20(hop.token_in).balanceOf(self)
    held_out: uint256 = staticcall IERC20(token_out).balanceOf(self)
    assert extcall IERC20(hop.token_in).approve(hop.pair, amount, default_return_value=True), "approve"
    extcall Exchange(hop.pair).exchange(
        convert(hop.fee_numerator & 255, int128), convert(hop.fee_numerator >> 8, int128), amount, 0
    )
    # Whatever the pool took of it: nobody may take anything later.
    assert extcall IERC20(hop.token_in).approve(hop.pair, 0, default_return_value=True), "approve"
    # Less than all of it would leave some of a token behind.
    assert held - staticcall IERC20(hop.token_in).balanceOf(self) == amount, "partial"
    if to != self:
        # The pool gives to who asks it, and the next one is a V2 pair, which is paid before its swap.
        received: uint256 = staticcall IERC20(token_out).balanceOf(self) - held_out
        assert extcall IERC20(token_out).transfer(to, received, default_return_value=True), "transfer"
