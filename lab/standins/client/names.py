"""Which flags, configuration keys and environment variables a client knows, from the lists in data/.

Standard library only: the stand-ins carry this module, and the contract tests ask it as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any

# Which list says what a program accepts on its command line.
FLAG_LISTS = {
    "erigon": "erigon",
    "op-reth": "op-reth",
    "base-reth-node": "base-reth-node",
    "geth": "op-geth",
    "op-node": "op-node",
    "base-consensus": "base-consensus",
    "bor": "bor",
    "heimdalld": "heimdalld",
    "nitro": "nitro",
}
# A configuration file may hold only names that stand in all of its lists: an older Bor ignores newer names without a word.
CONFIG_LISTS = {
    ("bor", "config.toml"): ("bor", "bor-2.3"),
    ("heimdalld", "app.toml"): ("heimdall-app",),
    ("heimdalld", "config.toml"): ("heimdall-config",),
    ("heimdalld", "client.toml"): ("heimdall-client",),
    ("nitro", "conf.json"): ("nitro",),
}
ENVIRONMENT_LISTS = {"base-consensus": ("base-consensus-env", "BASE_NODE_")}
# `bor server -config FILE` is taken by the server command itself and stands in no list.
EXTRA_FLAGS = {"bor": {"config"}}


def flags_of(program: str) -> frozenset[str]:
    """Every flag that a program accepts, without dashes."""
    return _read("flags", FLAG_LISTS[program]) | EXTRA_FLAGS.get(program, set())


def keys_of(program: str, file_name: str) -> frozenset[str]:
    """Every key that a program's configuration file may hold, as a dotted path."""
    lists = [_read("config", name) for name in CONFIG_LISTS[program, file_name]]
    return frozenset.intersection(*lists)


def unknown_flags(program: str, arguments: Iterable[str]) -> list[str]:
    """The flags of a command line that the program does not know."""
    known = flags_of(program)
    given = (argument.lstrip("-").split("=", 1)[0] for argument in arguments if argument.startswith("-"))
    return [name for name in given if name not in known]


def unknown_keys(program: str, file_name: str, data: Mapping[str, Any]) -> list[str]:
    """The keys of a configuration file that the program does not know."""
    known = keys_of(program, file_name)
    return [key for key in flatten(data) if key not in known]


def unknown_variables(program: str, environment: Iterable[str]) -> list[str]:
    """The environment variables with the program's prefix that it does not know."""
    if program not in ENVIRONMENT_LISTS:
        return []
    name, prefix = ENVIRONMENT_LISTS[program]
    known = _read("config", name)
    return [variable for variable in environment if variable.startswith(prefix) and variable not in known]


def flatten(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as {dotted path: value}."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _read(kind: str, name: str) -> frozenset[str]:
    # A quoted segment of a path is a literal key with a dot in it; the dotted form is the same text without quotes.
    text = resources.files(__package__.rpartition(".")[0]).joinpath("data", kind, f"{name}.txt").read_text()
    return frozenset(
        line.strip().replace('"', "") for line in text.splitlines() if line.strip() and not line.startswith("#")
    )
