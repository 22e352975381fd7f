"""The network of one checkout's lab: podman picks a free subnet, the lab picks the hosts' addresses in it."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING

from lab.errors import LabError
from lab.podman import LABEL

if TYPE_CHECKING:
    from collections.abc import Collection

    from lab.checkout import Checkout
    from lab.podman import Podman

# Below these, the gateway; above them, scenario hosts in the order they come.
FIXED = {"world": 10, "mev1": 11}
_FIRST_FREE = 20


def ensure_network(checkout: Checkout, podman: Podman) -> IPv4Network:
    """Return the subnet of this checkout's network, created first where there is none."""
    if checkout.prefix not in podman.run("network", "ls", "--format", "{{.Name}}").split():
        podman.run(
            "network",
            "create",
            "--disable-dns",
            f"--label={LABEL}={checkout.prefix}",
            f"--opt=mtu={_way_out_mtu()}",
            checkout.prefix,
        )
    return subnet_of(podman.json("network", "inspect", checkout.prefix))


def subnet_of(inspected: list[dict[str, list[dict[str, str]]]]) -> IPv4Network:
    """Return the first IPv4 subnet of what `podman network inspect` printed."""
    return next(IPv4Network(entry["subnet"]) for entry in inspected[0]["subnets"] if ":" not in entry["subnet"])


def pick_address(host: str, subnet: IPv4Network, taken: Collection[IPv4Address]) -> IPv4Address:
    """Return the address that `host` gets: always the same for the lab's own, the lowest free one for others."""
    if host in FIXED:
        return subnet[FIXED[host]]
    for position in range(_FIRST_FREE, subnet.num_addresses - 1):
        if subnet[position] not in taken:
            return subnet[position]
    raise LabError(f"the lab's network {subnet} has no address left for {host}: remove hosts that are no longer used")


def mac_address(address: str) -> str:
    """Return the hardware address that belongs to `address`.

    It stays when a host is made anew: neighbours remember the pair, and would send to the old one for up to a minute.
    """
    return ":".join(f"{octet:02x}" for octet in b"\x02\x42" + IPv4Address(address).packed)


def _way_out_mtu(routes: Path = Path("/proc/net/route"), interfaces: Path = Path("/sys/class/net")) -> int:
    """Return the MTU of this machine's way out, so that large packets of hosts are not lost behind a smaller one."""
    for line in routes.read_text().splitlines()[1:]:
        interface, destination = line.split()[:2]
        if destination == "00000000":
            return int((interfaces / interface / "mtu").read_text())
    return 1500
