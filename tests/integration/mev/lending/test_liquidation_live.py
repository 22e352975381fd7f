"""The engine's liquidations on a real chain with a published Aave market: found within one block, sent, booked, explained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from lab.evm import devnode
from tests.integration.mev.conftest import CAPITAL_WEI, Installation, at_rest, filled, raw, wait_for

if TYPE_CHECKING:
    from lab.evm.devnode import DevNode
    from tests.integration.mev.conftest import Account
    from tests.integration.mev.lending.crash import Crash


@pytest.fixture
def liquidating(installation: Installation, crash: Crash) -> Installation:
    """The agents, told of the market and of no other strategy."""
    installation.chain_tables = f"""
[[chains.ethereum.aave_v3]]
name = "aave_v3"
pool = "{crash.aave.pool}"
"""
    installation.write()
    content = installation.config.read_text()
    installation.config.write_text(content.replace('mode = "live"', 'mode = "live"\nstrategies = ["liquidation"]'))
    return installation


def head(evm: DevNode) -> int:
    return int(evm.rpc.call("eth_blockNumber"), 16)


def opportunities(installation: Installation) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = installation.mev("opportunities")["opportunities"]
    return found


def test_a_price_falls_and_within_one_block_the_borrower_is_liquidated(
    evm: DevNode, owner: Account, liquidating: Installation, wrapped: bytes, crash: Crash
) -> None:
    crash.dollars_owed(falls=False)
    with liquidating.agent("strategy_engine"):
        at_rest(liquidating)
        assert opportunities(liquidating) == []
        before = head(evm)
        crash.falls()
        fallen = head(evm)
        assert fallen == before + 1
        first = filled(liquidating)
        at_rest(liquidating)
    found = min(opportunities(liquidating), key=lambda each: each["block_number"])
    assert (found["strategy"], found["block_number"], found["state"]) == ("liquidation", fallen, "included")
    assert found["simulated_profit_wei"] == found["expected_profit_wei"]
    assert int(first["net_wei"]) > 0
    # The ledger is the chain to the wei, and nothing stays behind.
    books = liquidating.mev("reconcile")
    assert books["agrees"], books
    executor = raw(liquidating.mev("executor", "address", "--chain", "ethereum")["executor"])
    earned = int(liquidating.mev("pnl")["chains"]["ethereum"]["profit_wei"])
    assert owner.balance(wrapped, executor) == CAPITAL_WEI + earned
    assert owner.balance(raw(crash.usdc), executor) == 0
    story = liquidating.mev("explain", found["id"] if "id" in found else found["opportunity"])
    legs = story["legs"]
    assert [leg["borrower"] is not None for leg in legs] == [False, True]
    seized = next(leg for leg in legs if leg["borrower"])
    assert raw(seized["borrower"]) == raw(crash.borrower)
    assert raw(seized["pool"]) == raw(crash.aave.pool)
    assert raw(seized["token_out"]) == wrapped
    assert seized["zero_for_one"] is None


def test_a_price_that_is_turned_back_leaves_nobody_to_liquidate(
    evm: DevNode, liquidating: Installation, crash: Crash
) -> None:
    """In the branch that holds the price never fell: what was found is dropped or expires, and is not sent again."""
    crash.dollars_owed(falls=False)
    liquidating.risk["min_profit_wei"] = str(10**21)
    content = liquidating.config.read_text()
    liquidating.config.write_text(content.replace("100_000_000_000_000\n", "1_000_000_000_000_000_000_000\n", 1))
    with liquidating.agent("strategy_engine"):
        at_rest(liquidating)
        snapshot = evm.rpc.call("evm_snapshot")
        crash.falls()
        # All of the block's: none is decided on before all are found.
        wait_for("refusals", lambda: {each["state"] for each in opportunities(liquidating)} == {"dropped"})
        seen = len(opportunities(liquidating))
        devnode.revert(evm.rpc, snapshot)
        evm.mine(3)
        at_rest(liquidating)
        assert len(opportunities(liquidating)) == seen
    assert {each["reason"] for each in opportunities(liquidating)} == {"profit_under_minimum"}


@pytest.mark.parametrize("owed", ["dollars", "native"])
def test_without_capital_a_pool_gives_first_and_the_books_say_so(
    owner: Account, liquidating: Installation, wrapped: bytes, crash: Crash, owed: str
) -> None:
    """Dollars are bought of a pair that is paid last; native coin is lent by a pair that is on no other step."""
    liquidating.mev("executor", "withdraw", "--chain", "ethereum")
    content = liquidating.config.read_text()
    liquidating.config.write_text(content.replace("[risk]", f"[risk]\nmax_flash_wei = {50 * 10**18}", 1))
    (crash.dollars_owed if owed == "dollars" else crash.native_owed)(falls=False)
    executor = raw(liquidating.mev("executor", "address", "--chain", "ethereum")["executor"])
    assert owner.balance(wrapped, executor) == 0
    with liquidating.agent("strategy_engine"):
        at_rest(liquidating)
        crash.falls()
        fallen = head(crash.evm)
        first = filled(liquidating)
        at_rest(liquidating)
    found = min(opportunities(liquidating), key=lambda each: each["block_number"])
    assert (found["strategy"], found["block_number"], found["state"]) == ("liquidation", fallen, "included")
    assert found["simulated_profit_wei"] == found["expected_profit_wei"]
    assert int(first["net_wei"]) > 0
    books = liquidating.mev("reconcile")
    assert books["agrees"], books
    earned = int(liquidating.mev("pnl")["chains"]["ethereum"]["profit_wei"])
    assert owner.balance(wrapped, executor) == earned > 0
    assert owner.balance(raw(crash.usdc), executor) == 0
    legs = liquidating.mev("explain", found["opportunity"])["legs"]
    assert [leg["flash"] for leg in legs] == [True] + [False] * (len(legs) - 1)
    lends = legs[0]["token_in"] == legs[0]["token_out"]
    assert lends == (owed == "native")
    if lends:
        # Three thousandths of what is given back are the pair's.
        assert int(legs[0]["amount_in"]) * 997 // 1000 == int(legs[0]["amount_out"])
    assert sum(leg["borrower"] is not None for leg in legs) == 1
