"""The kill switch by hand: a file that risk looks for before anything is sent. The file says who threw it, from where and why."""

import getpass
import ipaddress
import os
import pwd
import re
import stat
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mev.runtime.config import Config, ConfigError
from mev.trading.ledger import Switched
from mev.trading.risk import killed

BY_COMMAND = "by mev halt"
OVER_HTTP = "over HTTP"
BY_HAND = "by its file"
MOST_READ_BYTES = 4096
MOST_REASON = 200
# What `halt` writes; anybody else who writes the file may say the same, so it is what the file says, not what is proved.
_LINE = re.compile(
    rf"\S+ (?P<who>[^:\n]+?) (?P<origin>(?:{BY_COMMAND}|{OVER_HTTP})(?: from [0-9a-f.:]+)?): (?P<reason>.*)"
)


def halt(config: Config, chain: str | None, reason: str, way: str | None = None) -> dict[str, Any]:
    """Throw the switch of every chain, or of one; what is in flight is still followed to its end.

    `way` is by which way and from where, the command by default. Raises ConfigError where a chain has none; OSError where a file cannot
    be written, once all the others are.
    """
    changed = False
    failed: OSError | None = None
    for path in _switches(config, chain):
        if killed(path):
            continue
        try:
            _throw(path, f"{who()} {way or f'{BY_COMMAND}{origin()}'}: {reason or 'no reason given'}")
        except OSError as error:
            failed = failed or error
            continue
        changed = True
    if failed is not None:
        raise failed
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


def thrown(path: Path, chains: list[str]) -> Switched | None:
    """Say who threw a switch, as its file tells; None where it is not thrown."""
    if not killed(path):
        return None
    try:
        about = path.lstat()
    except FileNotFoundError:
        return None
    except OSError as error:
        now_ns = time.time_ns()
        why = f"it cannot be looked at: {error.strerror}"
        return _halted(path, chains, f"unseen {now_ns}", "", BY_HAND, why, now_ns)
    said = _read(path) if stat.S_ISREG(about.st_mode) else ""
    found = None if said is None else _LINE.match(said)
    if found is not None:
        told = (found["who"], found["origin"], _printable(found["reason"]))
    else:
        why = "its file cannot be read" if said is None else _printable(said.strip()) or "no reason given"
        told = (_name(about.st_uid), BY_HAND, why)
    return _halted(path, chains, str(about.st_mtime_ns), *told, about.st_mtime_ns)


def files(config: Config) -> dict[Path, list[str]]:
    """Return each switch that there is with the chains that it stops."""
    found: dict[Path, list[str]] = {}
    for name, each in config.chains.items():
        if each.risk.kill_switch is not None:
            found.setdefault(each.risk.kill_switch, []).append(name)
    return found


def who() -> str:
    """Return who runs this: a user's name, and for whom sudo runs it; a number where the host knows no name."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = str(os.getuid())
    for_whom = os.environ.get("SUDO_USER", "")
    return _word(name) + (f" for {_word(for_whom)}" if for_whom and for_whom != name else "")


def origin() -> str:
    """Return " from ADDRESS", whence whoever runs this has come by SSH; nothing where sshd did not tell."""
    client = os.environ.get("SSH_CONNECTION", "").partition(" ")[0]
    try:
        return f" from {ipaddress.ip_address(client)}"
    except ValueError:
        return ""


def _throw(path: Path, said: str) -> None:
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o640)
    except FileExistsError:
        # Somebody else was faster.
        return
    with os.fdopen(descriptor, "w", errors="replace") as file:
        file.write(f"{datetime.now(UTC).isoformat(timespec='seconds')} {said}\n")
        if os.geteuid() == 0:
            # The agents' own user may take back what root has thrown.
            directory = path.parent.stat()
            os.fchown(descriptor, directory.st_uid, directory.st_gid)


def _read(path: Path) -> str | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        return file.read(MOST_READ_BYTES).decode(errors="replace")


def _halted(path: Path, chains: list[str], mark: str, who: str, origin: str, reason: str, at_ns: int) -> Switched:
    return Switched(
        switch=str(path),
        act="halt",
        chains=tuple(chains),
        mark=mark,
        who=who,
        origin=origin,
        reason=reason,
        at_ns=at_ns,
    )


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _word(text: str) -> str:
    return re.sub(r"[^\w.@+-]", "_", text)


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else " " for each in text[:MOST_REASON])


def _switches(config: Config, chain: str | None) -> Mapping[Path, list[str]]:
    """Return each file with the chains that it stops; a chain asked for alone must not stop others."""
    for name, each in config.chains.items():
        if each.risk.kill_switch is None and chain in (None, name):
            raise ConfigError(
                f"chains.{name}.risk has no kill_switch, and neither has risk; allowed: an absolute path in one of them"
            )
    found = files(config)
    if chain is None:
        return found
    path, names = next((path, names) for path, names in found.items() if chain in names)
    if names != [chain]:
        raise ConfigError(
            f"{path} is the kill switch of {', '.join(names)}; allowed: without --chain, or with a kill_switch of its own in "
            f"chains.{chain}.risk"
        )
    return {path: names}


def _document(config: Config, chain: str | None, *, changed: bool) -> dict[str, Any]:
    found = _switches(config, chain)
    return {
        "changed": changed,
        "halted": sorted(name for path, names in found.items() if killed(path) for name in names),
        "switches": [str(path) for path in found],
    }
