"""What the tests of the VPN share: its machines, the ways into them, and an administrator's tunnel."""

from __future__ import annotations

import json
import socket
from typing import Any

import testinfra
from testinfra.host import Host

from lab import hosts, ssh
from lab.checkout import Checkout
from lab.podman import Podman
from tests.plays import Play, play

NETWORK = "10.66.0.0/24"
ADDRESS = {"wireguard": "10.66.0.1", "wireguard-b": "10.66.0.2", "alice": "10.66.0.200"}


def reached(name: str) -> Host:
    return testinfra.get_host(f"ssh://{name}", ssh_config=str(ssh.config(Checkout.here())), sudo=True)


def vpn(*options: str, **variables: object) -> Play:
    done = play("wireguard", "vpn.yml", {"catalogue_vpn_network": NETWORK, **variables}, *options)
    assert done.code == 0, done.messages
    return done


def answers(host: Host, address: str) -> bool:
    return bool(host.run("ping -c 1 -W 1 %s", address).rc == 0)


def peers(host: Host) -> dict[str, dict[str, Any]]:
    found = json.loads(host.run("vpn-status --json").stdout)
    return {peer["name"]: peer for peer in found["peers"]}


def connect(alice: Host, host: Host) -> None:
    """Have alice's tunnel to a host, by the public key that its status need not show."""
    public = host.check_output("wg show wg0 public-key")
    where = host.check_output("hostname -I").split()[0]
    if alice.run("ip link show wg0").rc:
        alice.check_output("chmod 0666 /dev/net/tun; LOG_LEVEL=error wireguard-go wg0 >/dev/null 2>&1")
        alice.check_output("wg set wg0 private-key /root/key && ip address add %s/24 dev wg0", ADDRESS["alice"])
        alice.check_output("ip link set dev wg0 mtu 1420 up")
    alice.check_output(
        "wg set wg0 peer %s endpoint %s allowed-ips %s persistent-keepalive 5",
        public,
        f"{where}:51820",
        f"{ADDRESS[host.backend.hostname]}/32",
    )


def machine_of_alice() -> Host:
    """An administrator's machine, with keys of its own."""
    machine = reached("wireguard-c")
    machine.check_output(
        "command -v wireguard-go || (apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "
        "--no-install-recommends wireguard-tools wireguard-go)"
    )
    machine.check_output("umask 077; test -s /root/key || wg genkey > /root/key")
    return machine


def administrators(alice: Host) -> list[dict[str, str]]:
    """The inventory's list of them."""
    key = alice.check_output("wg pubkey < /root/key")
    return [{"name": "alice", "public_key": key, "address": ADDRESS["alice"]}]


def console(command: str, host: str = "wireguard") -> str:
    """Run a command on a host past SSH, as on a provider's console."""
    checkout = Checkout.here()
    return Podman(checkout).run("exec", checkout.container(host), "sh", "-c", command).strip()


def lets_ssh_in() -> bool:
    """Whether SSH of the first host is reached from this machine, beside the VPN."""
    address = next(host.address for host in hosts.known(Checkout.here()).values() if host.name == "wireguard")
    try:
        socket.create_connection((address, 22), 2).close()
    except OSError:
        return False
    return True


def over_the_vpn() -> dict[str, str]:
    """Variables by which Ansible reaches the first host as alice does."""
    checkout = Checkout.here()
    known = hosts.known(checkout)["wireguard"]
    jump = f"ssh -F {ssh.config(checkout)} -W %h:%p wireguard-c"
    said = hosts.connection(checkout, known)["ansible_ssh_common_args"]
    return {
        "ansible_host": ADDRESS["wireguard"],
        "ansible_ssh_common_args": f"{said} -o HostKeyAlias={known.address} -o ProxyCommand='{jump}'",
    }
