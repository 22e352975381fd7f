"""What the seed does to a chain, as a fixed list of transactions: the same on every chain and in every run."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from lab.evm.contracts import (
    ZERO_ADDRESS,
    bytecode,
    call_data,
    create_address,
    v2_pair_address,
    v3_pool_address,
)
from lab.evm.deployment import Deployment, Factory, Pool, Token
from lab.evm.draw import uniform

if TYPE_CHECKING:
    from lab.evm.npm import Modules

NATIVE_WEI = 10**18
MAX_UINT256 = 2**256 - 1

# What one whole token is worth, in US dollars: the price that pools are seeded around and traders return to.
DOLLARS = {"WETH": 3000, "USDC": 1, "DAI": 1}
DECIMALS = {"WETH": 18, "USDC": 6, "DAI": 18}
NAMES = {"USDC": "USD Coin", "DAI": "Dai Stablecoin"}

# A pool's first price is this far at most from the others': 1 %, above what two swaps of 0.3 % cost.
SPREAD = 0.01

# (factory, first token, second token, whole tokens of the first, fee in millionths)
POOLS = (
    ("uniswap_v2", "WETH", "USDC", 1000, 3000),
    ("uniswap_v2", "WETH", "DAI", 600, 3000),
    ("uniswap_v2", "USDC", "DAI", 2_000_000, 3000),
    ("sushi_v2", "WETH", "USDC", 700, 3000),
    ("sushi_v2", "WETH", "DAI", 500, 3000),
    ("sushi_v2", "USDC", "DAI", 1_500_000, 3000),
    ("uniswap_v3", "WETH", "USDC", 800, 500),
    ("uniswap_v3", "WETH", "USDC", 500, 3000),
    ("uniswap_v3", "WETH", "DAI", 400, 3000),
)

# What the trader starts with, in whole tokens; it gets itself more when it runs out.
TRADER_CAPITAL = {"WETH": 10_000, "USDC": 30_000_000, "DAI": 30_000_000}

_TICK_SPACING = {500: 10, 3000: 60}
_LAST_TICK = 887_272
_DEPLOY_GAS = 6_000_000
_POOL_GAS = 6_000_000
_CALL_GAS = 200_000


@dataclass(frozen=True, slots=True)
class Step:
    """One transaction: `sender` sends it with `nonce`; `to` is None for a creation."""

    title: str
    sender: str
    nonce: int
    to: str | None
    data: bytes
    value: int
    gas: int


@dataclass(slots=True)
class Plan:
    """The transactions, what they leave behind, and a mark of both for the chain itself."""

    deployment: Deployment
    steps: list[Step]
    mark: str


@dataclass(slots=True)
class _Builder:
    modules: Modules
    deployer: str
    trader: str
    steps: list[Step] = field(default_factory=list)

    def send(  # the step's whole content, each by name
        self, title: str, to: str | None, data: bytes, *, value: int = 0, gas: int = _CALL_GAS, sender: str = ""
    ) -> int:
        sender = sender or self.deployer
        nonce = sum(step.sender == sender for step in self.steps)
        self.steps.append(Step(title, sender, nonce, to, data, value, gas))
        return nonce

    def deploy(self, name: str, types: list[str] | None = None, arguments: list[object] | None = None) -> str:
        code = bytecode(self.modules, name) + encode(types or [], arguments or [])
        return create_address(self.deployer, self.send(f"deploy {name}", None, code, gas=_DEPLOY_GAS))

    def approve(self, token: str, spender: str, sender: str = "") -> None:
        self.send("approve", token, call_data("approve(address,uint256)", spender, MAX_UINT256), sender=sender)


def build(modules: Modules, *, seed: int, deployer: str, trader: str, bank: str) -> Plan:
    """Return the plan of `seed` for a virgin chain on which the three accounts hold native coin."""
    builder = _Builder(modules, deployer, trader)
    tokens = _deploy_tokens(builder)
    factories, position_manager = _deploy_exchanges(builder, tokens["WETH"].address)
    capital = _fund(builder, tokens, factories, position_manager)
    pools = tuple(
        _make_pool(builder, seed, position, tokens, factories, position_manager) for position in range(len(POOLS))
    )
    _check_capital(capital, pools)
    deployment = Deployment(
        seed=seed,
        deployer=deployer,
        trader=trader,
        bank=bank,
        wrapped_native=tokens["WETH"].address,
        tokens=tuple(tokens.values()),
        factories=tuple(factories.values()),
        pools=pools,
    )
    # An allowance to an address that nobody has: the last thing done, and readable at any time afterwards.
    mark = "0x" + keccak(repr((deployment, builder.steps)).encode())[12:].hex()
    builder.send("mark the chain as seeded", tokens["WETH"].address, call_data("approve(address,uint256)", mark, 1))
    return Plan(deployment, builder.steps, mark)


def _deploy_tokens(builder: _Builder) -> dict[str, Token]:
    tokens = {"WETH": Token("WETH", builder.deploy("WETH9"), DECIMALS["WETH"])}
    for symbol, name in NAMES.items():
        address = builder.deploy("MintableERC20", ["string", "string", "uint8"], [name, symbol, DECIMALS[symbol]])
        tokens[symbol] = Token(symbol, address, DECIMALS[symbol])
    return tokens


def _deploy_exchanges(builder: _Builder, wrapped_native: str) -> tuple[dict[str, Factory], str]:
    factories = {}
    for name in ("uniswap_v2", "sushi_v2"):
        factory = builder.deploy("UniswapV2Factory", ["address"], [builder.deployer])
        router = builder.deploy("UniswapV2Router02", ["address", "address"], [factory, wrapped_native])
        factories[name] = Factory(name, 2, factory, router)
    factory = builder.deploy("UniswapV3Factory")
    pair = ["address", "address"]
    router = builder.deploy("SwapRouter", pair, [factory, wrapped_native])
    # The third argument draws the position's picture, which nobody looks at here.
    position_manager = builder.deploy(
        "NonfungiblePositionManager", [*pair, "address"], [factory, wrapped_native, ZERO_ADDRESS]
    )
    factories["uniswap_v3"] = Factory("uniswap_v3", 3, factory, router)
    return factories, position_manager


def _fund(
    builder: _Builder, tokens: dict[str, Token], factories: dict[str, Factory], position_manager: str
) -> dict[str, int]:
    """Give the deployer twice what the pools take, the trader its capital, and let the routers take it."""
    capital = {
        symbol: 2 * sum(_whole(symbol, position) for position in range(len(POOLS))) * 10**token.decimals
        for symbol, token in tokens.items()
    }
    for symbol, token in tokens.items():
        amount = TRADER_CAPITAL[symbol] * 10**token.decimals
        if symbol == "WETH":
            deposit = call_data("deposit()")
            builder.send("wrap", token.address, deposit, value=capital[symbol])
            builder.send("wrap", token.address, deposit, value=amount, sender=builder.trader)
        else:
            builder.send("mint", token.address, call_data("mint(uint256)", capital[symbol]))
            builder.send("mint", token.address, call_data("mint(uint256)", amount), sender=builder.trader)
        for factory in factories.values():
            builder.approve(token.address, position_manager if factory.version == 3 else factory.router)
            builder.approve(token.address, factory.router, builder.trader)
    return capital


def _whole(symbol: str, position: int) -> int:
    """Return how many whole tokens of `symbol` pool number `position` takes, at equal prices."""
    _, first, second, amount, _ = POOLS[position]
    return {first: amount, second: amount * DOLLARS[first] // DOLLARS[second]}.get(symbol, 0)


def _check_capital(capital: dict[str, int], pools: tuple[Pool, ...]) -> None:
    for symbol, amount in capital.items():
        needed = sum({pool.token0: pool.amount0, pool.token1: pool.amount1}.get(symbol, 0) for pool in pools)
        if needed > amount:
            raise ValueError(f"the pools need {needed} of {symbol}, and the deployer has {amount}")


def _make_pool(
    builder: _Builder,
    seed: int,
    position: int,
    tokens: dict[str, Token],
    factories: dict[str, Factory],
    position_manager: str,
) -> Pool:
    name, first, second, whole, fee = POOLS[position]
    factory = factories[name]
    # Alternate signs: two DEXes' pools of the same pair are sure to differ by the spread's half at least.
    sign = 1 if factory.name == "uniswap_v2" else -1
    price = DOLLARS[first] / DOLLARS[second] * (1 + sign * SPREAD * (0.5 + uniform(seed, "price", position) / 2))
    amounts = {
        first: whole * 10 ** DECIMALS[first],
        second: round(whole * price * 10**6) * 10 ** (DECIMALS[second] - 6),
    }
    token0, token1 = sorted((tokens[first], tokens[second]), key=lambda token: int(token.address, 16))
    amount0, amount1 = amounts[token0.symbol], amounts[token1.symbol]
    if factory.version == 2:
        code_hash = keccak(bytecode(builder.modules, "UniswapV2Pair"))
        address = v2_pair_address(factory.address, token0.address, token1.address, code_hash)
        _add_v2_liquidity(builder, factory, (token0, token1), (amount0, amount1))
    else:
        code_hash = keccak(bytecode(builder.modules, "UniswapV3Pool"))
        address = v3_pool_address(factory.address, token0.address, token1.address, fee, code_hash)
        _add_v3_liquidity(builder, position_manager, (token0, token1), (amount0, amount1), fee)
    return Pool(name, factory.version, address, token0.symbol, token1.symbol, fee, amount0, amount1)


def _add_v2_liquidity(
    builder: _Builder, factory: Factory, tokens: tuple[Token, Token], amounts: tuple[int, int]
) -> None:
    data = call_data(
        "addLiquidity(address,address,uint256,uint256,uint256,uint256,address,uint256)",
        *(tokens[0].address, tokens[1].address, *amounts, 0, 0, builder.deployer, 2**64),
    )
    builder.send(f"{factory.name} {tokens[0].symbol}/{tokens[1].symbol}", factory.router, data, gas=_POOL_GAS)


def _add_v3_liquidity(
    builder: _Builder, manager: str, tokens: tuple[Token, Token], amounts: tuple[int, int], fee: int
) -> None:
    """Make the pool at the amounts' price, with half of them over every price and half within 10 % of it."""
    pair = (tokens[0].address, tokens[1].address)
    sqrt_price_x96 = math.isqrt((amounts[1] << 192) // amounts[0])
    spacing = _TICK_SPACING[fee]
    tick = math.log(amounts[1] / amounts[0], 1.0001)
    band = math.log(1.1, 1.0001)
    last = _LAST_TICK // spacing * spacing
    ranges = ((-last, last), (round((tick - band) / spacing) * spacing, round((tick + band) / spacing) * spacing))
    mint = "mint((address,address,uint24,int24,int24,uint256,uint256,uint256,uint256,address,uint256))"
    calls = [
        call_data("createAndInitializePoolIfNecessary(address,address,uint24,uint160)", *pair, fee, sqrt_price_x96),
        *(
            call_data(mint, (*pair, fee, low, high, amounts[0] // 2, amounts[1] // 2, 0, 0, builder.deployer, 2**64))
            for low, high in ranges
        ),
    ]
    title = f"uniswap_v3 {tokens[0].symbol}/{tokens[1].symbol} {fee}"
    builder.send(title, manager, call_data("multicall(bytes[])", calls), gas=_POOL_GAS + 1_000_000)
