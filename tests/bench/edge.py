"""Latency through the edge beside a direct call to the same node, measured on the host, interleaved call by call."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator

from tests.bench.figure import Figure
from tests.e2e.conftest import CHAINS, DOMAIN, EDGE_PORT, SERVICES, Host

ROUNDS = 3
CALLS = 1000

# Runs on the lab host with its Python: one kept-alive connection each way, eth_blockNumber by turns.
PROBE = f"""
import http.client, json, socket, ssl, time
name = "{CHAINS["ethereum"]["public_name"]}.{DOMAIN}"
body = json.dumps({{"jsonrpc": "2.0", "id": 1, "method": "eth_blockNumber", "params": []}})
headers = {{"Content-Type": "application/json"}}
direct = http.client.HTTPConnection("{CHAINS["ethereum"]["loopback"]}", {SERVICES["erigon"]["listeners"]["rpc"]["port"]})
edge = http.client.HTTPSConnection(name, {EDGE_PORT}, context=ssl.create_default_context())
edge.sock = ssl.create_default_context().wrap_socket(socket.create_connection(("127.0.0.1", {EDGE_PORT})), server_hostname=name)
def call(connection):
    begun = time.perf_counter()
    connection.request("POST", "/", body, headers)
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 200, answer.status
    return (time.perf_counter() - begun) * 1000
for connection in (direct, edge):
    for _ in range(50):
        call(connection)
pairs = [(call(direct), call(edge)) for _ in range({CALLS})]
print(json.dumps([list(one) for one in zip(*pairs)]))
"""


def measure() -> Iterator[Figure]:
    """Median of three rounds of p50 and p99, through the edge and direct."""
    host = Host()
    rounds: list[list[list[float]]] = [json.loads(host.python(PROBE)) for _ in range(ROUNDS)]

    def median(which: int, quantile: int) -> float:
        return statistics.median(statistics.quantiles(one[which], n=100)[quantile - 1] for one in rounds)

    for quantile in (50, 99):
        edge, direct = median(1, quantile), median(0, quantile)
        yield Figure(f"edge_p{quantile}_ms", edge, "ms", ROUNDS, "direct call", direct)
        yield Figure(f"direct_p{quantile}_ms", direct, "ms", ROUNDS)
