"""Runs on the edge's host: the edge beside haproxy and caddy, all before the same two nodes with the same certificate, and the node itself.

    edge_peers.py EDGE install                        # the peers and the load generator, from Debian
    edge_peers.py EDGE ROUNDS rate CALLS SECONDS WAY... # milliseconds of each call to the nodes at a constant rate, by way: direct, edge, haproxy, caddy
    edge_peers.py EDGE ROUNDS added CALLS SECONDS     # the same of all ways, with two programs that answer at once in the nodes' place
    edge_peers.py EDGE ROUNDS most SECONDS            # calls a second that each target answers; CPU microseconds and bytes of growth a call
    edge_peers.py EDGE ROUNDS kept COUNT              # milliseconds of calls that the edge answers from memory, one at a time

EDGE is JSON: {chain, name, port, pair, nodes}, nodes as address:port. Prints JSON: what was installed, or a list with an element a round. The peers
run for as long as the program does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

EDGE = json.loads(sys.argv[1])
NAME, NODES, PAIR, EDGE_PORT = EDGE["name"], EDGE["nodes"], EDGE["pair"], EDGE["port"]
HAPROXY_PORT, CADDY_PORT = 9443, 9444
CONNECTIONS = 16
# Callers at a constant rate, and how far apart they begin: no multiple of the time between two calls of one.
CALLERS, APART_SECONDS = 10, 0.0137
HEAD = '{"jsonrpc":"2.0","id":1,"method":"eth_blockNumber","params":[]}'
CHAIN_ID = '{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[]}'

# What answers at once in the nodes' place: each call with its own id, and always the same head.
ANSWERERS = ["127.0.66.101:8545", "127.0.66.102:8545"]
ANSWERS = f"""
global
  nbthread 1
defaults
  mode http
  timeout client 60s
  timeout http-keep-alive 60s
frontend nodes
  bind {",".join(ANSWERERS)}
  option http-buffer-request
  http-request return status 200 content-type application/json lf-string '{{"jsonrpc":"2.0","id":%[req.body,json_query("$.id")],"result":"0x10"}}'
"""


def configurations(nodes: list[str]) -> dict[str, tuple[str, str]]:
    """Each peer's configuration before these nodes, and its command with the configuration's file left out."""
    haproxy = f"""
defaults
  mode http
  timeout connect 1s
  timeout client 60s
  timeout server 60s
  option redispatch
frontend edge
  bind 127.0.0.1:{HAPROXY_PORT} ssl crt {PAIR} alpn h2,http/1.1
  default_backend nodes
backend nodes
  balance roundrobin
  option httpchk
  http-check send meth POST uri / hdr content-type application/json body '{HEAD}'
  default-server inter 500ms fall 2 rise 2 check
""" + "".join(f"  server node{at} {node}\n" for at, node in enumerate(nodes))
    caddy = f"""
{{
  admin off
  auto_https off
}}
https://{NAME}:{CADDY_PORT} {{
  bind 127.0.0.1
  tls {PAIR} {PAIR}
  reverse_proxy {" ".join(nodes)} {{
    lb_policy round_robin
    header_up Host localhost
  }}
}}
"""
    return {"haproxy": (haproxy, "haproxy -db -f {}"), "caddy": (caddy, "caddy run --adapter caddyfile --config {}")}


UNITS = {"edge": "nginx", "haproxy": "bench-haproxy", "caddy": "bench-caddy"}
TARGETS = {
    **{node: (f"http://{node}/", node) for node in (*NODES, *ANSWERERS)},
    "edge": (f"https://{NAME}:{EDGE_PORT}/", f"127.0.0.1:{EDGE_PORT}"),
    "haproxy": (f"https://{NAME}:{HAPROXY_PORT}/", f"127.0.0.1:{HAPROXY_PORT}"),
    "caddy": (f"https://{NAME}:{CADDY_PORT}/", f"127.0.0.1:{CADDY_PORT}"),
}
EDGE_POOLS = Path("/etc/nginx/pools.json")


def run(*words: str) -> str:
    """Run a program and give what it prints."""
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def install() -> dict[str, str]:
    """Install the peers and the load generator; neither peer is left running."""
    run("apt-get", "update")
    run("apt-get", "install", "--yes", "--no-install-recommends", "nghttp2-client", "haproxy", "caddy")
    run("systemctl", "disable", "--now", "haproxy", "caddy")
    return {"haproxy": run("haproxy", "-v").splitlines()[0], "caddy": run("caddy", "version").strip()}


@contextmanager
def units(place: Path, wanted: dict[str, tuple[str, str]]) -> Iterator[None]:
    """Programs run with their configurations, in units of their own, for as long as the context lasts."""
    try:
        for name, (text, command) in wanted.items():
            file = place / name
            file.write_text(text)
            words = command.format(file).split()
            run("systemd-run", "--quiet", "--collect", f"--setenv=HOME={place}", f"--unit=bench-{name}", *words)
        time.sleep(2)
        yield
    finally:
        for name in wanted:
            subprocess.run(["systemctl", "stop", f"bench-{name}"], check=False, capture_output=True)


@contextmanager
def peers(place: Path, nodes: list[str]) -> Iterator[None]:
    """Both peers run before these nodes, for as long as the context lasts."""
    with units(place, configurations(nodes)):
        yield


def reload_edge(pools: str) -> None:
    """Have the edge read other pools; SystemExit where it has not all nodes of the chain in its pool within 30 s."""
    EDGE_POOLS.write_text(pools)
    run("systemctl", "reload", "nginx")
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        loaded = subprocess.run(["edge-pools", "loaded"], check=False, capture_output=True).returncode == 0
        if loaded and json.loads(run("edge-pools", "show", "--json"))["pools"][EDGE["chain"]]["members"] == len(NODES):
            return
        time.sleep(0.2)
    raise SystemExit("the edge did not take up its pools within 30 s")


@contextmanager
def answerers(place: Path) -> Iterator[None]:
    """Programs that answer at once stand in the nodes' place, behind the edge and the peers alike, for as long as the context lasts.

    Who is in the edge's pool goes by the health of the real nodes, which is asked for as ever.
    """
    before = EDGE_POOLS.read_text()
    known = json.loads(before)
    for node, address in zip(known["pools"][EDGE["chain"]]["nodes"], ANSWERERS, strict=True):
        node["rpc"] = f"http://{address}"
    with units(place, {"answers": (ANSWERS, "haproxy -db -f {}")}), peers(place, ANSWERERS):
        try:
            reload_edge(json.dumps(known))
            yield
        finally:
            reload_edge(before)


def load(place: Path, target: str, body: str, *options: str, name: str = "") -> list[float]:
    """Send calls to a target and give the milliseconds of each; SystemExit where one of them is not answered with 200."""
    url, address = TARGETS[target]
    sent, noted = place / f"body {target}{name}", place / f"log {target}{name}"
    sent.write_text(body)
    noted.unlink(missing_ok=True)
    run(
        *("h2load", "--h1", "--threads=1", f"--connect-to={address}", f"--data={sent}", f"--log-file={noted}"),
        *("--header=content-type: application/json", *options, url),
    )
    lines = [line.split("\t") for line in noted.read_text().splitlines()]
    # A call that the end of the time cut off has no status.
    wrong = [status for _, status, _ in lines if status not in {"200", "-1"}]
    if wrong or not lines:
        raise SystemExit(f"{target} answered {len(wrong)} of {len(lines)} calls with something else than 200")
    return [int(microseconds) / 1000 for _, status, microseconds in lines if status == "200"]


def used(target: str) -> tuple[float, int]:
    """Seconds of CPU that a target's main process and its children have used, and bytes of memory that they hold."""
    main = run("systemctl", "show", "--property=MainPID", "--value", UNITS[target]).strip()
    ticks = pages = 0
    for status in Path("/proc").glob("[0-9]*/stat"):
        fields = status.read_text().rpartition(")")[2].split()
        if main in {status.parent.name, fields[1]}:
            ticks += int(fields[11]) + int(fields[12])
            pages += int(fields[21])
    if not ticks:
        raise SystemExit(f"{UNITS[target]} does not run")
    return ticks / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE")


def rate(place: Path, nodes: list[str], calls: str, seconds: str, *ways: str) -> dict[str, list[float]]:
    """Milliseconds of each call at a constant rate of callers who know nothing of each other, by way.

    Clients of one load generator call all at the same moment: ten calls at a stroke, whose waits for each other are measured then.
    """
    found = {}
    options = ("--clients=1", f"--rps={int(calls) // CALLERS}", f"--duration={seconds}")
    for way in ways:
        # Proxies share their calls out among the nodes, and so do those who call them directly.
        targets = nodes if way == "direct" else [way]
        with ThreadPoolExecutor(CALLERS) as pool:
            parts = []
            for at in range(CALLERS):
                body = HEAD.replace('"id":1', f'"id":{at}')
                parts.append(pool.submit(load, place, targets[at % len(targets)], body, *options, name=str(at)))
                time.sleep(APART_SECONDS)
        found[way] = [each for part in parts for each in part.result()]
    return found


def most(place: Path, seconds: str) -> dict[str, dict[str, float]]:
    """Calls a second over connections that send the next one as soon as they have the last one's answer."""
    found = {}
    for target in UNITS:
        cpu, memory = used(target)
        answered = len(load(place, target, HEAD, f"--clients={CONNECTIONS}", f"--duration={seconds}"))
        cpu_after, memory_after = used(target)
        found[target] = {
            "calls_per_second": answered / float(seconds),
            "cpu_us": (cpu_after - cpu) * 1e6 / answered,
            "grown_bytes": (memory_after - memory) / answered,
        }
    return found


def kept(place: Path, count: str) -> list[float]:
    """Milliseconds of calls that have an answer which cannot change."""
    load(place, "edge", CHAIN_ID, "--clients=1", "--requests=10")
    return load(place, "edge", CHAIN_ID, "--clients=1", f"--requests={count}")


def main() -> None:
    """Do what the arguments name."""
    rounds, *rest = sys.argv[2:]
    if rounds == "install":
        print(json.dumps(install()))
        return
    action, *arguments = rest
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        actions: dict[str, Callable[..., object]] = {
            "rate": partial(rate, place, NODES),
            "added": partial(rate, place, ANSWERERS),
            "most": partial(most, place),
            "kept": partial(kept, place),
        }
        if action == "added":
            arguments += ["direct", *UNITS]
        with answerers(place) if action == "added" else peers(place, NODES):
            print(json.dumps([actions[action](*arguments) for _ in range(int(rounds))]))


if __name__ == "__main__":
    main()
