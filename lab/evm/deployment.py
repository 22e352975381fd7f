"""What stands on every chain of the lab, and where: the same addresses on each. Standard library only."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Token:
    """An ERC-20 token."""

    symbol: str
    address: str
    decimals: int


@dataclass(frozen=True, slots=True)
class Factory:
    """A DEX: its factory, and the router that the trader swaps through.

    Of an amount paid in, fee_numerator / fee_denominator takes part in a V2 swap; a V3 pool has a fee of its own.
    """

    name: str
    version: int
    address: str
    router: str
    fee_numerator: int = 997
    fee_denominator: int = 1000


@dataclass(frozen=True, slots=True)
class Pool:
    """A pool as seeded: symbols of its tokens in the pair's order, and what it holds of them in base units.

    `fee` is in millionths.
    """

    factory: str
    version: int
    address: str
    token0: str
    token1: str
    fee: int
    amount0: int
    amount1: int


@dataclass(frozen=True, slots=True)
class Deployment:
    """Everything the seed puts on a chain; contracts' addresses are EIP-55 hex."""

    seed: int
    deployer: str
    trader: str
    bank: str
    wrapped_native: str
    tokens: tuple[Token, ...]
    factories: tuple[Factory, ...]
    pools: tuple[Pool, ...]

    def token(self, symbol: str) -> Token:
        """Return the token called `symbol`."""
        return next(token for token in self.tokens if token.symbol == symbol)

    def factory(self, name: str) -> Factory:
        """Return the factory called `name`."""
        return next(factory for factory in self.factories if factory.name == name)

    def write(self, path: Path) -> None:
        """Write the document that `read` reads."""
        replace(path, json.dumps(asdict(self), indent=2) + "\n")

    def variables(self, chains: Iterable[str]) -> dict[str, Any]:
        """Return the Ansible variables: mev_chains with each chain's contracts."""
        facts = {
            "wrapped_native": self.wrapped_native,
            "tokens": [asdict(token) for token in self.tokens],
            "v2_factories": [
                {
                    "name": factory.name,
                    "address": factory.address,
                    "fee_numerator": factory.fee_numerator,
                    "fee_denominator": factory.fee_denominator,
                }
                for factory in self.factories
                if factory.version == 2
            ],
            "v3_factories": [
                {"name": factory.name, "address": factory.address} for factory in self.factories if factory.version == 3
            ],
        }
        return {"mev_chains": dict.fromkeys(chains, facts)}


def read(path: Path) -> Deployment:
    """Read what `Deployment.write` wrote."""
    document = json.loads(path.read_text())
    document["tokens"] = tuple(Token(**token) for token in document["tokens"])
    document["factories"] = tuple(Factory(**factory) for factory in document["factories"])
    document["pools"] = tuple(Pool(**pool) for pool in document["pools"])
    return Deployment(**document)


def replace(path: Path, text: str) -> None:
    """Write `text` to `path` so that a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".new")
    beside.write_text(text)
    beside.replace(path)
