"""Runs on the edge's host: callers who keep their connections, while the edge loses a node, gets a certificate, or reads its configuration anew.

    edge_clients.py EDGE EVENT CALLERS WEBSOCKETS SECONDS -- COMMAND...

EDGE is JSON: {chain, name, port, socket}. Starts the callers and the WebSockets, each caller calling ten times a second; after two seconds runs COMMAND, and ends SECONDS after it. Prints
{sent, failed, closed_idle, sockets, sockets_lost, seconds}: calls sent; calls without a result; kept connections that the edge closed between
two calls, which the caller noticed before it called again; WebSockets, and those that ended; and, where EVENT is out:HOST, seconds from
before COMMAND until that node was out of the edge's pool.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import select
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import aiohttp

EDGE = json.loads(sys.argv[1])
CHAIN, NAME, PORT, STATUS_SOCKET = EDGE["chain"], EDGE["name"], EDGE["port"], EDGE["socket"]
BODY = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "eth_blockNumber", "params": []})
EVERY_SECONDS = 0.1


class Callers:
    """What all callers have seen, added up."""

    def __init__(self) -> None:
        self.sent = self.failed = self.closed_idle = 0
        self.problems: list[str] = []
        self.stop = threading.Event()
        self.lock = threading.Lock()
        self.context = ssl.create_default_context()

    def call(self) -> None:
        """Call over one kept connection until told to stop; what ends that early is in `problems`."""
        try:
            self._call()
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing was measured
            self.problems.append(repr(error))

    def _call(self) -> None:
        link: http.client.HTTPSConnection | None = None
        while not self.stop.wait(EVERY_SECONDS):
            if link is not None and link.sock is None:
                link = None  # the last answer said that it was the connection's last
            closed = link is not None and bool(select.select([link.sock], [], [], 0)[0])
            if closed or link is None:
                link = http.client.HTTPSConnection(NAME, PORT, context=self.context, timeout=10)
                plain = socket.create_connection(("127.0.0.1", PORT), timeout=10)
                link.sock = self.context.wrap_socket(plain, server_hostname=NAME)
            failed = False
            try:
                link.request("POST", "/", BODY, {"Content-Type": "application/json"})
                failed = "result" not in json.loads(link.getresponse().read())
            except (OSError, ValueError, http.client.HTTPException):
                failed, link = True, None
            with self.lock:
                self.sent += 1
                self.failed += failed
                self.closed_idle += closed


class Edge(aiohttp.abc.AbstractResolver):
    """The edge is on this host, whatever DNS says."""

    async def resolve(self, host: str, port: int = 0, family: int = 2) -> list[aiohttp.abc.ResolveResult]:
        """Give the loopback address."""
        return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": family or 2, "proto": 0, "flags": 0}]

    async def close(self) -> None:
        """Close nothing."""


async def hold(count: int, begun: threading.Event, stop: threading.Event, lost: list[int]) -> None:
    """Hold WebSockets that hear of new heads until told to stop; adds the number of those that ended by then."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=Edge(), limit=0)) as session:
        links = [await session.ws_connect(f"https://{NAME}:{PORT}/") for _ in range(count)]
        for link in links:
            await link.send_json({"jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": ["newHeads"]})
        begun.set()

        async def listen(link: aiohttp.ClientWebSocketResponse) -> None:
            async for _ in link:
                pass

        listening = [asyncio.create_task(listen(link)) for link in links]
        await asyncio.to_thread(stop.wait)
        lost.append(sum(task.done() for task in listening))
        for task in listening:
            task.cancel()


def nodes_of(chain: str) -> dict[str, bool]:
    """Ask the edge which nodes of a chain are in its pool."""
    link = http.client.HTTPConnection("edge")
    link.sock = socket.socket(socket.AF_UNIX)
    link.sock.connect(STATUS_SOCKET)
    with contextlib.closing(link):
        link.request("GET", "/pools")
        nodes = json.loads(link.getresponse().read())["pools"][chain]["nodes"]
    return {node["host"]: node["member"] for node in nodes}


def wait(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition; SystemExit where it does not come within 30 s."""
    deadline = time.monotonic() + 30
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what} did not come within 30 s")
        time.sleep(0.02)


def main() -> None:
    """Run the callers, the command, and say what they saw."""
    event, count, sockets, seconds, _, *command = sys.argv[2:]
    wait(lambda: all(nodes_of(CHAIN).values()), "a whole pool")
    callers, begun, lost = Callers(), threading.Event(), list[int]()
    threads = [threading.Thread(target=callers.call) for _ in range(int(count))]
    holder = threading.Thread(target=lambda: asyncio.run(hold(int(sockets), begun, callers.stop, lost)))
    for thread in (*threads, holder):
        thread.start()
    found: float | None = None
    try:
        if not begun.wait(60):
            raise SystemExit("the WebSockets did not open within 60 s")
        time.sleep(2)
        started = time.monotonic()
        subprocess.run(command, check=True, stdout=sys.stderr)
        if event.startswith("out:"):
            host = event.removeprefix("out:")
            wait(lambda: not nodes_of(CHAIN)[host], f"a pool without {host}")
            found = time.monotonic() - started
        time.sleep(float(seconds))
    finally:
        callers.stop.set()
        for thread in (*threads, holder):
            thread.join()
    if callers.problems:
        raise SystemExit(f"{len(callers.problems)} callers ended early, the first with {callers.problems[0]}")
    print(
        json.dumps(
            {
                "sent": callers.sent,
                "failed": callers.failed,
                "closed_idle": callers.closed_idle,
                "sockets": int(sockets),
                "sockets_lost": lost[0],
                "seconds": found,
            }
        )
    )


if __name__ == "__main__":
    main()
