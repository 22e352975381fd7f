"""Which flags, configuration keys and environment variables a client knows, from the lists in files/.

Standard library only: the lab's stand-ins carry this module and its lists, and refuse by them what a client would refuse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import Any

ROLE = Path(__file__).parents[1]

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


def unknown(commands: Iterable[Mapping[str, Any]]) -> list[str]:
    """What the clients of these commands would not take, a sentence each: what, of whom, where it is set, what is allowed.

    A command is {program, arguments, environment, files, set_in}: `files` as [{path, data}], `set_in` the variables that the
    user sets of it.
    """
    return [sentence for command in commands for sentence in _unknown_of(command)]


def _unknown_of(command: Mapping[str, Any]) -> Iterable[str]:
    program, where = command["program"], command["set_in"]
    if program not in FLAG_LISTS:
        yield f"There is no list of flags for '{program}'; allowed: {', '.join(FLAG_LISTS)}."
        return
    for name in unknown_flags(program, command.get("arguments", [])):
        flags = f"roles/chain_service/files/flags/{FLAG_LISTS[program]}.txt"
        yield f"{program} has no flag --{name}, set in {where}; allowed: those of {flags}{_meant(name, flags_of(program))}."
    for before, word in pairwise(command.get("arguments", [])):
        if not word.startswith("-") and before.lstrip("-") not in EXTRA_FLAGS.get(program, ()):
            yield f"{program} is given the word '{word}', set in {where}; allowed: flags as --name or --name=value."
    for name in sorted({word.partition("=")[0] for word in command.get("arguments", []) if word.endswith("=")}):
        yield f"{program} is given {name} without a value, by an option that is empty or in {where}; allowed: flags as --name or --name=value."
    for name in unknown_variables(program, command.get("environment", {})):
        known = _read("config", ENVIRONMENT_LISTS[program][0])
        yield f"{program} reads no variable {name}, set in {where}{_meant(name, known)}."
    for file in command.get("files", []):
        file_name = Path(file["path"]).name
        for key, value in flatten(file["data"]).items():
            if value is None:
                yield f"{program} is given {key} without a value in {file_name}, by an option that is empty or in {where}; allowed: a value."
        for key in unknown_keys(program, file_name, file["data"]):
            yield f"{program} knows no key {key} in {file_name}, set in {where}{_meant(key, keys_of(program, file_name))}."


def _meant(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, sorted(known), n=1)
    return f"; the nearest is {close[0]}" if close else ""


def _read(kind: str, name: str) -> frozenset[str]:
    # A stand-in is one zip file, out of which only its loader can read.
    text = __loader__.get_data(str(ROLE / "files" / kind / f"{name}.txt")).decode()  # type: ignore[name-defined]
    # A quoted segment of a path is a literal key with a dot in it; the dotted form is the same text without quotes.
    return frozenset(
        line.strip().replace('"', "") for line in text.splitlines() if line.strip() and not line.startswith("#")
    )


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name the filters."""
        return {"chain_service_unknown": unknown}
