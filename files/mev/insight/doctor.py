"""Whether everything that the agents stand on is as it should be: databases, key, bus, nodes, clock, and those who sign and take trades elsewhere."""

import asyncio
import contextlib
import http.client
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from mev.chain import wire
from mev.chain.errors import RpcError, RpcUnavailableError
from mev.chain.rpc import Rpc
from mev.insight import record
from mev.insight.doctor_extras import Finding, contracts, extras, lost_spans
from mev.insight.doctor_ways import ways
from mev.runtime.bus import BusError, connect
from mev.runtime.config import ChainConfig, Config, Listen, Mode, SecretError
from mev.runtime.storage import Database, Location, Schema, StorageError
from mev.trading.execution.signers import signer_of
from mev.trading.ledger import tables
from mev.trading.risk import killed

# A head that claims to be from so far ahead means that one of the two clocks is wrong.
AHEAD_SECONDS = 5.0
NODE_SECONDS = 10.0
PING = "mev:doctor"
METRICS_SECONDS = 5.0
MOST_METRICS_BYTES = 4 << 20


def examine(config: Config, now: Callable[[], float] = time.time) -> list[Finding]:
    """Look at everything; changes nothing."""
    found = list(_local(config))
    return found + asyncio.run(_remote(config, now))


def _local(config: Config) -> Iterator[Finding]:
    yield Finding(check="configuration", well=True, seen=f"{config.mode}; {len(config.chains)} chains")
    yield _database("ledger", config.storage.ledger, tables.SCHEMA)
    yield _database("performance", config.storage.metrics, record.SCHEMA)
    yield _key(config)
    for name, chain in config.chains.items():
        if killed(chain.risk.kill_switch):
            seen = f"{chain.risk.kill_switch} is there: nothing is sent until `mev resume`"
            yield Finding(check=f"kill switch of {name}", well=False, seen=seen)
    yield from extras(config)


def _database(name: str, location: Location, schema: Schema) -> Finding:
    check = f"database {name}"
    try:
        database = Database(location, read_only=True)
        try:
            database.check_thoroughly()
            database.prepare(schema)
            version = database.revision(schema)
        finally:
            database.close()
    except StorageError as error:
        return Finding(check=check, well=False, seen=str(error))
    except SecretError as error:
        return Finding(check=check, well=False, seen=str(error))
    kind = "SQLite, every page whole" if isinstance(location, Path) else "PostgreSQL"
    return Finding(check=check, well=True, seen=f"{database.name}: {kind}, schema {version}")


def _key(config: Config) -> Finding:
    check = "signing key"
    if config.signer is None:
        return Finding(check=check, well=config.mode is not Mode.LIVE, seen="none is configured: nothing can be signed")
    try:
        signer = signer_of(config.signer)
    except SecretError as error:
        return Finding(check=check, well=config.mode is Mode.OBSERVE, seen=str(error))
    seen = f"{config.signer.key} can be read, and is one" if config.signer.key else f"held elsewhere: {signer}"
    return Finding(check=check, well=True, seen=seen)


async def _remote(config: Config, now: Callable[[], float]) -> list[Finding]:
    # Its number and not its URL, which may hold a key.
    nodes = (
        _node(f"node {number} of {name}" if chain.more_end_points else f"node of {name}", name, url, chain, now)
        for name, chain in config.chains.items()
        for number, url in enumerate(chain.end_points, 1)
    )
    findings = [each for found in await asyncio.gather(*nodes) for each in found]
    return [*findings, *await ways(config), *await _bus(config), *await _agents(config)]


async def _node(check: str, name: str, url: str, chain: ChainConfig, now: Callable[[], float]) -> list[Finding]:
    try:
        # Rpc asks for the chain's id first, and asks a node of another chain nothing more.
        async with asyncio.timeout(NODE_SECONDS), Rpc(url, chain_id=chain.id) as rpc:
            head = await rpc.call_as(wire.Head, "eth_getBlockByNumber", ["latest", False])
            code = await contracts(check.replace("node", "contracts", 1), rpc, chain)
    except (RpcError, RpcUnavailableError) as error:
        return [Finding(check=check, well=False, seen=str(error))]
    except TimeoutError:
        return [Finding(check=check, well=False, seen=f"no answer within {NODE_SECONDS:.0f} s")]
    if head is None:
        return [Finding(check=check, well=False, seen="it has no latest block")]
    block = head.block()
    age = now() - block.timestamp
    ahead = f"block {block.number} is of {-age:.1f} s from now: this host's clock or the chain's is wrong"
    return [
        Finding(check=check, well=True, seen=f"chain {chain.id}, block {block.number}"),
        code,
        Finding(
            check=check.replace("node", "clock against node") if chain.more_end_points else f"clock against {name}",
            well=-AHEAD_SECONDS <= age <= chain.allowed_lag_seconds,
            seen=ahead
            if age < -AHEAD_SECONDS
            else f"its newest block is {age:.1f} s old, {chain.allowed_lag_seconds} allowed",
        ),
    ]


async def _bus(config: Config) -> list[Finding]:
    location = config.bus.location
    if location is None:
        return []
    try:
        bus = connect(location, max_length=config.bus.max_length)
        try:
            # A stream of its own, so that no agent hears of it; the second time it is there already.
            await bus.publish(PING, PING, b"")
        finally:
            await bus.close()
    except (BusError, SecretError) as error:
        return [Finding(check="bus", well=False, seen=str(error))]
    return [Finding(check="bus", well=True, seen=f"{location.url} answers")]


async def _agents(config: Config) -> list[Finding]:
    """What running agents say of themselves; one that does not run says nothing."""
    places = {"strategy_engine": config.metrics.strategy_engine, "analytics_engine": config.metrics.analytics_engine}
    said = [(name, await asyncio.to_thread(_figures, place)) for name, place in places.items() if place is not None]
    findings = []
    for name, figures in said:
        up = figures.get("mev_bus_up") if config.bus.location is not None else None
        if up is not None:
            seen = "it takes what the agent says" if up else "see the agent's status"
            findings.append(Finding(check=f"{name}'s bus", well=bool(up), seen=seen))
        if config.traces is not None and (lost := lost_spans(figures)) is not None:
            findings.append(lost)
        for chain in config.chains:
            evaluating = figures.get(f'mev_pending_evaluation{{chain="{chain}"}}')
            faults = figures.get(f'mev_pending_faults_total{{chain="{chain}"}}')
            if evaluating is not None and faults is not None:
                findings.append(_pending(chain, evaluating=bool(evaluating), faults=int(faults)))
    return findings


def _pending(chain: str, *, evaluating: bool, faults: int) -> Finding:
    """Judge the evaluation of pending swaps; a rollup's node, which tells of none, is to be no reason to ask for them."""
    if evaluating and not faults:
        seen = "they are evaluated"
    elif faults:
        seen = f"faults since the engine began: {faults}, each in its log; they are {'' if evaluating else 'not '}evaluated now"
    else:
        seen = "the node tells of none: take sandwich out of strategies, or use a node that does"
    return Finding(check=f"pending swaps of {chain}", well=evaluating and not faults, seen=seen)


def _figures(listen: Listen) -> dict[str, float]:
    """Ask an agent's metrics; empty where no agent runs there."""
    connection = http.client.HTTPConnection(listen.address, listen.port, timeout=METRICS_SECONDS)
    try:
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read(MOST_METRICS_BYTES).decode(errors="replace").splitlines()
    except (OSError, http.client.HTTPException):
        return {}
    finally:
        connection.close()
    figures = {}
    for line in lines:
        name, _, value = line.rpartition(" ")
        with contextlib.suppress(ValueError):
            figures[name] = float(value)
    return figures


def document(findings: list[Finding]) -> dict[str, Any]:
    """Write findings for programs."""
    return {
        "well": all(each.well for each in findings),
        "findings": [msgspec.structs.asdict(each) for each in findings],
    }
