"""A published Aave market beside the seeded pairs, a borrower in it, and prices that fall."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mev.domain import Seizure
from mev.trading import erc20

from tests.integration.mev.amm.conftest import Bench
from tests.integration.mev.conftest import NATIVE_WEI, Account, raw, text
from tests.integration.mev.lending.aave import Aave
from tests.integration.mev.test_executor import Pools, reserves

if TYPE_CHECKING:
    from lab.evm.devnode import DevNode
    from lab.evm.npm import Modules

WHOLE_USDC = 10**6


class Crash:
    """A borrower of dollars against native coin, or the other way round, and a price that makes it liquidatable."""

    def __init__(self, evm: DevNode, modules: Modules, published: Modules, owner: Account, pools: Pools) -> None:
        self.percent = 100
        self.evm = evm
        bank = evm.deployment.bank
        evm.rpc.call("anvil_impersonateAccount", bank)
        self.bench = Bench(evm.rpc, modules, bank)
        self.weth, self.usdc = evm.deployment.wrapped_native, evm.deployment.token("USDC").address
        self.pair = pools["uniswap_v2", frozenset({"WETH", "USDC"})]
        self.aave = Aave(self.bench, published)
        # What the pair says, in dollars of 8 decimals.
        by_order = reserves(owner, self.pair)
        native, dollars = by_order if self.pair.token0 == raw(self.weth) else by_order[::-1]
        self.price = dollars * 10**12 * 10**8 // native
        self.aave.list(self.weth, self.price)
        self.aave.list(self.usdc, 10**8)
        self.borrower = f"0x{0xB0B:040x}"
        evm.rpc.call("anvil_impersonateAccount", self.borrower)
        for account in (bank, self.borrower):
            evm.fund(account, 10_000 * NATIVE_WEI)
            self.bench.send(self.usdc, "mint(uint256)", 10**7 * WHOLE_USDC, sender=account)
            deposit = {"from": account, "to": self.weth, "data": text(erc20.encode_deposit())}
            sent = evm.rpc.call(
                "eth_sendTransaction", {**deposit, "value": hex(2000 * NATIVE_WEI), "gas": hex(100_000)}
            )
            assert evm.receipt(sent)["status"] == "0x1"
        self.aave.supply(bank, self.usdc, 10**6 * WHOLE_USDC)
        self.aave.supply(bank, self.weth, 1000 * NATIVE_WEI)

    def dollars_owed(self, *, falls: bool = True) -> None:
        """The borrower owes dollars against native coin, whose price falls by a tenth."""
        self.aave.supply(self.borrower, self.weth, 10 * NATIVE_WEI)
        self.aave.borrow(self.borrower, self.usdc, 10 * self.price * 74 // 100 * WHOLE_USDC // 10**8)
        self.percent = 90
        if falls:
            self.falls()

    def another(self, number: int, percent: int) -> str:
        """Make a further borrower, who owes dollars of so many hundredths of his native coin."""
        user = f"0x{0xB0B0 + number:040x}"
        self.evm.rpc.call("anvil_impersonateAccount", user)
        self.evm.fund(user, 20 * NATIVE_WEI)
        deposit = {"from": user, "to": self.weth, "data": text(erc20.encode_deposit())}
        sent = self.evm.rpc.call("eth_sendTransaction", {**deposit, "value": hex(10 * NATIVE_WEI), "gas": hex(100_000)})
        assert self.evm.receipt(sent)["status"] == "0x1"
        self.aave.supply(user, self.weth, 10 * NATIVE_WEI)
        self.aave.borrow(user, self.usdc, 10 * self.price * percent // 100 * WHOLE_USDC // 10**8)
        return user

    def native_owed(self, *, falls: bool = True) -> None:
        """The borrower owes native coin against dollars, and its price rises by a tenth."""
        self.aave.supply(self.borrower, self.usdc, 10 * self.price * WHOLE_USDC // 10**8)
        self.aave.borrow(self.borrower, self.weth, 10 * NATIVE_WEI * 74 // 100)
        self.percent = 110
        if falls:
            self.falls()

    def falls(self) -> None:
        """Native coin's price moves as it does in this story, in one block."""
        self.aave.price(self.weth, self.price * self.percent // 100)

    def seizure(self, debt: str, collateral: str, after: int) -> Seizure:
        return Seizure(
            pool=raw(self.aave.pool),
            borrower=raw(self.borrower),
            debt=raw(debt),
            collateral=raw(collateral),
            after=after,
        )
