# pragma version 0.4.3
# pragma evm-version cancun
"""
@title A stand-in for Curve's StableSwap pools, written by us from their published rules; no contract of Curve's
@dev The interface, the events and the rounding of the pools, in words and code of our own. What differs between them is told by the lines that end in a mark, which
     tests/integration/mev/amm/stable.py rewrites: COINS, FIRST (a pool of 2020: no precision in A, and no A_precise), SIGNED (its getters take int128). With `base` it is a meta pool over that
     pool's LP token, which is its last coin. A real pool lets its A move over a day or more, and its fee after three days; this one at once, and for anybody. Its LP token is itself.
"""

from ethereum.ercs import IERC20


interface Base:
    def get_virtual_price() -> uint256: view


interface Decimals:
    def decimals() -> uint8: view


event TokenExchange:
    buyer: indexed(address)
    sold_id: int128
    tokens_sold: uint256
    bought_id: int128
    tokens_bought: uint256


event AddLiquidity:
    provider: indexed(address)
    token_amounts: uint256[COINS]
    fees: uint256[COINS]
    invariant: uint256
    token_supply: uint256


event RemoveLiquidity:
    provider: indexed(address)
    token_amounts: uint256[COINS]
    fees: uint256[COINS]
    token_supply: uint256


event RemoveLiquidityImbalance:
    provider: indexed(address)
    token_amounts: uint256[COINS]
    fees: uint256[COINS]
    invariant: uint256
    token_supply: uint256


event RemoveLiquidityOne:
    provider: indexed(address)
    token_amount: uint256
    coin_amount: uint256
    token_supply: uint256


event RampA:
    old_A: uint256
    new_A: uint256
    initial_time: uint256
    future_time: uint256


event StopRampA:
    A: uint256
    t: uint256


event NewFee:
    fee: uint256
    admin_fee: uint256


event Transfer:
    sender: indexed(address)
    receiver: indexed(address)
    amount: uint256


COINS: constant(uint256) = 3  # mark
FIRST: constant(bool) = False  # mark
ONE: constant(uint256) = 10**18
FEE_ONE: constant(uint256) = 10**10
CACHE_SECONDS: constant(uint256) = 600

decimals: public(constant(uint8)) = 18
fee: public(uint256)
admin_fee: public(uint256)
initial_A: public(uint256)
future_A: public(uint256)
initial_A_time: public(uint256)
future_A_time: public(uint256)
balanceOf: public(HashMap[address, uint256])
allowance: public(HashMap[address, HashMap[address, uint256]])
totalSupply: public(uint256)
held: uint256[COINS]
tokens: address[COINS]
scales: uint256[COINS]
base: address
remembered: uint256
since: uint256


@deploy
def __init__(tokens: address[COINS], a: uint256, fee: uint256, admin_fee: uint256, base: address):
    for k: uint256 in range(COINS):
        self.scales[k] = 10 ** (36 - convert(staticcall Decimals(tokens[k]).decimals(), uint256))
    self.tokens = tokens
    self.initial_A = a * self._precision()
    self.future_A = a * self._precision()
    self.fee = fee
    self.admin_fee = admin_fee
    self.base = base


@view
@external
def coins(k: uint256) -> address:  # mark
    return self.tokens[k]


@view
@external
def balances(k: uint256) -> uint256:  # mark
    return self.held[k]


@view
@external
def base_pool() -> address:
    assert self.base != empty(address)
    return self.base


@view
@external
def base_virtual_price() -> uint256:
    assert self.base != empty(address)
    return self.remembered


@view
@external
def base_cache_updated() -> uint256:
    assert self.base != empty(address)
    return self.since


@view
@external
def A() -> uint256:
    return self._a() // self._precision()


@view
@external
def A_precise() -> uint256:  # mark
    return self._a()


@view
@external
def get_virtual_price() -> uint256:
    return self._d(self._xp(self.held, self._rates())) * ONE // self.totalSupply


@view
@external
def get_dy(i: int128, j: int128, dx: uint256) -> uint256:
    rates: uint256[COINS] = self._rates()
    gross: uint256 = self._gross(convert(i, uint256), convert(j, uint256), dx, rates)
    rate: uint256 = rates[convert(j, uint256)]
    if FIRST:
        dy: uint256 = gross * ONE // rate
        return dy - self.fee * dy // FEE_ONE
    return (gross - self.fee * gross // FEE_ONE) * ONE // rate


@external
@nonreentrant
def exchange(i: int128, j: int128, dx: uint256, min_dy: uint256) -> uint256:  # mark
    one: uint256 = convert(i, uint256)
    other: uint256 = convert(j, uint256)
    rates: uint256[COINS] = self._remembered_rates()
    gross: uint256 = self._gross(one, other, dx, rates)
    charged: uint256 = gross * self.fee // FEE_ONE
    dy: uint256 = (gross - charged) * ONE // rates[other]
    assert dy >= min_dy, "slippage"
    self.held[one] += dx
    self.held[other] -= dy + charged * self.admin_fee // FEE_ONE * ONE // rates[other]
    assert extcall IERC20(self.tokens[one]).transferFrom(msg.sender, self, dx, default_return_value=True)
    assert extcall IERC20(self.tokens[other]).transfer(msg.sender, dy, default_return_value=True)
    log TokenExchange(buyer=msg.sender, sold_id=i, tokens_sold=dx, bought_id=j, tokens_bought=dy)
    return dy  # mark


@external
@nonreentrant
def add_liquidity(amounts: uint256[COINS], min_mint_amount: uint256):
    rates: uint256[COINS] = self._remembered_rates()
    old: uint256[COINS] = self.held
    grown: uint256[COINS] = old
    for k: uint256 in range(COINS):
        assert self.totalSupply > 0 or amounts[k] > 0, "all coins at first"
        grown[k] += amounts[k]
    d1: uint256 = self._d(self._xp(grown, rates))
    fees: uint256[COINS] = empty(uint256[COINS])
    minted: uint256 = d1
    if self.totalSupply == 0:
        self.held = grown
    else:
        d0: uint256 = self._d(self._xp(old, rates))
        assert d1 > d0
        fees = self._charge(old, grown, d0, d1)
        for k: uint256 in range(COINS):
            grown[k] -= fees[k]
        minted = self.totalSupply * (self._d(self._xp(grown, rates)) - d0) // d0
    assert minted >= min_mint_amount, "slippage"
    for k: uint256 in range(COINS):
        if amounts[k] > 0:
            assert extcall IERC20(self.tokens[k]).transferFrom(msg.sender, self, amounts[k], default_return_value=True)
    self._mint(msg.sender, minted)
    log AddLiquidity(
        provider=msg.sender, token_amounts=amounts, fees=fees, invariant=d1, token_supply=self.totalSupply
    )


@external
@nonreentrant
def remove_liquidity(amount: uint256, min_amounts: uint256[COINS]):
    given: uint256[COINS] = empty(uint256[COINS])
    for k: uint256 in range(COINS):
        given[k] = self.held[k] * amount // self.totalSupply
        assert given[k] >= min_amounts[k], "slippage"
        self.held[k] -= given[k]
        assert extcall IERC20(self.tokens[k]).transfer(msg.sender, given[k], default_return_value=True)
    self._burn(msg.sender, amount)
    log RemoveLiquidity(
        provider=msg.sender, token_amounts=given, fees=empty(uint256[COINS]), token_supply=self.totalSupply
    )


@external
@nonreentrant
def remove_liquidity_imbalance(amounts: uint256[COINS], max_burn_amount: uint256):
    rates: uint256[COINS] = self._remembered_rates()
    old: uint256[COINS] = self.held
    left: uint256[COINS] = old
    for k: uint256 in range(COINS):
        left[k] -= amounts[k]
    d0: uint256 = self._d(self._xp(old, rates))
    d1: uint256 = self._d(self._xp(left, rates))
    fees: uint256[COINS] = self._charge(old, left, d0, d1)
    for k: uint256 in range(COINS):
        left[k] -= fees[k]
    burnt: uint256 = (d0 - self._d(self._xp(left, rates))) * self.totalSupply // d0 + 1
    assert burnt <= max_burn_amount, "slippage"
    self._burn(msg.sender, burnt)
    for k: uint256 in range(COINS):
        if amounts[k] > 0:
            assert extcall IERC20(self.tokens[k]).transfer(msg.sender, amounts[k], default_return_value=True)
    log RemoveLiquidityImbalance(
        provider=msg.sender, token_amounts=amounts, fees=fees, invariant=d1, token_supply=self.totalSupply
    )


@external
@nonreentrant
def remove_liquidity_one_coin(amount: uint256, i: int128, min_amount: uint256):
    k: uint256 = convert(i, uint256)
    rates: uint256[COINS] = self._remembered_rates()
    xp: uint256[COINS] = self._xp(self.held, rates)
    d0: uint256 = self._d(xp)
    d1: uint256 = d0 - amount * d0 // self.totalSupply
    y: uint256 = self._y(xp, k, d1)
    whole: uint256 = (xp[k] - y) * ONE // rates[k]
    fee: uint256 = self.fee * COINS // (4 * (COINS - 1))
    reduced: uint256[COINS] = xp
    for n: uint256 in range(COINS):
        expected: uint256 = xp[n] - xp[n] * d1 // d0
        if n == k:
            expected = xp[n] * d1 // d0 - y
        reduced[n] -= fee * expected // FEE_ONE
    dy: uint256 = (reduced[k] - self._y(reduced, k, d1) - 1) * ONE // rates[k]
    assert dy >= min_amount, "slippage"
    self.held[k] -= dy + (whole - dy) * self.admin_fee // FEE_ONE
    self._burn(msg.sender, amount)
    assert extcall IERC20(self.tokens[k]).transfer(msg.sender, dy, default_return_value=True)
    log RemoveLiquidityOne(
        provider=msg.sender, token_amount=amount, coin_amount=dy, token_supply=self.totalSupply
    )


@external
def ramp_A(future_a: uint256, future_time: uint256):
    self.initial_A = self._a()
    self.future_A = future_a * self._precision()
    self.initial_A_time = block.timestamp
    self.future_A_time = future_time
    log RampA(old_A=self.initial_A, new_A=self.future_A, initial_time=block.timestamp, future_time=future_time)


@external
def stop_ramp_A():
    now: uint256 = self._a()
    self.initial_A = now
    self.future_A = now
    self.initial_A_time = block.timestamp
    self.future_A_time = block.timestamp
    log StopRampA(A=now, t=block.timestamp)


@external
def set_fee(fee: uint256, admin_fee: uint256):
    self.fee = fee
    self.admin_fee = admin_fee
    log NewFee(fee=fee, admin_fee=admin_fee)


@external
def donate_admin_fees():
    for k: uint256 in range(COINS):
        self.held[k] = staticcall IERC20(self.tokens[k]).balanceOf(self)


@external
def approve(spender: address, amount: uint256) -> bool:
    self.allowance[msg.sender][spender] = amount
    return True


@external
def transfer(receiver: address, amount: uint256) -> bool:
    self.balanceOf[msg.sender] -= amount
    self.balanceOf[receiver] += amount
    log Transfer(sender=msg.sender, receiver=receiver, amount=amount)
    return True


@external
def transferFrom(sender: address, receiver: address, amount: uint256) -> bool:
    self.allowance[sender][msg.sender] -= amount
    self.balanceOf[sender] -= amount
    self.balanceOf[receiver] += amount
    log Transfer(sender=sender, receiver=receiver, amount=amount)
    return True


@internal
def _mint(receiver: address, amount: uint256):
    self.balanceOf[receiver] += amount
    self.totalSupply += amount
    log Transfer(sender=empty(address), receiver=receiver, amount=amount)


@internal
def _burn(holder: address, amount: uint256):
    self.balanceOf[holder] -= amount
    self.totalSupply -= amount
    log Transfer(sender=holder, receiver=empty(address), amount=amount)


@internal
def _charge(old: uint256[COINS], new: uint256[COINS], d0: uint256, d1: uint256) -> uint256[COINS]:
    fees: uint256[COINS] = empty(uint256[COINS])
    fee: uint256 = self.fee * COINS // (4 * (COINS - 1))
    for k: uint256 in range(COINS):
        ideal: uint256 = d1 * old[k] // d0
        fees[k] = fee * (max(ideal, new[k]) - min(ideal, new[k])) // FEE_ONE
        self.held[k] = new[k] - fees[k] * self.admin_fee // FEE_ONE
    return fees


@view
@internal
def _precision() -> uint256:
    return 1 if FIRST else 100


@view
@internal
def _a() -> uint256:
    one: uint256 = self.initial_A
    other: uint256 = self.future_A
    if block.timestamp >= self.future_A_time:
        return other
    passed: uint256 = block.timestamp - self.initial_A_time
    whole: uint256 = self.future_A_time - self.initial_A_time
    if other > one:
        return one + (other - one) * passed // whole
    return one - (one - other) * passed // whole


@view
@internal
def _rates() -> uint256[COINS]:
    rates: uint256[COINS] = self.scales
    if self.base != empty(address):
        rates[COINS - 1] = self.remembered
        if block.timestamp > self.since + CACHE_SECONDS:
            rates[COINS - 1] = staticcall Base(self.base).get_virtual_price()
    return rates


@internal
def _remembered_rates() -> uint256[COINS]:
    rates: uint256[COINS] = self._rates()
    if self.base != empty(address) and block.timestamp > self.since + CACHE_SECONDS:
        self.remembered = rates[COINS - 1]
        self.since = block.timestamp
    return rates


@pure
@internal
def _xp(balances: uint256[COINS], rates: uint256[COINS]) -> uint256[COINS]:
    xp: uint256[COINS] = balances
    for k: uint256 in range(COINS):
        xp[k] = balances[k] * rates[k] // ONE
    return xp


@view
@internal
def _gross(i: uint256, j: uint256, dx: uint256, rates: uint256[COINS]) -> uint256:
    assert i != j and i < COINS and j < COINS
    xp: uint256[COINS] = self._xp(self.held, rates)
    moved: uint256[COINS] = xp
    moved[i] += dx * rates[i] // ONE
    return xp[j] - self._y(moved, j, self._d(xp)) - 1


@view
@internal
def _d(xp: uint256[COINS]) -> uint256:
    s: uint256 = 0
    for x: uint256 in xp:
        s += x
    if s == 0:
        return 0
    leverage: uint256 = self._a() * COINS
    p: uint256 = self._precision()
    d: uint256 = s
    for step: uint256 in range(255):
        product: uint256 = d
        for x: uint256 in xp:
            product = product * d // (x * COINS)
        before: uint256 = d
        d = (leverage * s // p + product * COINS) * d // ((leverage - p) * d // p + (COINS + 1) * product)
        if max(d, before) - min(d, before) <= 1:
            return d
    raise "no convergence"


@view
@internal
def _y(xp: uint256[COINS], j: uint256, d: uint256) -> uint256:
    leverage: uint256 = self._a() * COINS
    p: uint256 = self._precision()
    c: uint256 = d
    s: uint256 = 0
    for k: uint256 in range(COINS):
        if k != j:
            s += xp[k]
            c = c * d // (xp[k] * COINS)
    c = c * d * p // (leverage * COINS)
    b: uint256 = s + d * p // leverage
    y: uint256 = d
    for step: uint256 in range(255):
        before: uint256 = y
        y = (y * y + c) // (2 * y + b - d)
        if max(y, before) - min(y, before) <= 1:
            return y
    raise "no convergence"
