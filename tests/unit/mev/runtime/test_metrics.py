"""Metrics are served where the configuration says, and nowhere else."""

import urllib.request

import pytest
from mev.runtime import metrics
from mev.runtime.config import ConfigError, Listen
from prometheus_client import CollectorRegistry, Counter

from lab.evm.devnode import free_port


def test_a_registry_is_served_until_it_is_ended() -> None:
    registry = CollectorRegistry()
    Counter("mev_things", "Things", registry=registry).inc(3)
    listen = Listen(f"127.0.0.1:{free_port()}")
    end = metrics.serve(registry, "strategy_engine", listen)
    with urllib.request.urlopen(f"http://{listen}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    end()
    assert "mev_things_total 3.0" in text
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://{listen}/metrics", timeout=10)


def test_an_address_that_is_taken_is_named_with_its_key() -> None:
    listen = Listen(f"127.0.0.1:{free_port()}")
    end = metrics.serve(CollectorRegistry(), "strategy_engine", listen)
    with pytest.raises(
        ConfigError, match=rf"metrics\.analytics_engine is {listen} and cannot be bound: Address already"
    ):
        metrics.serve(CollectorRegistry(), "analytics_engine", listen)
    end()


def test_without_an_address_nothing_is_served() -> None:
    metrics.serve(CollectorRegistry(), "strategy_engine", None)()
