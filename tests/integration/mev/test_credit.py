"""Arbitrage on a pool's credit by the whole engine: larger than the capital, booked to the wei, and nothing left by one that fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from mev.chain.transactions import decode_signed
from mev.domain import State
from mev.insight.report import pnl, recent
from mev.trading import erc20
from mev.trading.execution import contract

from tests.integration.mev.conftest import CAPITAL_WEI, NATIVE_WEI, Account, Installation, at_rest, raw, wait_for
from tests.integration.mev.test_crash import Wire, wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.evm.devnode import DevNode

__all__ = ["wire"]

LITTLE_WEI = NATIVE_WEI // 1000


@pytest.fixture
def lean(installation: Installation, wire: Wire) -> Installation:
    """An engine that has next to nothing, and may owe a pool fifty native coins."""
    installation.mev("executor", "withdraw", "--chain", "ethereum", "--amount-wei", str(CAPITAL_WEI - LITTLE_WEI))
    installation.ws = wire.url
    installation.risk = {"max_arbitrage_flash_wei": str(50 * NATIVE_WEI), "max_amount_in_wei": str(LITTLE_WEI)}
    installation.write()
    return installation


def on_credit(installation: Installation) -> list[dict[str, Any]]:
    """What had an end and put in more than there was."""
    _, ledger = installation.reports()
    fates = {State.INCLUDED, State.REVERTED}
    return [
        each for each in recent(ledger, count=500) if each["state"] in fates and int(each["amount_in_wei"]) > LITTLE_WEI
    ]


def ended(installation: Installation, state: State) -> bool:
    return any(each["state"] == state for each in on_credit(installation))


def holds(installation: Installation, evm: DevNode, owner: Account, wrapped: bytes) -> None:
    """Books and chain agree, and of what passed through nothing stayed."""
    books = installation.mev("reconcile")
    assert books["agrees"], books
    _, ledger = installation.reports()
    earned = int(pnl(ledger)["chains"]["ethereum"]["profit_wei"])
    executor = contract.address(owner.address)
    assert owner.balance(wrapped, executor) == LITTLE_WEI + earned
    for symbol in ("USDC", "DAI"):
        assert owner.balance(raw(evm.deployment.token(symbol).address), executor) == 0


def test_an_arbitrage_larger_than_the_capital_is_taken_on_credit_and_booked_to_the_wei(
    evm: DevNode, owner: Account, lean: Installation, wire: Wire, wrapped: bytes
) -> None:
    with lean.agent("strategy_engine"):
        # One that somebody's trade overtook fails, and the next one may not.
        wait_for("a trade on credit", lambda: ended(lean, State.INCLUDED), meanwhile=evm.trade)
        at_rest(lean)
    fill = next(each for each in on_credit(lean) if each["state"] == State.INCLUDED)
    told = lean.mev("explain", fill["opportunity"])
    assert [leg["flash"] for leg in told["legs"]] == [True, *[False] * (len(told["legs"]) - 1)]
    sent = next(
        decode_signed(raw(each)) for each in wire.sent if decode_signed(raw(each)).data[:4] == contract.EXECUTE_FLASH
    )
    assert sent.to == contract.address(owner.address)
    assert fill["simulated_profit_wei"] == fill["expected_profit_wei"]
    # What so little capital would have brought: at the seed's gaps of a few per cent, less than itself.
    assert int(fill["simulated_profit_wei"]) > LITTLE_WEI
    holds(lean, evm, owner, wrapped)


def test_one_that_fails_costs_its_gas_and_leaves_nothing(
    evm: DevNode, owner: Account, stranger: Account, lean: Installation, wire: Wire, wrapped: bytes
) -> None:
    """Somebody takes the same arbitrage a moment earlier."""
    rival = contract.address(stranger.address)
    stranger.send(contract.CREATE2_DEPLOYER, contract.encode_deployment(stranger.address))
    stranger.send(wrapped, erc20.encode_deposit(), 50 * NATIVE_WEI)
    stranger.send(wrapped, erc20.encode_transfer(rival, 50 * NATIVE_WEI))
    overtaken: list[bytes] = []

    def overtake(forward: Callable[[], None]) -> None:
        data = decode_signed(raw(wire.sent[-1])).data
        if not overtaken and data[:4] == contract.EXECUTE_FLASH:
            overtaken.append(data)
            own = contract.with_min_profit(contract.EXECUTE + data[4:], 1)
            assert stranger.send(rival, own)["status"] == "0x1"
        forward()

    wire.on_send = overtake
    with lean.agent("strategy_engine"):
        wait_for("a revert", lambda: ended(lean, State.REVERTED), meanwhile=evm.trade)
        at_rest(lean)
    assert overtaken
    holds(lean, evm, owner, wrapped)
