#!/usr/bin/python3 -IB
"""Switch the edge's emergency profile on this host on and off; see edge-emergency --help."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import http.client
import json
import os
import pwd
import re
import socket
import sys
import syslog
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

CONFIG = Path("/etc/nginx/pools.json")
REFUSED = 1
# nginx looks four times a second.
EFFECT_SECONDS, SLEEP_SECONDS = 5.0, 0.1
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
LONGEST_SECONDS = 30 * 86400
FIELDS = ("public", "since", "ends", "by")
EPILOG = """While it is on, callers without an API key have a lower rate, fewer connections, no WebSockets and none of the expensive methods
(nginx_emergency_... of role nginx), or are refused altogether; callers with a key and unlimited networks are served as always. nginx takes
it up within a second, without a reload; it holds over restarts and ends by itself where --for says when.
exit status: 0 done, 1 refused or not taken up in time, 2 bad usage"""


class EmergencyError(Exception):
    """What was asked for is not done; the message is one sentence."""


def configuration() -> dict[str, Any]:
    """Give what the edge's own configuration says."""
    try:
        return dict(json.loads(CONFIG.read_bytes()))
    except (OSError, ValueError) as error:
        raise EmergencyError(f"{CONFIG} does not say where the emergency profile is: {error}.") from error


def place() -> Path:
    """Give the file that says it."""
    return Path(configuration()["emergency"]["file"])


@contextlib.contextmanager
def alone() -> Iterator[Path]:
    """Let no other run change it meanwhile."""
    path = place()
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield path
    finally:
        os.close(handle)


def written(path: Path) -> dict[str, Any] | None:
    """Give what is written down and holds; None where it is off or over."""
    try:
        said = json.loads(path.read_bytes())
        state = {field: said[field] for field in FIELDS}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EmergencyError(f"{path} cannot be read: {error}; switch it off, or on again.") from error
    return state if state["ends"] is None or state["ends"] > time.time() else None


def write(path: Path, state: dict[str, Any]) -> None:
    """Put it in its place, whole and for nginx to read."""
    draft = path.with_suffix(".new")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    with os.fdopen(handle, "w") as file:
        json.dump(state, file)
        file.flush()
        os.fsync(file.fileno())
    draft.chmod(0o644)
    draft.rename(path)


class Connection(http.client.HTTPConnection):
    """HTTP over nginx' socket."""

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(5)
        self.sock.connect(str(configuration()["socket"]))


def held() -> tuple[bool, dict[str, Any] | None]:
    """Give whether nginx runs, and what it holds to."""
    link = Connection("edge")
    try:
        link.request("GET", "/pools")
        state = json.loads(link.getresponse().read()).get("emergency")
    except (FileNotFoundError, ConnectionRefusedError):
        return False, None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise EmergencyError(f"The edge's status does not answer: {error}.") from error
    finally:
        link.close()
    return True, state


def take_up(wanted: dict[str, Any] | None) -> bool:
    """Wait until nginx holds to what is wanted; False where nginx does not run, and will when it starts."""
    deadline = time.monotonic() + EFFECT_SECONDS
    while True:
        runs, state = held()
        if not runs:
            return False
        if (state and {field: state.get(field) for field in FIELDS}) == wanted:
            return True
        if time.monotonic() > deadline:
            raise EmergencyError(f"nginx has not taken it up within {EFFECT_SECONDS:g} s; look at its journal.")
        time.sleep(SLEEP_SECONDS)


def switch_on(options: argparse.Namespace) -> dict[str, Any]:
    """Switch it on, or change how long it lasts or what becomes of the public."""
    public = "refused" if options.refuse_public else "limited"
    with alone() as path:
        # What cannot be read is replaced.
        with contextlib.suppress(EmergencyError):
            before = written(path)
            if before and options.duration is None and (before["public"], before["ends"]) == (public, None):
                return {"changed": False, "taken_up": take_up(before), **before}
        now = int(time.time())
        state = {
            "public": public,
            "since": now,
            "ends": now + options.duration if options.duration else None,
            "by": who(),
        }
        if options.dry_run:
            return {"changed": True, "taken_up": False, **state}
        write(path, state)
        audit("on", state)
        return {"changed": True, "taken_up": take_up(state), **state}


def switch_off(options: argparse.Namespace) -> dict[str, Any]:
    """Switch it off."""
    with alone() as path:
        try:
            before = written(path)
        except EmergencyError:
            before = {}
        changed = before is not None
        if not options.dry_run:
            path.unlink(missing_ok=True)
            if changed:
                audit("off", {"by": who()})
        return {"changed": changed, "taken_up": not options.dry_run and take_up(None)}


def status(_: argparse.Namespace) -> dict[str, Any]:
    """Give what is written down, and whether nginx holds to it."""
    state = written(place())
    runs, now = held()
    is_same = (now and {field: now.get(field) for field in FIELDS}) == state
    return {"on": state is not None, "taken_up": runs and is_same, **(state or {})}


def who() -> str:
    """Give who has called this command."""
    return os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name


def audit(what: str, said: dict[str, Any]) -> None:
    """Write a line to the journal: who did what."""
    syslog.openlog("edge-emergency", facility=syslog.LOG_AUTHPRIV)
    syslog.syslog(syslog.LOG_NOTICE, f"{what} {json.dumps(said)}")


def moment(seconds: float) -> str:
    """Write a time in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def sentence(done: dict[str, Any]) -> str:
    """Say it to a person."""
    if not done.get("public"):
        return "The emergency profile is off."
    ends = "until it is switched off" if done["ends"] is None else f"until {moment(done['ends'])}"
    words = f"The emergency profile is on since {moment(done['since'])}, by {done['by']}, {ends}: callers without a key are {done['public']}."
    return words if done["taken_up"] else f"{words} nginx does not hold to it yet."


def duration(text: str) -> int:
    """Read a time such as 90s, 30m, 2h or 1d as seconds."""
    found = re.fullmatch(r"([0-9]{1,6})([smhd])", text)
    seconds = int(found[1]) * UNITS[found[2]] if found else 0
    if not 1 <= seconds <= LONGEST_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r} is no such time; allowed: 1s to 30d, such as 90s, 30m, 2h or 1d")
    return seconds


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    top = argparse.ArgumentParser(
        prog="edge-emergency", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = top.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="for programs")
    changing = argparse.ArgumentParser(add_help=False)
    changing.add_argument("--dry-run", action="store_true", help="only say whether something would be changed")
    on = commands.add_parser("on", parents=[common, changing], help="switch it on")
    on.add_argument("--for", dest="duration", type=duration, help="end it by itself after 90s, 30m, 2h or 1d")
    on.add_argument("--refuse-public", action="store_true", help="refuse callers without a key altogether")
    on.set_defaults(run=switch_on)
    off = commands.add_parser("off", parents=[common, changing], help="switch it off")
    off.set_defaults(run=switch_off)
    showing = commands.add_parser("status", parents=[common], help="whether it is on")
    showing.set_defaults(run=status)
    return top


def main() -> int:
    """Run the program and give its exit status."""
    options = parser().parse_args()
    if os.geteuid() != 0:
        sys.stderr.write("edge-emergency: only root may switch it.\n")
        return REFUSED
    try:
        done = options.run(options)
    except EmergencyError as refusal:
        sys.stderr.write(f"edge-emergency: {refusal}\n")
        return REFUSED
    sys.stdout.write((json.dumps(done) if options.json else sentence(done)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
