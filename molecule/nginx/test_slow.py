"""Callers who hold what they do not use: slow headers, slow bodies, answers that nobody reads, connections without a request. Others are served."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.edge_probe import EDGE, PASSED, metrics, refusals, rpc, run, send, until

if TYPE_CHECKING:
    from testinfra.host import Host

# One sends a byte of its headers each half second, one of its body, one sends half a body and no more, and one reads nothing of a long
# answer, each until the edge ends it. Prints how each was ended, and what another caller got meanwhile.
SLOW = (
    EDGE
    + """
ends, others = {}, []
def ended(link):
    try:
        said = link.recv(4096)
        return said.split(b"\\r\\n")[0].decode() if said else "closed"
    except TimeoutError:
        return "never"
    except OSError:
        return "closed"
def trickle(name, link, start):
    link.sendall(start)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        # A byte that has come may be a part of TLS alone.
        if link.pending() or select.select([link], [], [], 0.5)[0]:
            link.settimeout(0.2)
            ends[name] = ended(link)
            if ends[name] != "never":
                return
            link.settimeout(SECONDS)
        try:
            link.sendall(b"a")
        except OSError:
            ends[name] = "closed"
            return
def silent(name, link, start):
    link.sendall(start)
    ends[name] = ended(link)
def unread(name, link, start):
    link.sendall(start)
    poll = select.poll()
    poll.register(link, 0)
    found = poll.poll(SECONDS * 1000)
    ends[name] = "closed" if found and found[0][1] & select.POLLERR else "never"
head = b"POST / HTTP/1.1\\r\\nHost: NAME\\r\\n"
clients = [
    threading.Thread(target=trickle, args=("header", connect("127.8.1.1"), head + b"X-Slow: ")),
    threading.Thread(target=trickle, args=("body", connect("127.8.1.2"), head + b"Content-Length: 100000\\r\\n\\r\\n")),
    threading.Thread(target=silent, args=("pause", connect("127.8.1.3"), head + b"Content-Length: 10\\r\\n\\r\\nabcde")),
    threading.Thread(target=unread, args=("answer", connect("127.8.1.4", window=4096), post(given["long"], "X-API-Key: " + given["key"]))),
]
for client in clients:
    client.start()
while any(client.is_alive() for client in clients):
    link = connect("127.66.0.7")
    link.sendall(post(given["short"]))
    others.append(status(link))
    link.close()
    time.sleep(0.2)
print(json.dumps({"ends": ends, "others": others}))
"""
)

# Keeps connections that had one request each, and then connections that never had one. Prints what the next one gets, each time, and at last
# when all have been closed.
HOLDER = (
    EDGE
    + """
kept, silent = given["kept"], given["silent"]
def ask(link):
    link.sendall(post(given["short"]))
    return status(link)
links = [connect("127.8.2.1") for _ in range(kept)]
said = {"kept": [ask(link) for link in links], "next": ask(connect("127.8.2.1"))}
for link in links:
    link.close()
end = time.monotonic() + SECONDS
while time.monotonic() < end and said.get("after") not in {200, 503}:
    time.sleep(0.3)
    said["after"] = ask(connect("127.8.2.1"))
def greet(source):
    try:
        return connect(source)
    except OSError:
        return None
links = [greet("127.8.2.2") for _ in range(silent + 1)]
said["refused"] = [at for at, link in enumerate(links) if link is None]
said["other"] = ask(connect("127.8.2.3"))
said["unlimited"] = [ask(connect("127.66.0.8")) for _ in range(silent + 2)]
for link in links:
    if link:
        link.close()
said["again"] = False
while time.monotonic() < end and not said["again"]:
    time.sleep(0.3)
    said["again"] = greet("127.8.2.2") is not None
print(json.dumps(said))
"""
)

# Opens HTTP/2's streams and takes each back at once, all in one piece. Prints the last one that the edge has looked at, when it ends the
# connection.
RESETS = (
    EDGE
    + """
def frame(kind, flags, stream, payload):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
name = b"NAME"
# POST, https, / and the name, as HPACK's static table has them.
headers = bytes([0x83, 0x87, 0x84, 0x01, len(name)]) + name + bytes([0x0f, 0x0d, 2]) + b"10"
link = connect("127.8.3.1", "h2")
assert link.selected_alpn_protocol() == "h2"
streams = range(1, 2 * given["streams"], 2)
link.sendall(
    b"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n"
    + frame(4, 0, 0, b"")
    + b"".join(frame(1, 4, stream, headers) + frame(3, 0, stream, bytes([0, 0, 0, 8])) for stream in streams)
)
answer = b""
try:
    while part := link.recv(65536):
        answer += part
except ConnectionError:
    pass
at, last = 0, None
while at + 9 <= len(answer):
    size, kind = int.from_bytes(answer[at : at + 3], "big"), answer[at + 3]
    if kind == 7:
        last = int.from_bytes(answer[at + 9 : at + 13], "big")
    at += 9 + size
print(json.dumps(last))
"""
)


@pytest.fixture(scope="module", autouse=True)
def _a_pool(host: Host) -> None:
    until("a node in the pool", lambda: metrics(host).get('edge_pool_members{chain="ethereum"}', 0) >= 1)


def test_who_is_slow_is_cut_off_and_others_are_served(host: Host) -> None:
    host.run("edge-keys revoke slow")
    key = host.check_output("edge-keys create slow --tier partner")
    # What would deploy 24 KB of nothing, two hundred times: more than all buffers on the way hold.
    long = json.dumps([rpc("eth_call", {"data": "0x6160006000f3"}, "latest", identity=at) for at in range(200)])
    seen = json.loads(run(host, SLOW, {"short": json.dumps(rpc()), "long": long, "key": key}))
    host.check_output("edge-keys revoke slow")
    late = {"closed", "HTTP/1.1 408 Request Time-out"}
    assert {name: end in late for name, end in seen["ends"].items()} == dict.fromkeys(
        ("header", "body", "pause", "answer"), True
    )
    assert (len(seen["others"]) > 5, set(seen["others"]) <= PASSED) == (True, True)

    def is_logged() -> bool:
        lines = host.check_output("cat /var/log/edge/access-*.log").splitlines()
        slow = {line["client"] for line in map(json.loads, lines) if line["refused"] == "slow"}
        return slow >= {"127.8.1.1", "127.8.1.2", "127.8.1.3"}

    until("a line of each in the log", is_logged)
    until("their count", lambda: refusals(host, "slow") >= 3)


def test_an_address_has_so_many_connections_idle_or_not(host: Host) -> None:
    seen: dict[str, Any] = json.loads(run(host, HOLDER, {"short": json.dumps(rpc()), "kept": 8, "silent": 50}))
    assert (len(seen["kept"]), set(seen["kept"]) <= PASSED) == (8, True)
    assert (seen["next"], seen["after"] in PASSED) == (429, True)
    # Of a key nobody knows at the handshake: as many as the highest tier has.
    assert seen["refused"] == [50]
    assert {seen["other"], *seen["unlimited"]} <= PASSED
    assert seen["again"]
    until("their count", lambda: metrics(host).get('edge_connections_refused_total{reason="address"}', 0) >= 1)
    until("their end", lambda: metrics(host)["edge_connections"] <= 2)


def test_streams_that_are_opened_and_taken_back_end_their_connection(host: Host) -> None:
    before = host.check_output("pgrep -x nginx")
    last = json.loads(run(host, RESETS, {"streams": 2000}))
    # Streams of a caller have odd numbers. Twice as many as may be open at once are taken from one reading, and as many are refused.
    assert 2 * 128 < last < 2 * 1000
    assert host.check_output("pgrep -x nginx") == before
    assert send(host, rpc())[0]["status"] in PASSED
