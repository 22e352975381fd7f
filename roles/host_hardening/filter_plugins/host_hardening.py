"""The table of controls as a host is held to it; no host is asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

WHERE = ("any", "machine")
PHASES = ("host", "ssh")
EFFECTS = (
    "files",
    "settings",
    "sysctls",
    "modes",
    "units",
    "mounts",
    "proofs",
    "after",
    "packages",
    "unwanted_packages",
)
KEYS = {"on", "where", "phase", "reason", "way_back", *EFFECTS}
OVERRIDES = "host_hardening_control_overrides (inventory)"

Control = Mapping[str, Any]


def problems(controls: Mapping[str, Control], known: Iterable[str]) -> list[str]:
    """Everything wrong with the table as the inventory has made it, a sentence each: what, where it is set, what is allowed."""
    known = list(known)
    found = []
    for name, control in controls.items():
        if name not in known:
            found.append(f"{OVERRIDES} names the control {name}, which is not there; allowed: {', '.join(known)}.")
            continue
        strange = sorted(set(control) - KEYS)
        if strange:
            found.append(f"{name} in {OVERRIDES} has {', '.join(strange)}; allowed: {', '.join(sorted(KEYS))}.")
        if not isinstance(control.get("on", True), bool):
            found.append(f"{name}.on in {OVERRIDES} is {control['on']!r}; allowed: true and false.")
        if control.get("where", "any") not in WHERE:
            found.append(f"{name}.where in {OVERRIDES} is {control['where']!r}; allowed: {' and '.join(WHERE)}.")
        if control.get("phase", "host") not in PHASES:
            found.append(f"{name}.phase in {OVERRIDES} is {control['phase']!r}; allowed: {' and '.join(PHASES)}.")
    return found


def state_of(control: Control, container: bool) -> str:
    """Whether a control is held on a host: on, off, or elsewhere (it is a machine's, and the host is a container)."""
    if not control.get("on", True):
        return "off"
    return "elsewhere" if container and control.get("where", "any") == "machine" else "on"


def wanted(controls: Mapping[str, Control], container: bool, phase: str = "host") -> list[dict[str, Any]]:
    """The controls of a phase as the module host_controls takes them."""
    return [
        {
            "name": name,
            "on": state_of(control, container) == "on",
            **{effect: control[effect] for effect in EFFECTS if control.get(effect)},
        }
        for name, control in controls.items()
        if control.get("phase", "host") == phase
    ]


def report(
    controls: Mapping[str, Control], container: bool, looked: Iterable[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """What the module saw, by the controls' names: [{name, state, reason, differs}], with the state held, differs, off or elsewhere."""
    differs = {row["name"]: list(row["differs"]) for row in looked}
    rows = []
    for name, control in controls.items():
        wrong = differs.get(name, [])
        state = state_of(control, container)
        if state == "on" or wrong:
            state = "differs" if wrong else "held"
        rows.append({"name": name, "state": state, "reason": control["reason"], "differs": wrong})
    return rows


class FilterModule:
    """Ansible's way to find the filters."""

    def filters(self) -> dict[str, Any]:
        """The filters by name."""
        return {
            "host_hardening_problems": problems,
            "host_hardening_wanted": wanted,
            "host_hardening_report": report,
        }
