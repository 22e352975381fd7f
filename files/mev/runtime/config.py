"""The agents' configuration: one TOML file, typed and strict.

    mode = "observe"                         # observe | paper | live
    strategies = ["atomic_arbitrage"]        # default

    [storage]                                # absolute paths of SQLite files, or postgresql:// URLs
    opportunities = "/data/blockchain/nodes/logs/mev_opportunities.db"
    performance = "/data/blockchain/nodes/logs/performance_metrics.db"
    # opportunities = "postgresql://mev@db1:5432/mev?sslmode=verify-full&sslrootcert=/etc/mev/db.crt"
    # password = "credential:postgres_password"   # of those URLs, which never hold it

    [bus]                                    # optional: agents on several hosts; within one process without it
    url = "redis://10.0.0.1:6379/0"
    password = "credential:redis_password"   # optional
    max_length = 10_000                      # default: how many messages a stream keeps

    [logging]
    directory = "/data/blockchain/nodes/logs"
    level = "info"                           # debug | info | warning | error

    [signer]                                 # needed for live only
    key = "credential:signer_key"            # or "file:/absolute/path": 64 hex digits; never the key itself

    [risk]                                   # for every chain; wei of its native coin
    max_amount_in_wei = 1_000_000_000_000_000_000
    min_profit_wei = 100_000_000_000_000     # after gas
    max_daily_loss_wei = 100_000_000_000_000_000
    max_gas_price_wei = 200_000_000_000
    max_in_flight = 1
    deny_tokens = []
    kill_switch = "/data/blockchain/nodes/mev_stop"   # while this file exists, nothing is sent: `mev halt`, `mev resume`; optional
    max_gas = 1_500_000                      # optional, as all below: units of one transaction
    max_daily_gas_wei = 50_000_000_000_000_000   # a day is the last 24 hours
    max_daily_reverts = 20
    breaker_failures = 5                     # after so many that reverted or expired in a row (0: never) ...
    breaker_seconds = 600.0                  # ... nothing is sent for so long; default

    [risk.tokens.WETH]                       # of what begins in this token or passes through it
    max_amount_in_wei = 500_000_000_000_000_000
    max_daily_amount_in_wei = 50_000_000_000_000_000_000

    [risk.strategies.atomic_arbitrage]
    max_daily_loss_wei = 50_000_000_000_000_000
    max_daily_trades = 5000

    [chains.ethereum]                        # the name is used in the ledger and on the command line
    id = 1
    ws = "ws://127.0.0.1:8546"               # the node that is heard and asked
    more_end_points = [                      # optional: further nodes of the chain, or other ways to one
      "ws://10.0.0.2:8546", "ipc:///run/erigon/erigon.ipc", "https://rpc.example/key",
    ]                                        # the best of all is asked, the next one where it is slow, late or away
    http = "http://127.0.0.1:8545"           # optional: the same node, for other programs that read this file
    block_seconds = 12.0
    allowed_lag_seconds = 30.0               # default; nothing is sent on a block that is older
    wrapped_native = "0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2"   # cycles begin and end here
    tokens = [                               # pools between two of these are watched
      { symbol = "WETH", address = "0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2", decimals = 18 },
      { symbol = "USDC", address = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48", decimals = 6 },
    ]
    v2_factories = [                         # of what is paid in, fee_numerator / fee_denominator takes part
      { name = "uniswap_v2", address = "0x5C69bEe701ef814a2B6a3EDD4B1652CB9cc5aA6f", fee_numerator = 997, fee_denominator = 1000 },
    ]

    [chains.ethereum.risk]                   # optional: what differs from [risk] on this chain
    max_in_flight = 2

Addresses with mixed case must hold their EIP-55 checksum.
"""

import re
import tomllib
from collections.abc import Callable, Hashable, Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from mev.domain import Token
from mev.runtime.address import parse_address
from mev.runtime.config_shared import SHARED_PARSERS, BusConfig, SecretReference, StorageConfig, shared_problems
from mev.runtime.secret import SecretError, secret, signing_key
from mev.runtime.structure import StructureError, build

__all__ = [
    "AllowanceConfig",
    "BusConfig",
    "ChainConfig",
    "Config",
    "ConfigError",
    "FactoryConfig",
    "Level",
    "LoggingConfig",
    "Mode",
    "RiskConfig",
    "SecretError",
    "SignerConfig",
    "StorageConfig",
    "StrategyName",
    "TokenConfig",
    "load",
    "secret",
    "signing_key",
]

MAX_FILE_BYTES = 4 * 2**20
# With `ws`, what mev.chain.rpc takes.
MAX_MORE_END_POINTS = 15
_END_POINT_SCHEMES = frozenset({"ws", "wss", "http", "https", "ipc"})
_CHAIN_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")


class ConfigError(Exception):
    """The configuration cannot be used; one sentence names the file, the key, what is wrong and what is allowed."""


class Mode(StrEnum):
    """What the engine may do: look, look and simulate, or send."""

    OBSERVE = "observe"
    PAPER = "paper"
    LIVE = "live"


class Level(StrEnum):
    """The least severity that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class StrategyName(StrEnum):
    """Strategies that there are."""

    ATOMIC_ARBITRAGE = "atomic_arbitrage"


class EvmAddress(bytes):
    """What addresses are declared as here; equal to the plain 20 bytes."""

    __slots__ = ()


class Url(str):
    """A URL with a host; it may carry credentials, so it is not for messages."""

    __slots__ = ()


_Wei = Annotated[int, Meta(ge=0, description="a whole number of wei, 0 or more")]
_Count = Annotated[int, Meta(ge=0, le=10**9, description="a whole number from 0 to 1000000000")]
_Address = Annotated[
    EvmAddress,
    Meta(description="0x and 40 hex digits, not all zero, with a valid EIP-55 checksum where their case is mixed"),
]
_Path = Annotated[Path, Meta(description="an absolute path")]
_FeePart = Annotated[
    int, Meta(ge=1, le=10**6, description="a whole number from 1 to 1000000, numerator <= denominator")
]
_Seconds = Annotated[float, Meta(gt=0, le=86400, description="seconds, more than 0 and at most 86400")]
_Name = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_-]{0,31}$", description="1 to 32 of a-z, 0-9, _ and -")]


class LoggingConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Where each agent's log file is, and from which severity on."""

    directory: _Path
    level: Level = Level.INFO


class SignerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The key that signs, by reference."""

    key: Annotated[
        SecretReference, Meta(description='"credential:NAME" or "file:/absolute/path", never the key itself')
    ]


class AllowanceConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What one token or one strategy may use up on a chain, wei of its native coin; a day is the last 24 hours."""

    max_amount_in_wei: _Wei | None = None
    max_daily_amount_in_wei: _Wei | None = None
    max_daily_loss_wei: _Wei | None = None
    max_daily_trades: _Count | None = None


class RiskConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A chain's limits, wei of its native coin."""

    max_amount_in_wei: _Wei
    min_profit_wei: _Wei
    max_daily_loss_wei: _Wei
    max_gas_price_wei: _Wei
    max_in_flight: Annotated[int, Meta(ge=1, le=1000, description="a whole number from 1 to 1000")] = 1
    max_gas: _Count | None = None
    max_daily_gas_wei: _Wei | None = None
    max_daily_reverts: _Count | None = None
    breaker_failures: _Count = 0
    breaker_seconds: _Seconds = 600.0
    deny_tokens: tuple[_Address, ...] = ()
    tokens: dict[str, AllowanceConfig] = {}
    strategies: dict[str, AllowanceConfig] = {}
    kill_switch: _Path | None = None


class TokenConfig(Token, frozen=True):
    """A token that may be traded."""

    address: _Address
    symbol: Annotated[
        str, Meta(pattern=r"^[!-~]{1,32}$", description="1 to 32 printable ASCII characters without space")
    ]
    decimals: Annotated[int, Meta(ge=0, le=36, description="a whole number from 0 to 36")]


class FactoryConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A V2 factory; of what its pools are paid, fee_numerator / fee_denominator takes part in the swap."""

    name: _Name
    address: _Address
    fee_numerator: _FeePart
    fee_denominator: _FeePart


class ChainConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One chain: its node, what is traded there, and the limits that hold on it: [risk] with [chains.NAME.risk] over it."""

    id: Annotated[int, Meta(ge=1, le=2**53, description="a chain id of 1 or more")]
    ws: Annotated[Url, Meta(description="a ws:// or wss:// URL")]
    more_end_points: tuple[
        Annotated[Url, Meta(description="a ws://, wss://, http:// or https:// URL, or ipc:///absolute/path")], ...
    ] = ()
    http: Annotated[Url, Meta(description="an http:// or https:// URL")] | None = None
    block_seconds: _Seconds
    allowed_lag_seconds: _Seconds = 30.0
    wrapped_native: _Address
    tokens: tuple[TokenConfig, ...]
    v2_factories: tuple[FactoryConfig, ...]
    risk: RiskConfig

    @property
    def end_points(self) -> tuple[str, ...]:
        """Every way to the chain's nodes, the first one first."""
        return (self.ws, *self.more_end_points)


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that an agent is told."""

    mode: Mode = Mode.OBSERVE
    strategies: tuple[StrategyName, ...] = (StrategyName.ATOMIC_ARBITRAGE,)
    storage: StorageConfig
    bus: BusConfig = BusConfig()
    logging: LoggingConfig
    # What holds on a chain is that chain's `risk`, where these are merged in.
    common_risk: RiskConfig = msgspec.field(name="risk")
    signer: SignerConfig | None = None
    chains: dict[str, ChainConfig]


def load(path: Path) -> Config:
    """Read the configuration; raises ConfigError."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ConfigError(f"{path} is larger than {MAX_FILE_BYTES} bytes: no configuration is")
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}; name the file with --config") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None
    try:
        return read(document)
    except StructureError as error:
        raise ConfigError(f"{path}: {error}") from None


def read(document: dict[str, Any]) -> Config:
    """Return a parsed document as a configuration; raises StructureError, which names no file."""
    config = build(_with_chain_risks(document), Config, _PARSERS, _HIDDEN)
    for problem in _problems(config):
        raise StructureError(problem)
    return config


def _with_chain_risks(document: dict[str, Any]) -> dict[str, Any]:
    """Give each chain the common limits where it has none of its own; what has another shape is left for `build` to refuse."""
    common, chains = document.get("risk"), document.get("chains")
    if not isinstance(common, dict) or not isinstance(chains, dict):
        return document
    whole = {
        name: {**chain, "risk": {**common, **own}}
        for name, chain in chains.items()
        if isinstance(chain, dict) and isinstance(own := chain.get("risk", {}), dict)
    }
    return {**document, "chains": {**chains, **whole}}


def _problems(config: Config) -> Iterable[str]:
    """Yield what no single value shows."""
    if not config.chains:
        yield "chains has no chain; allowed: one table [chains.NAME] or more"
    if config.mode is Mode.LIVE and config.signer is None:
        yield 'signer is missing and mode is live; allowed: [signer] with key = "credential:NAME", or mode observe or paper'
    yield from shared_problems(config.storage, config.bus)
    yield from _repeated("chains: id", ((chain.id, name) for name, chain in config.chains.items()))
    symbols = {token.symbol for chain in config.chains.values() for token in chain.tokens}
    for where, risk in (
        ("risk", config.common_risk),
        *((f"chains.{n}.risk", c.risk) for n, c in config.chains.items()),
    ):
        yield from _unknown(f"{where}.tokens", risk.tokens, symbols, "symbols of tokens in the configuration")
        yield from _unknown(f"{where}.strategies", risk.strategies, {*StrategyName}, "strategies that there are")
    for name, chain in config.chains.items():
        where = f"chains.{name}"
        if _CHAIN_NAME.fullmatch(name) is None:
            yield f"{where} is no chain's name; allowed: 1 to 32 of a-z, 0-9, _ and -"
        if urlsplit(chain.ws).scheme not in {"ws", "wss"}:
            yield f"{where}.ws is no WebSocket URL; allowed: a ws:// or wss:// URL"
        yield from _end_point_problems(where, chain)
        if chain.http is not None and urlsplit(chain.http).scheme not in {"http", "https"}:
            yield f"{where}.http is no HTTP URL; allowed: an http:// or https:// URL"
        yield from _repeated(
            f"{where}.tokens: address", ((token.address.hex(), token.symbol) for token in chain.tokens)
        )
        yield from _repeated(
            f"{where}.v2_factories: name", ((made.name, made.address.hex()) for made in chain.v2_factories)
        )
        yield from _repeated(
            f"{where}.v2_factories: address", ((made.address.hex(), made.name) for made in chain.v2_factories)
        )
        for number, factory in enumerate(chain.v2_factories):
            if factory.fee_numerator > factory.fee_denominator:
                yield (
                    f"{where}.v2_factories[{number}].fee_numerator is {factory.fee_numerator}; "
                    f"allowed: at most the fee_denominator, {factory.fee_denominator}"
                )


def _unknown(where: str, names: Iterable[str], known: set[str], what: str) -> Iterable[str]:
    for name in names:
        if name not in known:
            yield f"{where}.{name} is not known; allowed: {', '.join(sorted(known))} ({what})"


def _end_point_problems(where: str, chain: ChainConfig) -> Iterable[str]:
    if len(chain.more_end_points) > MAX_MORE_END_POINTS:
        yield f"{where}.more_end_points has {len(chain.more_end_points)}; allowed: at most {MAX_MORE_END_POINTS}"
    for number, url in enumerate(chain.more_end_points):
        if urlsplit(url).scheme not in _END_POINT_SCHEMES:
            yield (
                f"{where}.more_end_points[{number}] is no end point; "
                "allowed: a ws://, wss://, http:// or https:// URL, or ipc:///absolute/path"
            )
        # Not the URL itself: it may hold a key.
        if url in chain.end_points[: number + 1]:
            yield f"{where}.more_end_points[{number}] stands there twice; allowed: each once"


def _repeated(what: str, pairs: Iterable[tuple[Hashable, str]]) -> Iterable[str]:
    seen: dict[Hashable, str] = {}
    for value, owner in pairs:
        if value in seen:
            yield f"{what} {value} is that of both {seen[value]} and {owner}; allowed: each once"
        seen[value] = owner


def _address(text: str) -> EvmAddress:
    address = parse_address(text)
    if not any(address):
        raise ValueError("the zero address is nobody's")
    return EvmAddress(address)


def _path(text: str) -> Path:
    if not text.startswith("/"):
        raise ValueError("it is not absolute")
    return Path(text)


def _url(text: str) -> Url:
    parts = urlsplit(text)
    if parts.scheme == "ipc":
        if parts.netloc or not parts.path.startswith("/"):
            raise ValueError("ipc:// takes an absolute path and no host")
        return Url(text)
    if not parts.hostname or parts.port == 0:
        raise ValueError("it names no host")
    return Url(text)


_PARSERS: dict[object, Callable[[str], object]] = {
    EvmAddress: _address,
    Path: _path,
    Url: _url,
    **SHARED_PARSERS,
}
# URLs carry API keys, and whoever writes the key itself where its reference belongs must not find it in a log.
_HIDDEN = frozenset({Url, *SHARED_PARSERS})
