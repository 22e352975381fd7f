"""The agents' configuration: one TOML file, typed and strict.

    mode = "observe"                         # observe | paper | live
    strategies = ["atomic_arbitrage"]        # default; "sandwich" too: reports what pending swaps expose, sends nothing
    strategy_plugins = []                    # optional: "MODULE:FUNCTION" of strategies of your own (docs/strategies.md)

    [storage]                                # absolute paths of SQLite files, or postgresql:// URLs
    opportunities = "/data/blockchain/nodes/logs/mev_opportunities.db"
    performance = "/data/blockchain/nodes/logs/performance_metrics.db"
    # opportunities = "postgresql://mev@db1:5432/mev?sslmode=verify-full&sslrootcert=/etc/mev/db.crt"
    # password = "credential:postgres_password"   # of those URLs, which never hold it; USER:PASSWORD where they name no user

    [bus]                                    # optional: agents on several hosts; within one process without it
    url = "redis://10.0.0.1:6379/0"
    password = "credential:redis_password"   # optional
    max_length = 10_000                      # default: how many messages a stream keeps

    [metrics]                                # optional: IP:PORT where Prometheus reads each agent, at /metrics
    strategy_engine = "127.0.0.1:9111"
    analytics_engine = "127.0.0.1:9112"

    [traces]                                 # optional: spans of blocks and opportunities, for an OpenTelemetry collector
    endpoint = "http://127.0.0.1:4318"       # OTLP over HTTP; https:// where it is neither on loopback nor in a private network
    sample_ratio = 1.0                       # default: of all blocks
    # authorization = "credential:traces_authorization"   # optional: that header's value

    [control]                                # optional: the kill switch over HTTP, POST /kill-switch
    listen = "127.0.0.1:9114"                # loopback alone
    token = "credential:control_token"       # 32 ASCII characters or more

    [logging]
    directory = "/data/blockchain/nodes/logs"
    level = "info"                           # debug | info | warning | error

    [snapshots]                              # optional: the market on disk, for a fast start; one file a chain
    directory = "/data/blockchain/nodes/mev/snapshots"
    every_minutes = 10.0                     # default; and whenever the engine stops

    [signer]                                 # needed for live only
    key = "credential:signer_key"            # or "file:/absolute/path": 64 hex digits; never the key itself
    # url = "http://127.0.0.1:9000"          # instead of key: a program that holds it; https://, ipc:///path, or a reference to such a URL
    # address = "0x..."                      # with url: whose signatures are taken
    # method = "eth_signTransaction"         # default (Web3Signer, nodes); account_signTransaction is Clef's

    [risk]                                   # for every chain; wei of its native coin
    max_amount_in_wei = 1_000_000_000_000_000_000
    min_profit_wei = 100_000_000_000_000     # after gas
    max_daily_loss_wei = 100_000_000_000_000_000
    max_gas_price_wei = 200_000_000_000
    max_in_flight = 1
    deny_tokens = []
    kill_switch = "/data/blockchain/nodes/mev_stop"   # while this file exists, nothing is sent: `mev halt`, `mev resume`; optional
    max_flash_wei = 0                        # default: what a pool may be owed within a liquidation that puts no capital in; 0 is never
    max_arbitrage_flash_wei = 0              # default: the same within an arbitrage
    max_gas = 1_500_000                      # optional, as all below: units of one transaction
    max_daily_gas_wei = 50_000_000_000_000_000   # a day is the last 24 hours
    max_daily_reverts = 20
    max_daily_missed = 2000                  # bundles that their block passed by: they cost nothing, and show builders what is wanted
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
    # sequencer_feed = "ws://127.0.0.1:9642"   # optional, Nitro chains: a relay's feed in the place of a pool's pending transactions
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
    v3_factories = [                         # optional: pools of these fees, millionths; without fees, of 100, 500, 3000 and 10000. PancakeSwap V3's too
      { name = "uniswap_v3", address = "0x1F98431c8aD98523631AE4a59f267346ea31F984", fees = [500, 3000] },
    ]
    solidly_factories = [                    # optional: Velodrome V2 and Aerodrome; their pools, volatile and stable, have the fees that they say
      { name = "aerodrome", address = "0x420DD381b31aEf6683db6B902084cB0FFECe40Da" },
    ]
    algebra_factories = [                    # optional: Algebra Integral, and its first version (QuickSwap V3); their pools have the fees that they or their plugins say
      { name = "algebra", address = "0x10253594A832f967994b44f33411940533302ACb" },
    ]
    v4_managers = [                          # optional: Uniswap V4's PoolManager: pools of two tokens without hooks, of these fees and spacings; without any, of Uniswap's usual four
      { name = "uniswap_v4", address = "0x000000000004444c5dc75cB358380D2e3dE08A90", pools = [{ fee = 500, tick_spacing = 10 }] },
    ]
    balancer_vaults = [                      # optional: Balancer V2's vault, and the ids of its weighted and stable pools that are watched
      { name = "balancer_v2", address = "0xBA12222222228d8Ba445958a75a0704d566BF2C8", pools = ["0x96646936b91d6b9d7d0c47c496afbf3d6ec7b6f8000200000000000000000019"] },
    ]
    curve_pools = [                          # optional: Curve's StableSwap pools that are watched, plain ones and, between their own two coins, meta pools (docs/amm.md)
      { name = "threepool", address = "0xbEbc44782C7dB0a1A60Cb6fe97d0b483032FF1C7" },
    ]
    routers = [                              # optional: routers whose pools the strategy sandwich could not ask for, with the factories whose pools they swap through
      { address = "0x66a9893cC07D91D95644AEDD05D03f95e1dBA8Af", factories = ["uniswap_v2", "uniswap_v3"] },
    ]
    aave_v3 = [                              # optional: lending markets, for the strategy liquidation
      { name = "aave_v3", pool = "0x87870Bca3F3fD6335C3F4ce8392D69350B4fA4E2", first_block = 16_291_127 },
    ]
    compound_v3 = [                          # optional: Comets, for the same; first_block is where their events begin
      { name = "usdc", pool = "0xc3d688B66703497DAA19211EEdff47f25384cdc3", first_block = 15_331_586 },
    ]
    submitters = [                           # optional: the way that trades leave, all of one kind; to the nodes above, where everybody may see them, without it
      { name = "flashbots", kind = "bundles", url = "https://relay.flashbots.net", identity = "credential:builders_identity" },
    ]                                        # or private_rpc (method = "eth_sendRawTransaction" or "eth_sendPrivateTransaction"), plugin, public (docs/engine.md)
    max_hops = 3                             # default: swaps of a cycle; with 4, also the one of four that pays most at the margin

    [chains.ethereum.discovery]              # optional: tokens that the factories' events name and a simulation finds safe, too
    directory = "/data/blockchain/nodes/mev/discovery"
    first_block = 10_000_835                 # default 0: where the oldest of the factories was made
    max_tokens = 100                         # default: those with most pairs are examined

    [chains.ethereum.risk]                   # optional: what differs from [risk] on this chain
    max_in_flight = 2

Addresses with mixed case must hold their EIP-55 checksum.
"""

import tomllib
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from mev.runtime.config_checks import problems
from mev.runtime.config_market import (
    AddressValue,
    AlgebraFactoryConfig,
    BalancerVaultConfig,
    CurvePoolConfig,
    DiscoveryConfig,
    EvmAddress,
    FactoryConfig,
    LendingConfig,
    PathValue,
    PoolId,
    RouterConfig,
    SolidlyFactoryConfig,
    TokenConfig,
    V3FactoryConfig,
    V4ManagerConfig,
    V4PoolConfig,
    parse_evm_address,
    parse_pool_id,
)
from mev.runtime.config_shared import (
    SHARED_PARSERS,
    BusConfig,
    ControlConfig,
    Listen,
    MetricsConfig,
    SecretReference,
    StorageConfig,
    TracesConfig,
)
from mev.runtime.config_submitters import (
    RelayUrl,
    SignerMethod,
    SignerUrl,
    SubmitterConfig,
    parse_relay_url,
    parse_signer_url,
)
from mev.runtime.secret import SecretError, secret, signing_key
from mev.runtime.structure import StructureError, build
from mev.runtime.toml_lines import complaint, lines, nearest

__all__ = [
    "AlgebraFactoryConfig",
    "AllowanceConfig",
    "BalancerVaultConfig",
    "BusConfig",
    "ChainConfig",
    "Config",
    "ConfigError",
    "CurvePoolConfig",
    "DiscoveryConfig",
    "EvmAddress",
    "FactoryConfig",
    "LendingConfig",
    "Level",
    "Listen",
    "LoggingConfig",
    "MetricsConfig",
    "Mode",
    "PoolId",
    "RiskConfig",
    "RouterConfig",
    "SecretError",
    "SignerConfig",
    "SnapshotsConfig",
    "SolidlyFactoryConfig",
    "StorageConfig",
    "StrategyName",
    "SubmitterConfig",
    "TokenConfig",
    "TracesConfig",
    "V3FactoryConfig",
    "V4ManagerConfig",
    "V4PoolConfig",
    "load",
    "secret",
    "signing_key",
]

MAX_FILE_BYTES = 4 * 2**20


class ConfigError(Exception):
    """The configuration cannot be used; one sentence names file and line, the key, what is wrong and what is allowed."""


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
    # Evaluates pending swaps; sends nothing.
    SANDWICH = "sandwich"
    # Of the chains that name a lending market.
    LIQUIDATION = "liquidation"


class Url(str):
    """A URL with a host; it may carry credentials, so it is not for messages."""

    __slots__ = ()


_Wei = Annotated[int, Meta(ge=0, description="a whole number of wei, 0 or more")]
_Count = Annotated[int, Meta(ge=0, le=10**9, description="a whole number from 0 to 1000000000")]
_Seconds = Annotated[float, Meta(gt=0, le=86400, description="seconds, more than 0 and at most 86400")]
_Function = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*$",
        description="MODULE:FUNCTION, names of Python's",
    ),
]


class LoggingConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Where each agent's log file is, and from which severity on."""

    directory: PathValue
    level: Level = Level.INFO


class SnapshotsConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Where the strategy engine keeps what it knows of each chain's market, and how often it writes it down."""

    directory: PathValue
    every_minutes: Annotated[float, Meta(gt=0, le=1440, description="minutes, more than 0 and at most 1440")] = 10.0


class SignerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Who signs: a key, by reference, or a program that holds the key of `address` and is asked at `url`."""

    key: (
        Annotated[SecretReference, Meta(description='"credential:NAME" or "file:/absolute/path", never the key itself')]
        | None
    ) = None
    url: (
        Annotated[
            SignerUrl,
            Meta(
                description="https://HOST, http:// with localhost, a loopback, private or VPN address, ipc:///absolute/path, or a "
                "reference to a secret that holds one of the first two"
            ),
        ]
        | None
    ) = None
    address: AddressValue | None = None
    method: SignerMethod = SignerMethod.SIGN
    timeout_seconds: Annotated[float, Meta(gt=0, le=60, description="seconds, more than 0 and at most 60")] = 2.0


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
    max_flash_wei: _Wei = 0
    max_arbitrage_flash_wei: _Wei = 0
    max_gas: _Count | None = None
    max_daily_gas_wei: _Wei | None = None
    max_daily_reverts: _Count | None = None
    max_daily_missed: _Count | None = None
    breaker_failures: _Count = 0
    breaker_seconds: _Seconds = 600.0
    deny_tokens: tuple[AddressValue, ...] = ()
    tokens: dict[str, AllowanceConfig] = {}
    strategies: dict[str, AllowanceConfig] = {}
    kill_switch: PathValue | None = None


class ChainConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One chain: its node, what is traded there, and the limits that hold on it: [risk] with [chains.NAME.risk] over it."""

    id: Annotated[int, Meta(ge=1, le=2**53, description="a chain id of 1 or more")]
    ws: Annotated[Url, Meta(description="a ws:// or wss:// URL")]
    more_end_points: tuple[
        Annotated[Url, Meta(description="a ws://, wss://, http:// or https:// URL, or ipc:///absolute/path")], ...
    ] = ()
    http: Annotated[Url, Meta(description="an http:// or https:// URL")] | None = None
    sequencer_feed: (
        Annotated[Url, Meta(description="wss://HOST, or ws:// with localhost, a loopback, private or VPN address")]
        | None
    ) = None
    block_seconds: _Seconds
    allowed_lag_seconds: _Seconds = 30.0
    wrapped_native: AddressValue
    tokens: tuple[TokenConfig, ...]
    v2_factories: tuple[FactoryConfig, ...]
    v3_factories: tuple[V3FactoryConfig, ...] = ()
    solidly_factories: tuple[SolidlyFactoryConfig, ...] = ()
    algebra_factories: tuple[AlgebraFactoryConfig, ...] = ()
    v4_managers: tuple[V4ManagerConfig, ...] = ()
    balancer_vaults: tuple[BalancerVaultConfig, ...] = ()
    curve_pools: tuple[CurvePoolConfig, ...] = ()
    routers: tuple[RouterConfig, ...] = ()
    aave_v3: tuple[LendingConfig, ...] = ()
    compound_v3: tuple[LendingConfig, ...] = ()
    submitters: tuple[SubmitterConfig, ...] = ()
    max_hops: Annotated[int, Meta(ge=2, le=4, description="2, 3 or 4 swaps")] = 3
    discovery: DiscoveryConfig | None = None
    risk: RiskConfig

    @property
    def end_points(self) -> tuple[str, ...]:
        """Every way to the chain's nodes, the first one first."""
        return (self.ws, *self.more_end_points)


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that an agent is told."""

    mode: Mode = Mode.OBSERVE
    strategies: tuple[StrategyName, ...] = (StrategyName.ATOMIC_ARBITRAGE,)
    strategy_plugins: tuple[_Function, ...] = ()
    storage: StorageConfig
    bus: BusConfig = BusConfig()
    metrics: MetricsConfig = MetricsConfig()
    traces: TracesConfig | None = None
    control: ControlConfig | None = None
    logging: LoggingConfig
    # What holds on a chain is that chain's `risk`, where these are merged in.
    common_risk: RiskConfig = msgspec.field(name="risk")
    signer: SignerConfig | None = None
    snapshots: SnapshotsConfig | None = None
    chains: dict[str, ChainConfig]


def load(path: Path) -> Config:
    """Read the configuration; raises ConfigError."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ConfigError(f"{path} is larger than {MAX_FILE_BYTES} bytes: no configuration is")
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}; name the file with --config") from None
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: is not TOML: {error.reason} in UTF-8; allowed: text in UTF-8") from None
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}{complaint(text, str(error))}; allowed: TOML 1.0") from None
    try:
        return read(document)
    except StructureError as error:
        found = nearest(lines(text), error.where)
        raise ConfigError(f"{path if found is None else f'{path}:{found}'}: {error}") from None


def read(document: dict[str, Any]) -> Config:
    """Return a parsed document as a configuration; raises StructureError, which names no file."""
    config = build(_with_chain_risks(document), Config, _PARSERS, _HIDDEN)
    for where, told in problems(config, {*StrategyName}):
        raise StructureError(where, told)
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
    EvmAddress: parse_evm_address,
    PoolId: parse_pool_id,
    Path: _path,
    Url: _url,
    RelayUrl: parse_relay_url,
    SignerUrl: parse_signer_url,
    **SHARED_PARSERS,
}
# URLs carry API keys, and whoever writes the key itself where its reference belongs must not find it in a log.
_HIDDEN = frozenset({Url, RelayUrl, SignerUrl, *SHARED_PARSERS} - {Listen})
