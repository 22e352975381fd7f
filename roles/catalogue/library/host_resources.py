"""Read what a host has for services to use: memory, processors, file systems; an Ansible module."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: host_resources
short_description: What a host has for services to use
description:
  - Reads, and changes nothing; check mode makes no difference.
author: mev-infrastructure maintainers
options:
  data:
    description: Where data is to stand (path), and how much of it (need_gib); the path need not be there yet.
    type: list
    elements: dict
    default: []
"""

EXAMPLES = r"""
- name: The host's resources are known
  host_resources:
    data:
      - {path: /data/blockchain/base, need_gib: 1800}
"""

RETURN = r"""
memory_mib:
  description: The memory that systemd counts percentages of; in a container with a limit, that limit.
  type: int
  returned: always
cpus:
  description: The CPUs that are online, as the kernel lists them.
  type: str
  returned: always
nodes:
  description: The NUMA nodes that are online, as the kernel lists them.
  type: str
  returned: always
file_systems:
  description: >-
    Each file system that C(data) is to stand on, with its C(mount), its C(free_bytes) and, by path, what the data there takes already
    (C(had_bytes)); that is counted no further than it takes to know that there is enough.
  type: list
  elements: dict
  returned: always
"""

GIB = 2**30
MEMORY = Path("/proc/meminfo")
CONTROL_GROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def memory_mib(meminfo: str, limit: str) -> int:
    """Give the memory in MiB from the text of /proc/meminfo and of the root control group's limit, which may be 'max' or empty."""
    total = next(int(line.split()[1]) for line in meminfo.splitlines() if line.startswith("MemTotal:")) // 1024
    return min(total, int(limit) // 2**20) if limit.isdigit() else total


def existing(path: Path) -> Path:
    """Give the nearest directory that is there, links resolved; the root if nothing else is."""
    real = Path(os.path.realpath(path))
    return next(directory for directory in (real, *real.parents) if directory.is_dir())


def mount_of(directory: Path) -> Path:
    """Give the mount point above an existing directory, or the directory itself."""
    return next(each for each in (directory, *directory.parents) if each.is_mount() or each == each.parent)


def used_bytes(path: Path, enough: int) -> int:
    """Give the bytes that the files below a path take on its file system, counted until there are `enough`."""
    if not path.is_dir():
        return 0
    if path.is_mount():
        figures = os.statvfs(path)
        return (figures.f_blocks - figures.f_bfree) * figures.f_frsize
    total, linked, device = 0, set(), path.stat().st_dev
    for found in _files(path, device):
        if total >= enough:
            break
        if found.st_nlink > 1:
            if found.st_ino in linked:
                continue
            linked.add(found.st_ino)
        total += found.st_blocks * 512
    return total


def _files(path: Path, device: int) -> Iterator[os.stat_result]:
    """Walk a tree without following links or leaving its file system; what goes away meanwhile is left out."""
    waiting = [str(path)]
    while waiting:
        try:
            entries = list(os.scandir(waiting.pop()))
        except OSError:
            continue
        for entry in entries:
            try:
                found = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            if entry.is_dir(follow_symlinks=False):
                if found.st_dev == device:
                    waiting.append(entry.path)
            elif found.st_dev == device:
                yield found


def file_systems(data: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Look at each file system once, and into the data only where the free space alone does not do."""
    groups: dict[int, list[tuple[Path, dict[str, Any]]]] = {}
    for entry in data:
        directory = existing(Path(entry["path"]))
        groups.setdefault(directory.stat().st_dev, []).append((directory, entry))
    found = []
    for group in groups.values():
        directory = group[0][0]
        figures = os.statvfs(directory)
        free = figures.f_bavail * figures.f_frsize
        missing = sum(int(entry["need_gib"]) for _, entry in group) * GIB - free
        had = {}
        for _, entry in group:
            enough = min(max(missing, 0), int(entry["need_gib"]) * GIB)
            had[entry["path"]] = used_bytes(Path(os.path.realpath(entry["path"])), enough) if enough else 0
            missing -= min(had[entry["path"]], enough)
        found.append({"mount": str(mount_of(directory)), "free_bytes": free, "had_bytes": had})
    return found


def text_of(path: Path, otherwise: str) -> str:
    """Read one of the kernel's small files."""
    try:
        return path.read_text().strip()
    except OSError:
        return otherwise


def main() -> None:
    """Run as Ansible runs a module."""
    module = AnsibleModule(
        argument_spec={"data": {"type": "list", "elements": "dict", "default": []}}, supports_check_mode=True
    )
    module.exit_json(
        changed=False,
        memory_mib=memory_mib(MEMORY.read_text(), text_of(CONTROL_GROUP_LIMIT, "")),
        cpus=text_of(Path("/sys/devices/system/cpu/online"), "0"),
        # A kernel without NUMA has node 0 only.
        nodes=text_of(Path("/sys/devices/system/node/online"), "0"),
        file_systems=file_systems(module.params["data"]),
    )


if __name__ == "__main__":
    main()
