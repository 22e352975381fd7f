"""A virtual environment from a directory of wheels, without a network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from .errors import ReleaseError

REQUIREMENTS = "requirements.txt"
SITE_PACKAGES = "site-packages"


def python_version() -> str:
    """The running interpreter's version as a virtual environment's paths have it (3.11)."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def build(wheelhouse: Path, environment: Path) -> None:
    """Make a virtual environment where it will stay and install every requirement, each against its hash.

    A virtual environment holds absolute paths, so it is not made elsewhere and moved; the marker, written last, is what makes it complete.
    """
    if not (wheelhouse / REQUIREMENTS).is_file():
        message = f"the wheelhouse has no {REQUIREMENTS}"
        raise ReleaseError(message)
    _run([sys.executable, "-I", "-m", "venv", str(environment)], "making the virtual environment")
    _run(
        [
            str(environment / "bin" / "python"),
            "-I",
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-index",
            "--no-cache-dir",
            "--find-links",
            str(wheelhouse),
            "--require-hashes",
            "--only-binary=:all:",
            "--requirement",
            str(wheelhouse / REQUIREMENTS),
        ],
        "installing the wheels",
    )


def link(environment: Path, component: str, files: dict[str, str]) -> None:
    """Lead stable names into the environment: {"site-packages/mev": "mev"} makes `mev` a symlink.

    Without any, a package that has the component's name is linked under that name.
    """
    own = f"{SITE_PACKAGES}/{component}"
    if not files and (environment / _inside(own)).is_dir():
        files = {own: component}
    for source, name in files.items():
        target = environment / _inside(source)
        if not target.exists():
            message = f"the environment holds no {source}, which files names"
            raise ReleaseError(message)
        place = environment / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(os.path.relpath(target, place.parent))


def _inside(path: str) -> str:
    return f"lib/python{python_version()}/{path}" if path.split("/", maxsplit=1)[0] == SITE_PACKAGES else path


def _run(command: list[str], doing: str) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        command,
        env={**kept, "PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"},
        cwd="/",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = [
            line.removeprefix("ERROR: ")
            for line in done.stdout.strip().splitlines()
            if line.startswith(("ERROR: ", "Error: "))
        ]
        message = f"{doing} failed: {(lines or done.stdout.strip().splitlines()[-1:] or ['no output'])[0]}"
        raise ReleaseError(message)
