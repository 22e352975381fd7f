#!/usr/bin/env python3
"""The lab's inventory, with the scenario's hosts in the place of its one host."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from lab import hosts  # noqa: E402
from lab.checkout import Checkout  # noqa: E402


def layout(scenario: str) -> dict[str, dict[str, Any]]:
    """Return groups and variables of each of a scenario's hosts: one host in all of the lab's groups, or what its hosts.yml says."""
    stated = ROOT / "molecule" / scenario / "hosts.yml"
    if stated.exists():
        said = yaml.safe_load(stated.read_text())
        return {
            str(host): entry if isinstance(entry, dict) else {"groups": list(entry), "variables": {}}
            for host, entry in said.items()
        }
    laid_out = yaml.safe_load((ROOT / "inventories" / "lab" / "hosts.yml").read_text())
    return {scenario: {"groups": list(laid_out["all"]["children"]), "variables": {}}}


def inventory(scenario: str, known: dict[str, dict[str, str]]) -> dict[str, Any]:
    """Return what Ansible expects of `--list`; hosts that are not there yet are in no group."""
    wanted = layout(scenario)
    groups: dict[str, dict[str, list[str]]] = {
        group: {"hosts": []} for entry in wanted.values() for group in entry["groups"]
    }
    for host, entry in wanted.items():
        for group in entry["groups"] if host in known else []:
            groups[group]["hosts"].append(host)
    # Several hosts read each other's nodes, over the lab's network in the VPN's place.
    variables = {
        host: {
            **known[host],
            **({"private_address": known[host]["ansible_host"]} if len(wanted) > 1 else {}),
            **entry["variables"],
        }
        for host, entry in wanted.items()
        if host in known
    }
    return {**groups, "_meta": {"hostvars": variables}}


def main() -> None:
    """Print the inventory of the scenario that Molecule runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--host")
    asked = parser.parse_args()
    checkout = Checkout.here()
    scenario = os.environ["MOLECULE_SCENARIO_NAME"]
    known = {name: hosts.connection(checkout, host) for name, host in hosts.known(checkout).items()}
    print(json.dumps(known.get(asked.host, {}) if asked.host else inventory(scenario, known)))


if __name__ == "__main__":
    main()
