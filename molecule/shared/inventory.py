#!/usr/bin/env python3
"""The lab's inventory, with the scenario's host in the place of its one host."""

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


def inventory(scenario: str, host: dict[str, str] | None) -> dict[str, Any]:
    """Return what Ansible expects of `--list`: without `host`, groups that are empty yet."""
    laid_out = yaml.safe_load((ROOT / "inventories" / "lab" / "hosts.yml").read_text())
    names = [scenario] if host else []
    groups = {group: {"hosts": names} for group in laid_out["all"]["children"]}
    return {**groups, "_meta": {"hostvars": {scenario: host} if host else {}}}


def main() -> None:
    """Print the inventory of the scenario that Molecule runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--host")
    asked = parser.parse_args()
    checkout = Checkout.here()
    scenario = os.environ["MOLECULE_SCENARIO_NAME"]
    known = hosts.known(checkout).get(scenario)
    connection = hosts.connection(checkout, known) if known else None
    print(json.dumps((connection or {}) if asked.host else inventory(scenario, connection)))


if __name__ == "__main__":
    main()
