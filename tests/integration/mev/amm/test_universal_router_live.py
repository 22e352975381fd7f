"""Pending swaps through the published Universal Router, V4's pools among them, and Aerodrome's: the engine says what they expose, by the pools of the factories that the configuration names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak
from mev.trading.execution.transaction import Transaction

from lab.evm.contracts import bytecode, call_data
from tests.integration.mev.amm.forks import PRICE_ONE, Aerodrome, Managed, on
from tests.integration.mev.amm.venues import KEY
from tests.integration.mev.conftest import NATIVE_WEI, Account, Installation, raw, text, wait_for
from tests.integration.mev.test_pending import logged

if TYPE_CHECKING:
    from lab.evm.devnode import DevNode
    from lab.evm.npm import Modules

ARTEFACT = "@uniswap/universal-router/artifacts/contracts/UniversalRouter.sol/UniversalRouter.json"
V3_EXACT_IN, V2_EXACT_IN, V2_EXACT_OUT, WRAP, V4_SWAP = b"\x00", b"\x08", b"\x09", b"\x0b", b"\x10"
SWEEP, PORTION = b"\x04", b"\x06"
WHOLE = 2**255
ROUTES = "swapExactETHForTokens(uint256,(address,address,bool,address)[],address,uint256)"
# What the router takes for the sender and for itself.
SENDER, ITSELF = ("0x" + f"{number:040x}" for number in (1, 2))
SPENT_WEI = 50 * NATIVE_WEI
FEE = 3000


@pytest.fixture
def managed(evm: DevNode, modules: Modules, published: Modules) -> Managed:
    return Managed(evm, modules, published)


@pytest.fixture
def router(evm: DevNode, modules: Modules, published: Modules, managed: Managed) -> str:
    """The router on the seeded factories and a V4 manager; what it knows of V4's positions and of bridges is nobody."""
    factories = [evm.deployment.factory(name).address for name in ("uniswap_v2", "uniswap_v3")]
    hashes = [keccak(bytecode(modules, name)) for name in ("UniswapV2Pair", "UniswapV3Pool")]
    nobody = "0x" + 40 * "9"
    ends = (nobody, evm.deployment.wrapped_native, *factories, *hashes)
    parameters = (*ends, managed.manager, nobody, nobody, nobody)
    kind = f"(address,address,address,address,bytes32,bytes32,{','.join(['address'] * 4)})"
    return on(evm, modules).deploy(published.artefact(ARTEFACT)["bytecode"], [kind], [parameters])


def swapped(command: bytes, amount: int, limit: int, path: object) -> bytes:
    """Calldata that wraps what is sent along and swaps it."""
    kind = "bytes" if command == V3_EXACT_IN else "address[]"
    swap = encode(["address", "uint256", "uint256", kind, "bool"], [SENDER, amount, limit, path, False])
    wrap = encode(["address", "uint256"], [ITSELF, SPENT_WEI])
    return call_data("execute(bytes,bytes[],uint256)", WRAP + command, [wrap, swap], 2**40)


def split(wrapped: str, usdc: str, packed: bytes) -> bytes:
    """Half of what is sent along through a pair and the rest through a V3 pool; of what comes together a portion is taken, and one limit holds."""
    pair = ["address", "uint256", "uint256", "address[]", "bool"]
    path = ["address", "uint256", "uint256", "bytes", "bool"]
    inputs = [
        encode(["address", "uint256"], [ITSELF, SPENT_WEI]),
        encode(pair, [ITSELF, SPENT_WEI // 2, 0, [wrapped, usdc], False]),
        encode(path, [ITSELF, WHOLE, 0, packed, False]),
        encode(["address", "address", "uint256"], [usdc, "0x" + 40 * "8", 25]),
        encode(["address", "address", "uint256"], [usdc, SENDER, 1]),
    ]
    commands = WRAP + V2_EXACT_IN + V3_EXACT_IN + PORTION + SWEEP
    return call_data("execute(bytes,bytes[],uint256)", commands, inputs, 2**40)


def through_manager(*actions: tuple[int, list[str], list[Any]], wraps: bool) -> bytes:
    """Calldata of V4's actions, behind what is sent along wrapped where the pool is of wrapped coin."""
    plan = encode(
        ["bytes", "bytes[]"],
        [bytes(code for code, _, _ in actions), [encode(types, values) for _, types, values in actions]],
    )
    wrap = [encode(["address", "uint256"], [ITSELF, SPENT_WEI])] if wraps else []
    return call_data("execute(bytes,bytes[],uint256)", (WRAP if wraps else b"") + V4_SWAP, [*wrap, plan], 2**40)


def of_v4(key: tuple[object, ...], wrapped: str, token: str, *, native: bool) -> bytes:
    """The whole of what is sent along for a token: paid to the manager after the swap out of native coin, or before it out of wrapped."""
    zero_for_one = key[1] == token
    swap = [f"({KEY},bool,uint128,uint128,bytes)"]
    amount = SPENT_WEI if native else 0
    chosen: tuple[int, list[str], list[Any]] = (6, swap, [(key, zero_for_one, amount, 1, b"")])
    if native:
        settle = (0x0C, ["address", "uint256"], [key[0], SPENT_WEI])
        return through_manager(chosen, settle, (0x0F, ["address", "uint256"], [token, 1]), wraps=False)
    pay = (0x0B, ["address", "uint256", "bool"], [wrapped, WHOLE, False])
    return through_manager(pay, chosen, (0x0E, ["address", "address", "uint256"], [token, SENDER, 0]), wraps=True)


def test_its_swaps_through_pairs_and_v3_and_v4_pools_are_evaluated(
    evm: DevNode,
    owner: Account,
    installation: Installation,
    router: str,
    managed: Managed,
    modules: Modules,
    published: Modules,
) -> None:
    installation.mode = "observe"
    installation.v3_fees = (500, FEE)
    aerodrome = Aerodrome(evm, modules, published)
    solidly = aerodrome.router(published)
    installation.chain_tables = (
        f'routers = [{{ address = "{router}", factories = ["uniswap_v2", "uniswap_v3", "uniswap_v4"] }}]\n'
        f'v4_managers = [{{ name = "uniswap_v4", address = "{managed.manager}" }}]\n'
        f'solidly_factories = [{{ name = "aerodrome", address = "{aerodrome.factory}" }}]\n'
    )
    installation.write()
    content = installation.config.read_text()
    strategies = 'strategies = ["atomic_arbitrage", "sandwich"]'
    installation.config.write_text(content.replace('mode = "observe"', f'mode = "observe"\n{strategies}'))
    wrapped, usdc = evm.deployment.wrapped_native, evm.deployment.token("USDC").address
    pools = {
        pool.factory if pool.version == 2 else pool.fee: pool.address.lower()
        for pool in evm.deployment.pools
        if {pool.token0, pool.token1} == {"WETH", "USDC"}
    }
    packed = raw(wrapped) + FEE.to_bytes(3, "big") + raw(usdc)
    dai = evm.deployment.token("DAI").address
    depth, mine = 1000 * NATIVE_WEI, set()
    for one, other, stable in ((wrapped, dai, False), (dai, usdc, True)):
        held = [10**9 if token == usdc else depth for token in sorted((one, other), key=str.lower)]
        mine.add(text(aerodrome.pool(raw(one), raw(other), (held[0], held[1]), stable=stable).address))
    # The zero address is the router's own factory.
    routes = [(wrapped, dai, False, "0x" + 40 * "0"), (dai, usdc, True, aerodrome.factory)]
    v4 = {
        native: managed.pool(raw(wrapped), raw(dai), 500, PRICE_ONE, depth, 6000, 10, native=native)
        for native in (True, False)
    }
    keys = {native: managed.keys[managed._slot(pool)] for native, pool in v4.items()}
    calls = [
        *(
            (router, of_v4(keys[native], text(raw(wrapped)), text(raw(dai)), native=native), {text(pool.address)})
            for native, pool in v4.items()
        ),
        (router, split(wrapped, usdc, packed), {pools["uniswap_v2"], pools[FEE]}),
        (solidly, call_data(ROUTES, 1, routes, text(owner.address), 2**40), mine),
        (router, swapped(V2_EXACT_IN, SPENT_WEI, 1, [wrapped, usdc]), {pools["uniswap_v2"]}),
        (router, swapped(V3_EXACT_IN, SPENT_WEI, 1, packed), {pools[FEE]}),
        (router, swapped(V2_EXACT_OUT, 30_000 * 10**6, SPENT_WEI, [wrapped, usdc]), {pools["uniswap_v2"]}),
    ]
    with installation.agent("strategy_engine"):
        wait_for("the market", lambda: logged(installation, "loaded"))
        evm.rpc.call("evm_setAutomine", False)
        try:
            nonce = int(evm.rpc.call("eth_getTransactionCount", text(owner.address), "latest"), 16)
            sent = {}
            for offset, (to, data, of) in enumerate(calls):
                signed = owner.signer.sign(
                    Transaction(
                        chain_id=evm.chain_id,
                        nonce=nonce + offset,
                        max_priority_fee_wei=10**9,
                        max_fee_wei=10**12,
                        gas_limit=1_000_000,
                        to=raw(to),
                        value_wei=SPENT_WEI,
                        data=data,
                    )
                )
                evm.rpc.call("eth_sendRawTransaction", text(signed.raw))
                sent[text(signed.hash)] = of
            wait_for("reports", lambda: len(logged(installation, "exposed")) == len(calls))
        finally:
            evm.rpc.call("evm_setAutomine", True)
            evm.mine()
        told = {each["transaction"]: each for each in logged(installation, "exposed")}
    assert set(told) == set(sent)
    assert all(told[transaction]["pool"].lower() in of for transaction, of in sent.items())
    assert all(int(each["extractable"]) > 0 for each in told.values())
    receipts = [evm.receipt(transaction) for transaction in sent]
    assert [receipt["status"] for receipt in receipts] == ["0x1"] * len(calls)
    # The routers do what was read in their calldata: the first ones got what was quoted for them, to the unit.
    for token, receipt in zip((dai, dai, usdc, usdc), receipts, strict=False):
        received = [log for log in receipt["logs"] if log["address"].lower() == token.lower()]
        assert int(received[-1]["data"], 16) == int(told[receipt["transactionHash"]]["quoted"])
    assert told[receipts[2]["transactionHash"]]["bound"] == "SWEEP"
