"""From an inventory's entry to the plan that files/snapshot reads, and what is wrong with the entry, in sentences."""

from __future__ import annotations

import runpy
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

Facts = Mapping[str, Any]

GIB = 1 << 30
# The program on the host holds the plan to the same forms.
FORMS = runpy.run_path(str(Path(__file__).parents[3] / "files" / "snapshot" / "forms.py"))
OF_PARTS = {"parts", "joined", "strip"}
KEYS = {*OF_PARTS, "by_client", "unpacked_gib", "requires", "replace", "root_allowed"}
PART_KEYS = {"url", "sha256", "bytes"}
DEFAULTS = {"spare_gib": 0, "downloads": 1, "connections": 1, "attempts": 1}
RANGES = {name: FORMS[name.upper()] for name in ("downloads", "connections", "attempts")}


def snapshot_plan(entry: object, settings: Facts) -> dict[str, Any]:
    """`plan` for files/snapshot (sizes in bytes) and `problems`: one sentence for each thing that cannot be carried out."""
    problems = list(_problems(entry, settings))
    if problems or not isinstance(entry, Mapping):
        return {"plan": {}, "problems": problems}
    plan = {
        "target": settings["target"],
        "staging": settings["staging"],
        "command": list(settings["command"]) if entry.get("by_client") else [],
        "parts": [dict(part) for part in entry.get("parts", [])],
        "joined": entry.get("joined", False),
        "strip": entry.get("strip", 0),
        "requires": list(entry.get("requires") or settings["requires"]),
        "unpacked_bytes": int(entry["unpacked_gib"] * GIB),
        "spare_bytes": int(float(settings["spare_gib"]) * GIB),
        "replace": bool(entry.get("replace")),
        "root_allowed": entry.get("root_allowed", False),
        **{name: int(settings[name]) for name in RANGES},
    }
    return {"plan": plan, "problems": []}


def snapshot_problems(entries: object, services: Facts, chains: list[str]) -> list[str]:
    """One sentence for each entry of an inventory's `node_snapshots` that cannot be carried out; no host is asked."""
    if not isinstance(entries, Mapping):
        return [f"node_snapshots is {entries!r}; allowed: a dictionary of services and their snapshots."]
    problems = []
    own = sorted(name for name, facts in services.items() if facts["chain"] in chains and facts["part"] != "pair")
    for name, entry in entries.items():
        if name not in own:
            problems.append(f"node_snapshots has {name}; allowed: services of the host's chains ({', '.join(own)}).")
            continue
        # Where the data goes and what it must hold is the client role's to say.
        told = entry if isinstance(entry, Mapping) else {}
        settings = {"service": name, "target": told.get("replace"), "requires": ["-"], "command": ["-"], **DEFAULTS}
        problems += _problems(entry, settings)
    return problems


def _problems(entry: object, settings: Facts) -> Iterator[str]:
    where = f"node_snapshots.{settings['service']}"
    for name, allowed in RANGES.items():
        if int(settings[name]) not in allowed:
            yield f"snapshot_{name} is {settings[name]}; allowed: {allowed.start} to {allowed.stop - 1}."
    if float(settings["spare_gib"]) < 0:
        yield f"snapshot_spare_gib is {settings['spare_gib']}; allowed: 0 or more."
    if not isinstance(entry, Mapping):
        yield f"{where} is {entry!r}; allowed: a dictionary of {', '.join(sorted(KEYS))}."
        return
    for name in sorted(set(entry) - KEYS):
        yield f"{where} has {name}; allowed: {', '.join(sorted(KEYS))}."
    yield from _origin_problems(entry, settings, where)
    yield from _value_problems(entry, settings, where)


def _origin_problems(entry: Facts, settings: Facts, where: str) -> Iterator[str]:
    if entry.get("by_client"):
        if not settings["command"]:
            yield f"{where}.by_client is set, and the client, as it is set up here, downloads no data itself; allowed: parts."
        for name in sorted(OF_PARTS & set(entry)):
            yield f"{where} has {name} beside by_client; allowed: one of them, since the client knows its own parts."
        return
    parts = entry.get("parts")
    if not isinstance(parts, list) or not parts:
        yield f"{where}.parts is {parts!r}; allowed: a list of at least one {{url, sha256, bytes}}, or by_client: true in its place."
    else:
        for number, part in enumerate(parts):
            yield from _part_problems(part, f"{where}.parts[{number}]")


def _value_problems(entry: Facts, settings: Facts, where: str) -> Iterator[str]:
    size = entry.get("unpacked_gib")
    if isinstance(size, bool) or not isinstance(size, int | float) or size <= 0:
        yield f"{where}.unpacked_gib is {size!r}; allowed: the GiB that the unpacked data takes, a number above 0."
    strip = entry.get("strip", 0)
    if isinstance(strip, bool) or not isinstance(strip, int) or strip not in FORMS["STRIP"]:
        yield f"{where}.strip is {strip!r}; allowed: 0 to 16 leading directories to leave out."
    for name in ("joined", "by_client", "root_allowed"):
        if not isinstance(entry.get(name, False), bool):
            yield f"{where}.{name} is {entry[name]!r}; allowed: true or false."
    if entry.get("replace") and entry["replace"] != settings["target"]:
        yield f"{where}.replace is {entry['replace']!r}; allowed: {settings['target']}, by name, or nothing."
    requires = entry.get("requires") or settings["requires"]
    if not isinstance(requires, list) or not requires or not all(FORMS["is_inside"](each) for each in requires):
        yield f"{where}.requires is {requires!r}; allowed: a list of relative paths that the unpacked data must hold."


def _part_problems(part: object, where: str) -> Iterator[str]:
    if not isinstance(part, Mapping) or set(part) - PART_KEYS:
        yield f"{where} is {part!r}; allowed: {{url, sha256, bytes}}."
        return
    if not isinstance(part.get("url"), str) or not FORMS["URL"].fullmatch(part["url"]):
        yield f"{where}.url is {part.get('url')!r}; allowed: an HTTPS address of a file."
    if not isinstance(part.get("sha256"), str) or not FORMS["SHA256"].fullmatch(part["sha256"]):
        yield f"{where}.sha256 is {part.get('sha256')!r}; allowed: 64 hex digits in small letters."
    size = part.get("bytes", 1)
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        yield f"{where}.bytes is {size!r}; allowed: the file's size, a whole number from 1, or nothing to ask the server."


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters by name."""
        return {"snapshot_plan": snapshot_plan, "snapshot_problems": snapshot_problems}
