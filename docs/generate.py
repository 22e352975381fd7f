"""Write the generated pages: one a role, one a client family, the catalogue, the forks' days, the snapshots' layouts, the commands.

    python -m docs.generate            # what `make docs` runs
    python -m docs.generate --check    # exit 1 and name the pages that are stale

A page's generated section stands between two markers; words before and after them are written by hand and stay.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from mev import cli as mev_cli

from lab import cli as lab_cli
from lab.catalogue import defaults
from lab.checkout import Checkout
from lab.files import replace
from roles.catalogue.filter_plugins.catalogue import listeners

SPECS = "meta/argument_specs.yml"
FACTS = "roles/catalogue/defaults"
CONTROLS = "roles/host_hardening/defaults/main/controls.yml"
# The client roles' families, and each one's page.
CLIENTS = {"erigon": "Erigon", "op_stack": "OP-stack pairs", "polygon": "Bor and Heimdall", "nitro": "Nitro"}
LISTENERS = ("Service", "Listener", "Address", "Port", "Protocol", "Exposure")
DISKS = ("Chain", "Data path", "Disk, GiB")
RELEASES = ("Component", "Version", "Architecture", "Source")
HARDENING = ("Control", "Hosts", "Why", "What its switch gives back")
SECRETS = (
    "Secret",
    "What",
    "Path",
    "Owner, group, mode",
    "Hosts",
    "Read by",
    "Rotation",
    "Old value meanwhile",
    "Due after",
)
FORKS = ("Chain", "Fork", "Activation (UTC)", "Oldest versions that follow", "Left behind", "Source")
MARKER = re.compile(r"<!-- generated from [^>]* by make docs: (begin|end) -->")
# Ansible's markup for what is typed; its other markups are not used in this repository.
TYPED = re.compile(r"\bC\(([^)]*)\)")
# A path of the catalogue's in another fact.
PLACE = re.compile(r"\{\{ catalogue_paths\.(\w+) \}\}")
TARGET = re.compile(r"^([a-z0-9-]+):.*## (.*)$", re.MULTILINE)

Entry = Mapping[str, Any]


class DocsError(Exception):
    """One sentence: which page cannot be written, why, and what to do."""


@dataclass(frozen=True, slots=True)
class Page:
    """A generated section, what it is generated from, and the file that holds it (relative to the repository)."""

    path: Path
    title: str
    source: str
    section: str


@dataclass(frozen=True, slots=True)
class Command:
    """A command below a program, in the words that are typed after it; a group of commands takes no options itself."""

    words: str
    does: str
    options: tuple[argparse.Action, ...]
    is_group: bool


def main(argv: Sequence[str] | None = None) -> int:
    """Write the pages, or check them; return the process's exit code."""
    parser = argparse.ArgumentParser(prog="python -m docs.generate", description="Write the generated pages again.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 and name the pages that are stale")
    options = parser.parse_args(argv)
    checkout = Checkout.here()
    try:
        found = stale(checkout)
    except DocsError as error:
        print(f"docs: {error}", file=sys.stderr)
        return 1
    if options.check:
        return _report(found)
    for path, text in found.items():
        replace(checkout.root / path, text)
        print(f"written: {path}")
    return 0


def stale(checkout: Checkout) -> dict[Path, str]:
    """Return the pages that are not what they should be, by path, each with the text that it should hold."""
    found = {}
    for page in pages(checkout):
        file = checkout.root / page.path
        current = file.read_text() if file.exists() else ""
        wanted = merged(current, page)
        if wanted != current:
            found[page.path] = wanted
    return found


def pages(checkout: Checkout) -> list[Page]:
    """Return every generated page: the roles' in the order of their names, the clients', the catalogue's, and those of one subject each."""
    roles = [file.parent.parent for file in sorted(checkout.root.glob(f"roles/*/{SPECS}"))]
    return [
        *(role_page(checkout, role) for role in roles),
        *(client_page(checkout, family) for family in CLIENTS),
        catalogue_page(checkout),
        fork_day_page(checkout),
        snapshots_page(checkout),
        hardening_page(checkout),
        secrets_page(checkout),
        commands_page(checkout),
    ]


def merged(current: str, page: Page) -> str:
    """Return the page's text: `current` with its section made new, or with one at its end, or a whole page from nothing.

    Raises DocsError where the markers in `current` are not one pair.
    """
    begin, end = (f"<!-- generated from {page.source} by make docs: {word} -->" for word in ("begin", "end"))
    section = f"{begin}\n\n{page.section}\n\n{end}"
    markers = list(MARKER.finditer(current))
    if [marker[1] for marker in markers] == ["begin", "end"]:
        return current[: markers[0].start()] + section + current[markers[1].end() :]
    if markers:
        raise DocsError(
            f"the markers of the generated section in {page.path} are not one begin and then one end; "
            "remove them, and `make docs` writes the section again at the page's end."
        )
    return f"{current.rstrip() or f'# {page.title}'}\n\n{section}\n"


def role_page(checkout: Checkout, role: Path) -> Page:
    """Return a role's page: what it is for, and its options by entry point."""
    entries: dict[str, Entry] = yaml.safe_load((role / SPECS).read_text())["argument_specs"]
    sections = [_entry_point(name, entry, entries.get("main", {})) for name, entry in entries.items()]
    return Page(
        path=role.relative_to(checkout.root) / "README.md",
        title=role.name,
        source=SPECS,
        section="\n\n".join(sections),
    )


def catalogue_page(checkout: Checkout) -> Page:
    """Return the page of the catalogue's facts as they stand, before an inventory changes any."""
    chains, services, releases, forks, resources = (
        defaults(checkout, name) for name in ("chains", "services", "releases", "forks", "resources")
    )
    intro = (
        "The facts that inventories build on; an inventory changes one by `catalogue_chain_overrides`, "
        "`catalogue_service_overrides`, `catalogue_host_service_overrides` or `catalogue_release_overrides`."
    )
    sections = [
        intro,
        _chains(chains, services["catalogue_default_services"]),
        _listeners(chains["catalogue_default_chains"], services),
        _resources(chains["catalogue_default_chains"], services, resources["catalogue_system_memory_mib"]),
        _releases(releases["catalogue_default_releases"]),
        _forks(forks["catalogue_default_forks"]),
    ]
    return Page(Path("docs/catalogue.md"), "Catalogue", FACTS, "\n\n".join(sections))


def client_page(checkout: Checkout, family: str) -> Page:
    """Return a client family's page: its units, ports, disks, releases and forks, as the catalogue has them."""
    facts = {name: defaults(checkout, name) for name in ("chains", "services", "releases", "forks")}
    chains = {
        name: chain for name, chain in facts["chains"]["catalogue_default_chains"].items() if chain["family"] == family
    }
    services = {
        name: service
        for name, service in facts["services"]["catalogue_default_services"].items()
        if service["chain"] in chains
    }
    forks = [fork for fork in facts["forks"]["catalogue_default_forks"] if fork["chain"] in chains]
    known = {component for chain in chains.values() for component in chain["components"].values()}
    known |= {component for fork in forks for component in (*fork["minimum"], *fork.get("left_behind", []))}
    releases = {
        name: release for name, release in facts["releases"]["catalogue_default_releases"].items() if name in known
    }
    units = (
        [
            _code(f"{name}.service"),
            service["part"],
            _code(service["chain"]),
            _code(chains[service["chain"]]["components"].get(service["part"], "")) or "both as one",
            f"{_code(service['kill_signal'])}, {service['stop_seconds']} s",
            str(service["resources"]["memory_mib"]),
        ]
        for name, service in services.items()
    )
    header = ("Unit", "Part", "Chain, and account", "Program", "Is stopped by, killed after", "Memory, MiB")
    sections = [
        "The catalogue's facts as they stand, before an inventory changes any; their origins and the rest are in the catalogue itself.",
        f"## Units\n\n{_table(header, units)}",
        f"## Ports\n\n{_table(LISTENERS, _listener_rows(services, chains))}",
        f"## Disks\n\n{_table(DISKS, _disk_rows(chains))}",
        f"## Releases\n\n{_table(RELEASES, _release_rows(releases))}",
        f"## Forks\n\n{_table(FORKS, _fork_rows(forks))}" if forks else "",
    ]
    return Page(
        Path(f"docs/clients/{family.replace('_', '-')}.md"), CLIENTS[family], FACTS, "\n\n".join(filter(None, sections))
    )


def fork_day_page(checkout: Checkout) -> Page:
    """Return the runbook's last part: what each fork of the table asks for, the latest first."""
    forks = defaults(checkout, "forks")["catalogue_default_forks"]
    chains = defaults(checkout, "chains")["catalogue_default_chains"]
    latest = sorted(forks, key=lambda fork: (fork["at"], fork["chain"]), reverse=True)
    return Page(
        Path("docs/fork-day.md"),
        "Fork day",
        FACTS,
        "\n\n".join(_fork_day(fork, chains[fork["chain"]]) for fork in latest),
    )


def snapshots_page(checkout: Checkout) -> Page:
    """Return where each component's data belongs, with the services that run it as the catalogue has them."""
    layouts = defaults(checkout, "snapshots")["catalogue_snapshot_layouts"]
    chains = defaults(checkout, "chains")["catalogue_default_chains"]
    services = defaults(checkout, "services")["catalogue_default_services"]
    rows = (
        [
            _code(component),
            ", ".join(
                _code(name)
                for name, service in services.items()
                if chains[service["chain"]]["components"].get(service["part"]) == component
            )
            or "where an inventory names it",
            _code(layout["directory"]),
            ", ".join(map(_code, layout["requires"])),
        ]
        for component, layout in layouts.items()
    )
    header = ("Component", "Services", "Its data goes to, below the chain's data path", "and must hold there")
    return Page(Path("docs/snapshots.md"), "Snapshots", FACTS, _table(header, rows))


def hardening_page(checkout: Checkout) -> Page:
    """Return the page of what hosts are held to, with its table of controls as they are before an inventory switches any."""
    table = yaml.safe_load((checkout.root / CONTROLS).read_text())["host_hardening_default_controls"]
    rows = (
        [
            _code(name),
            "machines" if control.get("where") == "machine" else "all",
            _cell(control["reason"]),
            _cell(control.get("way_back", "all of it")),
        ]
        for name, control in table.items()
    )
    return Page(Path("docs/hardening.md"), "Hosts that hold", CONTROLS, _table(HARDENING, rows))


def secrets_page(checkout: Checkout) -> Page:
    """Return the page of secrets, with the table of where they lie, who may read them and how they are replaced."""
    table = defaults(checkout, "secrets")["catalogue_default_secrets"]
    paths = defaults(checkout, "services")["catalogue_paths"]
    rows = (
        [
            _code(name),
            _cell(secret["title"]),
            _code(PLACE.sub(lambda found: paths[found[1]], secret["path"])),
            f"{_code(secret['owner'])} {_code(secret['group'])} {secret['mode']}",
            _cell(secret["hosts"]),
            ", ".join(secret["consumers"]) or "nobody who would restart",
            _cell(secret["rotation"]),
            _cell(secret["overlap"]),
            f"{secret['days']} days" if secret["days"] else "never by time alone",
        ]
        for name, secret in table.items()
    )
    return Page(Path("docs/secrets.md"), "Secrets", f"{FACTS}/main/secrets.yml", _table(SECRETS, rows))


def _fork_day(fork: Entry, chain: Entry) -> str:
    needs = ", ".join(_code(f"{component} {version}") for component, version in fork["minimum"].items())
    run = ", ".join(map(_code, chain["components"].values()))
    words = f"Needs {needs} or newer, [upstream]({fork['source']}) says; the catalogue runs {run} on this chain."
    if "left_behind" in fork:
        behind = ", ".join(map(_code, fork["left_behind"]))
        words += f" No version of {behind} follows it: such a chain's `components` have to be others before that day."
    chains = json.dumps({"node_upgrade_chains": [fork["chain"]]})
    commands = (
        f"ansible-playbook -i INVENTORY playbooks/verify.yml -e catalogue_fork_now={fork['at']}",
        f"ansible-playbook -i INVENTORY playbooks/upgrade.yml -e '{chains}'",
    )
    return "\n".join([f"### {chain['title']}: {fork['fork']}, {fork['at']}", "", words, "", "```", *commands, "```"])


def commands_page(checkout: Checkout) -> Page:
    """Return the page of every command that is typed here or on a host."""
    targets = TARGET.findall((checkout.root / "Makefile").read_text())
    made = _table(("Command", "Does"), ([_code(f"make {name}"), _cell(does)] for name, does in targets))
    sections = [
        f"## `make`\n\n{made}",
        _program(lab_cli.command_line()),
        _program(mev_cli.command_line()),
    ]
    return Page(Path("docs/commands.md"), "Commands", "the Makefile and the programs' parsers", "\n\n".join(sections))


def _report(found: Iterable[Path]) -> int:
    names = ", ".join(map(str, found))
    if names:
        print(f"docs: {names}: not what the sources say any more; `make docs` writes it again.", file=sys.stderr)
    return 1 if names else 0


def _entry_point(name: str, entry: Entry, main: Entry) -> str:
    heading = f"## Entry point `{name}`"
    if name != "main" and entry == main:
        return f"{heading}\n\nThe same as `main`."
    paragraphs = [] if name == "main" else [heading]
    paragraphs += [f"{_prose(text)}." for text in _several(entry.get("short_description", []))]
    paragraphs += map(_prose, _several(entry.get("description", [])))
    options = entry.get("options", {})
    if name != "main" and options and options == main.get("options"):
        paragraphs.append("Its options are those of `main`, above.")
    elif options:
        header = ("Option", "Type", "Required", "Default", "Choices", "Description")
        paragraphs += ["## Options"] if name == "main" else []
        paragraphs.append(_table(header, _option_rows(options)))
    return "\n\n".join(paragraphs)


def _option_rows(options: Mapping[str, Entry], prefix: str = "") -> Iterator[list[str]]:
    for name, option in options.items():
        elements = f" of {option['elements']}" if "elements" in option else ""
        yield [
            _code(prefix + name),
            option.get("type", "str") + elements,
            "yes" if option.get("required") else "no",
            _value(option["default"]) if "default" in option else "",
            ", ".join(map(_value, option.get("choices", []))),
            _cell(" ".join(map(_prose, _several(option.get("description", []))))),
        ]
        yield from _option_rows(option.get("options", {}), f"{prefix}{name}.")


def _chains(facts: Entry, services: Mapping[str, Entry]) -> str:
    rows = (
        [
            f"{chain['title']} ({_code(name)})",
            str(chain["id"]),
            " + ".join(map(_code, chain["components"].values())),
            ", ".join(_code(unit) for unit, service in services.items() if service["chain"] == name),
            _code(chain["data_path"]),
            _code(chain["parent"]) or "none",
            _code(f"{chain['public_name']}.{facts['catalogue_edge_domain']}"),
            f"{chain['allowed_lag_seconds']} s",
        ]
        for name, chain in facts["catalogue_default_chains"].items()
    )
    header = ("Chain", "Id", "Clients", "Services", "Data path", "Parent", "Public name", "Allowed lag")
    return (
        f"## Chains\n\nFrom {_facts('chains')}. The parent is the chain that a node reads; the allowed lag is the age of its head, in seconds, "
        f"beyond which a node does not count as in step.\n\n{_table(header, rows)}"
    )


def _listeners(chains: Entry, facts: Entry) -> str:
    every = {**facts["catalogue_default_services"], **facts["catalogue_default_host_services"]}
    return (
        f"## Listeners\n\nFrom {_facts('services')}. The addresses are those of a host without `private_address`; where a host has one, its "
        f"listeners of exposure `vpn` bind that instead.\n\n{_table(LISTENERS, _listener_rows(every, chains))}"
    )


def _listener_rows(services: Mapping[str, Entry], chains: Entry) -> Iterator[list[str]]:
    for service, entries in listeners(services, chains).items():
        for name, entry in entries.items():
            yield [
                _code(service),
                _code(name),
                _code(entry["address"]),
                str(entry["port"]),
                ", ".join(entry["protocols"]),
                entry["exposure"],
            ]


def _resources(chains: Mapping[str, Entry], facts: Entry, system_mib: int) -> str:
    every = {**facts["catalogue_default_services"], **facts["catalogue_default_host_services"]}
    rows = (
        [
            _code(name),
            _code(service["chain"]) if "chain" in service else f"group {_code(service['group'])}",
            str(service["resources"]["memory_mib"]),
            str(service["resources"].get("cpu_weight", 100)),
            str(service["resources"].get("io_weight", 100)),
        ]
        for name, service in every.items()
        if "resources" in service
    )
    return (
        f"## Resources\n\nFrom {_facts('services')} and {_facts('chains')}, where each figure's origin stands with it. [Sizing a host](sizing.md) "
        f"says what follows from them. The system keeps {system_mib} MiB (`catalogue_system_memory_mib`).\n\n"
        f"{_table(('Service', 'Of', 'Memory, MiB', 'CPU weight', 'IO weight'), rows)}\n\n"
        f"{_table(DISKS, _disk_rows(chains))}"
    )


def _disk_rows(chains: Mapping[str, Entry]) -> Iterator[list[str]]:
    for name, chain in chains.items():
        yield [_code(name), _code(chain["data_path"]), str(chain["disk_gib"])]


def _releases(releases: Mapping[str, Entry]) -> str:
    return (
        f"## Releases\n\nFrom {_facts('releases')}. `{{version}}` and `{{arch}}` are filled in, the latter with upstream's word for the "
        f"architecture. An image's registry is what `release_registries` gives for its name.\n\n{_table(RELEASES, _release_rows(releases))}"
    )


def _release_rows(releases: Mapping[str, Entry]) -> Iterator[list[str]]:
    for component, release in releases.items():
        machines = ", ".join(_code(machine) for machine in release["arch"])
        yield [_code(component), release["version"], machines, _source(release)]


def _forks(forks: Iterable[Entry]) -> str:
    return (
        f"## Forks\n\nFrom {_facts('forks')}. The preflight refuses a client that its chain has left behind, and names one that is not ready "
        "from `catalogue_fork_warn_days` before the fork; `catalogue_fork_overrides` lets one pass, by chain, fork and reason. "
        "`playbooks/verify.yml` prints what is installed on the fleet against this table; `-e catalogue_fork_now=2027-01-31T00:00:00Z` "
        f"asks for another moment, `-e catalogue_fork_report=FILE` writes it as JSON.\n\n{_table(FORKS, _fork_rows(forks))}"
    )


def _fork_rows(forks: Iterable[Entry]) -> Iterator[list[str]]:
    for fork in sorted(forks, key=lambda fork: (fork["at"], fork["chain"])):
        yield [
            _code(fork["chain"]),
            _cell(fork["fork"]),
            fork["at"],
            ", ".join(_code(f"{component} {version}") for component, version in fork["minimum"].items()),
            ", ".join(map(_code, fork.get("left_behind", []))) or "none",
            f"[upstream]({fork['source']})",
        ]


def _source(release: Entry) -> str:
    if release["kind"] == "oci":
        return f"image {_code(release['image'])} of registry {_code(release['registry'])}"
    return _code(release["source"])


def _facts(name: str) -> str:
    return f"[`{name}.yml`](../{FACTS}/main/{name}.yml)"


def _program(parser: argparse.ArgumentParser) -> str:
    commands = list(_commands(parser))
    shown = (
        [_code(f"{parser.prog} {command.words}{' …' if command.is_group else ''}"), _cell(command.does)]
        for command in commands
    )
    options = _table(("Option", "Of", "Required", "Default", "Choices", "Description"), _argument_rows(commands))
    return f"## `{parser.prog}`\n\n{parser.description}\n\n{_table(('Command', 'Does'), shown)}\n\n{options}"


def _commands(parser: argparse.ArgumentParser, words: str = "", does: str = "") -> Iterator[Command]:
    # argparse prints what a parser holds and has no public way to ask for it; its printed help differs between Pythons.
    actions = parser._actions  # noqa: SLF001
    groups = [action for action in actions if isinstance(action, argparse._SubParsersAction)]  # noqa: SLF001
    if words:
        options = () if groups else tuple(action for action in actions if action.dest != "help")
        yield Command(words, does, options, is_group=bool(groups))
    for group in groups:
        texts = {choice.dest: choice.help or "" for choice in group._choices_actions}  # noqa: SLF001
        for name, below in group.choices.items():
            yield from _commands(below, f"{words} {name}".strip(), texts.get(name, ""))


def _argument_rows(commands: Iterable[Command]) -> list[list[str]]:
    runnable = [command for command in commands if not command.is_group]
    takers: dict[tuple[str, ...], list[str]] = {}
    for command in runnable:
        for action in command.options:
            takers.setdefault(_argument(action), []).append(command.words)
    return [
        [name, "every command" if len(words) == len(runnable) else ", ".join(map(_code, words)), *rest]
        for (name, *rest), words in takers.items()
    ]


def _argument(action: argparse.Action) -> tuple[str, ...]:
    return (
        ", ".join(map(_code, action.option_strings)) or _code(action.dest),
        "yes" if action.required else "no",
        _code(str(action.default)) if action.default not in (None, False) else "",
        ", ".join(_code(str(choice)) for choice in action.choices or ()),
        _cell((action.help or "") % vars(action)),
    )


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _prose(text: str) -> str:
    """Return an argument spec's text as Markdown: on one line, what is typed as code, no HTML by accident."""
    pieces = TYPED.split(" ".join(text.split()))
    return "".join(f"`{piece}`" if index % 2 else piece.replace("<", "&lt;") for index, piece in enumerate(pieces))


def _value(value: object) -> str:
    """Return a value as an inventory would write it, so that a word that YAML takes for something else has its quotes."""
    dumped = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=sys.maxsize)
    return _code(dumped.strip().removesuffix("...").strip())


def _code(text: str) -> str:
    return f"`{_cell(text)}`" if text else ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _several(text: str | list[str]) -> list[str]:
    return [text] if isinstance(text, str) else text


if __name__ == "__main__":
    raise SystemExit(main())
