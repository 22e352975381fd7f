"""A pool of two on real nginx: what each fault of a node, a drain, a reload and the loss of a process mean for those who call."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from tests.plays import play

if TYPE_CHECKING:
    from testinfra.host import Host

NAME = "ethereum.rpc.lyftium.com"
OWN, NEIGHBOUR = "nginx", "neighbour"
FAULTS = {
    OWN: "/etc/chain-standin/faults/erigon-1.json",
    NEIGHBOUR: "/etc/chain-standin/neighbour/erigon-1.json",
}
SECONDS = 90
CONFIGURATION = "/etc/nginx/nginx.conf"
# A node pings a WebSocket after half a minute, and leaves one that has not answered a quarter of a minute later.
PINGS_SECONDS = 50
# In a second: systemd else lets a timer wait for others for up to a minute, and it would go off in a later test.
SOON = "systemd-run --quiet --collect --on-active=1 --timer-property=AccuracySec=50ms"
NEIGHBOUR_S_RUN = "systemctl show --property=InvocationID --value neighbour-erigon"
HEADS, OUTCOMES = "/run/reload-heads", "/run/reload-outcomes"

# Calls one after the other through the edge from an address that no rate binds, until the time is up or a SIGTERM comes; prints how many had
# each outcome. With a third argument each call has a connection of its own.
CALLER = """
import collections, http.client, json, signal, socket, ssl, sys, threading, time
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
method, seconds = sys.argv[1], float(sys.argv[2])
context = ssl._create_unverified_context()
body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": []})
outcomes, link, end = collections.Counter(), None, time.monotonic() + seconds
while time.monotonic() < end and not stop.is_set():
    try:
        if link is None:
            link = http.client.HTTPSConnection("NAME", 8443, context=context)
            plain = socket.create_connection(("127.0.0.1", 8443), timeout=10, source_address=("127.66.0.2", 0))
            link.sock = context.wrap_socket(plain, server_hostname="NAME")
        link.request("POST", "/", body, {"Content-Type": "application/json"})
        answer = link.getresponse()
        said = json.loads(answer.read())
        outcomes[f"{answer.status} {'result' if 'result' in said else 'error'}"] += 1
        if len(sys.argv) > 3:
            link.close()
            link = None
    except (OSError, http.client.HTTPException) as error:
        outcomes[type(error).__name__] += 1
        link = None
    time.sleep(0.005)
print(json.dumps(outcomes))
""".replace("NAME", NAME)

# A WebSocket through the edge that hears of new heads; each number is a line of the file.
LISTENER = """
import asyncio, aiohttp, ssl, sys
class Edge(aiohttp.abc.AbstractResolver):
    async def resolve(self, host, port=0, family=0):
        return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": 2, "proto": 0, "flags": 0}]
    async def close(self):
        pass
async def main():
    connector = aiohttp.TCPConnector(resolver=Edge(), ssl=False, local_addr=("127.66.0.3", 0))
    async with aiohttp.ClientSession(connector=connector) as session:
        async with session.ws_connect("https://NAME:8443/") as link:
            await link.send_json({"jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": ["newHeads"]})
            with open(sys.argv[1], "w") as heads:
                async for message in link:
                    print(message.data, file=heads, flush=True)
asyncio.run(main())
""".replace("NAME", NAME)


def pool(host: Host) -> dict[str, Any]:
    """The pool as the edge itself says it is, its nodes by their hosts."""
    known = json.loads(host.check_output("edge-pools show --json"))["pools"]["ethereum"]
    return {**known, "nodes": {node["host"]: node for node in known["nodes"]}}


def until(what: str, condition: Callable[[], object], seconds: float = SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come within {seconds:g} s"
        time.sleep(0.2)


def is_ready(host: Host) -> bool:
    known = pool(host)
    nodes = known["nodes"].values()
    return known["members"] == 2 and all(node["share"] == 1 and node["reached"] for node in nodes)


def processes(host: Host) -> list[str]:
    """The process ids of nginx, master and workers."""
    return sorted(host.check_output("pgrep -x nginx").split())


def call(host: Host, body: str, *options: str) -> str:
    """What curl prints of one request through the edge, from an address that no rate binds."""
    words = " ".join(f"'{word}'" for word in options)
    return str(
        host.run(
            f"curl -sk --max-time 10 --interface 127.66.0.1 --resolve {NAME}:8443:127.0.0.1 {words} --data-binary %s https://{NAME}:8443/",
            body,
        ).stdout
    )


def calls(host: Host, seconds: float, method: str = "eth_blockNumber") -> dict[str, int]:
    outcomes: dict[str, int] = json.loads(host.check_output("python3 -c %s %s %s", CALLER, method, str(seconds)))
    return outcomes


def are_answered(host: Host) -> bool:
    """Whether every call of a second is answered: where one node is left, it may be out itself for a moment on a machine that is busy."""
    return set(calls(host, 1)) == {"200 result"}


def fault(host: Host, node: str, **what: object) -> None:
    host.check_output("echo %s > %s", json.dumps(what), FAULTS[node])


@pytest.fixture(autouse=True)
def both_ready(host: Host) -> None:
    """Each test begins with two nodes that take their full share."""
    host.check_output("rm -f %s %s /var/lib/nginx/drained/ethereum/neighbour", *FAULTS.values())
    host.check_output("rm -f /var/lib/nginx/drained/ethereum/nginx")
    host.check_output("systemctl start nginx erigon neighbour-erigon neighbour-health")
    until("a pool of two", lambda: is_ready(host))


def test_calls_go_to_both_by_turns(host: Host) -> None:
    before = {name: node["calls_begun"] for name, node in pool(host)["nodes"].items()}
    outcomes = calls(host, 2)
    assert set(outcomes) == {"200 result"}

    def sent() -> dict[str, int]:
        return {name: node["calls_begun"] - before[name] for name, node in pool(host)["nodes"].items()}

    # Each worker hands its counts over a little later.
    until("their count", lambda: sum(sent().values()) >= outcomes["200 result"])
    assert abs(sent()[OWN] - sent()[NEIGHBOUR]) <= 4, sent()
    assert sent()[OWN] > 1


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ({"lag_blocks": 20}, "blocks behind the pool's best, 5 allowed"),
        ({"stall": True}, "blocks behind the pool's best, 5 allowed"),
        ({"chain_id": 2}, "erigon wrong_chain: "),
        ({"syncing": True}, "erigon syncing: "),
        ({"corrupt": True}, "erigon starting: "),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_node_that_is_not_in_step_leaves_and_comes_back_and_no_process_ends(
    host: Host, what: dict[str, object], reason: str
) -> None:
    before = processes(host)
    fault(host, NEIGHBOUR, **what)
    seen: list[dict[str, Any]] = []

    def has_left() -> bool:
        # All of it in one look: on a busy machine a node may be out for a moment for another reason, and be back.
        seen.append(pool(host))
        neighbour, own = (seen[-1]["nodes"][name] for name in (NEIGHBOUR, OWN))
        return not neighbour["member"] and reason in neighbour["reason"] and own["member"]

    until(f"a pool without a node that has {what}", has_left)
    assert seen[-1]["members"] == 1
    begun = seen[-1]["nodes"][NEIGHBOUR]["calls_begun"]
    until("a second without a failure", lambda: are_answered(host))
    assert pool(host)["nodes"][NEIGHBOUR]["calls_begun"] == begun
    host.check_output("rm %s", FAULTS[NEIGHBOUR])
    until("a pool of two", lambda: pool(host)["members"] == 2)
    assert processes(host) == before


def test_no_call_fails_while_a_node_is_killed_and_comes_back(host: Host) -> None:
    run = host.check_output(NEIGHBOUR_S_RUN)
    host.check_output(f"{SOON} systemctl kill --signal=KILL neighbour-erigon")
    assert set(calls(host, 12)) == {"200 result"}
    until("a pool of two", lambda: is_ready(host))
    assert host.check_output(NEIGHBOUR_S_RUN) != run


def test_a_node_that_hangs_leaves(host: Host) -> None:
    host.check_output("systemctl kill --signal=STOP neighbour-erigon")
    until("a pool of one", lambda: pool(host)["members"] == 1)
    until("a second without a failure", lambda: are_answered(host))
    host.check_output("systemctl kill --signal=CONT neighbour-erigon")
    until("a pool of two", lambda: pool(host)["members"] == 2)


def test_a_node_whose_host_says_nothing_leaves(host: Host) -> None:
    host.check_output("systemctl stop neighbour-health")
    until("a pool of one", lambda: pool(host)["members"] == 1)
    assert pool(host)["nodes"][NEIGHBOUR]["reason"] == "127.0.66.2:9110 connection refused"


def test_without_a_node_in_step_calls_are_refused_with_their_id(host: Host) -> None:
    fault(host, OWN, syncing=True)
    fault(host, NEIGHBOUR, lag_blocks=500)
    until("an empty pool", lambda: pool(host)["members"] == 0)
    message = {"code": -32002, "message": "no node of Ethereum is in step; try again"}

    def refused(body: str) -> object:
        head, _, text = call(host, body, "-i").replace("\r", "").partition("\n\n")
        assert head.splitlines()[0].split()[1] == "503"
        assert "retry-after: 1" in head.lower().splitlines()
        assert "content-type: application/json" in head.lower().splitlines()
        return json.loads(text)

    def error(identity: object) -> dict[str, object]:
        return {"jsonrpc": "2.0", "id": identity, "error": message}

    for identity in (7, "a\"b\\'", 9007199254740991, 1.5, None):
        body = json.dumps({"jsonrpc": "2.0", "id": identity, "method": "eth_blockNumber", "params": []})
        assert refused(body) == error(identity)
    call_ = {"jsonrpc": "2.0", "method": "eth_chainId"}
    assert refused(json.dumps([{**call_, "id": 1}, call_, {**call_, "id": "two"}])) == [error(1), error("two")]
    assert refused(json.dumps(call_)) == error(None)
    assert set(calls(host, 1, "eth_sendRawTransaction")) == {"503 error"}


def test_a_drain_takes_a_node_out_for_good_and_closes_nothing(host: Host) -> None:
    before = processes(host)
    heads = "/tmp/heads"  # noqa: S108 - on a host that lives as long as this scenario
    host.check_output("rm -f %s; systemd-run --unit=listener python3 -c %s %s", heads, LISTENER, heads)
    # Each of the two may be the one with the WebSocket; the one that has it is drained.
    until("a WebSocket", lambda: any(node["sockets"] for node in pool(host)["nodes"].values()))
    drained = next(name for name, node in pool(host)["nodes"].items() if node["sockets"])
    host.check_output(f"{SOON} --unit=drain-soon edge-pools drain ethereum %s", drained)
    assert set(calls(host, 4)) == {"200 result"}
    until("the drain", lambda: pool(host)["nodes"][drained]["drained"] and not pool(host)["nodes"][drained]["member"])
    known = pool(host)["nodes"][drained]
    assert (known["member"], known["drained"], known["calls"], known["sockets"]) == (False, True, 0, 1)
    seen = int(host.check_output("wc -l < %s", heads))
    until("further heads", lambda: int(host.check_output("wc -l < %s", heads)) > seen + 1)
    assert processes(host) == before
    # nginx would wait for it to end.
    host.check_output("systemctl stop listener")
    host.check_output("systemctl restart nginx")
    until("a pool of one", lambda: pool(host)["members"] == 1)
    assert pool(host)["nodes"][drained]["drained"]
    assert json.loads(host.check_output("edge-pools undrain ethereum %s", drained)) == {"changed": True}
    assert pool(host)["members"] == 2


def test_the_play_drains_waits_and_brings_back(host: Host) -> None:
    for undrain in (False, True):
        for extra, changed in ((["--check"], 1), ([], 1), ([], 0), (["--check"], 0)):
            done = play(OWN, "drain.yml", {"undrain": undrain}, *extra)
            assert (done.code, done.changed) == (0, changed), done.output
        assert pool(host)["nodes"][NEIGHBOUR]["member"] is undrain


def test_the_last_member_is_drained_only_by_name(host: Host) -> None:
    host.check_output("edge-pools drain ethereum neighbour")
    refused = host.run("edge-pools drain ethereum nginx")
    assert refused.rc == 1
    assert refused.stderr == (
        "edge-pools: nginx is not drained: no other node of ethereum is in the pool; "
        "bring one back first, or say --empty (nginx_drain_empty).\n"
    )
    assert pool(host)["members"] == 1
    host.check_output("edge-pools drain --empty ethereum nginx")
    assert pool(host)["members"] == 0


def test_a_drain_with_a_name_is_lifted_by_that_name_or_by_hand(host: Host) -> None:
    undrain = "edge-pools undrain ethereum neighbour"
    host.check_output("edge-pools drain --by operator ethereum neighbour")
    assert json.loads(host.check_output("edge-pools drain --by play ethereum neighbour"))["changed"] is False
    assert json.loads(host.check_output(f"{undrain} --by play")) == {"changed": False}
    assert pool(host)["members"] == 1
    assert json.loads(host.check_output(f"{undrain} --by operator")) == {"changed": True}
    host.check_output("edge-pools drain --by play ethereum neighbour")
    assert json.loads(host.check_output(undrain)) == {"changed": True}
    assert pool(host)["members"] == 2


@pytest.mark.parametrize("node", ["ethereum nobody", "base nginx"])
def test_a_node_that_is_not_in_the_pools_is_named(host: Host, node: str) -> None:
    done = host.run(f"edge-pools drain {node}")
    assert done.rc == 3
    assert "allowed: " in done.stderr
    assert not host.file("/var/lib/nginx/drained/base").exists


def test_polls_outlive_the_worker_that_polled_and_its_counts_are_dropped(host: Host) -> None:
    worker = host.check_output("pgrep -x nginx --parent $(cat /run/nginx/nginx.pid) | head -1")
    host.check_output(f"{SOON} kill -KILL %s", worker)
    calls(host, 3)
    until("the end of the worker", lambda: worker not in processes(host))
    fault(host, NEIGHBOUR, syncing=True)
    until("a pool of one", lambda: pool(host)["members"] == 1)
    assert [node["calls"] for node in pool(host)["nodes"].values()] == [0, 0]


def test_status_is_for_root_alone(host: Host) -> None:
    assert host.run("sudo -u nobody curl -s --unix-socket /run/nginx/edge.sock http://edge/pools").rc == 7
    assert (host.file("/run/nginx").user, host.file("/run/nginx").mode) == ("www-data", 0o700)
    assert host.run("sudo -u www-data touch /var/lib/nginx/drained/ethereum").rc != 0
    lines = host.check_output("edge-pools show --metrics").splitlines()
    assert 'edge_pool_members{chain="ethereum"} 2' in lines
    assert 'edge_node_member{chain="ethereum",host="neighbour"} 1' in lines
    # Prometheus reads the figures, and nothing else there.
    assert (
        'edge_pool_members{chain="ethereum"} 2'
        in host.check_output("curl -s http://127.0.0.1:9113/metrics").splitlines()
    )
    for options, status in (("http://127.0.0.1:9113/pools", "404"), ("-d x http://127.0.0.1:9113/metrics", "403")):
        assert host.check_output(f"curl -s -o /dev/null -w '%{{http_code}}' {options}") == status
    assert host.check_output("edge-pools").splitlines()[1].split()[:3] == ["ethereum", "nginx", "100%"]


def master(host: Host) -> str:
    return str(host.check_output("systemctl show --property=MainPID --value nginx"))


def heads(host: Host) -> int:
    return int(host.check_output(f"wc -l < {HEADS}"))


def test_a_change_by_the_play_drops_no_call_and_no_websocket(host: Host) -> None:
    found = re.search(r"client_max_body_size (\d+)k", host.file(CONFIGURATION).content_string)
    assert found
    size = 1023 if found[1] == "1024" else 1024
    before, workers, begun = master(host), set(processes(host)), time.monotonic()
    host.check_output(f"rm -f {HEADS} {OUTCOMES}")
    host.check_output(f"systemd-run --unit=reload-listener python3 -c %s {HEADS}", LISTENER)
    # A connection that idles at that moment is closed, and a caller who is just about to use it cannot tell that from a lost call.
    host.check_output(
        f"systemd-run --unit=reload-caller --property=StandardOutput=file:{OUTCOMES} python3 -c %s eth_blockNumber 300 anew",
        CALLER,
    )
    try:
        until("the WebSocket's first head", lambda: host.file(HEADS).exists and heads(host) > 1)
        done = play(OWN, "edge.yml", {"nginx_max_body_kb": size})
        assert (done.code, done.changed) == (0, 2), done.output
        assert master(host) == before
        assert set(processes(host)) != workers
        assert play(OWN, "edge.yml", {"nginx_max_body_kb": size}).changed == 0
        until("the node's pings", lambda: time.monotonic() > begun + PINGS_SECONDS)
        seen = heads(host)
        until("a head on the WebSocket from before the reload", lambda: heads(host) > seen + 1)
        assert not host.run("systemctl is-active reload-caller").rc, "the calls ended before the reload"
        host.check_output("systemctl stop reload-caller")
        outcomes = json.loads(host.file(OUTCOMES).content_string)
        assert set(outcomes) == {"200 result"}, outcomes
        assert outcomes["200 result"] > 100
    finally:
        host.run("systemctl stop reload-listener reload-caller")


def test_a_configuration_that_cannot_be_read_is_told_and_the_edge_goes_on(host: Host) -> None:
    host.check_output("edge-pools loaded")
    host.check_output(f"cp -a {CONFIGURATION} /run/nginx.conf.before")
    workers = processes(host)
    try:
        time.sleep(0.01)
        host.check_output(f"echo nonsense >> {CONFIGURATION}")
        assert host.run("systemctl reload nginx").rc
        told = host.run("edge-pools loaded")
        assert (told.rc, told.stdout) == (1, "")
        assert told.stderr == (
            f"edge-pools: nginx still runs with what it read before {CONFIGURATION} changed; its journal says why.\n"
        )
        assert processes(host) == workers
        assert '"result"' in call(host, '{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[]}')
    finally:
        host.check_output(f"cp -a /run/nginx.conf.before {CONFIGURATION} && systemctl reload nginx")
    until("the configuration as it was", lambda: host.run("edge-pools loaded").rc == 0)
