"""Programs that call the edge from its host under any of loopback's addresses, and what a scenario's tests make of their answers."""

from __future__ import annotations

import base64
import json
import time
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from testinfra.host import Host

NAME = "ethereum.rpc.lyftium.com"
SECONDS = 60
# Let by: on a machine that is busy with other things a pool may be empty for a moment, and that is no refusal.
PASSED = {200, 503}
FREE, PROXY = "127.66.0.5", "127.99.0.1"

# Reads what `run` gives.
GIVEN = """
import base64, json, sys, zlib
given = json.loads(zlib.decompress(base64.b64decode(sys.stdin.read())))
"""

# Sends requests that it is given, [{source, body, headers, http_method}, ...], one after the other or at once, and prints what
# came back: [{status, retry_after, text}, ...].
PROBE = (
    GIVEN
    + """
import concurrent.futures, http.client, json, socket, ssl, sys
context = ssl._create_unverified_context()
def send(request):
    link = http.client.HTTPSConnection("NAME", 8443, context=context)
    plain = socket.create_connection(("127.0.0.1", 8443), timeout=20, source_address=(request["source"], 0))
    link.sock = context.wrap_socket(plain, server_hostname="NAME")
    link.request(request.get("http_method", "POST"), request.get("path", "/"), request["body"].encode(), request.get("headers", {}))
    answer = link.getresponse()
    said = {"status": answer.status, "retry_after": answer.getheader("Retry-After"), "text": answer.read().decode()}
    link.close()
    return said
workers = int(sys.argv[1])
with concurrent.futures.ThreadPoolExecutor(workers) as pool:
    print(json.dumps(list(pool.map(send, given))))
"""
)

# What programs that speak to sockets themselves begin with; no step takes longer than a minute.
EDGE = (
    GIVEN
    + """
import http.client, select, socket, ssl, sys, threading, time
context = ssl._create_unverified_context()
SECONDS = 60
def connect(source, protocol="http/1.1", window=None):
    plain = socket.socket()
    if window:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    plain.settimeout(SECONDS)
    plain.bind((source, 0))
    plain.connect(("127.0.0.1", 8443))
    mine = ssl._create_unverified_context()
    mine.set_alpn_protocols([protocol])
    return mine.wrap_socket(plain, server_hostname="NAME")
def post(body, *headers):
    lines = ("POST / HTTP/1.1", "Host: NAME", f"Content-Length: {len(body)}", *headers, "", "")
    return "\\r\\n".join(lines).encode() + body.encode()
def status(link):
    answer = http.client.HTTPResponse(link)
    answer.begin()
    answer.read()
    return answer.status
"""
)

# A WebSocket frame by frame, which EDGE comes before.
SOCKET = """
import base64, os
CLOSE, PING, PONG = 8, 9, 10
class Socket:
    def __init__(self, source, *headers, answers=True):
        self.link, self.answers, self.pings, self.messages, self.close = connect(source), answers, 0, [], None
        lines = ("GET / HTTP/1.1", "Host: NAME", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13")
        key = "Sec-WebSocket-Key: " + base64.b64encode(os.urandom(16)).decode()
        self.link.sendall("\\r\\n".join((*lines, key, *headers, "", "")).encode())
        head = b""
        while not head.endswith(b"\\r\\n\\r\\n"):
            head += self.link.recv(1)
        assert head.startswith(b"HTTP/1.1 101 "), head
    def read(self, count):
        data = b""
        while len(data) < count:
            part = self.link.recv(count - len(data))
            if not part:
                raise EOFError
            data += part
        return data
    def send(self, opcode, payload):
        length = bytes([128 | len(payload)]) if len(payload) < 126 else bytes([254]) + len(payload).to_bytes(2, "big")
        # A mask of nothing changes nothing.
        self.link.sendall(bytes([128 | opcode]) + length + bytes(4) + payload)
    def step(self):
        opcode, length = self.read(1)[0] & 15, self.read(1)[0]
        if length > 125:
            length = int.from_bytes(self.read(2 if length == 126 else 8), "big")
        payload = self.read(length)
        if opcode == PING:
            self.pings += 1
            if self.answers:
                self.send(PONG, payload)
        elif opcode == CLOSE:
            self.close = [int.from_bytes(payload[:2], "big"), payload[2:].decode()]
        else:
            self.messages.append(json.loads(payload))
    def follow(self, until):
        try:
            while not until():
                self.step()
        except (OSError, EOFError) as error:
            self.close = self.close or [0, type(error).__name__]
        return {"pings": self.pings, "messages": len(self.messages), "close": self.close}
"""

# WebSockets from one address: opens as many as it is told, and on the first sends messages and prints what comes back.
SOCKETS = (
    GIVEN
    + """
import asyncio, aiohttp, json, sys
class Edge(aiohttp.abc.AbstractResolver):
    async def resolve(self, host, port=0, family=0):
        return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": 2, "proto": 0, "flags": 0}]
    async def close(self):
        pass
async def main():
    source, count = sys.argv[1], int(sys.argv[2])
    headers = {"X-API-Key": sys.argv[3]} if len(sys.argv) > 3 else {}
    connector = aiohttp.TCPConnector(resolver=Edge(), ssl=False, local_addr=(source, 0))
    async with aiohttp.ClientSession(connector=connector) as session:
        links, statuses = [], []
        for _ in range(count):
            try:
                links.append(await session.ws_connect("https://NAME:8443/", headers=headers))
                statuses.append(101)
            except aiohttp.WSServerHandshakeError as error:
                statuses.append(error.status)
        said = []
        for message in given:
            await links[0].send_str(message)
            answer = await asyncio.wait_for(links[0].receive(), 20)
            said.append(answer.data)
            if answer.type != aiohttp.WSMsgType.TEXT:
                break
        for link in links:
            await link.close()
        print(json.dumps({"statuses": statuses, "said": said}))
asyncio.run(main())
"""
)


def run(host: Host, program: str, given: object, *arguments: str) -> str:
    """What a program prints that reads `given` from its standard input; packed, because a command line has its limit."""
    words = " ".join("%s" for _ in arguments)
    packed = base64.b64encode(zlib.compress(json.dumps(given).encode())).decode()
    done = host.run(f"echo %s | python3 -c %s {words}", packed, program.replace("NAME", NAME), *arguments)
    assert done.rc == 0, done.stderr
    return str(done.stdout)


def rpc(method: str = "eth_chainId", *params: object, identity: object = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": identity, "method": method, "params": list(params)}


def send(
    host: Host, *bodies: object, source: str = FREE, at_once: str = "1", path: str = "/", **headers: str
) -> list[dict[str, Any]]:
    """POST bodies, each its own request."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    requests = [
        {"source": source, "body": body if isinstance(body, str) else json.dumps(body), "headers": named, "path": path}
        for body in bodies
    ]
    answers: list[dict[str, Any]] = json.loads(run(host, PROBE, requests, at_once))
    return answers


def refusal(answer: dict[str, Any]) -> tuple[int, int, Any]:
    """HTTP's status, JSON-RPC's code and the id of a refusal."""
    said = json.loads(answer["text"])
    return answer["status"], said["error"]["code"], said["id"]


def until(what: str, condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come within {SECONDS} s"
        time.sleep(0.3)


def metrics(host: Host) -> dict[str, float]:
    lines = host.check_output("edge-pools show --metrics").splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def refusals(host: Host, reason: str) -> float:
    """How often the edge has refused something for this reason."""
    return sum(
        value
        for name, value in metrics(host).items()
        if name.startswith("edge_refusals_total") and f'reason="{reason}"' in name
    )
