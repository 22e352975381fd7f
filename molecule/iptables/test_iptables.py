"""A node, an edge and a stranger: what the stranger reaches, what outlives what, and the way back from a lockout.

The tests follow each other: what one leaves is where the next one starts.
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import testinfra
from testinfra.host import Host

from lab import hosts, ssh
from lab.checkout import Checkout
from tests.packets import ACK, FAR, FIN, PSH, RST, SYN, URG, count, redirect, send
from tests.plays import Play, play
from tests.waiting import journal, until

CONNECTIONS = 40
FLEET = {
    "node_chains": ["ethereum"],
    "iptables_edge_connections": CONNECTIONS,
    "iptables_edge_burst": 1000,
    "iptables_edge_new_per_second": 1000,
}
# What the catalogue makes public of Ethereum's node, by TCP.
PUBLIC_TCP = {30303, 42069, 4001}
PUBLIC_UDP = {30303, 42069, 4000, 4001}
# What is looked for on servers by UDP, the VPN's port, and the public ones.
SCANNED_UDP = [53, 111, 123, 161, 500, 1900, 5353, 9999, 11211, 51820, *sorted(PUBLIC_UDP)]
ADMINS_ONLY = 22
# One of the public ones, and the rule that lets it in.
PUBLIC, P2P = 30303, "erigon.p2p"
UNKNOWN_PORT, OPERATORS_PORT = 9999, 9997

CALL = '{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[]}'

# Opens connections, says how many were let in, and holds them until its input ends.
HOLD = """
import socket, sys
held = []
for _ in range(int(sys.argv[3])):
    one = socket.socket()
    one.settimeout(0.2)
    try:
        one.connect((sys.argv[1], int(sys.argv[2])))
    except OSError:
        continue
    held.append(one)
print(len(held), flush=True)
sys.stdin.read()
"""

# Gives back what it is sent.
ECHO = """
import socket
one = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
one.bind(("::", 9999))
while True:
    one.sendto(*one.recvfrom(2048))
"""

# Sends SYNs to the edge from addresses of a network that is nobody's (RFC 2544), no faster than one in 100 us.
SYNS = """
import random, socket, struct, sys, time
target = socket.inet_aton(sys.argv[1])
def checksum(data):
    value = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while value >> 16:
        value = (value & 0xFFFF) + (value >> 16)
    return ~value & 0xFFFF
with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
    for _ in range(int(sys.argv[2])):
        source = struct.pack("!I", (198 << 24) + (18 << 16) + random.randrange(1, 1 << 17))
        segment = struct.pack("!HHIIBBHHH", random.randrange(1024, 65536), 8443, random.getrandbits(32), 0, 0x50, 2, 64240, 0, 0)
        check = checksum(source + target + struct.pack("!BBH", 0, 6, 20) + segment)
        segment = segment[:16] + struct.pack("!H", check) + segment[18:]
        raw.sendto(struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40, 0, 0, 64, 6, 0, source, target) + segment, (sys.argv[1], 0))
        time.sleep(0.0001)
"""


def reached(name: str) -> Host:
    return testinfra.get_host(f"ssh://{name}", ssh_config=str(ssh.config(Checkout.here())), sudo=True)


@pytest.fixture(scope="module")
def node() -> Host:
    return reached("iptables")


@pytest.fixture(scope="module")
def edge() -> Host:
    return reached("iptables-b")


@pytest.fixture(scope="module")
def stranger() -> Host:
    host = reached("iptables-c")
    host.check_output(
        "command -v nmap || (apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nmap)"
    )
    return host


@pytest.fixture(scope="module")
def addresses() -> dict[str, str]:
    return {name: host.address for name, host in hosts.known(Checkout.here()).items()}


def firewall(*options: str, **variables: object) -> Play:
    return play("iptables", "firewall.yml", {**FLEET, **variables}, *options)


def rules(host: Host) -> str:
    """All rules of both families, without counters and dates."""
    text = host.check_output("iptables-save && ip6tables-save")
    return "\n".join(re.sub(r" \[\d+:\d+\]$", "", line) for line in text.splitlines() if not line.startswith("#"))


def opens(host: Host, address: str, port: int) -> bool:
    probe = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 2)"
    return bool(host.run("python3 -c %s %s %s", probe, address, str(port)).rc == 0)


@contextmanager
def listener(host: Host, port: int, address: str = "::") -> Iterator[None]:
    """A web server on a port of a host, for a while."""
    unit = f"listener-{port}"
    host.check_output(
        "systemd-run --quiet --unit=%s --collect --property=DynamicUser=yes python3 -m http.server --bind %s --directory /srv %s",
        unit,
        address,
        str(port),
    )
    try:
        assert until(lambda: opens(host, "127.0.0.1" if address == "::" else address, port))
        yield
    finally:
        host.run("systemctl stop %s", unit)


def own_ipv6(host: Host) -> str:
    return str(host.check_output("ip -6 -oneline address show dev eth0 scope link").split()[3].partition("/")[0])


# So fast that nmap may miss an answer of a machine that is busy: what is to answer is asked for again, by itself and at leisure.
WIDE = ("--min-rate 3000", "--max-retries 1")
THE_PUBLIC_ONES = f"-p {','.join(map(str, sorted(PUBLIC_TCP)))}"


def answering_ports(stranger: Host, *arguments: str) -> set[int]:
    """TCP ports that answer a scan, whether something listens on them or not."""
    text = stranger.check_output(f"nmap -n -Pn -sS -oG - {' '.join(arguments)}")
    assert "Host:" in text
    return {int(port) for port in re.findall(r"\b(\d+)/(?:open|closed|unfiltered)/tcp", text)}


def test_a_scan_of_all_ports_finds_only_catalogued_ones(node: Host, stranger: Host, addresses: dict[str, str]) -> None:
    with listener(node, UNKNOWN_PORT):
        found = answering_ports(stranger, *WIDE, "-p-", addresses["iptables"])
    assert found <= PUBLIC_TCP
    assert answering_ports(stranger, THE_PUBLIC_ONES, addresses["iptables"]) == PUBLIC_TCP
    assert count(node, "refused") > 60_000


def test_a_scan_over_ipv6_finds_the_same(node: Host, stranger: Host) -> None:
    with listener(node, UNKNOWN_PORT):
        ports = "-p 1-10000,26656,30303-30310,42069-42070"
        found = answering_ports(stranger, *WIDE, "-6", "-e eth0", ports, own_ipv6(node))
    assert found <= PUBLIC_TCP
    assert answering_ports(stranger, "-6", "-e eth0", THE_PUBLIC_ONES, own_ipv6(node)) == PUBLIC_TCP
    assert count(node, "refused", "ipv6") > 9_000


def answering_udp(stranger: Host, *arguments: str) -> set[int]:
    """UDP ports that answer a scan, or whose host says that nothing listens there."""
    ports = ",".join(map(str, SCANNED_UDP))
    text = stranger.check_output(
        f"nmap -n -Pn -sU --min-rate 100 --max-retries 1 -p {ports} -oG - {' '.join(arguments)}"
    )
    assert "Host:" in text
    return {int(port) for port in re.findall(r"\b(\d+)/(?:open|closed)/udp", text)}


def test_a_scan_by_udp_finds_no_port_that_is_not_public(node: Host, stranger: Host, addresses: dict[str, str]) -> None:
    node.check_output("systemd-run --quiet --unit=echo --collect --property=DynamicUser=yes python3 -c %s", ECHO)
    try:
        asks = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(2); s.sendto(b'x', ('127.0.0.1', 9999)); s.recv(9)"
        assert until(lambda: node.run("python3 -c %s", asks).rc == 0, 10)
        before = count(node, "refused"), count(node, "refused", "ipv6")
        found = answering_udp(stranger, addresses["iptables"])
        found6 = answering_udp(stranger, "-6", "-e eth0", own_ipv6(node))
    finally:
        node.run("systemctl stop echo")
    assert found <= PUBLIC_UDP
    assert found6 <= PUBLIC_UDP
    refused = len(SCANNED_UDP) - len(PUBLIC_UDP)
    assert count(node, "refused") - before[0] >= refused
    assert count(node, "refused", "ipv6") - before[1] >= refused


def test_neighbours_read_the_node_and_nobody_else_does(
    node: Host, edge: Host, stranger: Host, addresses: dict[str, str]
) -> None:
    for port in (8545, 8546, 9110):
        assert opens(edge, addresses["iptables"], port)
        assert not opens(stranger, addresses["iptables"], port)
    assert not opens(edge, addresses["iptables"], ADMINS_ONLY)
    assert count(node, "vpn.refused") > 0
    assert count(node, "ssh.refused") > 0


def test_the_edge_answers_everybody_from_the_node_behind_it(stranger: Host, addresses: dict[str, str]) -> None:
    asked = (
        "curl --silent --fail --insecure --max-time 10 --resolve ethereum.rpc.lyftium.com:8443:%s "
        "--header content-type:application/json --data %s https://ethereum.rpc.lyftium.com:8443/"
    )
    assert until(lambda: '"0x1"' in stranger.run(asked, addresses["iptables-b"], CALL).stdout)


@contextmanager
def controller_connection(address: str) -> Iterator[ssl.SSLSocket]:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection((address, 8443), 10) as plain,
        context.wrap_socket(plain, server_hostname="ethereum.rpc.lyftium.com") as wrapped,
    ):
        yield wrapped


def answers(connection: ssl.SSLSocket) -> None:
    """Call on a connection that stays open, and read all of the answer."""
    headers = f"Host: ethereum.rpc.lyftium.com\r\nContent-Type: application/json\r\nContent-Length: {len(CALL)}"
    connection.sendall(f"POST / HTTP/1.1\r\n{headers}\r\n\r\n{CALL}".encode())
    response = http.client.HTTPResponse(connection)
    response.begin()
    assert b"0x1" in response.read()
    assert not response.will_close


def flood(edge: Host, stranger: Host, address: str) -> int:
    """Open 70 connections to the edge from one address and say how many were held, while another's lives and new ones come."""
    own = hosts.known(Checkout.here())["iptables-c"].address
    # Those of the test before count until the edge has closed them too.
    assert until(lambda: edge.check_output("ss -H -n -t exclude time-wait dst %s", own) == "")
    with controller_connection(address) as open_before:
        answers(open_before)
        before = count(edge, "nginx.connections")
        held = int(stranger.check_output("python3 -c %s %s 8443 70 < /dev/null", HOLD, address))
        assert count(edge, "nginx.connections") > before
        answers(open_before)
        with controller_connection(address) as new:
            answers(new)
    return held


def test_a_flood_of_connections_is_held_and_others_come_through(
    edge: Host, stranger: Host, addresses: dict[str, str]
) -> None:
    assert flood(edge, stranger, addresses["iptables-b"]) == CONNECTIONS


# No connection has these, by the rules' list: SYN with FIN and RST, all flags, none, and so on.
IMPOSSIBLE = (0, FIN | SYN | RST | PSH | ACK | URG, FIN | SYN, SYN | RST, FIN | RST, FIN, URG, PSH)
# These are no connection's first, and there is no connection that they could belong to.
STRAY = (RST, FIN | ACK)


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_false_sources_and_flags_are_dropped_and_counted(
    node: Host, stranger: Host, addresses: dict[str, str], family: str
) -> None:
    target, own = (addresses["iptables"], addresses["iptables-c"])
    spoofed = [target, "127.0.0.1", "127.5.5.5", "0.0.0.5", "224.0.0.5", "240.0.0.9", "255.255.255.255"]
    if family == "ipv6":
        target, own = own_ipv6(node), own_ipv6(stranger)
        spoofed = [target]
    names = ("bogus.source", "bogus.flags", "invalid")
    before = [count(node, name, family) for name in names]
    let_in = count(node, P2P, family)
    send(stranger, target, PUBLIC, [(source, SYN) for source in spoofed])
    send(stranger, target, PUBLIC, [(own, flags) for flags in (*IMPOSSIBLE, *STRAY)])
    sent = [len(spoofed), len(IMPOSSIBLE), len(STRAY)]

    def seen() -> list[int]:
        return [count(node, name, family) - then for name, then in zip(names, before, strict=True)]

    # What was sent is looked at a little later.
    assert until(lambda: all(dropped >= each for dropped, each in zip(seen(), sent, strict=True))), seen()
    assert count(node, P2P, family) == let_in
    # An honest one comes in by the same way.
    send(stranger, target, PUBLIC, [(own, SYN)])
    assert until(lambda: count(node, P2P, family) > let_in)
    assert count(node, P2P, family) == let_in + 1


def test_nobody_on_the_wire_tells_a_host_another_way(node: Host, stranger: Host, addresses: dict[str, str]) -> None:
    way = node.check_output("ip route get %s", FAR)
    before = count(node, "bogus.redirect")
    gateway = way.split()[way.split().index("via") + 1]
    redirect(stranger, node, addresses["iptables"], gateway, addresses["iptables-c"])
    assert until(lambda: count(node, "bogus.redirect") > before)
    assert count(node, "bogus.redirect") == before + 1
    assert "redirected" not in node.check_output("ip route get %s", FAR)


def test_ipv6_s_own_bogus_sources_end_before_any_rule(node: Host, stranger: Host) -> None:
    def refused() -> int:
        return int(node.check_output("cat /proc/net/snmp6").split("Ip6InHdrErrors")[1].split()[0])

    before = refused() + count(node, "bogus.source", "ipv6")
    send(stranger, own_ipv6(node), PUBLIC, [("::1", SYN), ("ff02::1", SYN)])
    assert until(lambda: refused() + count(node, "bogus.source", "ipv6") >= before + 2)
    assert refused() + count(node, "bogus.source", "ipv6") == before + 2


def test_a_ban_ends_what_is_open_and_expires(edge: Host, stranger: Host, addresses: dict[str, str]) -> None:
    target, banned = addresses["iptables-b"], addresses["iptables-c"]
    assert until(lambda: opens(stranger, target, 8443))
    edge.check_output("fleet-firewall ban %s --seconds 600", banned)
    assert banned in edge.check_output("fleet-firewall banned")
    assert not opens(stranger, target, 8443)
    assert count(edge, "banned") > 0
    edge.check_output("fleet-firewall unban %s", banned)
    assert opens(stranger, target, 8443)
    # As fail2ban does, without the command.
    edge.check_output("ipset add fleet-ban4 %s timeout 5", banned)
    assert until(lambda: opens(stranger, target, 8443))
    assert edge.check_output("fleet-firewall banned") == ""


def test_a_ban_does_not_lock_out_who_could_lift_it(edge: Host) -> None:
    gateway = hosts.known(Checkout.here())["iptables-b"].gateway
    edge.check_output("fleet-firewall ban %s --seconds 600", gateway)
    assert edge.check_output("fleet-firewall banned").startswith(gateway)
    edge.check_output("fleet-firewall unban %s", gateway)


OTHERS = f"""
iptables -N DOCKER-USER
iptables -A DOCKER-USER -j RETURN
iptables -I FORWARD 1 -j DOCKER-USER
iptables -I FORWARD 2 -o inner0 -j ACCEPT
iptables -N f2b-sshd
iptables -A f2b-sshd -s 203.0.113.9 -j REJECT
iptables -A f2b-sshd -j RETURN
iptables -I INPUT 1 -p tcp -m multiport --dports 22 -j f2b-sshd
iptables -A INPUT -p tcp --dport {OPERATORS_PORT} -j DROP
iptables -A FLEET-USER -p tcp --dport {UNKNOWN_PORT} -j ACCEPT
iptables -t nat -A POSTROUTING -s 172.30.0.0/24 -j RETURN
"""


def of_others(text: str) -> list[str]:
    return [line for line in text.splitlines() if re.search(r"DOCKER|f2b|FLEET-USER -p|inner0|172\.30|9997", line)]


def test_what_others_have_put_there_outlives_every_run(node: Host, stranger: Host, addresses: dict[str, str]) -> None:
    node.check_output(f"set -e; {OTHERS}")
    before = of_others(rules(node))
    assert len(before) == 11
    done = firewall("--limit=iptables", iptables_ssh_connections=900)
    assert (done.code, done.changed) == (0, 1), done.output
    assert of_others(rules(node)) == before
    again = firewall("--limit=iptables", iptables_ssh_connections=900)
    assert (again.code, again.changed) == (0, 0), again.output
    assert of_others(rules(node)) == before
    with listener(node, UNKNOWN_PORT):
        assert opens(stranger, addresses["iptables"], UNKNOWN_PORT)


INNER = """
ip netns add inner
ip link add inner0 type veth peer name eth0 netns inner
ip address add 172.30.0.1/24 dev inner0
ip link set inner0 up
ip -n inner address add 172.30.0.2/24 dev eth0
ip -n inner link set eth0 up
ip -n inner link set lo up
ip -n inner route add default via 172.30.0.1
sysctl --quiet --write net.ipv4.ip_forward=1
systemd-run --quiet --unit=inner-web --collect ip netns exec inner python3 -m http.server --directory /srv 80
"""


def test_docker_s_way_in_does_not_lead_past_the_firewall(node: Host, stranger: Host, addresses: dict[str, str]) -> None:
    node.check_output(f"set -e; {INNER}")
    try:
        stranger.check_output("ip route replace 172.30.0.0/24 via %s", addresses["iptables"])
        assert until(lambda: opens(node, "172.30.0.2", 80))
        assert not opens(stranger, "172.30.0.2", 80)
        assert count(node, "forward") > 0
        outwards = f"ip netns exec inner python3 -c 'import socket; socket.create_connection((\"{addresses['iptables-c']}\", 22), 2)'"
        assert node.run(outwards).rc != 0
        done = firewall("--limit=iptables", iptables_forward_interfaces=["inner0"])
        assert done.code == 0, done.output
        assert node.run(outwards).rc == 0
        assert not opens(stranger, "172.30.0.2", 80)
    finally:
        node.run("systemctl stop inner-web; ip netns delete inner")
        stranger.run("ip route delete 172.30.0.0/24")
    assert firewall("--limit=iptables").code == 0


def test_rules_that_would_lock_their_own_connection_out_are_refused(node: Host) -> None:
    before = rules(node)
    done = firewall("--limit=iptables", iptables_admin_networks=["192.0.2.0/24"])
    assert done.code != 0
    assert "which the rules would lock out, for iptables_admin_networks holds only 192.0.2.0/24" in done.messages
    assert rules(node) == before


def test_a_lockout_undoes_itself_and_is_told_in_a_sentence(node: Host) -> None:
    before = rules(node)
    done = firewall(
        "--limit=iptables",
        iptables_admin_networks=["192.0.2.0/24"],
        iptables_check_own_access=False,
        iptables_confirm_seconds=5,
        iptables_revert_seconds=20,
    )
    assert done.code != 0
    assert (
        "were not confirmed by a new SSH connection within 5 seconds, so that the host is back at the rules"
        in done.messages
    )
    assert rules(node) == before
    assert "the host is back at the ones before" in journal(node, "--unit=fleet-firewall-revert")
    assert "192.0.2" not in node.check_output("cat /etc/fleet-firewall/rules.v4")


def test_check_mode_shows_the_rules_that_differ(node: Host) -> None:
    before = rules(node)
    done = firewall("--limit=iptables", "--check", "--diff", iptables_edge_burst=999, iptables_ssh_burst=321)
    assert (done.code, done.changed) == (0, 1)
    assert "--hashlimit-burst 321" in done.output
    assert rules(node) == before


def test_synproxy_leaves_the_edge_reachable_and_the_limit_in_force(
    edge: Host, stranger: Host, addresses: dict[str, str]
) -> None:
    done = firewall("--limit=iptables-b", iptables_synproxy=True)
    assert done.code == 0, done.output
    assert "SYNPROXY" in rules(edge)
    assert flood(edge, stranger, addresses["iptables-b"]) <= CONNECTIONS
    assert opens(stranger, addresses["iptables-b"], 8443)
    before = cookies(edge)
    # What the edge answers ends at the sender.
    edge.check_output("ip route replace 198.18.0.0/15 via %s", addresses["iptables-c"])
    try:
        with controller_connection(addresses["iptables-b"]) as open_before:
            stranger.check_output(
                "sysctl -qw net.ipv4.ip_forward=0 && python3 -c %s %s 3000", SYNS, addresses["iptables-b"]
            )
            answers(open_before)
            assert opens(stranger, addresses["iptables-b"], 8443)
    finally:
        edge.check_output("ip route delete 198.18.0.0/15")
    # SYNPROXY answered them, and the server behind it never saw one.
    assert until(lambda: cookies(edge) - before >= 3000)
    assert edge.check_output("ss -H -n -t state syn-recv dst 198.18.0.0/15") == ""
    assert firewall("--limit=iptables-b").code == 0
    assert "SYNPROXY" not in rules(edge)


def cookies(host: Host) -> int:
    """SYNs that SYNPROXY has seen, over all processors."""
    titles, *rows = (line.split() for line in host.check_output("cat /proc/net/stat/synproxy").splitlines())
    return sum(int(row[titles.index("syn_received")], 16) for row in rows)


def test_a_host_that_may_not_speak_outwards_still_reads_its_node(edge: Host, addresses: dict[str, str]) -> None:
    done = firewall("--limit=iptables-b", iptables_output_deny=True)
    assert done.code == 0, done.output
    assert opens(edge, addresses["iptables"], 8545)
    assert not opens(edge, addresses["iptables-c"], 22)
    assert firewall("--limit=iptables-b").code == 0
    assert opens(edge, addresses["iptables-c"], 22)


def said(host: Host, command: str) -> str:
    """What a command prints; nothing while the host is away."""
    try:
        return str(host.run(command).stdout)
    except RuntimeError:
        return ""


def test_after_a_reboot_the_rules_are_there_before_the_network(node: Host) -> None:
    own = [line for line in rules(node).splitlines() if "FLEET-" in line and "FLEET-USER -" not in line]
    # A container's network outlives its reboot, and so would rules that nobody brings in.
    node.check_output("fleet-firewall remove")
    assert "FLEET-INPUT" not in rules(node)
    started = "cut --delimiter=' ' --fields=22 /proc/1/stat"
    boot = node.check_output(started)
    said(node, "systemctl reboot")
    assert until(lambda: said(node, started).strip() not in {"", boot}, 120)
    assert until(lambda: said(node, "systemctl is-active multi-user.target").strip() == "active", 120)
    assert [line for line in rules(node).splitlines() if "FLEET-" in line and "FLEET-USER -" not in line] == own
    shown = "systemctl show --property=%s --value %s"
    applied = int(node.check_output(shown, "ExecMainExitTimestampMonotonic", "fleet-firewall.service"))
    network = int(node.check_output(shown, "ActiveEnterTimestampMonotonic", "network-pre.target"))
    assert 0 < applied <= network
    again = firewall("--limit=iptables")
    assert (again.code, again.changed) == (0, 0), again.output


def test_the_counters_are_written_for_monitoring(node: Host) -> None:
    path = "/var/lib/fleet-firewall/fleet_firewall.prom"
    assert until(lambda: 'fleet_firewall_active{family="ipv6"} 1' in node.run("cat %s", path).stdout)


def test_what_is_taken_away_is_the_role_s_own_and_comes_back(node: Host) -> None:
    if not of_others(rules(node)):
        node.check_output(f"set -e; {OTHERS}")
    before = of_others(rules(node))
    done = firewall("--limit=iptables", iptables_state="absent")
    assert done.code == 0, done.output
    left = rules(node)
    assert of_others(left) == before
    assert {line for line in left.splitlines() if "FLEET-" in line} == {
        ":FLEET-USER -",
        f"-A FLEET-USER -p tcp -m tcp --dport {UNKNOWN_PORT} -j ACCEPT",
    }
    assert node.run("systemctl cat fleet-firewall").rc != 0
    assert node.run("ls /etc/fleet-firewall").rc != 0
    assert "fleet-ban" not in node.check_output("ipset list -name")
    assert firewall("--limit=iptables", iptables_state="absent").changed == 0
    assert firewall("--limit=iptables").code == 0
    assert count(node, "refused") >= 0
