"""The few ERC-20 and WETH9 calls that capital needs."""

from mev.chain.abi import keccak256
from mev.domain.market import Address

BALANCE_OF = keccak256(b"balanceOf(address)")[:4]
TRANSFER = keccak256(b"transfer(address,uint256)")[:4]
DEPOSIT = keccak256(b"deposit()")[:4]


def encode_balance_of(account: Address) -> bytes:
    """Calldata of balanceOf(); the answer is base units."""
    return BALANCE_OF + account.rjust(32, b"\0")


def encode_transfer(receiver: Address, amount: int) -> bytes:
    """Calldata of transfer() of `amount` base units."""
    return TRANSFER + receiver.rjust(32, b"\0") + amount.to_bytes(32, "big")


def encode_deposit() -> bytes:
    """Calldata of WETH9's deposit(): the transaction's value becomes wrapped native coin of its sender."""
    return DEPOSIT


def decode_amount(answer: str) -> int:
    """Read one amount from what eth_call answered; 0 where nothing stands at the address called."""
    return int(answer, 16) if answer != "0x" else 0
