"""What the lab reads from the catalogue: the facts of roles/catalogue, as they stand, with the lab's inventory on top."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from lab.checkout import Checkout


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain as an operator knows it; `service` is the unit to restart, `services` all that run it."""

    name: str
    title: str
    id: int
    client: str
    service: str
    services: tuple[str, ...]
    host_name: str
    url: str


def chains(checkout: Checkout) -> list[Chain]:
    """Return the chains of the lab's host, in the inventory's order."""
    facts = defaults(checkout, "chains")
    services: dict[str, dict[str, Any]] = defaults(checkout, "services")["catalogue_default_services"]
    port = edge_port(checkout)
    lab = yaml.safe_load((checkout.root / "inventories/lab/group_vars/all/lab.yml").read_text())
    found = []
    for name in lab["node_chains"]:
        chain = facts["catalogue_default_chains"][name]
        units = {unit: row["part"] for unit, row in services.items() if row["chain"] == name}
        host_name = f"{chain['public_name']}.{facts['catalogue_edge_domain']}"
        found.append(
            Chain(
                name=name,
                title=chain["title"],
                id=chain["id"],
                client=" + ".join(chain["components"].values()),
                service=main_unit(units),
                services=tuple(units),
                host_name=host_name,
                url=f"https://{host_name}:{port}/",
            )
        )
    return found


def edge_port(checkout: Checkout) -> int:
    """Return the port on which the edge speaks TLS."""
    nginx = defaults(checkout, "services")["catalogue_default_host_services"]["nginx"]
    return int(nginx["listeners"]["https"]["port"])


def main_unit(parts: dict[str, str]) -> str:
    """Return the unit that stands for the whole chain: the pair's umbrella, or the execution client."""
    by_part = {part: unit for unit, part in parts.items()}
    return by_part.get("pair") or by_part["execution"]


def defaults(checkout: Checkout, name: str) -> dict[str, Any]:
    """Return one file of the catalogue as it stands, before an inventory changes anything: chains, services or releases."""
    path = checkout.root / "roles" / "catalogue" / "defaults" / "main" / f"{name}.yml"
    loaded: dict[str, Any] = yaml.safe_load(path.read_text())
    return loaded
