"""Run the system's programs, as root where they need it, and turn their failures into a sentence."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

from lab.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

DEFAULT_TIMEOUT_SECONDS = 120


def as_root(argv: Sequence[str], environment: Mapping[str, str] | None = None) -> list[str]:
    """Return `argv` with what makes it run as root, `environment` included (sudo drops variables)."""
    settings = [f"{name}={value}" for name, value in (environment or {}).items()]
    command = ["env", *settings, *argv] if settings else list(argv)
    return command if os.geteuid() == 0 else ["sudo", *command]


def need(program: str) -> None:
    """Refuse to go on without `program`."""
    search = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    if shutil.which(program, path=search) is None:
        raise LabError(f"{program} is not installed on this machine: lab/prerequisites.sh installs what the lab needs")


def run(
    argv: Sequence[str],
    *,
    stdin: bytes | None = None,
    cwd: Path | None = None,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
) -> str:
    """Run `argv` and return its standard output.

    Raises LabError with the program's last words when it fails or takes longer than `timeout_seconds`.
    """
    try:
        done = subprocess.run(argv, input=stdin, cwd=cwd, capture_output=True, check=False, timeout=timeout_seconds)
    except FileNotFoundError as missing:
        raise LabError(f"{argv[0]} is not installed on this machine") from missing
    except subprocess.TimeoutExpired as late:
        raise LabError(f"{_brief(argv)} did not finish within {timeout_seconds:.0f} s") from late
    if done.returncode != 0:
        raise LabError(f"{_brief(argv)} failed: {last_words(done.stderr or done.stdout)}")
    return done.stdout.decode()


def last_words(output: bytes) -> str:
    """Return the last line that says something."""
    lines = [line.strip() for line in output.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def _brief(argv: Sequence[str]) -> str:
    words = " ".join(argv)
    return words if len(words) <= 100 else f"{words[:97]}..."
