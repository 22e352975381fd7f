"""Further nodes of a chain on the same hosts: chains and services of their own that follow from the first's.

Pure functions over the catalogue's dictionaries. What is malformed is left out here and named by `problems`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

WHERE = "catalogue_instances in the inventory"
NAME = re.compile(r"[a-z][a-z0-9-]{0,29}[a-z0-9]")  # a user's name on the host as well
# What two nodes of a chain cannot share.
REQUIRED = ("of", "loopback", "data_path", "public_name", "port_offset")
# What makes them nodes of one chain.
SHARED = ("id", "network", "family", "parent", "parent_beacon", "sequencer", "instance_of")
OFFSETS = range(1, 60001)

Facts = Mapping[str, Any]


def chains_with(chains: Facts, instances: Facts) -> dict[str, Any]:
    """The chains, and each instance as one more: its chain's facts with its own before them, and `instance_of`."""
    found = dict(chains)
    for name, instance in _usable(instances, chains):
        first = chains[instance["of"]]
        own = {key: value for key, value in instance.items() if key not in ("of", "port_offset")}
        found[name] = {**first, "title": f"{first['title']} ({name})", **own, "instance_of": instance["of"]}
    return found


def services_with(services: Facts, instances: Facts, chains: Facts) -> dict[str, Any]:
    """The services, and those of each instance: its chain's under names of its own, each port `port_offset` higher.

    A service's name has the instance's in place of its chain's, or before it: base-execution gives base-archive-execution, and erigon
    gives ethereum-archive-erigon.
    """
    found = dict(services)
    for name, instance in _usable(instances, chains):
        for service, facts in services.items():
            if facts.get("chain") == instance["of"]:
                found[service_name(service, instance["of"], name)] = {
                    **facts,
                    "chain": name,
                    "listeners": {
                        listener: {**entry, "port": entry["port"] + instance["port_offset"]}
                        for listener, entry in facts.get("listeners", {}).items()
                    },
                }
    return found


def service_name(service: str, chain: str, instance: str) -> str:
    """What an instance calls its own of a chain's services."""
    if service == chain or service.startswith(f"{chain}-"):
        return instance + service.removeprefix(chain)
    return f"{instance}-{service}"


def problems(instances: Facts, chains: Facts) -> list[str]:
    """What is wrong with the instances, a sentence each; `chains` are the chains without them."""
    return [sentence for name, instance in instances.items() for sentence in _problems_of(str(name), instance, chains)]


def _problems_of(name: str, instance: object, chains: Facts) -> Iterator[str]:
    if not NAME.fullmatch(name) or name in chains:
        yield (
            f"An entry of {WHERE} is called '{name}'; allowed: 2 to 31 of a-z, 0-9 and hyphens, a letter first, and none of "
            f"{', '.join(chains)}."
        )
    if not isinstance(instance, Mapping):
        yield f"{WHERE} says {instance!r} of '{name}'; allowed: a table with {', '.join(REQUIRED)}."
        return
    missing = [key for key in REQUIRED if key not in instance]
    if missing:
        yield f"'{name}' lacks {', '.join(missing)} in {WHERE}; each is required."
    if "of" in instance and instance["of"] not in chains:
        yield f"'{name}' is of {instance['of']!r} in {WHERE}; allowed: {', '.join(chains)}."
    offset = instance.get("port_offset", OFFSETS[0])
    if not isinstance(offset, int) or isinstance(offset, bool) or offset not in OFFSETS:
        yield (
            f"port_offset of '{name}' is {offset!r} in {WHERE}; allowed: a whole number from {OFFSETS[0]} to {OFFSETS[-1]}, "
            "which is added to each port of its chain."
        )
    for key in SHARED:
        if key in instance:
            yield f"'{name}' sets {key} in {WHERE}; allowed: what nodes of one chain may differ in, so not {', '.join(SHARED)}."


def _usable(instances: Facts, chains: Facts) -> Iterator[tuple[str, Facts]]:
    return ((name, instance) for name, instance in instances.items() if not problems({name: instance}, chains))


class FilterModule:
    """The filters' names in playbooks."""

    def filters(self) -> dict[str, Any]:
        """Map each name to its function."""
        return {
            "catalogue_instance_chains": chains_with,
            "catalogue_instance_problems": problems,
            "catalogue_instance_services": services_with,
        }
