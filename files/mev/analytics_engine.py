"""The analytics engine: what was found, tried and earned, from the ledger into performance_metrics.db and analytics.log.

python -m mev.analytics_engine --config /etc/mev/mev.toml
"""

import argparse
import asyncio
import socket
import sys
from pathlib import Path

import structlog

from mev.insight import report
from mev.insight.analytics import Analytics
from mev.insight.metrics import PerformanceMetrics
from mev.insight.record import Recorder
from mev.runtime import metrics, obs
from mev.runtime.bus import SETTLEMENTS, BusError, MemoryBus, connect, introduce
from mev.runtime.config import Config, ConfigError, SecretError, load
from mev.runtime.service import Service, serve
from mev.runtime.storage import Database, NoDatabaseError, StorageError
from mev.trading.ledger import read_ledger

# The log file's name is the architecture's: analytics.log.
AGENT = "analytics"
REFRESH_SECONDS = 3.0
HOST = socket.gethostname()

log = structlog.get_logger(__name__)


async def refresh(config: Config, recorder: Recorder, news: "News", seen: PerformanceMetrics, service: Service) -> None:
    """Refresh until the service is told to stop; ready after the first look, with or without a ledger."""
    analytics: Analytics | None = None
    ready = False
    while not service.stopping.is_set():
        try:
            if analytics is None:
                analytics = Analytics(read_ledger(config.storage.ledger))
            current = analytics.refresh()
            seen.see(current)
            for each in recorder.record(current):
                log.info("performance", **report.performance_document(each))
            line = f"{sum(each.states['included'] for each in current)} included on {len({e.chain for e in current})} chains"
        except NoDatabaseError as error:
            line = str(error)
        line = f"{line}; bus: {news.bus.problem}" if news.bus.problem else line
        if ready:
            service.status(line)
        else:
            service.ready(line)
            ready = True
        await news.wait(service)


class News:
    """What ends the wait for the next look: a settlement, if there is a bus between hosts, and the end of the service."""

    def __init__(self, config: Config) -> None:
        """Raises BusError, SecretError where the bus cannot be used as configured."""
        location = config.bus.location
        self.bus = connect(location, max_length=config.bus.max_length)
        # Within this process nobody settles anything.
        self._quiet = isinstance(self.bus, MemoryBus)
        self._joined = False

    async def wait(self, service: Service) -> None:
        """Wait for REFRESH_SECONDS at most."""
        stopping = asyncio.ensure_future(service.stopping.wait())
        heard = asyncio.ensure_future(self._hear())
        await asyncio.wait([stopping, heard], timeout=REFRESH_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        for waited in (stopping, heard):
            waited.cancel()
        await asyncio.gather(stopping, heard, return_exceptions=True)

    async def _hear(self) -> None:
        try:
            while not self._quiet:
                if not self._joined:
                    await self.bus.join(SETTLEMENTS, AGENT)
                    self._joined = True
                if heard := await self.bus.take(SETTLEMENTS, AGENT, HOST, wait_seconds=REFRESH_SECONDS):
                    for message in heard:
                        await self.bus.done(message)
                    return
        except BusError as error:
            log.warning("not heard", reason=str(error))
        await asyncio.sleep(REFRESH_SECONDS)


def main() -> int:
    """Run the agent; exit code 2 for a configuration that cannot be used, 1 for a failure."""
    parser = argparse.ArgumentParser(prog="mev.analytics_engine", description=__doc__.partition("\n")[0])
    parser.add_argument("--config", type=Path, required=True, help="mev.toml")
    try:
        config = load(parser.parse_args().config)
        obs.configure(config.logging.level, config.logging.directory / f"{AGENT}.log")
        recorder = Recorder(Database(config.storage.metrics))
        introduce(config.bus.location)
        news = News(config)
        seen = PerformanceMetrics()
        metrics.watch_bus(seen.registry, news.bus)
        metrics.serve(seen.registry, "analytics_engine", config.metrics.analytics_engine)
    except (BusError, ConfigError, SecretError, StorageError, OSError) as error:
        sys.stderr.write(f"analytics_engine: {error}\n")
        return 2
    return serve(lambda service: refresh(config, recorder, news, seen, service))


if __name__ == "__main__":
    sys.exit(main())
