"""What callers at the edge see of a SYN flood: bounded in packets, from a host of the lab that is none of the fleet, by many false addresses."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean, median, quantiles

from lab import catalogue, hosts, ssh
from lab.checkout import Checkout
from tests import secrets_fleet as on
from tests.bench.figure import Figure
from tests.load import BODY

EDGE, STRANGER = "rotation", "rotation-c"
CHAIN = "ethereum"
# A network for benchmarks (RFC 2544): nobody's, and no bogus source by the firewall's rules.
FALSE = "198.18.0.0/15"
SYNS_A_SECOND = 10_000
SECONDS = 12
# Calm and flood by turns, so that what else the machine does meanwhile falls on both.
ROUNDS = 3
# Below what one address may do by the role's defaults, 50 new connections a second. Two callers, so that one that waits holds nobody up.
CALLS_A_SECOND, CALLERS = 40, 2
OK = "200"
PERCENT = 99

SEND = """
import random, socket, struct, sys, time
target, port, rate, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
def total(data):
    value = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while value >> 16:
        value = (value & 0xFFFF) + (value >> 16)
    return ~value & 0xFFFF
def packet():
    source = struct.pack("!I", (198 << 24) + (18 << 16) + random.randrange(1, 1 << 17))
    there = socket.inet_aton(target)
    head = struct.pack("!HHIIBBHHHBBH", random.randrange(1024, 65536), port, random.getrandbits(32), 0, 0x60, 2, 64240, 0, 0, 2, 4, 1460)
    check = total(source + there + struct.pack("!BBH", 0, 6, len(head)) + head)
    head = head[:16] + struct.pack("!H", check) + head[18:]
    return struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(head), 0, 0, 64, 6, 0, source, there) + head
packets = [packet() for _ in range(20000)]
sent, begun = 0, time.monotonic()
print('begun')
with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
    while sent < rate * seconds:
        due = min(int((time.monotonic() - begun) * rate), rate * seconds)
        for number in range(sent, due):
            raw.sendto(packets[number % len(packets)], (target, 0))
        sent = max(sent, due)
        time.sleep(0.002)
print(sent, time.monotonic() - begun)
"""
# What the edge's kernel counts of half-open connections.
COUNTS = """
lines = [line.split() for line in open("/proc/net/netstat") if line.startswith("TcpExt:")]
print(dict(zip(*lines))["SyncookiesSent"])
"""


@dataclass(frozen=True)
class Calls:
    """What callers saw: how many calls were sent, and how long (ms) each took that was answered with 200."""

    sent: int
    took_ms: list[float]

    @property
    def failed(self) -> int:
        return self.sent - len(self.took_ms)

    @property
    def p99_ms(self) -> float:
        return quantiles(self.took_ms, n=100)[PERCENT - 1]


def measure() -> Iterator[Figure]:
    """Calls over new connections and over kept ones, without a flood and with one; the hosts are those of tests.bench.rotation."""
    address = hosts.known(Checkout.here())[STRANGER].address
    # What the edge answers goes to the sender of the flood, and ends there.
    on.on_host("import subprocess; subprocess.run(['sysctl', '-qw', 'net.ipv4.ip_forward=0'], check=True)", STRANGER)
    on.on_host(f"import subprocess; subprocess.run('ip route replace {FALSE} via {address}'.split(), check=True)", EDGE)
    before = int(on.on_host(COUNTS, EDGE))
    calm, flooded, rates = [], [], []
    for _ in range(ROUNDS):
        calm.append(_calls())
        sender = _sender()
        flooded.append(_calls())
        rates.append(_ended(sender))
    cookies = int(on.on_host(COUNTS, EDGE)) - before
    sys.stderr.write(f"the edge answered {cookies} SYNs by cookies\n")
    if not cookies:
        raise SystemExit("no SYN was answered by a cookie: the flood has not filled the edge's queue")
    yield Figure("syn_flood_packets_a_second", fmean(rates), "packets/s", ROUNDS)
    for kind, name in (("new", ""), ("kept", "kept_")):
        yield Figure(f"syn_flood_{name}calm_p99_ms", median(calls[kind].p99_ms for calls in calm), "ms", ROUNDS)
        yield Figure(f"syn_flood_{name}p99_ms", median(calls[kind].p99_ms for calls in flooded), "ms", ROUNDS)
    every = [calls for each in flooded for calls in each.values()]
    yield Figure("syn_flood_requests", sum(calls.sent for calls in every), "calls", ROUNDS)
    yield Figure("syn_flood_failed_requests", sum(calls.failed for calls in every), "calls", ROUNDS)


def _calls() -> dict[str, Calls]:
    """Callers that make a connection with TLS for each call, then such that keep theirs: a compiled one, as on shared cores a slow one is what is measured."""
    checkout = Checkout.here()
    address, port = hosts.known(checkout)[EDGE].address, catalogue.edge_port(checkout)
    name = next(known.host_name for known in catalogue.chains(checkout) if known.name == CHAIN)
    sent = CALLS_A_SECOND * SECONDS // 2
    found = {}
    for kind, options in (("new", ["-disable-keepalive"]), ("kept", [])):
        command = [
            "hey",
            "-n",
            str(sent),
            "-c",
            str(CALLERS),
            "-q",
            str(CALLS_A_SECOND // CALLERS),
            "-t",
            "10",
            "-o",
            "csv",
            *options,
        ]
        request = ["-m", "POST", "-T", "application/json", "-d", BODY, "-host", name, f"https://{address}:{port}/"]
        done = subprocess.run([*command, *request], capture_output=True, text=True, check=True, timeout=10 * SECONDS)
        rows = list(csv.DictReader(done.stdout.splitlines()))
        said = Counter(row["status-code"] for row in rows)
        if said[OK] < sent:
            sys.stderr.write(f"of {sent} calls over {kind} connections were answered: {dict(said)}\n")
        found[kind] = Calls(sent, [1000 * float(row["response-time"]) for row in rows if row["status-code"] == OK])
    return found


def _sender() -> subprocess.Popen[str]:
    """A flood that has begun, longer than the calls that it is to disturb; at the least priority, as its host shares the edge's processors here."""
    arguments = (hosts.known(Checkout.here())[EDGE].address, "8443", str(SYNS_A_SECOND), str(SECONDS + 4))
    command = ssh.command(Checkout.here(), STRANGER, "sudo", "nice", "-n", "19", "python3", "-u", "-", *arguments)
    sender = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert sender.stdin is not None
    assert sender.stdout is not None
    sender.stdin.write(SEND)
    sender.stdin.close()
    # It makes its packets first.
    if sender.stdout.readline().strip() != "begun":
        raise SystemExit("the flood was not begun")
    return sender


def _ended(sender: subprocess.Popen[str]) -> float:
    """Packets a second that a flood has sent."""
    assert sender.stdout is not None
    sent, seconds = sender.stdout.read().split()
    if sender.wait(60):
        raise SystemExit("the flood was not sent")
    return int(sent) / float(seconds)
