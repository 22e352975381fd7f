"""The way into hosts: one key for the user, one pinned key for each host, and commands over SSH."""

from __future__ import annotations

import shlex
import socket
import subprocess
import time
from typing import TYPE_CHECKING

from lab.errors import LabError
from lab.image.build import USER
from lab.process import DEFAULT_TIMEOUT_SECONDS, run

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from lab.checkout import Checkout
    from lab.hosts import Host

_POLL_SECONDS = 0.2


def directory(checkout: Checkout) -> Path:
    """Return where keys, known_hosts and the client's configuration are."""
    path = checkout.state / "ssh"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def user_key(checkout: Checkout) -> Path:
    """Return the private key that opens every host of this lab; its public half lies beside it."""
    return _key(directory(checkout) / "id_ed25519", f"{checkout.prefix} lab")


def host_key(checkout: Checkout, host: str) -> Path:
    """Return the private key by which `host` is known, also after it was made anew."""
    return _key(directory(checkout) / f"host_{host}", host)


def public(private: Path) -> str:
    """Return the public half of a key, as one line without its comment."""
    return " ".join(private.with_name(f"{private.name}.pub").read_text().split()[:2])


def write_client_files(checkout: Checkout, hosts: Iterable[Host]) -> None:
    """Write known_hosts and the client configuration for `hosts`, and for no other."""
    known, blocks = [], []
    for host in hosts:
        known.append(f"{host.address},{checkout.container(host.name)} {public(host_key(checkout, host.name))}\n")
        blocks.append(
            f"Host {host.name} {host.address}\n"
            f"  HostName {host.address}\n"
            f"  User {USER}\n"
            f"  IdentityFile {user_key(checkout)}\n"
            "  IdentitiesOnly yes\n"
            f"  UserKnownHostsFile {known_hosts(checkout)}\n"
            "  StrictHostKeyChecking yes\n"
            "  LogLevel ERROR\n"
        )
    known_hosts(checkout).write_text("".join(known))
    config(checkout).write_text("\n".join(blocks))


def known_hosts(checkout: Checkout) -> Path:
    """Return the file of pinned host keys."""
    return directory(checkout) / "known_hosts"


def config(checkout: Checkout) -> Path:
    """Return the client configuration: `ssh -F <it> <host>` opens a shell."""
    return directory(checkout) / "config"


def command(checkout: Checkout, host: str, *words: str) -> list[str]:
    """Return the command line that runs `words` on `host`, or a shell without any."""
    return ["ssh", "-F", str(config(checkout)), host, *([shlex.join(words)] if words else [])]


def run_on(checkout: Checkout, host: str, *words: str, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS) -> str:
    """Run `words` on `host` as its user and return what they print."""
    return run(command(checkout, host, *words), timeout_seconds=timeout_seconds)


def wait_for(checkout: Checkout, host: Host, seconds: float = 60) -> None:
    """Wait until `host` has booted and lets its user in."""
    deadline = time.monotonic() + seconds
    while not _answers(str(host.address)):
        if time.monotonic() > deadline:
            raise LabError(
                f"{host.name} opens no SSH port at {host.address} within {seconds:.0f} s: "
                f"`podman logs {checkout.container(host.name)}` says why"
            )
        time.sleep(_POLL_SECONDS)
    booted = subprocess.run(
        command(checkout, host.name, "systemctl", "is-system-running", "--wait"),
        capture_output=True,
        check=False,
        timeout=seconds,
    )
    state = booted.stdout.decode().strip()
    if state != "running":
        failed = run_on(checkout, host.name, "systemctl", "--failed", "--plain", "--no-legend").split()
        reason = failed[0] if failed else booted.stderr.decode().strip()
        raise LabError(f"{host.name} is {state or 'unreachable'} instead of running: {reason}")


def _answers(address: str) -> bool:
    try:
        with socket.create_connection((address, 22), timeout=1) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _key(path: Path, comment: str) -> Path:
    if not path.exists():
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)])
    return path
