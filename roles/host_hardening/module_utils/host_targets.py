"""What a control may want of a host, one kind of thing at a time: how it is read, held against what is wanted, and changed."""

from __future__ import annotations

import contextlib
import grp
import json
import os
import pwd
import re
import shlex
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

UNITS = "/etc/systemd/system"
SYSCTLS = Path("/proc/sys")
MOUNT_MARK = "# Ansible managed: host_hardening"
State = Any


class ControlError(Exception):
    """One sentence: what could not be changed, and what the host says."""


class Target(NamedTuple):
    """One thing on the host that a control wants in some state."""

    kind: str
    key: str
    wanted: State
    validate: str = ""


def run(*command: str) -> tuple[int, str]:
    """Run a command and give its status and what it prints."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    except (OSError, subprocess.TimeoutExpired) as error:
        return 127, str(error)
    return done.returncode, f"{done.stdout}{done.stderr}".strip()


def need(*command: str) -> None:
    """Run a command that must succeed."""
    status, output = run(*command)
    if status:
        raise ControlError(f"`{shlex.join(command)}` failed: {' '.join(output.split())[-400:] or f'status {status}'}")


def replace(path: Path, content: str, mode: int, owner: int = 0, group: int = 0) -> None:
    """Write a file whole or not at all; links are followed."""
    real = Path(os.path.realpath(path))
    real.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{real.name}.", dir=real.parent)
    with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(content)
        file.flush()
        os.fchmod(file.fileno(), mode)
        os.fchown(file.fileno(), owner, group)
        os.fsync(file.fileno())
    Path(name).replace(real)


def text_of(path: str | Path) -> str | None:
    """Read a text file; None if there is none."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="surrogateescape")
    except (FileNotFoundError, NotADirectoryError):
        return None


def permissions(path: str) -> State:
    """Give a path's mode, owner and group by name."""
    try:
        found = Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    owner, group = str(found.st_uid), str(found.st_gid)
    with contextlib.suppress(KeyError):
        owner = pwd.getpwuid(found.st_uid).pw_name
    with contextlib.suppress(KeyError):
        group = grp.getgrgid(found.st_gid).gr_name
    return {"mode": f"{found.st_mode & 0o7777:04o}", "owner": owner, "group": group}


def ids(state: State) -> tuple[int, int]:
    """Give the numbers of an owner and a group."""
    owner, group = state["owner"], state["group"]
    try:
        return (
            int(owner) if owner.isdigit() else pwd.getpwnam(owner).pw_uid,
            int(group) if group.isdigit() else grp.getgrnam(group).gr_gid,
        )
    except KeyError as error:
        raise ControlError(f"there is no such account: {error.args[0]}") from error


def read_file(path: str) -> State:
    """A file's content and permissions."""
    content = text_of(path)
    return None if content is None else {"content": content, **permissions(path)}


def write_file(path: str, state: State) -> None:
    """Write a file, or take it away where there is to be none."""
    if state is None:
        Path(path).unlink(missing_ok=True)
    else:
        replace(Path(path), state["content"], int(state["mode"], 8), *ids(state))


def active(line: str, key: str) -> bool:
    """Whether a line sets a key; a comment does not."""
    return re.match(rf"\s*{re.escape(key)}(\s|=|$)", line) is not None


def read_setting(where: str) -> State:
    """The lines that set a key in a file of one key and value a line; None where there is no such file."""
    path, _, key = where.partition("|")
    text = text_of(path)
    return None if text is None else [line for line in text.splitlines() if active(line, key)]


def write_setting(where: str, lines: State) -> None:
    """Put lines in the place of those that set a key now, or at the end of the file."""
    path, _, key = where.partition("|")
    kept: list[str] = []
    rest = list(lines)
    for line in (text_of(path) or "").splitlines():
        if active(line, key):
            kept += rest
            rest = []
        else:
            kept.append(line)
    found = permissions(path)
    replace(Path(path), "\n".join([*kept, *rest]) + "\n", int(found["mode"], 8), *ids(found))


def sysctl_file(key: str) -> Path:
    """The kernel's file for a key, written as sysctl(8) has it: where a slash comes first, dots are an interface's own."""
    first = re.search(r"[./]", key)
    return SYSCTLS / (key if first and first[0] == "/" else key.translate(str.maketrans("./", "/.")))


def sysctl_keys(pattern: str) -> list[str]:
    """The keys of this kernel that a pattern with a star for interfaces names; a key without a star is itself, there or not."""
    if "*" not in pattern:
        return [pattern]
    found = [str(path.relative_to(SYSCTLS)) for path in sorted(SYSCTLS.glob(pattern.replace(".", "/")))]
    return [key if "." in key else key.replace("/", ".") for key in found]


def read_sysctl(key: str) -> State:
    """A value as the kernel has it; None where it has no such key."""
    text = text_of(sysctl_file(key))
    return None if text is None else " ".join(text.split())


def write_sysctl(key: str, value: State) -> None:
    """Give the kernel a value."""
    try:
        sysctl_file(key).write_text(value)
    except OSError as error:
        raise ControlError(f"the kernel refuses {key}={value}: {error.strerror}") from error


def write_mode(path: str, state: State) -> None:
    """Set mode, owner and group of what is there."""
    if Path(path).exists():
        os.chown(path, *ids(state))
        Path(path).chmod(int(state["mode"], 8))


def read_unit(name: str) -> State:
    """Whether systemd starts a unit at boot, and whether it runs; None where there is no such unit."""
    _, output = run("systemctl", "show", "--property=LoadState,UnitFileState,ActiveState", name)
    shown = dict(line.split("=", 1) for line in output.splitlines() if "=" in line)
    if shown.get("LoadState", "not-found") == "not-found":
        return None
    boot = "masked" if shown["LoadState"] == "masked" else shown.get("UnitFileState") or "static"
    return {"boot": boot, "active": shown.get("ActiveState") in ("active", "activating", "reloading")}


def write_unit(name: str, state: State) -> None:
    """Have a unit as a state says, masks and links first."""
    now = read_unit(name)
    if now is None and state["active"]:
        raise ControlError(f"there is no unit {name}")
    if now is None:
        return
    if state["boot"] == "masked":
        need("systemctl", "mask", "--now", name)
        return
    if now["boot"] == "masked":
        need("systemctl", "unmask", name)
    if state["boot"] in ("enabled", "disabled"):
        need("systemctl", "enable" if state["boot"] == "enabled" else "disable", name)
    if state["active"] != now["active"]:
        need("systemctl", "start" if state["active"] else "stop", name)


def installed() -> set[str]:
    """The packages that are installed."""
    status, output = run("dpkg-query", "--show", "--showformat", "${db:Status-Status} ${Package}\\n")
    if status:
        raise ControlError(f"dpkg-query does not say what is installed: {output}")
    return {line.split()[1] for line in output.splitlines() if line.startswith("installed ")}


KINDS: dict[str, tuple[Callable[[str], State], Callable[[str, State], None]]] = {
    "file": (read_file, write_file),
    "setting": (read_setting, write_setting),
    "sysctl": (read_sysctl, write_sysctl),
    "mode": (permissions, write_mode),
    "unit": (read_unit, write_unit),
}
UNIT_STATES = {
    "enabled": {"boot": "enabled", "active": True},
    "disabled": {"boot": "disabled", "active": False},
    "masked": {"boot": "masked", "active": False},
}


def mount_unit(path: str, options: list[str]) -> str:
    """Give the unit that binds a directory to itself with options; what is in it stays, and stays open."""
    return (
        f"{MOUNT_MARK}\n[Unit]\nDescription={path}, bound with {','.join(options)}\nBefore=local-fs.target\n\n"
        f"[Mount]\nWhat={path}\nWhere={path}\nType=none\nOptions=bind,{','.join(options)}\n"
        "# A process that has a file open there does not hold up the way back.\nLazyUnmount=yes\n\n[Install]\nWantedBy=local-fs.target\n"
    )


def mount_options(table: str, path: str) -> set[str] | None:
    """Give the options of the mount at a path from /proc/self/mountinfo; None where nothing is mounted at it."""
    found = None
    for line in table.splitlines():
        fields = line.split()
        if fields[4] == path:
            found = set(fields[5].split(","))
    return found


def mount_targets(entry: dict[str, Any]) -> tuple[list[Target], list[str]]:
    """Give what a mount takes, or what is wrong where the directory is a file system of the operator's."""
    path, options = entry["path"], list(entry["options"])
    name = f"{path.strip('/').replace('/', '-')}.mount"
    unit = f"{UNITS}/{name}"
    there = mount_options(text_of("/proc/self/mountinfo") or "", path)
    if there is not None and not (text_of(unit) or "").startswith(MOUNT_MARK):
        missing = [option for option in options if option not in there]
        wrong = (
            f"{path} is a file system of its own without {','.join(missing)}; its options are set where it is mounted"
        )
        return [], [wrong] if missing else []
    return [
        Target("file", unit, {"content": mount_unit(path, options), "mode": "0644", "owner": "root", "group": "root"}),
        Target("unit", name, UNIT_STATES["enabled"]),
    ], []


def targets_of(control: dict[str, Any]) -> tuple[list[Target], list[str]]:
    """Give all that a control wants, in the order in which it is to come, and what it cannot have here."""
    found: list[Target] = []
    wrong: list[str] = []
    for entry in control.get("files") or []:
        wanted = {"content": entry["content"], "mode": entry.get("mode", "0644"), "owner": "root", "group": "root"}
        found.append(Target("file", entry["path"], wanted, entry.get("validate", "")))
    found += [
        Target("setting", f"{entry['path']}|{entry['key']}", [f"{entry['key']}\t{entry['value']}"])
        for entry in control.get("settings") or []
    ]
    wanted_keys = {
        key: str(value) for pattern, value in (control.get("sysctls") or {}).items() for key in sysctl_keys(pattern)
    }
    found += [Target("sysctl", key, value) for key, value in wanted_keys.items()]
    for entry in control.get("modes") or []:
        for path in sorted({os.path.realpath(match) for match in Path("/").glob(entry["path"].lstrip("/"))}):
            there = permissions(path)
            if there:
                found.append(Target("mode", path, {key: entry.get(key) or there[key] for key in there}))
    for entry in control.get("mounts") or []:
        mounts, problems = mount_targets(entry)
        found += mounts
        wrong += problems
    for entry in control.get("proofs") or []:
        text = text_of(entry["path"]) or ""
        if entry["has"] not in text or ("lacks" in entry and entry["lacks"] in text):
            wrong.append(entry["otherwise"])
    for entry in control.get("units") or []:
        found.append(Target("unit", entry["name"], UNIT_STATES[entry["state"]]))
    return found, wrong


def is_held(target: Target, now: State) -> bool:
    """Whether a target is as it is wanted, or is nothing that this host has."""
    if now is None:
        return target.kind != "file" and not (target.kind == "unit" and target.wanted["active"])
    if target.kind == "setting":
        return [line.split() for line in now] == [line.split() for line in target.wanted]
    if target.kind == "unit" and target.wanted["boot"] == "disabled":
        return now["boot"] != "enabled" and not now["active"]
    return bool(now == target.wanted)


def validated(target: Target) -> None:
    """Show a new file to the program that will read it, where that is installed."""
    if not target.validate:
        return
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / Path(target.key).name
        path.write_text(target.wanted["content"])
        command = [word.replace("%s", str(path)) for word in shlex.split(target.validate)]
        if not Path(command[0]).exists():
            return
        status, output = run(*command)
        if status:
            raise ControlError(
                f"{command[0]} refuses {target.key}: {' '.join(output.replace(str(path), target.key).split())}"
            )


def shown(state: State) -> str:
    """Give a state as text for a difference."""
    if state is None:
        return ""
    if isinstance(state, dict) and "content" in state:
        return f"mode {state['mode']} {state['owner']}:{state['group']}\n{state['content']}"
    return state if isinstance(state, str) else json.dumps(state)
