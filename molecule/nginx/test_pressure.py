"""As many requests in flight as the chain takes: further ones are refused at once, a key's later than the public's, the operators' own never."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.edge_probe import EDGE, metrics, refusals, rpc, run, until

if TYPE_CHECKING:
    from testinfra.host import Host

# Holds places by callers who do not read their long answers, six public ones at first and two with a key then, and asks by turns as each
# kind of caller until the answers are as they are to be, or a minute is over. Who holds a place is thrown out after a while, and begins anew.
CROWD = (
    EDGE
    + """
stop = threading.Event()
def hold(source, headers):
    while not stop.is_set():
        try:
            link = connect(source, window=4096)
            link.sendall(post(given["long"], *headers))
            holds = link.recv(12).endswith(b"200")
        except OSError:
            continue
        if not holds:
            # Somebody who asks has the place at this moment.
            link.close()
            time.sleep(0.1)
            continue
        poll = select.poll()
        poll.register(link, 0)
        while not stop.is_set() and not poll.poll(100):
            pass
        link.close()
def ask(source, *headers):
    link = connect(source)
    link.sendall(post(given["short"], *headers))
    answer = http.client.HTTPResponse(link)
    answer.begin()
    text = json.loads(answer.read())
    return answer.status, answer.getheader("Retry-After"), text.get("error", {}).get("code"), text["id"]
key = "X-API-Key: " + given["key"]
# The rate binds those without a key; so each call comes from an address of its own.
numbers = iter(range(1, 60000))
def public():
    number = next(numbers)
    return ask(f"127.9.{number // 250}.{number % 250 + 1}")
asks = {"public": public, "keyed": lambda: ask("127.10.1.1", key), "free": lambda: ask("127.66.1.2")}
def until(want):
    end = time.monotonic() + SECONDS
    while True:
        seen = {kind: asked() for kind, asked in asks.items()}
        as_wanted = (seen[kind][0] == 200 if passes else seen[kind][2] == -32005 for kind, passes in want.items())
        if all(as_wanted) or time.monotonic() > end:
            return seen
        time.sleep(0.1)
said, holders = {}, []
def crowd(count, start, *headers):
    for number in range(count):
        holders.append(threading.Thread(target=hold, args=(f"127.11.{start}.{number + 1}", headers)))
        holders[-1].start()
said["alone"] = until({"public": True, "keyed": True, "free": True})
crowd(6, 1)
said["public"] = until({"public": False, "keyed": True, "free": True})
crowd(2, 2, key)
said["full"] = until({"public": False, "keyed": False, "free": True})
stop.set()
for holder in holders:
    holder.join()
said["after"] = until({"public": True, "keyed": True, "free": True})
print(json.dumps(said))
"""
)
# An answer of four megabytes to a call of a line, which no buffer on its way holds: code that gives back what memory holds.
AT = "0x00000000000000000000000000000000000000aa"
LONG = rpc("eth_call", {"to": AT}, "latest", {AT: {"code": "0x622200006000f3"}})


@pytest.fixture(scope="module", autouse=True)
def _a_pool(host: Host) -> None:
    until("a node in the pool", lambda: metrics(host).get('edge_pool_members{chain="ethereum"}', 0) >= 1)


def test_what_is_more_than_is_taken_is_refused_at_once(host: Host) -> None:
    host.run("edge-keys revoke crowd")
    key = host.check_output("edge-keys create crowd --tier partner")
    before = refusals(host, "busy")
    given = {"key": key, "long": json.dumps(LONG), "short": json.dumps(rpc("eth_blockNumber", identity="mine"))}
    seen: dict[str, dict[str, Any]] = json.loads(run(host, CROWD, given))
    host.check_output("edge-keys revoke crowd")
    passed, refused = [200, None, None, "mine"], [503, "1", -32005, "mine"]
    assert seen == {
        "alone": {"public": passed, "keyed": passed, "free": passed},
        "public": {"public": refused, "keyed": passed, "free": passed},
        "full": {"public": refused, "keyed": refused, "free": passed},
        "after": {"public": passed, "keyed": passed, "free": passed},
    }
    until("their count", lambda: refusals(host, "busy") >= before + 2)
    until("nothing in flight", lambda: metrics(host)['edge_requests_in_flight{chain="ethereum"}'] == 0)
    assert metrics(host)['edge_requests_in_flight_limit{of="chain"}'] == 8
