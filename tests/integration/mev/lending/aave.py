"""Aave V3.6 as published, compiled from its sources and deployed; a market of a few assets with price feeds that are set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eth_abi.abi import encode
from eth_utils.address import to_checksum_address

from lab.evm.contracts import ZERO_ADDRESS
from tests.integration.mev.amm.solidity import creation_codes, linked

if TYPE_CHECKING:
    from lab.evm.npm import Modules
    from tests.integration.mev.amm.conftest import Bench

CONTRACTS = "@aave-dao/aave-v3-origin/src/contracts"
POOL = f"{CONTRACTS}/instances/PoolInstance.sol"
CONFIGURATOR = f"{CONTRACTS}/instances/PoolConfiguratorInstance.sol"
A_TOKEN = f"{CONTRACTS}/instances/ATokenInstance.sol"
DEBT_TOKEN = f"{CONTRACTS}/instances/VariableDebtTokenInstance.sol"
ORACLE = f"{CONTRACTS}/misc/AaveOracle.sol"
RATES = f"{CONTRACTS}/misc/DefaultReserveInterestRateStrategyV2.sol"
PROVIDER = f"{CONTRACTS}/protocol/configuration/PoolAddressesProvider.sol"
ROLES = f"{CONTRACTS}/protocol/configuration/ACLManager.sol"
LOGIC = f"{CONTRACTS}/protocol/libraries/logic"
# The order in which each has what it links.
LIBRARIES = ("BorrowLogic", "FlashLoanLogic", "LiquidationLogic", "PoolLogic", "SupplyLogic", "ConfiguratorLogic")
ALIASES = {"openzeppelin-contracts/": "@openzeppelin/"}
RESERVE = "(address,address,address,string,string,string,string,bytes,bytes)"
UNLIMITED = 2**256 - 1
# Ten-thousandths: loan to value, threshold, bonus.
TERMS = (7500, 8000, 10500)
PROTOCOL_FEE = 1000


class Aave:
    """One market; the bench's account governs it."""

    def __init__(self, bench: Bench, published: Modules) -> None:
        self.bench = bench
        self.feeds: dict[str, str] = {}
        codes = creation_codes(
            published,
            "solc-0.8",
            [POOL, CONFIGURATOR, A_TOKEN, DEBT_TOKEN, ORACLE, RATES, PROVIDER, ROLES],
            ALIASES,
        )
        libraries: dict[str, str] = {}

        def deployed(source: str, types: tuple[str, ...] = (), arguments: tuple[object, ...] = ()) -> str:
            name = source.rpartition("/")[2].removesuffix(".sol")
            return bench.deploy(linked(codes[source][name], libraries), types, arguments)

        for name in LIBRARIES:
            libraries[f"{LOGIC}/{name}.sol:{name}"] = deployed(f"{LOGIC}/{name}.sol")
        self.provider = deployed(PROVIDER, ("string", "address"), ("lab", bench.account))
        self.rates = deployed(RATES, ("address",), (self.provider,))
        bench.send(self.provider, "setACLAdmin(address)", bench.account)
        roles = deployed(ROLES, ("address",), (self.provider,))
        bench.send(self.provider, "setACLManager(address)", roles)
        bench.send(roles, "addPoolAdmin(address)", bench.account)
        self.oracle = deployed(
            ORACLE,
            ("address", "address[]", "address[]", "address", "address", "uint256"),
            (self.provider, [], [], ZERO_ADDRESS, ZERO_ADDRESS, 10**8),
        )
        bench.send(self.provider, "setPriceOracle(address)", self.oracle)
        bench.send(
            self.provider,
            "setPoolImpl(address)",
            deployed(POOL, ("address", "address"), (self.provider, self.rates)),
        )
        bench.send(self.provider, "setPoolConfiguratorImpl(address)", deployed(CONFIGURATOR))
        [self.pool] = bench.ask(["address"], self.provider, "getPool()")
        [self.configurator] = bench.ask(["address"], self.provider, "getPoolConfigurator()")
        self.pool, self.configurator = to_checksum_address(self.pool), to_checksum_address(self.configurator)
        treasury = "0x" + "7e" * 20
        self._tokens = (
            deployed(A_TOKEN, ("address", "address", "address"), (self.pool, ZERO_ADDRESS, treasury)),
            deployed(DEBT_TOKEN, ("address", "address"), (self.pool, ZERO_ADDRESS)),
        )

    def list(self, asset: str, price: int, terms: tuple[int, int, int] = TERMS, fee: int = PROTOCOL_FEE) -> None:
        """List an asset at a price in dollars of 8 decimals."""
        bench = self.bench
        feed = self.feeds[asset] = bench.vyper("price_feed", ["int256"], [price])
        bench.send(self.oracle, "setAssetSources(address[],address[])", [asset], [feed])
        rates = encode(["uint256"] * 4, [8000, 100, 400, 6000])
        made = (*self._tokens, asset, "aToken", "a", "debt", "d", b"", rates)
        bench.send(self.configurator, f"initReserves({RESERVE}[])", [made])
        bench.send(self.configurator, "setReserveBorrowing(address,bool)", asset, True)
        bench.send(self.configurator, "configureReserveAsCollateral(address,uint256,uint256,uint256)", asset, *terms)
        bench.send(self.configurator, "setLiquidationProtocolFee(address,uint256)", asset, fee)

    def category(self, number: int, terms: tuple[int, int, int], *assets: str) -> None:
        """Make an eMode in which assets are collateral, and can be borrowed."""
        bench = self.bench
        bench.send(self.configurator, "setEModeCategory(uint8,uint16,uint16,uint16,string)", number, *terms, "together")
        for asset in assets:
            bench.send(self.configurator, "setAssetCollateralInEMode(address,uint8,bool)", asset, number, True)
            bench.send(self.configurator, "setAssetBorrowableInEMode(address,uint8,bool)", asset, number, True)

    def price(self, asset: str, price: int) -> None:
        """Set an asset's price."""
        self.bench.send(self.feeds[asset], "set(int256)", price)

    def supply(self, user: str, asset: str, amount: int) -> None:
        """Supply what the user holds."""
        self.bench.send(asset, "approve(address,uint256)", self.pool, UNLIMITED, sender=user)
        self.bench.send(self.pool, "supply(address,uint256,address,uint16)", asset, amount, user, 0, sender=user)

    def borrow(self, user: str, asset: str, amount: int) -> None:
        """Borrow at the variable rate."""
        self.bench.send(
            self.pool, "borrow(address,uint256,uint256,uint16,address)", asset, amount, 2, 0, user, sender=user
        )

    def repay(self, user: str, asset: str, amount: int) -> None:
        """Repay; UNLIMITED is all."""
        self.bench.send(asset, "approve(address,uint256)", self.pool, UNLIMITED, sender=user)
        self.bench.send(self.pool, "repay(address,uint256,uint256,address)", asset, amount, 2, user, sender=user)

    def withdraw(self, user: str, asset: str, amount: int) -> None:
        """Withdraw; UNLIMITED is all."""
        self.bench.send(self.pool, "withdraw(address,uint256,address)", asset, amount, user, sender=user)

    def account(self, user: str) -> tuple[int, int, int]:
        """What the pool says of a user: collateral and debt in dollars of 8 decimals, health factor in wad."""
        told = self.bench.ask(["uint256"] * 6, self.pool, "getUserAccountData(address)", user)
        return told[0], told[1], told[5]

    def a_token(self, asset: str) -> str:
        """The aToken of an asset."""
        return str(self.bench.ask(["address"], self.pool, "getReserveAToken(address)", asset)[0])
