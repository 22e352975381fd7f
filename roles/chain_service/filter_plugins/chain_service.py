"""Filters of the role chain_service: configuration, given as data, in the format that a client reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
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


def chain_service_directory(name: str, data_path: str) -> dict[str, str]:
    """Turn a name below the chain's data path (empty for that itself) into a directory for managed_service."""
    return {"path": f"{data_path}/{name}".rstrip("/"), "mode": "0750"}


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name the filters."""
        return {
            "chain_service_directory": chain_service_directory,
            "chain_service_file": chain_service_file,
            "chain_service_json": chain_service_json,
        }
