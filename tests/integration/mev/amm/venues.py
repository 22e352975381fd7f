"""Concentrated pools as published: Uniswap V3, Uniswap V4, Algebra Integral and Algebra's first version behind one way to ask."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from eth_abi.abi import encode
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from mev.market.amm.concentrated import INT128_MAX, INT256_MAX, UINT128_MAX

from lab.evm.contracts import ZERO_ADDRESS, bytecode

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lab.evm.npm import Modules
    from tests.integration.mev.amm.conftest import Bench

INTEGRAL = "@cryptoalgebra/integral-core/artifacts/contracts"
FIRST = "@cryptoalgebra/v1-core/artifacts/contracts"
FEE_TERMS = "(uint16,uint16,uint32,uint32,uint16,uint16,uint32,uint16,uint16)"
KEY = "(address,address,uint24,int24,address)"


class Swap(NamedTuple):
    """What is asked of a pool; `amount` is positive for what goes in and negative for what shall come out."""

    zero_for_one: bool
    amount: int
    limit: int


class Seen(NamedTuple):
    """What the pool's own contract makes of a swap: amounts, and price, tick and liquidity after it."""

    amount_in: int
    amount_out: int
    sqrt_price_x96: int
    tick: int
    liquidity: int


def _signed(word: int, bits: int) -> int:
    word &= (1 << bits) - 1
    return word - (1 << bits) if word >> bits - 1 else word


class V3:
    """Uniswap V3, at the fees that its factory is told of, with a spacing each."""

    SPACINGS = {100: 1, 500: 10, 3000: 60, 10000: 200}  # noqa: RUF012
    words = True
    largest = INT256_MAX
    state = bytes.fromhex("3850c7bd")
    state_call = "slot0()"

    def __init__(self, bench: Bench, _: Modules) -> None:
        self.bench = bench
        self.driver = bench.vyper("pool_driver")
        self.factory = bench.deploy(bytecode(bench.modules, "UniswapV3Factory").hex())
        bench.send(self.factory, "enableFeeAmount(uint24,int24)", 100, 1)

    def tokens(self) -> list[str]:
        made = self.bench.tokens(18, 18)
        for token in made:
            self.bench.send(token, "transfer(address,uint256)", self.driver, 2**249)
        return made

    def create(self, fee: int, sqrt_price_x96: int) -> str:
        pair = self.tokens()
        self.bench.send(self.factory, "createPool(address,address,uint24)", *pair, fee)
        [pool] = self.bench.ask(["address"], self.factory, "getPool(address,address,uint24)", *pair, fee)
        self.bench.send(pool, "initialize(uint160)", sqrt_price_x96)
        return str(pool)

    def mint(self, pool: str, lower: int, upper: int, liquidity: int) -> None:
        self.bench.send(self.driver, "mint_v3(address,int24,int24,uint128)", pool, lower, upper, liquidity)

    def fees(self, pool: str, fee: int) -> tuple[int, int]:
        assert self.bench.ask(["uint24"], pool, "fee()") == (fee,)
        return fee, fee

    def ask(self, pool: str, swaps: Iterable[Swap]) -> list[Seen | None]:
        signature = "swap(address,bytes,bool,int256,uint160)"
        swaps = list(swaps)
        calls = [(self.driver, signature, (pool, self.state, *swap)) for swap in swaps]
        answers = self.bench.ask_each(["int256", "int256", "uint256", "int256", "uint256"], calls)
        return [
            None
            if answer is None
            else Seen(*((answer[0], -answer[1]) if swap.zero_for_one else (answer[1], -answer[0])), *answer[2:])
            for swap, answer in zip(swaps, answers, strict=True)
        ]

    def swap(self, pool: str, swap: Swap) -> None:
        self.bench.send(self.driver, "swap(address,bytes,bool,int256,uint160)", pool, self.state, *swap)

    def now(self, pool: str) -> tuple[int, int, int]:
        price, tick = self.bench.ask(["uint160", "int24"], pool, self.state_call)
        [liquidity] = self.bench.ask(["uint128"], pool, "liquidity()")
        return price, tick, liquidity


class Integral(V3):
    """Algebra Integral without a plugin: the fee is set, as a plugin would set it from block to block."""

    SPACINGS = {37: 1, 500: 10, 2999: 60, 50000: 100}  # noqa: RUF012
    words = False
    largest = UINT128_MAX
    state = keccak(text="globalState()")[:4]
    state_call = "globalState()"

    def __init__(self, bench: Bench, published: Modules) -> None:
        self.bench = bench
        self.driver = bench.vyper("pool_driver")
        nonce = int(bench.rpc.call("eth_getTransactionCount", bench.account, "latest"), 16)
        # Each of the two is told of the other; the account's nonce may be more than the lab's helper takes.
        code = {
            name: published.artefact(f"{INTEGRAL}/{name}.sol/{name}.json")["bytecode"]
            for name in ("AlgebraPoolDeployer", "AlgebraFactory")
        }
        factory = _create_address(bench.account, nonce + 1)
        deployer = bench.deploy(code["AlgebraPoolDeployer"], ["address"], [factory])
        self.factory = bench.deploy(code["AlgebraFactory"], ["address"], [deployer])
        assert self.factory == factory

    def create(self, fee: int, sqrt_price_x96: int) -> str:
        pair = self.tokens()
        self.bench.send(self.factory, "createPool(address,address,bytes)", *pair, b"")
        [pool] = self.bench.ask(["address"], self.factory, "poolByPair(address,address)", *pair)
        self.bench.send(pool, "initialize(uint160)", sqrt_price_x96)
        self.bench.send(pool, "setFee(uint16)", fee)
        if self.SPACINGS[fee] != 60:
            self.bench.send(pool, "setTickSpacing(int24)", self.SPACINGS[fee])
        return str(pool)

    def mint(self, pool: str, lower: int, upper: int, liquidity: int) -> None:
        self.bench.send(self.driver, "mint_algebra(address,int24,int24,uint128)", pool, lower, upper, liquidity)

    def fees(self, pool: str, fee: int) -> tuple[int, int]:
        assert self.bench.ask(["uint160", "int24", "uint16"], pool, "globalState()")[2] == fee
        return fee, fee


class FirstAlgebra(V3):
    """Algebra's first version, whose pools are QuickSwap V3's to the byte; with a fee set they take that one, without it the one that moves."""

    SPACINGS = {100: 60, 3000: 60, 50000: 60}  # noqa: RUF012
    state = keccak(text="globalState()")[:4]
    state_call = "globalState()"

    def __init__(self, bench: Bench, published: Modules) -> None:
        self.bench = bench
        self.driver = bench.vyper("pool_driver")
        code = {
            name: published.artefact(f"{FIRST}/{name}.sol/{name}.json")["bytecode"]
            for name in ("AlgebraPoolDeployer", "AlgebraFactory")
        }
        deployer = bench.deploy(code["AlgebraPoolDeployer"])
        self.factory = bench.deploy(code["AlgebraFactory"], ["address", "address"], [deployer, bench.account])
        bench.send(deployer, "setFactory(address)", self.factory)

    def create(self, fee: int, sqrt_price_x96: int) -> str:
        one, other = self.tokens()
        return self.begin(one, other, fee, sqrt_price_x96)

    def begin(self, one: str, other: str, fee: int | None, sqrt_price_x96: int) -> str:
        """Make a pool of two tokens of which the driver has some."""
        self.bench.send(self.factory, "createPool(address,address)", one, other)
        [pool] = self.bench.ask(["address"], self.factory, "poolByPair(address,address)", one, other)
        self.bench.send(pool, "initialize(uint160)", sqrt_price_x96)
        if fee is not None:
            [storage] = self.bench.ask(["address"], pool, "dataStorageOperator()")
            terms = (0, 0, 0, 0, 1, 1, 0, 1, fee)
            self.bench.send(storage, f"changeFeeConfiguration({FEE_TERMS})", terms)
            # The pool looks at it when something changes at its price, in another second.
            lower = self.now(str(pool))[1] // 60 * 60
            self.bench.rpc.call("evm_increaseTime", 1)
            self.mint(pool, lower, lower + 60, 10**6)
            self.bench.send(self.driver, "burn_v3(address,int24,int24,uint128)", pool, lower, lower + 60, 10**6)
        return str(pool)

    def mint(self, pool: str, lower: int, upper: int, liquidity: int) -> None:
        self.bench.send(self.driver, "mint_algebra(address,int24,int24,uint128)", pool, lower, upper, liquidity)

    def fees(self, pool: str, fee: int) -> tuple[int, int]:
        assert self.bench.ask(["uint160", "int24", "uint16"], pool, "globalState()")[2] == fee
        return fee, fee


class V4(V3):
    """Uniswap V4 without hooks; a fee here is the providers', and the protocol takes another one in each direction."""

    SPACINGS = {0: 1, 100: 1, 500: 10, 3000: 60, 10000: 200, 999_999: 32767, 1_000_000: 60}  # noqa: RUF012
    largest = INT128_MAX
    PROTOCOL = (1000, 250)

    def __init__(self, bench: Bench, published: Modules) -> None:
        self.bench = bench
        self.driver = bench.vyper("pool_driver")
        self.manager = bench.deploy(_v4(published, "PoolManager"), ["address"], [bench.account])
        self.router = bench.deploy(_v4(published, "PoolSwapTest"), ["address"], [self.manager])
        self.provider = bench.deploy(_v4(published, "PoolModifyLiquidityTest"), ["address"], [self.manager])
        bench.send(self.manager, "setProtocolFeeController(address)", bench.account)
        self.keys: dict[str, tuple[object, ...]] = {}

    def create(self, fee: int, sqrt_price_x96: int) -> str:
        pair = self.tokens()
        key = (*pair, fee, self.SPACINGS[fee], ZERO_ADDRESS)
        for token in pair:
            self.bench.send(token, "approve(address,uint256)", self.provider, 2**256 - 1)
            self.bench.send(self.driver, "approve(address,address)", token, self.router)
        self.bench.send(self.manager, f"initialize({KEY},uint160)", key, sqrt_price_x96)
        if fee in {100, 3000}:
            protocol = self.PROTOCOL[0] | self.PROTOCOL[1] << 12
            self.bench.send(self.manager, f"setProtocolFee({KEY},uint24)", key, protocol)
        pool = keccak(encode([KEY], [key]))
        slot = "0x" + keccak(pool + (6).to_bytes(32, "big")).hex()
        self.keys[slot] = key
        return slot

    def mint(self, pool: str, lower: int, upper: int, liquidity: int) -> None:
        signature = f"modifyLiquidity({KEY},(int24,int24,int256,bytes32),bytes)"
        self.bench.send(self.provider, signature, self.keys[pool], (lower, upper, liquidity, bytes(32)), b"")

    def fees(self, pool: str, fee: int) -> tuple[int, int]:
        [word] = self.bench.ask(["uint256"], self.manager, "extsload(bytes32)", bytes.fromhex(pool[2:]))
        assert word >> 208 & 0xFFFFFF == fee
        return word >> 184 & 0xFFF, word >> 196 & 0xFFF

    def ask(self, pool: str, swaps: Iterable[Swap]) -> list[Seen | None]:
        swaps = list(swaps)
        answers = self.bench.ask_each(["int256", "uint256", "uint256"], [self._call(pool, swap) for swap in swaps])
        seen: list[Seen | None] = []
        for swap, answer in zip(swaps, answers, strict=True):
            if answer is None:
                seen.append(None)
                continue
            deltas = answer[0] >> 128, _signed(answer[0], 128)
            paid, given = deltas if swap.zero_for_one else deltas[::-1]
            seen.append(Seen(-paid, given, *_slot0(answer[1]), answer[2]))
        return seen

    def swap(self, pool: str, swap: Swap) -> None:
        to, signature, arguments = self._call(pool, swap)
        self.bench.send(to, signature, *arguments)

    def now(self, pool: str) -> tuple[int, int, int]:
        slot = bytes.fromhex(pool[2:])
        [word] = self.bench.ask(["uint256"], self.manager, "extsload(bytes32)", slot)
        beside = (int.from_bytes(slot, "big") + 3).to_bytes(32, "big")
        [liquidity] = self.bench.ask(["uint256"], self.manager, "extsload(bytes32)", beside)
        return (*_slot0(word), liquidity)

    def _call(self, pool: str, swap: Swap) -> tuple[str, str, tuple[object, ...]]:
        signature = f"swap_v4(address,address,bytes32,{KEY},bool,int256,uint160)"
        slot = bytes.fromhex(pool[2:])
        # V4 has the signs the other way round.
        arguments = (self.router, self.manager, slot, self.keys[pool], swap.zero_for_one, -swap.amount, swap.limit)
        return self.driver, signature, arguments


def _slot0(word: int) -> tuple[int, int]:
    return word & (1 << 160) - 1, _signed(word >> 160, 24)


def _v4(published: Modules, name: str) -> str:
    code: str = published.artefact(f"@uniswap/v4-core/out/{name}.sol/{name}.json")["bytecode"]["object"]
    return code


def _create_address(sender: str, nonce: int) -> str:
    """Return where CREATE puts a contract, also for nonces of more than one byte, which the lab's helper does not take."""
    number = nonce.to_bytes((nonce.bit_length() + 7) // 8, "big")
    item = number if 0 < nonce < 128 else bytes([128 + len(number)]) + number
    body = b"\x94" + bytes.fromhex(sender[2:]) + item
    return to_checksum_address(keccak(bytes([192 + len(body)]) + body)[12:])
