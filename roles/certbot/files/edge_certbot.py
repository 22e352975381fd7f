#!/usr/bin/python3 -IB
"""Have this host's edge certificate issued, renewed, rotated and revoked by certbot; see edge-certbot --help."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pwd
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONFIG = Path("/etc/certbot/edge.json")
INSTALL = "/usr/local/bin/edge-certificate"
CERTBOT_SECONDS = 1200
# An authority may refuse a nonce at any time (RFC 8555, 6.5); certbot itself tries each request once more only.
NONCE = re.compile(r"invalid anti-replay nonce|badNonce")
NONCE_TRIES = 3
REASONS = ("unspecified", "keycompromise", "affiliationchanged", "superseded", "cessationofoperation")
EPILOG = "exit status: 0 done, 1 not done, and the certificate before is served, 2 bad usage"
# What certbot says of a failure, the most telling first.
TELLING = (
    re.compile(r"^\s*Detail: (.+)$", re.MULTILINE),
    # Route 53's plugin has a page of advice after it.
    re.compile(r"(An error occurred \(\w+\) when calling the .+)$", re.MULTILINE),
    re.compile(r"^(?:\S*errors?\.\S+|\S*Error|\S*Exception)?:? ?(Received response from server: .+)$", re.MULTILINE),
    re.compile(r"^(?:certbot|acme|requests)\.\S*?(?:Error|Exception|Timeout): (.+)$", re.MULTILINE),
)
CHATTER = re.compile(
    r"^(Saving debug log|Ask for help|See the logfile|or re-run|An unexpected error occurred|Account registered|Requesting|"
    r"Renewing|Simulating|- -|Some challenges have failed|Unsafe permissions|Waiting|Encountered exception)"
)
REPLACED = re.compile(r"accountDoesNotExist|[Aa]ccount.* (does not exist|not found)")


class CertbotError(Exception):
    """What was asked for is not done; the message is one sentence."""


@dataclass(frozen=True)
class Settings:
    """What the role has written down for this host; no secret is in it."""

    user: str
    certbot: list[str]
    account: list[str]
    issue: list[str]
    environment: dict[str, str]
    server: str
    rehearsal_server: str
    lineage: Path
    issued: Path
    pair: Path
    log: Path

    @classmethod
    def read(cls) -> Settings:
        """Read them, or raise CertbotError."""
        try:
            told = json.loads(CONFIG.read_bytes())
            paths = {"lineage", "issued", "pair", "log"}
            values: dict[str, Any] = {name: Path(value) if name in paths else value for name, value in told.items()}
            return cls(**values)
        except (OSError, ValueError, TypeError) as error:
            raise CertbotError(f"{CONFIG} does not say which certificate this edge gets: {error}.") from error

    @property
    def digest(self) -> str:
        """What was asked for, so that another name, key or server is asked for at once."""
        return hashlib.sha256(json.dumps([self.server, self.issue]).encode()).hexdigest()

    @property
    def is_issued(self) -> bool:
        """Say whether certbot has what is asked for."""
        return (
            (self.lineage / "fullchain.pem").exists()
            and self.issued.exists()
            and self.issued.read_text() == self.digest
        )


def become(user: str) -> None:
    """Stop being root: what speaks with the network is the account's own."""
    if os.geteuid() != 0:
        return
    entry = pwd.getpwnam(user)
    os.chdir("/")
    os.setgroups(os.getgrouplist(user, entry.pw_gid))
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    os.umask(0o077)


def certbot(settings: Settings, *words: str) -> str:
    """Run certbot and give what it prints; raise CertbotError with its reason."""
    command = [*settings.certbot, *words, *settings.account, "--non-interactive"]
    for _ in range(NONCE_TRIES):
        done = once(command, settings)
        if not done.returncode:
            return done.stdout
        if not NONCE.search(done.stdout):
            break
    raise CertbotError(f"certbot {words[0]} failed: {reason_of(done.stdout)}.")


def once(command: list[str], settings: Settings) -> subprocess.CompletedProcess[str]:
    """Run a command of certbot's once; its output is both streams'."""
    try:
        return subprocess.run(
            command,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/nonexistent", **settings.environment},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            timeout=CERTBOT_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise CertbotError(f"certbot has not ended after {CERTBOT_SECONDS} s.") from error


def reason_of(output: str) -> str:
    """Find the reason in what certbot printed, as one line."""
    for pattern in TELLING:
        found = pattern.findall(output)
        if found:
            return tidy(found[-1])
    lines = [line for line in output.splitlines() if line.strip() and not CHATTER.match(line.strip())]
    return tidy(lines[-1]) if lines else "it gives no reason"


def tidy(text: str) -> str:
    """Make one line of printable characters, of a bounded length, without its dot."""
    return "".join(char for char in text.strip() if char.isprintable())[:300].rstrip(".")


def hand_over(settings: Settings, *, dry_run: bool = False) -> dict[str, Any]:
    """Give what certbot has to the edge, which tests it first; raise CertbotError where it is not served."""
    done = subprocess.run(
        [
            INSTALL,
            "install",
            "--certificate",
            str(settings.lineage / "fullchain.pem"),
            "--key",
            str(settings.lineage / "privkey.pem"),
            *(["--dry-run"] if dry_run else []),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise CertbotError(tidy(done.stderr.removeprefix("edge-certificate: ")) + ".")
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def ensure(options: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    """Have what is asked for issued and served where it is not; a renewal is the timer's."""
    if settings.is_issued:
        told = hand_over(settings, dry_run=options.dry_run)
        if told["changed"] and not options.dry_run:
            record(settings, "installed", told["serial"])
        return told
    if options.dry_run:
        return {"changed": True}
    if settings.rehearsal_server:
        certbot(settings, "certonly", *settings.issue, "--dry-run", "--server", settings.rehearsal_server)
    return issue(settings, "issued", ["--force-renewal"])


def renew(_options: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    """Renew what is due, by the authority's own advice (ARI) where it gives one, and serve it."""
    if not settings.is_issued:
        return issue(settings, "issued", ["--force-renewal"])
    return issue(settings, "renewed", ["--keep-until-expiring"])


def issue(settings: Settings, action: str, how: list[str]) -> dict[str, Any]:
    """Have a certificate issued and serve it; a new key each time."""
    certbot(settings, "certonly", *settings.issue, "--server", settings.server, *how)
    settings.issued.write_text(settings.digest)
    told = hand_over(settings)
    if told["changed"]:
        record(settings, action, told["serial"])
    return told


def rotate(options: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    """Have a new certificate with a new key issued and served, and the one before revoked."""
    if not settings.is_issued or not settings.pair.exists():
        raise CertbotError(
            f"{settings.lineage} holds no certificate that was asked for so: there is nothing to rotate."
        )
    before, old = settings.pair.read_bytes(), serial()
    if options.dry_run:
        return {"changed": True, "before": old}
    told = issue(settings, "rotated", ["--force-renewal", "--new-key"])
    if not told["changed"]:
        raise CertbotError(f"certbot has issued no new certificate; {old} is still served and is not revoked.")
    try:
        revoke(settings, before, options.reason)
    except CertbotError as refusal:
        raise CertbotError(
            f"The new certificate {told['serial']} is served, but the old one, {old}, is not revoked: {refusal}"
        ) from None
    record(settings, "revoked", old, reason=options.reason)
    return {**told, "before": old, "revoked": True}


def revoke(settings: Settings, pair: bytes, reason: str) -> None:
    """Revoke a certificate by its own key, which works whoever's account it was issued for."""
    with tempfile.TemporaryDirectory(prefix="edge-certbot.") as directory:
        file = Path(directory, "pair.pem")
        file.touch(mode=0o600)
        file.write_bytes(pair)
        certbot(
            settings,
            "revoke",
            "--cert-path",
            str(file),
            "--key-path",
            str(file),
            "--reason",
            reason,
            "--no-delete-after-revoke",
            "--server",
            settings.server,
        )


def serial() -> str:
    """Give the serial number, in hex, of the certificate that is served."""
    done = subprocess.run([INSTALL, "show"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise CertbotError(tidy(done.stderr.removeprefix("edge-certificate: ")) + ".")
    return str(json.loads(done.stdout)["serial"])


def record(settings: Settings, action: str, number: str, **more: str) -> None:
    """Add a line to the log of what was done; no secret is in it."""
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    with settings.log.open("a") as file:
        file.write(json.dumps({"at": at, "action": action, "serial": number, **more}) + "\n")


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    top = argparse.ArgumentParser(prog="edge-certbot", description=__doc__, epilog=EPILOG)
    commands = top.add_subparsers(dest="command", required=True)
    for name, run, text in (
        ("ensure", ensure, "have the certificate issued and served where it is not"),
        ("renew", renew, "renew it where that is due, and serve it"),
        ("rotate", rotate, "have one with a new key issued and served now, and the one before revoked"),
    ):
        command = commands.add_parser(name, epilog=EPILOG, help=text)
        command.set_defaults(run=run)
        if name != "renew":
            command.add_argument("--dry-run", action="store_true", help="only say whether something would be changed")
        if name == "rotate":
            command.add_argument(
                "--reason", choices=REASONS, default="superseded", help="for the revocation (default superseded)"
            )
    return top


def main() -> int:
    """Run the program and give its exit status."""
    options = parser().parse_args()
    try:
        settings = Settings.read()
        become(settings.user)
        told = options.run(options, settings)
    except CertbotError as refusal:
        words = str(refusal)
        if REPLACED.search(words):
            words += " The authority does not know the account: see docs/certificates.md."
        sys.stderr.write(f"edge-certbot: {words}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"edge-certbot: {error}.\n")
        return 1
    sys.stdout.write(json.dumps(told) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
