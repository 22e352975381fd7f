"""Packets that no host would send of itself, from a host of the lab to another: false sources, impossible flags."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from testinfra.host import Host

# Nobody's, behind the gateway.
FAR = "192.0.2.199"
FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32

# One bare TCP segment for each [source, flags], its header of IP made here too; a target of link-local scope is reached by eth0.
SEND = """
import json, socket, struct, sys
target, port, packets = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
family = socket.AF_INET6 if ":" in target else socket.AF_INET
def checksum(data):
    value = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while value >> 16:
        value = (value & 0xFFFF) + (value >> 16)
    return ~value & 0xFFFF
there = socket.inet_pton(family, target)
with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
    for number, (source, flags) in enumerate(packets):
        here = socket.inet_pton(family, source)
        segment = struct.pack("!HHIIBBHHH", 40000 + number, port, 1, 1 if flags & 16 else 0, 0x50, flags, 1024, 0, 0)
        check = checksum(here + there + struct.pack("!HH", 6, len(segment)) + segment)
        segment = segment[:16] + struct.pack("!H", check) + segment[18:]
        if family == socket.AF_INET:
            raw.sendto(struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40, 1, 0, 64, 6, 0, here, there) + segment, (target, 0))
        else:
            head = struct.pack("!IHBB16s16s", 6 << 28, len(segment), 6, 64, here, there)
            raw.sendto(head + segment, (target, 0, 0, socket.if_nametoindex("eth0")))
"""

# An ICMP redirect as its gateway would send it, which quotes the datagram that the target has just sent from UDP port 40000 to port 9 of the far one.
REDIRECT = """
import socket, struct, sys
target, gateway, far, elsewhere = map(socket.inet_aton, sys.argv[1:5])
def checksum(data):
    value = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while value >> 16:
        value = (value & 0xFFFF) + (value >> 16)
    return struct.pack("!H", ~value & 0xFFFF)
quoted = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 32, 1, 0, 64, 17, 0, target, far)
quoted = quoted[:10] + checksum(quoted) + quoted[12:] + struct.pack("!HHHH4s", 40000, 9, 12, 0, b"sent")
message = struct.pack("!BBH4s", 5, 1, 0, elsewhere) + quoted
message = message[:2] + checksum(message) + message[4:]
with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(message), 2, 0, 64, 1, 0, gateway, target)
    raw.sendto(head + message, (sys.argv[1], 0))
"""
# What that datagram is sent by.
DATAGRAM = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
    udp.bind(("", 40000))
    udp.sendto(b"sent", (sys.argv[1], 9))
"""


def redirect(sender: Host, target: Host, address: str, gateway: str, elsewhere: str) -> None:
    """Have the target send a datagram by its gateway, and a neighbour say in the gateway's name that the way there is another."""
    target.check_output("python3 -c %s %s", DATAGRAM, FAR)
    sender.check_output("python3 -c %s %s %s %s %s", REDIRECT, address, gateway, FAR, elsewhere)


def send(sender: Host, target: str, port: int, packets: Sequence[tuple[str, int]]) -> None:
    """Have a host send a bare TCP segment to a port of an address for each (source, flags)."""
    sender.check_output("python3 -c %s %s %s %s", SEND, target, str(port), json.dumps(packets))


def count(host: Host, rule: str, family: str = "ipv4") -> int:
    """Packets that the firewall's rules of a name have seen on a host, since its rules came in."""
    text = host.check_output("fleet-firewall metrics")
    found = re.findall(
        rf'^fleet_firewall_packets_total{{family="{family}",.*rule="{re.escape(rule)}"}} (\d+)', text, re.MULTILINE
    )
    assert found, rule
    return sum(map(int, found))
