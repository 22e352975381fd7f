"""Run one suite: python -m tests.bench clients|converge|edge|engine|host|inspect."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from itertools import chain

import structlog

from tests.bench import (
    clients,
    converge,
    edge,
    edge_fleet,
    engine,
    engine_chain,
    engine_lending,
    engine_search,
    engine_traces,
    engine_trading,
    host,
    inspection,
)
from tests.bench.figure import Figure, table

SUITES: dict[str, Callable[[], Iterator[Figure]]] = {
    "clients": clients.measure,
    "converge": converge.measure,
    "edge": lambda: chain(edge.measure(), edge_fleet.measure()),
    "engine": lambda: chain(
        engine.measure(),
        engine_search.measure(),
        engine_chain.measure(),
        engine_trading.measure(),
        engine_lending.measure(),
        engine_traces.measure(),
    ),
    "host": host.measure,
    "inspect": inspection.measure,
}


def main() -> int:
    """Measure, print each figure as it comes, then the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("suite", choices=list(SUITES))
    options = parser.parse_args()
    # Standard output is for figures.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    figures: list[Figure] = []
    for figure in SUITES[options.suite]():
        figures.append(figure)
        sys.stdout.write(figure.json() + "\n")
        sys.stdout.flush()
    sys.stderr.write(table(figures))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
