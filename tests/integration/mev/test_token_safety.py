"""Tokens that keep, refuse, pretend or grow are told from honest ones, on a real EVM."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from mev.chain.abi import encode_call, selector
from mev.chain.rpc import Rpc
from mev.market.token_safety import Finding, Verdict, examine

from tests.integration.mev.conftest import Account, compiled, raw, word
from tests.integration.mev.test_market import head_of

if TYPE_CHECKING:
    from lab.evm.devnode import DevNode

MINT = selector("mint(address,uint256)")
HOLDER = b"\x91" * 20
HELD = 10**24
FEE, LIES, BOMB = 1, 2, 4
HONEYPOT, REBASING, PAUSED = 1, 2, 3


def examined(evm: DevNode, token: bytes, holder: bytes = HOLDER) -> Finding:
    async def story() -> Finding:
        async with Rpc(evm.ws, chain_id=evm.chain_id) as rpc:
            return await examine(rpc, token, holder, await head_of(rpc))

    return asyncio.run(story())


def made(owner: Account, name: str) -> bytes:
    token = owner.create(compiled(name))
    assert owner.send(token, encode_call(MINT, HOLDER, HELD))["status"] == "0x1"
    return token


@pytest.mark.parametrize(
    ("behaviour", "verdict", "tax_ppm"),
    [
        (0, Verdict.SAFE, 0),
        (FEE, Verdict.TRANSFER_TAX, 50_000),
        (LIES, Verdict.TRANSFER_BLOCKED, 0),
        (BOMB, Verdict.MOVES_NOTHING, 0),
    ],
)
def test_what_a_hostile_token_does_is_named(
    evm: DevNode, owner: Account, behaviour: int, verdict: Verdict, tax_ppm: int
) -> None:
    token = made(owner, "hostile_token")
    behave = selector("behave(uint256,address,bytes)") + word(behaviour) + word(HOLDER) + word(96) + word(0)
    assert owner.send(token, behave)["status"] == "0x1"
    found = examined(evm, token)
    assert (found.verdict, found.tax_ppm) == (verdict, tax_ppm), found.reason


@pytest.mark.parametrize(
    ("behaviour", "verdict"),
    [
        (0, Verdict.SAFE),
        (HONEYPOT, Verdict.TRANSFER_BLOCKED),
        (PAUSED, Verdict.TRANSFER_BLOCKED),
        (REBASING, Verdict.REBASING),
    ],
)
def test_a_trap_is_named(evm: DevNode, owner: Account, behaviour: int, verdict: Verdict) -> None:
    token = made(owner, "trap_token")
    assert owner.send(token, encode_call(selector("behave(uint256)"), behaviour))["status"] == "0x1"
    found = examined(evm, token)
    assert found.verdict is verdict, found.reason


def test_a_token_whose_transfer_returns_nothing_is_safe(evm: DevNode, owner: Account) -> None:
    assert examined(evm, made(owner, "silent_token")).verdict is Verdict.SAFE


def test_every_seeded_token_is_safe_in_its_pools(evm: DevNode) -> None:
    for pool in evm.deployment.pools:
        for symbol in (pool.token0, pool.token1):
            found = examined(evm, raw(evm.deployment.token(symbol).address), raw(pool.address))
            assert found.verdict is Verdict.SAFE, (symbol, found.reason)


def test_what_is_no_token_or_not_held_is_said(evm: DevNode, owner: Account) -> None:
    assert examined(evm, b"\x77" * 20).verdict is Verdict.UNREADABLE
    assert examined(evm, made(owner, "hostile_token"), b"\x92" * 20).verdict is Verdict.NOT_HELD


def test_nothing_of_it_stays_on_the_chain(evm: DevNode, owner: Account) -> None:
    token = made(owner, "hostile_token")
    before = evm.rpc.call("eth_blockNumber")
    examined(evm, token)
    assert owner.balance(token, HOLDER) == HELD
    assert evm.rpc.call("eth_blockNumber") == before
