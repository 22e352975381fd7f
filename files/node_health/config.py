"""What to judge: one node, or a pair of them."""

from __future__ import annotations

import json
import math
from dataclasses import MISSING, dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


class ConfigError(Exception):
    """The configuration cannot be used; the message is one sentence that names the key, the file and what is allowed."""


class Kind(StrEnum):
    """What kind of program answers, and so how it is asked."""

    ERIGON = "erigon"
    RETH = "reth"
    GETH = "geth"
    BOR = "bor"
    NITRO = "nitro"
    OP_NODE = "op_node"
    HEIMDALL = "heimdall"


@dataclass(frozen=True)
class Node:
    """One program's end point and what is expected of it.

    `allowed_lag_seconds` is the age of the head up to which the node counts as in step; `stuck_seconds` the time without a
    new head after which it counts as stuck, five times the lag unless given; `timeout_seconds` bounds one look at it.
    `pool` holds the RPC URLs of the chain's other nodes, and `pool_lag_seconds` says how much older than theirs its head may
    be; `least_peers` is how many peers it has to have. Only execution clients are asked; nothing is where they are not set.
    """

    name: str
    kind: Kind
    chain_id: int
    rpc: str
    allowed_lag_seconds: float
    stuck_seconds: float = 0.0
    timeout_seconds: float = 5.0
    pool: tuple[str, ...] = ()
    pool_lag_seconds: float = 0.0
    least_peers: int = 0

    @property
    def stuck_after(self) -> float:
        """Seconds without a new head after which the node counts as stuck."""
        return self.stuck_seconds or 5 * self.allowed_lag_seconds


@dataclass(frozen=True)
class Pair:
    """Programs that only together follow a chain.

    `members` are names of node configurations in the same directory; `grace_seconds` is how long one of them may be away
    before the pair counts as failed.
    """

    name: str
    members: tuple[Node, ...]
    grace_seconds: float = 30.0


PAIR = "pair"
MAX_SECONDS = 86_400.0
MAX_PEERS = 10_000


def load(path: Path) -> Node | Pair:
    """Read a node's or a pair's configuration; ConfigError names what is wrong with it."""
    data = _read(path)
    if data.get("kind") == PAIR:
        return _pair(data, path)
    return _node(data, path)


def nodes_of(subject: Node | Pair) -> tuple[Node, ...]:
    """Give the nodes to look at."""
    return (subject,) if isinstance(subject, Node) else subject.members


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {error}.") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path} holds a {type(data).__name__}; allowed: an object.")
    return data


def _node(data: dict[str, Any], path: Path) -> Node:
    _keys(
        data,
        path,
        known={f.name for f in fields(Node)},
        required={f.name for f in fields(Node) if f.default is MISSING},
    )
    kinds = ", ".join([*Kind, PAIR])
    if data["kind"] not in list(Kind):
        raise ConfigError(f"kind in {path} is {data['kind']!r}; allowed: {kinds}.")
    chain_id = data["chain_id"]
    if isinstance(chain_id, bool) or not isinstance(chain_id, int) or not 0 < chain_id < 2**64:
        raise ConfigError(f"chain_id in {path} is {chain_id!r}; allowed: a positive whole number.")
    pool = data.get("pool", [])
    if not isinstance(pool, list):
        raise ConfigError(f"pool in {path} is {pool!r}; allowed: a list of http or https URLs.")
    if pool and "pool_lag_seconds" not in data:
        raise ConfigError(f"pool_lag_seconds is missing in {path}; required with pool.")
    least_peers = data.get("least_peers", 0)
    if isinstance(least_peers, bool) or not isinstance(least_peers, int) or not 0 <= least_peers <= MAX_PEERS:
        raise ConfigError(f"least_peers in {path} is {least_peers!r}; allowed: a whole number, 0 to {MAX_PEERS}.")
    return Node(
        name=_name(data["name"], path),
        kind=Kind(data["kind"]),
        chain_id=chain_id,
        rpc=_url("rpc", data["rpc"], path),
        allowed_lag_seconds=_seconds(data, "allowed_lag_seconds", path),
        stuck_seconds=_seconds(data, "stuck_seconds", path) if "stuck_seconds" in data else 0.0,
        timeout_seconds=_seconds(data, "timeout_seconds", path) if "timeout_seconds" in data else 5.0,
        pool=tuple(_url("pool", url, path) for url in pool),
        pool_lag_seconds=_seconds(data, "pool_lag_seconds", path) if "pool_lag_seconds" in data else 0.0,
        least_peers=least_peers,
    )


def _pair(data: dict[str, Any], path: Path) -> Pair:
    _keys(data, path, known={"name", "kind", "members", "grace_seconds"}, required={"name", "kind", "members"})
    names = data["members"]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"members in {path} is {names!r}; allowed: a list of node names.")
    members = tuple(_node(_read(file), file) for file in (path.parent / f"{_name(name, path)}.json" for name in names))
    grace = _seconds(data, "grace_seconds", path) if "grace_seconds" in data else 30.0
    return Pair(name=_name(data["name"], path), members=members, grace_seconds=grace)


def _keys(data: dict[str, Any], path: Path, *, known: set[str], required: set[str]) -> None:
    for key in data:
        if key not in known:
            raise ConfigError(f"{key} in {path} is not a key; allowed: {', '.join(sorted(known))}.")
    for key in sorted(required):
        if key not in data:
            raise ConfigError(f"{key} is missing in {path}; required: {', '.join(sorted(required))}.")


def _name(value: object, path: Path) -> str:
    if not isinstance(value, str) or not value or not all(c.isalnum() or c in "-_." for c in value) or value[0] == ".":
        raise ConfigError(f"{value!r} in {path} is not a name; allowed: letters, digits, '-', '_' and '.'.")
    return value


def _url(key: str, value: object, path: Path) -> str:
    try:
        parts = urlsplit(value if isinstance(value, str) else "")
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError(f"{key} in {path} is {value!r}; allowed: an http or https URL.")
    return str(value)


def _seconds(data: dict[str, Any], key: str, path: Path) -> float:
    value = data[key]
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not 0 < value <= MAX_SECONDS
        or math.isnan(value)
    ):
        raise ConfigError(f"{key} in {path} is {value!r}; allowed: seconds, more than 0 and up to {MAX_SECONDS:.0f}.")
    return float(value)
