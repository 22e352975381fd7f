"""Which chains the lab runs, from chains.json. Standard library only: the world container runs this."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

# Everything that looks random in the lab's chains follows from this number: accounts, addresses, prices, trades.
DEFAULT_SEED = 1

_FILE = Path(__file__).with_name("chains.json")


@dataclass(frozen=True, slots=True)
class Chain:
    """One chain of the lab; `port` serves HTTP and WebSocket."""

    name: str
    id: int
    port: int
    block_seconds: int


def load() -> dict[str, Chain]:
    """Return the lab's chains by name, in the order of chains.json."""
    return {name: Chain(name=name, **facts) for name, facts in json.loads(_FILE.read_text()).items()}


def get(name: str) -> Chain:
    """Return the chain called `name`; ValueError says which there are."""
    chains = load()
    if name not in chains:
        raise ValueError(f"chain {name!r} is not in {_FILE.name}: it has {', '.join(chains)}")
    return chains[name]
