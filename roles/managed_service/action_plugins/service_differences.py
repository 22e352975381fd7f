"""What one service wants, held against its host; an action for Ansible that asks the host by the module unit_facts.

One task instead of a dozen: the values are read once, refused with a sentence where they cannot be carried out, rendered, and
compared on the host in one call. What the role's further tasks do follows from what this returns.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import jinja2
import yaml
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.action import ActionBase

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

UNITS = "/etc/systemd/system/"
VERIFY = "systemd-analyze verify --man=no --recursive-errors=no"
# What systemd gives a running service as soon as it has read the unit again; the rest of a unit needs a restart.
LIVE = ("CPUWeight", "IOWeight", "MemoryHigh", "MemoryMax")
RUNNING = {"active", "activating", "reloading"}
STOPPED = {"inactive", "failed"}

PROFILES = "/etc/apparmor.d/"
APPARMOR = "/sys/kernel/security/apparmor"
PARSER = "/usr/sbin/apparmor_parser"
# systemd's names of what AppArmor knows by others, and where it makes what a unit names.
FAMILIES = {"AF_INET": "inet", "AF_INET6": "inet6", "AF_NETLINK": "netlink", "AF_PACKET": "packet"}
MADE = {
    "RuntimeDirectory": "/run",
    "StateDirectory": "/var/lib",
    "CacheDirectory": "/var/cache",
    "LogsDirectory": "/var/log",
}

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


def systemd_argument(value: object) -> str:
    """Write one argument of a command line so that the program sees it as given.

    `%d`, the credentials directory, stays a specifier; every other percent sign, and every dollar sign, is literal.
    """
    text = str(value).replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    text = re.sub(r"%(?!d(?![A-Za-z0-9]))", "%%", text)
    if text and re.fullmatch(r"[^\s'\";]+", text.replace("\\\\", "")):
        return text
    return f'"{text}"'


def systemd_environment_value(value: object) -> str:
    """Write a value for an environment file: in double quotes, with the characters that quotes leave special escaped."""
    text = ("true" if value else "false") if isinstance(value, bool) else str(value)
    return '"' + re.sub(r'(["\\`$])', r"\\\1", text) + '"'


def parents_of(directories: Iterable[Mapping[str, str]]) -> list[str]:
    """Name the directories above the given ones, outermost first, each once and none that is itself given."""
    own = {str(PurePosixPath(directory["path"])) for directory in directories}
    parents = {str(parent) for path in own for parent in PurePosixPath(path).parents}
    return sorted(parents - own - {"/"})


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
    for directory in values["directories"]:
        if not PATH.fullmatch(str(directory["path"])):
            yield f"managed_service_directories holds {directory['path']!r}", "absolute paths without spaces"
        if not MODE.fullmatch(str(directory.get("mode", "0750"))):
            yield (
                f"managed_service_directories gives {directory['path']} the mode {directory['mode']!r}",
                "three or four octal digits in quotes",
            )
    for file in values["files"]:
        if not PATH.fullmatch(str(file["path"])):
            yield f"managed_service_files holds {file['path']!r}", "absolute paths without spaces"
        if not MODE.fullmatch(str(file.get("mode", "0640"))):
            yield (
                f"managed_service_files gives {file['path']} the mode {file['mode']!r}",
                "three or four octal digits in quotes",
            )
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


class Texts:
    """The templates of units and environment files, to be filled with a service's values."""

    def __init__(self, directory: str, sandbox: Values) -> None:
        self._sandbox = sandbox
        self._environment = jinja2.Environment(  # noqa: S701 - it writes no HTML
            loader=jinja2.FileSystemLoader(directory),
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            keep_trailing_newline=True,
        )
        self._environment.filters["systemd_argument"] = systemd_argument
        self._environment.filters["systemd_environment_value"] = systemd_environment_value

    def unit(self, values: Values) -> str:
        """Give the text of a unit file."""
        return self._render("service.j2", values)

    def timer(self, values: Values) -> str:
        """Give the text of the timer that starts a unit."""
        return self._render("timer.j2", values)

    def environment(self, values: Values) -> str:
        """Give the text of an environment file; empty where the service needs none."""
        return self._render("environment.j2", values) if environment_file(values) else ""

    def profile(self, values: Values) -> str:
        """Give the text of a service's AppArmor profile: what its sandbox says, in AppArmor's words, and no program that it could have written."""

        def words(directive: str) -> list[str]:
            value = values["sandbox"].get(directive, {"value": self._sandbox.get(directive, "")})["value"]
            return [
                word for line in ([value] if isinstance(value, (str, int)) else value) for word in str(line).split()
            ]

        return self._render(
            "apparmor.j2",
            values,
            apparmor_made=[f"{place}/{each}" for name, place in MADE.items() for each in words(name)],
            apparmor_devices=[word for word in words("DeviceAllow") if word.startswith("/")],
            apparmor_families=[FAMILIES[word] for word in words("RestrictAddressFamilies") if word in FAMILIES],
            apparmor_capabilities=[word.removeprefix("CAP_").lower() for word in words("CapabilityBoundingSet")],
        )

    def _render(self, template: str, values: Values, **more: object) -> str:
        return self._environment.get_template(template).render(
            {f"managed_service_{name}": value for name, value in values.items()},
            environment_path=environment_path(values),
            environment_file=environment_file(values),
            environment_unit={name: value for name, value in values["environment"].items() if "%d" in str(value)},
            is_real_time=values["scheduling_policy"] in {"fifo", "rr"},
            sandbox=self._sandbox,
            apparmor_mode=values["apparmor_mode"],
            apparmor_profile=profile_name(values),
            apparmor_line=profile_line(values),
            **more,
        )


def unit_path(name: str) -> str:
    """Give the path of a unit's file."""
    return f"{UNITS}{name}.service"


def profile_name(values: Values) -> str:
    """Give the name of a service's AppArmor profile, which its file has as well."""
    return f"fleet-{values['name']}"


def profile_line(values: Values) -> str:
    """Give what the unit says of its profile: a service is not to fail for the lack of one that would only complain."""
    return {"off": "", "complain": f"-{profile_name(values)}", "enforce": profile_name(values)}[values["apparmor_mode"]]


def profile_path(values: Values) -> str:
    """Give the path of a service's AppArmor profile."""
    return f"{PROFILES}{profile_name(values)}"


def started_unit(values: Values) -> str:
    """Give the unit whose state the caller wants: the service, or the timer that starts it."""
    return f"{values['name']}.{'timer' if values['timer'] else 'service'}"


def environment_path(values: Values) -> str:
    """Give the path of a service's environment file."""
    return f"/etc/default/{values['name']}"


def environment_file(values: Values) -> dict[str, Any]:
    """Keep what the environment file says: systemd resolves %d, the credentials directory, in the unit only."""
    return {name: value for name, value in values["environment"].items() if "%d" not in str(value)}


def wanted_directories(values: Values) -> list[dict[str, str]]:
    """List the service's directories with all their attributes."""
    own = {"owner": values["user"], "group": values["group"], "mode": "0750"}
    return [{**own, **directory} for directory in values["directories"]]


def units_of(values: Values, recovery: Values) -> dict[str, Values]:
    """Give the values of each unit by its name, the service's own last; a pair's own has one beside it that brings it back."""
    own = {values["name"]: values}
    return {f"{values['name']}-recovery": {**values, **recovery}, **own} if recovery else own


def own_paths(values: Values, recovery: Values) -> list[str]:
    """List the files that are the service's alone, which go when it goes."""
    timer = [f"{UNITS}{started_unit(values)}"] if values["timer"] else []
    return [environment_path(values), *map(unit_path, units_of(values, recovery)), *timer]


def wanted_files(values: Values, texts: Texts, recovery: Values) -> list[dict[str, Any]]:
    """List the service's files with all their attributes: the caller's, the environment file, and its units, its own last."""
    own = {"owner": "root", "group": values["group"], "mode": "0640", "restarts": True, "validate": ""}
    if values["state"] == "absent":
        return []
    files = [{**own, **file} for file in values["files"]]
    if environment_file(values):
        text = texts.environment(values)
        files.append({**own, "path": environment_path(values), "group": "root", "content": text})
    if values["timer"]:
        timer = started_unit(values)
        files.append(
            {
                "path": f"{UNITS}{timer}",
                "content": texts.timer(values),
                "owner": "root",
                "group": "root",
                "mode": "0644",
                "restarts": True,
                "validate": "",
            }
        )
    if values["apparmor_mode"] != "off":
        files.append(
            {
                "path": profile_path(values),
                "content": texts.profile(values),
                "owner": "root",
                "group": "root",
                "mode": "0644",
                # The kernel takes a profile's new rules for what runs under it.
                "restarts": False,
                "validate": f"{PARSER} --skip-kernel-load --skip-cache %s",
            }
        )
    for name, unit in units_of(values, recovery).items():
        files.append(
            {
                "path": unit_path(name),
                "content": texts.unit(unit),
                "owner": "root",
                "group": "root",
                "mode": "0644",
                "restarts": unit is values,
                # The name after the colon is the unit's: the file under test has a temporary one.
                "validate": f"{VERIFY} %s:{name}.service",
            }
        )
    return files


def asked_of_host(
    values: Values, directories: list[dict[str, str]], files: list[dict[str, Any]], digests: Mapping[str, str]
) -> dict[str, Any]:
    """Give the module's arguments: what to look at on the host, without any file's content.

    `digests` has the sha256 (64 hex digits) of each file that comes from the controller, by its path there.
    """
    made = {file["path"] for file in files}
    reads = {file["path"]: reloads(file, values) for file in files if file["restarts"]}
    return {
        "unit": started_unit(values),
        "listeners": values["listeners"] if values["state"] == "started" else [],
        "ready_command": values["ready_command"],
        "reads": [*(path for path, again in reads.items() if not again), *values["reads"]],
        "reloads": [path for path, again in reads.items() if again],
        "credentials": [each["path"] for each in values["credentials"] if each["path"] not in made],
        "parents": parents_of(values["directories"]),
        "account": {name: values[name] for name in ("user", "group", "groups")},
        "directories": directories,
        "files": [
            {name: file[name] for name in ("path", "owner", "group", "mode")} | _expected(file, digests)
            for file in files
        ],
        "live": list(LIVE),
        "profile": profile_name(values),
    }


def _expected(file: Values, digests: Mapping[str, str]) -> dict[str, str]:
    if "source" in file:
        return {"sha256": digests[file["source"]]}
    if "content" not in file:
        return {}
    expected = {"sha256": hashlib.sha256(file["content"].encode()).hexdigest()}
    if file["path"].startswith(UNITS):
        expected["lasting_sha256"] = hashlib.sha256(lasting(file["content"]).encode()).hexdigest()
    return expected


def lasting(unit: str) -> str:
    """Give a unit's text without the lines that a running service follows."""
    return "".join(line for line in unit.splitlines(keepends=True) if line.partition("=")[0] not in LIVE)


def needs_profile(values: Values, facts: Values, differing: list[dict[str, Any]]) -> bool:
    """Say whether the host's AppArmor profile of a service is not as wanted, in its file or in the kernel."""
    if values["apparmor_mode"] == "off":
        return bool(facts["profile_mode"] or facts["has_profile"])
    is_same = all(file["path"] != profile_path(values) for file in differing)
    return not (is_same and facts["profile_mode"] == values["apparmor_mode"])


def consequences(values: Values, facts: Values, differing: list[dict[str, Any]]) -> dict[str, bool]:
    """Say what is to be done with the unit, once the files that differ are written.

    The program reads all of them when it starts, and never again, but for those that a reload makes it read. A first start is no
    restart. What runs without a profile gets one by a restart alone. Whether it was ready says nothing once a file differs: that may be the one which says what ready means.
    """
    wants_start = values["state"] == "started"
    runs = facts["active_state"] in RUNNING
    runs_on = wants_start and runs
    read = [file for file in differing if _is_read(file, values)]
    is_unconfined = values["apparmor_mode"] != "off" and not facts["profile_mode"]
    needs_restart = runs_on and (
        values["changed"]
        or is_unconfined
        or bool(facts["stale_reads"])
        or any(not reloads(file, values) for file in read)
    )
    needs_rereading = runs_on and not needs_restart and (bool(read) or bool(facts["stale_reloads"]))
    needs_reload = facts["needs_reload"] or any(file["path"].startswith(UNITS) for file in differing)
    is_enabled = facts["unit_file_state"] == "enabled"
    is_settled = (
        not (needs_restart or needs_reload or needs_rereading)
        and is_enabled == is_to_be_enabled(values)
        and (runs if wants_start else facts["active_state"] in STOPPED)
    )
    return {
        "needs_restart": needs_restart,
        "needs_rereading": needs_rereading,
        "needs_reload": needs_reload,
        "is_settled": is_settled,
        "needs_profile": needs_profile(values, facts, differing),
        "needs_nothing": is_settled
        and not differing
        and not needs_profile(values, facts, differing)
        and (facts["is_ready"] or not wants_start),
    }


def _is_read(file: Values, values: Values) -> bool:
    """Say whether what runs has read a file: a timer reads its own, and its service reads all of them at its next start."""
    if values["timer"]:
        return bool(file["path"] == f"{UNITS}{started_unit(values)}")
    return bool(file["restarts"])


def reloads(file: Values, values: Values) -> bool:
    """Say whether a reload makes the running service read a file again: its unit and its environment are systemd's to read."""
    return bool(values["reload_command"]) and file["path"] in {own["path"] for own in values["files"]}


def is_to_be_enabled(values: Values) -> bool:
    """Say whether the unit is to start at boot."""
    return values["state"] == "started" and bool(values["wanted_by"] or values["timer"])


class ActionModule(ActionBase):  # type: ignore[misc]
    """What Ansible runs in the module's place."""

    _VALID_ARGS = frozenset(
        {"values", "specs", "sandbox", "templates", "recovery", "kernel_apparmor", "needs_credentials"}
    )
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Refuse the values or the host with AnsibleActionFail; else say what differs and what follows from it."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        given, variables = self._task.args, task_vars or {}
        values = given["values"]
        if values["apparmor_mode"] != "off" and not self._kernel_has_apparmor(given["kernel_apparmor"]):
            values = {**values, "apparmor_mode": "off"}
        self._refuse(type_problems(values, Path(given["specs"])) or value_problems(values))
        directories = wanted_directories(values)
        files = wanted_files(values, Texts(given["templates"], given["sandbox"]), given["recovery"])
        digests = {file["source"]: self._digest(file) for file in files if "source" in file}
        facts = self._execute_module(
            module_name="unit_facts",
            module_args=asked_of_host(values, directories, files, digests),
            task_vars=variables,
        )
        if facts.get("failed"):
            return {**result, **facts}
        if values["state"] == "started":
            host = variables.get("inventory_hostname", "the host")
            self._refuse(host_problems(facts, values, host, credentials=given["needs_credentials"]))
        differs = facts.pop("differs")
        live_only = facts.pop("live_only")
        differing = [
            {**file, "restarts": file["restarts"] and file["path"] not in live_only}
            for file in files
            if file["path"] in differs["files"]
        ]
        return {
            **result,
            **facts,
            "groups": differs["groups"],
            "user": differs["user"],
            "directories": [directory for directory in directories if directory["path"] in differs["directories"]],
            "files": [
                file for file in differing if file["path"] not in {unit_path(values["name"]), profile_path(values)}
            ],
            "profile": [file for file in differing if file["path"] == profile_path(values)],
            "profile_path": profile_path(values),
            "apparmor_mode": values["apparmor_mode"],
            "unit": [file for file in differing if file["path"] == unit_path(values["name"])],
            "unit_read_at": live_only.get(unit_path(values["name"]), ""),
            "own_paths": own_paths(values, given["recovery"]),
            "starts": started_unit(values),
            "is_to_be_enabled": is_to_be_enabled(values),
            **consequences(values, facts, differing),
        }

    def _kernel_has_apparmor(self, known: str) -> bool:
        """Say whether the host's kernel has AppArmor, by the play's facts, or by the host's own word where there are none."""
        if known == "unknown":
            return bool(self._low_level_execute_command(f"test -e {APPARMOR}")["rc"] == 0)
        return known == "enabled"

    def _digest(self, file: Values) -> str:
        """Give the sha256 of a file on the controller, of what is inside where it is a vault."""
        try:
            readable = self._loader.get_real_file(file["source"], decrypt=True)
            return hashlib.sha256(Path(readable).read_bytes()).hexdigest()
        except (OSError, AnsibleError) as error:
            reason = error.strerror if isinstance(error, OSError) else error.message.splitlines()[0].rstrip(".")
            raise AnsibleActionFail(
                f"The source {file['source']} of {file['path']} (managed_service_files) cannot be read on the controller "
                f"({reason}); allowed: a readable file."
            ) from None  # Ansible would add the cause's lines to the sentence.
        finally:
            self._loader.cleanup_all_tmp_files()

    @staticmethod
    def _refuse(problems: list[str]) -> None:
        if problems:
            raise AnsibleActionFail(" ".join(problems))
