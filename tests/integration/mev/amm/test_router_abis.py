"""Every function by which the published routers swap is one that the decoder knows, by the signature in its own ABI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from mev.chain.abi import selector
from mev.chain.abi.routers import decode_call
from mev.domain.calls import MalformedCall, RouterCall

if TYPE_CHECKING:
    from lab.evm.npm import Modules

UNIVERSAL = "@uniswap/universal-router/artifacts/contracts/UniversalRouter.sol/UniversalRouter.json"
PERIPHERY = {
    "@uniswap/v2-periphery/build/UniswapV2Router02.json": 9,
    "@uniswap/v3-periphery/artifacts/contracts/SwapRouter.sol/SwapRouter.json": 5,
}
SWAPS = ("swap", "exact", "multicall", "execute")


def kind(argument: dict[str, Any]) -> str:
    """An argument's canonical type."""
    if not argument["type"].startswith("tuple"):
        return str(argument["type"])
    return f"({','.join(map(kind, argument['components']))}){argument['type'][len('tuple') :]}"


def known(abi: list[dict[str, Any]]) -> list[str]:
    """The functions that swap; each is known."""
    signatures = [
        f"{entry['name']}({','.join(map(kind, entry['inputs']))})"
        for entry in abi
        if entry["type"] == "function" and entry["name"].startswith(SWAPS)
    ]
    for signature in signatures:
        assert isinstance(decode_call(selector(signature) + bytes(32 * 16)), RouterCall | MalformedCall), signature
    return signatures


@pytest.mark.parametrize(("artefact", "count"), PERIPHERY.items(), ids=["v2", "v3"])
def test_uniswap_s_periphery(modules: Modules, artefact: str, count: int) -> None:
    assert len(known(modules.artefact(artefact)["abi"])) == count


def test_the_universal_router(published: Modules) -> None:
    assert len(known(published.artefact(UNIVERSAL)["abi"])) == 3
