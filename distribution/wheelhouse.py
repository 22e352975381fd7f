"""Build the wheel and every wheel it needs, for a host's Python and machine, into one directory with hashed requirements.

    python -m distribution.wheelhouse --python 3.13 --machine x86_64 --glibc 2.41 --cache DIR
    python -m distribution.wheelhouse --component certbot …        # another program for hosts, from requirements/certbot.txt

The host may run another Python on another architecture than the controller: the universal lock's markers are evaluated for the host,
and only wheels that fit it are fetched, each against its hash in the lock. What stands already is not built again. Prints one JSON
object: {"changed", "directory", "version", "requirements"}.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "requirements"
# Our own package by what it is built with; the fleet's reaches PostgreSQL and Redis as well. OpenTelemetry is apart: where it is installed, redis-py
# imports it.
OWN = {"mev": "numeric", "mev-fleet": "numeric,postgres,redis", "mev-traces": "numeric,postgres,redis,traces"}
PACKAGE = ROOT / "files" / "mev"
# 2014-01-01, UTC: wheels made from the same source are the same bytes.
SOURCE_DATE_EPOCH = "1388534400"


class Target(NamedTuple):
    """The host that the wheels must fit."""

    python: str
    machine: str
    glibc: str

    def platforms(self) -> list[str]:
        """Every manylinux tag that this host's C library satisfies, newest first."""
        major, minor = (int(part) for part in self.glibc.split("."))
        if major != 2:
            msg = f"--glibc is {self.glibc}; allowed: 2.x, as `ldd --version` prints it on the host."
            raise SystemExit(msg)
        tags = [f"manylinux_2_{n}_{self.machine}" for n in range(minor, 4, -1)]
        return [*tags, f"manylinux2014_{self.machine}", f"linux_{self.machine}"]

    def environment(self) -> dict[str, str]:
        """What requirement markers see on this host."""
        return {
            "python_version": self.python,
            "python_full_version": f"{self.python}.0",
            "platform_machine": self.machine,
            "sys_platform": "linux",
            "platform_system": "Linux",
            "os_name": "posix",
            "implementation_name": "cpython",
            "platform_python_implementation": "CPython",
        }


def main(argv: list[str] | None = None) -> int:
    """Build or find the wheelhouse and print where it stands."""
    options = _parse(argv)
    target = Target(options.python, options.machine, options.glibc)
    key = _digest([str(target), *_inputs(options.component)])[:16]
    directory = options.cache / f"wheelhouse-{key}"
    changed = not (directory / "manifest.json").exists()
    if changed:
        options.cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=options.cache, prefix=".partial-", ignore_cleanup_errors=True) as partial:
            _build(Path(partial), options.component, target, options.build_python)
            shutil.rmtree(directory, ignore_errors=True)
            Path(partial).rename(directory)
    manifest = json.loads((directory / "manifest.json").read_text())
    sys.stdout.write(json.dumps({"changed": changed, "directory": str(directory), **manifest}) + "\n")
    return 0


def requirements_for(lock: str, target: Target) -> list[str]:
    """The lock's lines that apply to the host, without markers: `name==version --hash=… --hash=…`."""
    chosen = []
    for logical in re.sub(r"\\\n", " ", lock).splitlines():
        text = logical.split(" #")[0].strip()
        if not text or text.startswith("#"):
            continue
        specifier, *hashes = re.split(r"\s+(?=--hash=)", text)
        requirement = Requirement(specifier)
        if requirement.marker is None or requirement.marker.evaluate(target.environment()):
            chosen.append(" ".join([f"{requirement.name}{requirement.specifier}", *hashes]))
    return chosen


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m distribution.wheelhouse", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--component",
        default="mev",
        choices=[*OWN, "certbot"],
        help="whose lock, and whose version (default: the package itself; mev-fleet: with the clients of PostgreSQL and Redis; mev-traces: with OpenTelemetry too)",
    )
    parser.add_argument("--python", required=True, help="the host's Python, such as 3.13")
    parser.add_argument("--machine", required=True, choices=["x86_64", "aarch64"], help="the host's machine")
    parser.add_argument("--glibc", required=True, help="the host's C library, such as 2.41")
    parser.add_argument("--cache", required=True, type=Path, help="where wheelhouses are kept")
    parser.add_argument(
        "--build-python",
        type=Path,
        default=ROOT / ".venv-build" / "bin" / "python",
        help="Python of the build's virtual environment (make venv)",
    )
    return parser.parse_args(argv)


def _inputs(component: str) -> list[str]:
    files = [LOCKS / f"{component}.txt"]
    if component in OWN:
        files += [ROOT / "pyproject.toml", ROOT / "hatch_build.py", ROOT / "README.md"]
        files += sorted(path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return [f"{path.relative_to(ROOT)}:{hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files]


def _digest(parts: list[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _build(directory: Path, component: str, target: Target, build_python: Path) -> None:
    wheel = _own_wheel(directory, build_python) if component in OWN else None
    lock = directory / "lock.txt"
    lock.write_text("\n".join(requirements_for((LOCKS / f"{component}.txt").read_text(), target)) + "\n")
    tag = "cp" + target.python.replace(".", "")
    platforms = [word for platform in target.platforms() for word in ("--platform", platform)]
    abis = [word for abi in (tag, "abi3", "none") for word in ("--abi", abi)]
    _run(
        [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--require-hashes",
            "--only-binary=:all:",
            "--implementation",
            "cp",
            "--python-version",
            target.python,
            *abis,
            *platforms,
            "--dest",
            str(directory),
            "--requirement",
            str(lock),
        ],
        {},
    )
    requirements = directory / "requirements.txt"
    lock.rename(requirements)
    if wheel:
        version = wheel.name.split("-")[1]
        with requirements.open("a") as file:
            file.write(
                f"mev[{OWN[component]}]=={version} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"
            )
    else:
        version = _locked_version(requirements.read_text(), component)
    identity = _digest([requirements.read_text(), *sorted(path.name for path in directory.glob("*.whl"))])[:12]
    manifest = {"version": f"{version}-{identity}", "requirements": requirements.name}
    (directory / "manifest.json").write_text(json.dumps(manifest) + "\n")


def _own_wheel(directory: Path, build_python: Path) -> Path:
    if not build_python.exists():
        msg = f"{build_python} does not exist; run `make venv` on the controller first, or set --build-python."
        raise SystemExit(msg)
    _run(
        [str(build_python), "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)],
        {"SOURCE_DATE_EPOCH": SOURCE_DATE_EPOCH},
    )
    return next(directory.glob("mev-*.whl"))


def _locked_version(requirements: str, component: str) -> str:
    return next(line.split()[0] for line in requirements.splitlines() if line.startswith(f"{component}==")).split("==")[
        1
    ]


def _run(command: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.stderr.write(done.stdout)
        msg = (
            f"{command[0]} {command[1]} {command[2]} failed with exit code {done.returncode}; its output stands above."
        )
        raise SystemExit(msg)


if __name__ == "__main__":
    raise SystemExit(main())
