"""What one service wants, held against its host; an action for Ansible that asks the host by the module unit_facts.

One task instead of a dozen: the values are read once, refused with a sentence where they cannot be carried out (plugin_utils/service_values.py),
rendered (plugin_utils/service_files.py), and compared on the host in one call. What the role's further tasks do follows from what this returns.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase

Values = Mapping[str, Any]

# What systemd gives a running service as soon as it has read the unit again; the rest of a unit needs a restart.
LIVE = ("CPUWeight", "IOWeight", "MemoryHigh", "MemoryMax")
RUNNING = {"active", "activating", "reloading"}
STOPPED = {"inactive", "failed"}
APPARMOR = "/sys/kernel/security/apparmor"


def neighbour(name: str) -> ModuleType:
    """Import a file of the role's plugin_utils: Ansible loads an action by its path, as no part of a package."""
    path = Path(__file__).resolve().parent.parent / "plugin_utils" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"managed_service_{name}", path)
    if spec is None or spec.loader is None:
        raise AnsibleError(f"{path} is not there: the role managed_service is not whole.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


checks = neighbour("service_values")
service_files = neighbour("service_files")


def asked_of_host(
    values: Values, directories: list[dict[str, str]], files: list[dict[str, Any]], digests: Mapping[str, str]
) -> dict[str, Any]:
    """Give the module's arguments: what to look at on the host, without any file's content.

    `digests` has the sha256 (64 hex digits) of each file that comes from the controller, by its path there.
    """
    made = {file["path"] for file in files}
    reads = {file["path"]: reloads(file, values) for file in files if file["restarts"]}
    return {
        "unit": service_files.started_unit(values),
        "listeners": values["listeners"] if values["state"] == "started" else [],
        "ready_command": values["ready_command"],
        "reads": [*(path for path, again in reads.items() if not again), *values["reads"]],
        "reloads": [path for path, again in reads.items() if again],
        "credentials": [each["path"] for each in values["credentials"] if each["path"] not in made],
        "parents": service_files.parents_of(values["directories"]),
        "account": {name: values[name] for name in ("user", "group", "groups")},
        "directories": directories,
        "files": [
            {name: file[name] for name in ("path", "owner", "group", "mode")} | _expected(file, digests)
            for file in files
        ],
        "live": list(LIVE),
        "profile": service_files.profile_name(values),
    }


def _expected(file: Values, digests: Mapping[str, str]) -> dict[str, str]:
    if "source" in file:
        return {"sha256": digests[file["source"]]}
    if "content" not in file:
        return {}
    expected = {"sha256": hashlib.sha256(file["content"].encode()).hexdigest()}
    if file["path"].startswith(service_files.UNITS):
        expected["lasting_sha256"] = hashlib.sha256(lasting(file["content"]).encode()).hexdigest()
    return expected


def lasting(unit: str) -> str:
    """Give a unit's text without the lines that a running service follows."""
    return "".join(line for line in unit.splitlines(keepends=True) if line.partition("=")[0] not in LIVE)


def needs_profile(values: Values, facts: Values, differing: list[dict[str, Any]]) -> bool:
    """Say whether the host's AppArmor profile of a service is not as wanted, in its file or in the kernel."""
    if values["apparmor_mode"] == "off":
        return bool(facts["profile_mode"] or facts["has_profile"])
    is_same = all(file["path"] != service_files.profile_path(values) for file in differing)
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
    needs_reload = facts["needs_reload"] or any(file["path"].startswith(service_files.UNITS) for file in differing)
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
        return bool(file["path"] == f"{service_files.UNITS}{service_files.started_unit(values)}")
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
        self._refuse(checks.type_problems(values, Path(given["specs"])) or checks.value_problems(values))
        directories = service_files.wanted_directories(values)
        files = service_files.wanted_files(
            values, service_files.Texts(given["templates"], given["sandbox"]), given["recovery"]
        )
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
            self._refuse(checks.host_problems(facts, values, host, credentials=given["needs_credentials"]))
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
                file
                for file in differing
                if file["path"] not in {service_files.unit_path(values["name"]), service_files.profile_path(values)}
            ],
            "profile": [file for file in differing if file["path"] == service_files.profile_path(values)],
            "profile_path": service_files.profile_path(values),
            "apparmor_mode": values["apparmor_mode"],
            "unit": [file for file in differing if file["path"] == service_files.unit_path(values["name"])],
            "unit_read_at": live_only.get(service_files.unit_path(values["name"]), ""),
            "own_paths": service_files.own_paths(values, given["recovery"]),
            "starts": service_files.started_unit(values),
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
