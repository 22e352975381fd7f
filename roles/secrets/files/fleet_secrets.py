#!/usr/bin/python3 -IB
"""Look at the secrets of this host, replace one, and keep the record of it; see fleet-secrets --help. It never prints a value."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import grp
import hmac
import json
import os
import pwd
import re
import signal
import stat
import subprocess
import sys
import syslog
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

CONFIG = Path("/etc/fleet-secrets/secrets.json")
DAY = 86400
MOST_BYTES = 1 << 16
MOST_ENTRIES = 4096
WRONG, DUE, BACK, STUCK = 1, 3, 4, 5
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
HEX32 = re.compile(rb"(?:0x)?([0-9a-fA-F]{64})\n?")
PEM_KEY = re.compile(
    rb"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----\s[A-Za-z0-9+/=\s]+-----END (?:[A-Z]+ )?PRIVATE KEY-----"
)
LINE = re.compile(rb"[\x21-\x7e](?:[\x20-\x7e]{6,}[\x21-\x7e])\n?")
SYSTEMCTL = "systemctl"
RESTART_SECONDS = 600
SETTLE_SECONDS = 3.0
PROOF_SECONDS = 60
SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9 @._/-]{0,127}")
RESULTS = ("rotated", "rolled_back", "stuck", "undone", "failed")
NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
EPILOG = """exit status: 0 all is as it has to be, 1 something is not or was refused, 2 bad usage, 3 check: a rotation is due or a file is unknown,
4 replace: the new value was no good and the old one is back, 5 a consumer runs with neither"""


class SecretsError(Exception):
    """What was asked for is not done; the message is one sentence without a value."""


class RolledBackError(SecretsError):
    """The new value was no good and the old one is back."""


class StuckError(SecretsError):
    """A consumer runs with neither value."""


@dataclass
class Finding:
    """What is known of one secret, or of a file that is none: `state` is ok, due, missing, wrong or unknown."""

    name: str
    item: str
    path: str
    state: str = "ok"
    problems: list[str] = field(default_factory=list)
    age_days: float | None = None
    rotation_days: int = 0

    def wrong(self, problem: str, state: str = "wrong") -> None:
        """Add what is wrong, and how much that is."""
        self.problems.append(problem)
        self.state = state


def configuration() -> dict[str, Any]:
    """Give this host's part of the table of secrets."""
    try:
        return dict(json.loads(CONFIG.read_bytes()))
    except (OSError, ValueError) as error:
        raise SecretsError(f"{CONFIG} does not say which secrets there are: {error}.") from error


def account(number: int, look_up: Callable[[int], Any]) -> str:
    """Give an account's name, or its number where it has none."""
    try:
        return str(look_up(number)[0])
    except KeyError:
        return str(number)


def holder(known: os.stat_result) -> tuple[str, str, str]:
    """Give owner, group and mode."""
    return (
        account(known.st_uid, pwd.getpwuid),
        account(known.st_gid, grp.getgrgid),
        f"{stat.S_IMODE(known.st_mode) & 0o1777:04o}",
    )


def shape(value: bytes, form: str) -> str:
    """Say what is wrong with a value's form; nothing if it has it. The value is not in the words."""
    if len(value) >= MOST_BYTES:
        return f"has {MOST_BYTES} bytes or more"
    if form == "hex32":
        found = HEX32.fullmatch(value)
        if not found:
            return f"is not 64 hex digits ({len(value)} bytes)"
        return "is one digit again and again" if len(set(found[1])) == 1 else ""
    if form == "pem_key":
        return "" if PEM_KEY.search(value) else f"holds no PEM private key ({len(value)} bytes)"
    if form == "line":
        return "" if LINE.fullmatch(value) else f"is not one line of 8 printable bytes or more ({len(value)} bytes)"
    return "" if value.strip() else "is empty"


def read_value(path: Path) -> bytes:
    """Read a file's value, a link's never."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        return file.read(MOST_BYTES)


def parents(path: Path, trusted: set[str]) -> Iterator[str]:
    """Say which directories above a secret somebody else could change."""
    for above in path.parents:
        known = above.lstat()
        if stat.S_ISLNK(known.st_mode):
            if known.st_uid != 0:
                yield f"{above} above it is a link that is not root's"
            continue
        whose = account(known.st_uid, pwd.getpwuid)
        if whose not in trusted:
            yield f"{above} above it is {whose}'s"
        # In /tmp and its like nobody moves what is another's.
        if known.st_mode & OTHERS_WRITE and not known.st_mode & stat.S_ISVTX:
            yield f"{above} above it is writable by others (mode {holder(known)[2]})"


def held(row: dict[str, Any], path: Path, mode: str, finding: Finding) -> os.stat_result:
    """Hold owner, group and mode of a file that is there against the table."""
    known = path.lstat()
    is_directory = row["kind"] == "directory"
    if stat.S_ISLNK(known.st_mode):
        finding.wrong(f"{path} is a symbolic link")
    elif stat.S_ISDIR(known.st_mode) != is_directory or not (is_directory or stat.S_ISREG(known.st_mode)):
        finding.wrong(f"{path} is no {'directory' if is_directory else 'regular file'}")
    else:
        has, wanted = holder(known), (row["owner"], row["group"], mode)
        for what, one, other in zip(("owner", "group", "mode"), has, wanted, strict=True):
            if one != other:
                finding.wrong(f"the {what} of {path} is {one} and has to be {other}")
        if not is_directory and known.st_nlink > 1:
            finding.wrong(f"{path} has {known.st_nlink} names (hard links)")
    return known


def look(row: dict[str, Any], now: float) -> Finding:
    """Give what is known of one secret of the table."""
    path = Path(row["path"])
    finding = Finding(row["name"], row["item"], str(path), rotation_days=row["days"])
    try:
        known = held(row, path, row["mode"], finding)
        for problem in parents(path, {"root", row["owner"], *row["trusts"]}):
            finding.wrong(problem)
        if row["kind"] == "directory":
            inside(row, path, finding)
            return finding
        if stat.S_ISREG(known.st_mode):
            problem = shape(read_value(path), row["form"])
            if problem:
                finding.wrong(f"the content of {path} {problem}")
    except FileNotFoundError:
        finding.wrong(f"{path} is not there", "missing")
        return finding
    except OSError as error:
        finding.wrong(f"{path} cannot be looked at: {error.strerror}")
        return finding
    finding.age_days = round(max(0.0, now - known.st_mtime) / DAY, 1)
    if finding.state == "ok" and 0 < row["days"] <= finding.age_days:
        finding.wrong(f"it is {finding.age_days} days old, a rotation is due after {row['days']}", "due")
    return finding


def inside(row: dict[str, Any], directory: Path, finding: Finding) -> None:
    """Hold what is in a directory: the owner's or root's, and nothing of it is others'."""
    for path in walk(directory):
        known = path.lstat()
        if stat.S_ISLNK(known.st_mode):
            # Certbot's links from live/ to archive/.
            if not path.resolve().is_relative_to(directory):
                finding.wrong(f"{path} is a link that leads out of {directory}")
            continue
        if holder(known)[0] not in ("root", row["owner"]):
            finding.wrong(f"{path} is {holder(known)[0]}'s")
        shut = not stat.S_IMODE(directory.lstat().st_mode) & (stat.S_IROTH | stat.S_IXOTH)
        if known.st_mode & (OTHERS_WRITE if shut else OTHERS_WRITE | stat.S_IROTH):
            finding.wrong(f"{path} is open to others (mode {holder(known)[2]})")


def walk(top: Path) -> Iterator[Path]:
    """Give everything below a directory, links not followed, in order."""
    count = 0
    for place, directories, files in os.walk(top):
        directories.sort()
        for name in sorted([*directories, *files]):
            count += 1
            if count > MOST_ENTRIES:
                raise SecretsError(f"{top} holds more than {MOST_ENTRIES} files.")
            yield Path(place, name)


def strangers(config: dict[str, Any]) -> Iterator[Finding]:
    """Give what lies among the secrets and is none of the table's, and what a rotation left that did not end."""
    known = {row["path"] for row in config["directories"]}
    below = []
    for row in config["secrets"]:
        path = Path(row["path"])
        known |= {str(path), *map(str, path.parents), *(str(path.parent / name) for name in row["beside"])}
        if row["kind"] == "directory":
            below.append(path)
    top = Path(config["top"])
    for path in walk(top) if top.exists() else ():
        if str(path) in known or any(path.is_relative_to(place) for place in below):
            continue
        finding = Finding("", "", str(path))
        if path.suffix in (".previous", ".next") and not path.is_dir():
            finding.wrong(f"{path} was left by a rotation that did not end")
        else:
            finding.wrong(f"{path} is no secret that this host is to hold", "unknown")
        yield finding


def layout(config: dict[str, Any]) -> Iterator[Finding]:
    """Give what is known of the directories that secrets lie in."""
    for row in config["directories"]:
        path = Path(row["path"])
        finding = Finding("directory", "", str(path))
        try:
            held({**row, "kind": "directory"}, path, row["mode"], finding)
        except FileNotFoundError:
            finding.wrong(f"{path} is not there", "missing")
        yield finding


def beside(config: dict[str, Any]) -> Iterator[Finding]:
    """Hold what belongs to a secret: as shut as the secret itself, unless it is a certificate, which is public."""
    for row in config["secrets"]:
        for name in row["beside"]:
            path = Path(row["path"]).parent / name
            if path.exists() and path.suffix != ".crt":
                finding = Finding(row["name"], row["item"], str(path))
                held({**row, "kind": "file"}, path, row["mode"], finding)
                yield finding


def check(options: argparse.Namespace) -> int:
    """Look at all of it and print what was found."""
    config = configuration()
    now = time.time()
    found = [
        *layout(config),
        *(look(row, now) for row in config["secrets"]),
        *beside(config),
        *strangers(config),
    ]
    counts = {
        state: sum(each.state == state for each in found) for state in ("ok", "due", "unknown", "missing", "wrong")
    }
    if options.metrics:
        write_metrics(options.metrics, found, counts)
    if options.json:
        said = {"checked_at": utc(now), "counts": counts, "findings": [vars(each) for each in found]}
        sys.stdout.write(json.dumps(said) + "\n")
    else:
        for each in found:
            if each.problems or not options.only_wrong:
                age = "" if each.age_days is None else f"{each.age_days} days"
                sys.stdout.write(f"{each.state:8} {each.path}  {age}".rstrip() + "\n")
            for problem in each.problems:
                sys.stdout.write(f"         {problem}\n")
    if counts["wrong"] or counts["missing"]:
        return WRONG
    return DUE if (counts["due"] or counts["unknown"]) and not options.only_wrong else 0


def write_metrics(path: Path, found: list[Finding], counts: dict[str, int]) -> None:
    """Write what monitoring reads, whole."""
    lines = ["# HELP fleet_secret_age_days Days since the secret was written.", "# TYPE fleet_secret_age_days gauge"]
    rows = [each for each in found if each.age_days is not None]
    lines += [f'fleet_secret_age_days{{name="{each.name}",item="{each.item}"}} {each.age_days}' for each in rows]
    lines += [
        "# HELP fleet_secret_rotation_days Days after which a rotation is due; 0 for never.",
        "# TYPE fleet_secret_rotation_days gauge",
    ]
    lines += [
        f'fleet_secret_rotation_days{{name="{each.name}",item="{each.item}"}} {each.rotation_days}' for each in rows
    ]
    lines += ["# HELP fleet_secrets_found Secrets and files among them by state.", "# TYPE fleet_secrets_found gauge"]
    lines += [f'fleet_secrets_found{{state="{state}"}} {count}' for state, count in counts.items()]
    draft = path.with_suffix(".new")
    draft.write_text("\n".join(lines) + "\n")
    draft.replace(path)


def utc(moment: float) -> str:
    """Give a time as the record has it."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Let no other run change a secret meanwhile."""
    handle = os.open(CONFIG.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def whole() -> Iterator[None]:
    """Turn what would end the program into a reason to go back."""

    def stop(number: int, _: FrameType | None) -> None:
        raise SecretsError(f"it was interrupted ({signal.Signals(number).name})")

    before = {each: signal.signal(each, stop) for each in SIGNALS}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def put(path: Path, value: bytes, whose: tuple[str, str, str], written_at: int | None = None) -> None:
    """Write a value in one step, as shut as it has to be from the first byte on."""
    draft = path.with_name(f"{path.name}.next")
    draft.unlink(missing_ok=True)
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(value)
        file.flush()
        os.fsync(handle)
        os.fchown(handle, pwd.getpwnam(whose[0]).pw_uid, grp.getgrnam(whose[1]).gr_gid)
        os.fchmod(handle, int(whose[2], 8))
        if written_at is not None:
            os.utime(handle, ns=(written_at, written_at))
    draft.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def own(row: dict[str, Any]) -> tuple[str, str, str]:
    """Give owner, group and mode as the table has them."""
    return row["owner"], row["group"], row["mode"]


def systemctl(*words: str) -> subprocess.CompletedProcess[str]:
    """Ask systemd; what it says is never a secret."""
    try:
        return subprocess.run([SYSTEMCTL, *words], capture_output=True, text=True, timeout=RESTART_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SecretsError(f"systemctl {words[0]} did not end: {error}") from error


def running(units: list[str]) -> list[str]:
    """Give those that run, in their order: what an operator has stopped is not started."""
    return [unit for unit in units if systemctl("is-active", "--quiet", f"{unit}.service").returncode == 0]


def restart(unit: str) -> None:
    """Restart a consumer and see it ready and still the same a little later."""
    service = f"{unit}.service"
    done = systemctl("restart", service)
    if done.returncode != 0:
        raise SecretsError(f"{unit} did not start")
    properties = ("show", "--property=ActiveState,InvocationID,NRestarts", service)
    first = systemctl(*properties).stdout
    time.sleep(SETTLE_SECONDS)
    if "ActiveState=active" not in first or systemctl(*properties).stdout != first:
        raise SecretsError(f"{unit} started and did not stay")


def prove(row: dict[str, Any]) -> None:
    """Have the secret's other side say that it takes the value, before any consumer depends on it.

    The command says {"findings": [{"check", "well", "seen"}]} as `mev doctor --json` does; those of the row's checks count.
    """
    proof = row["proof"]
    if not proof:
        return
    try:
        done = subprocess.run(proof["command"], capture_output=True, timeout=PROOF_SECONDS, check=False)
        findings = [each for each in json.loads(done.stdout)["findings"] if each["check"].startswith(proof["check"])]
        bad = [each for each in findings if each["well"] is not True]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, subprocess.TimeoutExpired) as error:
        raise SecretsError(
            f"{proof['command'][0]} does not say whether it is taken ({type(error).__name__})"
        ) from error
    if bad or not findings:
        raise SecretsError(
            f"{proof['check']} is not well with it"
            if bad
            else f"{proof['command'][0]} says nothing of {proof['check']}"
        )


def row_of(config: dict[str, Any], name: str) -> dict[str, Any]:
    """Give the row of a secret that can be replaced here."""
    rows: dict[str, dict[str, Any]] = {row["name"]: row for row in config["secrets"] if row["replace"]}
    if name not in rows:
        raise SecretsError(
            f"{name} is no secret of this host that can be replaced so; allowed: {', '.join(rows) or 'none here'}."
        )
    return rows[name]


def aside_of(config: dict[str, Any], row: dict[str, Any]) -> Path:
    """Give where the value before stands meanwhile."""
    return Path(config["aside"]) / f"{row['name']}.previous"


def replace(options: argparse.Namespace) -> int:
    """Put a value from standard input in a secret's place, and the one before back where it is no good."""
    config = configuration()
    row = row_of(config, options.name)
    value = sys.stdin.buffer.read(MOST_BYTES)
    problem = shape(value, row["form"])
    if problem:
        raise SecretsError(f"The new value of {options.name} {problem}; nothing was changed.")
    path, aside = Path(row["path"]), aside_of(config, row)
    with alone():
        if aside.exists():
            raise SecretsError(
                f"{aside} was left by a replacement that did not end; `fleet-secrets undo {options.name}` puts it back."
            )
        try:
            before, written_at = read_value(path), path.stat().st_mtime_ns
        except OSError as error:
            raise SecretsError(
                f"{path} cannot be read ({error.strerror}), so there is nothing to go back to; site.yml places it first."
            ) from error
        changed = not hmac.compare_digest(before, value)
        consumers = running(row["consumers"]) if changed else []
        if changed and not options.dry_run:
            with whole():
                exchange(config, row, (before, value), written_at, options.by)
    sys.stdout.write(json.dumps({"changed": changed, "restarts": consumers}) + "\n")
    return 0


def exchange(
    config: dict[str, Any], row: dict[str, Any], values: tuple[bytes, bytes], written_at: int, by: str
) -> None:
    """Bring the new value to its consumers, one after the other, or the old one back to all that have seen the new."""
    path, aside = Path(row["path"]), aside_of(config, row)
    touched: list[str] = []
    put(aside, values[0], ("root", "root", "0600"), written_at)
    try:
        put(path, values[1], own(row))
        prove(row)
        for unit in running(row["consumers"]):
            touched.append(unit)
            restart(unit)
    except (SecretsError, OSError) as failure:
        # Nothing ends the way back.
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        put(path, values[0], own(row), written_at)
        for unit in touched:
            try:
                restart(unit)
            except SecretsError as again:
                record(config, row["name"], "", "stuck", f"{failure}; with the old value {again}", by)
                raise StuckError(f"{row['name']}: {failure}; the old value is back, and {again} with it.") from failure
        aside.unlink()
        record(config, row["name"], "", "rolled_back", str(failure), by)
        raise RolledBackError(f"{row['name']} has its old value again: {failure}.") from failure
    aside.unlink()
    record(config, row["name"], "", "rotated", "", by)


def undo(options: argparse.Namespace) -> int:
    """Put the value before back that a replacement has left which did not end."""
    config = configuration()
    row = row_of(config, options.name)
    aside = aside_of(config, row)
    with alone():
        if not aside.exists():
            raise SecretsError(f"No replacement of {options.name} was cut off here: {aside} is not there.")
        put(Path(row["path"]), read_value(aside), own(row), aside.stat().st_mtime_ns)
        for unit in running(row["consumers"]):
            restart(unit)
        aside.unlink()
        record(config, row["name"], "", "undone", "it was cut off", options.by)
    return 0


def note(options: argparse.Namespace) -> int:
    """Put what a play did with a secret on record."""
    record(
        configuration(),
        options.name,
        options.item,
        options.result,
        sys.stdin.read(4096) if options.reason else "",
        options.by,
    )
    return 0


def record(config: dict[str, Any], name: str, item: str, result: str, reason: str, by: str) -> None:
    """Write to the journal and to the host's log: when, which, how it ended, why, and by whom."""
    here = os.environ.get("SUDO_USER") or account(os.getuid(), pwd.getpwuid)
    said = {"time": utc(time.time()), "secret": name, **({"chain": item} if item else {}), "result": result}
    said |= {
        "reason": "".join(each for each in " ".join(reason.split()) if each.isprintable())[:300],
        "by": f"{by or here} as {here}",
    }
    handle = os.open(config["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
    with os.fdopen(handle, "a") as file:
        file.write(json.dumps(said) + "\n")
    syslog.openlog("fleet-secrets", facility=syslog.LOG_AUTHPRIV)
    syslog.syslog(syslog.LOG_NOTICE, json.dumps(said))


def word(text: str) -> str:
    """Read a name that goes on record."""
    if text and not WORD.fullmatch(text):
        raise argparse.ArgumentTypeError("allowed: letters, digits, spaces, '@', '.', '_', '/' and '-', 128 at most")
    return text


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    top = argparse.ArgumentParser(prog="fleet-secrets", description=__doc__, epilog=EPILOG)
    commands = top.add_subparsers(dest="command", required=True)
    looking = commands.add_parser(
        "check", help="each secret that this host is to hold: there, whose, form, age; and what is none"
    )
    looking.add_argument("--json", action="store_true", help="for programs")
    looking.add_argument("--metrics", type=Path, help="write figures to this file as well")
    looking.add_argument(
        "--only-wrong",
        action="store_true",
        help="end with 0 where a rotation is due or a file unknown, and print what is not ok",
    )
    looking.set_defaults(run=check)
    taking = commands.add_parser(
        "replace", help="a new value from standard input; consumers restart one after the other"
    )
    taking.add_argument(
        "--dry-run", action="store_true", help="only say whether it is another one, and what would restart"
    )
    taking.set_defaults(run=replace)
    going_back = commands.add_parser("undo", help="the value before, where a replacement was cut off")
    going_back.set_defaults(run=undo)
    noting = commands.add_parser("record", help="put on record what a play did with a secret")
    noting.add_argument("--item", type=word, default="", help="which of several, a chain for example")
    noting.add_argument("--result", choices=RESULTS, required=True, help="how it ended")
    noting.add_argument("--reason", action="store_true", help="standard input says why")
    noting.set_defaults(run=note)
    for each in (taking, going_back, noting):
        each.add_argument("name", type=word, help="the secret's name in the table")
        each.add_argument("--by", type=word, default="", help="who asked for it (default: who runs it)")
    return top


def main() -> int:
    """Run the program and give its exit status."""
    options = parser().parse_args()
    try:
        return int(options.run(options))
    except SecretsError as failure:
        sys.stderr.write(f"fleet-secrets: {failure}\n")
        return {RolledBackError: BACK, StuckError: STUCK}.get(type(failure), WRONG)


if __name__ == "__main__":
    sys.exit(main())
