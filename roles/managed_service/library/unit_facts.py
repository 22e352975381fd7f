"""Read what a host says about one systemd unit and what it stands on; an Ansible module."""

from __future__ import annotations

import contextlib
import grp
import hashlib
import os
import pwd
import stat
import subprocess
import time
from pathlib import Path
from typing import Any

from ansible.module_utils import socket_holders
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: unit_facts
short_description: What a host says about one systemd unit and what it stands on
description:
  - Reads, and changes nothing; check mode makes no difference.
author: mev-infrastructure maintainers
options:
  unit:
    description: The unit's name.
    type: str
    required: true
  listeners:
    description: Sockets (address, port, protocol) that the unit is to bind.
    type: list
    elements: dict
    default: []
  ready_command:
    description: Program and arguments that exit 0 while the unit is ready; an active unit without one is.
    type: list
    elements: str
    default: []
  reads:
    description: Paths of files and symlinks that the unit reads when it starts.
    type: list
    elements: path
    default: []
  reloads:
    description: Paths of files and symlinks that the unit reads when it starts, and again at each reload.
    type: list
    elements: path
    default: []
  credentials:
    description: Paths of files that must be there.
    type: list
    elements: path
    default: []
  parents:
    description: Paths of directories that may be missing.
    type: list
    elements: path
    default: []
  account:
    description: >-
      The wanted system account (user, its primary group, and groups that it is to be in as well), without login or home.
    type: dict
    default: {}
  directories:
    description: Wanted directories (path, owner, group, mode).
    type: list
    elements: dict
    default: []
  files:
    description: >-
      Wanted files (path, owner, group, mode, sha256 of the content; without it, any content will do; of a unit also lasting_sha256, of its
      lines without those of C(live)).
    type: list
    elements: dict
    default: []
  live:
    description: Names of directives that a running unit follows once systemd has read them.
    type: list
    elements: str
    default: []
  profile:
    description: Name of the unit's AppArmor profile, which its file in C(/etc/apparmor.d) has as well.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: The unit's state is known
  unit_facts:
    unit: erigon.service
    listeners:
      - {address: 127.0.0.1, port: 8545, protocol: tcp}
"""

RETURN = r"""
exists:
  description: Whether systemd knows the unit.
  type: bool
  returned: always
active_state:
  description: systemd's ActiveState.
  type: str
  returned: always
unit_file_state:
  description: systemd's UnitFileState, such as enabled; empty where there is no unit file.
  type: str
  returned: always
needs_reload:
  description: Whether systemd has yet to read the unit's present file.
  type: bool
  returned: always
run_id:
  description: The id of the unit's present run; empty where there is none.
  type: str
  returned: always
is_ready:
  description: Whether the unit is active and its C(ready_command) said within a few seconds that it is ready.
  type: bool
  returned: always
stale_reads:
  description: Those of C(reads) that have changed since the unit's process started.
  type: list
  elements: str
  returned: always
stale_reloads:
  description: Those of C(reloads) that have changed since systemd last started or reloaded the unit.
  type: list
  elements: str
  returned: always
holders:
  description: Those of C(listeners) that a process of another unit holds, each with the holder in words.
  type: list
  elements: dict
  returned: always
missing_credentials:
  description: Those of C(credentials) that are not there.
  type: list
  elements: str
  returned: always
missing_parents:
  description: Those of C(parents) that are not there.
  type: list
  elements: str
  returned: always
differs:
  description: >-
    What is not as wanted: names of missing C(groups), whether the C(user) differs, paths of C(directories) and of C(files).
  type: dict
  returned: always
live_only:
  description: >-
    Those of C(files) that differ in nothing but lines of C(live), each with the time of its last change, as the module C(file) takes it.
  type: dict
  returned: always
has_parser:
  description: Whether AppArmor's compiler of profiles is installed.
  type: bool
  returned: always
has_profile:
  description: Whether the file of C(profile) is there.
  type: bool
  returned: always
profile_mode:
  description: How the kernel holds C(profile), complain or enforce; empty where it does not have it.
  type: str
  returned: always
shares_mounts:
  description: Whether mounts below C(/run) reach systemd's own namespace, as those of credentials must; many containers' do not.
  type: bool
  returned: always
online_cpus:
  description: The host's CPUs, as the kernel lists them.
  type: str
  returned: always
online_nodes:
  description: The host's NUMA nodes, as the kernel lists them.
  type: str
  returned: always
"""

PROPERTIES = (
    "LoadState",
    "ActiveState",
    "UnitFileState",
    "InvocationID",
    "NeedDaemonReload",
    "MainPID",
    "ExecMainStartTimestampMonotonic",
    "StateChangeTimestampMonotonic",
)
PROC = Path("/proc")
READY_SECONDS = 3
APPARMOR = Path("/sys/kernel/security/apparmor/profiles")


def show(unit: str) -> dict[str, str]:
    """Ask systemd for the unit's properties."""
    output = subprocess.run(
        ["systemctl", "show", f"--property={','.join(PROPERTIES)}", unit],
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    ).stdout
    return dict(line.split("=", 1) for line in output.splitlines() if "=" in line)


def is_ready(command: list[str], properties: dict[str, str]) -> bool:
    """Ask once, and briefly: waiting is unit_ready's work."""
    if properties.get("ActiveState") != "active":
        return False
    if not command:
        return True
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, stdin=subprocess.DEVNULL, timeout=READY_SECONDS
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0


def stale(paths: list[str], properties: dict[str, str], since: str = "ExecMainStartTimestampMonotonic") -> list[str]:
    """Name the paths that changed after a moment of the unit's run, such as its main process's start, which `since` names."""
    moment_us = int(properties.get(since) or 0)
    if properties.get("MainPID", "0") == "0" or not moment_us:
        return []
    moment = time.time() - time.clock_gettime(time.CLOCK_MONOTONIC) + moment_us / 1e6
    found = []
    for path in paths:
        with contextlib.suppress(OSError):
            if os.lstat(path).st_mtime > moment:
                found.append(path)
    return found


def read_list(path: str) -> str:
    """Read one of the kernel's lists; a host without NUMA has node 0 only."""
    try:
        return Path(path).read_text().strip()
    except OSError:
        return "0"


def shares_mounts(mountinfo: str) -> bool:
    """Say whether the mount that holds /run is shared, from the text of a mountinfo file; see proc(5)."""
    shared = {}
    for line in mountinfo.splitlines():
        fields, _, _ = line.partition(" - ")
        columns = fields.split()
        shared[columns[4]] = any(option.startswith("shared:") for option in columns[6:])
    return shared.get("/run", shared.get("/", False))


def profile_mode(name: str, profiles: Path = APPARMOR) -> str:
    """Say in which mode the kernel has an AppArmor profile; empty where it has none of that name, or no AppArmor."""
    with contextlib.suppress(OSError):
        for line in profiles.read_text().splitlines():
            known, _, mode = line.rpartition(" ")
            if known == name:
                return mode.strip("()")
    return ""


def missing_groups(account: dict[str, Any]) -> list[str]:
    """Name the account's groups that the host lacks."""
    return [name for name in _groups(account) if _group_id(name) is None]


def user_differs(account: dict[str, Any]) -> bool:
    """Say whether the user is missing, can log in, has a home or lacks one of its groups."""
    if not account:
        return False
    try:
        entry = pwd.getpwnam(account["user"])
    except KeyError:
        return True
    has = {group.gr_name for group in grp.getgrall() if entry.pw_name in group.gr_mem}
    return (
        entry.pw_gid != _group_id(account["group"])
        or entry.pw_dir != "/nonexistent"
        or entry.pw_shell != "/usr/sbin/nologin"
        or not has.issuperset(account["groups"])
    )


def _groups(account: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys([account["group"], *account["groups"]])) if account else []


def _group_id(name: str) -> int | None:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def _user_id(name: str) -> int | None:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def _is_as_wanted(found: os.stat_result, wanted: dict[str, Any]) -> bool:
    return (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (
        _user_id(wanted["owner"]),
        _group_id(wanted["group"]),
        int(wanted["mode"], 8),
    )


def directory_differs(wanted: dict[str, Any]) -> bool:
    """Say whether a directory is missing or has another owner, group or mode."""
    try:
        found = Path(wanted["path"]).stat()
    except OSError:
        return True
    return not (stat.S_ISDIR(found.st_mode) and _is_as_wanted(found, wanted))


def file_differs(wanted: dict[str, Any]) -> bool:
    """Say whether a file is missing, a symlink, or has another content, owner, group or mode."""
    path = Path(wanted["path"])
    try:
        found = path.lstat()
        if not (stat.S_ISREG(found.st_mode) and _is_as_wanted(found, wanted)):
            return True
        return bool(wanted.get("sha256")) and hashlib.sha256(path.read_bytes()).hexdigest() != wanted["sha256"]
    except OSError:
        return True


def live_only(files: list[dict[str, Any]], live: list[str]) -> dict[str, str]:
    """Name the units whose other lines are as wanted, each with the time (of this host's clock, whole seconds) of its last change."""
    found = {}
    for wanted in files:
        if "lasting_sha256" not in wanted:
            continue
        path = Path(wanted["path"])
        with contextlib.suppress(OSError, UnicodeDecodeError):
            lines = path.read_text().splitlines(keepends=True)
            text = "".join(line for line in lines if line.partition("=")[0] not in live)
            if hashlib.sha256(text.encode()).hexdigest() == wanted["lasting_sha256"] and file_differs(wanted):
                found[wanted["path"]] = time.strftime("%Y%m%d%H%M.%S", time.localtime(path.stat().st_mtime))
    return found


def main() -> None:
    """Run as Ansible runs a module."""
    module = AnsibleModule(
        argument_spec={
            "unit": {"type": "str", "required": True},
            "listeners": {"type": "list", "elements": "dict", "default": []},
            "ready_command": {"type": "list", "elements": "str", "default": []},
            "reads": {"type": "list", "elements": "path", "default": []},
            "reloads": {"type": "list", "elements": "path", "default": []},
            "credentials": {"type": "list", "elements": "path", "default": []},
            "parents": {"type": "list", "elements": "path", "default": []},
            "account": {"type": "dict", "default": {}},
            "directories": {"type": "list", "elements": "dict", "default": []},
            "files": {"type": "list", "elements": "dict", "default": []},
            "live": {"type": "list", "elements": "str", "default": []},
            "profile": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    given = module.params
    try:
        properties = show(given["unit"])
    except (OSError, subprocess.SubprocessError) as error:
        module.fail_json(msg=f"systemd does not answer for {given['unit']}: {error}")
    holders = [socket_holders.holder_of(listener, given["unit"]) for listener in given["listeners"]]
    module.exit_json(
        changed=False,
        exists=properties.get("LoadState") not in {"not-found", None},
        active_state=properties.get("ActiveState", ""),
        unit_file_state=properties.get("UnitFileState", ""),
        run_id=properties.get("InvocationID", ""),
        needs_reload=properties.get("NeedDaemonReload") == "yes",
        is_ready=is_ready(given["ready_command"], properties),
        stale_reads=stale(given["reads"], properties),
        # A reload takes the unit through another state and back.
        stale_reloads=stale(given["reloads"], properties, "StateChangeTimestampMonotonic"),
        holders=[holder for holder in holders if holder],
        missing_credentials=[path for path in given["credentials"] if not Path(path).is_file()],
        missing_parents=[path for path in given["parents"] if not Path(path).exists()],
        differs={
            "groups": missing_groups(given["account"]),
            "user": user_differs(given["account"]),
            "directories": [wanted["path"] for wanted in given["directories"] if directory_differs(wanted)],
            "files": [wanted["path"] for wanted in given["files"] if file_differs(wanted)],
        },
        live_only=live_only(given["files"], given["live"]),
        has_parser=Path("/usr/sbin/apparmor_parser").exists(),
        has_profile=bool(given["profile"]) and Path("/etc/apparmor.d", given["profile"]).exists(),
        profile_mode=profile_mode(given["profile"]),
        shares_mounts=shares_mounts((PROC / "1" / "mountinfo").read_text()),
        online_cpus=read_list("/sys/devices/system/cpu/online"),
        online_nodes=read_list("/sys/devices/system/node/online"),
    )


if __name__ == "__main__":
    main()
