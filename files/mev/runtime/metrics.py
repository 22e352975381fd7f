"""Metrics for Prometheus: an agent's registry, served over HTTP where the configuration gives it an address.

Values are floats, as Prometheus has them: exact up to 2**53. Wei that must be exact are in the ledger.
"""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Gauge, start_http_server

from mev.runtime.bus import Bus
from mev.runtime.config import ConfigError, Listen


def watch_bus(registry: CollectorRegistry, bus: Bus) -> None:
    """Have a registry say whether the agent's bus takes what it says."""
    up = Gauge("mev_bus_up", "1 while the bus takes what this agent says and asks, else 0", registry=registry)
    up.set_function(lambda: float(not bus.problem))


def serve(registry: CollectorRegistry, agent: str, listen: Listen | None) -> Callable[[], None]:
    """Serve a registry at /metrics from threads of their own; returns what ends it.

    Raises ConfigError where the address cannot be bound. Without an address nothing is served.
    """
    if listen is None:
        return lambda: None
    try:
        server, thread = start_http_server(listen.port, listen.address, registry)
    except OSError as error:
        raise ConfigError(
            f"metrics.{agent} is {listen} and cannot be bound: {error.strerror}; allowed: a free address of this host"
        ) from None

    def end() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return end
