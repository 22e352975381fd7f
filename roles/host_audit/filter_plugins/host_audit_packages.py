"""Which of the packages that came with the audit's judges may go again: apt refuses what a system cannot be without, and all that it stands on."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any


def packages(lines: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What dpkg-query prints by _host_audit_package_format (vars/main.yml): {package: {protected, needs: names, provides: names}}.

    A package of which only the configuration is left is not installed.
    """
    found = {}
    for line in lines:
        status, name, essential, protected, important, needs, provides = line.split("\t")
        if status != "installed":
            continue
        found[name] = {
            "protected": "yes" in (essential, protected, important),
            "needs": _names(needs),
            "provides": _names(provides),
        }
    return found


def came(before: Iterable[str], after: Iterable[str]) -> dict[str, list[str]]:
    """What was installed in between, by two outputs of dpkg-query: {go: names, stay: names}.

    What is essential or protected stays, and so does what it needs; of alternatives all that are new.
    """
    known, now = packages(before), packages(after)
    new = now.keys() - known.keys()
    by_name: dict[str, set[str]] = {}
    for name in new:
        for each in (name, *now[name]["provides"]):
            by_name.setdefault(each, set()).add(name)
    stay: set[str] = set()
    left = {name for name in new if now[name]["protected"]}
    while left:
        stay |= left
        left = {one for name in left for need in now[name]["needs"] for one in by_name.get(need, ())} - stay
    return {"go": sorted(new - stay), "stay": sorted(stay)}


def _names(relations: str) -> list[str]:
    """Package names of a relation field such as `a (>= 1), b:any | c`, without versions and machines."""
    return [
        match[0] for each in re.split(r"[,|]", relations) if (match := re.match(r"[a-z0-9][a-z0-9+.-]+", each.strip()))
    ]


class FilterModule:
    """Ansible's way to find the filters."""

    def filters(self) -> dict[str, Any]:
        """The filters by name."""
        return {"host_audit_came": came, "host_audit_installed": lambda lines: list(packages(lines))}
