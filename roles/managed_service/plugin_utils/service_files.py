"""The files and directories that a service wants on its host, from its values: its units, its environment, its AppArmor profile; no host is asked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

import jinja2

Values = Mapping[str, Any]

UNITS = "/etc/systemd/system/"
VERIFY = "systemd-analyze verify --man=no --recursive-errors=no"

PROFILES = "/etc/apparmor.d/"
PARSER = "/usr/sbin/apparmor_parser"
# systemd's names of what AppArmor knows by others, and where it makes what a unit names.
FAMILIES = {"AF_INET": "inet", "AF_INET6": "inet6", "AF_NETLINK": "netlink", "AF_PACKET": "packet"}
MADE = {
    "RuntimeDirectory": "/run",
    "StateDirectory": "/var/lib",
    "CacheDirectory": "/var/cache",
    "LogsDirectory": "/var/log",
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
