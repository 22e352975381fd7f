"""Parse a command line as strictly as the real client would, and refuse in its words."""

from __future__ import annotations

from typing import NamedTuple

from roles.chain_service.filter_plugins import client_names as names

# Flags without a value, of those that a fleet uses; any other flag takes one.
SWITCHES = {
    "ws", "http", "metrics", "full", "minimal", "archive", "ipcdisable", "mcp.disable", "log.console.json", "externalcl",
    "caplin.blobs-immediate-backfill", "rollup.disable-tx-pool-gossip", "l1.trustrpc", "metrics.enabled", "rest-server", "help", "h",
    "version", "v", "nodiscover", "p2p.disable", "p2p.no-discovery", "caplin.blobs-archive", "prune.include-receipts",
    "execution.caching.archive", "init.force", "resumable",
}  # fmt: skip
# Where one program's flag takes a value although others' flag of that name does not.
VALUED = {"op-reth": {"metrics"}, "base-reth-node": {"metrics"}}
# Flags that clap collects; it refuses to hear any other one twice.
COLLECTED = {
    "bootnodes", "trusted-peers", "required-block-hashes", "txpool.locals", "rollup.interop-http", "rollup.sequencer-headers",
    "p2p.bootnodes", "p2p.signer.header", "v",
}  # fmt: skip
SUBCOMMANDS = {
    "op-reth": ("node",),
    "base-reth-node": ("node",),
    "base-consensus": ("node",),
    "bor": ("server",),
    "heimdalld": ("start",),
}
# The flags of a client's own download that are known; the real one has others, which no list here holds.
DOWNLOADS = {"base-reth-node": frozenset({"full", "datadir", "chain", "resumable"})}
CLAP = {"op-reth", "base-reth-node", "base-consensus"}
COBRA = {"heimdalld", "nitro"}
# What Go's strconv.ParseBool takes.
TRUE = {"1", "t", "T", "TRUE", "true", "True"}
FALSE = {"0", "f", "F", "FALSE", "false", "False"}


class RefusedError(Exception):
    """The client would not start: its message, and the exit code that it gives."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


class Arguments(NamedTuple):
    """What a command line said; of a flag that is given twice, the last value."""

    flags: dict[str, str]
    downloads: bool = False

    def text(self, name: str, default: str = "") -> str:
        """A flag's value."""
        return self.flags.get(name, default)

    def has(self, name: str, *, default: bool = False) -> bool:
        """Whether a switch is on."""
        return self.flags.get(name, str(default)) not in FALSE

    def port(self, name: str, default: int) -> int:
        """A flag's value as a port."""
        return port_in(self.flags.get(name, str(default)), f"flag -{name}")


def port_in(value: object, where: str) -> int:
    """A port in words or as a number; RefusedError, which says where it stood, if it is none."""
    text = str(value)
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65536):
        raise RefusedError(f'invalid value "{value}" for {where}: parse error')
    return int(text)


def parse(program: str, argv: list[str]) -> Arguments:
    """Read the words after the program's name; RefusedError where the real client would refuse them."""
    if program not in names.FLAG_LISTS:
        raise RefusedError(f"stand-in: there is no client '{program}', only {', '.join(names.FLAG_LISTS)}")
    words = list(argv)
    downloads = program in DOWNLOADS and words[:1] == ["download"]
    for wanted in ("download",) if downloads else SUBCOMMANDS.get(program, ()):
        if not words or words[0] != wanted:
            raise RefusedError(f"{program}: expected the subcommand '{wanted}', got '{words[0] if words else ''}'", 2)
        words.pop(0)
    flags: dict[str, str] = {}
    known = DOWNLOADS[program] if downloads else names.flags_of(program)
    while words:
        word = words.pop(0)
        name, equals, value = _name_in(program, word)
        if name not in known:
            raise _unknown(program, name)
        if program in CLAP and name in flags and name not in COLLECTED:
            raise RefusedError(f"error: the argument '--{name}' cannot be used multiple times", 2)
        if name in SWITCHES - VALUED.get(program, set()):
            flags[name] = _switched(program, name, value) if equals else "true"
        else:
            flags[name] = value if equals else _value(program, name, words)
    if program == "op-reth" and "minimal" in flags:
        raise RefusedError("error: --minimal is not supported by op-reth", 2)
    return Arguments(flags, downloads)


def _name_in(program: str, word: str) -> tuple[str, str, str]:
    """A word's flag, its equals sign if it has one, and what follows that."""
    text = word.removeprefix("-")
    if text == word or text in ("", "-"):
        raise RefusedError(f"{program}: unexpected argument '{word}'", 2)
    name, equals, value = text.removeprefix("-").partition("=")
    if program in CLAP and set(text) == {"v"}:
        return "v", "", ""
    if program in CLAP | COBRA and not text.startswith("-") and len(name) > 1:
        # One dash is for flags of one letter there; Go's own parsers take either.
        raise RefusedError(f"error: unexpected argument '{word}' found: a long flag has two dashes", 2)
    return name, equals, value


def _switched(program: str, name: str, value: str) -> str:
    if program in CLAP:
        raise RefusedError(f"error: unexpected value '{value}' for '--{name}' found; no more were expected", 2)
    if value not in TRUE | FALSE:
        raise RefusedError(f'invalid boolean value "{value}" for -{name}: parse error')
    return value


def _value(program: str, name: str, words: list[str]) -> str:
    # Go's parsers would take the next flag for the value: nobody means that, and it would not be checked itself.
    if words and not words[0].startswith("-"):
        return words.pop(0)
    if program in CLAP:
        raise RefusedError(f"error: a value is required for '--{name}' but none was supplied", 2)
    raise RefusedError(f"flag needs an argument: -{name}", 2)


def _unknown(program: str, name: str) -> RefusedError:
    if program in CLAP:
        return RefusedError(f"error: unexpected argument '--{name}' found\n\nFor more information, try '--help'.", 2)
    if program in COBRA:
        return RefusedError(f"Error: unknown flag: --{name}")
    return RefusedError(f"flag provided but not defined: -{name}")
