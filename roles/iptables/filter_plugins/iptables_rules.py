"""From the catalogue's listeners to the firewall's rules, and what is wrong with a firewall's options, in sentences.

Pure functions; no host is asked. In these chains RETURN lets a packet go on, to whatever rules others have, and DROP ends it: a packet that
the fleet does not want is nobody's, one that it wants may still be refused by fail2ban or an operator.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

Facts = Mapping[str, Any]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# The services of the catalogue that rules know by name: one is let in from few, the other is limited.
SSH, EDGE = "ssh", "nginx"
STATES = ("present", "absent", "unmanaged")
INTERFACE = re.compile(r"[A-Za-z0-9_.@-]{1,15}\+?")
RANGES = {
    "edge_connections": (1, 1_000_000),
    "edge_new_per_second": (1, 10_000),
    "edge_burst": (1, 10_000),
    "ssh_connections": (1, 10_000),
    "ssh_new_per_minute": (1, 100_000),
    "ssh_burst": (1, 10_000),
    "conntrack_max": (65_536, 16_777_216),
    "confirm_seconds": (5, 50),
    "revert_seconds": (15, 60),
}
# What has no business in a packet from a wire.
BOGUS = {
    "v4": ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4"),
    "v6": ("::1/128", "ff00::/8"),
}
FLAGS = (
    "ALL NONE",
    "ALL ALL",
    "FIN,SYN FIN,SYN",
    "SYN,RST SYN,RST",
    "FIN,RST FIN,RST",
    "FIN,ACK FIN",
    "ACK,URG URG",
    "PSH,ACK PSH",
)
ECHO = "-m limit --limit 20/sec --limit-burst 50"
# ICMP by its number: the errors without which connections hang (fragmentation needed is one of IPv4's unreachables), and the echo.
ERRORS = {
    "v4": {3: "destination-unreachable", 11: "time-exceeded", 12: "parameter-problem"},
    "v6": {1: "destination-unreachable", 2: "packet-too-big", 3: "time-exceeded", 4: "parameter-problem"},
}
LOG = '-m limit --limit 6/min --limit-burst 10 -j LOG --log-prefix "fleet-firewall: "'
# Where a ban names no time of its own. A set keeps what it was made with, so this is no option.
BAN_SECONDS = 3600
GLASS_SECONDS = 180
# Beyond these a host that may not speak outwards could not be kept: names, time (NTP, and NTS' keys), packages and end points of chains.
OUTWARDS = (("udp", 53), ("tcp", 53), ("udp", 123), ("tcp", 4460), ("tcp", 80), ("tcp", 443))


def listeners_here(
    chain_listeners: Facts,
    host_listeners: Facts,
    services: Facts,
    host_services: Facts,
    chains: Iterable[str],
    groups: Iterable[str],
) -> list[dict[str, Any]]:
    """What a host that runs `chains` and is in `groups` listens on: [{name, service, address, port, protocol, exposure}]."""
    chains, groups = set(chains), set(groups)
    here = {name: entries for name, entries in chain_listeners.items() if services[name]["chain"] in chains}
    # SSH is there before any group is.
    here |= {
        name: entries
        for name, entries in host_listeners.items()
        if name == SSH or host_services[name].get("group") in groups
    }
    return [
        {
            "name": f"{service}.{listener}",
            "service": service,
            **{key: entry[key] for key in ("address", "port", "exposure")},
            "protocol": protocol,
        }
        for service, entries in here.items()
        for listener, entry in entries.items()
        for protocol in entry["protocols"]
    ]


def neighbours(hostvars: Facts, hosts: Iterable[str]) -> list[str]:
    """The private addresses of the inventory's hosts, in their order."""
    found = {str(hostvars[host].get("private_address") or "") for host in hosts}
    return [str(address) for address in sorted(ipaddress.IPv4Address(each) for each in found - {""})]


def fleet_ports(services: Facts) -> list[tuple[str, int]]:
    """What hosts offer each other, [(protocol, port)], each once."""
    found = {
        (protocol, entry["port"])
        for service in services.values()
        for entry in service.get("listeners", {}).values()
        if entry["exposure"] == "vpn"
        for protocol in entry.get("protocols", ["tcp"])
    }
    return sorted(found)


def rules(policy: Facts) -> dict[str, str]:
    """A host's rules as iptables-restore reads them, `v4` and `v6`, and its `sets` as `ipset restore` does.

    `policy` holds the role's options without their prefix, and `listeners` (as `listeners_here` gives them), `neighbours` (addresses),
    `private_address`, `sets` ({v4, v6}: the sets of banned addresses), of the VPN `vpn_interface`, `vpn_network`, `vpn_admins` (addresses) and
    `glass_set` (the set that has SSH's port while the VPN is lost), and `fleet_ports` ([[protocol, port]]: what neighbours offer).
    """
    return {
        **{family: _restore(family, policy) for family in ("v4", "v6")},
        "sets": "".join(
            f"create {policy['sets'][family]} hash:net family {name} hashsize 4096 maxelem 262144 timeout {BAN_SECONDS}\n"
            for family, name in (("v4", "inet"), ("v6", "inet6"))
        )
        # Empty after a boot, and its entries end by themselves.
        + (
            f"create {policy['glass_set']} bitmap:port range 1-65535 timeout {GLASS_SECONDS}\n"
            if policy["vpn_only"]
            else ""
        ),
    }


def admins_seen(status: str) -> list[str]:
    """The administrators who are up, by what `vpn-status --json` prints; none where it printed nothing of the kind."""
    try:
        peers = json.loads(status)["peers"]
        return [str(peer["name"]) for peer in peers if peer["kind"] == "admin" and peer["state"] == "up"]
    except (ValueError, KeyError, TypeError):
        return []


def problems(policy: Facts, host: str) -> list[str]:
    """What cannot be carried out, a sentence each: what, where it is set, what is allowed."""
    found = [
        f"iptables_{name} is {policy[name]!r} on host '{host}'; allowed: a whole number from {low} to {high}."
        for name, (low, high) in RANGES.items()
        if not (isinstance(policy[name], int) and not isinstance(policy[name], bool) and low <= policy[name] <= high)
    ]
    if policy["state"] not in STATES:
        found.append(f"iptables_state is {policy['state']!r} on host '{host}'; allowed: {', '.join(STATES)}.")
    if policy["state"] == "present" and not policy["admin_networks"]:
        found.append(
            f"iptables_admin_networks is empty on host '{host}', so that nobody could reach it by SSH; allowed: the networks of those who "
            "administer it (the VPN's, an office's), or iptables_state: unmanaged for a host whose firewall is none of this role's."
        )
    if not found and policy["confirm_seconds"] + 10 > policy["revert_seconds"]:
        found.append(
            f"iptables_confirm_seconds is {policy['confirm_seconds']} and iptables_revert_seconds {policy['revert_seconds']} on host "
            f"'{host}'; allowed: at least 10 seconds between them, in which the rules are brought in."
        )
    if policy["state"] == "present" and policy["vpn_only"] and not (policy["has_vpn"] and policy["vpn_admins"]):
        found.append(
            f"iptables_vpn_only is true on host '{host}', which nobody could reach by SSH then; allowed: a host of the group vpn, and "
            "administrators in catalogue_vpn_admins."
        )
    for name, networks in (("admin_networks", policy["admin_networks"]), *_output_networks(policy)):
        found += [
            f"iptables_{name} holds {network!r} on host '{host}'; allowed: addresses and networks such as 10.66.0.0/24."
            for network in networks
            if _network(network) is None
        ]
    for name in ("private_interface", "forward_interfaces"):
        value = policy[name]
        found += [
            f"iptables_{name} holds {each!r} on host '{host}'; allowed: names of network interfaces."
            for each in ([value] if isinstance(value, str) else value)
            if each and not INTERFACE.fullmatch(str(each))
        ]
    for entry in policy["output_allow"]:
        if entry.get("protocol") not in ("tcp", "udp") or not all(_is_port(port) for port in entry.get("ports", [])):
            found.append(
                f"iptables_output_allow holds {dict(entry)!r} on host '{host}'; allowed: protocol tcp or udp, and ports from 1 to 65535."
            )
    return found


def _output_networks(policy: Facts) -> Iterator[tuple[str, Sequence[object]]]:
    for entry in policy["output_allow"]:
        yield "output_allow", entry.get("networks", [])


def _is_port(port: object) -> bool:
    return isinstance(port, int) and not isinstance(port, bool) and 1 <= port <= 65535


def _network(value: object) -> Network | None:
    try:
        return ipaddress.ip_network(str(value), strict=False)
    except ValueError:
        return None


def _of(family: str, networks: Iterable[object]) -> list[str]:
    """Those networks that are of a family, as iptables writes them."""
    version = 4 if family == "v4" else 6
    return [str(known) for each in networks if (known := _network(each)) is not None and known.version == version]


def _named(rule: str, name: str, target: str) -> str:
    return f'{rule} -m comment --comment "{name}" {target}'.strip()


def _restore(family: str, policy: Facts) -> str:
    tables = {
        "raw": {"FLEET-BANNED": list(_banned(family, policy))},
        "mangle": {
            "FLEET-CHECKS": list(_checks(family, policy)),
            "FLEET-FORWARD": list(_forward(policy)),
            "FLEET-DROP": [LOG, "-j DROP"],
        },
        "filter": {
            "FLEET-INPUT": list(_input(family, policy)),
            "FLEET-SSH": list(_ssh(family, policy)),
            "FLEET-DROP": [LOG, "-j DROP"],
        },
    }
    if family == "v4":
        own = [f"-s {each}/32 -j RETURN" for each in policy["neighbours"]]
        tables["filter"]["FLEET-NEIGHBOURS"] = [*own, _named("", "vpn.refused", "-j FLEET-DROP")]
    if policy["output_deny"]:
        tables["filter"]["FLEET-OUTPUT"] = list(_output(family, policy))
    lines = [f"# The fleet's own chains of IP{family}; `fleet-firewall` brings them in and leaves all others alone."]
    for table, chains in tables.items():
        lines += [f"*{table}", *(f":{chain} - [0:0]" for chain in chains)]
        lines += [f"-A {chain} {rule}" for chain, entries in chains.items() for rule in entries]
        lines.append("COMMIT")
    return "".join(f"{line}\n" for line in lines)


def _edge_ports(policy: Facts) -> list[int]:
    return [
        entry["port"]
        for entry in policy["listeners"]
        if (entry["service"], entry["protocol"], entry["exposure"]) == (EDGE, "tcp", "public")
    ]


def _ssh_ports(policy: Facts) -> list[int]:
    return [entry["port"] for entry in policy["listeners"] if entry["service"] == SSH]


def _banned(family: str, policy: Facts) -> Iterator[str]:
    """Before connections are looked up, so that a ban costs little and ends what is open; no ban keeps out who could lift it."""
    yield "-i lo -j RETURN"
    yield from (f"-s {each} -j RETURN" for each in _of(family, _never_banned(policy)))
    yield _named(f"-m set --match-set {policy['sets'][family]} src", "banned", "-j DROP")
    if policy["synproxy"]:
        yield from (f"-p tcp -m tcp --dport {port} --syn -j CT --notrack" for port in _edge_ports(policy))


def _never_banned(policy: Facts) -> list[str]:
    admins = [*policy["admin_networks"], *(policy["vpn_admins"] if policy["has_vpn"] else [])]
    return list(dict.fromkeys([*admins, *policy["neighbours"]]))


def _checks(family: str, policy: Facts) -> Iterator[str]:
    yield "-i lo -j RETURN"
    spoofed = [f"-s {each}" for each in BOGUS[family]]
    # What the host sends itself takes loopback; IPv6 has no rp_filter that would see a host's own address come from a wire.
    spoofed.append("-m addrtype --src-type LOCAL --dst-type LOCAL")
    if policy["has_vpn"]:
        # Else who is on the same wire could speak for a neighbour, whose address lets him in.
        spoofed += [f"-s {each} ! -i {policy['vpn_interface']}" for each in _of(family, [policy["vpn_network"]])]
    yield from (_named(each, "bogus.source", "-j FLEET-DROP") for each in spoofed)
    yield from (_named(f"-p tcp -m tcp --tcp-flags {flags}", "bogus.flags", "-j FLEET-DROP") for flags in FLAGS)
    # For conntrack a redirect that quotes a connection belongs to it, and INPUT would let it in.
    redirect = "-p icmp -m icmp --icmp-type 5" if family == "v4" else "-p ipv6-icmp -m icmp6 --icmpv6-type 137"
    yield _named(redirect, "bogus.redirect", "-j FLEET-DROP")
    # Here and not in INPUT: behind SYNPROXY no rule sees a SYN. By SYN and not by state, for the same reason.
    mask = 32 if family == "v4" else 64
    for service, ports, rate in (
        (EDGE, _edge_ports(policy), f"{policy['edge_new_per_second']}/sec"),
        (SSH, _ssh_ports(policy), f"{policy['ssh_new_per_minute']}/min"),
    ):
        option = "edge" if service == EDGE else "ssh"
        for port in ports:
            syn = f"-p tcp -m tcp --dport {port} --syn"
            many = f"-m connlimit --connlimit-above {policy[f'{option}_connections']} --connlimit-mask {mask} --connlimit-saddr"
            fast = (
                f"-m hashlimit --hashlimit-above {rate} --hashlimit-burst {policy[f'{option}_burst']} --hashlimit-mode srcip "
                f"--hashlimit-srcmask {mask} --hashlimit-name fleet-{option}-{port}"
            )
            yield _named(f"{syn} {many}", f"{service}.connections", "-j FLEET-DROP")
            yield _named(f"{syn} {fast}", f"{service}.rate", "-j FLEET-DROP")
    # The answer to a SYNPROXY's cookie belongs to no connection yet; INPUT drops what is left.
    if policy["synproxy"]:
        yield from (f"-p tcp -m tcp --dport {port} -j RETURN" for port in _edge_ports(policy))
    # A packet that begins in the middle of a connection is not among these: it is judged by its port, so that bringing the firewall in
    # ends no connection of a client that is let in.
    yield _named("-m conntrack --ctstate INVALID", "invalid", "-j FLEET-DROP")


def _forward(policy: Facts) -> Iterator[str]:
    yield "-m conntrack --ctstate RELATED,ESTABLISHED -j RETURN"
    yield from (f"-i {each} -j RETURN" for each in policy["forward_interfaces"])
    yield _named("", "forward", "-j FLEET-DROP")


def _input(family: str, policy: Facts) -> Iterator[str]:
    icmp = "icmp" if family == "v4" else "ipv6-icmp"
    yield _named("-i lo", "loopback", "-j RETURN")
    yield _named("-m conntrack --ctstate ESTABLISHED", "established", "-j RETURN")
    yield _named(f"-p {icmp} -m conntrack --ctstate RELATED", "related", "-j RETURN")
    if policy["synproxy"]:
        for port in _edge_ports(policy):
            yield (
                f"-p tcp -m tcp --dport {port} -m conntrack --ctstate INVALID,UNTRACKED -j SYNPROXY --sack-perm --timestamp --wscale 7 --mss 1440"
            )
        yield _named("-m conntrack --ctstate INVALID", "invalid", "-j FLEET-DROP")
    yield "-j FLEET-USER"
    yield from _icmp(family)
    for entry in policy["listeners"]:
        # A listener of loopback is let in by the interface alone.
        yield from _listener(family, entry, policy)
    if family == "v6" and policy["dhcpv6_client"]:
        yield _named("-s fe80::/10 -p udp -m udp --sport 547 --dport 546", "dhcpv6", "-j RETURN")
    # A network's chatter is no event.
    yield _named(
        "-m addrtype --dst-type " + ("BROADCAST,MULTICAST" if family == "v4" else "MULTICAST"), "chatter", "-j DROP"
    )
    yield _named("", "refused", "-j FLEET-DROP")


def _listener(family: str, entry: Facts, policy: Facts) -> Iterator[str]:
    port = f"-p {entry['protocol']} -m {entry['protocol']} --dport {entry['port']}"
    if entry["service"] == SSH:
        yield _named(port, entry["name"], "-g FLEET-SSH")
    elif entry["exposure"] == "public":
        yield _named(port, entry["name"], "-j RETURN")
    elif entry["exposure"] == "vpn" and policy["private_address"] and family == "v4":
        only = policy["vpn_interface"] if policy["vpn_only"] else policy["private_interface"]
        interface = f"-i {only} " if only else ""
        yield _named(f"{interface}-d {entry['address']}/32 {port}", entry["name"], "-g FLEET-NEIGHBOURS")


def _ssh(family: str, policy: Facts) -> Iterator[str]:
    if policy["has_vpn"]:
        # The tunnel lets nobody have another's address; the interface keeps out who has it elsewhere.
        yield from (f"-s {each} -i {policy['vpn_interface']} -j RETURN" for each in _of(family, policy["vpn_admins"]))
    for network in _of(family, policy["admin_networks"]):
        if policy["vpn_only"]:
            glass = f"-s {network} -m set --match-set {policy['glass_set']} dst"
            yield _named(glass, "ssh.break-glass", "-j RETURN")
        else:
            yield f"-s {network} -j RETURN"
    yield _named("", "ssh.refused", "-j FLEET-DROP")


def _icmp(family: str) -> Iterator[str]:
    kind = "-p icmp -m icmp --icmp-type" if family == "v4" else "-p ipv6-icmp -m icmp6 --icmpv6-type"
    yield from (_named(f"{kind} {number}", f"icmp.{name}", "-j RETURN") for number, name in ERRORS[family].items())
    yield _named(f"{kind} {8 if family == 'v4' else 128} {ECHO}", "icmp.echo", "-j RETURN")
    if family == "v6":
        # A router's and a neighbour's own words have come over no other router.
        for number in (133, 134, 135, 136):
            yield _named(f"{kind} {number} -m hl --hl-eq 255", "icmp.neighbour", "-j RETURN")
        for number in (130, 131, 132, 143):
            yield _named(f"-s fe80::/10 {kind} {number}", "icmp.multicast", "-j RETURN")


def _output(family: str, policy: Facts) -> Iterator[str]:
    yield "-o lo -j RETURN"
    yield "-m conntrack --ctstate ESTABLISHED -j RETURN"
    yield f"-p {'icmp' if family == 'v4' else 'ipv6-icmp'} -j RETURN"
    for protocol, port in OUTWARDS:
        yield f"-p {protocol} -m {protocol} --dport {port} -j RETURN"
    for neighbour in _of(family, policy["neighbours"]):
        yield from (
            f"-d {neighbour} -p {protocol} -m {protocol} --dport {port} -j RETURN"
            for protocol, port in policy["fleet_ports"]
        )
    peers = [
        entry for entry in policy["listeners"] if entry["exposure"] == "public" and entry["service"] not in (SSH, EDGE)
    ]
    yield from (f"-p udp -m udp --sport {entry['port']} -j RETURN" for entry in peers if entry["protocol"] == "udp")
    if any(entry["protocol"] == "tcp" for entry in peers):
        # A peer chooses the port that it is called on.
        yield _named("-p tcp -m tcp --dport 1024:65535", "peers", "-j RETURN")
    for entry in policy["output_allow"]:
        towards = [f"-d {each} " for each in _of(family, entry["networks"])] if entry.get("networks") else [""]
        for network in towards:
            yield from (
                f"{network}-p {entry['protocol']} -m {entry['protocol']} --dport {port} -j RETURN"
                for port in entry["ports"]
            )
    yield LOG
    yield _named(
        "",
        "output",
        "-j REJECT --reject-with " + ("icmp-admin-prohibited" if family == "v4" else "icmp6-adm-prohibited"),
    )


class FilterModule:
    """The filters' names in playbooks."""

    def filters(self) -> dict[str, Any]:
        """Map each name to its function."""
        return {
            "iptables_admins_seen": admins_seen,
            "iptables_fleet_ports": fleet_ports,
            "iptables_listeners": listeners_here,
            "iptables_neighbours": neighbours,
            "iptables_problems": problems,
            "iptables_rules": rules,
        }
