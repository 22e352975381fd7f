"""The strategy engine: from each chain's blocks to fills, every step in the ledger.

    python -m mev.strategy_engine --config /etc/mev/mev.toml

Ready when the pools of every configured chain that answers are loaded. A chain that is down stops no other: it is
tried again for ever, and named in the service's status. So is the ledger where it cannot be written.
"""

import argparse
import asyncio
import contextlib
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec
import structlog

from mev.chain.abi import AbiError
from mev.chain.rpc import Rpc, RpcError, RpcUnavailableError
from mev.market.discovery import DiscoveryError
from mev.market.state import StateError
from mev.monitoring.switch_listener import SwitchListener
from mev.runtime import metrics, obs, tracing
from mev.runtime.bus import SETTLEMENTS, Bus, BusError, Outbox, connect, introduce
from mev.runtime.config import Config, ConfigError, Mode, SecretError, load
from mev.runtime.service import Service, serve
from mev.runtime.storage import Database, StorageError
from mev.trading.desk import Desk
from mev.trading.execution.contract import ExecutorMissingError
from mev.trading.execution.execution import Settled
from mev.trading.execution.signers import Signs, signer_of
from mev.trading.execution.ways import Way, way_of
from mev.trading.ledger import Ledger, Stepped
from mev.trading.meter import Meter
from mev.trading.spans import Spans, spans_to
from mev.trading.strategies.plugin import load_plugin
from mev.trading.switch_audit import SwitchAudit

AGENT = "strategy_engine"
RETRY_SECONDS = 2.0
# A chain that has not begun to answer by then is not waited for.
FIRST_ANSWER_SECONDS = 5.0
STATUS_SECONDS = 5.0
POLL_SECONDS = 0.1
# An end waits so long for what is not on the bus yet; the ledger has it all the same.
FLUSH_SECONDS = 3.0

log = structlog.get_logger(__name__)


class Engine:
    """All chains of one configuration, each in a task of its own."""

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        signer: Signs | None,
        bus: Bus,
        meter: Meter,
        spans: Spans | None = None,
        listener: SwitchListener | None = None,
        audit: SwitchAudit | None = None,
        ways: Mapping[str, Way | None] | None = None,
    ) -> None:
        self._config = config
        self._ledger = ledger
        self._signer = signer
        self._meter = meter
        self._spans = spans or Spans()
        self._listener = listener
        self._audit = audit
        self._ways = ways or {}
        self._bus = bus
        self._rpcs: dict[str, Rpc] = {}
        self._settlements = Outbox(bus, SETTLEMENTS)
        self._heads: dict[str, int] = {}
        self._problems: dict[str, str] = {}
        self._desks: dict[str, Desk] = {}

    async def run(self, service: Service) -> None:
        """Trade until the service is told to stop; each chain finishes the block at hand."""
        async with (
            self._listener.serving() if self._listener else contextlib.nullcontext(),
            self._signer or contextlib.nullcontext(),
        ):
            await self._run(service)

    async def _run(self, service: Service) -> None:
        stopping = asyncio.create_task(service.stopping.wait())
        tasks = [stopping, asyncio.create_task(self._tell(service)), asyncio.create_task(self._settlements.run())]
        tasks += [asyncio.create_task(self._keep(name), name=name) for name in self._config.chains]
        tasks += [asyncio.create_task(self._audit.run())] if self._audit else []
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.gather(*(desk.finish() for desk in self._desks.values()))
        await self._settlements.flush(FLUSH_SECONDS)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(way.close() for way in self._ways.values() if way is not None))
        for task in ended - {stopping}:
            # Only what nobody foresaw ends a desk: systemd starts the engine again.
            task.result()

    async def _keep(self, name: str) -> None:
        """Keep one chain's desk running, whatever its node does."""
        chain = self._config.chains[name]
        while True:
            async with Rpc(chain.end_points, chain_id=chain.id) as rpc:
                self._rpcs[name] = rpc
                desk = self._desks[name] = Desk(
                    name,
                    self._config,
                    rpc,
                    self._ledger,
                    self._signer,
                    announce=self._announce,
                    meter=self._meter,
                    spans=self._spans,
                    way=self._ways.get(name),
                )

                def progress(desk: Desk = desk) -> None:
                    self._problems.pop(name, None)
                    if desk.head is not None:
                        self._heads[name] = desk.head.number

                try:
                    await desk.run(progress)
                except (RpcError, RpcUnavailableError, DiscoveryError, StateError, AbiError) as error:
                    self._problems[name] = str(error)
                    log.warning("chain is tried again", chain=name, reason=str(error))
                except StorageError as error:
                    # A disk that is full, a database server that is away: what cannot be written is not sent, and so it waits.
                    self._problems[name] = f"ledger: {error}"
                    self._meter.ledger_fault(name)
                    log.warning("the ledger cannot be written", chain=name, reason=str(error))
            await asyncio.sleep(RETRY_SECONDS)

    def _announce(self, settled: Settled) -> None:
        sent = settled.submission
        document = {
            "chain": sent.chain,
            "opportunity": sent.opportunity,
            "state": settled.state,
            "reason": settled.reason,
        }
        self._settlements.put(f"{sent.chain}:0x{sent.hash.hex()}", msgspec.json.encode(document))

    async def _tell(self, service: Service) -> None:
        """Say when the engine is ready, and from then on how it stands."""
        began = time.monotonic()
        while set(self._config.chains) - set(self._heads) - set(self._problems):
            if time.monotonic() - began > FIRST_ANSWER_SECONDS and self._heads:
                break
            await asyncio.sleep(POLL_SECONDS)
        service.ready(self._line())
        while True:
            for name, rpc in self._rpcs.items():
                self._meter.asked(name, rpc.health())
            with contextlib.suppress(BusError):
                # What it says of the bus is true although there may be nothing to tell.
                await self._bus.ping()
            await asyncio.sleep(STATUS_SECONDS)
            service.status(self._line())

    def _line(self) -> str:
        known = [f"{name} {self._heads[name]}" for name in self._config.chains if name in self._heads]
        absent = [name for name in self._config.chains if name not in self._heads or name in self._problems]
        line = f"{self._config.mode}; {', '.join(known) or 'no chain yet'}"
        line = f"{line}; tried again: {', '.join(absent)}" if absent else line
        ledger = next((problem for problem in self._problems.values() if problem.startswith("ledger: ")), None)
        line = f"{line}; {ledger}" if ledger else line
        return f"{line}; bus: {self._bus.problem}" if self._bus.problem else line


def main() -> int:
    """Run the agent; exit code 2 for a configuration that cannot be used, 1 for a failure."""
    parser = argparse.ArgumentParser(prog=f"mev.{AGENT}", description=__doc__.partition("\n")[0])
    parser.add_argument("--config", type=Path, required=True, help="mev.toml")
    try:
        config = load(parser.parse_args().config)
        obs.configure(config.logging.level, config.logging.directory / f"{AGENT}.log")
        for reference in config.strategy_plugins:
            load_plugin(reference)
        # Observing needs no key, and so must not be stopped by one that is not there.
        signer = signer_of(config.signer) if config.signer and config.mode is not Mode.OBSERVE else None
        database = Database(config.storage.ledger)
        database.claim()
        introduce(config.bus.location)
        bus = connect(config.bus.location, max_length=config.bus.max_length)
        meter = Meter()
        metrics.watch_bus(meter.registry, bus)
        pipe = tracing.connect(config.traces, AGENT, meter.registry)
        spans = spans_to(pipe)

        def stepped(step: Stepped) -> None:
            meter.stepped(step)
            spans.stepped(step)

        listener = SwitchListener(config, config.control, meter.registry) if config.control else None
        ledger = Ledger(database, stepped=stepped)
        ways = {
            name: way_of(name, chain, meter.handed, signer.address)
            for name, chain in config.chains.items()
            if signer is not None
        }
        engine = Engine(config, ledger, signer, bus, meter, spans, listener, SwitchAudit(database, config), ways)
        metrics.serve(meter.registry, AGENT, config.metrics.strategy_engine)
    except (BusError, ConfigError, SecretError, StorageError, ExecutorMissingError, OSError) as error:
        sys.stderr.write(f"{AGENT}: {error}\n")
        return 2
    code = serve(engine.run)
    if pipe is not None:
        pipe.close()
    return code


if __name__ == "__main__":
    sys.exit(main())
