"""The way into hosts: one key for the user, one pinned key for each host, and commands over SSH."""

from __future__ import annotations

import shlex
import socket
import time
from typing import TYPE_CHECKING

from lab.errors import LabError
from lab.files import replace
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
    replace(known_hosts(checkout), "".join(known))
    replace(config(checkout), "\n".join(blocks))


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
    """Wait until `host` lets its user in."""
    deadline = time.monotonic() + seconds
    while not _answers(str(host.address)):
        if time.monotonic() > deadline:
            raise LabError(
                f"{host.name} opens no SSH port at {host.address} within {seconds:.0f} s: "
                f"`podman logs {checkout.container(host.name)}` says why"
            )
        time.sleep(_POLL_SECONDS)
    run_on(checkout, host.name, "true", timeout_seconds=seconds)


def wait_for_boot(checkout: Checkout, host: Host, seconds: float = 60) -> None:
    """Wait until `host` has booted; LabError naming the unit when one has failed."""
    # It exits with a failure for every state but running, and the states are words.
    waiting = "systemctl is-system-running --wait || systemctl --failed --plain --no-legend"
    state, *failed = run_on(checkout, host.name, "sh", "-c", waiting, timeout_seconds=seconds).split()
    if state != "running":
        raise LabError(f"{host.name} is {state} instead of running: {failed[0] if failed else 'no unit has failed'}")


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
