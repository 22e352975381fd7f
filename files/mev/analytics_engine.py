"""The analytics engine: what was found, tried and earned, from the ledger into performance_metrics.db and analytics.log.

python -m mev.analytics_engine --config /etc/mev/mev.toml
"""

import argparse
import asyncio
import sys
from pathlib import Path

import structlog

from mev.insight import report
from mev.insight.analytics import Analytics
from mev.insight.record import Recorder
from mev.runtime import obs
from mev.runtime.config import Config, ConfigError, load
from mev.runtime.service import Service, serve
from mev.runtime.storage import Database, NoDatabaseError, StorageError

# The log file's name is the architecture's: analytics.log.
AGENT = "analytics"
REFRESH_SECONDS = 3.0

log = structlog.get_logger(__name__)


async def refresh(config: Config, recorder: Recorder, service: Service) -> None:
    """Refresh until the service is told to stop; ready after the first look, with or without a ledger."""
    analytics: Analytics | None = None
    ready = False
    while not service.stopping.is_set():
        try:
            if analytics is None:
                analytics = Analytics(Database(config.storage.opportunities, read_only=True))
            current = analytics.refresh()
            for each in recorder.record(current):
                log.info("performance", **report.performance_document(each))
            line = f"{sum(each.states['included'] for each in current)} included on {len({e.chain for e in current})} chains"
        except NoDatabaseError as error:
            line = str(error)
        if ready:
            service.status(line)
        else:
            service.ready(line)
            ready = True
        # The wait ends early where the service is told to stop.
        await asyncio.wait([asyncio.ensure_future(service.stopping.wait())], timeout=REFRESH_SECONDS)


def main() -> int:
    """Run the agent; exit code 2 for a configuration that cannot be used, 1 for a failure."""
    parser = argparse.ArgumentParser(prog="mev.analytics_engine", description=__doc__.partition("\n")[0])
    parser.add_argument("--config", type=Path, required=True, help="mev.toml")
    try:
        config = load(parser.parse_args().config)
        obs.configure(config.logging.level, config.logging.directory / f"{AGENT}.log")
        recorder = Recorder(Database(config.storage.performance))
    except (ConfigError, StorageError, OSError) as error:
        sys.stderr.write(f"analytics_engine: {error}\n")
        return 2
    return serve(lambda service: refresh(config, recorder, service))


if __name__ == "__main__":
    sys.exit(main())
