"""What a service's values may be, and what on a host stands in their way, a sentence each; no host is asked."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

Values = Mapping[str, Any]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")
ACCOUNT = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
UNIT = re.compile(r"[A-Za-z0-9:_.@\\-]+\.(service|socket|target|slice|timer|path|mount)")
PATH = re.compile(r"/[A-Za-z0-9._/@:+-]*")
MODE = re.compile(r"[0-7]{3,4}")
CPU_LIST = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*")
MEMORY = re.compile(r"\d+[KMGT]?|\d{1,2}(\.\d{1,2})?%|100%|infinity")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
CREDENTIAL = re.compile(r"[A-Za-z0-9._-]+")
DIRECTIVE = re.compile(r"[A-Z][A-Za-z0-9]+")
CALENDAR = re.compile(r"[A-Za-z0-9*,./:~ -]+")
ONE_LINE = re.compile(r"[^\x00-\x08\x0a-\x1f]*")

RANGES = {
    "start_seconds": (0, 86400),
    "stop_seconds": (1, 3600),
    "restart_seconds": (1, 600),
    "start_limit_burst": (1, 1000),
    "start_limit_seconds": (0, 86400),
    "watchdog_seconds": (0, 3600),
    "cpu_weight": (1, 10000),
    "io_weight": (1, 10000),
    "nice": (-20, 19),
    "scheduling_priority": (0, 10),
    "limit_nofile": (64, 1048576),
    "limit_nofile_max": (64, 1048576),
    "ready_seconds": (1, 3600),
}

# variable -> (pattern, what is allowed); an empty string means "not set" where the pattern's owner is optional.
PATTERNS: dict[str, tuple[re.Pattern[str], str]] = {
    "name": (NAME, "letters, digits, '_', '.' and '-', without the ending .service"),
    "user": (ACCOUNT, "a system account's name: up to 32 of a-z, 0-9, '_' and '-', not starting with a digit"),
    "group": (ACCOUNT, "a group's name: up to 32 of a-z, 0-9, '_' and '-', not starting with a digit"),
    "description": (ONE_LINE, "one line"),
    "working_directory": (PATH, "an absolute path without spaces"),
    "umask": (MODE, "three or four octal digits"),
    "slice": (UNIT, "a unit name that ends in .slice"),
    "syslog_identifier": (NAME, "letters, digits, '_', '.' and '-'"),
}
OPTIONAL_PATTERNS: dict[str, tuple[re.Pattern[str], str]] = {
    "cpus": (CPU_LIST, "a list of CPUs such as 2-7,10"),
    "numa_mask": (CPU_LIST, "a list of NUMA nodes such as 0-1"),
    "memory_high": (MEMORY, "bytes with K, M, G or T, or a percentage"),
    "memory_max": (MEMORY, "bytes with K, M, G or T, or a percentage"),
}
LIST_PATTERNS: dict[str, tuple[re.Pattern[str], str]] = {
    "groups": (ACCOUNT, "groups' names"),
    **dict.fromkeys(
        ("after", "before", "wants", "requires", "binds_to", "part_of", "on_failure", "on_success", "wanted_by"),
        (UNIT, "unit names with their endings, such as erigon.service"),
    ),
    **dict.fromkeys(
        ("read_write_paths", "read_only_paths", "inaccessible_paths", "reads"),
        (PATH, "absolute paths without spaces"),
    ),
    "command": (ONE_LINE, "arguments of one line each"),
    "reload_command": (ONE_LINE, "arguments of one line each"),
    "ready_command": (ONE_LINE, "arguments of one line each"),
}

# Where a file's bytes come from: the inventory, a file on the controller, the host itself.
ORIGINS = ("content", "source", "random_bytes")

# Directives that other variables of the role write: an exception for one of them would be the second place of one fact.
OWNED = {
    "AllowedCPUs": "cpus",
    "AppArmorProfile": "apparmor",
    "CPUAffinity": "cpus",
    "CPUWeight": "cpu_weight",
    "Environment": "environment",
    "EnvironmentFile": "environment",
    "ExecReload": "reload_command",
    "ExecStart": "command",
    "Group": "group",
    "IOWeight": "io_weight",
    "IPAddressAllow": "ip_allow",
    "IPAddressDeny": "ip_allow",
    "InaccessiblePaths": "inaccessible_paths",
    "KillSignal": "kill_signal",
    "LimitNOFILE": "limit_nofile",
    "LoadCredential": "credentials",
    "MemoryHigh": "memory_high",
    "MemoryMax": "memory_max",
    "NUMAMask": "numa_mask",
    "NUMAPolicy": "numa_policy",
    "Nice": "nice",
    "ReadOnlyPaths": "read_only_paths",
    "ReadWritePaths": "read_write_paths",
    "Restart": "restart",
    "RestartSec": "restart_seconds",
    "Slice": "slice",
    "SupplementaryGroups": "groups",
    "SyslogIdentifier": "syslog_identifier",
    "TimeoutStartSec": "start_seconds",
    "TimeoutStopSec": "stop_seconds",
    "Type": "type",
    "UMask": "umask",
    "User": "user",
    "WatchdogSec": "watchdog_seconds",
    "WorkingDirectory": "working_directory",
}


def type_problems(values: Values, specs: Path) -> list[str]:
    """Say, one sentence each, which values are not of the types that the role's argument specs (a file) give them.

    Other roles include this one without Ansible's own validation, which costs a task more a service; this one takes its place.
    """
    options = yaml.safe_load(specs.read_text())["argument_specs"]["main"]["options"]
    prefixed = {f"managed_service_{name}": value for name, value in values.items()}
    known = {name: value for name, value in prefixed.items() if name in options}
    return [
        f"{message[0].upper()}{message[1:].rstrip('.')} (for the service {values['name']})."
        for message in ArgumentSpecValidator(options).validate(known).error_messages
    ]


def value_problems(values: Values) -> list[str]:
    """Say, one sentence each, which values the role cannot carry out; empty where all is well."""
    checks: tuple[Callable[[Values], Iterator[tuple[str, str]]], ...] = (
        _patterns,
        _ranges,
        _command,
        _records,
        _environment,
        _listeners,
        _placement,
        _timer,
        _addresses,
        _sandbox,
    )
    service = values["name"]
    return [
        f"{what} (for the service {service}); allowed: {allowed}."
        for check in checks
        for what, allowed in check(values)
    ]


def host_problems(facts: Values, values: Values, host: str, *, credentials: bool = False) -> list[str]:
    """Say, one sentence each, what on the host stands in the service's way.

    `facts` is what the module unit_facts returned. Credentials count only where `credentials` is true: before the roles
    that make them have run, their absence means nothing.
    """
    service = values["name"]
    problems = [
        f"{holder['address']} port {holder['port']}/{holder['protocol']}, which {service}.service is to bind "
        f"(managed_service_listeners), is held on {host} by {holder['holder']}; stop that, or give one of the two another port."
        for holder in facts["holders"]
    ]
    for variable, online, what in (("cpus", "online_cpus", "CPU"), ("numa_mask", "online_nodes", "NUMA node")):
        missing = _numbers(values[variable]) - _numbers(facts[online])
        if missing:
            problems.append(
                f"managed_service_{variable} of {service} names {what} {min(missing)}, which {host} lacks; "
                f"allowed: {facts[online]}."
            )
    if values["credentials"] and not facts["shares_mounts"]:
        problems.append(
            f"{host} keeps its mounts private, so that systemd cannot hand over the credentials of {service}.service "
            "(managed_service_credentials); a container's start must run `mount --make-rshared /` before systemd."
        )
    if credentials:
        problems += [
            f"The credential {path} of {service}.service (managed_service_credentials) is not there on {host}; "
            "allowed: an existing file."
            for path in facts["missing_credentials"]
        ]
    return problems


def _patterns(values: Values) -> Iterator[tuple[str, str]]:
    for variable, (pattern, allowed) in PATTERNS.items():
        if not pattern.fullmatch(str(values[variable])):
            yield f"managed_service_{variable} is {values[variable]!r}", allowed
    for variable, (pattern, allowed) in OPTIONAL_PATTERNS.items():
        if str(values[variable]) and not pattern.fullmatch(str(values[variable])):
            yield f"managed_service_{variable} is {values[variable]!r}", allowed
    for variable, (pattern, allowed) in LIST_PATTERNS.items():
        for item in values[variable]:
            if not pattern.fullmatch(str(item)):
                yield f"managed_service_{variable} holds {item!r}", allowed
    if str(values["name"]).endswith(".service"):
        yield f"managed_service_name is {values['name']!r}", PATTERNS["name"][1]
    if not str(values["slice"]).endswith(".slice"):
        yield f"managed_service_slice is {values['slice']!r}", PATTERNS["slice"][1]


def _ranges(values: Values) -> Iterator[tuple[str, str]]:
    for variable, (lowest, highest) in RANGES.items():
        if not lowest <= int(values[variable]) <= highest:
            yield f"managed_service_{variable} is {values[variable]}", f"{lowest} to {highest}"
    if values["user"] == "root":
        yield (
            "managed_service_user is root, whose shell and home would be made a service's",
            "an account of the service's own",
        )
    if values["early"] and values["type"] != "oneshot":
        yield (
            f"managed_service_early is true with managed_service_type {values['type']}",
            "an early unit of type oneshot only",
        )
    if int(values["watchdog_seconds"]) and values["type"] != "notify":
        yield (
            f"managed_service_watchdog_seconds is {values['watchdog_seconds']} with managed_service_type {values['type']}",
            "a watchdog with type notify only",
        )


def _command(values: Values) -> Iterator[tuple[str, str]]:
    if values["state"] == "absent":
        return
    program = str(values["command"][0]) if values["command"] else ""
    if not PATH.fullmatch(program):
        yield f"managed_service_command starts with {program!r}", "the program's absolute path without spaces"
    reload = [str(argument) for argument in values["reload_command"]]
    if reload and not PATH.fullmatch(reload[0]):
        yield f"managed_service_reload_command starts with {reload[0]!r}", "the program's absolute path without spaces"
    if reload and (values["type"] == "oneshot" or values["timer"]):
        yield "managed_service_reload_command is set for a service that does not keep running", "none for type oneshot"


def _records(values: Values) -> Iterator[tuple[str, str]]:
    for kind in ("directories", "files"):
        for entry in values[kind]:
            if not PATH.fullmatch(str(entry["path"])):
                yield f"managed_service_{kind} holds {entry['path']!r}", "absolute paths without spaces"
            if "mode" in entry and not MODE.fullmatch(str(entry["mode"])):
                yield (
                    f"managed_service_{kind} gives {entry['path']} the mode {entry['mode']!r}",
                    "three or four octal digits in quotes",
                )
    for file in values["files"]:
        if sum(origin in file for origin in ORIGINS) != 1:
            given = " and ".join(origin for origin in ORIGINS if origin in file) or "no origin"
            yield f"managed_service_files gives {file['path']} {given}", f"one of {', '.join(ORIGINS)}"
        if "source" in file and not str(file["source"]).startswith("/"):
            yield (
                f"managed_service_files gives {file['path']} the source {file['source']!r}",
                "a file's absolute path on the controller",
            )
    for credential in values["credentials"]:
        if not CREDENTIAL.fullmatch(str(credential["id"])):
            yield f"managed_service_credentials holds the id {credential['id']!r}", "letters, digits, '_', '.' and '-'"
        if not PATH.fullmatch(str(credential["path"])):
            yield f"managed_service_credentials holds the path {credential['path']!r}", "absolute paths without spaces"


def _environment(values: Values) -> Iterator[tuple[str, str]]:
    for name, value in values["environment"].items():
        if not VARIABLE.fullmatch(str(name)):
            yield f"managed_service_environment holds the name {name!r}", "letters, digits and '_', no leading digit"
        if isinstance(value, (dict, list)) or value is None or not ONE_LINE.fullmatch(str(value)):
            yield f"managed_service_environment sets {name} to {value!r}", "strings of one line, numbers and booleans"


def _listeners(values: Values) -> Iterator[tuple[str, str]]:
    seen: set[tuple[str, int, str]] = set()
    for listener in values["listeners"]:
        address, port, protocol = str(listener["address"]), int(listener["port"]), listener.get("protocol", "tcp")
        try:
            ipaddress.ip_address(address)
        except ValueError:
            yield f"managed_service_listeners holds the address {address!r}", "IP addresses"
        if not 1 <= port <= 65535:
            yield f"managed_service_listeners holds the port {port}", "1 to 65535"
        if (address, port, protocol) in seen:
            yield f"managed_service_listeners holds {address} port {port}/{protocol} twice", "each listener once"
        seen.add((address, port, protocol))


def _placement(values: Values) -> Iterator[tuple[str, str]]:
    real_time = values["scheduling_policy"] in {"fifo", "rr"}
    priority = int(values["scheduling_priority"])
    pair = f"managed_service_scheduling_priority is {priority} with policy {values['scheduling_policy']}"
    if real_time and priority < 1:
        yield pair, "1 to 10"
    if not real_time and priority:
        yield pair, "0, or the policy fifo or rr"
    if real_time and not values["cpus"]:
        yield (
            f"managed_service_scheduling_policy is {values['scheduling_policy']} without managed_service_cpus",
            "real-time scheduling on named CPUs only, so that it cannot starve the rest of the host",
        )
    needs_mask = values["numa_policy"] in {"bind", "interleave", "preferred"}
    if needs_mask != bool(values["numa_mask"]):
        yield (
            f"managed_service_numa_policy is {values['numa_policy']} and managed_service_numa_mask {values['numa_mask']!r}",
            "a mask with bind, interleave and preferred, and none with default and local",
        )


def _timer(values: Values) -> Iterator[tuple[str, str]]:
    timer = values["timer"]
    if not timer:
        return
    moments = timer.get("on_calendar", [])
    for moment in moments:
        if not CALENDAR.fullmatch(str(moment)):
            yield (
                f"managed_service_timer.on_calendar holds {moment!r}",
                "systemd's calendar form, such as '*-*-* 03:00:00 UTC'",
            )
    if not moments:
        yield "managed_service_timer.on_calendar is empty", "at least one moment"
    if int(timer.get("jitter_seconds", 0)) not in range(86401):
        yield f"managed_service_timer.jitter_seconds is {timer['jitter_seconds']}", "0 to 86400"
    if values["type"] != "oneshot" or values["wanted_by"]:
        yield (
            f"managed_service_type is {values['type']} and managed_service_wanted_by {values['wanted_by']} with a managed_service_timer",
            "oneshot and an empty list",
        )


def _addresses(values: Values) -> Iterator[tuple[str, str]]:
    for item in values["ip_allow"]:
        if item in {"any", "localhost", "link-local", "multicast"}:
            continue
        try:
            ipaddress.ip_network(str(item), strict=False)
        except ValueError:
            yield f"managed_service_ip_allow holds {item!r}", "addresses, networks, localhost, link-local and multicast"


def _sandbox(values: Values) -> Iterator[tuple[str, str]]:
    for directive, exception in values["sandbox"].items():
        where = f"managed_service_sandbox holds {directive}"
        if not DIRECTIVE.fullmatch(str(directive)):
            yield where, "names of systemd's sandbox directives"
        elif directive in OWNED:
            yield where, f"managed_service_{OWNED[directive]} for that"
        elif not isinstance(exception, Mapping) or set(exception) != {"value", "reason"}:
            yield f"{where} as {exception!r}", "a dictionary of value and reason"
        elif not str(exception["reason"]).strip() or not ONE_LINE.fullmatch(str(exception["reason"])):
            yield f"{where} with the reason {exception['reason']!r}", "a reason in one line"
        elif not _is_setting(exception["value"]):
            yield f"{where} with the value {exception['value']!r}", "a string, a number, a boolean or a list of strings"


def _is_setting(value: object) -> bool:
    if isinstance(value, list):
        return all(isinstance(item, str) and ONE_LINE.fullmatch(item) for item in value)
    return isinstance(value, (str, int)) and bool(ONE_LINE.fullmatch(str(value)))


def _numbers(text: object) -> set[int]:
    """Read a kernel list such as `0-3,8`; an ill-formed one, which another check names, reads as empty."""
    if not CPU_LIST.fullmatch(str(text)):
        return set()
    ranges = (part.partition("-") for part in str(text).split(","))
    return {number for first, _, last in ranges for number in range(int(first), int(last or first) + 1)}
