"""Stand-ins for Curve's StableSwap pools between the seeded chain's own tokens: Curve publishes neither bytecode nor sources in a package (curve_standin.vy is ours)."""

from __future__ import annotations

import functools
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from lab.evm.contracts import ZERO_ADDRESS
from tests.integration.mev.amm.forks import give, on
from tests.integration.mev.conftest import CONTRACTS, ROOT, raw, text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.evm.devnode import DevNode
    from lab.evm.npm import Modules

FEE, ADMIN_FEE = 4 * 10**6, 5 * 10**9
FOREVER = 2**256 - 1


@functools.cache
def standin(coins: int, *, first: bool = False) -> str:
    """Return the stand-in's creation code: of a pool of 2020 (int128 getters, no precision in A, an exchange that returns nothing), or of the templates since."""
    source = (CONTRACTS / "curve_standin.vy").read_text()
    marks = {"COINS: constant(uint256) = 3  # mark": f"COINS: constant(uint256) = {coins}"}
    if first:
        marks |= {
            "FIRST: constant(bool) = False  # mark": "FIRST: constant(bool) = True",
            "def coins(k: uint256) -> address:  # mark": "def coins(k: int128) -> address:",
            "def balances(k: uint256) -> uint256:  # mark": "def balances(k: int128) -> uint256:",
            "def A_precise() -> uint256:  # mark": "def no_A_precise() -> uint256:",
            "min_dy: uint256) -> uint256:  # mark": "min_dy: uint256):",
            "    return dy  # mark\n": "",
        }
    for mark, instead in marks.items():
        assert source.count(mark) == 1, mark
        source = source.replace(mark, instead)
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "curve_standin.vy"
        file.write_text(source)
        vyper = ROOT / ".venv-build" / "bin" / "vyper"
        done = subprocess.run([vyper, "-f", "bytecode", file], check=True, capture_output=True, text=True)
    return done.stdout.strip()


class Stable:
    """One pool, with liquidity of the account that made it."""

    def __init__(
        self,
        evm: DevNode,
        modules: Modules,
        tokens: Sequence[bytes],
        amounts: Sequence[int],
        amplification: int = 200,
        *,
        first: bool = False,
        base: Stable | None = None,
        fee: int = FEE,
    ) -> None:
        self.evm, self.bench = evm, on(evm, modules)
        self.tokens = list(tokens)
        count = len(tokens)
        ends = [text(token) for token in tokens]
        types = [f"address[{count}]", "uint256", "uint256", "uint256", "address"]
        made = [ends, amplification, fee, ADMIN_FEE, base.at if base else ZERO_ADDRESS]
        self.at: str = self.bench.deploy(standin(count, first=first), types, made)
        self.address = raw(self.at)
        self.base = base
        for token, amount in zip(tokens, amounts, strict=True):
            self.afford(token, 4 * amount)
        self.add(*amounts)

    def afford(self, token: bytes, amount: int) -> None:
        """Give the account as much of a token where it has less, and let the pool take it."""
        [held] = self.bench.ask(["uint256"], text(token), "balanceOf(address)", self.bench.account)
        if held < amount and not (self.base and token == self.base.address):
            give(self.bench, self.evm, token, self.bench.account, amount)
        self.send_to(token, "approve(address,uint256)", self.at, FOREVER)

    def send_to(self, contract: bytes, signature: str, *arguments: object) -> None:
        self.bench.send(text(contract), signature, *arguments)

    def send(self, signature: str, *arguments: object) -> None:
        """Have the account call the pool."""
        self.bench.send(self.at, signature, *arguments)

    def add(self, *amounts: int) -> None:
        self.send(f"add_liquidity(uint256[{len(amounts)}],uint256)", list(amounts), 0)

    def remove(self, shares: int) -> None:
        self.send(f"remove_liquidity(uint256,uint256[{len(self.tokens)}])", shares, [0] * len(self.tokens))

    def remove_imbalance(self, *amounts: int) -> None:
        self.send(f"remove_liquidity_imbalance(uint256[{len(amounts)}],uint256)", list(amounts), FOREVER)

    def remove_one(self, shares: int, i: int) -> None:
        self.send("remove_liquidity_one_coin(uint256,int128,uint256)", shares, i, 0)

    def exchange(self, i: int, j: int, amount: int) -> None:
        self.send("exchange(int128,int128,uint256,uint256)", i, j, amount, 0)

    def shares(self) -> int:
        [held] = self.bench.ask(["uint256"], self.at, "balanceOf(address)", self.bench.account)
        return int(held)
