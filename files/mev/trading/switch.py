"""The kill switch by hand: a file that risk looks for before anything is sent."""

import getpass
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mev.runtime.config import Config, ConfigError
from mev.trading.risk import killed


def halt(config: Config, chain: str | None, reason: str) -> dict[str, Any]:
    """Throw the switch of every chain, or of one; what is in flight is still followed to its end.

    Raises ConfigError where a chain has none, OSError where a file cannot be written.
    """
    changed = False
    for path in _switches(config, chain):
        if killed(path):
            continue
        said = f"{datetime.now(UTC).isoformat(timespec='seconds')} {getpass.getuser()}: {reason or 'no reason given'}\n"
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o640)
        with os.fdopen(descriptor, "w") as file:
            file.write(said)
            if os.geteuid() == 0:
                # The agents' own user may take back what root has thrown.
                directory = path.parent.stat()
                os.fchown(descriptor, directory.st_uid, directory.st_gid)
        changed = True
    return _document(config, chain, changed=changed)


def resume(config: Config, chain: str | None) -> dict[str, Any]:
    """Take the switch back. Raises as `halt`."""
    changed = False
    for path in _switches(config, chain):
        if killed(path):
            path.unlink()
            changed = True
    return _document(config, chain, changed=changed)


def state(config: Config) -> dict[str, Any]:
    """Say which chains are halted, and nothing is changed by it. Raises as `halt`."""
    return _document(config, None, changed=False)


def _switches(config: Config, chain: str | None) -> dict[Path, list[str]]:
    """Return each file with the chains that it stops; a chain asked for alone must not stop others."""
    files: dict[Path, list[str]] = {}
    for name, each in config.chains.items():
        path = each.risk.kill_switch
        if path is not None:
            files.setdefault(path, []).append(name)
        elif chain in (None, name):
            raise ConfigError(
                f"chains.{name}.risk has no kill_switch, and neither has risk; allowed: an absolute path in one of them"
            )
    if chain is None:
        return files
    path, names = next((path, names) for path, names in files.items() if chain in names)
    if names != [chain]:
        raise ConfigError(
            f"{path} is the kill switch of {', '.join(names)}; allowed: without --chain, or with a kill_switch of its own in "
            f"chains.{chain}.risk"
        )
    return {path: names}


def _document(config: Config, chain: str | None, *, changed: bool) -> dict[str, Any]:
    files = _switches(config, chain)
    return {
        "changed": changed,
        "halted": sorted(name for path, names in files.items() if killed(path) for name in names),
        "switches": [str(path) for path in files],
    }
