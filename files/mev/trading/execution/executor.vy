# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize gas
"""
@title Executor
@license MIT
@notice Takes a cycle of constant-product swaps from its own inventory, all of it or nothing.
@dev No token is ever approved and only the cycle's own token leaves the contract before the last check, so
     whatever a pair or a token of the path does, the call ends with the promised profit or is as if it never was.
     Swap outputs are computed from what each pair really received: a token that takes a fee on transfer lowers the
     profit, and the last check judges it.
"""

from ethereum.ercs import IERC20


interface Pair:
    def getReserves() -> (uint112, uint112, uint32): view
    def swap(amount0_out: uint256, amount1_out: uint256, to: address, data: Bytes[1]): nonpayable


# One swap. Of what the pair receives, fee_numerator / fee_denominator takes part (997/1000 for Uniswap V2).
struct Hop:
    pair: address
    token_in: address
    zero_for_one: bool
    fee_numerator: uint256
    fee_denominator: uint256


MAX_HOPS: constant(uint256) = 4

owner: public(immutable(address))


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
    assert msg.sender == owner, "not owner"
    assert deadline_block == 0 or block.number <= deadline_block, "deadline"
    count: uint256 = len(hops)
    assert count >= 2, "no cycle"

    token: address = hops[0].token_in
    balance_before: uint256 = staticcall IERC20(token).balanceOf(self)
    assert extcall IERC20(token).transfer(hops[0].pair, amount_in, default_return_value=True), "transfer"
    for i: uint256 in range(count, bound=MAX_HOPS):
        self._swap(hops[i], hops[i + 1].pair if i + 1 < count else self)

    balance_after: uint256 = staticcall IERC20(token).balanceOf(self)
    assert balance_after >= balance_before + min_profit, "profit"
    return balance_after - balance_before


@external
@nonreentrant
def withdraw(token: address, amount: uint256):
    """
    @notice Give `amount` base units of `token` back to the owner.
    """
    assert msg.sender == owner, "not owner"
    assert extcall IERC20(token).transfer(owner, amount, default_return_value=True), "transfer"


@internal
def _swap(hop: Hop, to: address):
    reserve0: uint112 = 0
    reserve1: uint112 = 0
    updated_at: uint32 = 0
    reserve0, reserve1, updated_at = staticcall Pair(hop.pair).getReserves()
    reserve_in: uint256 = convert(reserve0 if hop.zero_for_one else reserve1, uint256)
    reserve_out: uint256 = convert(reserve1 if hop.zero_for_one else reserve0, uint256)

    received: uint256 = staticcall IERC20(hop.token_in).balanceOf(hop.pair) - reserve_in
    effective: uint256 = received * hop.fee_numerator
    amount_out: uint256 = effective * reserve_out // (reserve_in * hop.fee_denominator + effective)
    if hop.zero_for_one:
        extcall Pair(hop.pair).swap(0, amount_out, to, b"")
    else:
        extcall Pair(hop.pair).swap(amount_out, 0, to, b"")
