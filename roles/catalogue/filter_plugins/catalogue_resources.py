"""What services need of a host, what of it each is given, and whether a host has it: pure functions over the catalogue's dictionaries."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

SERVICES_FILE = (
    "roles/catalogue/defaults/main/services.yml, catalogue_service_overrides or catalogue_host_service_overrides"
)
CHAINS_FILE = "roles/catalogue/defaults/main/chains.yml or catalogue_chain_overrides"
RESOURCES_FILE = "roles/catalogue/defaults/main/resources.yml or the inventory"

ALLOWED = {
    "memory_mib": "0 (no limits), or a whole number of MiB from 16 to 16777216",
    "memory_high": "bytes with K, M, G or T, a percentage of the host's memory, or '' for none",
    "memory_max": "bytes with K, M, G or T, a percentage of the host's memory, or '' for none",
    "cpu_weight": "a whole number from 1 to 10000",
    "io_weight": "a whole number from 1 to 10000",
    "cpus": "a list of CPUs such as 2-7,10, or '' for all",
    "exclusive_cpus": "true or false",
    "numa_policy": "default, preferred, bind, interleave, local",
    "numa_mask": "a list of NUMA nodes such as 0-1, or ''",
}
SHORTAGES = ("memory", "disk", "cpus", "numa")
POLICIES = ("default", "preferred", "bind", "interleave", "local")
MASKED = ("preferred", "bind", "interleave")
# Above it the kernel takes cache back from the service and slows it; at the maximum it is killed.
HIGH_TENTHS = 9
WHOLE = 10_000
GIB = 2**30
LIST = re.compile(r"\d{1,4}(-\d{1,4})?(,\d{1,4}(-\d{1,4})?)*")
SIZE = re.compile(r"(\d{1,18})([KMGT]?)|(\d{1,3})(?:\.(\d{1,2}))?%")
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}

Facts = Mapping[str, Any]


def sized(entries: Facts, needs: Facts) -> dict[str, Any]:
    """Give chains or services with other needs, where `needs` holds any: memory_mib of each service, disk_gib of each chain."""
    found = {}
    for name, entry in entries.items():
        other = dict(entry)
        if "resources" in entry and "memory_mib" in needs:
            other["resources"] = {**entry["resources"], "memory_mib": needs["memory_mib"]}
        if "disk_gib" in entry and "disk_gib" in needs:
            other["disk_gib"] = needs["disk_gib"]
        found[name] = other
    return found


def running(services: Facts, host_services: Facts, wanted: Iterable[str], groups: Iterable[str]) -> dict[str, Any]:
    """Give the resources of every service that a host is to run, from its chains and its groups: {service: resources}."""
    wanted, groups = list(wanted), list(groups)
    return {
        **{name: service.get("resources", {}) for name, service in services.items() if service["chain"] in wanted},
        **{
            name: service.get("resources", {})
            for name, service in host_services.items()
            if service.get("group") in groups
        },
    }


def data_of(wanted: Iterable[str], chains: Facts) -> list[dict[str, Any]]:
    """Give where the wanted chains keep their data, and how much (GiB) they need there: [{chain, path, need_gib}]."""
    return [
        {"chain": chain, "path": chains[chain]["data_path"], "need_gib": chains[chain].get("disk_gib", 0)}
        for chain in wanted
    ]


def placement(services: Facts, here: Facts, system_mib: int) -> dict[str, dict[str, Any]]:
    """Give each service what managed_service puts into its unit: {service: managed_service_placement}.

    `here` holds the resources of what the host runs; a service that is not among them is counted with them. A service may take as much of
    the host's memory as it needs of what all of them and the system (`system_mib`, MiB) need together: where the host has just what is
    needed, that is its need; where it has more, all have more, and all of them at their maximum leave the system what it needs.
    """
    total = system_mib + sum(_need(resources) for resources in here.values())
    found = {}
    for name, service in services.items():
        given = service.get("resources", {})
        high, maximum = _limits(given, total if name in here else total + _need(given))
        found[name] = {
            "memory_high": high,
            "memory_max": maximum,
            "cpu_weight": given.get("cpu_weight", 100),
            "io_weight": given.get("io_weight", 100),
            "cpus": str(given.get("cpus", "")),
            "numa_policy": given.get("numa_policy", "default"),
            "numa_mask": str(given.get("numa_mask", "")),
        }
    return found


def problems(services: Facts, chains: Facts, here: Facts, policy: Facts) -> list[str]:
    """Say what is wrong with the figures as one host sees them, a sentence each: what, where it is set, what is allowed.

    `services` are the chains' and the host's; `here` is what the host runs; `policy` holds `host`, `hosts` (all names),
    `system_memory_mib`, `uniform` (catalogue_uniform_needs) and `exceptions` (catalogue_resource_exceptions).
    """
    found = [
        f"{key} of service '{name}' is {value!r} on host '{policy['host']}' in {SERVICES_FILE}; allowed: {allowed}."
        for name, service in services.items()
        for key, value, allowed in _refused(service.get("resources", {}))
    ]
    found += [
        f"disk_gib of chain '{name}' is {chain.get('disk_gib', 0)!r} in {CHAINS_FILE}; allowed: a whole number of GiB from 0 to 1048576."
        for name, chain in chains.items()
        if not _is_whole(chain.get("disk_gib", 0), 0, 2**20)
    ]
    found += _policy_problems(policy)
    return found or _collisions(policy["host"], here)


def fit(looked: Facts, here: Facts, data: Sequence[Facts], policy: Facts) -> list[dict[str, Any]]:
    """Hold what a host has against what it is to run: a row a resource and place, {host, resource, where, unit, needed, has, parts, state, reason}.

    `looked` is what the module host_resources returned, `data` its question. `parts` are the sum's: {name: [needed, has already]}. A row's
    `state` is fits, short, or accepted (short, but by the operator's word, which is its `reason`). Quantities are whole MiB and GiB; of CPUs
    and NUMA nodes `needed` and `has` are lists such as 0-3.
    """
    parts = {name: [_need(resources), 0] for name, resources in here.items() if _need(resources)}
    parts["the system"] = [policy["system_memory_mib"], 0]
    needed = sum(need for need, _ in parts.values())
    rows = [_row("memory", "", "MiB", (needed, looked["memory_mib"]), parts)]
    chains = {entry["path"]: entry for entry in data}
    for file_system in looked["file_systems"]:
        needs = {path: chains[path]["need_gib"] for path in file_system["had_bytes"]}
        # What a chain has beyond its need is no other chain's room.
        had = {path: min(size, needs[path] * GIB) for path, size in file_system["had_bytes"].items()}
        parts = {chains[path]["chain"]: [need, had[path] // GIB] for path, need in needs.items()}
        needed, has = sum(needs.values()), (file_system["free_bytes"] + sum(had.values())) // GIB
        rows.append(_row("disk", file_system["mount"], "GiB", (needed, has), parts))
    for resource, key, online in (("cpus", "cpus", "cpus"), ("numa", "numa_mask", "nodes")):
        for name, resources in here.items():
            wanted = str(resources.get(key, ""))
            if wanted:
                rows.append(_row(resource, name, "", (wanted, looked[online]), {}))
    words = {(each["host"], each["shortage"]): each["reason"] for each in policy["exceptions"]}
    for row in rows:
        reason = words.get((policy["host"], row["resource"]), "") if _is_short(row) else ""
        row["host"], row["reason"] = policy["host"], reason
        row["state"] = "accepted" if reason else "short" if _is_short(row) else "fits"
    return rows


def shortage(rows: Sequence[Facts]) -> str:
    """Say, with the sums, what a host is too small for and what can be done; empty where it is not."""
    short = [row for row in rows if row["state"] == "short"]
    if not short:
        return ""
    lines = [f"{short[0]['host']} is too small for what it is to run."]
    for row in short:
        lines += _sum(row)
    lines.append(
        "Allowed: fewer chains in node_chains, a larger host, other figures in catalogue_service_overrides (resources) or "
        "catalogue_chain_overrides (disk_gib), or host, shortage and reason in catalogue_resource_exceptions."
    )
    return "\n".join(lines)


def summary(rows: Sequence[Facts]) -> list[str]:
    """Say in a line a resource what a host is asked for and has, and which shortage the operator took upon himself."""
    return [
        f"{_title(row)}: {row['needed']} of {row['has']}{' ' + row['unit'] if row['unit'] else ''}"
        + (f"; too little, by the operator's word: {row['reason']}" if row["state"] == "accepted" else "")
        for row in rows
    ]


def _need(resources: Facts) -> int:
    return int(resources.get("memory_mib", 0))


def _limits(given: Facts, whole_mib: int) -> tuple[str, str]:
    """Give MemoryHigh= and MemoryMax=: what is set, and of what is not set the part that belongs to it; '' for none."""
    high, maximum = given.get("memory_high"), given.get("memory_max")
    if high is None and maximum is None:
        need = _need(given)
        # Percentages are of the host's memory and hundredths at their finest: too coarse for small services, which get just their need.
        share = need * WHOLE // whole_mib if need else 0
        maximum = _percentage(share) if share >= WHOLE // 100 else f"{need}M" if need else ""
    if high is None:
        high = _part(maximum, HIGH_TENTHS, 10)
    elif maximum is None:
        maximum = _part(high, 10, HIGH_TENTHS)
    return str(high or ""), str(maximum or "")


def _percentage(hundredths: int) -> str:
    return f"{hundredths // 100}.{hundredths % 100:02d}%" if hundredths % 100 else f"{hundredths // 100}%"


def _part(size: object, numerator: int, denominator: int) -> str:
    hundredths, amount = _parsed(size)
    if hundredths:
        return _percentage(min(hundredths * numerator // denominator, WHOLE))
    return f"{amount * numerator // denominator // 2**20}M" if amount else ""


def _parsed(size: object) -> tuple[int, int]:
    """Read a size as hundredths of a percent of the host's memory and as bytes, of which at least one is 0."""
    match = SIZE.fullmatch(str(size))
    if not match:
        return 0, 0
    if match[3]:
        return int(match[3]) * 100 + int((match[4] or "0").ljust(2, "0")), 0
    return 0, int(match[1]) * UNITS[match[2]]


def _refused(resources: Facts) -> Iterator[tuple[str, object, str]]:
    """Yield what of a service's resources cannot be carried out: the key, its value, what is allowed."""
    for key, value in resources.items():
        if key not in ALLOWED:
            yield key, value, f"the keys {', '.join(ALLOWED)}"
        elif not _is_allowed(key, value):
            yield key, value, ALLOWED[key]
    if (resources.get("numa_policy") in MASKED) != bool(str(resources.get("numa_mask", ""))):
        yield (
            "numa_mask",
            resources.get("numa_mask", ""),
            f"a mask with {', '.join(MASKED)}, and none with default and local",
        )
    if resources.get("exclusive_cpus") and not str(resources.get("cpus", "")):
        yield "exclusive_cpus", True, "true with cpus only"
    (high_share, high), (max_share, maximum) = (_parsed(resources.get(key)) for key in ("memory_high", "memory_max"))
    if (high and maximum and high >= maximum) or (high_share and max_share and high_share >= max_share):
        yield "memory_high", resources["memory_high"], f"less than memory_max, {resources['memory_max']}"


def _is_allowed(key: str, value: object) -> bool:
    if key == "memory_mib":
        return value == 0 or _is_whole(value, 16, 2**24)
    if key in {"memory_high", "memory_max"}:
        hundredths, amount = _parsed(value)
        return value in {"", 0} or 0 < hundredths <= WHOLE or amount >= 2**20
    if key in {"cpu_weight", "io_weight"}:
        return _is_whole(value, 1, 10_000)
    if key in {"cpus", "numa_mask"}:
        return value == "" or (not isinstance(value, bool) and bool(_numbers(value)))
    return value in POLICIES if key == "numa_policy" else isinstance(value, bool)


def _policy_problems(policy: Facts) -> Iterator[str]:
    if not _is_whole(policy["system_memory_mib"], 0, 2**24):
        yield (
            f"catalogue_system_memory_mib is {policy['system_memory_mib']!r} in {RESOURCES_FILE}; "
            "allowed: a whole number of MiB from 0 to 16777216."
        )
    for key in policy["uniform"]:
        if key not in {"memory_mib", "disk_gib"}:
            yield f"catalogue_uniform_needs holds {key!r} in the inventory; allowed: memory_mib, disk_gib."
    for each in policy["exceptions"]:
        subject = f"An entry of catalogue_resource_exceptions in the inventory, {dict(each)},"
        if each.get("host") not in policy["hosts"]:
            yield f"{subject} names no host of the inventory; allowed: {', '.join(policy['hosts'])}."
        if each.get("shortage") not in SHORTAGES:
            yield f"{subject} names no shortage; allowed: {', '.join(SHORTAGES)}."
        if not str(each.get("reason") or "").strip():
            yield f"{subject} has no reason; one is required."


def _collisions(host: str, here: Facts) -> list[str]:
    placed = {name: _numbers(given.get("cpus", "")) for name, given in here.items()}
    return [
        f"Host '{host}': the CPUs of {one} ({here[one]['cpus']}) and {other} ({here[other]['cpus']}) overlap, and "
        f"{one if here[one].get('exclusive_cpus') else other} is to have its own (exclusive_cpus in {SERVICES_FILE}); "
        "allowed: sets that have no CPU in common."
        for one, other in itertools.combinations(placed, 2)
        if placed[one] & placed[other] and (here[one].get("exclusive_cpus") or here[other].get("exclusive_cpus"))
    ]


def _is_whole(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _numbers(text: object) -> set[int]:
    """Read a kernel list such as `0-3,8`; an ill-formed one reads as empty."""
    if not LIST.fullmatch(str(text)):
        return set()
    ranges = (part.partition("-") for part in str(text).split(","))
    return {number for first, _, last in ranges for number in range(int(first), int(last or first) + 1)}


def _row(resource: str, where: str, unit: str, sums: tuple[Any, Any], parts: Facts) -> dict[str, Any]:
    needed, has = sums
    return {
        "host": "",
        "resource": resource,
        "where": where,
        "unit": unit,
        "needed": needed,
        "has": has,
        "parts": parts,
    }


def _is_short(row: Facts) -> bool:
    if row["unit"]:
        return bool(row["needed"] > row["has"])
    return not _numbers(row["needed"]) <= _numbers(row["has"])


def _title(row: Facts) -> str:
    return f"{row['resource']} {'on' if row['unit'] else 'of'} {row['where']}" if row["where"] else str(row["resource"])


def _sum(row: Facts) -> list[str]:
    """Write a row out as a sum."""
    if not row["unit"]:
        return [f"{_title(row)}: {row['needed']} is asked for, the host has {row['has']}."]
    lines = [(name, need, f"  (has {had} already)" if had else "") for name, (need, had) in row["parts"].items()]
    lines += [("needed", row["needed"], ""), ("the host has", row["has"], "")]
    wide, digits = max(len(name) for name, _, _ in lines), max(len(str(figure)) for _, figure, _ in lines)
    table = [f"  {name.ljust(wide)}  {str(figure).rjust(digits)}{rest}" for name, figure, rest in lines]
    return [f"{_title(row)}, {row['unit']}:", *table]


class FilterModule:
    """The filters' names in playbooks."""

    def filters(self) -> dict[str, Any]:
        """Map each name to its function."""
        return {
            "catalogue_data": data_of,
            "catalogue_fit": fit,
            "catalogue_fit_summary": summary,
            "catalogue_placement": placement,
            "catalogue_resource_problems": problems,
            "catalogue_running": running,
            "catalogue_shortage": shortage,
            "catalogue_sized": sized,
        }
