"""Parse a command line as strictly as the real client would, and refuse in its words."""

from __future__ import annotations

from typing import NamedTuple

from lab.standins.client import names

# Flags without a value, of those that a fleet uses; any other flag takes one.
SWITCHES = {
    "ws", "http", "metrics", "full", "minimal", "archive", "ipcdisable", "mcp.disable", "log.console.json", "externalcl",
    "caplin.blobs-immediate-backfill", "rollup.disable-tx-pool-gossip", "l1.trustrpc", "metrics.enabled", "rest-server", "help", "h",
    "version", "v", "nodiscover", "p2p.disable", "p2p.no-discovery",
}  # fmt: skip
SUBCOMMANDS = {
    "op-reth": ("node",),
    "base-reth-node": ("node",),
    "base-consensus": ("node",),
    "bor": ("server",),
    "heimdalld": ("start",),
}
CLAP = {"op-reth", "base-reth-node", "base-consensus"}
COBRA = {"heimdalld", "nitro"}


class RefusedError(Exception):
    """The client would not start: its message, and the exit code that it gives."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


class Arguments(NamedTuple):
    """What a command line said; a flag that is given twice keeps its last value."""

    flags: dict[str, str]

    def text(self, name: str, default: str = "") -> str:
        """A flag's value."""
        return self.flags.get(name, default)

    def has(self, name: str) -> bool:
        """Whether a switch is on."""
        return self.flags.get(name, "false") not in ("false", "0")

    def port(self, name: str, default: int) -> int:
        """A flag's value as a port."""
        value = self.flags.get(name, str(default))
        if not value.isdigit() or not 0 < int(value) < 65536:
            raise RefusedError(f'invalid value "{value}" for flag -{name}: parse error')
        return int(value)


def parse(program: str, argv: list[str]) -> Arguments:
    """Read the words after the program's name; RefusedError where the real client would refuse them."""
    words = list(argv)
    for wanted in SUBCOMMANDS.get(program, ()):
        if not words or words[0] != wanted:
            raise RefusedError(f"{program}: expected the subcommand '{wanted}', got '{words[0] if words else ''}'", 2)
        words.pop(0)
    flags: dict[str, str] = {}
    known = names.flags_of(program)
    while words:
        word = words.pop(0)
        if not word.startswith("-"):
            raise RefusedError(f"{program}: unexpected argument '{word}'", 2)
        name, equals, value = word.lstrip("-").partition("=")
        if name not in known:
            raise _unknown(program, name)
        if not equals:
            if name in SWITCHES:
                value = "true"
            elif words:
                value = words.pop(0)
            else:
                raise RefusedError(f"flag needs an argument: -{name}", 2)
        flags[name] = value
    if program == "op-reth" and "minimal" in flags:
        raise RefusedError("error: --minimal is not supported by op-reth", 2)
    return Arguments(flags)


def _unknown(program: str, name: str) -> RefusedError:
    if program in CLAP:
        return RefusedError(f"error: unexpected argument '--{name}' found\n\nFor more information, try '--help'.", 2)
    if program in COBRA:
        return RefusedError(f"Error: unknown flag: --{name}")
    return RefusedError(f"flag provided but not defined: -{name}")
