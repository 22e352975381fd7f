"""Secrets that an inventory holds in plain text; the controller's files are read, no host is asked, and no value is ever in the words.

A value counts as a secret by its variable (the catalogue's table, `no_log` in a role's argument specs, a name that says so) or by its form. What
ansible-vault or SOPS has encrypted is none, nor is a reference to another variable or a lookup.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from ansible.module_utils.common.yaml import SafeLoader, yaml_load

MOST_BYTES = 4 << 20
VAULT = "$ANSIBLE_VAULT;"
SOPS_VALUE = "ENC[AES256_GCM,"
YAML_ENDINGS = (".yml", ".yaml", ".json")
# What an inventory's folder holds beside variables.
LEFT_OUT = (".git", "__pycache__")
NAME = re.compile(
    r"(^|_)(password|passwd|passphrase|pass|secret|secret_key|token|private_key|signing_key|api_key|apikey|access_key)$", re.IGNORECASE
)  # fmt: skip
KEY = re.compile(r"""^\s*(?:#\s*)?(?:-\s+)?["']?([A-Za-z_][\w.-]*)["']?\s*[:=]""")
PAIR = re.compile(r"""([A-Za-z_]\w*)\s*=\s*("[^"]*"|'[^']*'|[^\s"']\S*)""")
REFERENCE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
FORMS = {
    "a private key of 64 hex digits": re.compile(r"(?<![0-9a-zA-Z])0x[0-9a-fA-F]{64}(?![0-9a-zA-Z])"),
    "a PEM private key": re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----"),
    "a URL with a password": re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s/:@\"']*:(?!\{\{)[^\s/@\"']+@"),
    "an age identity": re.compile(r"AGE-SECRET-KEY-(?:PQ-)?1[0-9A-Z]{20,}"),
    "an AWS access key": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
}
ALLOWED = (
    "allowed: a value that ansible-vault or SOPS has encrypted, a reference to one, a file by a *_source variable, or an entry of "
    "secrets_plaintext_allowed with variable and reason."
)

Allowance = Mapping[str, str]


class Find(NamedTuple):
    """A secret in plain text: where, in which variable, and by what it is told."""

    path: str
    line: int
    variable: str
    by: str


def problems(
    sources: Iterable[str], table: Mapping[str, Mapping[str, Any]], roles: str, allowed: Sequence[Allowance] = ()
) -> list[str]:
    """Every secret that stands in plain text in an inventory's files, and every allowance that is none, a sentence each.

    `sources` are Ansible's (`ansible_inventory_sources`), `table` is the catalogue's of secrets, `roles` the directory of roles.
    """
    found = [
        f"secrets_plaintext_allowed in the inventory has an entry {sorted(entry)}; allowed: variable, reason that is not empty, and file perhaps."
        for entry in allowed
        if not {"variable", "reason"} <= set(entry) <= {"variable", "reason", "file"}
        or not str(entry["reason"]).strip()
    ]
    names = {str(name) for row in table.values() for name in row.get("variables", [])} | kept_from_logs(roles)
    # The same file may be reached from two sources.
    for path in sorted({file for source in sources for file in files_of(Path(source))}):
        finds = {(find.line, find.variable): find for find in look(path, names)}
        found += [words(find) for _, find in sorted(finds.items()) if not is_allowed(find, allowed)]
    return found


def words(find: Find) -> str:
    """The sentence."""
    return f"{find.path}, line {find.line}: {find.variable} is a secret in plain text ({find.by}); {ALLOWED}"


def is_allowed(find: Find, allowed: Iterable[Allowance]) -> bool:
    """Whether the inventory says that this one may be there."""
    return any(
        entry.get("variable") == find.variable and fnmatch.fnmatch(find.path, f"*{entry.get('file', '')}")
        for entry in allowed
        if str(entry.get("reason", "")).strip()
    )


def kept_from_logs(roles: str) -> set[str]:
    """The options that argument specs mark with `no_log: true`."""
    found: set[str] = set()

    def gather(options: Mapping[str, Any]) -> None:
        for name, option in options.items():
            if option.get("no_log"):
                found.add(name)
            gather(option.get("options") or {})

    for specs in Path(roles).glob("*/meta/argument_specs.yml"):
        for entry in yaml_load(specs.read_text())["argument_specs"].values():
            gather(entry.get("options") or {})
    return found


def files_of(source: Path) -> Iterator[Path]:
    """An inventory's files: a directory's, or a file and the variables beside it."""
    if source.is_file():
        yield source
        tops = [source.parent / name for name in ("group_vars", "host_vars")]
    else:
        tops = [source]
    for top in tops:
        for place, directories, names in os.walk(top):
            directories[:] = [name for name in directories if name not in LEFT_OUT]
            yield from (Path(place, name) for name in names if Path(place, name).is_file())


def look(path: Path, names: set[str]) -> Iterator[Find]:
    """A file's secrets."""
    shown = os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
    if path.stat().st_size > MOST_BYTES:
        yield Find(shown, 1, path.name, f"it has more than {MOST_BYTES} bytes, which nobody looks through")
        return
    text = path.read_bytes().decode(errors="replace")
    if text.startswith(VAULT):
        return
    lines = text.splitlines()
    yield from (Find(shown, number, variable, by) for number, variable, by in by_form(lines, path.name))
    if path.suffix in YAML_ENDINGS:
        try:
            documents = list(yaml.compose_all(text, Loader=SafeLoader))
        except yaml.YAMLError:
            # Ansible says so itself, and better.
            return
        for document in documents:
            yield from (Find(shown, number, variable, by) for number, variable, by in by_name(document, names))
    else:
        for number, line in enumerate(lines, 1):
            for variable, value in PAIR.findall(line):
                if is_secret_name(variable, names) and is_plain(value.strip("\"'")):
                    yield Find(shown, number, variable, "its name says so")


def by_form(lines: Sequence[str], default: str) -> Iterator[tuple[int, str, str]]:
    """What a line looks like, comments too; the variable is the last one that began before."""
    variable = default
    for number, line in enumerate(lines, 1):
        key = KEY.match(line)
        variable = key[1] if key else variable
        for form, pattern in FORMS.items():
            if pattern.search(line):
                yield number, variable, f"it has the form of {form}"


def by_name(node: yaml.Node | None, names: set[str], variable: str = "") -> Iterator[tuple[int, str, str]]:
    """What is in a variable that is for secrets, wherever it stands in a document."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from by_name(value, names, str(key.value) if isinstance(key, yaml.ScalarNode) else "")
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from by_name(value, names, variable)
    elif isinstance(node, yaml.ScalarNode):
        line = node.start_mark.line + 1
        if node.tag in ("!vault", "!vault-encrypted"):
            if not node.value.lstrip().startswith(VAULT):
                yield line, variable, "it says !vault and is not encrypted"
        elif is_secret_name(variable, names) and node.tag.endswith((":str", ":int", ":float")) and is_plain(node.value):
            yield (
                line,
                variable,
                "its name says so" if variable not in names else "a role or the table of secrets says so",
            )


def is_secret_name(variable: str, names: set[str]) -> bool:
    """Whether a variable is for a secret."""
    return variable in names or NAME.search(variable) is not None


def is_plain(value: str) -> bool:
    """Whether a value says anything itself: what is encrypted or only a reference does not."""
    return bool(REFERENCE.sub("", value).strip()) and not value.lstrip().startswith((SOPS_VALUE, VAULT))


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters by name."""
        return {"secrets_plaintext": problems}
