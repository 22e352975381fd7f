"""Tokens that nobody configured, on a real chain: a safe one is traded, one that takes a part of each transfer never."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.integration.mev.conftest import Account, Installation, at_rest, wait_for
from tests.integration.mev.test_executor import FEE, HostileMarket

if TYPE_CHECKING:
    from pathlib import Path

    from lab.evm.devnode import DevNode


def test_a_safe_token_is_traded_and_a_taxed_one_is_not(
    evm: DevNode, owner: Account, stranger: Account, installation: Installation, wrapped: bytes, tmp_path: Path
) -> None:
    honest, taxed = (HostileMarket(evm, stranger, wrapped) for _ in range(2))
    taxed.behave(FEE)
    # What can still be turned back is not looked at.
    evm.mine(70)
    directory = tmp_path / "discovery"
    installation.chain_tables = f'[chains.ethereum.discovery]\ndirectory = "{directory}"\n'
    installation.write()
    log = installation.directory / "strategy_engine.log"
    executor = bytes.fromhex(installation.mev("executor", "address", "--chain", "ethereum")["executor"][2:])

    def traded() -> bool:
        fills = installation.mev("opportunities", "--state", "included")["opportunities"]
        return any(
            honest.token.hex() in str(installation.mev("explain", fill["opportunity"])).lower() for fill in fills
        )

    with installation.agent("strategy_engine"):
        wait_for("a fill through the token", traded, meanwhile=evm.mine)
        at_rest(installation)
    said = log.read_text()
    assert '"safe":1' in said
    assert f'"token":"0x{taxed.token.hex()}","verdict":"transfer_tax"' in said
    assert taxed.token.hex() not in str(installation.mev("opportunities")).lower()
    assert [owner.balance(token, executor) for token in (honest.token, taxed.token)] == [0, 0]
    assert installation.mev("reconcile")["agrees"]
    # Who only looks sees the same pools, and says no price of tokens whose decimals nobody has said.
    watched = installation.mev("pools")["chains"]["ethereum"]["pools"]
    through = [pool for pool in watched if honest.token.hex() in str(pool).lower()]
    assert len(through) == 2
    assert {pool["price"] for pool in through} == {None}
    assert taxed.token.hex() not in str(watched).lower()
    head = evm.rpc.call("eth_blockNumber")
    replayed = installation.mev("replay", f"{int(head, 16)}-{int(head, 16)}")
    assert replayed["covers"]["pools"] == len(watched)
    # A file that is damaged is put aside, and the events are read anew.
    kept = directory / "ethereum.uniswap_v2.pairs"
    kept.write_text("no discovery\n")
    with installation.agent("strategy_engine"):
        at_rest(installation)
    assert kept.with_name(kept.name + ".refused").read_text() == "no discovery\n"
    assert log.read_text().count('"safe":1') == 2
