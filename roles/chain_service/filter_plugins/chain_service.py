"""Filters of the role chain_service: configuration, given as data, in the format that a client reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

MANAGED = "# Ansible managed\n"


def chain_service_json(data: Mapping[str, Any]) -> str:
    """Write JSON, indented, its keys in the order given."""
    return json.dumps(data, indent=4) + "\n"


def chain_service_toml(data: Mapping[str, Any]) -> str:
    """Write TOML of scalars, lists of scalars and tables: JSON writes those scalars and lists as TOML does."""
    return MANAGED + "\n".join(_table(data, ())) + "\n"


def _table(data: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    tables = {key: value for key, value in data.items() if isinstance(value, Mapping)}
    for key, value in data.items():
        if key not in tables:
            yield f"{json.dumps(key)} = {json.dumps(value)}"
    for key, value in tables.items():
        inner = (*path, json.dumps(key))
        yield ""
        yield f"[{'.'.join(inner)}]"
        yield from _table(value, inner)


FORMATS: dict[str, Callable[[Mapping[str, Any]], str]] = {"json": chain_service_json, "toml": chain_service_toml}


def chain_service_file(file: Mapping[str, Any]) -> dict[str, str]:
    """Turn a configuration file as data (path, format, data) into one as text (path, content)."""
    return {"path": file["path"], "content": FORMATS[file["format"]](file["data"])}


def chain_service_given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what is not set (empty, absent or false), so that it is left to the client; tables without anything go as well."""
    nested = {
        key: chain_service_given(value) if isinstance(value, Mapping) else value for key, value in options.items()
    }
    return {key: value for key, value in nested.items() if value or (value == 0 and value is not False)}


def chain_service_flags(options: Mapping[str, Any]) -> list[str]:
    """Write {flag: value} as a command line, without what is not set."""
    given = chain_service_given(options).items()
    return [f"--{flag}" if value is True else f"--{flag}={_word(value)}" for flag, value in given]


def chain_service_number(value: object) -> object:
    """A number that an inventory may have written as text, for a file in which text is none; what is not set stays so."""
    return int(value) if isinstance(value, str) and value else value


def _word(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)


def chain_service_directory(name: str, data_path: str) -> dict[str, str]:
    """Turn a name below the chain's data path (empty for that itself) into a directory for managed_service."""
    return {"path": f"{data_path}/{name}".rstrip("/"), "mode": "0750"}


# A pair's own unit would notice that a member is gone; the consensus client goes before the one that it drives.
REMOVAL = ("pair", "consensus", "execution")


def chain_service_units(chains: Sequence[str], services: Mapping[str, Any]) -> list[dict[str, str]]:
    """The units that the roles may have made for chains, [{name, part}], in the order in which they go; `snapshot` fills a part's data."""
    found: list[dict[str, str]] = []
    for chain in chains:
        own = [(service["part"], name) for name, service in services.items() if service["chain"] == chain]
        for part, name in sorted(own, key=lambda each: REMOVAL.index(each[0])):
            found.append({"name": name, "part": part})
            if part != "pair":
                found.append({"name": f"{name}-snapshot", "part": "snapshot"})
    return found


def chain_service_places(chains: Sequence[str], facts: Mapping[str, Any], secrets: str) -> list[dict[str, str]]:
    """What of chains is deleted, [{place, removes}]: `removes` is the pattern that finds something only where there is something to delete."""
    found: list[dict[str, str]] = []
    for chain in chains:
        data, secret = facts[chain]["data_path"], f"{secrets}/{chain}.hex"
        found += [{"place": data, "removes": f"{data}/*"}, {"place": secret, "removes": secret}]
    return found


def chain_service_remove_problems(
    chains: Sequence[str], data: Sequence[str], present: Sequence[str], facts: Mapping[str, Any], host: str
) -> list[str]:
    """Say, one sentence each, why chains or the data of some of them are not to be removed from a host."""
    known = ", ".join(facts)
    found = []
    if not chains:
        found.append(
            f'remove_chains is not set; allowed: a list of chains such as -e \'{{"remove_chains": ["sepolia"]}}\' ({known}).'
        )
    for name, given in (("remove_chains", chains), ("remove_data", data)):
        found += [f"{name} names '{chain}'; allowed: {known}." for chain in given if chain not in facts]
    found += [
        f"remove_data names '{chain}', which remove_chains does not; allowed: chains that are removed ({', '.join(chains)})."
        for chain in data
        if chain in facts and chain not in chains
    ]
    found += [
        f"'{chain}' is in node_chains of {host}, so the next site.yml would install it again; "
        "take it out of node_chains there first, and run site.yml so that no edge sends it calls."
        for chain in chains
        if chain in present
    ]
    return found


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name the filters."""
        return {
            "chain_service_directory": chain_service_directory,
            "chain_service_file": chain_service_file,
            "chain_service_flags": chain_service_flags,
            "chain_service_given": chain_service_given,
            "chain_service_json": chain_service_json,
            "chain_service_number": chain_service_number,
            "chain_service_places": chain_service_places,
            "chain_service_remove_problems": chain_service_remove_problems,
            "chain_service_units": chain_service_units,
        }
