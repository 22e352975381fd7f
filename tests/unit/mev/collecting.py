"""A collector for a test, and the pipe to it."""

from collections.abc import Iterator

import pytest
from mev.runtime import tracing
from mev.runtime.config import TracesConfig
from mev.runtime.config_shared import CollectorUrl, SecretReference
from mev.runtime.otlp import Pipe
from prometheus_client import CollectorRegistry

from tests.collector import Collector


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


def pipe_to(url: str, registry: CollectorRegistry, *, ratio: float = 1.0, authorization: str | None = None) -> Pipe:
    reference = SecretReference(authorization) if authorization else None
    config = TracesConfig(endpoint=CollectorUrl(url), sample_ratio=ratio, authorization=reference)
    pipe = tracing.connect(config, "strategy_engine", registry)
    assert pipe is not None
    return pipe
