#!/usr/bin/python3 -IB
"""Make, show and revoke the API keys of the edge on this host; see edge-keys --help."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import pwd
import re
import secrets
import sys
import syslog
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

CONFIG = Path("/etc/nginx/pools.json")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
DIGEST = re.compile(r"[0-9a-f]{64}")
PREFIX = "edge_"
# 256 bits; nobody needs a slow hash of what cannot be guessed.
KEY_BYTES = 32
SHORT = 12
# While clients go from one to the next.
MOST_KEYS = 2
DAY = 86400
REFUSED = 1
FIELDS = ("name", "tier", "not_before", "not_after")
EPILOG = """A key is printed once, when it is made; the host keeps its SHA-256. nginx takes a change up within a second, without a reload.
exit status: 0 done, 1 refused, 2 bad usage"""


class KeysError(Exception):
    """What was asked for is not done; the message is one sentence."""


def configuration() -> dict[str, Any]:
    """Give what the edge's own configuration says."""
    try:
        return dict(json.loads(CONFIG.read_bytes()))
    except (OSError, ValueError) as error:
        raise KeysError(f"{CONFIG} does not say where keys are: {error}.") from error


def directory() -> Path:
    """Give where the keys are."""
    return Path(configuration()["keys"])


def tiers() -> list[str]:
    """Give the tiers by name."""
    return [str(tier["name"]) for tier in configuration()["tiers"]]


@contextlib.contextmanager
def alone() -> Iterator[Path]:
    """Let no other run change keys meanwhile."""
    place = directory()
    handle = os.open(place, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield place
    finally:
        os.close(handle)


def known(place: Path) -> list[dict[str, Any]]:
    """Give every key's record, with its SHA-256, by name and time."""
    found = []
    for path in place.glob("*.json"):
        try:
            found.append({**json.loads(path.read_text()), "sha256": path.stem})
        except (OSError, ValueError) as error:
            raise KeysError(f"{path} cannot be read: {error}.") from error
    return sorted(found, key=lambda record: (record["name"], record["not_before"], record["sha256"]))


def write(place: Path, digest: str, record: dict[str, Any]) -> None:
    """Put a record in its place, whole."""
    path = place / f"{digest}.json"
    draft = place / f".{digest}.new"
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640)
    try:
        with os.fdopen(handle, "w") as file:
            json.dump({field: record[field] for field in FIELDS}, file)
            file.flush()
            os.fsync(file.fileno())
        # The directory's group is nginx'.
        os.chown(draft, 0, place.stat().st_gid)
        draft.chmod(0o640)
        draft.rename(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def add(place: Path, digest: str, record: dict[str, Any]) -> None:
    """Add a key, where that is allowed."""
    now = time.time()
    if record["tier"] not in tiers():
        raise KeysError(f"There is no tier {record['tier']}; allowed: {', '.join(tiers())}.")
    if record["not_after"] <= max(now, record["not_before"]):
        raise KeysError(f"The key of {record['name']} would end before it begins, or has ended; allowed: a later end.")
    usable = [each for each in known(place) if each["name"] == record["name"] and each["not_after"] > now]
    if len(usable) >= MOST_KEYS:
        ids = ", ".join(each["sha256"][:SHORT] for each in usable)
        raise KeysError(f"{record['name']} has {MOST_KEYS} keys already ({ids}); revoke one first.")
    write(place, digest, record)


def create(options: argparse.Namespace) -> None:
    """Make a key and print it, once."""
    key = PREFIX + secrets.token_urlsafe(KEY_BYTES)
    digest = hashlib.sha256(key.encode()).hexdigest()
    begins = int(time.time()) if options.not_before is None else options.not_before
    record = {"name": options.name, "tier": options.tier, "not_before": begins}
    record["not_after"] = begins + options.days * DAY
    with alone() as place:
        add(place, digest, record)
    audit("created", {**record, "sha256": digest})
    said = {**record, "sha256": digest, "key": key}
    sys.stdout.write(json.dumps(said) + "\n" if options.json else key + "\n")


def install(_: argparse.Namespace) -> None:
    """Take a record from standard input, as `list --json` prints it: a key that another edge made."""
    record = read_record(sys.stdin.read(4096))
    digest = record.pop("sha256")
    with alone() as place:
        path = place / f"{digest}.json"
        changed = not path.exists() or json.loads(path.read_text()) != record
        if changed:
            if path.exists():
                write(place, digest, record)
            else:
                add(place, digest, record)
    if changed:
        audit("installed", {**record, "sha256": digest})
    sys.stdout.write(json.dumps({"changed": changed}) + "\n")


def read_record(text: str) -> dict[str, Any]:
    """Read a record, strictly."""
    try:
        given = dict(json.loads(text))
        record: dict[str, Any] = {
            "name": str(given["name"]),
            "tier": str(given["tier"]),
            "not_before": int(given["not_before"]),
            "not_after": int(given["not_after"]),
            "sha256": str(given["sha256"]),
        }
    except (ValueError, TypeError, KeyError) as error:
        raise KeysError(
            f"Standard input is no record of a key; allowed: JSON with {', '.join(FIELDS)} and sha256."
        ) from error
    if not NAME.fullmatch(record["name"]) or not DIGEST.fullmatch(record["sha256"]):
        raise KeysError(
            "The record's name or sha256 has no such form; allowed: letters, digits, '.', '_' and '-', and 64 hex digits."
        )
    return record


def revoke(options: argparse.Namespace) -> None:
    """End the keys of a name, or the one whose SHA-256 begins as given."""
    with alone() as place:
        found = [
            record
            for record in known(place)
            if record["name"] == options.name and record["sha256"].startswith(options.id or "")
        ]
        if options.after is None:
            for record in found:
                (place / f"{record['sha256']}.json").unlink()
                audit("revoked", record)
        else:
            end = int(time.time()) + options.after
            found = [record for record in found if record["not_after"] > end]
            for record in found:
                write(place, record["sha256"], {**record, "not_after": end})
                audit("shortened", {**record, "not_after": end})
    sys.stdout.write(json.dumps({"changed": bool(found), "keys": len(found)}) + "\n")


def show(options: argparse.Namespace) -> None:
    """Print what is kept of every key, or of one name's; the keys themselves are kept nowhere."""
    records = [record for record in known(directory()) if options.name in (None, record["name"])]
    if options.json:
        sys.stdout.write(json.dumps(records) + "\n")
        return
    now = time.time()
    rows: list[tuple[str, ...]] = [("name", "id", "tier", "from", "until", "state")]
    for record in records:
        state = "valid"
        if now < record["not_before"]:
            state = "not yet"
        elif now >= record["not_after"]:
            state = "ended"
        times = [datetime.fromtimestamp(record[key], UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for key in FIELDS[2:]]
        rows.append((record["name"], record["sha256"][:SHORT], record["tier"], *times, state))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        sys.stdout.write("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n")


def audit(what: str, record: dict[str, Any]) -> None:
    """Write a line to the journal: who did what to which key."""
    by = os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name
    said = {key: record[key] for key in FIELDS} | {"id": record["sha256"][:SHORT], "by": by}
    syslog.openlog("edge-keys", facility=syslog.LOG_AUTHPRIV)
    syslog.syslog(syslog.LOG_NOTICE, f"{what} {json.dumps(said)}")


def name(text: str) -> str:
    """Read a key's name."""
    if not NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a name; allowed: letters, digits, '.', '_' and '-', 64 at most"
        )
    return text


def moment(text: str) -> int:
    """Read a time in UTC."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 2026-12-31T12:00:00+00:00") from None
    return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp())


def bounded(least: int, most: int) -> Callable[[str], int]:
    """Give a reader of whole numbers within bounds."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
        return int(text)

    return read


def prefix(text: str) -> str:
    """Read the beginning of a SHA-256."""
    if not re.fullmatch(r"[0-9a-f]{8,64}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no id; allowed: 8 hex digits or more, as list prints them")
    return text


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    top = argparse.ArgumentParser(prog="edge-keys", description=__doc__, epilog=EPILOG)
    commands = top.add_subparsers(dest="command", required=True)
    making = commands.add_parser("create", help="make a key, and print it this once")
    making.add_argument("name", type=name, help="whose it is; two keys of one name may be valid at once")
    making.add_argument("--tier", type=name, required=True, help="a tier of nginx_tiers")
    making.add_argument("--not-before", type=moment, help="when it begins, in UTC (default now)")
    making.add_argument("--days", type=bounded(1, 3650), default=365, help="how long it is valid (default 365)")
    making.add_argument("--json", action="store_true", help="for programs")
    making.set_defaults(run=create)
    listing = commands.add_parser("list", help="what is kept of the keys")
    listing.add_argument("name", type=name, nargs="?", help="of this name only")
    listing.add_argument("--json", action="store_true", help="for programs")
    listing.set_defaults(run=show)
    ending = commands.add_parser("revoke", help="end the keys of a name")
    ending.add_argument("name", type=name)
    ending.add_argument("--id", type=prefix, help="only the key whose SHA-256 begins so")
    ending.add_argument(
        "--after", type=bounded(0, 3650 * DAY), help="not now, but so many seconds from now at the latest"
    )
    ending.set_defaults(run=revoke)
    taking = commands.add_parser("install", help="take a record, as list --json prints it, from standard input")
    taking.set_defaults(run=install)
    return top


def main() -> int:
    """Run the program and give its exit status."""
    options = parser().parse_args()
    if os.geteuid() != 0:
        sys.stderr.write("edge-keys: only root may change keys.\n")
        return REFUSED
    try:
        options.run(options)
    except KeysError as refusal:
        sys.stderr.write(f"edge-keys: {refusal}\n")
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
