import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from node_health.config import Kind, Node

from tests.unit.node_health.fake_node import Fake


@pytest.fixture
def fake() -> Iterator[Fake]:
    server = Fake()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


second = fake


@pytest.fixture
def node(fake: Fake) -> Callable[..., Node]:
    def make(kind: Kind = Kind.RETH, **changes: Any) -> Node:
        values: dict[str, Any] = {
            "name": "node",
            "kind": kind,
            "chain_id": 10,
            "rpc": fake.url,
            "allowed_lag_seconds": 30.0,
            "timeout_seconds": 1.0,
        }
        return Node(**{**values, **changes})

    return make


@pytest.fixture
def config(tmp_path: Path, fake: Fake) -> Callable[..., Path]:
    def write(file: str = "node", **changes: Any) -> Path:
        values = {"name": file, "kind": "reth", "chain_id": 10, "rpc": fake.url, "allowed_lag_seconds": 30}
        path = tmp_path / f"{file}.json"
        path.write_text(json.dumps({k: v for k, v in {**values, **changes}.items() if v is not None}))
        return path

    return write
