"""The versions of the programs that this repository itself brings to hosts (files/node_health, files/snapshot)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any


def host_program_version(directory: str) -> str:
    """The number in a program's directory on the controller, and the beginning of its content's digest: `1.0.0-1a2b3c4d`.

    The digest keeps a version in use untouched when somebody forgets to count up. ValueError without `__version__`.
    """
    files = sorted(Path(directory).glob("*.py"))
    number = next(
        (found[1] for file in files if (found := re.search(r'__version__ = "([0-9.]+)"', file.read_text()))), ""
    )
    if not number:
        raise ValueError(f"no module in {directory} has a __version__")
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name}\0{file.stat().st_size}\0".encode() + file.read_bytes())
    return f"{number}-{digest.hexdigest()[:8]}"


def host_directory(path: str) -> dict[str, str]:
    """A directory of root's that everybody may read, as `managed_service_directories` has it."""
    return {"path": path, "owner": "root", "group": "root", "mode": "0755"}


def host_program_files(directory: str, target: str) -> list[dict[str, str]]:
    """A program's modules in its directory on the controller, as `managed_service_files` has them, for the directory `target` on a host."""
    return [
        {"path": f"{target}/{file.name}", "source": str(file), "owner": "root", "group": "root", "mode": "0644"}
        for file in sorted(Path(directory).resolve().glob("*.py"))
    ]


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters by name."""
        return {
            "host_program_version": host_program_version,
            "host_program_files": host_program_files,
            "host_directory": host_directory,
        }
