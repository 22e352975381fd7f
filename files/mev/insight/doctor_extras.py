"""What `mev doctor` looks at only where the configuration switches it on: traces, the kill switch over HTTP, plug-ins, and the contracts of each chain."""

import http.client
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

import msgspec

from mev.chain import wire
from mev.chain.rpc import Rpc, RpcError
from mev.runtime.config import ChainConfig, Config, ConfigError, SecretError, TracesConfig
from mev.runtime.config_shared import ControlConfig
from mev.runtime.secret import secret
from mev.trading.strategies.plugin import load_plugin

ANSWER_SECONDS = 5.0
MOST_ANSWER_BYTES = 64 * 1024
OK, REDIRECTS = 200, 300


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at: whether it is well, and what was seen."""

    check: str
    well: bool
    seen: str


def extras(config: Config) -> Iterator[Finding]:
    """Look at what is switched on; changes nothing."""
    if config.traces is not None:
        yield _traces(config.traces)
    if config.control is not None:
        yield _control(config.control)
    for reference in config.strategy_plugins:
        try:
            load_plugin(reference)
        except ConfigError as error:
            yield Finding(check=f"strategy plug-in {reference}", well=False, seen=str(error))
        else:
            yield Finding(check=f"strategy plug-in {reference}", well=True, seen="it can be imported")


def lost_spans(figures: dict[str, float]) -> Finding | None:
    """Say what a running engine lost of its traces; None where it says nothing of them."""
    lost = sum(int(value) for name, value in figures.items() if name.startswith("mev_trace_spans_lost_total{"))
    if not any(name.startswith("mev_trace_spans_lost_total") for name in figures):
        return None
    seen = f"{lost} spans lost since the engine began: its log says why" if lost else "no span was lost"
    return Finding(check="strategy_engine's traces", well=not lost, seen=seen)


async def contracts(check: str, rpc: Rpc, chain: ChainConfig) -> Finding:
    """Ask whether there is a contract at every address that the configuration names on a chain; raises as the transport does."""
    named = dict(_named(chain))
    asked = [("eth_getCode", [wire.encode(address), "latest"]) for address in named.values()]
    answers = await rpc.batch(asked)
    empty = [
        f"{where} ({wire.encode(address)})"
        for (where, address), code in zip(named.items(), answers, strict=True)
        if isinstance(code, RpcError) or not wire.data(code)
    ]
    seen = f"no contract at {', '.join(empty)}" if empty else f"there is one at each of {len(named)} addresses"
    return Finding(check=check, well=not empty, seen=seen)


def _named(chain: ChainConfig) -> Iterator[tuple[str, bytes]]:
    yield "wrapped_native", chain.wrapped_native
    for token in chain.tokens:
        yield f"tokens: {token.symbol}", token.address
    for kind in (
        "v2_factories",
        "v3_factories",
        "solidly_factories",
        "algebra_factories",
        "v4_managers",
        "balancer_vaults",
        "curve_pools",
    ):
        for made in getattr(chain, kind):
            yield f"{kind}: {made.name}", made.address
    for vault in chain.balancer_vaults:
        for identity in vault.pools:
            yield f"balancer_vaults: pool {wire.encode(identity)}", identity[: wire.ADDRESS_BYTES]
    for kind in ("aave_v3", "compound_v3"):
        for market in getattr(chain, kind):
            yield f"{kind}: {market.name}", market.pool
    for router in chain.routers:
        yield f"routers: {', '.join(router.factories)}", router.address


def _traces(traces: TracesConfig) -> Finding:
    """Send the collector a message without spans, which OTLP has."""
    headers = {"Content-Type": "application/x-protobuf"}
    try:
        if traces.authorization is not None:
            headers["Authorization"] = secret(traces.authorization).decode("ascii")
        status = _asked("POST", traces.url, headers)
    except (SecretError, UnicodeDecodeError, OSError, http.client.HTTPException, ValueError) as error:
        return Finding(check="traces", well=False, seen=f"{traces.endpoint}: {str(error) or type(error).__name__}")
    seen = "takes traces" if OK <= status < REDIRECTS else f"answers {status}"
    return Finding(check="traces", well=OK <= status < REDIRECTS, seen=f"{traces.endpoint} {seen}")


def _control(control: ControlConfig) -> Finding:
    """Ask the running engine, with the token, which chains are halted."""
    check, url = "kill switch over HTTP", f"http://{control.listen}/kill-switch"
    try:
        token = secret(control.token).decode("ascii")
        status = _asked("GET", url, {"Authorization": f"Bearer {token}"})
    except (SecretError, UnicodeDecodeError, OSError, http.client.HTTPException, ValueError) as error:
        seen = f"{control.listen}: {str(error) or type(error).__name__}; it answers while the strategy engine runs"
        return Finding(check=check, well=False, seen=seen)
    seen = (
        "answers to the token" if status == OK else f"answers {status} to the token: the engine began with another one"
    )
    return Finding(check=check, well=status == OK, seen=f"{control.listen} {seen}")


def _asked(method: str, url: str, headers: dict[str, str]) -> int:
    """Return the status that an HTTP request gets; nothing is followed."""
    parts = urlsplit(url)
    if parts.hostname is None:
        raise ValueError("it names no host")
    connection = (
        http.client.HTTPSConnection(
            parts.hostname, parts.port, timeout=ANSWER_SECONDS, context=ssl.create_default_context()
        )
        if parts.scheme == "https"
        else http.client.HTTPConnection(parts.hostname, parts.port, timeout=ANSWER_SECONDS)
    )
    try:
        connection.request(method, parts.path, b"" if method == "POST" else None, headers)
        answer = connection.getresponse()
        answer.read(MOST_ANSWER_BYTES)
        return answer.status
    finally:
        connection.close()
