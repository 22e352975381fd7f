"""The emergency profile: one command narrows what callers without a key have, at once, without a reload, and until it is switched off or over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.edge_probe import EDGE, SOCKET, metrics, refusal, rpc, run, send, until
from tests.plays import play
from tests.waiting import journal, now

if TYPE_CHECKING:
    from testinfra.host import Host

NO_NODE = '"code":-32002'
LOGS = rpc("eth_getLogs", {"fromBlock": "0x1", "toBlock": "0x2"}, identity="logs")

# A WebSocket of the public and one with a key, which a reload leaves to workers that end; then the profile is switched on. Prints how the first ended, what a new one of the public gets,
# and what the one with a key is answered afterwards.
ENDED = (
    EDGE
    + SOCKET
    + """
import subprocess
public, keyed = Socket("127.13.1.1"), Socket("127.13.1.2", "X-API-Key: " + given["key"])
subprocess.run(["systemctl", "reload", "nginx"], check=True)
loaded, end = None, time.monotonic() + SECONDS
while loaded != 0 and time.monotonic() < end:
    time.sleep(0.3)
    loaded = subprocess.run(["edge-pools", "loaded"], stdout=subprocess.DEVNULL).returncode
subprocess.run(["edge-emergency", "on", "--json"], check=True, stdout=subprocess.DEVNULL)
said = {"public": public.follow(lambda: public.close)}
try:
    Socket("127.13.1.3")
except AssertionError as error:
    said["again"] = str(error.args[0])
keyed.send(1, json.dumps(given["call"]).encode())
said["keyed"] = keyed.follow(lambda: keyed.messages)
print(json.dumps(said))
"""
)


def emergency(host: Host, *words: str) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(host.check_output("edge-emergency " + " ".join(words) + " --json"))
    return said


@pytest.fixture(autouse=True)
def key(host: Host) -> Iterator[str]:
    """A partner's key; before and after, no emergency and a node in the pool."""
    emergency(host, "off")
    host.run("edge-keys revoke calm")
    until("a node in the pool", lambda: metrics(host).get('edge_pool_members{chain="ethereum"}', 0) >= 1)
    yield host.check_output("edge-keys create calm --tier partner")
    host.check_output("edge-keys revoke calm")
    emergency(host, "off")


def statuses(answers: list[dict[str, Any]]) -> list[int]:
    """HTTP's statuses; that no node is in step for a moment, on a machine that is busy, is no refusal."""
    return [200 if NO_NODE in answer["text"] else answer["status"] for answer in answers]


def test_the_public_has_less_and_keys_and_operators_have_what_they_had(host: Host, key: str) -> None:
    before = host.check_output("pgrep -x nginx")
    assert statuses(send(host, *[rpc()] * 12, source="127.13.2.1")) == [200] * 12
    done = emergency(host, "on", "--for", "1h")
    assert (done["changed"], done["taken_up"], done["public"], done["ends"] - done["since"]) == (
        True,
        True,
        "limited",
        3600,
    )
    # Five at once, of an address that had twelve just now; what the rate gives back comes every four seconds.
    seen = statuses(send(host, *[rpc()] * 12, source="127.13.2.2"))
    assert (seen[:5], set(seen[8:])) == ([200] * 5, {429})
    assert refusal(send(host, [rpc()] * 6, source="127.13.2.3")[0]) == (413, -32005, None)
    (paused,) = send(host, LOGS, source="127.13.2.4")
    assert (*refusal(paused), paused["retry_after"]) == (503, -32005, "logs", "60")
    for headers in ({"source": "127.13.2.5", "X_API_Key": key}, {}):
        assert set(statuses(send(host, LOGS, *[rpc()] * 12, **headers))) == {200}
    assert metrics(host)['edge_emergency{public="limited"}'] == 1
    until("its count", lambda: metrics(host).get(refused("eth_getLogs"), 0) >= 1)
    assert host.check_output("edge-pools").startswith("emergency profile: callers without a key are limited")
    assert json.loads(host.check_output("edge-pools show --json"))["emergency"]["public"] == "limited"
    # Nobody was reloaded for it.
    assert host.check_output("pgrep -x nginx") == before
    host.check_output("systemctl restart nginx")
    until("the profile after a restart", lambda: emergency(host, "status")["taken_up"])
    until("a node in the pool", lambda: metrics(host).get('edge_pool_members{chain="ethereum"}', 0) >= 1)
    assert refusal(send(host, LOGS, source="127.13.2.6")[0])[:2] == (503, -32005)
    assert emergency(host, "off") == {"changed": True, "taken_up": True}
    assert statuses(send(host, LOGS, *[rpc()] * 12, source="127.13.2.7")) == [200] * 13
    said = journal(host, "-b -t edge-emergency")
    assert f'on {{"public": "limited", "since": {done["since"]}, "ends": {done["ends"]}, "by": "' in said
    assert 'off {"by": "' in said


def refused(method: str) -> str:
    return f'edge_refusals_total{{chain="ethereum",method="{method}",reason="emergency"}}'


def test_the_public_s_websockets_end_and_a_key_s_goes_on(host: Host, key: str) -> None:
    seen = json.loads(run(host, ENDED, {"key": key, "call": rpc(identity="still")}))
    assert seen["public"]["close"] == [1008, "this is not given without an API key for the time being"]
    assert "503 Service" in seen["again"]
    assert (seen["keyed"]["messages"], seen["keyed"]["close"]) == (1, None)


def test_the_public_is_refused_altogether_until_the_time_is_over(host: Host, key: str) -> None:
    done = emergency(host, "on", "--refuse-public", "--for", "5m")
    assert (done["public"], done["taken_up"]) == ("refused", True)
    (answer,) = send(host, rpc(), source="127.13.3.1")
    assert (refusal(answer), 1 <= int(answer["retry_after"]) <= 300) == ((503, -32005, None), True)
    # A key that is none is no way past it.
    assert statuses(send(host, rpc(), source="127.13.3.2", X_API_Key="edge_" + "x" * 43)) == [503]
    assert set(statuses([*send(host, rpc(), source="127.13.3.1", X_API_Key=key), *send(host, rpc())])) == {200}
    since = now(host)
    assert emergency(host, "on", "--refuse-public", "--for", "2s")["changed"] is True
    until("its end by itself", lambda: statuses(send(host, rpc(), source="127.13.3.1")) == [200])
    until("its end in the journal", lambda: "emergency profile: off" in journal(host, "-u nginx", since))
    assert emergency(host, "status")["on"] is False
    # It was over: there is nothing to switch off.
    assert emergency(host, "off")["changed"] is False


def test_a_play_switches_it_at_every_edge(host: Host) -> None:
    def switch(what: str, *options: str, **more: object) -> int:
        done = play("nginx", "../../playbooks/edge_emergency.yml", {"edge_emergency": what, **more}, *options)
        assert done.code == 0, done.output
        return done.changed

    assert [switch("on", "--check"), switch("on"), switch("on"), switch("status")] == [1, 1, 0, 0]
    assert emergency(host, "status")["public"] == "limited"
    assert [switch("on", edge_emergency_refuse_public=True, edge_emergency_for="1h"), switch("off"), switch("off")] == [
        1,
        1,
        0,
    ]
    assert emergency(host, "status")["on"] is False
    wrong = play("nginx", "../../playbooks/edge_emergency.yml", {"edge_emergency": "maybe"})
    assert (wrong.code != 0, "allowed: on, off or status" in wrong.messages) == (True, True)
