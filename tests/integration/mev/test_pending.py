"""Pending swaps on a real chain: the engine hears of them before they are mined, and says what they expose."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from mev.chain.abi import encode_call, selector
from mev.domain.calls import RouterHop, RouterSwap, Venue
from mev.trading.execution.transaction import Transaction
from mev.trading.strategies.sandwich import PairCurve, PathHop, evaluate

from tests.integration.mev.conftest import NATIVE_WEI, Account, Installation, raw, text, wait_for

if TYPE_CHECKING:
    from mev.domain import Pool

    from lab.evm.devnode import DevNode

SWAP = selector("swapExactETHForTokens(uint256,address[],address,uint256)")
SPENT_WEI = 50 * NATIVE_WEI


def logged(installation: Installation, event: str) -> list[dict[str, Any]]:
    path = installation.directory / "strategy_engine.log"
    # The line that is being written has no end yet.
    lines = path.read_text().rpartition("\n")[0].splitlines() if path.exists() else []
    return [each for each in map(json.loads, lines) if each["event"] == event]


def test_a_pending_swap_is_reported_with_the_limit_that_would_protect_it(
    evm: DevNode,
    owner: Account,
    installation: Installation,
    wrapped: bytes,
    pools: dict[tuple[str, frozenset[str]], Pool],
) -> None:
    installation.mode = "observe"
    installation.write()
    content = installation.config.read_text()
    strategies = 'strategies = ["atomic_arbitrage", "sandwich"]'
    installation.config.write_text(content.replace('mode = "observe"', f'mode = "observe"\n{strategies}'))
    (factory, pool) = next((key[0], each) for key, each in pools.items() if wrapped in (each.token0, each.token1))
    bought = pool.token1 if pool.token0 == wrapped else pool.token0
    reserves = owner.call(pool.address, selector("getReserves()"))
    before = [int.from_bytes(reserves[at : at + 32], "big") for at in (0, 32)]
    content_of_call = encode_call(SWAP, 1, 128, owner.address, 2**40, 2, wrapped, bought)
    with installation.agent("strategy_engine"):
        wait_for("the market", lambda: logged(installation, "loaded"))
        evm.rpc.call("evm_setAutomine", False)
        try:
            sent = owner.signer.sign(
                Transaction(
                    chain_id=evm.chain_id,
                    nonce=int(evm.rpc.call("eth_getTransactionCount", text(owner.address), "latest"), 16),
                    max_priority_fee_wei=10**9,
                    max_fee_wei=10**12,
                    gas_limit=500_000,
                    to=raw(evm.deployment.factory(factory).router),
                    value_wei=SPENT_WEI,
                    data=content_of_call,
                )
            )
            evm.rpc.call("eth_sendRawTransaction", text(sent.raw))
            (told,) = wait_for("a report", lambda: logged(installation, "exposed"))
        finally:
            evm.rpc.call("evm_setAutomine", True)
            evm.mine()
    zero_for_one = pool.token0 == wrapped
    swap = RouterSwap((RouterHop(Venue.V2, wrapped, bought),), SPENT_WEI, 1, False, owner.address)
    curve = PairCurve(before[0], before[1], pool.fee_numerator, pool.fee_denominator)
    expected = evaluate([PathHop(pool.address, curve, zero_for_one)], swap, 20 * NATIVE_WEI)
    assert expected is not None
    assert (told["transaction"], told["pool"].lower()) == (text(sent.hash), text(pool.address))
    assert (told["extractable"], told["quoted"]) == (str(expected.extractable), str(expected.quoted))
    assert told["protecting_limit"] == (None if expected.protecting_limit is None else str(expected.protecting_limit))
    assert expected.extractable > 0
