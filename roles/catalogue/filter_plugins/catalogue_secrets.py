"""The table of secrets (secrets.yml) as one host has it; no value is in it, and no host is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

FIELDS = ("title", "path", "owner", "group", "mode", "form", "days")

Row = Mapping[str, Any]


def host_secrets(table: Mapping[str, Row], chains: Iterable[str]) -> list[dict[str, Any]]:
    """The secrets that a host holds, one row a file or directory, with every place filled in.

    A row whose path names a chain becomes one for each of the host's chains, and `item` is the chain.
    """
    chains = list(chains)
    return [
        {
            "name": name,
            "item": item,
            "kind": row.get("kind", "file"),
            "beside": list(row.get("beside", [])),
            "trusts": list(row.get("trusts", [])),
            "replace": bool(row.get("replace", False)),
            # In words where it is not the host's program that restarts them.
            "consumers": list(row["consumers"]) if row.get("replace") else [],
            "proof": dict(row.get("proof", {})),
            **{field: row[field] for field in FIELDS},
            "path": str(row["path"]).format(chain=item),
            "group": str(row["group"]).format(chain=item),
        }
        for name, row in table.items()
        if row["held"]
        for item in (chains if "{chain}" in row["path"] else [""])
    ]


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters by name."""
        return {"catalogue_host_secrets": host_secrets}
