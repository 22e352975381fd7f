"""Aerodrome's and PancakeSwap V3's factories and pools, and Algebra's pools, between the seeded chain's own tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eth_utils.crypto import keccak
from mev.domain import Algebra as AlgebraPool
from mev.domain import Pool
from mev.market.v4_state import pool_of

from lab.evm.contracts import call_data
from tests.integration.mev.amm.conftest import Bench
from tests.integration.mev.amm.solidity import creation_codes
from tests.integration.mev.amm.venues import KEY, V4, FirstAlgebra, Integral
from tests.integration.mev.conftest import raw, text

if TYPE_CHECKING:
    from lab.evm.devnode import DevNode
    from lab.evm.npm import Modules

AERODROME = "sphere-mezo-solidity-files/domains/aerodrome/contracts"
PANCAKE = "@pancakeswap/v3-core/artifacts/contracts"
PLUGIN = "@cryptoalgebra/integral-base-plugin/artifacts/contracts"
PRICE_ONE = 2**96
# Copies into memory what follows it, and returns that; ten bytes with its own length.
_RETURNS = "61{:04x}80600a3d393df3"
_BLUEPRINT = "fe7100"


def on(evm: DevNode, modules: Modules) -> Bench:
    """A seeded chain as the AMM tests' bench, with the seed's bank as its account."""
    bank = evm.deployment.bank
    evm.rpc.call("anvil_impersonateAccount", bank)
    return Bench(evm.rpc, modules, bank)


def give(bench: Bench, evm: DevNode, token: bytes, receiver: str, amount: int) -> None:
    """Give somebody new tokens, of whichever kind."""
    if text(token) == evm.deployment.wrapped_native.lower():
        evm.fund(bench.account, 10**6 * 10**18)
        call = {"from": bench.account, "to": text(token), "data": "0xd0e30db0", "value": hex(amount)}
        evm.receipt(bench.rpc.call("eth_sendTransaction", call))
    else:
        bench.send(text(token), "mint(uint256)", amount)
    bench.send(text(token), "transfer(address,uint256)", receiver, amount)


class Aerodrome:
    """A Solidly factory as published, with its pools."""

    def __init__(self, evm: DevNode, modules: Modules, published: Modules) -> None:
        self.evm = evm
        self.bench = on(evm, modules)
        sources = [f"{AERODROME}/factories/PoolFactory.sol", f"{AERODROME}/Pool.sol"]
        codes = creation_codes(published, "solc-0.8", sources, {})
        implementation = self.bench.deploy(codes[sources[1]]["Pool"])
        self.factory = self.bench.deploy(codes[sources[0]]["PoolFactory"], ["address"], [implementation])

    def router(self, published: Modules) -> str:
        """Deploy its router, with the registry that says that the factory may be used; nobody forwards and nobody votes."""
        sources = [f"{AERODROME}/Router.sol", f"{AERODROME}/factories/FactoryRegistry.sol"]
        codes = creation_codes(published, "solc-0.8", sources, {})
        nobody = "0x" + 40 * "9"
        registry = self.bench.deploy(
            codes[sources[1]]["FactoryRegistry"], ["address"] * 4, [self.factory, nobody, nobody, nobody]
        )
        ends = [nobody, registry, self.factory, nobody, self.evm.deployment.wrapped_native]
        return self.bench.deploy(codes[sources[0]]["Router"], ["address"] * 5, ends)

    def pool(self, one: bytes, other: bytes, amounts: tuple[int, int], *, stable: bool) -> Pool:
        """Make a pool with base units of each token, a stable one with as much of both; `amounts` are the tokens' in their order."""
        token0, token1 = sorted((one, other))
        pair = (text(token0), text(token1))
        self.bench.send(self.factory, "createPool(address,address,bool)", *pair, stable)
        [made] = self.bench.ask(["address"], self.factory, "getPool(address,address,bool)", *pair, stable)
        for token, amount in zip((token0, token1), amounts, strict=True):
            give(self.bench, self.evm, token, made, amount)
        self.bench.send(made, "mint(address)", self.bench.account)
        return Pool(raw(made), "aerodrome", token0, token1, 0, 1, stable=stable)


class Pancake:
    """PancakeSwap V3's factory and pools as published; the contract between them is ours."""

    def __init__(self, evm: DevNode, modules: Modules, published: Modules) -> None:
        self.evm = evm
        self.bench = on(evm, modules)
        self.driver = self.bench.vyper("pool_driver")
        code = _BLUEPRINT + published.artefact(f"{PANCAKE}/PancakeV3Pool.sol/PancakeV3Pool.json")["bytecode"][2:]
        blueprint = self.bench.deploy(_RETURNS.format(len(code) // 2) + code)
        deployer = self.bench.vyper("pancake_deployer", ["address"], [blueprint])
        factory = published.artefact(f"{PANCAKE}/PancakeV3Factory.sol/PancakeV3Factory.json")["bytecode"]
        self.factory = self.bench.deploy(factory, ["address"], [deployer])

    def pool(
        self, one: bytes, other: bytes, fee: int, sqrt_price_x96: int, liquidity: int, far: int, spacing: int
    ) -> Pool:
        """Make a pool with liquidity up to `far` ticks from zero on both sides."""
        token0, token1 = sorted((one, other))
        pair = (text(token0), text(token1))
        self.bench.send(self.factory, "createPool(address,address,uint24)", *pair, fee)
        [made] = self.bench.ask(["address"], self.factory, "getPool(address,address,uint24)", *pair, fee)
        self.bench.send(made, "initialize(uint160)", sqrt_price_x96)
        for token in (token0, token1):
            give(self.bench, self.evm, token, self.driver, 10**22)
        self.bench.send(self.driver, "mint_v3(address,int24,int24,uint128)", made, -far, far, liquidity)
        return Pool(raw(made), "pancake_v3", token0, token1, 10**6 - fee, 10**6, spacing)


class Algebra(Integral):
    """Algebra Integral's factory and a pool between two given tokens; with `plugin`, its pools have the published plugin that says their fees."""

    def __init__(self, evm: DevNode, modules: Modules, published: Modules, *, plugin: bool = False) -> None:
        self.evm = evm
        self.plugin = plugin
        super().__init__(on(evm, modules), published)
        if plugin:
            code = published.artefact(f"{PLUGIN}/BasePluginV1Factory.sol/BasePluginV1Factory.json")["bytecode"]
            made = self.bench.deploy(code, ["address"], [self.factory])
            self.bench.send(self.factory, "setDefaultPluginFactory(address)", made)

    def pool(self, one: bytes, other: bytes, fee: int, sqrt_price_x96: int, liquidity: int, far: int) -> Pool:
        """Make a pool with liquidity up to `far` ticks from zero on both sides; a plugin has a fee of its own."""
        token0, token1 = sorted((one, other))
        pair = (text(token0), text(token1))
        self.bench.send(self.factory, "createPool(address,address,bytes)", *pair, b"")
        [made] = self.bench.ask(["address"], self.factory, "poolByPair(address,address)", *pair)
        self.bench.send(made, "initialize(uint160)", sqrt_price_x96)
        if not self.plugin:
            self.bench.send(made, "setFee(uint16)", fee)
        for token in (token0, token1):
            give(self.bench, self.evm, token, self.driver, 10**22)
        self.bench.send(self.driver, "mint_algebra(address,int24,int24,uint128)", made, -far, far, liquidity)
        said = AlgebraPool.PLUGIN if self.plugin else AlgebraPool.OWN
        return Pool(raw(made), "algebra", token0, token1, 0, 1, 60, algebra=said)


class First(FirstAlgebra):
    """Algebra's first version and a pool between two given tokens, whose fee moves where none is given."""

    def __init__(self, evm: DevNode, modules: Modules, published: Modules) -> None:
        self.evm = evm
        super().__init__(on(evm, modules), published)

    def pool(self, one: bytes, other: bytes, fee: int | None, sqrt_price_x96: int, liquidity: int, far: int) -> Pool:
        """Make a pool with liquidity up to `far` ticks from zero on both sides."""
        token0, token1 = sorted((one, other))
        for token in (token0, token1):
            give(self.bench, self.evm, token, self.driver, 10**22)
        made = self.begin(text(token0), text(token1), fee, sqrt_price_x96)
        self.mint(made, -far, far, liquidity)
        return Pool(raw(made), "algebra", token0, token1, 0, 1, 60, algebra=AlgebraPool.BEFORE_INTEGRAL)


class Managed(V4):
    """Uniswap V4's PoolManager as published, with pools without hooks between given tokens."""

    def __init__(self, evm: DevNode, modules: Modules, published: Modules) -> None:
        self.evm = evm
        # Of which tokens those who provide and swap have some.
        self.given: set[bytes] = set()
        super().__init__(on(evm, modules), published)

    def pool(
        self,
        one: bytes,
        other: bytes,
        fee: int,
        sqrt_price_x96: int,
        liquidity: int,
        far: int,
        spacing: int,
        *,
        native: bool = False,
    ) -> Pool:
        """Make a pool with liquidity up to `far` ticks from zero on both sides; with `native`, of the coin of which `one` is the wrapped form."""
        token0, token1 = (one, other) if native else sorted((one, other))
        made = pool_of("uniswap_v4", raw(self.manager), (token0, token1), fee, spacing, native=native)
        nobody = "0x" + 40 * "0"
        key = (nobody if native else text(token0), text(token1), fee, spacing, nobody)
        self.keys[self._slot(made)] = key
        for token in (token0, token1):
            if token not in self.given:
                self.given.add(token)
                give(self.bench, self.evm, token, self.bench.account, 10**22)
            for spender in (self.provider, self.router):
                self.bench.send(text(token), "approve(address,uint256)", spender, 2**256 - 1)
        self.bench.send(self.manager, f"initialize({KEY},uint160)", key, sqrt_price_x96)
        self.provide(made, -far, far, liquidity)
        return made

    def provide(self, pool: Pool, lower: int, upper: int, liquidity: int) -> None:
        """Put liquidity in, or with a negative amount take it out."""
        assert pool.v4 is not None
        signature = f"modifyLiquidity({KEY},(int24,int24,int256,bytes32),bytes)"
        self._pay(pool, self.provider, signature, (lower, upper, liquidity, bytes(32)), b"")

    def _pay(self, pool: Pool, to: str, signature: str, *arguments: object) -> None:
        """Call with a pool's key and, where it is the native coin's, more of it than is needed: the rest comes back."""
        assert pool.v4 is not None
        data = call_data(signature, self.keys[self._slot(pool)], *arguments)
        value = 10**21 if pool.v4.native else 0
        if value:
            self.evm.fund(self.bench.account, 10**24)
        call = {"from": self.bench.account, "to": to, "data": text(data), "value": hex(value), "gas": hex(10**7)}
        receipt = self.evm.receipt(self.bench.rpc.call("eth_sendTransaction", call))
        assert receipt["status"] == "0x1"

    def swap_in(self, pool: Pool, amount: int, *, zero_for_one: bool) -> None:
        """Have somebody swap."""
        limit = 4295128740 if zero_for_one else 2**159
        signature = f"swap({KEY},(bool,int256,uint160),(bool,bool),bytes)"
        self._pay(pool, self.router, signature, (zero_for_one, -amount, limit), (False, False), b"")

    def set_protocol_fee(self, pool: Pool, zero_for_one: int, one_for_zero: int) -> None:
        """Let the protocol take millionths beside the pool's fee."""
        fees = zero_for_one | one_for_zero << 12
        self.bench.send(self.manager, f"setProtocolFee({KEY},uint24)", self.keys[self._slot(pool)], fees)

    @staticmethod
    def _slot(pool: Pool) -> str:
        assert pool.v4 is not None
        return "0x" + keccak(pool.v4.id + (6).to_bytes(32, "big")).hex()
