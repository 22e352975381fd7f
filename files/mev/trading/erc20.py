"""The few ERC-20 and WETH9 calls that capital needs."""

from mev.chain import wire
from mev.chain.abi import encode_call, selector
from mev.domain.market import Address

BALANCE_OF = selector("balanceOf(address)")
TRANSFER = selector("transfer(address,uint256)")
DEPOSIT = selector("deposit()")


def encode_balance_of(account: Address) -> bytes:
    """Calldata of balanceOf(); the answer is base units."""
    return encode_call(BALANCE_OF, account)


def encode_transfer(receiver: Address, amount: int) -> bytes:
    """Calldata of transfer() of `amount` base units."""
    return encode_call(TRANSFER, receiver, amount)


def encode_deposit() -> bytes:
    """Calldata of WETH9's deposit(): the transaction's value becomes wrapped native coin of its sender."""
    return encode_call(DEPOSIT)


def decode_amount(answer: object) -> int:
    """Read one amount from what eth_call answered; 0 where nothing stands at the address called."""
    return wire.quantity(answer) if wire.data(answer) else 0
