"""A stand-in for a Compound V3 market (contracts/comet_standin.vy) beside the seeded pairs: dollars are lent against native coin, whose price falls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mev.domain import Seizure
from mev.trading import erc20

from tests.integration.mev.amm.conftest import Bench
from tests.integration.mev.conftest import NATIVE_WEI, Account, raw, text
from tests.integration.mev.test_executor import Pools, reserves

if TYPE_CHECKING:
    from lab.evm.devnode import DevNode
    from lab.evm.npm import Modules

WHOLE_USDC = 10**6
DOLLAR = 10**8


class CometCrash:
    """Borrowers of dollars against ten native coins each, and a price that can fall."""

    def __init__(self, evm: DevNode, modules: Modules, owner: Account, pools: Pools) -> None:
        bank = evm.deployment.bank
        evm.rpc.call("anvil_impersonateAccount", bank)
        self.evm = evm
        self.bench = Bench(evm.rpc, modules, bank)
        self.weth, self.usdc = evm.deployment.wrapped_native, evm.deployment.token("USDC").address
        self.pair = pools["uniswap_v2", frozenset({"WETH", "USDC"})]
        by_order = reserves(owner, self.pair)
        native, dollars = by_order if self.pair.token0 == raw(self.weth) else by_order[::-1]
        self.price = dollars * 10**12 * DOLLAR // native
        self.feed = self.bench.vyper("price_feed", ["int256"], [self.price])
        base_feed = self.bench.vyper("price_feed", ["int256"], [DOLLAR])
        self.comet = self.bench.vyper(
            "comet_standin",
            ["address", "address", "uint256", "address", "address", "uint256"],
            [self.usdc, base_feed, WHOLE_USDC, self.weth, self.feed, NATIVE_WEI],
        )
        self.bench.send(self.usdc, "mint(uint256)", 10**6 * WHOLE_USDC)
        self.bench.send(self.usdc, "transfer(address,uint256)", self.comet, 10**6 * WHOLE_USDC)
        self.users: list[str] = []

    def borrower(self, percent: int) -> str:
        """Make a borrower of so many hundredths of what his native coin is worth; up to 80 are lent, above 85 he can be absorbed."""
        user = f"0x{0xC0B0 + len(self.users):040x}"
        self.evm.rpc.call("anvil_impersonateAccount", user)
        self.evm.fund(user, 20 * NATIVE_WEI)
        deposit = {"from": user, "to": self.weth, "data": text(erc20.encode_deposit()), "gas": hex(100_000)}
        sent = self.evm.rpc.call("eth_sendTransaction", {**deposit, "value": hex(10 * NATIVE_WEI)})
        assert self.evm.receipt(sent)["status"] == "0x1"
        self.bench.send(self.weth, "approve(address,uint256)", self.comet, 10 * NATIVE_WEI, sender=user)
        self.bench.send(self.comet, "supply(address,uint256)", self.weth, 10 * NATIVE_WEI, sender=user)
        amount = 10 * self.price * percent // 100 * WHOLE_USDC // DOLLAR
        self.bench.send(self.comet, "withdraw(address,uint256)", self.usdc, amount, sender=user)
        self.users.append(user)
        return user

    def falls(self, percent: int = 90) -> None:
        """Native coin's price in the market becomes so many hundredths of the pair's, in one block."""
        self.bench.send(self.feed, "set(int256)", self.price * percent // 100)

    def liquidatable(self, user: str) -> bool:
        return bool(self.bench.ask(["bool"], self.comet, "isLiquidatable(address)", user)[0])

    def seizure(self, user: str) -> Seizure:
        return Seizure(
            pool=raw(self.comet),
            borrower=raw(user),
            debt=raw(self.usdc),
            collateral=raw(self.weth),
            after=1,
            absorbs=True,
        )
