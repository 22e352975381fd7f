"""What an upgrade would do to one host: pure functions over the catalogue's dictionaries and what is installed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Facts = Mapping[str, Any]


def groups(
    wanted: Iterable[str], present: Iterable[str], chains: Facts, installed: Facts, targets: Facts, unproven: Facts
) -> list[dict[str, Any]]:
    """What has to move, [{chains, steps: [{component, before, after}]}]; chains that share a component that moves go together.

    `wanted` are the chains to upgrade, `present` all of the host's; `installed` and `targets` give each component's version now
    and then. `unproven` has the version before the current one where nobody has seen that one healthy: a run was cut off, and the
    component still has to move. What is not installed yet is site.yml's work.
    """
    moves = {
        component: {"component": component, "before": proven[component], "after": str(targets[component])}
        for proven in ({**installed, **unproven},)
        for chain in wanted
        for component in chains[chain]["components"].values()
        if proven.get(component)
        and (component in unproven or proven[component] != str(targets.get(component, proven[component])))
    }
    found: list[dict[str, Any]] = []
    for chain in present:
        own = [moves[component] for component in chains[chain]["components"].values() if component in moves]
        if not own:
            continue
        joined = [group for group in found if any(step in group["steps"] for step in own)]
        found = [group for group in found if group not in joined]
        steps = [step for group in joined for step in group["steps"]]
        found.append(
            {
                "chains": [*(name for group in joined for name in group["chains"]), chain],
                "steps": steps + [step for step in own if step not in steps],
            }
        )
    return found


def words(group: Facts) -> str:
    """Say in a few words what moves."""
    steps = ", ".join(f"{step['component']} {step['before']} -> {step['after']}" for step in group["steps"])
    return f"{' and '.join(group['chains'])}: {steps}"


def versions(group: Facts, when: str) -> dict[str, str]:
    """Give the versions of what moves, by component, before or after."""
    return {step["component"]: step[when] for step in group["steps"]}


def unknown(wanted: Iterable[str], chains: Facts) -> list[str]:
    """Those of the wanted chains that the catalogue has not got."""
    return [chain for chain in wanted if chain not in chains]


class FilterModule:
    """The filters' names in playbooks."""

    def filters(self) -> dict[str, Any]:
        """Map each name to its function."""
        return {
            "node_upgrade_groups": groups,
            "node_upgrade_versions": versions,
            "node_upgrade_unknown": unknown,
            "node_upgrade_words": words,
        }
