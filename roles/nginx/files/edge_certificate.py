#!/usr/bin/python3 -IB
"""Show, judge and replace the certificate that this host's edge serves; see edge-certificate --help."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONFIG = Path("/etc/nginx/certificate.json")
LARGEST_FILE = 262144
# Workers look at the file once a second.
SERVED_SECONDS = 15.0
CONNECT_SECONDS = 3.0
# Connections that must all have the new one: workers share them, and each has its own copy.
SERVED_TIMES = 8
LEAST_LEFT = 1 / 3
EPILOG = "exit status: 0 done or all is well, 1 refused, gone back or not well, 2 bad usage"
CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.DOTALL)
KEY = re.compile(rb"-----BEGIN ([A-Z]+ )?PRIVATE KEY-----.+?-----END ([A-Z]+ )?PRIVATE KEY-----\n?", re.DOTALL)


class CertificateError(Exception):
    """What was asked for is not done, or something is not well; the message is one sentence."""


@dataclass(frozen=True)
class Settings:
    """What the role has written down for this host."""

    pair: Path
    previous: Path
    names: list[str]
    port: int
    nginx_conf: Path
    nginx_socket: str
    nginx_state: str
    state: Path

    @classmethod
    def read(cls) -> Settings:
        """Read them, or raise CertificateError."""
        try:
            told = json.loads(CONFIG.read_bytes())
            paths = {"pair", "previous", "nginx_conf", "state"}
            values: dict[str, Any] = {name: Path(value) if name in paths else value for name, value in told.items()}
            return cls(**values)
        except (OSError, ValueError, TypeError) as error:
            raise CertificateError(f"{CONFIG} does not say what this edge serves: {error}.") from error


@dataclass(frozen=True)
class Leaf:
    """What a certificate says: its DER, serial number in hex, and its lifetime as seconds since the epoch."""

    der: bytes
    serial: str
    issuer: str
    names: list[str]
    not_before: int
    not_after: int

    @property
    def left(self) -> float:
        """Which part of its lifetime is left, 1 to 0 and below."""
        return (self.not_after - time.time()) / max(1, self.not_after - self.not_before)

    def told(self) -> dict[str, Any]:
        """All of it but the DER, for programs."""
        return {
            "serial": self.serial,
            "issuer": self.issuer,
            "names": self.names,
            "not_before": stamp(self.not_before),
            "not_after": stamp(self.not_after),
            "seconds_left": int(self.not_after - time.time()),
            "lifetime_left": round(self.left, 4),
        }


def stamp(seconds: int) -> str:
    """Write a moment in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def joined(certificate: Path, key: Path) -> bytes:
    """Give chain and key as one PEM text, the chain first; raise CertificateError where a file lacks its part."""
    texts = []
    for path in (certificate, key):
        try:
            with path.open("rb") as file:
                texts.append(file.read(LARGEST_FILE + 1))
        except OSError as error:
            raise CertificateError(f"{path} cannot be read: {error.strerror}.") from error
        if len(texts[-1]) > LARGEST_FILE:
            raise CertificateError(f"{path} is longer than {LARGEST_FILE} bytes; allowed: a PEM file.")
    chain, secret = CERTIFICATE.findall(texts[0]), KEY.search(texts[1])
    if not chain:
        raise CertificateError(f"{certificate} holds no certificate; allowed: PEM, the server's own first.")
    if secret is None:
        raise CertificateError(f"{key} holds no unencrypted private key; allowed: PEM.")
    return b"".join(part.rstrip(b"\n") + b"\n" for part in (*chain, secret[0]))


def leaf_of(pair: Path) -> Leaf:
    """Read the first certificate of a PEM file, by a handshake in memory that asks for no trust."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(cadata=trust_itself(pair))
    # A leaf that is trusted by itself has no issuer to be found: this only reads it.
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.check_hostname = False
    # 1970-01-01 to 9999: whether it is valid now is said apart.
    client.verify_flags |= ssl.VerifyFlags(0x200000)  # X509_V_FLAG_NO_CHECK_TIME
    handshake = meet(pair, client, None)
    # Its types are wider than what it gives.
    told: Any = handshake.getpeercert()
    der = handshake.getpeercert(binary_form=True) or b""
    issuer = {name: value for part in told["issuer"] for name, value in part}
    return Leaf(
        der=der,
        serial=str(told["serialNumber"]).lower(),
        issuer=issuer.get("commonName") or issuer.get("organizationName") or "",
        names=[value for kind, value in told.get("subjectAltName", ()) if kind == "DNS"],
        not_before=int(ssl.cert_time_to_seconds(told["notBefore"])),
        not_after=int(ssl.cert_time_to_seconds(told["notAfter"])),
    )


def trust_itself(pair: Path) -> str:
    """Give the PEM text of the certificates of a file."""
    return b"".join(CERTIFICATE.findall(pair.read_bytes())).decode("ascii", "replace")


def meet(pair: Path, client: ssl.SSLContext, name: str | None) -> ssl.SSLObject:
    """Shake hands in memory with a server that has the pair, as a caller of `name` would; raise ssl.SSLError."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pair)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    caller = client.wrap_bio(back, there, server_hostname=name)
    answerer = server.wrap_bio(there, back, server_side=True)
    waiting = [caller, answerer]
    for _ in range(10):
        waiting = [side for side in waiting if not has_shaken_hands(side)]
        if not waiting:
            return caller
    raise CertificateError(f"A handshake with {pair} does not come to an end.")


def has_shaken_hands(side: ssl.SSLObject) -> bool:
    """Go on with a handshake; say whether it is done."""
    try:
        side.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


def judge(pair: Path, settings: Settings) -> Leaf:
    """Refuse a pair that callers would not take, or nginx; give its leaf."""
    try:
        leaf = leaf_of(pair)
    except ssl.SSLError as error:
        words = "its key is another's" if "KEY_VALUES_MISMATCH" in str(error) else f"it cannot be used ({error.reason})"
        raise CertificateError(f"The new certificate is refused: {words}.") from error
    # The host's own trust store, as callers have theirs.
    client = ssl.create_default_context()
    for name in settings.names:
        try:
            meet(pair, client, name)
        except ssl.SSLCertVerificationError as error:
            raise CertificateError(
                f"The new certificate ({', '.join(leaf.names)}, of {leaf.issuer}) is refused for {name}: {error.verify_message.rstrip('.')}."
            ) from error
    accepted_by_nginx(pair, settings)
    return leaf


def accepted_by_nginx(pair: Path, settings: Settings) -> None:
    """Let nginx test its own configuration with the new pair in the old one's place; Debian's own is not the edge's yet."""
    text = settings.nginx_conf.read_text() if settings.nginx_conf.exists() else ""
    if str(settings.pair) not in text:
        return
    with tempfile.TemporaryDirectory(prefix="edge-certificate.") as directory:
        # The pair is the trial's; what nginx would make or bind is not the running one's.
        for ours, theirs in (
            (str(settings.pair), str(pair)),
            (settings.nginx_socket, f"{directory}/edge.sock"),
            (f"{settings.nginx_state}/", f"{directory}/"),
        ):
            text = text.replace(ours, theirs)
        trial = Path(directory, "nginx.conf")
        trial.write_text(text)
        switches = f"pid {directory}/nginx.pid;"
        done = subprocess.run(
            ["nginx", "-t", "-q", "-p", "/usr/share/nginx", "-g", switches, "-c", str(trial)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    if done.returncode:
        raise CertificateError(f"nginx refuses the new certificate: {first_fault(done.stderr)}.")


def first_fault(text: str) -> str:
    """Give what nginx stops at, or else its last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["it gives no reason"]
    return next((line.partition("[emerg] ")[2] for line in lines if "[emerg] " in line), lines[-1]).rstrip(".")


def serves(settings: Settings, leaf: Leaf) -> str:
    """Say why the edge does not serve a certificate for each of its names; empty where it does."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    # What is compared is the certificate itself, bit by bit.
    client.verify_mode = ssl.CERT_NONE
    times = max(1, -(-SERVED_TIMES // max(1, len(settings.names))))
    for name in settings.names * times:
        try:
            with (
                socket.create_connection(("127.0.0.1", settings.port), timeout=CONNECT_SECONDS) as plain,
                client.wrap_socket(plain, server_hostname=name) as secure,
            ):
                got = secure.getpeercert(binary_form=True)
        except OSError as error:
            return f"a handshake for {name} on port {settings.port} fails: {error}"
        if got != leaf.der:
            return f"port {settings.port} answers {name} with another certificate"
    return ""


def is_running(settings: Settings) -> bool:
    """Say whether something listens where nginx would."""
    try:
        socket.create_connection(("127.0.0.1", settings.port), timeout=CONNECT_SECONDS).close()
    except ConnectionRefusedError:
        return False
    except OSError:
        return True
    return True


def wait_until_served(settings: Settings, leaf: Leaf) -> str:
    """Wait until the edge serves a certificate; give the reason why it does not, empty where it does or nginx is not running."""
    deadline = time.monotonic() + SERVED_SECONDS
    while is_running(settings):
        reason = serves(settings, leaf)
        if not reason or time.monotonic() > deadline:
            return reason
        time.sleep(0.5)
    return ""


@contextlib.contextmanager
def alone(settings: Settings) -> Iterator[None]:
    """Let one process at a time replace the pair."""
    handle = os.open(settings.pair.parent, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def place(text: bytes, path: Path) -> None:
    """Write a pair whole, as the directory's owner; the edge reads it by the directory's group, and nobody else does."""
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(text)
        file.flush()
        os.fsync(handle)
        if os.geteuid() == 0:
            directory = path.parent.stat()
            os.fchown(handle, directory.st_uid, directory.st_gid)
        os.fchmod(handle, 0o640)


def switch(settings: Settings, leaf: Leaf) -> None:
    """Put the tested pair, which stands beside the present one, in its place, and the present one back if it is not served."""
    new, before = beside(settings), settings.pair.read_bytes() if settings.pair.exists() else None
    if before is not None:
        keep(settings, before)
    new.replace(settings.pair)
    reason = wait_until_served(settings, leaf)
    if not reason:
        return
    if before is None:
        settings.pair.unlink()
        raise CertificateError(f"The new certificate is not served, and there was none before: {reason}.")
    place(before, new)
    new.replace(settings.pair)
    raise CertificateError(f"The new certificate {leaf.serial} is not served and the one before is back: {reason}.")


def keep(settings: Settings, text: bytes) -> None:
    """Have `back` find a pair."""
    aside = settings.previous.with_suffix(".new")
    place(text, aside)
    aside.replace(settings.previous)


def beside(settings: Settings) -> Path:
    """Give the path at which a pair stands while it is tested."""
    return settings.pair.with_suffix(".new")


def replace(text: bytes, settings: Settings, *, dry_run: bool) -> dict[str, Any]:
    """Test a pair and serve it; give what was done."""
    with alone(settings):
        if settings.pair.exists() and settings.pair.read_bytes() == text:
            return {"changed": False, **leaf_of(settings.pair).told()}
        new = beside(settings)
        try:
            place(text, new)
            leaf = judge(new, settings)
            if not dry_run:
                switch(settings, leaf)
        finally:
            new.unlink(missing_ok=True)
    return {"changed": True, **leaf.told()}


def install(options: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    """Serve the pair of two files."""
    if options.if_none and settings.pair.exists():
        return {"changed": False, **leaf_of(settings.pair).told()}
    return replace(joined(options.certificate, options.key), settings, dry_run=options.dry_run)


def back(options: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    """Serve the pair before the present one."""
    if not settings.previous.exists():
        raise CertificateError(f"{settings.previous} does not exist; there is no certificate before the present one.")
    return replace(settings.previous.read_bytes(), settings, dry_run=options.dry_run)


def retire(options: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    """Remove two files that an earlier release served, once another pair is; `back` serves them where there is nothing newer."""
    files = [path for path in (options.certificate, options.key) if path.exists()]
    if not files:
        return {"changed": False, "removed": []}
    told = {"changed": True, "removed": [str(path) for path in files]}
    with alone(settings):
        if not settings.pair.exists():
            raise CertificateError(
                f"{files[0]} stays: {settings.pair} does not exist, so nothing is served in its place."
            )
        reason = serves(settings, leaf_of(settings.pair)) if is_running(settings) else "nginx does not run"
        if reason:
            raise CertificateError(f"{files[0]} stays: {settings.pair} is not served: {reason}.")
        if options.dry_run:
            return told
        if len(files) == 2 and not settings.previous.exists():
            keep(settings, joined(options.certificate, options.key))
        for path in files:
            path.unlink()
    return told


def check(_options: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    """Hold the present pair against the clock and against what is served, write that down, and raise where it is not well."""
    if not settings.pair.exists():
        raise CertificateError(f"{settings.pair} does not exist: this edge has no certificate.")
    leaf = leaf_of(settings.pair)
    reason = serves(settings, leaf) if is_running(settings) else "nginx does not run"
    told = {**leaf.told(), "served": not reason, "checked": stamp(int(time.time()))}
    write(settings.state.with_suffix(".json"), json.dumps(told, indent=2) + "\n")
    write(settings.state.with_suffix(".prom"), metrics(leaf, served=not reason))
    if leaf.left <= 0:
        raise CertificateError(f"The certificate {leaf.serial} has expired on {stamp(leaf.not_after)}.")
    if leaf.left < LEAST_LEFT:
        raise CertificateError(
            f"The certificate {leaf.serial} ends on {stamp(leaf.not_after)}, and less than a third of its lifetime is left: it should "
            "have been renewed."
        )
    if reason:
        raise CertificateError(f"The certificate {leaf.serial} is not served: {reason}.")
    return told


def metrics(leaf: Leaf, *, served: bool) -> str:
    """Write what Prometheus' node exporter reads from a file."""
    lines = []
    for name, text, value in (
        ("not_after_seconds", "When the edge's certificate ends, in seconds since the epoch.", leaf.not_after),
        ("not_before_seconds", "When it began, in seconds since the epoch.", leaf.not_before),
        ("served", "1 where the edge answered with it when it was last looked at.", int(served)),
        ("checked_seconds", "When that was, in seconds since the epoch.", int(time.time())),
    ):
        lines += [
            f"# HELP edge_certificate_{name} {text}",
            f"# TYPE edge_certificate_{name} gauge",
            f"edge_certificate_{name} {value}",
        ]
    return "\n".join(lines) + "\n"


def write(path: Path, text: str) -> None:
    """Write a file whole, for all to read."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(text)
    new.chmod(0o644)
    new.replace(path)


def show(_options: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    """Say what the present pair is."""
    if not settings.pair.exists():
        raise CertificateError(f"{settings.pair} does not exist: this edge has no certificate.")
    return leaf_of(settings.pair).told()


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    top = argparse.ArgumentParser(prog="edge-certificate", description=__doc__, epilog=EPILOG)
    commands = top.add_subparsers(dest="command", required=True)
    for name, run, text in (
        ("show", show, "the certificate that is to be served, as JSON"),
        (
            "check",
            check,
            "refuse where less than a third of its lifetime is left, or it is not served; write that down",
        ),
        ("install", install, "test a certificate and its key, serve them, and go back where they are not served"),
        ("back", back, "serve the certificate before the present one"),
        ("retire", retire, "remove a pair of files of an earlier release, once another is served"),
    ):
        command = commands.add_parser(name, epilog=EPILOG, help=text)
        command.set_defaults(run=run)
        if name not in {"show", "check"}:
            command.add_argument(
                "--dry-run", action="store_true", help="only test, and say whether something would be changed"
            )
        if name in {"install", "retire"}:
            command.add_argument(
                "--certificate", type=Path, required=True, help="PEM file with the chain, the server's own first"
            )
            command.add_argument("--key", type=Path, required=True, help="PEM file with its private key")
        if name == "install":
            command.add_argument("--if-none", action="store_true", help="only where there is none yet")
    return top


def main() -> int:
    """Run the program and give its exit status."""
    options = parser().parse_args()
    try:
        told = options.run(options, Settings.read())
    except CertificateError as refusal:
        sys.stderr.write(f"edge-certificate: {refusal}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"edge-certificate: {error}.\n")
        return 1
    sys.stdout.write(json.dumps(told) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
