"""A signer, its executor and its capital on a real, seeded chain; test tokens compiled from source."""

from __future__ import annotations

import functools
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from mev.domain import Pool
from mev.trading import erc20
from mev.trading.execution import contract
from mev.trading.execution.transaction import Signer, Transaction

if TYPE_CHECKING:
    from lab.evm.devnode import DevNode

ROOT = Path(__file__).parents[3]
CONTRACTS = Path(__file__).parent / "contracts"
NATIVE_WEI = 10**18
CAPITAL_WEI = 20 * NATIVE_WEI


def raw(address: str) -> bytes:
    return bytes.fromhex(address[2:])


def text(content: bytes) -> str:
    return "0x" + content.hex()


def word(value: int | bytes) -> bytes:
    return value.rjust(32, b"\0") if isinstance(value, bytes) else value.to_bytes(32, "big")


@functools.cache
def compiled(name: str) -> str:
    """A test contract's creation code, compiled by the wheel's build environment."""
    vyper = ROOT / ".venv-build" / "bin" / "vyper"
    done = subprocess.run(
        [vyper, "-f", "bytecode", CONTRACTS / f"{name}.vy"], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@dataclass
class Account:
    """One key on one chain; what it sends is mined at once."""

    evm: DevNode
    signer: Signer

    @property
    def address(self) -> bytes:
        return self.signer.address

    def send(self, to: bytes, data: bytes = b"", value_wei: int = 0, gas: int = 3_000_000) -> dict[str, Any]:
        """Send a call and return its receipt, whatever became of it."""
        nonce = int(self.evm.rpc.call("eth_getTransactionCount", text(self.address), "latest"), 16)
        base_fee = int(self.evm.rpc.call("eth_getBlockByNumber", "latest", False)["baseFeePerGas"], 16)
        signed = self.signer.sign(
            Transaction(
                chain_id=self.evm.chain_id,
                nonce=nonce,
                max_priority_fee_wei=10**9,
                max_fee_wei=2 * base_fee + 10**9,
                gas_limit=gas,
                to=to,
                value_wei=value_wei,
                data=data,
            )
        )
        assert self.evm.rpc.call("eth_sendRawTransaction", text(signed.raw)) == text(signed.hash)
        return self.evm.receipt(text(signed.hash))

    def call(self, to: bytes, data: bytes) -> bytes:
        """What a call would return now; raises the node's error where it would revert."""
        call = {"from": text(self.address), "to": text(to), "data": text(data)}
        return raw(self.evm.rpc.call("eth_call", call, "latest"))

    def balance(self, token: bytes, holder: bytes) -> int:
        return int.from_bytes(self.call(token, erc20.encode_balance_of(holder)), "big")

    def create(self, code: str) -> bytes:
        """Create a contract from its creation code, by an account that needs no key."""
        sender = self.evm.deployment.bank
        self.evm.rpc.call("anvil_impersonateAccount", sender)
        sent = self.evm.rpc.call("eth_sendTransaction", {"from": sender, "data": code, "gas": hex(6_000_000)})
        return raw(self.evm.receipt(sent)["contractAddress"])


@pytest.fixture
def owner(evm: DevNode) -> Account:
    """A signer with native coin."""
    signer = Signer(bytes(31) + b"\x17")
    evm.fund(text(signer.address), 1000 * NATIVE_WEI)
    return Account(evm, signer)


@pytest.fixture
def stranger(evm: DevNode) -> Account:
    """Somebody else, with native coin too."""
    signer = Signer(bytes(31) + b"\x18")
    evm.fund(text(signer.address), 1000 * NATIVE_WEI)
    return Account(evm, signer)


@pytest.fixture
def wrapped(evm: DevNode) -> bytes:
    return raw(evm.deployment.wrapped_native)


@pytest.fixture
def executor(owner: Account, wrapped: bytes) -> bytes:
    """The owner's executor, deployed, with CAPITAL_WEI of wrapped native coin."""
    address = contract.address(owner.address)
    owner.send(contract.CREATE2_DEPLOYER, contract.encode_deployment(owner.address))
    owner.send(wrapped, erc20.encode_deposit(), CAPITAL_WEI)
    owner.send(wrapped, erc20.encode_transfer(address, CAPITAL_WEI))
    assert owner.balance(wrapped, address) == CAPITAL_WEI
    return address


@pytest.fixture
def pools(evm: DevNode) -> dict[tuple[str, frozenset[str]], Pool]:
    """The seeded V2 pools by their factory's name and their tokens' symbols."""
    found = {}
    for seeded in evm.deployment.pools:
        if seeded.version == 2:
            factory = evm.deployment.factory(seeded.factory)
            found[seeded.factory, frozenset({seeded.token0, seeded.token1})] = Pool(
                address=raw(seeded.address),
                factory=seeded.factory,
                token0=raw(evm.deployment.token(seeded.token0).address),
                token1=raw(evm.deployment.token(seeded.token1).address),
                fee_numerator=factory.fee_numerator,
                fee_denominator=factory.fee_denominator,
            )
    return found
