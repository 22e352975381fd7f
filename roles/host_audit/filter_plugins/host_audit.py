"""What outside judges say of a host, read from their output and held against limits and waivers; no host is asked."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

SSH = "ssh"
JUDGES = ("lynis", "ssh-audit", "cis", "units", "listeners", "nmap", "controls", "integrity")
WAIVERS = "host_audit_waivers (inventory)"
EVERY_ADDRESS = ("0.0.0.0", "::", "*")  # noqa: S104 - what ss says of a socket, which is then judged
SSH_LINE = re.compile(r"^\((?P<kind>[a-z]+)\) (?P<name>\S+)\s+-- \[(?P<level>[a-z]+)\] (?P<text>.*)$")
SSH_MORE = re.compile(r"^\s*`- \[(?P<level>[a-z]+)\] (?P<text>.*)$")

Entry = Mapping[str, Any]


def finding(judge: str, name: str, text: str) -> dict[str, str]:
    """One thing that a judge holds against a host."""
    return {"judge": judge, "name": name, "text": text}


def lynis(report: str) -> dict[str, Any]:
    """Lynis' report file: {index, warnings: [{id, text}], suggestions: [{id, text}]}; ValueError where it has no index."""
    found: dict[str, Any] = {"index": None, "warnings": [], "suggestions": []}
    for line in report.splitlines():
        key, _, value = line.partition("=")
        if key == "hardening_index":
            found["index"] = int(value)
        elif key in ("warning[]", "suggestion[]"):
            test, text, *details = [part.strip() for part in value.split("|")]
            detail = details[0] if details and details[0] not in ("", "-") else ""
            found[f"{key[:-2]}s"].append({"id": test, "text": f"{text} ({detail})" if detail else text})
    if found["index"] is None:
        msg = "lynis' report has no hardening_index: it did not come to its end."
        raise ValueError(msg)
    return found


def ssh_audit(output: str) -> list[dict[str, str]]:
    """Ssh-audit's text: what it calls a failure or a warning, [{kind, name, level, text}]; ValueError where it met no server."""
    found = []
    kind = name = ""
    for line in output.splitlines():
        match = SSH_LINE.match(line)
        more = SSH_MORE.match(line)
        if match:
            kind, name = match["kind"], match["name"]
        what = match or more
        if what and what["level"] in ("fail", "warn"):
            found.append({"kind": kind, "name": name, "level": what["level"], "text": what["text"].strip()})
    if not name:
        msg = "ssh-audit named no algorithm: it met no SSH server."
        raise ValueError(msg)
    return found


def exposures(output: str) -> dict[str, float]:
    """`systemd-analyze security --json=short` as {unit: exposure from 0 (nothing) to 10}."""
    return {row["unit"]: float(row["exposure"]) for row in json.loads(output)}


def sockets(output: str) -> list[dict[str, Any]]:
    """`ss -H -l -t -u -n -p` as [{protocol, address, port, process}]; an interface's suffix is left out."""
    found = []
    for line in output.splitlines():
        fields = line.split(None, 6)
        if len(fields) < 5 or fields[0] not in ("tcp", "udp"):
            continue
        address, _, port = fields[4].rpartition(":")
        process = re.search(r'\(\("([^"]+)"', fields[6]) if len(fields) > 6 else None
        found.append(
            {
                "protocol": fields[0],
                "address": address.strip("[]").partition("%")[0],
                "port": int(port),
                "process": process[1] if process else "",
            }
        )
    return found


def allowed_listeners(listeners: Entry, services: Iterable[str]) -> list[dict[str, Any]]:
    """The catalogue's listeners of the services that a host runs: [{service, address, port, protocol}]."""
    return [
        {"service": service, "address": entry["address"], "port": entry["port"], "protocol": protocol}
        for service in services
        for entry in listeners.get(service, {}).values()
        for protocol in entry["protocols"]
    ]


def services_of(services: Entry, host_services: Entry, chains: Iterable[str], groups: Iterable[str]) -> list[str]:
    """The services of a host's chains and of its groups, and SSH, which is there before any group is."""
    chains, groups = list(chains), list(groups)
    return [
        *(name for name, service in services.items() if service["chain"] in chains),
        *(name for name, service in host_services.items() if name == SSH or service.get("group") in groups),
    ]


def unlisted(found: Iterable[Entry], allowed: Iterable[Entry]) -> list[dict[str, str]]:
    """The sockets that are in no entry of the catalogue, by address, port and protocol; findings.

    An entry for every address allows each; an entry for one address does not allow a socket on all.
    """
    allowed = list(allowed)
    return [
        finding(
            "listeners",
            _socket(socket),
            f"{socket['process'] or 'a program'} listens, and the catalogue has no such listener",
        )
        for socket in found
        if not any(_covers(entry, socket) for entry in allowed)
    ]


def scanned(output: str) -> list[int]:
    """The TCP ports that `nmap -oG -` found open; ValueError where it scanned no host."""
    if not re.search(r"^Host: .*\tStatus: Up", output, re.MULTILINE):
        msg = "nmap's report has no host: it did not come to its end."
        raise ValueError(msg)
    return sorted({int(port) for port in re.findall(r"\b(\d+)/open/tcp", output)})


def strange_ports(scans: Iterable[Entry], allowed: Iterable[Entry]) -> list[dict[str, str]]:
    """Ports that are open from outside and no listener of the catalogue's that others than the host itself may reach; findings.

    `scans` are a loop's results, an address each: [{item: address, stdout: what `nmap -oG -` printed}].
    """
    known = {entry["port"] for entry in allowed if entry["protocol"] == "tcp" and not _is_loopback(entry["address"])}
    found: dict[int, list[str]] = {}
    for scan in scans:
        for port in scanned(scan["stdout"]):
            found.setdefault(port, []).append(scan["item"])
    return [
        finding(
            "nmap",
            f"tcp {port}",
            f"it is open from outside at {' and '.join(addresses)}, and the catalogue has nothing there for others",
        )
        for port, addresses in sorted(found.items())
        if port not in known
    ]


def unit_findings(
    seen: Mapping[str, float], wanted: Iterable[str], limits: Mapping[str, float]
) -> list[dict[str, str]]:
    """Units that are more exposed than their limit, or not there; limits are by service, with one called default."""
    found = []
    for service in wanted:
        unit = f"{service}.service"
        limit = limits.get(service, limits["default"])
        if unit not in seen:
            found.append(finding("units", unit, "systemd has no such unit loaded"))
        elif seen[unit] > limit:
            found.append(finding("units", unit, f"exposure {seen[unit]} is above {limit}"))
    return found


def unit_limits(seen: Mapping[str, float], limits: Mapping[str, float]) -> dict[str, float]:
    """Each unit's most exposure, {unit: limit}."""
    return {unit: limits.get(unit.removesuffix(".service"), limits["default"]) for unit in seen}


def findings(read: Entry, floor: int) -> list[dict[str, str]]:
    """All that is held against a host: {lynis, ssh, units, listeners, nmap, integrity, controls} as the filters above give them."""
    index = read["lynis"]["index"]
    return [
        *([finding("lynis", "index", f"hardening index {index} is below {floor}")] if index < floor else []),
        *(finding("lynis", row["id"], row["text"]) for row in read["lynis"]["warnings"]),
        *(
            finding("ssh-audit", f"{row['kind']} {row['name']}", f"{row['level']}: {row['text']}")
            for row in read["ssh"]
        ),
        *read["cis"],
        *read["units"],
        *read["listeners"],
        *read["nmap"],
        *read["integrity"],
        *(
            finding("controls", row["name"], "; ".join(row["differs"]))
            for row in read["controls"]
            if row["state"] == "differs"
        ),
    ]


def integrity_findings(found: Entry | None) -> list[dict[str, str]]:
    """What host-integrity has open, {open: {path: {what, since}}, packages: [path]}; nothing where a host keeps no record."""
    if not found:
        return []
    return [
        *(
            finding("integrity", path, f"{row['what']} outside of a deployment, first seen {row['since']}")
            for path, row in found["open"].items()
        ),
        *(finding("integrity", path, "is not what its package installed") for path in found["packages"]),
    ]


def waiver_problems(waivers: Iterable[Entry]) -> list[str]:
    """What is wrong with the waivers, a sentence each: what, where it is set, what is allowed."""
    found = []
    for waiver in waivers:
        title = f"the waiver {waiver.get('judge', '?')}/{waiver.get('name', '?')} in {WAIVERS}"
        missing = [key for key in ("judge", "name", "reason", "date") if not str(waiver.get(key) or "").strip()]
        if missing:
            found.append(
                f"{title} has no {', '.join(missing)}; allowed: judge, name, reason, date, and host where it is one host's."
            )
        elif waiver["judge"] not in JUDGES:
            found.append(f"{title} has the judge {waiver['judge']}; allowed: {', '.join(JUDGES)}.")
        elif not _is_date(str(waiver["date"])):
            found.append(f"{title} has the date {waiver['date']}; allowed: a day such as 2026-11-25.")
    return found


def judged(found: Iterable[Entry], waivers: Iterable[Entry], host: str) -> list[dict[str, str]]:
    """The findings, each with its state: failed, or waived with the waiver's reason and date."""
    waivers = [waiver for waiver in waivers if waiver.get("host", host) == host]
    rows = []
    for row in found:
        waiver = next((each for each in waivers if (each["judge"], each["name"]) == (row["judge"], row["name"])), None)
        words = (
            {"state": "waived", "reason": waiver["reason"], "date": str(waiver["date"])}
            if waiver
            else {"state": "failed"}
        )
        rows.append({**row, **words})
    return rows


def idle_waivers(waivers: Iterable[Entry], hosts: Mapping[str, Entry]) -> list[str]:
    """Waivers that nothing on the fleet needs any more."""
    used = {
        (row["judge"], row["name"]) for host in hosts.values() for row in host["findings"] if row["state"] == "waived"
    }
    return [
        f"{waiver['judge']} {waiver['name']}" for waiver in waivers if (waiver["judge"], waiver["name"]) not in used
    ]


def _covers(entry: Entry, socket: Entry) -> bool:
    if (entry["port"], entry["protocol"]) != (socket["port"], socket["protocol"]):
        return False
    if entry["address"] in EVERY_ADDRESS:
        return True
    if socket["address"] in EVERY_ADDRESS:
        return False
    return _address(entry["address"]) == _address(socket["address"])


def _is_loopback(text: str) -> bool:
    return text not in EVERY_ADDRESS and _address(text).is_loopback


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    address = ipaddress.ip_address(text)
    return getattr(address, "ipv4_mapped", None) or address


def _socket(socket: Entry) -> str:
    address = f"[{socket['address']}]" if ":" in socket["address"] else socket["address"]
    return f"{socket['protocol']} {address}:{socket['port']}"


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


class FilterModule:
    """Ansible's way to find the filters."""

    def filters(self) -> dict[str, Any]:
        """The filters by name."""
        return {
            "host_audit_lynis": lynis,
            "host_audit_ssh": ssh_audit,
            "host_audit_exposures": exposures,
            "host_audit_sockets": sockets,
            "host_audit_allowed": allowed_listeners,
            "host_audit_services": services_of,
            "host_audit_unlisted": unlisted,
            "host_audit_strange_ports": strange_ports,
            "host_audit_units": unit_findings,
            "host_audit_unit_limits": unit_limits,
            "host_audit_findings": findings,
            "host_audit_integrity": integrity_findings,
            "host_audit_waiver_problems": waiver_problems,
            "host_audit_judged": judged,
            "host_audit_idle_waivers": idle_waivers,
        }
