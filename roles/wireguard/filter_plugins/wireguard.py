"""From the inventory to each host's peers, and what is wrong with the VPN's options, in sentences.

Pure functions; no host is asked.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Any

Facts = Mapping[str, Any]

STATES = ("present", "absent")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
ENDPOINT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9][A-Za-z0-9.-]*)(:[0-9]{1,5})?")
MTU = range(1280, 9001)
KEEPALIVE = range(601)
HOURS = range(1, 721)
ADMIN_FIELDS = {"name", "public_key", "address"}
# In check mode no host has made its key yet; what is shown in its place is no key.
TO_BE_MADE = "(made on the host)"


def network_of(value: object) -> ipaddress.IPv4Network | None:
    """A VPN's network; None where the value is none."""
    try:
        return ipaddress.IPv4Network(str(value))
    except ValueError:
        return None


def is_key(value: object) -> bool:
    """Whether a value is a WireGuard key: 32 bytes in base64."""
    try:
        return isinstance(value, str) and len(value) == 44 and len(base64.b64decode(value, validate=True)) == 32
    except binascii.Error:
        return False


def problems(vpn: Facts, host: str) -> list[str]:
    """What cannot be carried out on a host, a sentence each: what, where it is set, what is allowed.

    `vpn` holds state, endpoint, mtu, keepalive_seconds, break_glass_hours, network, admins, `members` ({host: private_address} of the group vpn) and
    `others` ({host: private_address} of the inventory's other hosts).
    """
    if vpn["state"] not in STATES:
        return [f"wireguard_state is {vpn['state']!r} on host '{host}'; allowed: {', '.join(STATES)}."]
    found = []
    if vpn["mtu"] not in MTU:
        found.append(f"wireguard_mtu is {vpn['mtu']!r} on host '{host}'; allowed: {MTU[0]} to {MTU[-1]} bytes.")
    if vpn["keepalive_seconds"] not in KEEPALIVE:
        found.append(
            f"wireguard_keepalive_seconds is {vpn['keepalive_seconds']!r} on host '{host}'; allowed: 0 (none) to {KEEPALIVE[-1]}."
        )
    if vpn["break_glass_hours"] not in HOURS:
        found.append(
            f"wireguard_break_glass_hours is {vpn['break_glass_hours']!r} on host '{host}'; allowed: {HOURS[0]} to {HOURS[-1]}."
        )
    if not ENDPOINT.fullmatch(str(vpn["endpoint"])):
        found.append(
            f"wireguard_endpoint is {vpn['endpoint']!r} on host '{host}'; allowed: a name or an address ([…] for IPv6), with :PORT where "
            "it is not the catalogue's."
        )
    network = network_of(vpn["network"])
    if network is None or network.prefixlen > 30:
        return [
            *found,
            f"catalogue_vpn_network is {vpn['network']!r} in the inventory; allowed: an IPv4 network of /30 or wider, such as 10.66.0.0/24.",
        ]
    found += _address_problems("private_address", f"host '{host}'", vpn["members"].get(host, ""), network)
    found += [
        f"private_address of host '{other}' is {address}, an address of the VPN's network {network}, but the host is not in the group vpn; "
        "allowed: a host of the group, or an address of another network."
        for other, address in vpn["others"].items()
        if _inside(address, network)
    ]
    found += _admin_problems(vpn["admins"], network)
    return found or _twice(vpn)


def _inside(address: object, network: ipaddress.IPv4Network) -> bool:
    try:
        return ipaddress.IPv4Address(str(address)) in network
    except ValueError:
        return False


def _address_problems(name: str, whose: str, address: object, network: ipaddress.IPv4Network) -> list[str]:
    ends = {str(network.network_address), str(network.broadcast_address)}
    if _inside(address, network) and str(address) not in ends:
        return []
    return [
        f"{name} of {whose} is {str(address)!r} in the inventory; allowed: an address of the VPN's network {network}."
    ]


def _admin_problems(admins: object, network: ipaddress.IPv4Network) -> list[str]:
    if not isinstance(admins, list) or not all(isinstance(each, Mapping) for each in admins):
        return ["catalogue_vpn_admins in the inventory is no list; allowed: entries of name, public_key and address."]
    found = []
    for admin in admins:
        if set(admin) != ADMIN_FIELDS:
            found.append(
                f"An entry of catalogue_vpn_admins has {', '.join(sorted(map(str, admin))) or 'nothing'}; allowed: name, public_key and address."
            )
            continue
        whose = f"administrator {admin['name']!r} (catalogue_vpn_admins)"
        if not NAME.fullmatch(str(admin["name"])):
            found.append(f"Name of {whose} cannot be used; allowed: letters, digits, '.', '_' and '-'.")
        if not is_key(admin["public_key"]):
            found.append(f"public_key of {whose} is no WireGuard key; allowed: what `wg pubkey` prints, 44 characters.")
        found += _address_problems("address", whose, admin["address"], network)
    return found


def _twice(vpn: Facts) -> list[str]:
    named = [*vpn["members"].items(), *((admin["name"], admin["address"]) for admin in vpn["admins"])]
    keys = [(admin["name"], admin["public_key"]) for admin in vpn["admins"]]
    found = []
    for what, pairs in (("The VPN's address", named), ("A public key of catalogue_vpn_admins", keys)):
        owners: dict[str, list[str]] = {}
        for name, value in pairs:
            owners.setdefault(str(value), []).append(str(name))
        found += [
            f"{what} is the same for {' and '.join(names)} in the inventory; allowed: one of its own for each."
            for names in owners.values()
            if len(names) > 1
        ]
    names = [str(name) for name, _ in named]
    found += [
        f"{name!r} names two peers of the VPN in the inventory; allowed: a name of its own for each host and administrator."
        for name in sorted({name for name in names if names.count(name) > 1})
    ]
    return found


def peers(
    members: Iterable[str], hostvars: Facts, this_host: str, known: Facts, admins: Iterable[Facts], own: Facts
) -> list[dict[str, Any]]:
    """A host's peers: [{name, kind, public_key, address, endpoint, keepalive}], hosts first, in the inventory's order.

    A host that is not in this run keeps the key that this host knows it by; `public_key` is empty where nobody has said it. `own` holds
    the catalogue's `port` and this host's `keepalive_seconds`.
    """
    found = []
    for host in members:
        if host == this_host:
            continue
        facts = hostvars[host]
        key = (facts.get("__wireguard_host") or {}).get("public_key") or known.get(host, "")
        where = str(facts.get("wireguard_endpoint") or host)
        has_port = ENDPOINT.fullmatch(where)
        found.append(
            {
                "name": host,
                "kind": "host",
                "public_key": key,
                "address": str(facts.get("private_address", "")),
                "endpoint": where if has_port and has_port[2] else f"{where}:{own['port']}",
                "keepalive": own["keepalive_seconds"],
            }
        )
    found += [
        # An administrator is wherever he is, and speaks first.
        {"kind": "admin", "endpoint": "", "keepalive": 0, **{key: str(admin[key]) for key in sorted(ADMIN_FIELDS)}}
        for admin in admins
    ]
    return found


def config(interface: str, wanted: Iterable[Facts], glass: Facts) -> dict[str, Any]:
    """What the host's programs read, `glass` for vpn-break-glass; no secret is in it."""
    return {
        "break_glass": dict(glass),
        "interface": interface,
        "peers": [{**peer, "public_key": peer["public_key"] or TO_BE_MADE} for peer in wanted],
    }


class FilterModule:
    """The filters' names in playbooks."""

    def filters(self) -> dict[str, Any]:
        """Map each name to its function."""
        return {"wireguard_config": config, "wireguard_peers": peers, "wireguard_problems": problems}
