#!/usr/bin/python3
"""What has changed on this host that no deployment changed: AIDE's comparison, and packages' own sums.

What differs already when a deployment begins is not its doing and stays a finding; what differs besides when it ends is its own, is known from
then on, and is a line of the journal each.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

STATE = Path("/var/lib/host_integrity")
AIDE = ("/usr/bin/aide", "--config=/etc/aide/aide.conf")
DEBSUMS = ("/usr/bin/debsums", "--changed")
AIDE_ERROR = 14
"""AIDE's status is a sum of 1, 2 and 4 for what is new, gone and changed; from here on it is an error."""
JOURNAL = ("/usr/bin/systemd-cat", "-t", "host-integrity")
WARNING, INFO = "warning", "info"
KINDS = ("added", "removed", "changed")
MISSING = re.compile(r"^debsums: missing file (?P<path>\S+) \(from (?P<package>\S+) package\)$")
# An image may be without these on purpose; nothing runs from there.
UNIMPORTANT = ("/usr/share/doc/", "/usr/share/man/", "/usr/share/info/", "/usr/share/locale/", "/usr/share/lintian/")


class IntegrityError(Exception):
    """One sentence: what could not be compared, and why."""


def now() -> str:
    """Give the time as ISO 8601, UTC, whole seconds."""
    return datetime.now(tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def differences(report: str) -> dict[str, str]:
    """Give AIDE's JSON report as {path: added, removed or changed}; IntegrityError where it is none."""
    try:
        read: dict[str, Any] = json.loads(report)
    except ValueError as error:
        message = "AIDE's report is no JSON: it did not come to its end."
        raise IntegrityError(message) from error
    return {str(path): kind for kind in KINDS for path in read.get(kind) or {}}


def strange_files(output: str, errors: str) -> list[str]:
    """Give the files that debsums calls changed or missing."""
    found = [line.strip() for line in output.splitlines() if line.startswith("/")]
    missing = [match["path"] for match in map(MISSING.match, errors.splitlines()) if match]
    return sorted({*found, *(path for path in missing if not path.startswith(UNIMPORTANT))})


def merged(kept: dict[str, Any], seen: dict[str, str], known: dict[str, Any], at: str) -> dict[str, Any]:
    """Give what is open: what earlier deployments left open, and what differs now, since when first seen."""
    fresh = {path: {"what": what, "since": known.get(path, {}).get("since", at)} for path, what in seen.items()}
    return {**fresh, **kept}


def metrics(found: dict[str, Any]) -> str:
    """Give the findings in Prometheus' text format, for a textfile collector."""
    rows = [
        ("host_integrity_open_findings", "Paths that changed and no deployment changed them.", len(found["open"])),
        (
            "host_integrity_package_findings",
            "Installed files that differ from their package's sums.",
            len(found["packages"]),
        ),
        (
            "host_integrity_checked_timestamp_seconds",
            "When paths were last compared.",
            seconds(found["checked_at"]),
        ),
        (
            "host_integrity_packages_checked_timestamp_seconds",
            "When installed files were last held against their packages' sums.",
            seconds(found["packages_checked_at"]),
        ),
    ]
    return "".join(f"# HELP {name} {text}\n# TYPE {name} gauge\n{name} {value}\n" for name, text, value in rows)


def seconds(at: str) -> int:
    """Give a time of `now` in seconds since 1970; 0 for none."""
    return int(datetime.fromisoformat(at).timestamp()) if at else 0


class Integrity:
    """The findings and the database of a host, below a directory that is root's."""

    def __init__(self, state: Path = STATE) -> None:
        self.state = state
        self.path = state / "findings.json"
        self.database = state / "aide.db"
        empty: dict[str, Any] = {"kept": {}, "open": {}, "packages": [], "checked_at": "", "packages_checked_at": ""}
        self.found = {**empty, **(json.loads(self.path.read_text()) if self.path.exists() else {})}

    def aide(self, verb: str) -> dict[str, str]:
        """Run AIDE and give what differs."""
        done = subprocess.run([*AIDE, verb], capture_output=True, text=True, check=False)
        if done.returncode >= AIDE_ERROR or done.returncode < 0:
            message = f"AIDE failed with status {done.returncode}: {' '.join(done.stderr.split())[-400:]}"
            raise IntegrityError(message)
        return {} if verb == "--init" else differences(done.stdout)

    def check(self) -> int:
        """Compare, tell what is open, and give how much that is."""
        if not self.database.exists():
            message = f"{self.database} is not there: no deployment has ended here yet."
            raise IntegrityError(message)
        at = now()
        opened = merged(self.found["kept"], self.aide("--check"), self.found["open"], at)
        tell(
            WARNING,
            [
                f"{path} {row['what']} outside of a deployment, first seen {row['since']}"
                for path, row in opened.items()
            ],
        )
        self.found.update(open=opened, checked_at=at)
        self.save()
        return len(opened)

    def begin(self, why: str) -> int:
        """Keep what differs before a deployment; give 0."""
        if self.database.exists():
            self.check()
            self.found["kept"] = self.found["open"]
            self.save()
        tell(INFO, [f"begins: {why}"])
        return 0

    def end(self, why: str, everything: bool = False) -> int:
        """Take what is there now into the database and tell what of it was not known; give 0."""
        seen = self.aide("--update" if self.database.exists() else "--init")
        Path(f"{self.database}.new").replace(self.database)
        accepted = {path: what for path, what in seen.items() if everything or path not in self.found["kept"]}
        if everything:
            accepted = {**{path: row["what"] for path, row in self.found["kept"].items()}, **accepted}
            self.found.update(kept={})
        tell(INFO, [f"accepted: {path} {what} ({why})" for path, what in accepted.items()])
        self.found.update(open=self.found["kept"], checked_at=now())
        self.save()
        sys.stdout.write(f"accepted {len(accepted)}, open {len(self.found['open'])}\n")
        return 0

    def packages(self) -> int:
        """Hold installed files against their packages' sums; give how many differ."""
        done = subprocess.run(DEBSUMS, capture_output=True, text=True, check=False)
        if done.returncode not in (0, 2):
            message = f"debsums failed with status {done.returncode}: {' '.join(done.stderr.split())[-400:]}"
            raise IntegrityError(message)
        strange = strange_files(done.stdout, done.stderr)
        tell(WARNING, [f"{path} is not what its package installed" for path in strange])
        self.found.update(packages=strange, packages_checked_at=now())
        self.save()
        return len(strange)

    def save(self) -> None:
        """Write the findings for root, and their numbers for all."""
        write(self.path, json.dumps(self.found, indent=1, sort_keys=True) + "\n", 0o600)
        write(self.state / "host_integrity.prom", metrics(self.found), 0o644)


def write(path: Path, content: str, mode: int) -> None:
    """Write a file whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(content)
    part.chmod(mode)
    part.replace(path)


def tell(priority: str, lines: list[str]) -> None:
    """Write lines to the journal; what is not printable in a path is escaped, so that a line stays one."""
    if lines:
        text = "".join(line.encode("unicode_escape").decode("ascii") + "\n" for line in lines)
        subprocess.run([*JOURNAL, "-p", priority], input=text, text=True, check=True)


@contextlib.contextmanager
def alone(state: Path) -> Iterator[None]:
    """One at a time; others wait."""
    state.mkdir(mode=0o755, parents=True, exist_ok=True)
    with (state / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main() -> int:
    """Run one command."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("check", help="compare; ends with 1 where something is open")
    commands.add_parser(
        "packages", help="hold installed files against their packages' sums; ends with 1 where one differs"
    )
    for name, text in (
        ("begin", "a deployment begins"),
        ("end", "it has ended"),
        ("accept", "all that is open is known and let be"),
    ):
        commands.add_parser(name, help=text).add_argument("why", help="in words, for the journal")
    asked = parser.parse_args()
    os.umask(0o077)
    try:
        with alone(STATE):
            integrity = Integrity()
            if asked.command == "begin":
                return integrity.begin(asked.why)
            if asked.command in ("end", "accept"):
                return integrity.end(asked.why, everything=asked.command == "accept")
            return int((integrity.check if asked.command == "check" else integrity.packages)() > 0)
    except (IntegrityError, OSError, ValueError) as error:
        sys.stderr.write(f"host-integrity: {error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
