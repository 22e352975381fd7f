"""From a client's own words to what the stand-in serves: addresses, paths, chain, and whom it follows."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.standins.client.arguments import Arguments, RefusedError, port_in
from roles.chain_service.filter_plugins import client_names as names

NETWORKS = {
    ("erigon", "mainnet"): 1,
    ("erigon", "sepolia"): 11155111,
    ("op-reth", "optimism"): 10,
    ("op-reth", "base"): 8453,
    ("base-reth-node", "base"): 8453,
    ("geth", "op-mainnet"): 10,
    ("geth", "base-mainnet"): 8453,
    ("op-node", "op-mainnet"): 10,
    ("op-node", "base-mainnet"): 8453,
    ("base-consensus", "base"): 8453,
    ("bor", "mainnet"): 137,
    ("heimdalld", "mainnet"): 137,
}
PARENT_IDS = {10: 1, 8453: 1, 42161: 1}
NITRO_CHAINS = (42161,)
Address = tuple[str, int]


@dataclass(frozen=True)
class Api:
    """A JSON-RPC listener and the namespaces that it serves."""

    address: Address
    namespaces: frozenset[str]
    jwt: Path | None = None


@dataclass(frozen=True)
class Plan:
    """What one stand-in does."""

    program: str
    chain_id: int
    data: Path
    apis: tuple[Api, ...] = ()
    role: str = "execution"
    metrics: Address | None = None
    beacon: Address | None = None
    own_rpc: Address | None = None
    rest: Address | None = None
    jwt: Path | None = None
    engine: str = ""
    parent: str = ""
    parent_id: int = 0
    tcp: tuple[Address, ...] = ()
    udp: tuple[Address, ...] = ()


def of(program: str, arguments: Arguments, environment: Mapping[str, str]) -> Plan:
    """What the command line, the configuration files and the environment ask for; RefusedError where they cannot be had."""
    readers: dict[str, Callable[[], Plan]] = {
        "erigon": lambda: _erigon(arguments),
        "op-reth": lambda: _reth(program, arguments),
        "base-reth-node": lambda: _reth(program, arguments),
        "geth": lambda: _geth(arguments),
        "op-node": lambda: _op_node(arguments),
        "base-consensus": lambda: _base_consensus(arguments, environment),
        "bor": lambda: _bor(arguments),
        "heimdalld": lambda: _heimdall(arguments),
        "nitro": lambda: _nitro(arguments),
    }
    return readers[program]()


def network_id(program: str, network: str) -> int:
    """The id of a network, by the name that a program has for it."""
    if (program, network) not in NETWORKS:
        raise RefusedError(f"{program}: unknown network '{network}'")
    return NETWORKS[program, network]


def _apis(text: str) -> frozenset[str]:
    return frozenset(part.strip() for part in text.split(",") if part.strip())


def _pair(text: str) -> Address:
    host, _, port = text.removeprefix("tcp://").rpartition(":")
    return (host or "0.0.0.0", port_in(port, f"address '{text}'"))  # noqa: S104 - as the real clients take an empty host


def _required(program: str, **given: str) -> None:
    missing = [name for name, value in given.items() if not value]
    if missing:
        raise RefusedError(f"{program}: {missing[0]} is required and was not given")


def _erigon(a: Arguments) -> Plan:
    host, apis = a.text("http.addr", "localhost"), _apis(a.text("http.api", "eth,erigon,engine"))
    jwt = Path(a.text("authrpc.jwtsecret"))
    listeners = [Api((host, a.port("http.port", 8545)), apis)] if a.has("http", default=True) else []
    if a.has("ws") and a.port("ws.port", 8546) != a.port("http.port", 8545):
        listeners.append(Api((host, a.port("ws.port", 8546)), apis))
    listeners.append(
        Api((a.text("authrpc.addr", "localhost"), a.port("authrpc.port", 8551)), frozenset({"engine", "eth"}), jwt)
    )
    everywhere = "0.0.0.0"  # noqa: S104 - P2P, as the real client binds it
    beacon = (a.text("beacon.api.addr", "localhost"), a.port("beacon.api.port", 5555)) if a.text("beacon.api") else None
    p2p, torrent = (everywhere, a.port("port", 30303)), (everywhere, a.port("torrent.port", 42069))
    caplin_tcp, caplin_quic = a.port("caplin.discovery.tcpport", 4001), a.port("caplin.discovery.quicport", 4001)
    return Plan(
        program="erigon",
        chain_id=network_id("erigon", a.text("chain", "mainnet")),
        data=Path(a.text("datadir", "/root/.local/share/erigon")),
        apis=tuple(listeners),
        jwt=jwt,
        beacon=beacon,
        metrics=(a.text("metrics.addr", "0.0.0.0"), a.port("metrics.port", 6061)) if a.has("metrics") else None,  # noqa: S104
        tcp=(
            p2p,
            torrent,
            (everywhere, caplin_tcp),
            _pair(a.text("private.api.addr", "127.0.0.1:9090")),
            ("127.0.0.1" if not beacon else beacon[0], a.port("sentinel.port", 7777)),
        ),
        udp=(p2p, torrent, (everywhere, a.port("caplin.discovery.port", 4000)), (everywhere, caplin_quic)),
    )


def _rpc_pair(a: Arguments) -> tuple[Api, ...]:
    listeners = []
    if a.has("http"):
        listeners.append(
            Api(
                (a.text("http.addr", "127.0.0.1"), a.port("http.port", 8545)), _apis(a.text("http.api", "eth,net,web3"))
            )
        )
    if a.has("ws"):
        listeners.append(
            Api((a.text("ws.addr", "127.0.0.1"), a.port("ws.port", 8546)), _apis(a.text("ws.api", "eth,net,web3")))
        )
    jwt = Path(a.text("authrpc.jwtsecret"))
    auth = (a.text("authrpc.addr", "127.0.0.1"), a.port("authrpc.port", 8551))
    return (*listeners, Api(auth, frozenset({"engine", "eth"}), jwt))


def _reth(program: str, a: Arguments) -> Plan:
    everywhere = "0.0.0.0"  # noqa: S104 - P2P, as the real client binds it
    host, discovery_host = a.text("addr", everywhere), a.text("discovery.addr", everywhere)
    port, discovery_port = a.port("port", 30303), a.port("discovery.port", 30303)
    return Plan(
        program=program,
        chain_id=network_id(program, a.text("chain", "optimism")),
        data=Path(a.text("datadir", "/root/.local/share/reth")),
        apis=_rpc_pair(a),
        jwt=Path(a.text("authrpc.jwtsecret")),
        metrics=_pair(a.text("metrics")) if a.text("metrics") else None,
        tcp=((host, port),),
        udp=((discovery_host, discovery_port), (discovery_host, a.port("discovery.v5.port", 9200))),
    )


def _geth(a: Arguments) -> Plan:
    everywhere = "0.0.0.0"  # noqa: S104 - P2P, as the real client binds it
    port = a.port("port", 30303)
    return Plan(
        program="geth",
        chain_id=network_id("geth", a.text("op-network", "")),
        data=Path(a.text("datadir", "/root/.ethereum")),
        apis=_rpc_pair(a),
        jwt=Path(a.text("authrpc.jwtsecret")),
        metrics=(a.text("metrics.addr", "127.0.0.1"), a.port("metrics.port", 6060)) if a.has("metrics") else None,
        tcp=((everywhere, port),),
        udp=((everywhere, a.port("discovery.port", port)),),
    )


def _op_node(a: Arguments) -> Plan:
    chain_id = network_id("op-node", a.text("network"))
    _required("op-node", l1=a.text("l1"), l2=a.text("l2"))
    p2p_host = a.text("p2p.listen.ip", "0.0.0.0")  # noqa: S104 - the real client's default
    return Plan(
        program="op-node",
        chain_id=chain_id,
        data=Path(a.text("p2p.peerstore.path", "/tmp/op-node/peerstore")).parent,  # noqa: S108 - no real default
        role="consensus",
        own_rpc=(a.text("rpc.addr", "0.0.0.0"), a.port("rpc.port", 9545)),  # noqa: S104 - the real client's default
        jwt=Path(a.text("l2.jwt-secret")),
        engine=a.text("l2"),
        parent=a.text("l1"),
        parent_id=PARENT_IDS[chain_id],
        metrics=(a.text("metrics.addr", "0.0.0.0"), a.port("metrics.port", 7300)) if a.has("metrics.enabled") else None,  # noqa: S104
        tcp=((p2p_host, a.port("p2p.listen.tcp", 9222)),),
        udp=((p2p_host, a.port("p2p.listen.udp", 9222)),),
    )


def _base_consensus(a: Arguments, environment: Mapping[str, str]) -> Plan:
    unknown = names.unknown_variables("base-consensus", environment)
    if unknown:
        raise RefusedError(f"error: unknown environment variable {unknown[0]}", 2)

    def value(name: str, *flags: str, default: str = "") -> str:
        said = [text for text in map(a.text, flags) if text]
        return said[-1] if said else environment.get(f"BASE_NODE_{name}", default)

    def port(name: str, *flags: str, default: int) -> int:
        return port_in(value(name, *flags, default=str(default)), f"BASE_NODE_{name}")

    chain_id = network_id("base-consensus", value("NETWORK", "chain", "n"))
    parent, engine = value("L1_ETH_RPC", "l1-eth-rpc", "l1"), value("L2_ENGINE_RPC", "l2-engine-rpc", "l2")
    _required("base-consensus", BASE_NODE_L1_ETH_RPC=parent, BASE_NODE_L2_ENGINE_RPC=engine)
    everywhere = "0.0.0.0"  # noqa: S104 - the real client's default
    p2p_host = value("P2P_LISTEN_IP", "p2p.listen.ip", default=everywhere)
    metrics = (
        value("METRICS_ADDR", "metrics.addr", default=everywhere),
        port("METRICS_PORT", "metrics.port", default=9090),
    )
    return Plan(
        program="base-consensus",
        chain_id=chain_id,
        data=Path(value("P2P_BOOTSTORE", "p2p.bootstore", default="/tmp/base/bootstore")).parent,  # noqa: S108 - no real default
        role="consensus",
        own_rpc=(value("RPC_ADDR", "rpc.addr", default=everywhere), port("RPC_PORT", "rpc.port", "port", default=9545)),
        jwt=Path(value("L2_ENGINE_AUTH", "l2-engine-jwt-secret", "l2.jwt-secret")),
        engine=engine,
        parent=parent,
        parent_id=PARENT_IDS[chain_id],
        metrics=metrics if value("METRICS_ENABLED", "metrics.enabled") == "true" else None,
        tcp=((p2p_host, port("P2P_LISTEN_TCP_PORT", "p2p.listen.tcp", default=9222)),),
        udp=((p2p_host, port("P2P_LISTEN_UDP_PORT", "p2p.listen.udp", default=9223)),),
    )


def _toml(program: str, path: Path, file_name: str) -> dict[str, Any]:
    try:
        data = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RefusedError(f"{program}: cannot read {path}: {error}") from error
    unknown = names.unknown_keys(program, file_name, data)
    if unknown:
        # The real Bor ignores them without a word, which is how a setting gets lost; the stand-in is stricter.
        raise RefusedError(f"{program}: unknown key '{unknown[0]}' in {path}")
    return names.flatten(data)


def _bor(a: Arguments) -> Plan:
    path = Path(a.text("config"))
    data = _toml("bor", path, "config.toml")

    def port(key: str, default: int) -> int:
        found = data.get(key, default)
        if not isinstance(found, int):
            raise RefusedError(f"bor: '{key}' in {path} is not a number")
        return port_in(found, f"'{key}' in {path}")

    listeners = []
    for kind, default in (("http", 8545), ("ws", 8546)):
        if data.get(f"jsonrpc.{kind}.enabled"):
            address = (data.get(f"jsonrpc.{kind}.host", "localhost"), port(f"jsonrpc.{kind}.port", default))
            listeners.append(Api(address, frozenset(data.get(f"jsonrpc.{kind}.api", ["eth", "net", "web3"]))))
    jwt = Path(str(data.get("jsonrpc.auth.jwtsecret", "")))
    auth = (data.get("jsonrpc.auth.addr", "localhost"), port("jsonrpc.auth.port", 8551))
    everywhere = "0.0.0.0"  # noqa: S104 - P2P, as the real client binds it
    p2p = (everywhere, port("p2p.port", 30303))
    return Plan(
        program="bor",
        chain_id=network_id("bor", str(data.get("chain"))),
        data=Path(str(data.get("datadir", "/var/lib/bor"))),
        apis=(*listeners, Api(auth, frozenset({"engine", "eth"}), jwt)),
        jwt=jwt,
        metrics=_pair(str(data.get("telemetry.prometheus-addr", "127.0.0.1:7071")))
        if data.get("telemetry.metrics")
        else None,
        tcp=(p2p, _pair(str(data.get("grpc.addr", ":3131")))),
        udp=(p2p,),
        parent=str(data.get("heimdall.url", "")),
    )


def _heimdall(a: Arguments) -> Plan:
    config = Path(a.text("home")) / "config"
    app, main, client = (_toml("heimdalld", config / name, name) for name in ("app.toml", "config.toml", "client.toml"))
    chain_id = network_id("heimdalld", a.text("chain", str(app.get("custom.chain", ""))))
    if client.get("chain-id") != f"heimdallv2-{chain_id}":
        raise RefusedError(f"heimdalld: chain-id is '{client.get('chain-id')}', expected 'heimdallv2-{chain_id}'")
    tcp = [
        _pair(str(main.get("p2p.laddr", "tcp://0.0.0.0:26656"))),
        _pair(str(app.get("grpc.address", "localhost:9090"))),
    ]
    tcp.append(_pair(str(main.get("rpc.pprof_laddr", "localhost:6060"))))
    return Plan(
        program="heimdalld",
        chain_id=chain_id,
        data=Path(a.text("home")) / "data",
        role="heimdall",
        own_rpc=_pair(str(main.get("rpc.laddr", "tcp://127.0.0.1:26657"))),
        rest=_pair(str(app.get("api.address", "tcp://0.0.0.0:1317"))) if a.has("rest-server") else None,
        metrics=_pair(str(main.get("instrumentation.prometheus_listen_addr", ":26660")))
        if main.get("instrumentation.prometheus")
        else None,
        parent=str(app.get("custom.eth_rpc_url", "")),
        parent_id=1,
        tcp=tuple(tcp),
    )


def _nitro(a: Arguments) -> Plan:
    if a.text("conf.file"):
        a = Arguments({**_nitro_file(Path(a.text("conf.file"))), **a.flags})
    found = (a.text("chain.id"), a.text("parent-chain.id"))
    if found not in [(str(chain_id), str(PARENT_IDS[chain_id])) for chain_id in NITRO_CHAINS]:
        raise RefusedError(
            f"Fatal configuration error: chain.id '{found[0]}' with parent-chain.id '{found[1]}' is not known"
        )
    chain_id = int(found[0])
    jwt = Path(a.text("auth.jwtsecret"))
    apis = [
        # Without an address the real client does not listen.
        Api((a.text(f"{kind}.addr"), a.port(f"{kind}.port", port)), _apis(a.text(f"{kind}.api", "net,web3,eth,arb")))
        for kind, port in (("http", 8547), ("ws", 8548))
        if a.text(f"{kind}.addr")
    ]
    auth = (a.text("auth.addr", "127.0.0.1"), a.port("auth.port", 8549))
    return Plan(
        program="nitro",
        chain_id=chain_id,
        data=Path(a.text("persistent.chain")),
        apis=(*apis, Api(auth, frozenset({"validation", "eth"}), jwt)),
        jwt=jwt,
        parent=a.text("parent-chain.connection.url"),
        parent_id=PARENT_IDS[chain_id],
        metrics=(a.text("metrics-server.addr", "127.0.0.1"), a.port("metrics-server.port", 6070))
        if a.has("metrics")
        else None,
    )


def _nitro_file(path: Path) -> dict[str, str]:
    """A configuration file's settings as the flags that would say the same."""
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RefusedError(f"Fatal configuration error: cannot read {path}: {error}") from error
    if not isinstance(data, dict):
        raise RefusedError(f"Fatal configuration error: {path} holds no object")
    unknown = names.unknown_keys("nitro", "conf.json", data)
    if unknown:
        raise RefusedError(f"Fatal configuration error: unknown key '{unknown[0]}' in {path}")
    return {key: _word(value) for key, value in names.flatten(data).items()}


def _word(value: object) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
