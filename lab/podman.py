"""Podman, with settings of the lab's own only where the machine's do not work."""

from __future__ import annotations

import json
import resource
from typing import TYPE_CHECKING, Any

from lab.errors import LabError
from lab.process import DEFAULT_TIMEOUT_SECONDS, as_root, need, run
from lab.progress import say

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from lab.checkout import Checkout

LABEL = "mev-lab"
"""The label of everything that a lab makes; its value is the checkout's prefix."""

# Machines that hold no CAP_SYS_RESOURCE refuse containers that ask for more than their own limit.
_LIMIT_OF_LAST_RESORT = 10_000
_SHUTDOWN_SECONDS = 20
_RUNTIMES = ("runc", "crun")


class Podman:
    """The rootful podman of this machine, seen from one checkout."""

    def __init__(self, checkout: Checkout) -> None:
        need("podman")
        self._checkout = checkout

    @property
    def _settings(self) -> Path:
        return self._checkout.state / "containers.conf"

    @property
    def _runtime_works(self) -> Path:
        return self._checkout.state / "runtime-works"

    def command(self, *arguments: str) -> list[str]:
        """Return the whole command line, for callers that stream into or out of podman."""
        return self._command(arguments, self._settings if self._settings.exists() else None)

    @staticmethod
    def _command(arguments: Iterable[str], settings: Path | None) -> list[str]:
        return as_root(["podman", *arguments], {"CONTAINERS_CONF": str(settings)} if settings else {})

    def run(self, *arguments: str, stdin: bytes | None = None, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS) -> str:
        """Run podman and return what it prints; LabError when it fails."""
        return run(self.command(*arguments), stdin=stdin, timeout_seconds=timeout_seconds)

    def json(self, *arguments: str) -> Any:  # noqa: ANN401
        """Run podman and return its JSON, which has as many shapes as podman has commands."""
        return json.loads(self.run(*arguments) or "[]")

    def image_exists(self, tag: str) -> bool:
        """Tell whether the machine has the image `tag`."""
        return bool(self.run("images", "--quiet", "--filter", f"reference={tag}").strip())

    def containers(self) -> list[dict[str, Any]]:
        """Return what podman lists of this checkout's containers, running or not."""
        listed = self.json("ps", "--all", "--filter", f"label={LABEL}={self._checkout.prefix}", "--format", "json")
        return list(listed)

    def runs(self, container: str) -> bool:
        """Tell whether a program can be run in `container`; podman's own list may be of before a restart."""
        try:
            self.run("exec", container, "true")
        except LabError:
            return False
        return True

    def remove(self, container: str) -> None:
        """Shut `container` down, so that whoever is connected learns of it, and remove it."""
        command = ["rm", "--force", f"--time={_SHUTDOWN_SECONDS}", "--volumes", container]
        try:
            self.run(*command)
        except LabError:
            # The first try waits in vain for the exit of a process that is not there, and notes that it has ended.
            self.run(*command)

    def ensure_runtime(self, image: str) -> None:
        """Find settings with which a privileged systemd container starts; remember the answer in .lab."""
        with self._checkout.locked("runtime"):
            if not self._runtime_works.exists():
                self._find_settings(image)
                self._runtime_works.touch()

    def _find_settings(self, image: str) -> None:
        """Try the machine's own first, then each runtime's; other processes see settings only once they have worked."""
        trouble = self._trouble(image, None)
        if trouble is None:
            self._settings.unlink(missing_ok=True)
            return
        trial = self._settings.with_suffix(".trial")
        for runtime in _RUNTIMES:
            trial.write_text(fallback_settings(runtime))
            if self._trouble(image, trial) is None:
                trial.replace(self._settings)
                say(
                    f"podman's own settings start no host on this machine; the lab uses {self._settings}, with {runtime}"
                )
                return
        trial.unlink()
        raise LabError(f"podman cannot start a privileged systemd container on this machine: {trouble}")

    def _trouble(self, image: str, settings: Path | None) -> str | None:
        arguments = ["run", "--rm", "--network=none", "--privileged", "--systemd=always", image, "/bin/true"]
        try:
            run(self._command(arguments, settings))
        except LabError as error:
            return str(error)
        return None


def fallback_settings(runtime: str) -> str:
    """Return a containers.conf with `runtime`, and limits that this very process may pass on."""
    limits = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
    ulimits = ", ".join(f'"{name}={_allowed(limit)}:{_allowed(limit)}"' for name, limit in limits.items())
    return f'[containers]\ndefault_ulimits = [{ulimits}]\n\n[engine]\nruntime = "{runtime}"\n'


def _allowed(limit: int) -> int:
    hard = resource.getrlimit(limit)[1]
    return _LIMIT_OF_LAST_RESORT if hard == resource.RLIM_INFINITY else min(hard, _LIMIT_OF_LAST_RESORT)
