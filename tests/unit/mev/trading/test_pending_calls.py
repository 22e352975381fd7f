"""Pending calls of routers on a market of every kind of pool: what is evaluated is what the pools would do, and what is not is counted by its reason."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from eth_abi.abi import encode
from mev.chain.rpc import Rpc
from mev.chain.transactions import PendingTransaction
from mev.domain import Algebra, Block, Pool, V2State
from mev.market.amm.solidly import SolidlyPool
from mev.market.concentrated_state import NO_PRICE
from mev.market.state import MarketState, PoolState
from mev.market.v4_state import pool_of
from mev.runtime.config import load
from mev.trading.meter import Meter
from mev.trading.pending import PendingExposures
from mev.trading.strategies.router_plan import Unevaluated
from mev.trading.strategies.sandwich import Exposure
from prometheus_client import generate_latest

from tests.unit.mev.chain.node import CHAIN_ID, running
from tests.unit.mev.chain.test_routers import call
from tests.unit.mev.trading.test_cli import config
from tests.unit.mev.trading.test_sandwich import concentrated

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from pathlib import Path

__all__ = ["config"]

WEI = 10**18
WETH, A, B = b"\xee" * 20, b"\x0a" * 20, b"\x0b" * 20
V2, V3, AERODROME, UNIVERSAL, CAMELOT, STRANGE, ALGEBRA = (bytes([number]) * 20 for number in range(0x21, 0x28))
MANAGER = b"\x2f" * 20
V4_POOLS = [
    pool_of("v4", MANAGER, (WETH, B), 500, 10, native=True),
    pool_of("v4", MANAGER, (A, B), 3000, 60),
]
AERODROME_ROUTER, V3_ROUTER, QUICKSWAP = b"\x31" * 20, b"\x32" * 20, b"\x33" * 20
INTEGRAL = "exactInputSingle((address,address,address,address,uint256,uint256,uint256,uint160))"
ITSELF = (2).to_bytes(20, "big")
SINGLE = "exactInputSingle((address,address,uint24,address,uint256,uint256,uint256,uint160))"
MORE = """
v3_factories = [{{ name = "v3", address = "0x{v3}", fees = [500] }}]
solidly_factories = [{{ name = "aerodrome", address = "0x{aerodrome}" }}]
algebra_factories = [{{ name = "algebra", address = "0x{algebra}" }}]
routers = [{{ address = "0x{universal}", factories = ["v2", "v3", "aerodrome", "v4"] }}]
v4_managers = [{{ name = "v4", address = "0x{manager}" }}]
"""


def market() -> MarketState:
    pools: dict[Pool, PoolState] = {
        Pool(b"\1" * 20, "v2", A, WETH, 997, 1000): V2State(1000 * WEI, 1000 * WEI, 1),
        Pool(b"\2" * 20, "v3", A, B, 999_500, 10**6, 60): concentrated([(-600, 600, 10**22)], 500),
        Pool(b"\3" * 20, "aerodrome", A, B, 0, 1, stable=True): SolidlyPool(1000 * WEI, 1000 * WEI, WEI, WEI, 5, True),
        Pool(b"\4" * 20, "aerodrome", A, WETH, 0, 1, stable=False): SolidlyPool(
            1000 * WEI, 1000 * WEI, WEI, WEI, 30, False
        ),
        Pool(b"\6" * 20, "algebra", A, B, 0, 1, 60, algebra=Algebra.OWN): concentrated([(-600, 600, 10**22)], 500),
        Pool(b"\7" * 20, "algebra", B, WETH, 0, 1, 60, algebra=Algebra.PLUGIN): concentrated(
            [(-600, 600, 10**22)], 500
        ),
        Pool(b"\5" * 20, "v3", B, WETH, 999_500, 10**6, 60): NO_PRICE,
        **{pool: concentrated([(-600, 600, 10**22)], 500) for pool in V4_POOLS},
    }
    return MarketState(Block(1, bytes(32), bytes(32), 0, 0), pools)


def sent(to: bytes, data: bytes, value: int = 0) -> PendingTransaction:
    return PendingTransaction(
        hash=b"\1" * 32, sender=bytes(20), to=to, nonce=0, value_wei=value, gas_limit=1, max_fee_wei=1,
        max_priority_fee_wei=1, data=data, kind=2, chain_id=CHAIN_ID,
    )  # fmt: skip


def execute(*commands: tuple[int, list[str], list[Any]]) -> bytes:
    codes = bytes(code for code, _, _ in commands)
    return call(
        "execute(bytes,bytes[],uint256)", codes, [encode(types, values) for _, types, values in commands], 2**40
    )


PAIRS = ["address", "uint256", "uint256", "address[]", "bool"]
PATH = ["address", "uint256", "uint256", "bytes", "bool"]
COIN = ["address", "uint256"]
V4 = ["bytes", "bytes[]"]
KEY = "(address,address,uint24,int24,address)"
SINGLE_V4 = [f"({KEY},bool,uint128,uint128,bytes)"]


def managed(*actions: tuple[int, list[str], list[Any]]) -> tuple[int, list[str], list[Any]]:
    return 0x10, V4, [bytes(code for code, _, _ in actions), [encode(types, values) for _, types, values in actions]]


def v4_swap(key: tuple[Any, ...], amount: int, limit: int, *, zero_for_one: bool = True) -> tuple[int, list[str], Any]:
    return 6, SINGLE_V4, [(key, zero_for_one, amount, limit, b"")]


AMOUNT, WHOLE = 100 * WEI, 2**255
TAXED = "SupportingFeeOnTransferTokens"
MIXED = execute(
    (0x0B, COIN, [ITSELF, AMOUNT]),
    (0x08, PAIRS, [ITSELF, AMOUNT, 0, [WETH, A], False]),
    (0x00, PATH, [V2, WHOLE, 1, A + (500).to_bytes(3, "big") + B, False]),
)
ROUTES = [(WETH, A, False, bytes(20)), (A, B, True, AERODROME)]
EVALUATED = {
    "a path through a pair and ranges of liquidity": (sent(UNIVERSAL, MIXED, AMOUNT), b"\1"),
    "swaps on their own, each with its limit": (
        sent(
            UNIVERSAL,
            execute(
                (0x08, PAIRS, [V2, AMOUNT, 1, [WETH, A], True]),
                (0x00, PATH, [V2, WEI, 1, A + (500).to_bytes(3, "big") + B, True]),
            ),
        ),
        b"\1",
    ),
    "Aerodrome's route, volatile and stable": (
        sent(
            AERODROME_ROUTER,
            call(
                "swapExactETHForTokens(uint256,(address,address,bool,address)[],address,uint256)", 1, ROUTES, V2, 2**40
            ),
            AMOUNT,
        ),
        b"\3",
    ),
    "Camelot's, which are all for taxed tokens too": (
        sent(
            CAMELOT,
            call(
                f"swapExactTokensForETH{TAXED}(uint256,uint256,address[],address,address,uint256)",
                *(AMOUNT, 1, [A, WETH], V2, V3, 2**40),
            ),
        ),
        b"\1",
    ),
    "several calls of SwapRouter": (
        sent(V3_ROUTER, call("multicall(bytes[])", [call(SINGLE, (A, B, 500, V2, 2**40, AMOUNT, 1, 0))] * 2)),
        b"\2",
    ),
    "Algebra's, by the factory's own deployer": (
        sent(QUICKSWAP, call(INTEGRAL, (A, B, bytes(20), V2, 2**40, AMOUNT, 1, 0))),
        b"\6",
    ),
    "V4's, of the native coin, which comes with the call": (
        sent(
            UNIVERSAL,
            execute(
                managed(
                    v4_swap((bytes(20), B, 500, 10, bytes(20)), AMOUNT, 1),
                    (0x0C, ["address", "uint256"], [bytes(20), AMOUNT]),
                    (0x0F, ["address", "uint256"], [B, 7]),
                )
            ),
            AMOUNT,
        ),
        V4_POOLS[0].address,
    ),
    "V4's, out of what a pair gave": (
        sent(
            UNIVERSAL,
            execute(
                (0x08, PAIRS, [ITSELF, AMOUNT, 0, [WETH, A], True]),
                managed(
                    (0x0B, ["address", "uint256", "bool"], [A, WHOLE, False]),
                    v4_swap((A, B, 3000, 60, bytes(20)), 0, 1),
                    (0x0E, ["address", "address", "uint256"], [B, V2, 0]),
                ),
            ),
        ),
        b"\1" * 20,
    ),
}
UNKNOWN_ACTION = execute(managed((0x12, [], [])), (0x08, PAIRS, [V2, AMOUNT, 1, [WETH, A], True]))
NAMED = {
    Unevaluated.UNKNOWN_ROUTER: sent(STRANGE, call(SINGLE, (A, B, 500, V2, 2**40, AMOUNT, 1, 0))),
    Unevaluated.UNWATCHED_POOL: sent(V3_ROUTER, call(SINGLE, (A, B, 3000, V2, 2**40, AMOUNT, 1, 0))),
    Unevaluated.UNUSABLE_POOL: sent(V3_ROUTER, call(SINGLE, (B, WETH, 500, V2, 2**40, AMOUNT, 1, 0))),
    Unevaluated.REFUSED: sent(V3_ROUTER, call(SINGLE, (A, B, 500, V2, 2**40, AMOUNT, AMOUNT, 0))),
    Unevaluated.PRICE_LIMIT: sent(V3_ROUTER, call(SINGLE, (A, B, 500, V2, 2**40, AMOUNT, 1, 7))),
    Unevaluated.VENUE_ALGEBRA: sent(QUICKSWAP, call(INTEGRAL, (B, WETH, bytes(20), V2, 2**40, AMOUNT, 1, 0))),
    Unevaluated.STEP: sent(UNIVERSAL, UNKNOWN_ACTION),
    Unevaluated.MALFORMED: sent(V3_ROUTER, call(SINGLE, (A, B, 500, V2, 2**40, AMOUNT, 1, 0))[:-32]),
}


def taken(
    config: Path, transactions: list[PendingTransaction], state: MarketState | None, order: list[str] | None = None
) -> tuple[list[Any], Meter]:
    """What becomes of each; into `order` goes what ended first, its evaluation or what began after it."""
    meter = Meter()
    config.write_text(
        config.read_text().replace("max_amount_in_wei = 1\n", f"max_amount_in_wei = {10**24}\n").replace(
            "v2_factories = []",
            f'v2_factories = [{{ name = "v2", address = "0x{V2.hex()}", fee_numerator = 997, fee_denominator = 1000 }}]'
            + MORE.format(v3=V3.hex(), aerodrome=AERODROME.hex(), universal=UNIVERSAL.hex(), algebra=ALGEBRA.hex(),
            manager=MANAGER.hex()),
        )
    )  # fmt: skip
    chain = load(config).chains["ethereum"]
    says = {
        (V3_ROUTER, "c45a0155"): V3, (CAMELOT, "c45a0155"): V2, (AERODROME_ROUTER, "d4b6846d"): AERODROME,
        (STRANGE, "c45a0155"): STRANGE, (QUICKSWAP, "c45a0155"): ALGEBRA,
    }  # fmt: skip

    def answer(asked: dict[str, str], _block: str) -> str:
        found = says.get((bytes.fromhex(asked["to"][2:]), asked["data"][2:]))
        return "0x" if found is None else "0x" + found.rjust(32, b"\0").hex()

    async def story() -> list[Any]:
        async with running() as node, Rpc(node.url, chain_id=CHAIN_ID) as rpc:
            node.answers["eth_call"] = answer
            exposures = PendingExposures("ethereum", chain, rpc, lambda: state, meter)

            async def noted(name: str, work: Awaitable[Any] | None = None) -> Any:
                done = await work if work is not None else None
                if order is not None:
                    order.append(name)
                return done

            return [
                (await asyncio.gather(noted("evaluated", exposures.take(transaction)), noted("other")))[0]
                for transaction in transactions
            ]

    return asyncio.run(story()), meter


def test_every_family_of_routers_is_evaluated(config: Path) -> None:
    found, meter = taken(config, [transaction for transaction, _ in EVALUATED.values()], market())
    for name, exposure, (_, pool) in zip(EVALUATED, found, EVALUATED.values(), strict=True):
        assert isinstance(exposure, Exposure), (name, exposure)
        assert exposure.extractable > 0, name
        assert exposure.pool == (pool if len(pool) == 20 else pool * 20), name
    said = generate_latest(meter.registry).decode()
    assert f'mev_pending_swaps_total{{chain="ethereum",outcome="exposed"}} {float(len(found))}' in said


def test_what_else_there_is_to_do_is_not_kept_waiting_for_all_pools_of_a_call(config: Path) -> None:
    """The router is a declared one, so that nothing is asked of the node."""
    order: list[str] = []
    apart, _ = EVALUATED["swaps on their own, each with its limit"]
    (found,), _ = taken(config, [apart], market(), order)
    assert isinstance(found, Exposure)
    assert order == ["other", "evaluated"]


def test_what_is_not_evaluated_is_counted_by_its_reason(config: Path) -> None:
    found, meter = taken(config, list(NAMED.values()), market())
    assert found == list(NAMED)
    for reason in NAMED:
        labels = {"chain": "ethereum", "outcome": reason.value}
        assert meter.registry.get_sample_value("mev_pending_swaps_total", labels) == 1


@pytest.mark.parametrize(
    ("transaction", "state", "reason"),
    [
        (sent(UNIVERSAL, MIXED, AMOUNT), None, Unevaluated.NO_MARKET),
        # A transaction that swaps nothing is no matter of the strategy's.
        (sent(UNIVERSAL, execute((0x0B, COIN, [ITSELF, AMOUNT]))), market(), None),
        (sent(V2, b"\xde\xad\xbe\xef"), market(), None),
    ],
)
def test_without_a_market_or_a_swap(
    config: Path, transaction: PendingTransaction, state: MarketState | None, reason: Unevaluated | None
) -> None:
    assert taken(config, [transaction], state)[0] == [reason]
