"""Hosts: privileged systemd containers that are reached over SSH and reboot like machines."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING

from lab import ssh
from lab.ca import ensure_ca
from lab.errors import LabError
from lab.files import replace
from lab.image.build import DEFAULT_SUITE, USER, USER_ID, ensure_image
from lab.network import ensure_network, mac_address, pick_address
from lab.podman import LABEL, Podman
from lab.progress import step

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from ipaddress import IPv4Network
    from typing import Any

    from lab.checkout import Checkout

EVM_CHAINS = Path(__file__).parent / "evm" / "chains.json"
WORLD_NAMES = ("world", "mirror.lab")
_AT_REST = ("created", "exited", "stopped")
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,30}")

# systemd hands credentials over through a mount, which a container's private mounts would keep from the service.
_INIT = ("/bin/sh", "-c", "mount --make-rshared / && exec /sbin/init")


@dataclass(frozen=True, slots=True)
class HostFile:
    """A file that a host has before its first boot."""

    content: bytes
    mode: int = 0o644
    uid: int = 0


@dataclass(frozen=True, slots=True)
class Host:
    """A host of this lab, running or about to."""

    name: str
    address: str
    gateway: str
    suite: str


def ensure_host(
    checkout: Checkout,
    name: str,
    suite: str = DEFAULT_SUITE,
    *,
    files: Mapping[str, HostFile] | None = None,
    options: Sequence[str] = (),
) -> bool:
    """Have the host `name` up and reachable; return whether it had to be created or started.

    `files` (by absolute path) and `options` of `podman create` come on top of what every host gets. A host that
    was made from an older image, other files or other options is made anew.
    """
    if not _NAME.fullmatch(name):
        raise LabError(f"{name!r} is no name for a host: letters, digits, - and _, beginning with a letter, at most 31")
    podman = Podman(checkout)
    image = ensure_image(checkout, podman, suite)
    podman.ensure_runtime(image)
    with checkout.locked("hosts"):
        subnet = ensure_network(checkout, podman)
        present = {row["Labels"][f"{LABEL}.name"]: row for row in podman.containers()}
        taken = {IPv4Address(row["Labels"][f"{LABEL}.address"]) for row in present.values()}
        row = present.get(name)
        address = row["Labels"][f"{LABEL}.address"] if row else str(pick_address(name, subnet, taken))
        host = Host(name, address, str(subnet[1]), suite)
        content = {**_host_files(checkout, host, subnet), **(files or {})}
        made_from = _fingerprint(image, content, options)
        unusable = row and _unusable(podman, row, made_from)
        if row and unusable:
            with step(f"removing {name}, {unusable}"):
                podman.remove(checkout.container(name))
            row = None
        if row and row["State"] == "running":
            _remember(checkout, podman)
            return False
        with step(f"starting the host {name} ({suite}) at {address}"):
            if not row:
                _create(podman, checkout, host, image, made_from, options)
                podman.run("cp", "--archive=false", "-", f"{checkout.container(name)}:/", stdin=tar_of(content))
            podman.run("start", checkout.container(name))
            _remember(checkout, podman)
    ssh.wait_for(checkout, host)
    if row:
        # What was installed on it may have failed to start: that is its owner's to see, and no reason to give up on it.
        return True
    ssh.wait_for_boot(checkout, host)
    # The trust store has a directory of hash links, which only its own program can make.
    ssh.run_on(checkout, name, "sudo", "update-ca-certificates")
    return True


def remove_host(checkout: Checkout, name: str) -> bool:
    """Remove the host `name` of this lab; return whether there was one."""
    podman = Podman(checkout)
    with checkout.locked("hosts"):
        names = {row["Labels"][f"{LABEL}.name"] for row in podman.containers()}
        if name in names:
            with step(f"removing the host {name}"):
                podman.remove(checkout.container(name))
        _remember(checkout, podman)
    return name in names


def known(checkout: Checkout) -> dict[str, Host]:
    """Return this lab's hosts by name, as they were when the last one came or went; asks no container."""
    path = checkout.state / "hosts.json"
    rows = json.loads(path.read_text()) if path.exists() else []
    return {row["name"]: Host(**row) for row in rows}


def connection(checkout: Checkout, host: Host) -> dict[str, str]:
    """Return the inventory variables by which Ansible reaches `host`."""
    return {
        "ansible_host": host.address,
        "ansible_user": USER,
        "ansible_ssh_private_key_file": str(ssh.user_key(checkout)),
        "ansible_ssh_common_args": (
            f"-o IdentitiesOnly=yes -o StrictHostKeyChecking=yes -o UserKnownHostsFile={ssh.known_hosts(checkout)}"
        ),
        "ansible_python_interpreter": "/usr/bin/python3",
        # From where this machine's own connections reach the host.
        "lab_gateway": host.gateway,
    }


def tar_of(files: Mapping[str, HostFile]) -> bytes:
    """Return a tar archive of `files`, whose keys are absolute paths."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path, file in sorted(files.items()):
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.mode, entry.uid, entry.gid, entry.size = file.mode, file.uid, file.uid, len(file.content)
            archive.addfile(entry, io.BytesIO(file.content))
    return packed.getvalue()


def _host_files(checkout: Checkout, host: Host, subnet: IPv4Network) -> dict[str, HostFile]:
    key = ssh.host_key(checkout, host.name)
    authorized = f"{ssh.public(ssh.user_key(checkout))}\n"
    world = pick_address("world", subnet, ())
    names = (
        f"127.0.0.1 localhost\n::1 localhost ip6-localhost\n{host.address} {host.name}\n"
        f"{world} {' '.join(WORLD_NAMES)}\n"
    )
    machine_id = hashlib.md5(checkout.container(host.name).encode(), usedforsecurity=False).hexdigest()
    files = {
        "/etc/hosts": HostFile(names.encode()),
        # With an id of its own no boot is a first one, at which Debian's presets would enable every unit there is.
        "/etc/machine-id": HostFile(f"{machine_id}\n".encode(), 0o444),
        "/etc/ssh/ssh_host_ed25519_key": HostFile(key.read_bytes(), 0o600),
        "/etc/ssh/ssh_host_ed25519_key.pub": HostFile(f"{ssh.public(key)}\n".encode()),
        "/etc/ssh/sshd_config.d/lab.conf": HostFile(b"PasswordAuthentication no\n"),
        f"/home/{USER}/.ssh/authorized_keys": HostFile(authorized.encode(), 0o600, USER_ID),
        f"/etc/sudoers.d/{USER}": HostFile(f"{USER} ALL=(ALL) NOPASSWD: ALL\n".encode(), 0o440),
        "/usr/local/share/ca-certificates/lab.crt": HostFile(ensure_ca(checkout).read_bytes()),
    }
    if EVM_CHAINS.exists():
        files["/etc/chain-standin/standin.json"] = HostFile(_standin(json.loads(EVM_CHAINS.read_text())))
    return files


def _standin(chains: Mapping[str, Mapping[str, int]]) -> bytes:
    evm = {str(chain["id"]): f"http://world:{chain['port']}" for chain in chains.values()}
    return f"{json.dumps({'evm': evm}, indent=2)}\n".encode()


def _fingerprint(image: str, files: Mapping[str, HostFile], options: Sequence[str]) -> str:
    parts = hashlib.sha256(repr((image, tuple(options), _INIT)).encode())
    for path, file in sorted(files.items()):
        parts.update(repr((path, file)).encode())
    return parts.hexdigest()[:12]


def _unusable(podman: Podman, row: Mapping[str, Any], made_from: str) -> str | None:
    """Return why the container of `row` can neither be used nor started, or None."""
    if row["Labels"][f"{LABEL}.made-from"] != made_from:
        return "which was made from other parts"
    if row["State"] in _AT_REST:
        return None
    # Where /run outlives a restart of the machine, podman goes on to list containers whose processes have gone.
    return None if podman.runs(row["Id"]) else "which podman lists although its processes have gone"


def _create(podman: Podman, checkout: Checkout, host: Host, image: str, made_from: str, options: Sequence[str]) -> None:
    podman.run(
        "create",
        f"--name={checkout.container(host.name)}",
        f"--hostname={host.name}",
        f"--network={checkout.prefix}",
        f"--ip={host.address}",
        f"--mac-address={mac_address(host.address)}",
        "--privileged",
        "--systemd=always",
        "--no-hosts",
        # A host that reboots ends its first process; this is what switches it on again.
        "--restart=always",
        f"--label={LABEL}={checkout.prefix}",
        *(f"--label={LABEL}.{key}={value}" for key, value in asdict(host).items()),
        f"--label={LABEL}.made-from={made_from}",
        *options,
        image,
        *_INIT,
    )


def _remember(checkout: Checkout, podman: Podman) -> None:
    hosts = [
        Host(**{key: labels[f"{LABEL}.{key}"] for key in ("name", "address", "gateway", "suite")})
        for labels in (row["Labels"] for row in podman.containers())
    ]
    hosts.sort(key=lambda host: host.name)
    replace(checkout.state / "hosts.json", json.dumps([asdict(host) for host in hosts], indent=2))
    ssh.write_client_files(checkout, hosts)
