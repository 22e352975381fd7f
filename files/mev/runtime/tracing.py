"""Traces, where [traces] is configured; nothing of OpenTelemetry is imported where it is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mev.runtime.config import ConfigError, TracesConfig

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from mev.runtime.otlp import Pipe


def connect(config: TracesConfig | None, agent: str, registry: CollectorRegistry) -> Pipe | None:
    """Return where an agent's spans go, None where traces are off; what is lost is counted in `registry`.

    Raises ConfigError where the package's extra `traces` is not installed, SecretError where the credential is not there. A collector that is
    down stops no agent.
    """
    if config is None:
        return None
    try:
        from mev.runtime.otlp import Pipe  # noqa: PLC0415 - it may be absent
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"traces.endpoint is set and {error.name} is not installed; allowed: with mev[traces] installed, or no [traces]"
        ) from None
    return Pipe(config, agent, registry)
