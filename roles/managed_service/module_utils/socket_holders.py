"""Who holds a socket that a unit is to bind, by the kernel's tables of sockets and processes."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path
from typing import Any

PROC = Path("/proc")


def is_free(address: str, port: int, protocol: str) -> bool:
    """Try to bind as a server would; an address that the host does not have yet counts as free."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    try:
        with socket.socket(family, kind) as probe:
            if protocol == "tcp":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address, port))
    except OSError as error:
        return error.errno != 98  # EADDRINUSE
    return True


def inodes(port: int, protocol: str) -> set[str]:
    """Find the sockets that listen on a port, whatever their address."""
    listening = {"tcp": "0A", "udp": "07"}[protocol]
    found = set()
    for table in (protocol, f"{protocol}6"):
        with contextlib.suppress(OSError):
            for line in (PROC / "net" / table).read_text().splitlines()[1:]:
                columns = line.split()
                if columns[3] == listening and int(columns[1].rpartition(":")[2], 16) == port:
                    found.add(columns[9])
    return found


def processes(wanted: set[str]) -> list[int]:
    """Find the processes that have one of the sockets open."""
    targets = {f"socket:[{inode}]" for inode in wanted}
    found = []
    for process in PROC.iterdir():
        if not process.name.isdigit():
            continue
        with contextlib.suppress(OSError):  # it has ended since
            if any(_link(entry) in targets for entry in (process / "fd").iterdir()):
                found.append(int(process.name))
    return sorted(found)


def _link(entry: Path) -> str:
    try:
        return str(entry.readlink())
    except OSError:
        return ""


def unit_of(pid: int) -> str:
    """Name the unit whose control group a process is in; empty where none is to be seen."""
    with contextlib.suppress(OSError):
        for line in (PROC / str(pid) / "cgroup").read_text().splitlines():
            for part in reversed(line.split(":", 2)[2].split("/")):
                if part.endswith((".service", ".scope", ".socket")):
                    return part
    return ""


def holder_of(listener: dict[str, Any], unit: str) -> dict[str, Any] | None:
    """Say who, other than the unit itself, holds a listener."""
    address, port, protocol = str(listener["address"]), int(listener["port"]), str(listener.get("protocol") or "tcp")
    if is_free(address, port, protocol):
        return None
    pids = processes(inodes(port, protocol))
    units = {pid: unit_of(pid) for pid in pids}
    if unit in units.values():
        return None
    words = "a process that cannot be seen from here"
    if pids:
        pid = pids[0]
        program = ""
        with contextlib.suppress(OSError):
            program = (PROC / str(pid) / "comm").read_text().strip()
        words = f"{program or 'a process'} (pid {pid}" + (f", {units[pid]})" if units[pid] else ")")
    return {"address": address, "port": port, "protocol": protocol, "holder": words}
