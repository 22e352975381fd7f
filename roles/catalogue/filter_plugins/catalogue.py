"""What follows from the catalogue: addresses, end points, and what is wrong with it.

Pure functions over the catalogue's dictionaries and the inventory's host variables; no host is asked.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

CHAINS_FILE = "roles/catalogue/defaults/main/chains.yml or catalogue_chain_overrides"
SERVICES_FILE = "roles/catalogue/defaults/main/services.yml or catalogue_service_overrides"
RELEASES_FILE = "roles/catalogue/defaults/main/releases.yml or catalogue_release_overrides"

EXPOSURES = ("loopback", "vpn", "public")
PROTOCOLS = ("tcp", "udp")
PARTS = ("execution", "consensus", "pair")
PROBES = ("erigon", "reth", "geth", "bor", "nitro", "op_node", "heimdall", "pair")
KINDS = ("tar", "deb", "oci", "wheelhouse", "directory")
FAMILIES = ("erigon", "op_stack", "polygon", "nitro")
SIGNALS = ("SIGTERM", "SIGINT")
LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
DOMAIN = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}")
STOP_SECONDS = range(1, 3601)
# The host service that says how a host's nodes are.
HEALTH_SERVICE = "node-health"
# Two nodes are never looked at in the same moment.
LEAST_LAG_BLOCKS = 2

Facts = Mapping[str, Any]
EVERY_ADDRESS = "0.0.0.0"  # noqa: S104 - the public exposure is chosen listener by listener, and the firewall knows each


def listeners(services: Facts, chains: Facts, private_address: str = "") -> dict[str, dict[str, dict[str, Any]]]:
    """Each service's listeners with the address that they bind on a host: {service: {listener: {address, ...}}}."""
    resolved: dict[str, dict[str, dict[str, Any]]] = {}
    for name, service in services.items():
        loopback = chains.get(service.get("chain", ""), {}).get("loopback", "127.0.0.1")
        addresses = {"loopback": loopback, "vpn": private_address or loopback, "public": EVERY_ADDRESS}
        resolved[name] = {
            listener: {
                "address": addresses.get(entry.get("exposure", ""), loopback),
                "port": entry.get("port"),
                "protocols": list(entry.get("protocols", ["tcp"])),
                "exposure": entry.get("exposure"),
            }
            for listener, entry in service.get("listeners", {}).items()
        }
    return resolved


def flat(service_listeners: Facts) -> list[dict[str, Any]]:
    """One service's listeners as a list with one entry a protocol: [{address, port, protocol}]."""
    return [
        {"address": entry["address"], "port": entry["port"], "protocol": protocol}
        for entry in service_listeners.values()
        for protocol in entry["protocols"]
    ]


def of_family(wanted: Iterable[str], family: str, chains: Facts) -> list[str]:
    """Those of the wanted chains that one role runs, in their order."""
    return [chain for chain in wanted if chains[chain]["family"] == family]


def components_of(wanted: Iterable[str], chains: Facts) -> list[str]:
    """The clients of the wanted chains, each once, in their order."""
    return list(dict.fromkeys(component for chain in wanted for component in chains[chain]["components"].values()))


def service_of(services: Facts, chain: str, part: str = "execution") -> str:
    """The unit that runs one part of a chain."""
    for name, service in services.items():
        if service["chain"] == chain and service["part"] == part:
            return str(name)
    msg = f"chain '{chain}' has no {part} service in {SERVICES_FILE}"
    raise ValueError(msg)


def main_service(services: Facts, chain: str) -> str:
    """The unit that stands for the whole chain: a pair's own, or the execution client."""
    parts = {service["part"]: name for name, service in services.items() if service["chain"] == chain}
    return str(parts.get("pair") or parts["execution"])


def hosts_with(hosts: Facts, chain: str) -> list[str]:
    """The hosts that run a chain."""
    return sorted(host for host, facts in hosts.items() if chain in facts.get("node_chains", []))


def url(listener: Facts, scheme: str = "http") -> str:
    """The URL of a listener."""
    return f"{scheme}://{listener['address']}:{listener['port']}"


def endpoint(
    chain: str,
    listener: str,
    services: Facts,
    chains: Facts,
    hosts: Facts,
    this_host: str,
    external: Facts | None = None,
    scheme: str = "http",
) -> str:
    """Where a host reaches a chain's listener: stated by the inventory, its own node, or a neighbour over the VPN.

    Empty where nothing in the inventory offers it.
    """
    return next(iter(endpoints(chain, listener, services, chains, hosts, this_host, external, scheme)), "")


def endpoints(
    chain: str,
    listener: str,
    services: Facts,
    chains: Facts,
    hosts: Facts,
    this_host: str,
    external: Facts | None = None,
    scheme: str = "http",
) -> list[str]:
    """Every way of a host to a chain's listener, its own node first, then neighbours over the VPN; one that is stated is the only one."""
    stated = (external or {}).get(chain, {}).get(listener, "")
    if stated:
        return [str(stated)]
    found = []
    for host in sorted(hosts, key=lambda host: host != this_host):
        private = hosts[host].get("private_address", "")
        if chain in hosts[host].get("node_chains", []) and (host == this_host or private):
            service = service_of(services, chain)
            resolved = listeners({service: services[service]}, chains, private)
            found.append(url(resolved[service][listener], scheme))
    return found


def pool(
    chain: str, services: Facts, host_services: Facts, chains: Facts, hosts: Facts, this_host: str
) -> dict[str, Any]:
    """A chain's nodes as a host reaches them: {title, id, family, block_seconds, allowed_lag_blocks, nodes: [{host, rpc, ws, health, services}]}.

    Its own node by the addresses that it binds, neighbours' over the VPN; a neighbour without a private address cannot be reached
    and is left out. `health` is where the node's host says how its services are; `services` are those that must all be in step, the
    first of them the one whose head counts.
    """
    facts = chains[chain]
    execution = service_of(services, chain)
    nodes = []
    for host, known in hosts.items():
        private = known.get("private_address", "")
        if chain not in known.get("node_chains", []) or not (private or host == this_host):
            continue
        entries = listeners({execution: services[execution]}, chains, private)[execution]
        judge = listeners({HEALTH_SERVICE: host_services[HEALTH_SERVICE]}, {}, private)[HEALTH_SERVICE]
        nodes.append(
            {
                "host": host,
                "rpc": url(entries["rpc"]),
                "ws": url(entries["ws"]),
                "health": f"{url(judge['http'])}/health",
                "services": programs_of(services, chain),
            }
        )
    return {
        "title": facts["title"],
        "id": facts["id"],
        "family": facts["family"],
        "block_seconds": facts["block_seconds"],
        "allowed_lag_blocks": max(LEAST_LAG_BLOCKS, math.ceil(facts["allowed_lag_seconds"] / facts["block_seconds"])),
        "nodes": nodes,
    }


def neighbours(
    chain: str, services: Facts, host_services: Facts, chains: Facts, hosts: Facts, this_host: str
) -> list[str]:
    """The RPC of the chain's other nodes, as a host reaches them."""
    nodes = pool(chain, services, host_services, chains, hosts, this_host)["nodes"]
    return [node["rpc"] for node in nodes if node["host"] != this_host]


def programs_of(services: Facts, chain: str) -> list[str]:
    """The services that follow a chain together, the one that answers calls first."""
    execution = service_of(services, chain)
    return [
        execution,
        *(name for name, service in services.items() if (service["chain"], service["part"]) == (chain, "consensus")),
    ]


def hosts_of(hostvars: Facts, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What the catalogue needs of each host's variables."""
    return {
        name: {
            "node_chains": list(hostvars[name].get("node_chains", [])),
            "private_address": hostvars[name].get("private_address", "") or "",
            "external": hostvars[name].get("catalogue_external_endpoints", {}) or {},
            "options_of": list(hostvars[name].get("node_options", {}) or {}),
        }
        for name in names
    }


def problems(
    chains: Facts, services: Facts, host_services: Facts, releases: Facts, hosts: Facts, domain: str
) -> list[str]:
    """Everything wrong with the catalogue and the inventory, a sentence each: what, where it is set, what is allowed."""
    found = [
        *_chain_problems(chains, domain),
        *_service_problems(services, chains),
        *_release_problems(chains, releases),
    ]
    for name, service in host_services.items():
        found += _listener_problems(name, service)
    if found:
        return found
    for host, facts in hosts.items():
        found += _host_problems(host, facts, chains, services, hosts)
        found += _collisions(host, facts, chains, services, host_services)
    return found


def _unique(kind: str, values: Iterable[Any], where: str) -> list[str]:
    return [
        f"{kind} {value!r} stands {count} times in {where}; it must be unique."
        for value, count in Counter(values).items()
        if count > 1
    ]


def _choice(subject: str, value: object, allowed: Iterable[Any], where: str) -> list[str]:
    allowed = list(allowed)
    if value in allowed:
        return []
    shown = f"{allowed[0]} to {allowed[-1]}" if len(allowed) > 20 else ", ".join(map(str, allowed))
    return [f"{subject} is {value!r} in {where}; allowed: {shown}."]


def _integer(subject: str, value: object, low: int, high: int, where: str) -> list[str]:
    if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
        return []
    return [f"{subject} is {value!r} in {where}; allowed: a whole number from {low} to {high}."]


def _chain_problems(chains: Facts, domain: str) -> list[str]:
    found: list[str] = []
    for name, chain in chains.items():
        missing = {
            "id",
            "title",
            "family",
            "network",
            "components",
            "loopback",
            "parent",
            "public_name",
            "data_path",
        } - set(chain)
        if missing:
            found.append(f"Chain '{name}' lacks {', '.join(sorted(missing))} in {CHAINS_FILE}; each is required.")
            continue
        found += _integer(f"Chain id of '{name}'", chain["id"], 1, 2**63 - 1, CHAINS_FILE)
        found += _choice(f"Family of '{name}'", chain["family"], FAMILIES, CHAINS_FILE)
        # The edge's limit in blocks comes from the former, and is to be the wider one: docs/edge.md.
        lag = _integer(f"allowed_lag_seconds of '{name}'", chain.get("allowed_lag_seconds"), 1, 86400, CHAINS_FILE)
        widest = 86400 if lag else chain["allowed_lag_seconds"]
        found += lag + _integer(f"pool_lag_seconds of '{name}'", chain.get("pool_lag_seconds"), 1, widest, CHAINS_FILE)
        found += _integer(f"least_peers of '{name}'", chain.get("least_peers", 0), 0, 10000, CHAINS_FILE)
        found += _integer(f"block_seconds of '{name}'", chain.get("block_seconds"), 1, 3600, CHAINS_FILE)
        if chain["parent"]:
            found += _choice(f"Parent of '{name}'", chain["parent"], chains, CHAINS_FILE)
        if not LABEL.fullmatch(str(chain["public_name"])):
            found.append(
                f"Public name of '{name}' is {chain['public_name']!r} in {CHAINS_FILE}; "
                "allowed: one DNS label of a-z, 0-9 and hyphens."
            )
        if not str(chain["data_path"]).startswith("/data/"):
            found.append(
                f"Data path of '{name}' is {chain['data_path']!r} in {CHAINS_FILE}; allowed: a path below /data/."
            )
        found += _loopback(name, chain["loopback"])
    complete = [chain for chain in chains.values() if "id" in chain and "public_name" in chain]
    found += _unique("Chain id", (chain["id"] for chain in complete if not chain.get("instance_of")), CHAINS_FILE)
    found += _unique("Public name", (chain["public_name"] for chain in complete), CHAINS_FILE)
    found += _unique("Loopback address", (chain.get("loopback") for chain in complete), CHAINS_FILE)
    found += _unique("Data path", (chain.get("data_path") for chain in complete), CHAINS_FILE)
    paths = {name: str(chain["data_path"]).rstrip("/") for name, chain in chains.items() if "data_path" in chain}
    found += [
        f"Data path of '{inner}' ({paths[inner]}) lies in that of '{outer}' ({paths[outer]}), set in {CHAINS_FILE}; "
        "allowed: paths of which none lies in another."
        for inner in paths
        for outer in paths
        if paths[inner].startswith(f"{paths[outer]}/")
    ]
    if not DOMAIN.fullmatch(str(domain)):
        found.append(
            f"catalogue_edge_domain is {domain!r} in the inventory; allowed: a domain name such as rpc.example.com."
        )
    return found


def _loopback(name: str, value: object) -> list[str]:
    try:
        address = ipaddress.ip_address(str(value))
    except ValueError:
        address = None
    if address is None or not address.is_loopback:
        return [f"Loopback address of '{name}' is {value!r} in {CHAINS_FILE}; allowed: an address of 127.0.0.0/8."]
    return []


def _private(host: str, value: object) -> list[str]:
    try:
        usable = not value or bool(ipaddress.IPv4Address(str(value)))
    except ValueError:
        usable = False
    if usable:
        return []
    return [f"private_address of host '{host}' is {value!r} in the inventory; allowed: an IPv4 address."]


def _service_problems(services: Facts, chains: Facts) -> list[str]:
    found: list[str] = []
    for name, service in services.items():
        found += _choice(f"Chain of service '{name}'", service.get("chain"), chains, SERVICES_FILE)
        found += _choice(f"Part of service '{name}'", service.get("part"), PARTS, SERVICES_FILE)
        found += _choice(f"Probe of service '{name}'", service.get("probe"), PROBES, SERVICES_FILE)
        found += _choice(f"kill_signal of service '{name}'", service.get("kill_signal"), SIGNALS, SERVICES_FILE)
        found += _integer(
            f"stop_seconds of service '{name}'",
            service.get("stop_seconds"),
            STOP_SECONDS[0],
            STOP_SECONDS[-1],
            SERVICES_FILE,
        )
        found += _listener_problems(name, service)
    found += _unique("Part", ((s.get("chain"), s.get("part")) for s in services.values()), SERVICES_FILE)
    return found


def _listener_problems(name: str, service: Facts) -> list[str]:
    found: list[str] = []
    for listener, entry in service.get("listeners", {}).items():
        subject = f"listener '{name}.{listener}'"
        found += _integer(f"Port of {subject}", entry.get("port"), 1, 65535, SERVICES_FILE)
        found += _choice(f"Exposure of {subject}", entry.get("exposure"), EXPOSURES, SERVICES_FILE)
        for protocol in entry.get("protocols", ["tcp"]):
            found += _choice(f"Protocol of {subject}", protocol, PROTOCOLS, SERVICES_FILE)
    return found


def _release_problems(chains: Facts, releases: Facts) -> list[str]:
    found: list[str] = []
    for name, release in releases.items():
        found += _choice(f"Kind of release '{name}'", release.get("kind"), KINDS, RELEASES_FILE)
        if not re.fullmatch(r"[0-9][0-9A-Za-z.+~-]*", str(release.get("version", ""))):
            found.append(
                f"Version of release '{name}' is {release.get('version')!r} in {RELEASES_FILE}; allowed: digits first, no 'v'."
            )
        if not release.get("verify"):
            found.append(
                f"Release '{name}' has no verify in {RELEASES_FILE}; allowed: checksums or pin, never nothing."
            )
    for name, chain in chains.items():
        for part, component in chain.get("components", {}).items():
            found += _choice(f"The {part} component of '{name}'", component, releases, CHAINS_FILE)
    return found


def _host_problems(host: str, facts: Facts, chains: Facts, services: Facts, hosts: Facts) -> list[str]:
    found = _private(host, facts.get("private_address", ""))
    wanted = facts["node_chains"]
    for chain in wanted:
        found += _choice(f"An entry of node_chains of host '{host}'", chain, chains, "the inventory")
    found += _unique(f"node_chains of host '{host}': chain", wanted, "the inventory")
    for chain in facts.get("options_of", []):
        found += _choice(f"An entry of node_options of host '{host}'", chain, chains, "the inventory")
    if found:
        return found
    for chain in wanted:
        parent = chains[chain]["parent"]
        if not parent:
            continue
        needed = ["rpc", *(["beacon"] if chains[chain].get("parent_beacon") else [])]
        for listener in needed:
            if not endpoint(parent, listener, services, chains, hosts, host, facts["external"]):
                found.append(
                    f"'{chain}' on host '{host}' needs the {listener} of its parent '{parent}', which no host of the "
                    f"inventory offers; add '{parent}' to node_chains of a host with a private_address, "
                    f"or set catalogue_external_endpoints.{parent}.{listener}."
                )
    return found


def _collisions(host: str, facts: Facts, chains: Facts, services: Facts, host_services: Facts) -> list[str]:
    here = {name: service for name, service in services.items() if service["chain"] in facts["node_chains"]}
    taken = [
        (protocol, entry["address"], entry["port"], f"{service}.{name}")
        for service, entries in listeners({**here, **host_services}, chains, facts["private_address"]).items()
        for name, entry in entries.items()
        for protocol in entry["protocols"]
    ]
    found: list[str] = []
    for index, (protocol, address, port, owner) in enumerate(taken):
        for other_protocol, other_address, other_port, other in taken[index + 1 :]:
            same = (protocol, port) == (other_protocol, other_port)
            if same and (address == other_address or EVERY_ADDRESS in (address, other_address)):
                found.append(
                    f"Host '{host}': {owner} ({address}) and {other} ({other_address}) both bind {protocol} port {port}, set in "
                    f"{SERVICES_FILE}; allowed: another port, or loopback addresses that differ."
                )
    return found


class FilterModule:
    """The filters' names in playbooks."""

    def filters(self) -> dict[str, Any]:
        """Map each name to its function."""
        return {
            "catalogue_components": components_of,
            "catalogue_endpoint": endpoint,
            "catalogue_endpoints": endpoints,
            "catalogue_family": of_family,
            "catalogue_flat": flat,
            "catalogue_hosts": hosts_of,
            "catalogue_hosts_with": hosts_with,
            "catalogue_listeners": listeners,
            "catalogue_main_service": main_service,
            "catalogue_neighbours": neighbours,
            "catalogue_pool": pool,
            "catalogue_problems": problems,
            "catalogue_service": service_of,
            "catalogue_url": url,
        }
