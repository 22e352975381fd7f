"""A bare chain on which tests deploy the published contracts that the mathematics is held against."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from eth_abi.abi import decode, encode
from eth_utils.address import to_checksum_address

from lab.checkout import Checkout
from lab.evm import chains, contracts, devnode, npm
from lab.evm.contracts import call_data
from lab.evm.rpc import RpcError
from tests.integration.mev.conftest import compiled

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from lab.evm.npm import Modules
    from lab.evm.rpc import Rpc

GAS = hex(28_000_000)
RICHES = 2**250

# The contract's own word, or why the node says that it has none.
Answer = tuple[Any, ...] | None


@dataclass
class Bench:
    """A chain and an account that deploys, sends and asks."""

    rpc: Rpc
    modules: Modules
    account: str

    def deploy(self, code: str, types: Sequence[str] = (), arguments: Sequence[object] = ()) -> str:
        """Create a contract and return its address."""
        data = "0x" + code.removeprefix("0x") + encode(types, arguments).hex()
        return str(
            to_checksum_address(self._mined({"from": self.account, "data": data, "gas": GAS})["contractAddress"])
        )

    def send(self, to: str, signature: str, *arguments: object, sender: str | None = None) -> None:
        """Send a call that must succeed."""
        data = "0x" + call_data(signature, *arguments).hex()
        call = {"from": sender or self.account, "to": to, "data": data, "gas": GAS}
        receipt = self._mined(call)
        if receipt["status"] != "0x1":
            # Says why.
            self.rpc.call("eth_call", call, "latest")
            raise AssertionError(signature)

    def ask(
        self, returns: Sequence[str], to: str, signature: str, *arguments: object, sender: str | None = None
    ) -> tuple[Any, ...]:
        """Return what a call returns."""
        [answer] = self.ask_each(returns, [(to, signature, arguments)], sender=sender)
        assert answer is not None, f"{signature} reverts"
        return answer

    def ask_each(
        self,
        returns: Sequence[str],
        calls: Iterable[tuple[str, str, Sequence[object]]],
        *,
        sender: str | None = None,
    ) -> list[Answer]:
        """Return what each call returns in one batch; None for those that revert."""
        questions = [
            (
                "eth_call",
                {
                    "from": sender or self.account,
                    "to": to,
                    "data": "0x" + call_data(signature, *arguments).hex(),
                    "gas": GAS,
                },
                "latest",
            )
            for to, signature, arguments in calls
        ]
        return [
            None if isinstance(answer, RpcError) else decode(returns, bytes.fromhex(answer[2:]))
            for answer in self.rpc.each(questions)
        ]

    def token(self, decimals: int = 18) -> str:
        """Create a token that anybody may mint, and give the account more than anything asks for."""
        code = contracts.bytecode(self.modules, "MintableERC20").hex()
        address = self.deploy(code, ["string", "string", "uint8"], ["Token", "T", decimals])
        self.send(address, "mint(uint256)", RICHES)
        return address

    def tokens(self, *decimals: int) -> list[str]:
        """Create tokens, in the order of their addresses; these decimals, in that order."""
        made = sorted((self.token() for _ in decimals), key=str.lower)
        if all(each == 18 for each in decimals):
            return made
        # An address cannot be known to be the lower one before it is made.
        while True:
            made = [self.token(each) for each in decimals]
            if made == sorted(made, key=str.lower):
                return made

    def vyper(self, name: str, types: Sequence[str] = (), arguments: Sequence[object] = ()) -> str:
        """Deploy one of the tests' own contracts."""
        return self.deploy(compiled(name), types, arguments)

    def _mined(self, call: dict[str, str]) -> dict[str, Any]:
        return devnode.receipt(self.rpc, self.rpc.call("eth_sendTransaction", call))


@pytest.fixture(scope="session")
def published() -> Modules:
    """The npm packages with the protocols' bytecode, sources and compilers, installed when they are not."""
    checkout = Checkout.here()
    with checkout.locked("npm"):
        return npm.install(checkout.state / "npm-amm", Path(__file__).parent)


@pytest.fixture(scope="session")
def bench(modules: Modules) -> Iterator[Bench]:
    """One empty chain for the session's AMM tests; each deploys what it needs."""
    with devnode.bare(modules, chains.get("ethereum")) as (rpc, _):
        yield Bench(rpc, modules, rpc.call("eth_accounts")[0])
