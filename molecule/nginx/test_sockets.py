"""Callers of WebSockets who fall silent, say nothing any more, lose their key, or subscribe to too much, beside those that go on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.edge_probe import EDGE, SOCKET, metrics, refusals, rpc, run, until

if TYPE_CHECKING:
    from testinfra.host import Host

# Four WebSockets at once: one never answers a ping, one answers and says nothing, one loses its key, and one hears of new heads, answers,
# and asks something when the others have ended. Prints each one's frames, and its close's code and words.
WATCH = (
    EDGE
    + SOCKET
    + """
import subprocess
silent = Socket("127.12.1.1", answers=False)
idle = Socket("127.12.1.2")
keyed = Socket("127.12.1.3", "X-API-Key: " + given["key"])
listener = Socket("127.12.1.4")
listener.send(1, json.dumps(given["subscribe"]).encode())
said, threads = {}, []
def follow(name, socket, until):
    said[name] = socket.follow(until)
def begin(name, socket, until):
    thread = threading.Thread(target=follow, args=(name, socket, until))
    threads.append(thread)
    thread.start()
    return thread
others = [begin(name, socket, lambda socket=socket: socket.close) for name, socket in (("silent", silent), ("idle", idle), ("keyed", keyed))]
done, asked = threading.Event(), []
def is_answered():
    # Between two heads, by the thread that reads.
    if done.is_set() and not asked:
        asked.append(listener.send(1, json.dumps(given["last"]).encode()))
    return any(message.get("id") == "last" for message in listener.messages)
rest = begin("listener", listener, is_answered)
subprocess.run(["edge-keys", "revoke", given["name"]], check=True, stdout=subprocess.DEVNULL)
for thread in others:
    thread.join(SECONDS)
done.set()
rest.join(SECONDS)
print(json.dumps(said), flush=True)
os._exit(0)
"""
)

# One caller sends a thousand pings at a stroke, and another one asks something. Prints how many were answered by then, and what the other one got.
PINGS = (
    EDGE
    + SOCKET
    + """
flood, other = Socket("127.12.2.1"), Socket("127.12.2.2")
for _ in range(1000):
    flood.send(PING, b"")
other.send(1, json.dumps(given["last"]).encode())
other.follow(lambda: other.messages)
flood.link.settimeout(0.3)
answered = b""
try:
    while part := flood.link.recv(65536):
        answered += part
except TimeoutError:
    pass
print(json.dumps({"pongs": answered.count(bytes([128 | PONG, 0])), "other": [message["id"] for message in other.messages]}))
"""
)

# Subscribes three times, ends the first, subscribes again; prints each answer, and how many subscriptions the edge knew of then.
SUBSCRIBES = (
    EDGE
    + SOCKET
    + """
import subprocess
caller = Socket("127.12.3.1")
def ask(method, *params):
    # All calls have one id, which tells none from another.
    caller.send(1, json.dumps({"jsonrpc": "2.0", "id": "same", "method": method, "params": params}).encode())
    known = len(caller.messages)
    caller.follow(lambda: any("id" in message for message in caller.messages[known:]))
    return next(message for message in caller.messages[known:] if "id" in message)
said = [ask("eth_subscribe", "newHeads") for _ in range(3)]
said += [ask("eth_unsubscribe", "0x0"), ask("eth_subscribe", "newHeads"), ask("eth_unsubscribe", said[0]["result"])]
said += [ask("eth_subscribe", "newHeads"), ask("eth_chainId")]
figures = subprocess.run(["edge-pools", "show", "--metrics"], check=True, capture_output=True, text=True).stdout
(held,) = [line.split()[1] for line in figures.splitlines() if line.startswith("edge_subscriptions ")]
print(json.dumps({"said": said, "held": int(held)}))
"""
)


@pytest.fixture(scope="module", autouse=True)
def _a_pool(host: Host) -> None:
    until("a node in the pool", lambda: metrics(host).get('edge_pool_members{chain="ethereum"}', 0) >= 1)


def test_who_is_silent_idle_or_without_a_key_is_cut_off_and_others_go_on(host: Host) -> None:
    host.run("edge-keys revoke watcher")
    given = {
        "name": "watcher",
        "key": host.check_output("edge-keys create watcher --tier partner"),
        "subscribe": rpc("eth_subscribe", "newHeads"),
        "last": rpc(identity="last"),
    }
    seen: dict[str, dict[str, Any]] = json.loads(run(host, WATCH, given))
    assert {name: one["close"] for name, one in seen.items()} == {
        "silent": [1001, "silent"],
        "idle": [1001, "idle"],
        "keyed": [1008, "the API key is not valid any more"],
        "listener": None,
    }
    # Pinged after four seconds of silence, and cut off after eight; idle after fifteen.
    assert (seen["silent"]["pings"], seen["idle"]["pings"] >= 2, seen["listener"]["pings"] >= 1) == (1, True, True)
    # The subscription, heads, and the answer to the last call.
    assert seen["listener"]["messages"] >= 3
    ended = 'edge_websockets_ended_total{chain="ethereum",why="%s"}'
    until(
        "their counts",
        lambda: all(
            metrics(host).get(ended % why, 0) >= 1 for why in ("silent", "idle", "the API key is not valid any more")
        ),
    )
    until("no WebSocket", lambda: metrics(host)["edge_websockets"] == 0)


def test_pings_beyond_what_anybody_needs_are_not_read_at_once_and_others_go_on(host: Host) -> None:
    seen = json.loads(run(host, PINGS, {"last": rpc(identity="last")}))
    assert (0 < seen["pongs"] < 1000, seen["other"]) == (True, ["last"])
    until("no WebSocket", lambda: metrics(host)["edge_websockets"] == 0)


def test_a_websocket_holds_so_many_subscriptions_and_one_that_has_ended_makes_room(host: Host) -> None:
    before = refusals(host, "subscriptions")
    seen = json.loads(run(host, SUBSCRIBES, None))
    said = seen["said"]
    assert {one["id"] for one in said} == {"same"}
    # What the node does not know ends nothing.
    assert [one["error"]["code"] if "error" in one else type(one["result"]).__name__ for one in said] == [
        *("str", "str", -32005),
        *(said[3]["error"]["code"] if "error" in said[3] else "bool", -32005, "bool"),
        *("str", "str"),
    ]
    assert (said[3].get("result", False), said[5]["result"], seen["held"]) == (False, True, 2)
    until("their count", lambda: refusals(host, "subscriptions") == before + 2)
    until("no subscription", lambda: metrics(host)["edge_subscriptions"] == 0)
