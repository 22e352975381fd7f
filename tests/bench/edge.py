"""Latency through the edge beside a direct call to the same node, measured on the host, interleaved call by call."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator

from tests.bench.figure import Figure
from tests.e2e.conftest import CHAINS, DOMAIN, EDGE_PORT, SERVICES, Host

ROUNDS = 3
# The edge lets each address send a burst of 20 calls and 100 a minute. So the calls come from many addresses of loopback, one
# connection each, and stay below that: one to warm up, and two of each pair.
ADDRESSES = 120
CALLS_EACH = 9

# Runs on the lab host with its Python: kept-alive connections each way; by turns eth_blockNumber of the node, the same through the edge,
# and eth_chainId, which the edge answers from memory.
PROBE = f"""
import http.client, json, socket, ssl, time
name = "{CHAINS["ethereum"]["public_name"]}.{DOMAIN}"
body, kept = (
    json.dumps({{"jsonrpc": "2.0", "id": 1, "method": method, "params": []}}) for method in ("eth_blockNumber", "eth_chainId")
)
headers = {{"Content-Type": "application/json"}}
context = ssl.create_default_context()
direct = http.client.HTTPConnection("{CHAINS["ethereum"]["loopback"]}", {SERVICES["erigon"]["listeners"]["rpc"]["port"]})
def through_edge(address):
    connection = http.client.HTTPSConnection(name, {EDGE_PORT})
    plain = socket.create_connection(("127.0.0.1", {EDGE_PORT}), source_address=(address, 0))
    # As http.client does with the connections that it makes itself; without it a call waits 40 ms for an acknowledgement.
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sock = context.wrap_socket(plain, server_hostname=name)
    return connection
def call(connection, body=body):
    begun = time.perf_counter()
    connection.request("POST", "/", body, headers)
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 200, answer.status
    return (time.perf_counter() - begun) * 1000
pairs = []
for number in range({ADDRESSES}):
    edge = through_edge(f"127.1.ROUND.{{number + 1}}")
    for connection in (direct, edge):
        call(connection)
    pairs += [(call(direct), call(edge), call(edge, kept)) for _ in range({CALLS_EACH})]
    edge.close()
print(json.dumps([list(one) for one in zip(*pairs)]))
"""


def measure() -> Iterator[Figure]:
    """Median of three rounds of p50 and p99, through the edge and direct, one call at a time; what the edge adds; an answer that is kept."""
    host = Host()
    rounds: list[list[list[float]]] = [
        json.loads(host.python(PROBE.replace("ROUND", str(number)))) for number in range(ROUNDS)
    ]

    def median(which: int, quantile: int) -> float:
        return statistics.median(statistics.quantiles(one[which], n=100)[quantile - 1] for one in rounds)

    for quantile in (50, 99):
        edge, direct = median(1, quantile), median(0, quantile)
        yield Figure(f"edge_p{quantile}_ms", edge, "ms", ROUNDS, "direct call", direct)
        yield Figure(f"direct_p{quantile}_ms", direct, "ms", ROUNDS)
        yield Figure(f"edge_overhead_p{quantile}_ms", edge - direct, "ms", ROUNDS)
    yield Figure("cache_hit_us", median(2, 50) * 1000, "us", ROUNDS, "direct call", median(0, 50) * 1000)
