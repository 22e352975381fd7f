"""Packets that no host would send of itself, from a host of the lab to another: false sources, impossible flags."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from testinfra.host import Host

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
